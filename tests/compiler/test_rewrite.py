"""Rebuilding graphs: legalization, binding of dims, precision, replacements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compiler_samples import Maze
from hypothesis import given, settings
from hypothesis import strategies as st
from trine.compiler.ir import DType, Graph, Input, IRError, Op, Origin, Type, Value, constant, evaluate, origin
from trine.compiler.ops.activations import Gelu, Relu, Silu
from trine.compiler.ops.elementwise import Exp, Tanh
from trine.compiler.ops.norm import BatchNormTrain
from trine.compiler.ops.reduce import Softmax, Sum, count
from trine.compiler.ops.shape import BroadcastTo, Iota, Reshape
from trine.compiler.rewrite import UnsupportedOp, bind, legalize, rewrite, rule, with_precision

Array = Any
steady = settings(max_examples=40, deadline=None, derandomize=True)


def hole(*dims: int | str, name: str = "x", dtype: DType = DType.f64) -> Value:
    return Input(name, Type(dims, dtype))()


@steady
@given(
    st.integers(0, 2**32 - 1),
    st.sets(st.sampled_from(["Sigmoid", "Silu", "Gelu", "Softplus", "Softmax", "Mean", "Linear"])),
)
def test_legalizing_by_any_set_of_composites_keeps_the_values(seed: int, kept: set[str]) -> None:
    maze = Maze(seed)
    lowered = legalize(maze.graph, lambda v: not v.op.is_composite or v.op.kind in kept)
    lowered.verify()
    assert {v.op.kind for v in lowered.order() if v.op.is_composite} <= kept
    feeds = maze.feeds(seed)
    for a, b in zip(evaluate(maze.graph.roots, feeds), evaluate(lowered.roots, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_legalize_leaves_a_legal_graph_as_it_is() -> None:
    x = hole(2)
    graph = Graph("g", (x,), {"y": Exp()(Tanh()(x))})
    assert legalize(graph, lambda v: True).roots == graph.roots


def test_legalize_of_a_value_with_several_outputs() -> None:
    x, c = hole(4, 2), [hole(2, name=n) for n in "ab"]
    y, mean, var = BatchNormTrain()(x, *c).items()
    graph = Graph("g", (x, *c), {"y": y, "mean": mean, "var": var})
    lowered = legalize(graph, lambda v: not v.op.is_composite)
    feeds = {"x": np.arange(8.0).reshape(4, 2), "a": np.ones(2), "b": np.zeros(2)}
    np.testing.assert_allclose(evaluate([lowered.outputs["mean"]], feeds)[0], [3.0, 4.0])
    np.testing.assert_allclose(evaluate([lowered.outputs["var"]], feeds)[0], [5.0, 5.0])


def test_an_op_that_cannot_be_run_is_named_with_its_place() -> None:
    x = hole(2)
    with origin(Origin("encoder.exp", "net.yaml", 7)):
        y = Exp()(x)
    with pytest.raises(
        UnsupportedOp,
        match=r"^tiny cannot run Exp and it has no decomposition, asked for by step `encoder.exp` at net.yaml:7$",
    ):
        legalize(Graph("g", (x,), {"y": y}), lambda v: False, "tiny")


def test_decompositions_carry_the_origin_of_what_they_replace() -> None:
    x = hole(2)
    with origin(Origin("act", "net.yaml", 3)):
        y = Silu()(x)
    lowered = legalize(Graph("g", (x,), {"y": y}), lambda v: not v.op.is_composite)
    assert {v.origin for v in lowered.order() if not isinstance(v.op, Input)} == {Origin("act", "net.yaml", 3)}


def test_a_decomposition_of_another_type_is_an_error() -> None:
    from trine.compiler.ir import OPS

    class Liar(Op):
        """Says one type and decomposes to another."""

        def type(self, x: Type) -> Type:
            return x

        def decompose(self, x: Value) -> Value:
            return Sum((0,))(x)

    try:
        x = hole(2)
        with pytest.raises(IRError, match=r"Liar decomposes to f64\[1\], not f64\[2\]"):
            legalize(Graph("g", (x,), {"y": Liar()(x)}), lambda v: not v.op.is_composite)
    finally:
        del OPS["Liar"]


def test_a_rule_may_not_change_a_type() -> None:
    @rule(Exp)
    def wrong(v: Value, uses: Any) -> Value:
        return Sum((0,))(v.inputs[0])

    x = hole(2)
    with pytest.raises(IRError, match=r"Exp: the replacement is f64\[1\], not f64\[2\]"):
        rewrite(Graph("g", (x,), {"y": Exp()(x)}), [wrong])


def test_rules_see_how_often_a_value_is_used() -> None:
    seen: dict[str, int] = {}

    @rule(Exp, Tanh, Relu)
    def look(v: Value, uses: Any) -> None:
        seen[v.op.kind] = uses(v.inputs[0])

    x = hole(2)
    e = Exp()(x)
    rewrite(Graph("g", (x,), {"a": Tanh()(e), "b": Relu()(e), "c": e}), [look])
    assert seen["Tanh"] == seen["Relu"] == 3


@pytest.mark.parametrize("n", [1, 4])
def test_bind_replaces_names_everywhere(n: int) -> None:
    x = hole("N", 3)
    line = BroadcastTo(("N", 3))(Iota((1, 3), 1, DType.f64)())
    y = Reshape(("N", 3, 1))(x + line) / count(x, (0,))
    graph = Graph("g", (x,), {"y": y})
    bound = bind(graph, {"N": n, "T": 9})
    bound.verify()
    assert not any(t.names for v in bound.order() for t in v.types)
    feeds = {"x": np.arange(3.0 * n).reshape(n, 3)}
    np.testing.assert_array_equal(evaluate(bound.roots, feeds)[0], evaluate(graph.roots, feeds)[0])
    assert bind(graph, {"T": 9}) is graph


def test_with_precision_changes_every_float32_and_nothing_else() -> None:
    x, i = hole("N", 2, dtype=DType.f32), hole("N", name="i", dtype=DType.i64)
    lr = hole(name="lr", dtype=DType.f64)
    y = Softmax()(Gelu()(x) * 0.1 / count(x, (0,)))
    graph = Graph("g", (x, i, lr), {"y": y, "i": i, "lr": lr})
    wide = with_precision(graph, DType.f64)
    assert [str(v.type) for v in wide.outputs.values()] == ["f64[N, 2]", "i64[N]", "f64[]"]
    assert DType.f32 not in {t.dtype for v in wide.order() for t in v.types}
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 2))
    feeds = {"x": a, "i": np.arange(3), "lr": np.asarray(0.1)}
    narrow = evaluate([graph.outputs["y"]], {**feeds, "x": a.astype(np.float32)})[0]
    np.testing.assert_allclose(evaluate([wide.outputs["y"]], feeds)[0], narrow, rtol=1e-5)  # seven digits


def test_with_precision_keeps_the_number_that_was_meant() -> None:
    x = hole(2, dtype=DType.f32)
    graph = Graph("g", (x,), {"y": x * constant(np.array([0.1, 1e-5]), DType.f32)})
    (found,) = evaluate(with_precision(graph, DType.f64).outputs.values(), {"x": np.ones(2)})
    np.testing.assert_array_equal(found, [0.1, 1e-5])
