"""Groups of parameters, penalties, bounds, averages and weights from elsewhere, against torch and by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
import trine
from safetensors.numpy import load_file, save_file
from trine.backends.base import load
from trine.compiler.spec.reader import read_string
from trine.runtime.averages import ema, swa
from trine.runtime.checkpoints import ArtefactError, Checkpoint
from trine.runtime.data import DataError
from trine.runtime.progress import Silent
from trine.runtime.trainer import Trainer

Array = Any
ROWS, BATCH = 24, 8
SPEC = """
spec: 1
model:
  inputs: {x: "float[4]"}
  layers: [{linear: {units: 6}, as: first}, tanh, {linear: 3, as: p}]
train:
  loss: {cross_entropy: [p, t]}
  optimizer: OPTIMIZER
  batch: 8
  epochs: 5
  shuffle: false
  EXTRA
"""


def trainer(extra: str = "{}", optimizer: str = "{sgd: {lr: 0.3}}", backend: str = "numpy", **kwargs: Any) -> Trainer:
    text = SPEC.replace("OPTIMIZER", optimizer).replace("EXTRA", "" if extra == "{}" else extra)
    rng = np.random.default_rng(0)
    rows = {"x": rng.normal(size=(ROWS, 4)).astype(np.float32), "t": rng.integers(0, 3, ROWS)}
    return Trainer(read_string(text, **kwargs), {"train": rows, "valid": rows}, load(backend))


class Twin:
    """The same training in torch."""

    def __init__(self, made: Trainer) -> None:
        self.w = {n: torch.tensor(a, requires_grad=True) for n, a in made.weights().items()}
        self.rows = {n: torch.tensor(a) for n, a in made.rows.items()}

    def batches(self, steps: int) -> Any:
        for step in range(steps):
            part = slice(step % 3 * BATCH, step % 3 * BATCH + BATCH)
            h = torch.tanh(F.linear(self.rows["x"][part], self.w["first.weight"], self.w["first.bias"]))
            loss = F.cross_entropy(F.linear(h, self.w["p.weight"], self.w["p.bias"]), self.rows["t"][part])
            for p in self.w.values():
                p.grad = None
            loss.backward()
            yield step


def compare(made: Trainer, w: dict[str, Any]) -> None:
    for name, array in made.weights().items():
        # 15 steps of float32
        np.testing.assert_allclose(array, w[name].detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
def test_groups(backend: str) -> None:
    extra = (
        "groups: [{match: p.bias, freeze: true}, {match: 'first.*', lr: 0.1, weight_decay: 0.2}, "
        "{match: [p.weight], freeze: 2ep}]"
    )
    made = trainer(extra, "{sgd: {lr: 0.3, momentum: 0.5, weight_decay: 0.05}}", backend)
    twin = Twin(made)
    before = made.weights()
    groups = [
        {"params": [twin.w["first.weight"], twin.w["first.bias"]], "lr": 0.03, "weight_decay": 0.2},
        {"params": [twin.w["p.weight"]], "lr": 0.0, "weight_decay": 0.05},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.3, momentum=0.5)
    for step in twin.batches(15):
        optimizer.param_groups[1]["lr"] = 0.3
        if step < 6:
            twin.w["p.weight"].grad = None
        optimizer.step()
    made.fit()
    compare(made, twin.w)
    np.testing.assert_array_equal(made.weights()["p.bias"], before["p.bias"])


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
def test_penalty_clip_value_and_max_norm(backend: str) -> None:
    made = trainer("penalty: {l1: 0.01, l2: 0.02}\n  clip_value: 0.05\n  max_norm: 0.9", backend=backend)
    twin = Twin(made)
    for _ in twin.batches(15):
        with torch.no_grad():
            for name, p in twin.w.items():
                g = p.grad
                if name.endswith("weight"):
                    g = g + 0.01 * p.sign() + 0.04 * p
                p -= 0.3 * g.clamp(-0.05, 0.05)
                if name.endswith("weight"):
                    p.copy_(torch.renorm(p, 2, 0, 0.9))
    made.fit()
    compare(made, twin.w)


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
@pytest.mark.parametrize("average", ["{ema: 0.8}", "{swa: {start: 40%, every: 2ba}}"])
def test_averages(average: str, backend: str) -> None:
    made = trainer(f"average: {average}", backend=backend)
    twin = Twin(made)
    kept: list[dict[str, Any]] = []
    smooth: dict[str, Any] = {}
    for step in twin.batches(15):
        with torch.no_grad():
            for p in twin.w.values():
                p -= 0.3 * p.grad
        latest = {n: p.detach().clone() for n, p in twin.w.items()}
        share = 1 - min(0.8, step / (step + 1))
        smooth = {n: smooth[n] + (p - smooth[n]) * share for n, p in latest.items()} if smooth else latest
        kept += [latest] if step >= 6 and (step - 6) % 2 == 0 else []
    expected = smooth if "ema" in average else {n: torch.stack([w[n] for w in kept]).mean(0) for n in latest}
    made.fit()
    compare(made, expected)
    # what is evaluated is the average, what goes on the weights
    h = torch.tanh(F.linear(twin.rows["x"], expected["first.weight"], expected["first.bias"]))
    loss = F.cross_entropy(F.linear(h, expected["p.weight"], expected["p.bias"]), twin.rows["t"])
    assert made.evaluate("valid")["loss"] == pytest.approx(loss.item(), rel=1e-4)
    for name, array in made.state.read().items():
        if name in twin.w:
            np.testing.assert_allclose(array, latest[name].numpy(), rtol=1e-4, atol=1e-5)


def test_accumulated_steps_have_averages_and_groups_too() -> None:
    extra = "groups: [{match: p.bias, freeze: true}]\n  average: {ema: 0.8}\n  clip_value: 0.05"
    whole = trainer(extra, "{adam: {lr: 0.05}}")
    parts = trainer(extra + "\n  accumulate: 2", "{adam: {lr: 0.05}}", overrides=["train.batch=4"])
    parts.fit()
    whole.fit()
    for name, array in whole.weights().items():
        np.testing.assert_allclose(parts.weights()[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
def test_runs_with_every_option_resume_to_the_same_bytes(backend: str) -> None:
    extra = (
        "groups: [{match: p.bias, freeze: 2ep}, {match: 'first.*', lr: 0.5}]\n  average: {ema: 0.9}\n"
        "  penalty: {l1: 0.001}\n  max_norm: 2.0\n  schedule: {plateau: {patience: 1, factor: 0.5}}\n"
        "  early_stopping: {patience: 50}"
    )
    whole = trainer(extra, "{adafactor: {lr: 0.05}}", backend)
    saved: dict[int, Checkpoint] = {}
    after = whole._after_batch

    def keep() -> None:
        after()
        saved[whole.position.batches] = Checkpoint(replace(whole.position), whole.state.read(), dict(whole.best))

    whole._after_batch = keep  # type: ignore[method-assign]
    whole.fit()
    for stop in (4, 7, 11):
        again = trainer(extra, "{adafactor: {lr: 0.05}}", backend)
        again.resume(saved[stop])
        again.fit()
        for name, array in whole.state.read().items():
            np.testing.assert_array_equal(again.state.read()[name], array, err_msg=f"{name} from {stop}")


def test_shares_of_averages() -> None:
    assert [ema(decay=0.7).share(i, None, 1) for i in range(5)] == pytest.approx([1, 0.5, 1 / 3, 0.3, 0.3])
    assert [swa().share(i, 16, 2) for i in range(11, 16)] == pytest.approx([1, 1, 0, 0.5, 0])
    with pytest.raises(ValueError, match="number of steps"):
        swa().share(0, None, 1)


# -- weights from elsewhere ----------------------------------------------------------------------


class Notes(Silent):
    def __init__(self) -> None:
        self.found: list[str] = []

    def note(self, text: str) -> None:
        self.found.append(text)


def from_file(folder: Path, arrays: dict[str, Array], more: str = "") -> Trainer:
    save_file(arrays, folder / "w.safetensors")
    return trainer(f"init_from: {{path: w.safetensors{more}}}", path=folder / "spec.yaml")


def test_what_fits_is_taken_and_what_does_not_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = {
        "first.weight": rng.normal(size=(6, 4)).astype(np.float32),
        "first.bias": rng.normal(size=5).astype(np.float32),
        "head.bias": np.ones(3, np.float32),
    }
    made = from_file(tmp_path, arrays)
    np.testing.assert_array_equal(made.weights()["first.weight"], arrays["first.weight"])
    assert made.transfer is not None
    assert list(made.transfer.arrays) == ["first.weight"]
    assert made.transfer.left == {
        "first.bias": "`first.bias` is [5], expected [6]",
        "p.weight": "there is no `p.weight`",
        "p.bias": "there is no `p.bias`",
    }
    made.listener = notes = Notes()
    made.fit()
    assert notes.found[1].startswith(
        "took 1 of 4 arrays from w.safetensors\n  first.bias is drawn: `first.bias` is [5]"
    )
    assert "not used: first.bias, head.bias" in notes.found[1]


def test_names_are_mapped(tmp_path: Path) -> None:
    arrays = {"old.0.weight": np.ones((6, 4), np.float32), "head.bias": np.full(3, 2.0, np.float32)}
    made = from_file(tmp_path, arrays, ", map: {'first.*': 'old.0.*', 'p.*': 'head.*'}, skip: ['*.bias']")
    assert made.transfer is not None
    assert list(made.transfer.arrays) == ["first.weight"]
    assert made.transfer.left["p.bias"] == "the spec skips it"
    assert made.transfer.left["p.weight"] == "there is no `head.weight`"


def test_nothing_that_fits_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing in .* fits this network: it has `z`, the network `first\.weight`"):
        from_file(tmp_path, {"z": np.ones(2, np.float32)})
    (tmp_path / "w.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(ArtefactError, match="cannot be read as safetensors"):
        trainer("init_from: {path: w.safetensors}", path=tmp_path / "spec.yaml")
    with pytest.raises(ArtefactError, match="holds no weights"):
        trainer("init_from: {path: w.pt}", path=tmp_path / "spec.yaml")


def test_runs_bundles_and_onnx_files(tmp_path: Path) -> None:
    trained = trine.train("zoo:tabular/wine", tmp_path / "run", set={"train.epochs": 1})
    for name in ("wine.trine", "wine.onnx"):
        trine.compile(tmp_path / "run", tmp_path / name)
    base = (Path(trine.__file__).parent / "specs/tabular/wine.yaml").read_text()
    for source in ("run", "wine.trine", "wine.onnx"):
        (tmp_path / "next.yaml").write_text(base.replace("train:\n", f"train:\n  init_from: {{path: {source}}}\n"))
        trine.compile(tmp_path / "next.yaml", tmp_path / "first_torch.py")
        found = load_file(tmp_path / "first_torch.safetensors")
        for name, array in trained.model.weights.items():
            np.testing.assert_array_equal(found[name], array)


def test_onnx_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    tensor = onnx.numpy_helper.from_array(np.ones((6, 4), np.float32), "first.weight")
    graph = onnx.helper.make_graph([], "g", [], [], [tensor])
    model = onnx.helper.make_model(graph)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../../etc/passwd")
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    (tmp_path / "w.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="lies in another file"):
        trainer("init_from: {path: w.onnx}", path=tmp_path / "spec.yaml")
    (tmp_path / "w.onnx").write_bytes(b"\x00\xff nothing of the kind")
    with pytest.raises(ArtefactError, match="cannot be read as ONNX"):
        trainer("init_from: {path: w.onnx}", path=tmp_path / "spec.yaml")
