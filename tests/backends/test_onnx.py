"""The exported ONNX model, run by ONNX Runtime alone; and state, names, threads of the ONNX backend."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import trine.backends.onnx as onnx_backend
import trine.compiler.training  # noqa: F401 (registers layers, losses, optimizers)
from trine.backends.onnx import BACKEND, convolution, model_proto
from trine.backends.onnx.emit import OPSET, native
from trine.backends.onnx.prepare import prepare
from trine.backends.onnx.running import Prepared, in_place
from trine.compiler.build import build
from trine.compiler.initialisers import initialise
from trine.compiler.ir import DType, Graph, Input, Type, Value, constant, evaluate, input_of
from trine.compiler.ops.attention import CachedAttention
from trine.compiler.ops.conv import AvgPool, Conv, ConvInputGrad, ConvWeightGrad, MaxPool
from trine.compiler.ops.elementwise import Cast, Erf, Tanh
from trine.compiler.ops.linalg import Gather, Linear, ScatterAdd
from trine.compiler.ops.reduce import Mean, OneHot, Sum
from trine.compiler.ops.resize import Resize
from trine.compiler.ops.shape import Flip, Iota, Reshape, Transpose
from trine.compiler.passes import Model, for_inference, freeze
from trine.compiler.rewrite import legalize
from trine.compiler.spec.reader import read_string
from trine.compiler.spec.registry import LAYERS

Array = Any
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64, sums in another order
CLOSE32 = {"rtol": 1e-5, "atol": 1e-5}  # float32 has 7 digits; likewise


def hole(*dims: int | str, name: str = "x", role: Any = "data", dtype: DType = DType.f32) -> Value:
    return Input(name, Type(dims, dtype), role)()


def from_spec(inputs: str, layers: str, fold: bool = True) -> Model:
    graph = build(
        read_string(f"spec: 1\nname: net\nmodel: {{inputs: {{{inputs}}}, layers: {layers}}}\n"), "infer"
    ).graph
    rng = np.random.default_rng(0)
    weights = {
        input_of(v).name: (initialise(v, 0) + rng.uniform(0.1, 0.5, v.shape)).astype(np.float32)
        for v in graph.by_role("param", "buffer")
    }
    model = Model(graph, weights)
    return for_inference(model)[0] if fold else model


def feeds_of(graph: Graph, **sizes: int) -> dict[str, Array]:
    rng = np.random.default_rng(sizes["N"])
    feeds = {}
    for v in graph.by_role("data"):
        dims = tuple(sizes[d] if isinstance(d, str) else d for d in v.shape)
        drawn = rng.uniform(-2, 2, dims) if v.dtype.floating else rng.integers(0, 3, dims)
        feeds[input_of(v).name] = drawn.astype(v.dtype.numpy)
    return feeds


def check_export(model: Model, path: Path, sizes: list[dict[str, int]]) -> onnx.ModelProto:
    """Export; check the file and the shapes in it; run it for several sizes without the backend."""
    BACKEND.export(model, path, {"made from": "a test"})
    onnx.checker.check_model(str(path), full_check=True)
    proto = onnx.load(path)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    data = {input_of(v).name: v for v in model.graph.by_role("data")}
    for each in session.get_inputs():
        assert tuple(each.shape) == data[each.name].shape
    for each, v in zip(session.get_outputs(), model.graph.outputs.values(), strict=True):
        assert tuple(each.shape) == v.shape
    for each in sizes:
        feeds = feeds_of(model.graph, **each)
        found = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})
        expected = evaluate(model.graph.outputs.values(), dict(model.weights) | feeds)
        for name, mine, right in zip(model.graph.outputs, found, expected, strict=True):
            assert (mine.dtype, mine.shape) == (right.dtype, right.shape)
            np.testing.assert_allclose(mine, right, **CLOSE32, err_msg=name)
    return proto


SIZES = [{"N": 1, "T": 7}, {"N": 4, "T": 9}]
TWO = "x: 'float[3]', y: 'float[3]'"

IDS = "{embedding: {rows: 6, dim: 4}}"

# Layers by name, on the inputs they are for; `LAYERS` holds no other.
LAYER_SPECS: dict[str, tuple[str, str]] = {
    **{
        name: ("x: 'float[6]'", f"[{name}]")
        for name in (
            "batch_norm", "dropout", "elu", "flatten", "gelu", "hard_sigmoid", "hard_swish", "identity", "l2_normalize",
            "layer_norm", "leaky_relu", "log_softmax", "mish", "relu", "rms_norm", "selu", "sigmoid", "silu", "softmax",
            "softplus", "tanh",
        )
    },
    "linear": ("x: 'float[T, 3]'", "[{linear: 4}]"),
    "embedding": ("x: 'int[T]'", "[{embedding: {rows: 6, dim: 4}}]"),
    "conv": ("x: 'float[2, 7, 6]'", "[{conv: {filters: 4, groups: 2, dilation: 2, stride: [2, 1], padding: [1, 2]}}]"),
    "depthwise_conv": ("x: 'float[T, 3]'", "[{depthwise_conv: {multiplier: 2, padding: causal}}]"),
    "separable_conv": (
        "x: 'float[3, 5, 4]'", "[{separable_conv: {filters: 4, stride: 2, padding: [[1, 2], [0, 1]]}}]"
    ),
    "transposed_conv": (
        "x: 'float[2, 3, 4]'",
        "[{transposed_conv: {filters: 4, kernel: [3, 2], stride: [2, 3], groups: 2}},"
        " {transposed_conv: {filters: 3, kernel: 3, stride: 2}},"
        " {transposed_conv: {filters: 2, kernel: 4, stride: 2, padding: 1, output_padding: 1}}]",
    ),
    "max_pool": ("x: 'float[2, 5, 6]'", "[{max_pool: {kernel: 3, stride: 2, padding: 1}}]"),
    "avg_pool": (
        "x: 'float[2, 5, 6]'",
        "[{avg_pool: {kernel: 2, padding: 1, count_padding: false}}, {avg_pool: {kernel: 2, padding: 1}}]",
    ),
    "adaptive_avg_pool": ("x: 'float[2, 5, 6]'", "[{adaptive_avg_pool: [3, 4]}, {adaptive_avg_pool: [1, 2]}]"),
    "adaptive_max_pool": ("x: 'float[2, 5, 6]'", "[{adaptive_max_pool: [3, 4]}, {adaptive_max_pool: [1, 2]}]"),
    "resize": (
        "x: 'float[2, 5, 6]'",
        "[{resize: {size: [7, 12], mode: bilinear}}, {resize: {size: [14, 5]}}, {resize: 2}]",
    ),
    "upsample": ("x: 'float[5, 2]'", "[{upsample: 3}, {upsample: {scale: 2, mode: linear}}]"),
    "group_norm": ("x: 'float[6, 3, 2]'", "[{group_norm: 3}]"),
    "instance_norm": ("x: 'float[T, 3]'", "[instance_norm, {instance_norm: {affine: false}}]"),
    "spatial_dropout": ("x: 'float[T, 3]'", "[spatial_dropout]"),
    "stochastic_depth": ("x: 'float[3]'", "[{residual: [tanh, {stochastic_depth: 0.1}]}]"),
    "global_avg_pool": ("x: 'float[T, 6]'", "[global_avg_pool]"),
    "global_max_pool": ("x: 'float[T, 6]'", "[global_max_pool]"),
    "reshape": ("x: 'float[2, 6]'", "[{reshape: [4, -1]}]"),
    "transpose": ("x: 'float[T, 3]'", "[{transpose: [2, 1]}]"),
    "mean": ("x: 'float[T, 3]'", "[mean]"),
    "maximum": ("x: 'float[2, 3]'", "[{maximum: {over: 2}}]"),
    "slice": ("x: 'float[5, 3]'", "[{slice: {start: 1, stop: -1}}]"),
    "take": ("x: 'float[T, 3]'", "[{take: {at: -1, over: T}}]"),
    "add": (TWO, "[{add: [x, y]}]"),
    "multiply": (TWO, "[{multiply: [x, y]}]"),
    "subtract": (TWO, "[{subtract: [x, y]}]"),
    "concat": (TWO, "[{concat: [x, y]}]"),
    "dot": (TWO, "[{dot: [x, y]}]"),
    "residual": ("x: 'float[3]'", "[{residual: [{linear: 3}, tanh]}]"),
    "lstm": ("x: 'int[T]'", f"[{IDS}, {{lstm: {{units: 3, layers: 2, bidirectional: true}}}}, {{lstm: 2}}]"),
    "gru": ("x: 'int[T]'", f"[{IDS}, {{gru: {{units: 3, bidirectional: true, returns: last}}}}]"),
    "rnn": ("x: 'float[T, 3]'", "[{rnn: 4}, {rnn: {units: 2, activation: relu, bidirectional: true}}]"),
    "attention": (
        "x: 'int[T]'",
        f"[{IDS}, {{attention: {{heads: 2, positions: alibi}}}}, "
        "{attention: {heads: 2, kv_heads: 1, causal: true, positions: rotary, window: 3}}]",
    ),
    "positions": ("x: 'int[T <= 16]'", f"[{IDS}, positions, {{positions: sinusoidal}}]"),
    "patch_embedding": ("x: 'float[3, 4, 6]'", "[{patch_embedding: {dim: 4, size: 2}}]"),
    "class_token": ("x: 'float[5, 3]'", "[class_token]"),
    "gaussian": (TWO, "[{gaussian: [x, y]}]"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name: str, tmp_path: Path) -> None:
    inputs, layers = LAYER_SPECS[name]
    check_export(from_spec(inputs, layers, fold=False), tmp_path / "layer.onnx", SIZES)


NETS = {
    "cnn": (
        "image: 'float[2, 7, 6]'",
        "[{conv: {filters: 4}}, batch_norm, relu, {max_pool: 2}, {conv: {filters: 4, groups: 4}},"
        " {avg_pool: {kernel: 3, stride: 1, padding: same}}, {conv: {filters: 6, groups: 2}}, global_avg_pool,"
        " {linear: 2, as: logits}]",
    ),
    "volume": ("x: 'float[1, 4, 4, 4]'", "[{conv: {filters: 2, stride: 2}}, batch_norm, mish, flatten, {linear: 2}]"),
    "steps": (
        "x: 'float[T, 3]'",
        "[{conv: {filters: 4}}, batch_norm, {avg_pool: {kernel: 3, stride: 1, padding: same}},"
        " {max_pool: {kernel: 3, stride: 1, padding: same}}, layer_norm, {mean: {over: T}}, {linear: 2}]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETS)
def test_networks(kind: str, tmp_path: Path) -> None:
    for fold in (True, False):
        check_export(from_spec(*NETS[kind], fold), tmp_path / "net.onnx", SIZES)


def test_every_kind_of_node(tmp_path: Path) -> None:
    x, i, w = hole("N", 2, "T"), hole("N", name="i", dtype=DType.i64), hole(3, 2, 3, name="w", role="param")
    y = Conv((1,), ((1, 1),), (1,))(x, w)
    image = Reshape(("N", 1, 2, 2))(Gather(0)(constant(np.arange(16.0).reshape(4, 4), DType.f32), i))
    kernel = constant(np.arange(4.0).reshape(1, 1, 2, 2), DType.f32)
    outputs = {
        "conv": y,
        "back": ConvInputGrad(("T",), (1,), ((1, 1),), (1,))(y, w),
        "up": ConvInputGrad((5, 4), (2, 2), ((0, 0), (0, 0)), (1, 1))(image, kernel),
        "odd": ConvInputGrad((4, 5), (3, 2), ((0, 1), (0, 0)), (1, 1))(image, kernel),
        "pools": MaxPool((2, 2), (1, 1), ((1, 0), (0, 1)))(image)
        + AvgPool((2, 2), (1, 1), ((1, 0), (0, 1)), False)(image),
        "rows": ScatterAdd(0, (4,))(image, i),
        "hot": OneHot(4)(i),
        "constant": constant(np.arange(3.0), DType.f32),
        "scalar": constant(2.5, DType.f32),
        "flip": Flip(2)(x),
        "places": Cast(DType.f32)(Iota(("N", 3, "T"), 2)()),
        "turned": Reshape((2, "T", "N"))(Transpose((1, 2, 0))(x)),
        "mean": Mean((0, 2))(x),
        "input": x,
    }
    model = Model(Graph("net", (x, i, w), outputs), {"w": np.random.default_rng(0).normal(size=(3, 2, 3)).astype("f4")})
    check_export(model, tmp_path / "model.onnx", SIZES)


def test_what_a_file_says(tmp_path: Path) -> None:
    model = from_spec(*NETS["cnn"])
    proto = check_export(model, tmp_path / "net.onnx", SIZES)
    assert [i.name for i in proto.graph.input] == ["image"]
    assert [o.name for o in proto.graph.output] == ["logits"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert {p.key: p.value for p in proto.metadata_props} == {"made from": "a test"}
    assert (proto.producer_name, proto.graph.name, proto.opset_import[0].version) == ("trine", "net", OPSET)
    assert set(model.weights) <= {t.name for t in proto.graph.initializer}


def test_two_exports_are_the_same_bytes(tmp_path: Path) -> None:
    model = from_spec(*NETS["cnn"])
    notes = {"b": "2", "a": "1"}
    BACKEND.export(model, tmp_path / "a.onnx", notes)
    BACKEND.export(Model(model.graph, dict(reversed(list(model.weights.items())))), tmp_path / "b.onnx", notes)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]


def test_large_weights_stand_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backend, "EXTERNAL_ABOVE", 1000)
    model = from_spec("x: 'float[30]'", "[{linear: 40}, {linear: 2}]")
    path = tmp_path / "large.onnx"
    (tmp_path / "large.onnx.notes.data").write_text("mine")
    seen = []
    for factor in (1.0, 2.0, 2.0):
        scaled = Model(model.graph, {k: (a * factor).astype(np.float32) for k, a in model.weights.items()})
        check_export(scaled, path, SIZES)
        names = sorted(p.name for p in tmp_path.iterdir())
        assert len(names) == 3, names  # the model, its weights, and what is not ours
        assert "large.onnx.notes.data" in names
        seen.append([(tmp_path / name).read_bytes() for name in names])
    assert seen[0] != seen[1] == seen[2]
    assert len(path.read_bytes()) < 3000


def test_a_failed_export_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backend, "EXTERNAL_ABOVE", 1000)
    model = from_spec("x: 'float[30]'", "[{linear: 40}]")
    path = tmp_path / "net.onnx"
    check_export(model, path, SIZES)

    def fail(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(onnx_backend, "write_atomically", fail)
    with pytest.raises(OSError, match="no space"):
        BACKEND.export(Model(model.graph, {k: a + 1 for k, a in model.weights.items()}), path, {})
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = feeds_of(model.graph, N=2)
    (found,) = session.run(None, feeds)
    np.testing.assert_allclose(found, evaluate(model.graph.outputs.values(), model.weights | feeds)[0], **CLOSE32)


def test_the_error_function_of_float64() -> None:
    """To 2e-15 everywhere, though ONNX Runtime has none."""
    x = hole("N", dtype=DType.f64)
    run = BACKEND.compile(Graph("g", (x,), {"y": Erf()(x)}), BACKEND.state({}))
    a = np.concatenate([np.linspace(-7, 7, 2001), [-1e300, -1e-300, 0.0, 1e-8, 30.0]])
    right = np.array([math.erf(n) for n in a])
    np.testing.assert_allclose(run({"x": a})["y"], right, rtol=0, atol=2e-15)


def test_one_session_for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph without state is made ready once; also a sequence of padding alone is what the reference says."""
    made = []
    monkeypatch.setattr(onnx_backend, "Prepared", lambda *args: made.append(Prepared(*args)) or made[-1])
    model = from_spec("x: 'int[T]'", f"[{IDS}, {{attention: {{heads: 2, kv_heads: 1}}}}, {{mean: {{over: T}}}}]")
    run = BACKEND.compile(freeze(model), BACKEND.state({}))
    for rows, steps in ((2, 5), (3, 4), (1, 7)):
        ids = np.arange(rows * steps).reshape(rows, steps) % 6
        ids[0, 1:] = ids[-1, :] = -1
        right = evaluate(model.graph.outputs.values(), dict(model.weights) | {"x": ids})
        for mine, other in zip(run({"x": ids}).values(), right, strict=True):
            np.testing.assert_allclose(mine, other, **CLOSE32)
    assert len(made) == 1


def test_caches_are_written_in_place() -> None:
    """Steps of attention over caches that begin with numbers; then a graph that reads a cache besides."""
    rng = np.random.default_rng(0)
    step = [hole(2, 1, d, name=name) for name, d in (("q", 32), ("k", 16), ("v", 16))]
    caches = [hole(2, 2, 6, 8, name=name, role="buffer") for name in ("keys", "values")]
    position = hole(name="position", dtype=DType.i64)
    y, keys, values = CachedAttention(0.3)(*step, *caches, position)
    graph = Graph("g", (*step, *caches, position), {"y": y}, {"keys": keys, "values": values})
    assert in_place(graph) == {"keys", "values"}
    also = Graph("g", graph.inputs, {"y": y, "before": caches[0]}, graph.updates)
    assert in_place(also) == {"values"}
    arrays = {name: rng.normal(size=(2, 2, 6, 8)).astype(np.float32) for name in ("keys", "values")}
    state = BACKEND.state(arrays)
    runs = [(graph, BACKEND.compile(graph, state)), (also, BACKEND.compile(also, state))]
    for at in range(6):
        each, run = runs[at == 4]
        feeds = {input_of(v).name: rng.normal(size=v.shape).astype(np.float32) for v in step}
        feeds["position"] = np.asarray(at)
        right = evaluate(each.roots, feeds | arrays)
        for name, mine in zip(each.outputs, run(feeds).values(), strict=True):
            np.testing.assert_allclose(mine, right[list(each.outputs).index(name)], **CLOSE32)
        arrays = dict(zip(each.updates, right[len(each.outputs) :], strict=True))
        for name, mine in state.read().items():
            np.testing.assert_array_equal(mine, arrays[name])


@pytest.mark.parametrize("limit", [1, 1000, 1 << 20])
@pytest.mark.parametrize("size", [1, 7])
def test_gradients_of_weights_in_every_form(limit: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taps alone, some together, all together; row by row and with rows side by side; channels apart and in groups."""
    monkeypatch.setattr(convolution, "COLUMNS", limit)
    for groups in (1, 2):
        x, w = hole(3, 4, size, 5), hole(6, 4 // groups, 1 + size // 3, 3, name="w", role="data")
        y = Conv((1, 2), ((size // 3, 0), (1, 1)), (1, 1), groups)(x, w)
        g = hole(*y.shape, name="g")
        grad = ConvWeightGrad(w.shape[2:], (1, 2), ((size // 3, 0), (1, 1)), (1, 1), groups)(g, x)
        feeds = {input_of(v).name: np.random.default_rng(0).normal(size=v.shape).astype(np.float32) for v in (g, x)}
        (found,) = BACKEND.compile(Graph("g", (g, x), {"w": grad}), BACKEND.state({}))(feeds).values()
        np.testing.assert_allclose(found, evaluate([grad], feeds)[0], **CLOSE32)


def test_a_number_has_the_axes_of_what_it_meets() -> None:
    """ONNX Runtime takes a hundred times as long where it has none and the last axis of the other is one long."""
    x, n = hole(4, 3, 1, 1), hole(name="n")
    graph = Graph("g", (x, n), {"y": x * 2.0 + n})
    proto = model_proto(graph)
    shapes = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    made = {node.output[0]: node for node in proto.graph.node}
    for node in made.values():
        if node.op_type in ("Add", "Mul"):
            other = node.input[1]
            assert shapes.get(other) == (1, 1, 1, 1) or made[other].op_type == "Reshape"
    feeds = {"x": np.ones((4, 3, 1, 1), np.float32), "n": np.asarray(3.0, np.float32)}
    assert set(BACKEND.compile(graph, BACKEND.state({}))(feeds)["y"].ravel()) == {5.0}


def test_what_is_returned_is_the_callers_own() -> None:
    x, w = hole("N", 2), hole(2, name="w", role="buffer")
    known = constant(np.ones(600), DType.f32)
    outputs = {"x": x, "again": x, "y": x + 1.0, "known": known}
    stateful = Graph("g", (x, w), {**outputs, "w": w}, {"w": w + 1.0})
    for graph in (Graph("g", (x,), outputs), stateful):
        run = BACKEND.compile(graph, BACKEND.state({"w": np.ones(2, np.float32)} if graph is stateful else {}))
        fed = np.ones((3, 2), np.float32)
        first = run({"x": fed})
        for array in first.values():
            array[...] = -5
        fed[...] = 2
        second = run({"x": fed[:, ::-1]})
        assert {name: set(array.ravel()) for name, array in second.items()} == {
            "x": {2}, "again": {2}, "y": {3}, "known": {1}, **({"w": {2}} if graph is stateful else {}),
        }  # fmt: skip
        assert all((array == -5).all() for array in first.values())


def test_executables_share_a_state_that_changes_places() -> None:
    """Two graphs that update different arrays, in any order, with a write from outside between."""
    a, b = (hole(3, name=name, role="buffer", dtype=DType.f64) for name in "ab")
    state = BACKEND.state({"a": np.zeros(3), "b": np.zeros(3)})
    one = BACKEND.compile(Graph("one", (a, b), {"sum": a + b}, {"a": a + b + 1.0}), state)
    two = BACKEND.compile(Graph("two", (a, b), {}, {"a": a * 2.0, "b": a + b}), state)
    x, y = 0.0, 0.0
    for step, run in enumerate((one, two, two, one, one, two, one)):
        if step == 3:
            x = 7.0
            state.write({"a": np.full(3, x)})
        found = run({})
        assert run is two or found["sum"].tolist() == [x + y] * 3
        x, y = (x + y + 1, y) if run is one else (2 * x, x + y)
        assert {n: array.tolist() for n, array in state.read().items()} == {"a": [x] * 3, "b": [y] * 3}


def test_state_is_copied_in_and_out() -> None:
    start = {"a": np.zeros(2), "n": np.asarray(1.0)}
    state = BACKEND.state(start)
    start["a"][:] = 7
    state.read()["a"][:] = 8
    assert state.read()["a"].tolist() == [0, 0]
    state.write({"a": np.ones(2, np.float32), "n": np.asarray(3.0)})
    assert (state.read()["a"].tolist(), state.read()["a"].dtype, state.read()["n"]) == ([1, 1], np.float64, 3.0)
    with pytest.raises(ValueError, match="a: "):
        state.write({"a": np.ones(3)})
    with pytest.raises(KeyError):
        state.write({"b": np.ones(3)})


def test_updates_read_the_state_before_the_step() -> None:
    a, b = (hole(2, 2, name=name, role="buffer", dtype=DType.f64) for name in "ab")
    turn = Transpose((1, 0))
    start = {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([[10.0, 20.0], [30.0, 40.0]])}
    for new_a, new_b in ((b, a), (turn(a), b), (turn(b), turn(a)), (a + b, a), (Flip(0)(turn(a)), turn(a + b))):
        graph = Graph("g", (a, b), {"old": a, "turned": turn(a), "new": new_a}, {"a": new_a, "b": new_b})
        expected = evaluate(graph.roots, start)
        state = BACKEND.state(start)
        found = BACKEND.compile(graph, state)({})
        for array, right in zip([*found.values(), *state.read().values()], expected, strict=True):
            np.testing.assert_array_equal(array, right)


def test_calls_from_many_threads() -> None:
    x = y = hole("N", 50, dtype=DType.f64)
    for _ in range(20):
        y = Tanh()(y * 1.1 + 0.1)
    count = hole(name="count", role="buffer", dtype=DType.f64)
    state = BACKEND.state({"count": np.asarray(0.0)})
    run = BACKEND.compile(Graph("g", (x, count), {"y": y}, {"count": count + 1.0}), state)
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            a = rng.normal(size=(rng.integers(1, 5), 50))
            if not np.allclose(run({"x": a})["y"], evaluate([y], {"x": a})[0], **CLOSE):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert state.read()["count"] == 120


@pytest.mark.parametrize("name", ["w", "x'", "a b", "größe", "1", "N"])
@pytest.mark.parametrize("dim", ["N", "x", "shape"])
def test_inputs_parameters_and_axes_may_have_any_name(name: str, dim: str) -> None:
    x, w = hole(dim, 3, name=name), hole(2, 3, name=f"{name}.w", role="param")
    y = Linear()(x, w)
    graph = Graph(name, (x, w), {"shape": y, name: Mean((0,))(Sum((1,))(y))})
    weights = {f"{name}.w": np.ones((2, 3), np.float32)}
    proto = model_proto(prepare(legalize(graph, native, "onnx")), weights)
    onnx.checker.check_model(proto, full_check=True)
    a = np.ones((2, 3), np.float32)
    found = BACKEND.compile(graph, BACKEND.state(weights))({name: a})
    np.testing.assert_allclose(found["shape"], np.full((2, 2), 3.0))
    np.testing.assert_allclose(found[name], [[6.0]])


@pytest.mark.parametrize(("before", "size"), [(14, 2), (14, 4), (21, 3), (20, 12), (3, 123)])
def test_the_nearest_place_is_exact(before: int, size: int) -> None:
    """ONNX Runtime's own is one off for all of these but the last, a whole factor, which it runs."""
    x = hole("N", 1, before)
    graph = Graph("g", (x,), {"y": Resize((size,))(x)})
    assert ("= Resize <" in BACKEND.source(Model(graph))) == (size % before == 0)
    found = BACKEND.compile(graph, BACKEND.state({}))({"x": np.arange(before, dtype=np.float32).reshape(1, 1, -1)})
    assert found["y"].reshape(-1).tolist() == [i * before // size for i in range(size)]


def test_source_is_text_for_people() -> None:
    assert "Relu" in BACKEND.source(from_spec("x: 'float[6]'", "[{linear: 2}, relu]"))
