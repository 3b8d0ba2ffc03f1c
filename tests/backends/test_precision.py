"""bfloat16: each op rounds once, all backends agree, and compiling keeps within the bound or says what errs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
import trine
from compiler_samples import ALL, Sample
from trine.backends.base import load
from trine.backends.numpy.kernels import rounded
from trine.backends.torch.emit import BFLOAT16, native
from trine.compiler import text
from trine.compiler.ir import DType, Graph, Input, Origin, Type, origin
from trine.compiler.ops.activations import Relu
from trine.compiler.ops.elementwise import Cast
from trine.compiler.ops.linalg import Linear
from trine.compiler.ops.norm import BatchNormGrad, BatchNormTrain
from trine.compiler.ops.reduce import Softmax
from trine.compiler.passes import Decided, freeze
from trine.compiler.passes.precision import in_bfloat16, precision, steps_of, touches_bfloat16, widened
from trine.compiler.spec.diagnostics import SpecError
from trine.compiler.spec.reader import read_string
from trine.runtime.bundles import read_bundle, write_bundle
from trine.runtime.checkpoints import ArtefactError
from trine.runtime.compiling import compile_source
from trine.runtime.model import inference_model, initial_weights
from trine.runtime.profile import made_up, subject
from trine.runtime.session import prepare
from trine.runtime.specs import UsageError, open_spec
from trine.runtime.trial import Trial, share_off
from trine.views import tried_line

torch.set_num_threads(1)

# bfloat16 has eight bits: neighbours are at most 2 ** -7 of themselves apart. Results that differ in the last bits of
# float32, by the order of a sum, may be rounded to either of two neighbours.
NEIGHBOURS = 2.0**-7


def narrow(sample: Sample) -> tuple[Graph, dict[str, np.ndarray]]:
    """The op between casts: float32 in and out, bfloat16 inside, but for statistics and what goes with them."""
    graph, feeds = sample.graph(DType.f32)
    wide = isinstance(sample.op, BatchNormTrain | BatchNormGrad)
    holes = [v if v.dtype is not DType.f32 or (wide and v.rank == 1) else Cast(DType.bf16)(v) for v in graph.inputs]
    value = sample.op(*holes)
    parts = [value] if isinstance(value.type_, Type) else value.items()
    outputs = {f"y{i}": Cast(DType.f32)(v) if v.dtype is DType.bf16 else v for i, v in enumerate(parts)}
    return Graph("sample", graph.inputs, outputs), feeds


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("sample", [s for s in ALL if isinstance(s.op, BFLOAT16)], ids=lambda s: s.op.kind)
def test_an_op_in_bfloat16_is_that_of_float32_rounded_once(sample: Sample, backend: str) -> None:
    graph, feeds = narrow(sample)
    expected = load("numpy").compile(graph, load("numpy").state({}))(feeds)
    found = load(backend).compile(graph, load(backend).state({}))(feeds)
    for name, array in expected.items():
        largest = np.abs(array[np.isfinite(array)]).max(initial=1e-30)
        np.testing.assert_allclose(found[name], array, rtol=0, atol=NEIGHBOURS * largest, err_msg=name)


def test_most_samples_run_in_bfloat16_as_they_are() -> None:
    """The tests above compare PyTorch's own kernels, not float32 with itself."""
    kinds = {v.op.kind for s in ALL if isinstance(s.op, BFLOAT16) for v in narrow(s)[0].order() if native(v)}
    assert {op.__name__ for op in BFLOAT16} - kinds <= {"FusedConv", "FusedLinear"}


def test_numpy_rounds_as_the_type_does() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint64).astype(np.uint32)
    special = np.asarray([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3.3961775e38, 1.00390625, 1.01171875], np.float32)
    numbers = np.concatenate([bits.view(np.float32), special])
    with np.errstate(all="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(rounded(numbers), expected)


def two_layers() -> Graph:
    x = Input("x", Type(("N", 4)))()
    weights = [Input(name, Type(shape), "param")() for name, shape in (("a", (8, 4)), ("b", (2, 8)))]
    with origin(Origin("first")):
        h = Relu()(Linear()(x, weights[0]))
    with origin(Origin("second")):
        y = Softmax()(Linear()(h, weights[1]))
    return Graph("net", (x, *weights), {"y": y})


def test_products_and_what_follows_are_narrow_and_probabilities_are_not() -> None:
    kinds = {v.op.kind: v.dtype for v in in_bfloat16(two_layers(), ["first", "second"]).order()}
    assert kinds["Linear"] is kinds["Relu"] is DType.bf16
    assert kinds["Softmax"] is DType.f32


def test_only_the_steps_asked_for_are_narrow() -> None:
    graph = in_bfloat16(two_layers(), ["second"])
    linears = [v.dtype for v in graph.order() if isinstance(v.op, Linear)]
    assert linears == [DType.f32, DType.bf16]
    assert steps_of(graph) == ["first", "second"]
    assert in_bfloat16(two_layers(), []) == two_layers()


def test_a_graph_in_bfloat16_can_be_written_and_read() -> None:
    graph = in_bfloat16(two_layers(), ["first"])
    assert text.same(text.parse(text.write(graph)), graph)


def test_where_there_are_no_kernels_float32_is_rounded() -> None:
    graph = widened(in_bfloat16(two_layers(), ["first", "second"]), lambda v: False)
    assert "Rounded" in text.write(graph)
    assert not any(touches_bfloat16(v) for v in graph.order() if not isinstance(v.op, Cast))


NETWORKS = ("vision/digits-cnn", "vision/mobilenet", "vision/vit", "sequence/text-cnn", "sequence/encoder")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_on_all_backends(name: str) -> None:
    """Rounded to eight bits a few dozen times in a row, results differ by a few roundings."""
    spec = open_spec(f"zoo:{name}")
    spec = spec.with_sizes(dict.fromkeys(spec.unknown_sizes, 10))
    model, _ = inference_model(spec, initial_weights(spec))
    feeds = made_up(spec, model.graph, {dim: 4 if dim == "N" else 16 for dim in model.graph.names})
    made = precision(model, Decided(tuple(steps_of(model.graph))))
    found = {}
    for backend in ("numpy", "torch", "onnx"):
        runner = load(backend)
        found[backend] = runner.compile(freeze(made), runner.state({}))(feeds)
    exact = load("numpy").compile(freeze(model), load("numpy").state({}))(feeds)
    for key, array in exact.items():
        assert found["numpy"][key].dtype == np.float32
        assert 0 < np.abs(found["numpy"][key] - array).max() < 0.04 * np.abs(array).max()
        for backend in ("torch", "onnx"):
            apart = np.abs(found[backend][key] - found["numpy"][key]).max()
            assert apart < 0.03 * np.abs(array).max(), backend


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    trine.train("zoo:vision/digits-mlp", folder, set={"train.epochs": 5, "optimize": [{"precision": "bf16"}]})
    return folder


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    return trine.compile(run, run.parent / "digits.trine")


def test_compiling_tries_it_on_training_rows_and_keeps_within_the_bound(run: Path, tmp_path: Path) -> None:
    tried = compile_source(run, tmp_path / "model.trine").tried
    assert tried is not None
    assert 0 < tried.decided.error <= 0.01
    assert tried.decided.rows == 256
    assert tried.decided.steps == ("linear_1", "logits")


def test_a_bundle_in_bfloat16_is_the_same_bytes_each_time(run: Path, bundle: Path, tmp_path: Path) -> None:
    assert trine.compile(run, tmp_path / "again.trine").read_bytes() == bundle.read_bytes()
    assert trine.compile(bundle, tmp_path / "copy.trine").read_bytes() == bundle.read_bytes()


def test_a_bundle_predicts_in_bfloat16_on_every_backend(run: Path, bundle: Path) -> None:
    images = {"image": np.random.default_rng(0).random((20, 8, 8)).astype(np.float32) * 16}
    exact = trine.load(run).predict_arrays(images)["digit"]
    first = trine.load(bundle).predict_arrays(images)["digit"]
    assert 0 < np.abs(first - exact).max() < 0.05
    for backend in ("torch", "onnx"):
        found = trine.load(bundle, backend=backend).predict_arrays(images)["digit"]
        assert np.abs(found - first).max() < 0.02


def test_it_is_judged_as_it_predicts(run: Path, bundle: Path) -> None:
    exact, narrow = trine.evaluate(run), trine.evaluate(bundle, backend="torch")
    assert exact["splits"]["test"]["loss"] != narrow["splits"]["test"]["loss"]
    assert abs(exact["splits"]["test"]["loss"] - narrow["splits"]["test"]["loss"]) < 0.01


def test_beyond_the_bound_it_is_refused_and_the_worst_step_named(tmp_path: Path) -> None:
    """No network of eight bits is within a hundred-thousandth."""
    passes = [{"precision": {"to": "bf16", "bound": 1e-5}}]
    trine.train("zoo:vision/digits-mlp", tmp_path / "run", set={"train.epochs": 1, "optimize": passes})
    with pytest.raises(
        UsageError, match=r"outputs are up to .* `precision` allows 0.001 %\. `\w+` errs the most"
    ) as caught:
        trine.compile(tmp_path / "run", tmp_path / "model.trine")
    assert caught.value.span is not None
    assert Path(caught.value.span.file) == tmp_path / "run" / "resolved.yaml"
    assert "precision" in Path(caught.value.span.file).read_text().splitlines()[caught.value.span.line - 1]
    assert not (tmp_path / "model.trine").exists()


def test_auto_leaves_out_what_errs_too_much(tmp_path: Path) -> None:
    passes = [{"precision": {"to": "auto", "bound": 1e-5}}]
    trine.train("zoo:vision/digits-mlp", tmp_path / "run", set={"train.epochs": 1, "optimize": passes})
    tried = compile_source(tmp_path / "run", tmp_path / "model.trine").tried
    assert tried is not None
    assert tried.decided == Decided((), 0.0, 256)


@pytest.mark.parametrize(
    ("found", "share"),
    [
        ([1.0, 2.0, np.nan, np.inf], 0.0),
        ([1.0, 2.1, np.nan, np.inf], 0.05),
        ([np.nan, 2.0, np.nan, np.inf], np.inf),
        ([1.0, 2.0, 0.0, np.inf], np.inf),
        ([1.0, 2.0, np.nan, -np.inf], np.inf),
    ],
)
def test_what_is_not_finite_must_be_so_in_bfloat16_too(found: list[float], share: float) -> None:
    exact = np.array([1.0, 2.0, np.nan, np.inf], np.float32)
    assert share_off(np.array(found, np.float32), exact) == pytest.approx(share)


class MadeUp(Trial):
    """A trial of steps a, b and c, which take less time in bfloat16 by so much, and err by so much."""

    def __init__(self, gains: dict[str, float], errors: dict[str, float]) -> None:
        self.gains, self.errors, self.steps = gains, errors, tuple(gains)
        self.feeds = {"x": np.zeros((7, 1))}
        self.plain: Any = ()

    def _ready(self, steps: Any) -> Any:
        return tuple(steps)

    def seconds(self, executables: Any) -> list[float]:
        return [1.0 - sum(self.gains[step] for step in steps) for steps in executables]

    def error(self, executable: Any) -> float:
        return sum(self.errors[step] for step in executable)


@pytest.mark.parametrize(
    ("gains", "errors", "steps", "why"),
    [
        ((0.1, 0.001, -0.1), (0.1, 0.1, 0.1), "a", ""),
        ((0.1, 0.1, 0.1), (0.1, 0.1, 0.1), "abc", ""),
        ((0.1, 0.1, 0.1), (0.1, 0.9, 0.1), "ac", ""),
        ((0.0, 0.001, -0.1), (0.1, 0.1, 0.1), "", "no step gains by bfloat16"),
        ((0.1, 0.1, 0.1), (2.0, 2.0, 2.0), "", "any step in bfloat16 puts outputs further off than `precision` allows"),
    ],
)
def test_auto_keeps_the_steps_that_gain_and_says_why_there_are_none(
    gains: tuple[float, ...], errors: tuple[float, ...], steps: str, why: str
) -> None:
    found = MadeUp(dict(zip("abc", gains, strict=True)), dict(zip("abc", errors, strict=True))).chosen(0.5)
    assert (found.decided.steps, found.why, found.decided.rows) == (tuple(steps), why, 7)
    assert (found.after < found.before) == bool(steps)


def test_a_network_without_products_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,y\n" + "".join(f"{i},{2 * i}\n" for i in range(50)))
    numbers = {"a": {"encode": "numbers", "columns": ["a"]}, "y": {"encode": "numbers", "column": "y"}}
    spec = {
        "spec": 1, "name": "scale", "data": {"source": "csv:rows.csv", "fields": numbers},
        "model": {"inputs": {"a": "float[1]"}, "layers": ["batch_norm", {"reshape": [], "as": "y_hat"}]},
        "train": {"loss": {"mse": ["y_hat", "y"]}, "optimizer": "adam", "epochs": 1},
        "optimize": [{"precision": "auto"}],
    }  # fmt: skip
    (tmp_path / "scale.yaml").write_text(json.dumps(spec))
    trine.train(tmp_path / "scale.yaml", tmp_path / "run")
    tried = compile_source(tmp_path / "run", tmp_path / "model.trine").tried
    assert tried is not None
    assert tried.why == "no step has products"
    assert tried_line(tried).startswith("in float32: no step has products (")


def test_what_is_tried_is_tried_once() -> None:
    with pytest.raises(SpecError, match="`precision` is there already"):
        open_spec("zoo:vision/digits-mlp", ["optimize=[{precision: bf16}, {precision: auto}]"])


def test_a_step_called_loss_is_a_step_as_any() -> None:
    spec = read_string("spec: 1\nname: named\nmodel:\n  inputs: {x: 'float[4]'}\n  layers: [{linear: 3, as: loss}]\n")
    model, _ = inference_model(spec, initial_weights(spec))
    assert steps_of(model.graph) == ["loss"]


@pytest.mark.parametrize("name", ["vision/digits-mlp", "vision/digits-cnn", "sequence/encoder"])
def test_training_in_bfloat16_agrees_on_all_backends(name: str) -> None:
    """Losses are sums over a batch of what was rounded to eight bits: a share of 2 ** -8 in each, and less in all."""
    spec, _ = prepare(open_spec(f"zoo:{name}", ["train.precision=bf16"]))
    what = subject(spec, {}, train=True, batch=32)
    losses: dict[str, list[float]] = {}
    for backend in ("numpy", "torch", "onnx"):
        runner = load(backend)
        state = runner.state(what.state)
        step = runner.compile(what.graph, state)
        losses[backend] = [float(step(what.feeds)["loss"]) for _ in range(3)]
        assert {array.dtype for array in state.read().values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(losses["torch"], losses["numpy"], rtol=2e-3)
    np.testing.assert_allclose(losses["onnx"], losses["numpy"], rtol=2e-3)
    exact = subject(prepare(open_spec(f"zoo:{name}"))[0], {}, train=True, batch=32)
    step = load("numpy").compile(exact.graph, load("numpy").state(exact.state))
    assert losses["numpy"] != [float(step(exact.feeds)["loss"]) for _ in range(3)]


def test_training_in_bfloat16_learns_as_well() -> None:
    """On the digits' test rows, an accuracy within 1.5 %, four rows of 270, of that in float32."""
    found = [
        trine.train("zoo:vision/digits-cnn", backend="torch", set={"train.epochs": 8, "train.precision": precision})
        for precision in ("f32", "bf16")
    ]
    exact, narrow = (trained.metrics["test"]["accuracy"] for trained in found)
    assert exact > 0.97
    assert abs(exact - narrow) < 0.015


def test_other_files_are_in_float32_and_said_to_be(run: Path, tmp_path: Path) -> None:
    assert "float32" in compile_source(run, tmp_path / "model.onnx").note


@pytest.mark.parametrize("decided", [{}, {"steps": 3}, {"steps": [], "error": "?", "rows": 1}, []])
def test_a_bundle_that_does_not_say_what_was_decided_is_refused(bundle: Path, tmp_path: Path, decided: object) -> None:
    members, manifest = read_bundle(bundle)
    data = json.loads(members["data.json"]) | {"decided": decided}
    about = {key: manifest[key] for key in ("name", "trine", "spec_hash")}
    write_bundle(tmp_path / "bad.trine", members | {"data.json": json.dumps(data).encode()}, about)
    with pytest.raises(ArtefactError, match="decided"):
        trine.load(tmp_path / "bad.trine")
