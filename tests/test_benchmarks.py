"""The benchmarks measure the same networks everywhere, and say of them what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trine.backends.base import load
from trine.benchmarks import __main__ as main
from trine.benchmarks import compare, report, results, scaling
from trine.benchmarks.contestants import CONTESTANTS
from trine.benchmarks.measuring import deviation
from trine.benchmarks.results import Results, Row
from trine.benchmarks.targets import Targets, notes, targets
from trine.benchmarks.worker import LOSSES, first_results
from trine.benchmarks.workloads import CELLS, Arrays, Workload, workloads
from trine.compiler.passes import freeze
from trine.runtime.model import inference_model

RECURRENT = {"steps": 5, "features": 6, "units": 8}
SIZES: dict[str, dict[str, int]] = {
    "mlp": {},
    "cnn": {},
    "resnet18": {"size": 32, "width": 4, "classes": 10},
    "resnet20": {"size": 8, "width": 4, "depth": 2},
    "mobilenet": {"size": 32, "width": 4, "depth": 1},
    "lstm": RECURRENT,
    "gru": RECURRENT,
    "bilstm": RECURRENT,
    "encoder": {"length": 6, "dim": 16, "heads": 2, "hidden": 24, "depth": 2},
    "decoder": {"length": 6, "vocabulary": 11, "dim": 16, "heads": 2, "depth": 1},
}


def small(name: str) -> Workload:
    return Workload(name, 3, tuple(f"params.{key}={value}" for key, value in SIZES[name].items()))


def drawn(arrays: Arrays) -> Arrays:
    """The same shapes without the zeros and ones in which mistakes would not show; variances stay positive."""
    rng = np.random.default_rng(1)
    return {name: (a + 0.2 * rng.random(a.shape)).astype(a.dtype) for name, a in arrays.items()}


@pytest.mark.parametrize("name", SIZES)
def test_a_module_by_hand_is_the_network_of_the_spec(name: str) -> None:
    torch = pytest.importorskip("torch")
    from trine.benchmarks.modules import Decoder, module_of

    workload = small(name)
    weights, x = drawn(workload.weights()), workload.feeds()["x"]
    module = module_of(name, weights, workload.params()).eval()
    model, _ = inference_model(workload.spec(), weights)
    backend = load("numpy")
    ours = backend.compile(freeze(model), backend.state({}))({"x": x})["logits"]
    with torch.inference_mode():
        # Float32 through some twenty layers.
        np.testing.assert_allclose(ours, module(torch.tensor(x)).numpy(), rtol=1e-3, atol=1e-3 * np.abs(ours).max())
        if isinstance(module, Decoder):
            caches = module.caches()
            steps = [module.step(int(token), caches, i).numpy() for i, token in enumerate(x[0])]
            np.testing.assert_allclose(np.stack(steps), ours[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "lstm", "decoder"])
def test_training_follows_the_same_losses(name: str) -> None:
    pytest.importorskip("torch")
    found = [first_results("train", CONTESTANTS[who].make("train", small(name))) for who in ("torch", "trine-numpy")]
    assert len(found[0]) == LOSSES
    # Adam's first steps are signs of gradients: where one is nearly zero, rounding decides.
    np.testing.assert_allclose(*found, rtol=2e-3)


def test_every_network_has_a_module_and_a_small_size() -> None:
    from trine.benchmarks.modules import MODULES

    measured = {name for task in ("infer", "train", "decode") for name in CELLS[task]}
    assert measured == set(MODULES) == set(SIZES)


def test_targets_and_notes_are_of_cells_that_are_measured() -> None:
    promised = {f"{t.cell(w)} {name}" for t in targets() for w, row in t.targets.items() for name in row}
    for table in targets():
        measured = {w.key: w for w in workloads(table.task)}
        for workload, row in table.targets.items():
            for name in (table.against, *row):
                assert CONTESTANTS[name].takes_part(table.task, measured[workload]), f"{table.title}: {workload} {name}"
    assert set(notes()) <= promised


def made_up() -> Results:
    about = {"processor": "P", "cores": 2, "instructions": ["avx2"], "memory": "8 GiB", "system": "Linux"}
    about |= {"python": "3.11", "packages": {"numpy": "2.0"}, "date": "2026-01-01"}
    rows = {
        "torch": Row((2e-3, 4e-3, 3e-3), deviation=0.0),
        # Round by round it is 2, 2 and 6 times as fast: the ratio of the medians would be 3.
        "trine-torch": Row((1e-3, 2e-3, 5e-4), 2, 1e-6),
        "trine-numpy": Row(problem="its results are off by 2.0e+00"),
        "jax": Row(problem="absent: needs `jax`"),
    }
    points = [scaling.Point("batch", n, 1000 * n, 1e-6 * n**2, 2**20 * n) for n in (1, 2, 4)]
    settings = {"threads": 2, "wait_policy": "passive", "rounds": 3}
    return Results(about, settings, {"infer mlp-b1": rows}, scaling.plain(points))


def test_the_report_shows_targets_beside_results(tmp_path: Path) -> None:
    table = Targets("T", "infer", "torch", {"mlp-b1": {"trine-torch": 3.0, "trine-numpy": 0.9}})
    met = replace(table, targets={"mlp-b1": {"trine-torch": 2.0}})
    made_up().write(tmp_path / "results.json")
    page = report.page(results.read(tmp_path / "results.json"), [table, met], {"infer mlp-b1 trine-torch": "Why."})
    assert "Of 3 targets, 1 are met, 1 missed and 1 not measured." in page
    assert "| mlp-b1 | 3 → **2.00 ✗** | 0.9 → – |" in page
    assert "| mlp-b1 | 2 → 2.00 |" in page
    assert "- `mlp-b1`, trine-torch: Why." in page
    assert "| mlp-b1 | 3.00 ms | 1.00 ms (2.00)* | – |" in page
    assert "- trine-numpy in `infer mlp-b1`: its results are off" in page
    assert "not measured: jax." in page
    assert "| batch: power of the FLOPs | 1 | 2.00 | 1.00 |" in page


def test_what_got_slower_is_found() -> None:
    rows = {"a before": Row((1.0, 1.0)), "a": Row((1.05, 1.05)), "b before": Row((1.0,)), "b": Row((1.2,))}
    gone = {"c before": Row((1.0,)), "c": Row(problem="its process ended")}
    assert compare.slower({"infer x": rows, "train x": gone}) == ["infer x b: 0.83", "train x c: its process ended"]


def test_another_shape_is_another_result() -> None:
    assert deviation(np.zeros((2, 1)), np.zeros((2,))) == np.inf
    assert deviation(np.array([1.0, 4.5]), np.array([1.0, 5.0])) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("arguments", "cells"),
    [
        (["--workload", "cnn", "--task", "infer"], ["cnn-b1", "cnn-b32", "cnn-b128"]),
        (["--workload", "cnn-b32,mlp", "--task", "train"], ["mlp-b32", "mlp-b256", "cnn-b32"]),
        (["--workload", "cnn", "--task", "train", "--batch", "4"], ["cnn-b4"]),
    ],
)
def test_cells_are_chosen_by_name_and_batch(arguments: list[str], cells: list[str]) -> None:
    options = main.parser().parse_args(arguments)
    assert [w.key for w in workloads(options.task[0], options.workload, options.batch)] == cells


def test_an_unknown_contestant_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.parser().parse_args(["--against", "tourch"])
    assert "there is no `tourch`" in capsys.readouterr().err
