"""The PyTorch backend: fused optimizers, views of state, threads, and the exported module."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trine.compiler.training  # noqa: F401 (registers layers, losses, optimizers)
from safetensors.numpy import load_file
from trine.backends import numpy as numpy_backend
from trine.backends.executable import lower
from trine.backends.torch import BACKEND, Program, TorchBackend, _kept, packed, with_options
from trine.backends.torch.emit import native
from trine.backends.torch.export import module_source
from trine.backends.torch.verified import shares_off
from trine.compiler.autodiff import grad
from trine.compiler.build import build
from trine.compiler.initialisers import initialise
from trine.compiler.ir import DType, Graph, Input, Origin, Type, Value, constant, evaluate, input_of, origin
from trine.compiler.machine import default_machine
from trine.compiler.ops.activations import Relu
from trine.compiler.ops.conv import Conv, ConvInputGrad, MaxPool
from trine.compiler.ops.elementwise import Cos, Exp, Maximum, Sin, Tanh, Where
from trine.compiler.ops.linalg import Gather, Linear, ScatterAdd
from trine.compiler.ops.norm import BatchNorm
from trine.compiler.ops.optim import Adam, Sgd, Update
from trine.compiler.ops.recurrent import Lstm, LstmGrad
from trine.compiler.ops.reduce import Mean, OneHot, Sum
from trine.compiler.ops.resize import Resize
from trine.compiler.ops.shape import Flip, Reshape, Slice, Transpose, reshape
from trine.compiler.passes import Model, for_inference, freeze
from trine.compiler.spec.reader import read_string
from trine.runtime.profile import subject
from trine.runtime.session import open_source, prepare
from trine.runtime.specs import open_spec

Array = Any
torch.set_num_threads(1)  # thread pools of two libraries in one process wait for each other
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64, sums in another order
CLOSE32 = {"rtol": 1e-5, "atol": 1e-5}  # float32 has 7 digits; likewise


def hole(*dims: int | str, name: str = "x", role: Any = "data", dtype: DType = DType.f32) -> Value:
    return Input(name, Type(dims, dtype), role)()


# -- fused optimizers ----------------------------------------------------------------------------

UPDATES: list[Update] = [
    Adam(), Adam(0.8, 0.99, 1e-6, 0.1), Adam(decay=0.05, decoupled=True), Adam(0.5, 0.9, 1e-3, 0.0, True),
    Sgd(), Sgd(decay=0.1), Sgd(0.9), Sgd(0.9, True, 0.1), Sgd(0.5, False, 0.01),
]  # fmt: skip


def update_graph(op: Update, dtype: DType) -> tuple[Graph, dict[str, Array]]:
    """Three parameters, one of them without decay, whose gradients are all laid out differently."""
    rng = np.random.default_rng(0)
    lr, step = (hole(name=name, role="hyper", dtype=DType.f64) for name in ("lr", "step"))
    g = hole(4, 3, name="g", dtype=dtype)
    gradients = {
        "a": Transpose((1, 0))(g),
        "b": g * 2.0,
        "c": constant(np.broadcast_to(np.asarray(0.5, dtype.numpy), (2,))),
    }
    inputs, updates, arrays = [lr, step, g], {}, {}
    for name, gradient in gradients.items():
        mine = replace(op, decay=0.0) if name == "b" else op  # type: ignore[type-var]
        state = [
            hole(*gradient.shape, name=n, role="buffer", dtype=dtype)
            for n in (name, *(f"{name}/{s}" for s in op.slots(gradient.type)))
        ]
        made = mine(state[0], gradient, *state[1:], lr, step)
        inputs += state
        updates |= {input_of(v).name: new for v, new in zip(state, made.items(), strict=True)}
        arrays |= {
            input_of(v).name: rng.uniform(0.0 if "/" in input_of(v).name else -1.0, 1.0, v.shape).astype(dtype.numpy)
            for v in state
        }
    return Graph("update", tuple(inputs), {}, updates), arrays


@pytest.mark.parametrize("dtype", [DType.f32, DType.f64])
@pytest.mark.parametrize("op", UPDATES, ids=repr)
def test_fused_updates_are_those_of_the_graph(op: Update, dtype: DType) -> None:
    graph, arrays = update_graph(op, dtype)
    state = BACKEND.state(arrays)
    run = BACKEND.compile(graph, state)
    rng = np.random.default_rng(1)
    rtol = 1e-6 if dtype is DType.f32 else 1e-12  # a digit more than the element type rounds to
    for step in range(5):
        feeds = {
            "g": rng.normal(size=(4, 3)).astype(dtype.numpy), "lr": np.asarray(0.1 / (step + 1)),
            "step": np.asarray(float(step)),
        }  # fmt: skip
        expected = evaluate(graph.updates.values(), feeds | arrays)
        run(feeds)
        arrays = dict(zip(graph.updates, expected, strict=True))
        for name, array in state.read().items():
            np.testing.assert_allclose(array, arrays[name], rtol=rtol, atol=rtol, err_msg=name)


def test_fused_kernels_are_used() -> None:
    for op, kernel in ((Adam(), "_fused_adam_"), (Adam(decoupled=True), "_fused_adamw_"), (Sgd(0.9), "_fused_sgd_")):
        graph, _ = update_graph(op, DType.f32)
        assert Program(graph).source.count(kernel) == (1 if op.decay == 0.0 else 2)


def test_updates_that_something_reads_are_not_fused() -> None:
    graph, arrays = update_graph(Adam(), DType.f64)
    new = graph.updates["a"]
    seen = Graph("g", graph.inputs, {"new": new, "twice": new * 2.0}, graph.updates)
    feeds = {"g": np.ones((4, 3)), "lr": np.asarray(0.1), "step": np.asarray(0.0)}
    expected = evaluate(seen.roots, feeds | arrays)
    state = BACKEND.state(arrays)
    found = BACKEND.compile(seen, state)(feeds)
    np.testing.assert_allclose(found["new"], expected[0], **CLOSE)
    np.testing.assert_allclose(found["twice"], expected[1], **CLOSE)
    np.testing.assert_allclose(state.read()["a"], expected[0], **CLOSE)


def test_gradients_that_are_parameters() -> None:
    """Of the product of a and b: each one's gradient is the other, before the step."""
    lr, step = (hole(name=name, role="hyper", dtype=DType.f64) for name in ("lr", "step"))
    a, b = (hole(3, name=name, role="param", dtype=DType.f64) for name in "ab")
    updates = {"a": Sgd()(a, b, lr, step).items()[0], "b": Sgd()(b, a, lr, step).items()[0]}
    arrays = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([10.0, 20.0, 30.0])}
    state = BACKEND.state(arrays)
    BACKEND.compile(Graph("g", (a, b, lr, step), {}, updates), state)({"lr": np.asarray(0.1), "step": np.asarray(0.0)})
    np.testing.assert_allclose(state.read()["a"], arrays["a"] - 0.1 * arrays["b"], **CLOSE)
    np.testing.assert_allclose(state.read()["b"], arrays["b"] - 0.1 * arrays["a"], **CLOSE)


# -- state, feeds, threads -----------------------------------------------------------------------


def test_updates_read_the_state_before_the_step() -> None:
    a, b = (hole(2, 2, name=name, role="buffer", dtype=DType.f64) for name in "ab")
    turn = Transpose((1, 0))
    start = {"a": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": np.array([[10.0, 20.0], [30.0, 40.0]])}
    for new_a, new_b in ((b, a), (turn(a), b), (turn(b), turn(a)), (a + b, a), (Flip(0)(turn(a)), turn(a + b))):
        outputs = {"old": a, "turned": turn(a), "flat": Reshape((4,))(b), "new": new_a}
        graph = Graph("g", (a, b), outputs, {"a": new_a, "b": new_b})
        expected = evaluate(graph.roots, start)
        state = BACKEND.state(start)
        found = BACKEND.compile(graph, state)({})
        for array, right in zip([*found.values(), *state.read().values()], expected, strict=True):
            np.testing.assert_array_equal(array, right)


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


def test_feeds_may_lie_in_memory_as_they_like() -> None:
    x = hole("N", 3, dtype=DType.f64)
    run = BACKEND.compile(Graph("g", (x,), {"y": x + 1.0, "x": x}), BACKEND.state({}))
    a = np.arange(6.0).reshape(2, 3)
    frozen = a.copy()
    frozen.flags.writeable = False
    for layout in (a, a[::-1, ::-1], np.asfortranarray(a), frozen, np.broadcast_to(a[:1], (4, 3))):
        np.testing.assert_array_equal(run({"x": layout})["y"], layout + 1)
    found = run({"x": a})
    found["x"][:] = 9
    assert a[0, 0] == 0


def test_no_autograd_graph_is_recorded() -> None:
    seen: list[torch.Tensor] = []
    w = hole(2, 3, name="w", role="param")
    x = hole("N", 3)
    state = BACKEND.state({"w": np.ones((2, 3), np.float32)})
    graph = Graph("g", (x, w), {"y": Linear()(x, w)}, {"w": w * 0.5})
    run = BACKEND.compile(graph, state)
    state.tensors["w"].requires_grad_(True)  # even then
    original = torch.Tensor.numpy
    try:
        torch.Tensor.numpy = lambda self: seen.append(self) or original(self)  # type: ignore[assignment,func-returns-value]
        run({"x": np.ones((1, 3), np.float32)})
    finally:
        torch.Tensor.numpy = original  # type: ignore[method-assign]
    assert seen
    assert not any(tensor.requires_grad for tensor in seen)


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_another_device() -> None:
    graph, arrays = update_graph(Adam(decay=0.1, decoupled=True), DType.f64)
    feeds = {"g": np.ones((4, 3)), "lr": np.asarray(0.1), "step": np.asarray(0.0)}
    backend = TorchBackend("cuda")
    state = backend.state(arrays)
    assert all(t.is_cuda for t in state.tensors.values())
    backend.compile(graph, state)(feeds)
    for name, right in zip(graph.updates, evaluate(graph.updates.values(), feeds | arrays), strict=True):
        np.testing.assert_allclose(state.read()[name], right, **CLOSE)


def test_native_says_what_runs_as_it_is() -> None:
    relu = Relu()(hole(2))
    assert BACKEND.native(relu) and native(relu) and _kept(relu)
    assert "torch.relu" in BACKEND.source(Model(Graph("g", (hole(2),), {"y": relu})))


# -- the exported module -------------------------------------------------------------------------

# Run in a process where trine cannot be imported: predict, then a few steps of plain PyTorch.
RUNNER = """
import importlib.util, json, sys
sys.modules["trine"] = None
import numpy as np
import torch
torch.set_num_threads(1)
path, feeds = sys.argv[1:3]
spec = importlib.util.spec_from_file_location("exported", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
network = module.load()
arrays = np.load(feeds)
inputs = [torch.from_numpy(arrays[name]) for name in arrays.files]
with torch.no_grad():
    found = network(*inputs)
found = found if isinstance(found, dict) else {"": found}
np.savez(path + ".out.npz", **{name: t.numpy() for name, t in found.items()})
network.train()
optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
losses = []
for _ in range(6):
    out = network(*inputs)
    out = out if isinstance(out, dict) else {"": out}
    loss = sum((t.double() ** 2).mean() for t in out.values() if t.requires_grad)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(float(loss.detach()))
grads = {name: p.grad is not None and bool(torch.isfinite(p.grad).all()) for name, p in network.named_parameters()}
print(json.dumps({"losses": losses, "grads": grads, "keys": sorted(network.state_dict())}))
"""


def run_file(path: Path, feeds: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Any]]:
    """The outputs of an exported file in a process of its own, and how training it went."""
    inputs = path.with_suffix(".in.npz")
    np.savez(inputs, **feeds)
    command = [sys.executable, "-c", RUNNER, str(path), str(inputs)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(f"{path}.out.npz") as found:
        return {name: found[name] for name in found.files}, json.loads(done.stdout)


def module_of(model: Model, path: Path) -> Any:
    """The exported module, loaded into this process."""
    BACKEND.export(model, path, {"made from": "a test"})
    namespace: dict[str, Any] = {"__name__": "exported", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), namespace)  # forty processes would take minutes
    return namespace["load"]()


def check_module(model: Model, path: Path, batches: list[dict[str, Array]]) -> Any:
    """Every output, for every batch, against NumPy's."""
    network = module_of(model, path)
    reference = numpy_backend.BACKEND.compile(model.graph, numpy_backend.BACKEND.state(model.weights))
    for feeds in batches:
        with torch.no_grad():
            found = network(*(torch.from_numpy(feeds[input_of(v).name]) for v in model.graph.by_role("data")))
        found = found if isinstance(found, dict) else {next(iter(model.graph.outputs)): found}
        expected = reference(feeds)
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert found[name].numpy().dtype == array.dtype
            np.testing.assert_allclose(found[name].numpy(), array, **CLOSE32, err_msg=name)
    return network


def from_spec(inputs: str, layers: str, fold: bool = True) -> Model:
    graph = build(
        read_string(f"spec: 1\nname: a-net\nmodel: {{inputs: {{{inputs}}}, layers: {layers}}}\n"), "infer"
    ).graph
    weights = {input_of(v).name: initialise(v, 0) for v in graph.by_role("param", "buffer")}
    model = Model(graph, weights)
    return for_inference(model)[0] if fold else model


def test_an_exported_network_predicts_and_trains_without_trine(tmp_path: Path) -> None:
    opened = open_source("zoo:vision/digits-cnn")
    spec = opened.spec
    model = for_inference(Model(build(spec, "infer").graph, opened.weights))[0]
    path = tmp_path / "digits_torch.py"
    BACKEND.export(model, path, {"spec": spec.name})
    feeds = {"image": np.random.default_rng(0).uniform(size=(3, 8, 8)).astype(np.float32)}
    found, training = run_file(path, feeds)
    expected = numpy_backend.BACKEND.compile(model.graph, numpy_backend.BACKEND.state(model.weights))(feeds)
    np.testing.assert_allclose(found[""], expected["logits"], **CLOSE32)
    assert training["losses"][-1] < training["losses"][0]
    assert all(training["grads"].values())
    params = {input_of(v).name for v in model.graph.by_role("param", "buffer")}
    assert set(training["keys"]) == params == set(load_file(tmp_path / "digits_torch.safetensors"))
    source = path.read_text()
    assert "class DigitsCnn(nn.Module):" in source
    assert "def forward(self, image):" in source
    assert "# stage_1" in source
    assert "trine" not in source.split('"""', 2)[2]


SPECS = {
    "mlp": ("x: 'float[6]'", "[{linear: 8}, batch_norm, gelu, {dropout: 0.5}, {linear: 3}, layer_norm, softmax]", (6,)),
    "cnn": (
        "x: 'float[2, 7, 6]'",
        "[{conv: {filters: 4}}, batch_norm, relu, {max_pool: 2}, {conv: {filters: 4, groups: 4}},"
        " {avg_pool: {kernel: 3, stride: 1, padding: same}}, {conv: {filters: 6, groups: 2}}, global_avg_pool,"
        " {linear: 2}]",
        (2, 7, 6),
    ),
    "volume": ("x: 'float[1, 4, 4, 4]'", "[{conv: {filters: 2, stride: 2}}, mish, flatten, {linear: 2}]", (1, 4, 4, 4)),
    "steps": ("x: 'float[T, 3]'", "[{conv: {filters: 4}}, layer_norm, {mean: {over: T}}, {linear: 2}]", (5, 3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPECS)
def test_exported_networks(kind: str, tmp_path: Path) -> None:
    inputs, layers, dims = SPECS[kind]
    rng = np.random.default_rng(0)
    shapes = [(n, dims[0] + 2 * (kind == "steps") * n, *dims[1:]) for n in (1, 4)]
    batches = [{"x": rng.normal(size=shape).astype(np.float32)} for shape in shapes]
    for fold in (True, False):
        check_module(from_spec(inputs, layers, fold), tmp_path / "net.py", batches)


SEQUENCES = {
    "lstm": "[{embedding: {rows: 7, dim: 4}}, {lstm: {units: 3, layers: 2, bidirectional: true}}, {linear: 2}]",
    "gru": "[{embedding: {rows: 7, dim: 4}}, {gru: {units: 3, bidirectional: true, returns: last}}, {linear: 2}]",
    "rnn": "[{embedding: {rows: 7, dim: 4}}, {rnn: {units: 3, activation: relu}}, {mean: {over: T}}]",
    "attention": "[{embedding: {rows: 7, dim: 4}}, positions, {attention: {heads: 1, positions: rotary}}]",
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_exported_sequences_predict_and_train(kind: str, tmp_path: Path) -> None:
    """Padded rows among them; autograd reaches every parameter of the written module."""
    model = from_spec("x: 'int[T <= 9]'", SEQUENCES[kind])
    rows = np.array([[3, 1, 4, 1, 5], [2, 6, -1, -1, -1], [5, -1, -1, -1, -1]])
    module = check_module(model, tmp_path / "m.py", [{"x": rows}, {"x": rows[:1, :3]}])
    module(torch.tensor(rows)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0 or name.endswith("key.bias"), name  # softmax takes no notice of that one


def test_every_kind_of_line(tmp_path: Path) -> None:
    """Constants, tables, kernels, transposed convolution, several inputs and outputs, an axis without a size."""
    x, i, w = hole("N", 2, "T"), hole("N", name="i", dtype=DType.i64), hole(3, 2, 3, name="w", role="param")
    y = Conv((1,), ((1, 1),), (1,))(x, w)
    image = Reshape(("N", 1, 2, 2))(Gather(0)(constant(np.arange(16.0).reshape(4, 4), DType.f32), i))
    kernel = constant(np.arange(4.0).reshape(1, 1, 2, 2), DType.f32)
    outputs = {
        "conv": y,
        "back": ConvInputGrad(("T",), (1,), ((1, 1),), (1,))(y, w),
        "up": ConvInputGrad((5, 4), (2, 2), ((0, 0), (0, 0)), (1, 1))(image, kernel),
        "odd": ConvInputGrad((3, 4), (2, 2), ((0, 1), (0, 0)), (1, 1))(image, kernel),
        "pool": MaxPool((2, 2), (1, 1), ((1, 0), (0, 1)))(image),
        "rows": ScatterAdd(0, (4,))(image, i),
        "hot": OneHot(4)(i),
        "constant": constant(np.arange(3.0), DType.f32),
        "scalar": constant(2.5, DType.f32),
        "bounds": Maximum()(Sin()(x), constant(0.1, DType.f32)),
        "choice": Where()(constant(True, DType.boolean), x, constant(float("inf"), DType.f32)),
        "mean": Mean((0, 2))(x),
        "exp": Exp()(constant(1.0, DType.f32)),
    }
    rng = np.random.default_rng(0)
    model = Model(Graph("2nd net", (x, i, w), outputs), {"w": rng.normal(size=(3, 2, 3)).astype(np.float32)})
    feeds = [
        {"x": rng.normal(size=(n, 2, 3 + n)).astype(np.float32), "i": rng.integers(0, 4, n)} for n in (1, 3)
    ]  # fmt: skip
    check_module(model, tmp_path / "model.py", feeds)
    assert "class Net2ndNet(nn.Module):" in (tmp_path / "model.py").read_text()
    assert "F.conv_transpose2d(" in (tmp_path / "model.py").read_text()


def test_batch_norm_by_itself_follows_the_mode(tmp_path: Path) -> None:
    x = hole("N", 3)
    scale, shift = (hole(3, name=f"norm.{n}", role="param") for n in ("scale", "shift"))
    mean, var = (hole(3, name=f"norm.{n}", role="buffer") for n in ("mean", "variance"))
    graph = Graph("norm", (x, scale, shift, mean, var), {"y": BatchNorm()(x, scale, shift, mean, var)})
    weights = {input_of(v).name: np.ones(3, np.float32) for v in (scale, shift, mean, var)}
    a = np.random.default_rng(0).normal(2.0, 3.0, (64, 3)).astype(np.float32)
    network = check_module(Model(graph, weights), tmp_path / "norm.py", [{"x": a}])
    y = network.train()(torch.from_numpy(a))
    np.testing.assert_allclose(y.detach().numpy().mean(0), 1.0, atol=1e-5)
    np.testing.assert_allclose(network.norm.mean.numpy(), 0.9 + 0.1 * a.mean(0), rtol=1e-5)


@pytest.mark.parametrize("name", ["train", "w", "torch", "1", "class", "größe", "self", "type.weight", "F"])
@pytest.mark.parametrize("dim", ["N", "w", "torch", "x", "device"])
def test_inputs_parameters_and_axes_may_have_any_name(name: str, dim: str, tmp_path: Path) -> None:
    with origin(Origin(name)):
        x, weight = hole(dim, 3, name=name), hole(2, 3, name=f"{name}.w", role="param")
        other = hole(2, name=f"{name}.w.folded", role="param")
        y = Cos()(Linear()(x, weight, other))
        model = Model(
            Graph(name, (x, weight, other), {"y": y, "mean": Mean((0,))(Sum((1,))(y))}),
            {f"{name}.w": np.ones((2, 3), np.float32), f"{name}.w.folded": np.ones(2, np.float32)},
        )
    network = check_module(model, tmp_path / "net.py", [{name: np.ones((n, 3), np.float32)} for n in (1, 2)])
    assert sorted(network.state_dict()) == sorted(model.weights)


def test_two_exports_are_the_same_bytes(tmp_path: Path) -> None:
    model = from_spec(*SPECS["cnn"][:2])
    shuffled = Model(model.graph, dict(reversed(list(model.weights.items()))))
    for name, each in (("a.py", model), ("b.py", shuffled)):
        BACKEND.export(each, tmp_path / name, {"version": "1"})
    for suffix in (".py", ".safetensors"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.py", "a.safetensors", "b.py", "b.safetensors"]


def test_words_from_outside_stay_words() -> None:
    x = hole("N", 2, name='in"""put\\')
    model = Model(Graph('""" + name', (x,), {'out"""put\\': x * 2.0}))
    source, _ = module_source(model, {"note": 'a """ quote and a \\ backslash', '"""': "import os"})
    namespace: dict[str, Any] = {"__name__": "exported"}
    exec(source, namespace)
    assert "os" not in namespace


@pytest.mark.parametrize(("before", "size"), [(2, 82), (6, 74), (14, 46), (2, 64)])
def test_the_nearest_place_is_exact(before: int, size: int) -> None:
    """`F.interpolate` is one off for all of these but the last, a whole factor below 40, which it runs."""
    x = Input("x", Type(("N", 1, before)))()
    graph = Graph("g", (x,), {"y": Resize((size,))(x)})
    assert ("F.interpolate" in BACKEND.source(Model(graph))) == (size == 64)
    found = BACKEND.compile(graph, BACKEND.state({}))({"x": np.arange(before, dtype=np.float32).reshape(1, 1, -1)})
    assert found["y"].reshape(-1).tolist() == [i * before // size for i in range(size)]


# -- constant weights and memory -----------------------------------------------------------------


def frozen(text: str, batch: int, monkeypatch: pytest.MonkeyPatch, least: int) -> tuple[Any, dict[str, Array], str]:
    """A spec's frozen network on PyTorch, what it is fed, and its source, oneDNN called from `least` operations on."""
    machine = replace(default_machine(1), packed={"conv": least, "linear": least, "product": 1e15})
    monkeypatch.setattr(packed, "this_machine", lambda: machine)
    spec = read_string(text, "frozen.yaml")
    graph = build(spec).graph
    weights = {input_of(v).name: initialise(v, 0) for v in graph.by_role("param", "buffer")}
    model, _ = for_inference(Model(graph, weights))
    (x,) = model.graph.by_role("data")
    feeds = {"x": np.random.default_rng(1).standard_normal((batch, *x.shape[1:])).astype(np.float32)}
    run = BACKEND.compile(freeze(model), BACKEND.state({}))
    expected = evaluate(graph.outputs.values(), {**weights, **feeds})
    for found, wanted in zip(run(feeds).values(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)  # float32, several layers
    lowered = lower(run.graph, {"N": batch}, _kept, "torch")
    return run, feeds, Program(lowered).source


def test_where_packed_weights_are_a_gain_is_measured() -> None:
    found = BACKEND.measured(1e-3, 2)
    assert found.packed.keys() == {"linear", "conv", "product"}
    assert all(0 < flops <= 1e15 for flops in found.packed.values())
    assert found.spread is not None
    assert 0 < found.spread < 1
    assert BACKEND.measured(1e-3, 1).spread is None


@pytest.mark.parametrize("shapes", [((6, 5), (4, 5)), ((2, 3, 5), (4, 5))])
def test_products_that_change_by_onednn(shapes: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward, and both gradients, as by BLAS."""
    machine = replace(default_machine(1), packed={"conv": 1.0, "linear": 1.0, "product": 1.0})
    monkeypatch.setattr(packed, "this_machine", lambda: machine)
    x, w, b = (Input(n, Type(s))() for n, s in zip("xwb", (*shapes, (4,)), strict=True))
    y = Linear()(x, w, b)
    graph = grad(Graph("g", (x, w, b), {"y": reshape(Sum(tuple(range(y.rank)))(y * y), ())}), "y", ["x", "w", "b"])
    rng = np.random.default_rng(0)
    feeds = {input_of(v).name: rng.standard_normal(v.shape).astype(np.float32) for v in graph.inputs}
    lowered = lower(graph, {}, _kept, "torch")
    assert Program(lowered).source.count("_linear_pointwise") == 3
    found = BACKEND.compile(graph, BACKEND.state({}))(feeds)
    for name, wanted in zip(graph.outputs, evaluate(graph.outputs.values(), feeds), strict=True):
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-5)


RESIDUAL = """
spec: 1
name: residual
model:
  inputs: {x: "float[3, 8, 8]"}
  layers:
    - conv: {filters: 8, kernel: 3, bias: false}
    - batch_norm
    - relu
    - residual:
        - conv: {filters: 8, kernel: 3}
        - silu
        - conv: {filters: 8, kernel: 3, groups: 2}
    - relu
    - flatten
    - linear: 16
    - gelu
    - linear: 4
    - relu
    - linear: 3
"""


@pytest.mark.parametrize("least", [0, 10**12])
def test_frozen_networks_by_onednn_and_without_it(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel choice forced: the same numbers, and activations and additions in the kernels before them."""
    _, _, source = frozen(RESIDUAL, 2, monkeypatch, least)
    if least == 0:
        assert source.count("_convolution_pointwise(") == 2  # with relu; with silu
        assert source.count("_convolution_pointwise.binary(") == 1
        assert source.count("_linear_pointwise(") == 3
        assert not any(call in source for call in ("torch.relu", "relu_(", "F.gelu", "gelu_("))
    else:
        assert "mkldnn" not in source and source.count("_addmm_activation") == 2


def test_queries_keys_and_values_are_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
spec: 1
name: encoder
model:
  inputs: {x: "float[6, 8]"}
  layers:
    - attention: {heads: 2}
    - linear: 3
"""
    _, _, source = frozen(text, 2, monkeypatch, 10**12)
    assert source.count("torch.addmm(") == 3  # all three, the one after attention, and the last


def test_what_is_fed_and_what_is_kept_is_not_written_over() -> None:
    x = hole("N", 4)
    y = Exp()(x)
    z = Tanh()(y)  # y is shown, z may take nobody's place
    graph = Graph("g", (x,), {"y": y, "z": z * 2.0, "turned": Transpose((1, 0))(x) + 1.0})
    fed = np.ones((3, 4), np.float32)
    found = BACKEND.compile(graph, BACKEND.state({}))({"x": fed})
    np.testing.assert_array_equal(fed, 1.0)
    np.testing.assert_allclose(found["y"], np.exp(fed), rtol=1e-6)
    np.testing.assert_allclose(found["z"], 2 * np.tanh(np.exp(fed)), rtol=1e-6)


def test_memory_that_nobody_reads_again_is_written_over() -> None:
    x = hole("N", 4)
    wide = Reshape(("N", 2, 2))(Exp()(x))
    graph = Graph("g", (x,), {"y": Tanh()(wide * wide) + 1.0})
    source = Program(lower(graph, {"N": 3}, native, "torch")).source
    assert source.count("_(") == 2  # tanh and the addition; a product with itself is made anew


def test_what_another_name_shows_is_not_written_over() -> None:
    """One slice of a value less another slice of it, and a value with its transpose."""
    x = hole("N", 3, 3)
    y = Exp()(x)
    late, early = (Slice((None, (i, i + 2), None))(y) for i in (1, 0))
    z = Tanh()(x)
    graph = Graph("g", (x,), {"step": late - early, "both": z + Transpose((0, 2, 1))(z)})
    for rows in (1, 4):
        fed = np.random.default_rng(0).standard_normal((rows, 3, 3)).astype(np.float32)
        found = BACKEND.compile(graph, BACKEND.state({}))({"x": fed})
        for name, expected in zip(graph.outputs, evaluate(graph.outputs.values(), {"x": fed}), strict=True):
            np.testing.assert_allclose(found[name], expected, **CLOSE32)


@pytest.mark.parametrize("backend", [BACKEND, numpy_backend.BACKEND])
def test_products_that_are_repeated_when_added_stay_as_they_are(backend: Any) -> None:
    x, c = hole("N", 5, 4), hole("N", 1, 4, name="c")
    weight, bias = (constant(np.ones(shape, np.float32)) for shape in ((4, 4), (4,)))
    graph = Graph("g", (x, c), {"y": x + Linear()(c, weight, bias)})
    feeds = {"x": np.ones((2, 5, 4), np.float32), "c": np.ones((2, 1, 4), np.float32)}
    np.testing.assert_array_equal(backend.compile(graph, backend.state({}))(feeds)["y"], 6.0)


def test_an_lstm_has_several_gradients() -> None:
    """What its kernel leaves behind is read by each of them."""
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 3, 4), "w": (8, 4), "r": (8, 2), "b": (8,), "h": (2, 2), "c": (2, 2)}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    holes = [hole(*shape, name=name) for name, shape in shapes.items()]
    outputs = {}
    for reverse in (False, True):
        states = Lstm(reverse)(*holes).items()
        for i in range(2):
            given = tuple(j == i for j in range(3))
            grads = LstmGrad(reverse, given)(states[i], *holes, *states).items()
            outputs |= {f"{reverse}{i}{j}": g for j, g in enumerate(grads)}
    graph = Graph("g", tuple(holes), outputs)
    found = BACKEND.compile(graph, BACKEND.state({}))(feeds)
    for name, expected in zip(outputs, evaluate(outputs.values(), feeds), strict=True):
        np.testing.assert_allclose(found[name], expected, **CLOSE32)


def test_kernels_of_convolutions_keep_their_shape_in_checkpoints() -> None:
    """Channels go innermost in memory alone."""
    weight = np.arange(2 * 3 * 3 * 3, dtype=np.float32).reshape(2, 3, 3, 3)
    x, w = hole(1, 3, 5, 5), hole(2, 3, 3, 3, name="w", role="param")
    state = BACKEND.state({"w": weight})
    BACKEND.compile(Graph("g", (x, w), {"y": CONV(x, w)}), state)({"x": np.ones((1, 3, 5, 5), np.float32)})
    assert not state.tensors["w"].is_contiguous()
    found = state.read()["w"]
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, weight)
    state.write({"w": weight[::-1]})
    np.testing.assert_array_equal(state.read()["w"], weight[::-1])


CONV = Conv((1, 1), ((1, 1), (1, 1)), (1, 1))


# -- torch.compile, on trial ---------------------------------------------------------------------


def training_of(name: str) -> Any:
    spec, _ = prepare(open_spec(name))
    return subject(spec, {}, train=True, batch=16)


def trained(what: Any, backend: TorchBackend, steps: int = 2) -> tuple[list[float], dict[str, Array]]:
    state = backend.state(what.state)
    step = backend.compile(what.graph, state)
    return [float(step(what.feeds)["loss"]) for _ in range(steps)], state.read()


def failing(function: Any, **options: Any) -> Any:
    raise RuntimeError("no C++ compiler")


def forgetting(function: Any, **options: Any) -> Any:
    """A compiler after which convolutions are never updated, as if their gradients were zero."""

    def run(*inputs: Any) -> Any:
        names = function.__globals__
        kept = {n: t.clone() for n, t in names.items() if isinstance(t, torch.Tensor) and t.ndim == 4}
        results = function(*inputs)
        for name, before in kept.items():
            names[name].copy_(before)
        return results

    return run


def silent(function: Any, **options: Any) -> Any:
    raise NotImplementedError


def losing(function: Any, **options: Any) -> Any:
    """A compiler that updates what optimizers keep, and not the parameters."""

    def run(*inputs: Any) -> Any:
        names = function.__globals__
        kept = {n: t.clone() for n, t in names.items() if isinstance(t, torch.Tensor) and n.endswith("weight")}
        results = function(*inputs)
        for name, before in kept.items():
            names[name].copy_(before)
        return results

    return run


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        (failing, r"it failed \(RuntimeError: no C[+][+] compiler\)"),
        (silent, r"it failed \(NotImplementedError\)"),
        (forgetting, "numbers of `.*conv_1.weight.*` were wrong"),
        (losing, "numbers of `.*weight` were wrong"),
    ],
)
def test_a_compiler_that_errs_is_not_used(compiler: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what = training_of("zoo:vision/digits-cnn")
    expected = trained(what, TorchBackend())
    monkeypatch.setattr(torch, "compile", compiler)
    with pytest.warns(RuntimeWarning, match=f"torch.compile is not used: .*{why}"):
        losses, state = trained(what, TorchBackend(compiled=True))
    # The optimizer is not a fused kernel here: rounding is all that differs.
    np.testing.assert_allclose(losses, expected[0], rtol=1e-5)
    assert all(np.abs(state[name] - before).max() > 0 for name, before in what.state.items() if before.ndim == 4)


def test_what_is_zero_but_for_rounding_is_not_held_against_a_compiler() -> None:
    """Attention does not depend on a shift of all keys: the sign of such a bias's gradient is noise."""
    held = {n: torch.zeros(4) for n in ("key", "weight", "key/mean", "weight/mean")}
    expected = {
        "loss": torch.tensor(1.0), "key": torch.tensor([1e-3, -1e-3, 1e-3, 1e-3]), "key/mean": torch.full((4,), 1e-9),
        "weight": torch.full((4,), 1e-3), "weight/mean": torch.ones(4),
    }  # fmt: skip
    noise = expected | {"key": -expected["key"], "key/mean": -expected["key/mean"]}
    assert max(shares_off(noise, expected, held).values()) == 0
    assert shares_off(expected | {"weight": torch.zeros(4)}, expected, held)["weight"] == 1
    assert shares_off(expected | {"loss": torch.tensor(float("nan"))}, expected, held)["loss"] == 1


def test_a_compiler_that_is_right_is_used_and_the_trial_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counting(function: Any, **options: Any) -> Any:
        return lambda *inputs: (calls.append(1), function(*inputs))[1]

    what = training_of("zoo:vision/digits-mlp")
    expected = trained(what, TorchBackend())
    monkeypatch.setattr(torch, "compile", counting)
    losses, state = trained(what, with_options("cpu:compile"))
    assert len(calls) == 3  # the trial, and two steps
    np.testing.assert_allclose(losses, expected[0], rtol=1e-5)
    for name, array in expected[1].items():
        # Adam's first steps are signs of gradients, which rounding turns where they are near zero.
        assert np.mean(np.abs(state[name] - array) > 1e-5) < 0.01, name


@pytest.mark.slow
def test_torch_compile_itself_passes_its_trial(recwarn: pytest.WarningsRecorder) -> None:
    what = training_of("zoo:vision/digits-mlp")
    np.testing.assert_allclose(
        trained(what, TorchBackend(compiled=True))[0], trained(what, TorchBackend())[0], rtol=1e-5
    )
    assert not [w for w in recwarn if "torch.compile is not used" in str(w.message)]
