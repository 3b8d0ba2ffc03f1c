"""The exported file: the same numbers without trine, the same bytes each time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trine.compiler.training  # noqa: F401 (registers layers, losses, optimizers)
from trine.backends.numpy import BACKEND
from trine.backends.numpy.export import ORDER, module_source
from trine.compiler.build import build
from trine.compiler.initialisers import initialise
from trine.compiler.ir import DType, Graph, Input, Type, Value, constant, evaluate, input_of
from trine.compiler.ops.activations import Gelu
from trine.compiler.ops.conv import AvgPool, Conv, MaxPool
from trine.compiler.ops.elementwise import Exp
from trine.compiler.ops.linalg import Gather, Linear, ScatterAdd
from trine.compiler.ops.reduce import Mean, OneHot
from trine.compiler.ops.shape import Flip
from trine.compiler.passes import Model, for_inference
from trine.compiler.spec.reader import read_string

Array = Any
CLOSE = {"rtol": 1e-6, "atol": 1e-6}  # float32, the same kernels, other sizes of matrix products

# Isolated, and `trine` and the compiled code's usual friends are refused.
RUNNER = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("trine", "torch", "scipy", "yaml"):
            raise ImportError(f"{name} is refused")

sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_file(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    """Run an exported file as a program, in a process of its own."""
    inputs, outputs = path.with_suffix(".in.npz"), path.with_suffix(".out.npz")
    np.savez(inputs, **feeds)
    command = [sys.executable, "-I", "-W", "error", "-c", RUNNER, str(path), str(inputs), str(outputs)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(outputs, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def check_export(model: Model, path: Path, batches: list[dict[str, Array]]) -> str:
    BACKEND.export(model, path, {"made from": "a test"})
    for feeds in batches:
        found = run_file(path, feeds)
        expected = evaluate(model.graph.outputs.values(), dict(model.weights) | feeds)
        assert found.keys() == model.graph.outputs.keys()
        for name, array in zip(model.graph.outputs, expected, strict=True):
            assert found[name].dtype == array.dtype
            np.testing.assert_allclose(found[name], array, **CLOSE, err_msg=name)
    return path.read_text()


def from_spec(inputs: str, layers: str) -> Model:
    graph = build(read_string(f"spec: 1\nmodel: {{inputs: {{{inputs}}}, layers: {layers}}}\n"), "infer").graph
    weights = {input_of(v).name: initialise(v, 0) for v in graph.by_role("param", "buffer")}
    return for_inference(Model(graph, weights))[0]


def batches(sizes: tuple[int, ...], *dims: int) -> list[dict[str, Array]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(size=(n, *dims)).astype(np.float32)} for n in sizes]


SPECS = {
    "mlp": ("x: 'float[6]'", "[{linear: 8}, batch_norm, gelu, {dropout: 0.5}, {linear: 3}, softmax]", (6,)),
    "cnn": (
        "x: 'float[2, 7, 6]'",
        "[{conv: {filters: 4}}, batch_norm, relu, {max_pool: 2}, {conv: {filters: 4, groups: 4}},"
        " {avg_pool: {kernel: 3, stride: 1, padding: same}}, {conv: {filters: 6, groups: 2}}, global_avg_pool, {linear: 2}]",  # noqa: E501
        (2, 7, 6),
    ),
    "volume": ("x: 'float[1, 4, 4, 4]'", "[{conv: {filters: 2, stride: 2}}, mish, flatten, {linear: 2}]", (1, 4, 4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPECS)
def test_exported_file_gives_the_same_without_trine(kind: str, tmp_path: Path) -> None:
    inputs, layers, dims = SPECS[kind]
    source = check_export(from_spec(inputs, layers), tmp_path / "model.py", batches((1, 4), *dims))
    for word in ("import trine", "from trine", "eval(", "exec(", "import pickle", "allow_pickle=True"):
        assert word not in source
    compile(source, "model.py", "exec", dont_inherit=True)


def test_named_axes_are_read_off_the_inputs(tmp_path: Path) -> None:
    layers = (
        "[{conv: {filters: 4}}, {avg_pool: {kernel: 3, stride: 1, padding: same}},"
        " {max_pool: {kernel: 3, stride: 1, padding: same}}, layer_norm, {mean: {over: T}}, {linear: 2}]"
    )
    model = from_spec("x: 'float[T, 3]'", layers)
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(size=(n, t, 3)).astype(np.float32)} for n, t in ((2, 5), (1, 9))]
    check_export(model, tmp_path / "model.py", feeds)


def hole(*dims: int | str, name: str = "x", role: Any = "data", dtype: DType = DType.f32) -> Value:
    return Input(name, Type(dims, dtype), role)()


def test_every_kernel_stands_alone(tmp_path: Path) -> None:
    x, i, w = hole("N", 2, 6), hole("N", name="i", dtype=DType.i64), hole(3, 2, 3, name="w", role="param")
    y = Conv((1,), ((1, 1),), (1,))(x, w)
    outputs = {
        "conv": y,
        "pools": MaxPool((2,), (2,), ((1, 1),))(y) + AvgPool((2,), (2,), ((1, 1),), False)(y),
        "gelu": Gelu()(x),
        "rows": ScatterAdd(0, (4,))(Gather(0)(constant(np.arange(40.0).reshape(4, 10), DType.f32), i), i),
        "hot": OneHot(4)(i),
        "constant": constant(np.arange(3.0), DType.f32),
        "scalar": constant(2.5, DType.f32),
        "flip": Flip(1)(constant(np.arange(30.0).reshape(5, 6), DType.f32)),
        "mean": Mean((0,))(x),
    }
    rng = np.random.default_rng(0)
    model = Model(Graph("g", (x, i, w), outputs), {"w": rng.normal(size=(3, 2, 3)).astype(np.float32)})
    feeds = [{"x": rng.normal(size=(n, 2, 6)).astype(np.float32), "i": rng.integers(0, 4, n)} for n in (1, 3)]
    check_export(model, tmp_path / "model.py", feeds)


def test_gradients_can_be_exported(tmp_path: Path) -> None:
    from trine.compiler.autodiff import grad
    from trine.compiler.ops.reduce import Sum
    from trine.compiler.ops.shape import reshape

    x, w = hole("N", 2, 5, 6), hole(4, 2, 3, 2, name="w", role="param")
    y = MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)))(Conv((2, 1), ((1, 0), (0, 1)), (1, 1))(x, w))
    y = AvgPool((1, 2), (1, 1), ((0, 0), (1, 0)), False)(y)
    loss = reshape(Sum((0, 1, 2, 3))(Exp()(y * 0.1)), ())
    graph = grad(Graph("g", (x, w), {"loss": loss}), "loss", ["x", "w"])
    model = Model(graph, {"w": np.random.default_rng(1).normal(size=(4, 2, 3, 2)).astype(np.float32)})
    source = check_export(model, tmp_path / "model.py", batches((1, 3), 2, 5, 6))
    assert all(f"def {name}(" in source for name in ORDER if name.startswith("conv"))


@pytest.mark.parametrize(
    "name", ["check", "w", "np", "N", "class", "weights", "main", "run", "sys", "größe", "INPUTS", "conv"]
)
@pytest.mark.parametrize("dim", ["N", "w", "np", "x"])
def test_inputs_and_axes_may_have_any_name(name: str, dim: str, tmp_path: Path) -> None:
    x, weight = hole(dim, 3, name=name), hole(2, 3, name="layer.weight", role="param")
    y = Linear()(x, weight)
    model = Model(
        Graph("net", (x, weight), {"y": y / 2.0, "mean": Mean((0,))(y)}), {"layer.weight": np.ones((2, 3), np.float32)}
    )
    namespace: dict[str, Any] = {"__name__": "model"}
    exec(module_source(model, {}), namespace)  # in this process: forty of these would take a minute
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = namespace["predict"](**{namespace["INPUTS"][name]: a})
    np.testing.assert_allclose(found["y"], np.repeat(a.sum(1, keepdims=True), 2, 1) / 2, **CLOSE)
    np.testing.assert_allclose(found["mean"], [[7.5, 7.5]], **CLOSE)


def test_wrong_inputs_are_refused() -> None:
    model = from_spec("x: 'float[6]'", "[{linear: 2}]")
    namespace: dict[str, Any] = {"__name__": "model"}
    exec(module_source(model, {}), namespace)
    with pytest.raises(ValueError, match=r"x: expected an array of shape \(None, 6\), got \(2, 5\)"):
        namespace["predict"](np.zeros((2, 5)))


def test_two_exports_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = from_spec(*SPECS["mlp"][:2])
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    BACKEND.export(model, a, {"version": "1"})
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400 * 400)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(now + 86_400 * 400))
    shuffled = Model(model.graph, dict(reversed(list(model.weights.items()))))
    BACKEND.export(shuffled, b, {"version": "1"})
    assert a.read_bytes() == b.read_bytes()


def test_words_from_outside_stay_words(tmp_path: Path) -> None:
    x = hole("N", 2)
    model = Model(Graph('""" + name', (x,), {'out"""put\\': x * 2.0}))
    notes = {"note": 'a """ quote and a \\ backslash', '"""': "import os"}
    source = module_source(model, notes)
    namespace: dict[str, Any] = {"__name__": "model"}
    exec(source, namespace)
    assert "os" not in namespace
    (found,) = namespace["predict"](np.ones((1, 2))).values()
    np.testing.assert_array_equal(found, [[2.0, 2.0]])
