"""Reverse mode on random graphs, against central differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compiler_samples import Maze
from hypothesis import given, settings
from hypothesis import strategies as st
from trine.compiler.autodiff import differentiable, grad, gradients
from trine.compiler.ir import DType, Graph, Input, IRError, Type, constant, evaluate
from trine.compiler.ops.activations import Relu, Sigmoid
from trine.compiler.ops.elementwise import Cast, Exp, Floor, Mul, Sin, Tanh
from trine.compiler.ops.linalg import Gather, Linear
from trine.compiler.ops.reduce import ArgMax, Sum
from trine.compiler.ops.shape import BroadcastTo, Split, reshape
from trine.compiler.rewrite import legalize

Array = Any
seeds = st.integers(0, 2**32 - 1)
steady = settings(max_examples=40, deadline=None, derandomize=True)
NAMES = ["a", "b", "s", "t"]
STEP = 1e-5


def loss_of(graph: Graph, feeds: dict[str, Array]) -> float:
    return float(evaluate([graph.outputs["loss"]], feeds)[0])


@steady
@given(seeds)
def test_gradient_of_random_graphs(seed: int) -> None:
    maze = Maze(seed)
    derived = grad(maze.graph, "loss", NAMES)
    derived.verify()
    feeds = maze.feeds(seed)
    found = evaluate([derived.outputs[f"dloss/d{name}"] for name in NAMES], feeds)
    rng = np.random.default_rng(seed)
    for name, g in zip(NAMES, found, strict=True):
        assert g.shape == feeds[name].shape
        v = rng.uniform(-1, 1, g.shape)
        up, down = (loss_of(maze.graph, {**feeds, name: feeds[name] + h * v}) for h in (STEP, -STEP))
        # The step squared times third derivatives of up to 1e4, and the rounding of a loss of up to 1e3.
        np.testing.assert_allclose(np.sum(g * v), (up - down) / (2 * STEP), rtol=1e-5, atol=1e-5, err_msg=name)


@steady
@given(seeds)
def test_values_are_kept_by_grad(seed: int) -> None:
    maze = Maze(seed)
    derived = grad(maze.graph, "loss", NAMES)
    keys = list(maze.graph.outputs)
    before = evaluate([maze.graph.outputs[key] for key in keys], maze.feeds())
    after = evaluate([derived.outputs[key] for key in keys], maze.feeds())
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)  # the same arithmetic, decomposed


def hole(*dims: int | str, name: str = "x", dtype: DType = DType.f64) -> Any:
    return Input(name, Type(dims, dtype))()


def gradient(loss: Any, *wrt: Any, feeds: dict[str, Array]) -> list[Array]:
    graph = legalize(Graph("g", wrt, {"loss": loss}), differentiable)
    return evaluate(gradients(graph.outputs["loss"], list(graph.inputs)), feeds)


def total(x: Any) -> Any:
    return reshape(Sum(tuple(range(x.rank)))(x), ())


def test_zero_where_the_loss_does_not_depend_on_an_input() -> None:
    x, y = hole(2), hole(3, name="y")
    found = gradient(total(Exp()(x)), x, y, feeds={"x": np.zeros(2), "y": np.ones(3)})
    np.testing.assert_array_equal(found[0], [1.0, 1.0])
    np.testing.assert_array_equal(found[1], [0.0, 0.0, 0.0])


def test_a_value_read_twice_gets_both_gradients() -> None:
    x = hole(2)
    feeds = {"x": np.array([1.0, 2.0])}
    (found,) = gradient(total(x * x * x), x, feeds=feeds)
    np.testing.assert_allclose(found, [3.0, 12.0])
    (found,) = gradient(total(Mul()(x, x)), x, feeds=feeds)
    np.testing.assert_allclose(found, [2.0, 4.0])


def test_gradients_are_summed_over_broadcast_axes() -> None:
    x, y = hole(3, 1), hole(2, name="y")
    feeds = {"x": np.array([[1.0], [2.0], [3.0]]), "y": np.array([10.0, 20.0])}
    found = gradient(total(x * y), x, y, feeds=feeds)
    np.testing.assert_allclose(found[0], [[30.0]] * 3)
    np.testing.assert_allclose(found[1], [6.0, 6.0])
    (found_x,) = gradient(total(BroadcastTo((4, 3, 5))(x)), x, feeds=feeds)
    np.testing.assert_allclose(found_x, [[20.0]] * 3)


def test_an_output_of_several_that_nothing_reads_has_no_gradient() -> None:
    x = hole(4)
    first, _ = Split(0, (1, 3))(x).items()
    (found,) = gradient(total(first * 2.0), x, feeds={"x": np.arange(4.0)})
    np.testing.assert_array_equal(found, [2.0, 0.0, 0.0, 0.0])


def test_nothing_flows_through_whole_numbers_and_steps() -> None:
    x = hole(3)
    feeds = {"x": np.array([0.5, 2.5, 1.5])}
    (found,) = gradient(total(Floor()(x) + Cast(DType.f64)(ArgMax(0)(x))), x, feeds=feeds)
    np.testing.assert_array_equal(found, np.zeros(3))
    (found,) = gradient(total(Gather(0)(x, Cast(DType.i64)(x))), x, feeds=feeds)
    np.testing.assert_array_equal(found, [1.0, 1.0, 1.0])


def test_repeated_rows_of_a_table_add_up() -> None:
    x = hole(3, 2)
    (found,) = gradient(total(Gather(0)(x, constant(np.array([1, 1, 2])))), x, feeds={"x": np.zeros((3, 2))})
    np.testing.assert_array_equal(found, [[0, 0], [2, 2], [1, 1]])


def test_only_a_scalar_has_gradients() -> None:
    x = hole(2)
    with pytest.raises(IRError, match=r"gradients: f64\[2\] is not a scalar"):
        gradients(x * 2.0, [x])


def test_named_dims_stay_named() -> None:
    x, w = hole("N", "T", 3), hole(2, 3, name="w")
    graph = Graph("g", (x, w), {"loss": total(Tanh()(Linear()(x, w)))})
    derived = grad(graph, "loss", ["x", "w"])
    assert str(derived.outputs["dloss/dx"].type) == "f64[N, T, 3]"
    rng = np.random.default_rng(0)
    for n, t in ((1, 4), (3, 2)):
        feeds = {"x": rng.normal(size=(n, t, 3)), "w": rng.normal(size=(2, 3))}
        (g,) = evaluate([derived.outputs["dloss/dw"]], feeds)
        y = np.tanh(feeds["x"] @ feeds["w"].T)
        np.testing.assert_allclose(g, np.einsum("nto,nti->oi", 1 - y * y, feeds["x"]), rtol=1e-10)


def test_third_derivative() -> None:
    x = hole()
    graph = Graph("g", (x,), {"y": Sin()(x) * x})
    for output in ("y", "dy/dx", "ddy/dx/dx"):
        graph = grad(graph, output, ["x"])
    (found,) = evaluate([graph.outputs["dddy/dx/dx/dx"]], {"x": np.asarray(0.7)})
    np.testing.assert_allclose(found, -3 * np.sin(0.7) - 0.7 * np.cos(0.7), rtol=1e-12)


def test_a_deep_chain_needs_no_recursion() -> None:
    x = hole()
    y = x
    for _ in range(3000):
        y = y * 0.999
    (found,) = gradient(y, x, feeds={"x": np.asarray(1.0)})
    np.testing.assert_allclose(found, 0.999**3000, rtol=1e-9)


def test_composites_with_a_gradient_of_their_own_are_kept() -> None:
    x = hole(3)
    graph = legalize(Graph("g", (x,), {"y": Relu()(Sigmoid()(x))}), differentiable)
    assert [v.op.kind for v in graph.order()] == ["Input", "Sigmoid", "Relu"]
