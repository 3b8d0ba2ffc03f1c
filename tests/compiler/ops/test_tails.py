"""Numbers at the edge: functions far from zero and near it, classes that cannot be, vectors without a direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from trine.backends.base import load
from trine.compiler.autodiff import gradients
from trine.compiler.ir import DType, Graph, Input, Op, Type, Value
from trine.compiler.ops import activations as act
from trine.compiler.ops import elementwise as e
from trine.compiler.ops.losses import BinaryCrossEntropy, CrossEntropy
from trine.compiler.ops.reduce import Sum
from trine.compiler.ops.shape import reshape
from trine.compiler.rewrite import legalize

torch.set_num_threads(1)

# From where float32 has no subnormal numbers to where exp overflows; and near zero, where what cancels is lost.
X = np.concatenate([np.linspace(-87, 88, 20001), np.linspace(-1e-3, 1e-3, 2001), -np.logspace(-30, 1.9, 2001)])
X = X.astype(np.float32)
SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772

EXACT = {
    act.Sigmoid(): lambda x: 1 / (1 + np.exp(-x)),
    act.Softplus(): lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))),
    act.Elu(): lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    act.Selu(): lambda x: SCALE * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))),
    act.Silu(): lambda x: x / (1 + np.exp(-x)),
    e.Expm1(): np.expm1,
    e.Log1p(): lambda x: np.log1p(np.where(x > -1, x, 0)),
}


def run(backend: str, value: Value, **feeds: np.ndarray) -> np.ndarray:
    holes = [v for v in Graph("g", (), {"y": value}).order() if isinstance(v.op, Input)]
    graph = Graph("g", tuple(holes), {"y": value})
    runner = load(backend)
    return runner.compile(graph, runner.state({}))(feeds)["y"]


def ulps(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.max(np.abs(found.astype(np.float64) - exact) / np.spacing(np.abs(exact.astype(np.float32)))))


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
@pytest.mark.parametrize("op", EXACT, ids=lambda op: op.kind)
def test_functions_are_exact_over_the_whole_range(op: Op, backend: str) -> None:
    """Within four units in the last place. ONNX Runtime's own logistic function is an approximation: to 2e-7 of one."""
    x = Input("x", Type(("N",)))()
    feed = np.where(X > -1, X, 0).astype(np.float32) if isinstance(op, e.Log1p) else X
    exact = EXACT[op](feed.astype(np.float64))
    found = run(backend, op(x), x=feed)
    if backend == "onnx" and isinstance(op, act.Sigmoid | act.Silu):
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=2e-7 * (1 if isinstance(op, act.Sigmoid) else 88))
        return
    assert ulps(found, exact) <= 4


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_the_slope_of_elu_is_not_lost_far_below_zero(backend: str) -> None:
    x = Input("x", Type((4,)))()
    (slope,) = gradients(reshape(Sum((0,))(act.Elu()(x)), ()), [x])
    found = run(backend, slope, x=np.float32([-30, -17, -1, 2]))
    np.testing.assert_allclose(found, [np.exp(-30), np.exp(-17), np.exp(-1), 1], rtol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
def test_a_class_that_cannot_be_costs_nothing(backend: str) -> None:
    logits = np.float32([[0.0, -np.inf, 1.0], [2.0, 1.0, -np.inf]])
    labels = np.array([0, 1])
    x, label = Input("x", Type(("N", 3)))(), Input("label", Type(("N",), DType.i64))()
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels), reduction="none")
    with np.errstate(invalid="ignore"):
        found = run(backend, CrossEntropy()(x, label), x=logits, label=labels)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
def test_what_is_almost_sure_still_has_a_loss(backend: str) -> None:
    z, t = Input("z", Type(("N",)))(), Input("t", Type(("N",)))()
    logits = np.float32([20, -20, 17, 30])
    found = run(backend, BinaryCrossEntropy()(z, t), z=logits, t=np.float32([1, 0, 1, 1]))
    np.testing.assert_allclose(found, np.log1p(np.exp(-np.abs(logits.astype(np.float64)))), rtol=1e-5)


def test_what_expm1_and_log1p_are_made_of() -> None:
    """Where a backend has neither, they are made of exp and log."""
    x = Input("x", Type(("N",)))()
    for op in (e.Expm1(), e.Log1p()):
        graph = legalize(Graph("g", (x,), {"y": op(x)}), lambda v: not isinstance(v.op, e.Expm1 | e.Log1p), "numpy")
        assert {"Exp", "Log"} & {v.op.kind for v in graph.order()}
        feed = np.float32([-0.9, -1e-8, 0, 1e-8, 1e-3, 0.5, 3, 80])
        found = load("numpy").compile(graph, load("numpy").state({}))({"x": feed})["y"]
        assert ulps(found, EXACT[op](feed.astype(np.float64))) <= 4
