"""One graph, the same numbers on every backend: each op, its gradients, random graphs, whole trainings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trine.backends.onnx
import trine.backends.torch
from compiler_samples import ALL, IDS, Maze, Sample
from hypothesis import given, settings
from hypothesis import strategies as st
from trine.backends.base import load
from trine.compiler.autodiff import grad
from trine.compiler.ir import DType, Graph, Input, IRError, Op, Type, Value, constant, evaluate, input_of
from trine.compiler.ops import conv, elementwise, linalg, reduce, shape
from trine.compiler.ops.optim import Update
from trine.compiler.passes import Model, for_training
from trine.compiler.rewrite import bind, legalize
from trine.runtime.progress import Silent
from trine.runtime.runs import Run
from trine.runtime.session import prepare, train
from trine.runtime.specs import open_spec
from trine.runtime.trainer import Trainer

Array = Any
torch.set_num_threads(1)  # thread pools of two libraries in one process wait for each other

# Relative to the largest number of a graph's outputs. float32 has 7 digits and sums of up to a hundred numbers are
# taken in other orders; float64 has 16, and ONNX Runtime's exponentials in it are right to about 1e-12.
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-9}

others = pytest.mark.parametrize("backend", ["torch", "onnx"])


def check_same(graph: Graph, feeds: Mapping[str, Array], backend: str) -> None:
    """The graph on a backend against the reference."""
    expected = dict(zip(graph.outputs, evaluate(graph.outputs.values(), feeds), strict=True))
    made = load(backend)
    found = made.compile(graph, made.state({}))(feeds)
    assert found.keys() == expected.keys()
    largest = max([1.0, *(np.abs(a[np.isfinite(a)]).max(initial=0) for a in expected.values() if a.dtype.kind == "f")])
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        atol = TOLERANCE.get(array.dtype, 0.0) * float(largest)
        np.testing.assert_allclose(found[name], array, rtol=0, atol=atol, err_msg=name)


def weighted(graph: Graph, feeds: dict[str, Array]) -> Graph | None:
    """The graph with a `loss`, the sum of its floating-point outputs times numbers fed; `None` where it has none."""
    rng = np.random.default_rng(1)
    total: Value | None = None
    inputs = list(graph.inputs)
    floats = [v for v in graph.outputs.values() if v.dtype.floating]
    for value in (v for v in floats if v.dtype is floats[0].dtype):
        weight = Input(f"u{len(inputs)}", value.type)()
        inputs.append(weight)
        feeds[input_of(weight).name] = np.asarray(rng.uniform(0.5, 1.5, value.shape), value.dtype.numpy)
        term = shape.reshape(reduce.Sum(tuple(range(value.rank)))(value * weight), ())
        total = term if total is None else total + term
    return None if total is None else Graph(graph.name, tuple(inputs), {**graph.outputs, "loss": total})


# -- ops -----------------------------------------------------------------------------------------


@others
@pytest.mark.parametrize("sample", ALL, ids=IDS)
def test_ops(sample: Sample, backend: str) -> None:
    for dtype in (DType.f64, DType.f32):
        graph, feeds = sample.graph(dtype)
        check_same(graph, feeds, backend)


@others
@pytest.mark.parametrize("sample", ALL, ids=IDS)
def test_gradients_of_ops(sample: Sample, backend: str) -> None:
    if isinstance(sample.op, Update):
        return
    for dtype in (DType.f64, DType.f32):
        graph, feeds = sample.graph(dtype)
        wrt = [name for name, array in feeds.items() if array.dtype == dtype.numpy]
        total = weighted(graph, feeds)
        if total is not None and wrt:
            check_same(grad(total, "loss", wrt), feeds, backend)


def hole(*dims: int | str, name: str = "x", dtype: DType = DType.f64, role: Any = "data") -> Value:
    return Input(name, Type(dims, dtype), role)()


def numbers(rng: np.random.Generator, dims: tuple[int, ...], dtype: DType) -> Array:
    if dtype.floating:
        return rng.uniform(0.3, 2.0, dims).astype(dtype.numpy)
    return rng.integers(0, 2 if dtype is DType.boolean else 5, dims).astype(dtype.numpy)


DTYPES = [DType.f64, DType.f32, DType.i64, DType.i32, DType.i8, DType.u8, DType.boolean]
e, s, r = elementwise, shape, reduce
UNARY: list[Op] = [
    e.Abs(), e.Sign(), e.Floor(), e.Not(), *(e.Cast(d) for d in DTYPES), s.Reshape((6,)), s.Transpose((1, 0)),
    s.BroadcastTo((2, 2, 3)), s.Slice((None, (1, 2))), s.Slice((None, None)), s.Pad(((1, 0), (0, 2)), 1.0),
    s.Concat(0), s.Split(1, (1, 2)), s.Flip(1), r.Sum((0,)), r.Sum(()), r.Sum((0, 1)), r.Max(1), r.ArgMax(1),
    r.CumSum(0), r.OneHot(5), linalg.Gather(1),
]  # fmt: skip
BINARY: list[Op] = [
    e.Add(), e.Sub(), e.Mul(), e.Div(), e.Pow(), e.Maximum(), e.Minimum(), e.Less(), e.Equal(), e.And(), e.Where(),
]  # fmt: skip


def typed(op: Op, *inputs: Value) -> dict[str, Value]:
    """The outputs of an op, none where it does not take these types."""
    try:
        made = op(*inputs)
    except IRError:
        return {}
    return {f"y{i}": v for i, v in enumerate([made] if isinstance(made.type_, Type) else made.items())}


@others
@pytest.mark.parametrize("dtype", DTYPES)
def test_element_types(dtype: DType, backend: str) -> None:
    """Whatever the types of ops allow runs, also where a backend's kernels are for fewer element types."""
    rng = np.random.default_rng(0)
    x, z, pick = hole(2, 3, dtype=dtype), hole(2, 3, name="z", dtype=dtype), hole(2, 3, name="c", dtype=DType.boolean)
    one, zero, index = constant(1, dtype), constant(0, dtype), constant(np.array([[0, 2], [1, 1]], np.int32))
    outputs: dict[str, Value] = {}
    for op in UNARY:
        found = typed(op, x, index) if isinstance(op, linalg.Gather) else typed(op, x)
        outputs |= {f"{op} {name}": v for name, v in found.items()}
    for op in BINARY:
        for case, pair in enumerate(((x, z), (one, z), (x, one), *([] if isinstance(op, e.Div) else [(x, zero)]))):
            found = typed(op, pick, *pair) if isinstance(op, e.Where) else typed(op, *pair)
            outputs |= {f"{op} {case}": v for v in found.values()}
    feeds = {"x": numbers(rng, (2, 3), dtype), "z": numbers(rng, (2, 3), dtype), "c": numbers(rng, (2, 3), DTYPES[-1])}
    check_same(Graph("g", (x, z, pick), outputs), feeds, backend)


@others
@pytest.mark.parametrize("seed", range(6))
def test_windows_of_any_setting(seed: int, backend: str) -> None:
    """Convolution and pooling, with their gradients; whole numbers make ties in pooling."""
    rng = np.random.default_rng(seed)
    done = 0
    while done < 12:
        rank = int(rng.integers(1, 4))
        kernel, stride, dilation, size = (tuple(int(n) for n in rng.integers(1, high, rank)) for high in (4, 4, 3, 8))
        pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 4, (rank, 2)))
        groups, kind, dtype = int(rng.integers(1, 3)), int(rng.integers(4)), (DType.f64, DType.f32)[rng.integers(2)]
        x = hole(2, 2 * groups, *size, dtype=dtype)
        w = hole(2 * groups, 2, *kernel, name="w", dtype=dtype)
        ops = (
            conv.Conv(stride, pads, dilation, groups), conv.MaxPool(kernel, stride, pads),
            conv.AvgPool(kernel, stride, pads, True), conv.AvgPool(kernel, stride, pads, False),
        )  # fmt: skip
        inputs = (x, w) if kind == 0 else (x,)
        outputs = typed(ops[kind], *inputs)
        if not outputs:
            continue
        done += 1
        feeds = {input_of(v).name: rng.integers(-2, 3, v.shape).astype(dtype.numpy) for v in inputs}
        total = weighted(Graph(f"{ops[kind]} of {x.type}", inputs, outputs), feeds)
        assert total is not None
        check_same(grad(total, "loss", list(feeds)[: len(inputs)]), feeds, backend)


@others
def test_windows_larger_than_what_is_pooled(backend: str) -> None:
    x = hole(2, 2, 1, 2, 5)
    for count in (True, False):
        pool = conv.AvgPool((3, 2, 3), (3, 2, 3), ((1, 1), (0, 0), (0, 0)), count)
        feeds = {"x": np.random.default_rng(0).normal(size=x.shape)}
        check_same(Graph("g", (x,), {"y": pool(x)}), feeds, backend)


@others
def test_batches_without_rows(backend: str) -> None:
    x, w = hole("N", 3), hole(4, 3, name="w")
    outputs = {"a": linalg.Linear()(x, w), "b": r.Sum((0,))(x), "c": r.Softmax(1)(x), "d": s.Reshape((3, "N"))(x)}
    check_same(Graph("g", (x, w), outputs), {"x": np.zeros((0, 3)), "w": np.ones((4, 3))}, backend)


@others
def test_an_output_may_have_the_name_of_an_input(backend: str) -> None:
    x, y = hole(2), hole(2, name="y", role="buffer")
    graph = Graph("g", (x, y), {"x": x * 2.0, "y": y, "y'": x + y, "x_output": x}, {"y": y + x})
    made = load(backend)
    state = made.state({"y": np.ones(2)})
    found = made.compile(graph, state)({"x": np.arange(2.0)})
    assert {name: a.tolist() for name, a in found.items()} == {
        "x": [0, 2], "y": [1, 1], "y'": [1, 2], "x_output": [0, 1],
    }  # fmt: skip
    assert state.read()["y"].tolist() == [1, 2]


@others
def test_large_constants_are_told_apart(backend: str) -> None:
    """Arrays that live only while the graph is written may get each other's address."""
    x = hole("N", 40, 40)
    lines = {f"y{i}": x + e.Cast(DType.f64)(s.Iota((1, 40, 40), 1 + i % 2)()) * float(i) for i in range(6)}
    check_same(Graph("g", (x,), lines), {"x": np.zeros((1, 40, 40))}, backend)


# -- random graphs -------------------------------------------------------------------------------


def without_passes(graph: Graph, sizes: Mapping[str, int], native: Any, backend: str) -> Graph:
    """`lower` as it would be if there were no passes."""
    return legalize(bind(graph, sizes), native, backend)


def check_maze(graph: Graph, maze: Maze, backend: str) -> None:
    """Two runs with state between them."""
    made = load(backend)
    arrays = {name: a for name, a in maze.feeds(1).items() if name in "st"}
    state = made.state(arrays)
    run = made.compile(graph, state)
    for seed in range(2):
        feeds = {name: a for name, a in maze.feeds(seed).items() if name in "ab"}
        expected = evaluate(graph.roots, feeds | arrays)
        found = run(feeds)
        arrays |= dict(zip(graph.updates, expected[len(graph.outputs) :], strict=True))
        for name, array in [*zip(graph.outputs, expected, strict=False), *arrays.items()]:
            mine = found[name] if name in graph.outputs else state.read()[name]
            np.testing.assert_allclose(mine, array, rtol=1e-9, atol=1e-9 * max(1, np.abs(array).max()), err_msg=name)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_random_graphs(seed: int) -> None:
    maze = Maze(seed)
    graph = grad(maze.graph, "loss", ["a", "s"]) if seed % 2 else maze.graph
    for backend in ("numpy", "torch", "onnx"):
        check_maze(graph, maze, backend)
        check_maze(for_training(Model(graph))[0].graph, maze, backend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trine.backends.torch, "lower", without_passes)
        patch.setattr(trine.backends.onnx, "lower", without_passes)
        for backend in ("torch", "onnx"):
            check_maze(graph, maze, backend)


# -- training ------------------------------------------------------------------------------------

SPEC = """
spec: 1
name: parity
data:
  source: sklearn:digits
  split: {train: 0.3, valid: 0.1, test: 0.6, by: stratified, on: digit, seed: 0}
  fields:
    image: {column: image, scale: unit}
    digit: {column: target, encode: ids}
model:
  inputs: {image: "float[8, 8]"}
  layers: LAYERS
train:
  loss: {cross_entropy: {smoothing: 0.05}, from: [logits, digit]}
  optimizer: OPTIMIZER
  schedule: {cosine: {warmup: 10%}}
  clip_norm: 1.0
  batch: 16
  duration: STEPSba
  evaluate_every: 40ba
  checkpoint: {every: EVERYba, keep: 1000}
evaluate: {metrics: [accuracy]}
"""

# Without biases before batch normalisation: their gradients are rounding alone, which Adam divides by itself.
LAYERS = {
    "mlp": "[flatten, {linear: {units: 24, bias: false}}, batch_norm, relu, {dropout: 0.2}, {linear: 16}, gelu,"
    " layer_norm, {linear: $digit.size, as: logits}]",
    "cnn": "[{reshape: [1, 8, 8]}, {conv: {filters: 6, kernel: 3, bias: false}}, batch_norm, relu, {max_pool: 2},"
    " {conv: {filters: 8, kernel: 3, stride: 2, bias: false}}, batch_norm, silu, {avg_pool: 2}, flatten,"
    " {dropout: 0.2}, {linear: $digit.size, as: logits}]",
}  # fmt: skip

OPTIMIZERS = {
    "adamw": "{adamw: {lr: 3e-3, weight_decay: 0.05}}",
    "sgd": "{sgd: {lr: 0.05, momentum: 0.9, nesterov: true, weight_decay: 0.01}}",
    "rmsprop": "{rmsprop: {lr: 1e-3, momentum: 0.5, centered: true}}",
    "adam": "{adam: {lr: 3e-3, weight_decay: 0.01}}",
}


def spec_file(folder: Path, net: str, optimizer: str = "adamw", steps: int = 200, every: int = 1000) -> Path:
    text = SPEC.replace("LAYERS", LAYERS[net]).replace("OPTIMIZER", OPTIMIZERS[optimizer])
    path = folder / f"{net}-{optimizer}.yaml"
    path.write_text(text.replace("STEPS", str(steps)).replace("EVERY", str(every)))
    return path


class Losses(Silent):
    """Collects the loss of every step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def step(self, batches: int, loss: float, lr: float) -> None:
        self.found.append(loss)


def fitted(path: str | Path, backend: str, dtype: DType, *overrides: str) -> tuple[Array, dict[str, Array]]:
    """The losses of all steps, and the weights at the end."""
    sized, dataset = prepare(open_spec(path, overrides))
    splits = {name: part.arrays for name, part in dataset.splits.items() if name == "train"}
    if dtype is DType.f64:
        splits = {
            k: {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in v.items()}
            for k, v in splits.items()
        }
    losses = Losses()
    trainer = Trainer(sized, splits, load(backend), listener=losses, dtype=dtype)
    trainer.fit()
    return np.array(losses.found), trainer.weights()


def deviation(path: str | Path, backend: str, dtype: DType, *overrides: str) -> tuple[float, float]:
    """How far a backend's losses (relatively) and weights end from NumPy's."""
    (expected, weights), (losses, found) = (fitted(path, name, dtype, *overrides) for name in ("numpy", backend))
    assert losses.shape == expected.shape
    worst = max(float(np.abs(found[name] - weights[name]).max()) for name in weights)
    return float(np.abs(losses / expected - 1).max()), worst


@others
@pytest.mark.parametrize("net", LAYERS)
def test_training_in_float32(net: str, backend: str, tmp_path: Path) -> None:
    """Rounding differs in the last of 7 digits, and training makes it grow: 1e-4 after 200 steps."""
    losses, _ = deviation(spec_file(tmp_path, net), backend, DType.f32)
    assert losses < 1e-4


@others
def test_the_curves_of_a_shipped_network(backend: str) -> None:
    """The first 200 steps of a smooth network (narrower than shipped): no rounding decides between two branches."""
    losses, _ = deviation("zoo:vision/digits-cnn", backend, DType.f32, "train.epochs=5", "params.width=12")
    assert losses < 1e-5


@others
@pytest.mark.parametrize("net", LAYERS)
def test_training_in_float64(net: str, backend: str, tmp_path: Path) -> None:
    """The same growth from 16 digits: 1e-9 leaves room for what is 1e-12 in practice."""
    losses, weights = deviation(spec_file(tmp_path, net), backend, DType.f64)
    assert losses < 1e-9
    assert weights < 1e-9


@others
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam"])
def test_optimizers(optimizer: str, backend: str, tmp_path: Path) -> None:
    path = spec_file(tmp_path, "mlp", optimizer, steps=30)
    overrides = ["train.accumulate=3"] if optimizer == "adam" else []
    losses, weights = deviation(path, backend, DType.f64, *overrides)
    assert max(losses, weights) < 1e-9
    assert deviation(path, backend, DType.f32, *overrides)[0] < 1e-4


def part_of(run: Path, path: Path, folder: Path, stop: int) -> Path:
    """A copy of a run as it was when it had got to a batch."""
    opened, _ = prepare(open_spec(path))
    whole = Run(run, opened.hash)
    folder.mkdir()
    for file in run.rglob("*"):
        place = file.relative_to(run)
        late = place.parts[0] == "checkpoints" and len(place.parts) > 1 and int(place.parts[1].split("-")[1]) > stop
        if file.is_file() and not late and file.name != "weights.safetensors":
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(file.read_bytes())
    assert whole.latest_checkpoint() is not None
    return folder


@others
def test_runs_resume(backend: str, tmp_path: Path) -> None:
    """On the same backend to the same bytes; on another one to the same numbers, but for rounding."""
    path = spec_file(tmp_path, "cnn", steps=20, every=5)
    run = tmp_path / "whole"
    whole = train(open_spec(path), run, backend)
    for stop in (5, 15):
        again = part_of(run, path, tmp_path / f"parts-{stop}", stop)
        train(open_spec(path), again, backend, resume=True)
        assert (run / "weights.safetensors").read_bytes() == (again / "weights.safetensors").read_bytes()
    moved = part_of(run, path, tmp_path / "moved", 10)
    ended = train(open_spec(path), moved, {"torch": "onnx", "onnx": "numpy"}[backend], resume=True)
    for name, array in whole.model.weights.items():
        np.testing.assert_allclose(ended.model.weights[name], array, rtol=1e-3, atol=1e-4, err_msg=name)
