"""Types, hash-consing, immutability, verification, and what ill-typed applications say."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from trine.compiler.ir import (
    OPS,
    Const,
    DType,
    Frozen,
    Graph,
    Input,
    IRError,
    Item,
    Origin,
    Type,
    Value,
    bind_op,
    constant,
    evaluate,
    input_of,
    measure,
    order,
    origin,
    scalar_of,
)
from trine.compiler.ops import activations, conv, elementwise, linalg, losses, norm, optim, reduce, shape

Array = Any


def hole(text: str, name: str = "x") -> Value:
    return Input(name, Type.parse(text))()


# -- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["f32[]", "f64[N, 3, 32]", "i64[N, T]", "bool[0]", "u8[1]"])
def test_types_come_back_from_text(text: str) -> None:
    assert str(Type.parse(text)) == text


@pytest.mark.parametrize("text", ["f32", "f31[2]", "f32[2", "[2]"])
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(IRError, match="not a"):
        Type.parse(text)


def test_sizes_of_types() -> None:
    t = Type.parse("f32[N, 3, T]")
    assert t.names == {"N", "T"}
    assert t.numel() == 3
    assert t.numel({"N": 2, "T": 5}) == 30
    assert t.nbytes({"N": 2}) == 24
    assert str(t.bind({"T": 5})) == "f32[N, 3, 5]"


def test_dtypes_are_those_of_numpy() -> None:
    for dtype in DType:
        assert DType.of(np.zeros(2, dtype.numpy)) is dtype
    with pytest.raises(IRError, match="arrays of dtype complex128 have no place in a graph"):
        DType.of(np.zeros(2, complex))


def test_measure() -> None:
    assert measure("x", Type.parse("f32[N, 3, N]"), (4, 3, 4)) == {"N": 4}
    for dims in ((4, 3), (4, 2, 4), (4, 3, 5)):
        with pytest.raises(IRError, match=r"x: expected f32\[N, 3, N\], got an array of shape"):
            measure("x", Type.parse("f32[N, 3, N]"), dims)


# -- ill-typed applications ----------------------------------------------------------------------

X = "f32[2, 3]"
CONV = conv.Conv((1, 1), ((0, 0), (0, 0)), (1, 1))
ILL_TYPED: list[tuple[Any, list[str], str]] = [
    (elementwise.Exp(), ["i64[2]"], "Exp: expected floating point numbers, got i64[2]"),
    (elementwise.Add(), [X, "f32[2]"], "Add: f32[2, 3] and f32[2] do not broadcast: 3 against 2"),
    (elementwise.Add(), ["f32[N]", "f32[3]"], "Add: f32[N] and f32[3] do not broadcast: N against 3"),
    (elementwise.Mul(), [X, "f64[2, 3]"], "Mul: f32[2, 3] and f64[2, 3] differ in element type"),
    (elementwise.Sub(), ["bool[2]", "bool[2]"], "Sub: expected numbers, got bool[2] and bool[2]"),
    (elementwise.Div(), ["i64[2]", "i64[2]"], "Div: expected floating point numbers, got i64[2]"),
    (elementwise.And(), [X, "bool[3]"], "And: expected booleans, got f32[2, 3] and bool[3]"),
    (elementwise.Not(), [X], "Not: expected booleans, got f32[2, 3]"),
    (elementwise.Where(), [X, X, X], "Where: the condition is f32[2, 3], expected booleans"),
    (elementwise.Where(), ["bool[2, 3]", X, "f64[]"], "Where: f32[2, 3] and f64[] differ in element type"),
    (activations.Relu(), ["i32[3]"], "Relu: expected floating point numbers, got i32[3]"),
    (shape.Reshape((7,)), [X], "Reshape: f32[2, 3] does not fit f32[7]"),
    (shape.Reshape((6,)), ["f32[N, 6]"], "Reshape: f32[N, 6] does not fit f32[6]"),
    (shape.Transpose((0, 0)), [X], "Transpose: (0, 0) is no order of the axes of f32[2, 3]"),
    (shape.BroadcastTo((2, 4)), [X], "BroadcastTo: f32[2, 3] and f32[2, 4] do not broadcast: 3 against 4"),
    (shape.BroadcastTo((2, 1)), [X], "BroadcastTo: f32[2, 3] does not fill f32[2, 1]"),
    (shape.Slice((None,)), [X], "Slice: 1 bounds for f32[2, 3]"),
    (shape.Slice((None, (1, 4))), [X], "Slice: 1:4 is outside axis 3 of f32[2, 3]"),
    (shape.Pad(((0, 0),)), [X], "Pad: 1 pads for f32[2, 3]"),
    (shape.Pad(((1, 0),)), ["f32[N]"], "Pad: cannot pad axis N of f32[N] by (1, 0)"),
    (shape.Concat(0), [X, "f32[2, 4]"], "Concat: f32[2, 3] and f32[2, 4] differ outside axis 0"),
    (shape.Concat(0), [X, "f64[2, 3]"], "Concat: f32[2, 3] and f64[2, 3] differ in element type"),
    (shape.Concat(0), ["f32[N, 2]", "f32[N, 2]"], "Concat: axis 0 of f32[N, 2] has no fixed size"),
    (shape.Split(1, (1, 1)), [X], "Split: sizes (1, 1) do not add up to axis 1 of f32[2, 3]"),
    (shape.Flip(2), [X], "Flip: f32[2, 3] has no axis 2"),
    (reduce.Sum((2,)), [X], "Sum: f32[2, 3] has no axis 2"),
    (reduce.Sum((1, -1)), [X], "Sum: (1, -1) names an axis of f32[2, 3] twice"),
    (reduce.Sum((0,)), ["bool[2]"], "Sum: expected numbers, got bool[2]"),
    (reduce.Mean((0,)), ["i64[2]"], "Mean: expected floating point numbers, got i64[2]"),
    (reduce.Softmax(3), [X], "Softmax: f32[2, 3] has no axis 3"),
    (reduce.OneHot(3), [X], "OneHot: the index is f32[2, 3], expected whole numbers"),
    (linalg.MatMul(), [X, X], "MatMul: f32[2, 3] has 3 columns, f32[2, 3] has 2 rows"),
    (linalg.MatMul(), [X, "f32[3]"], "MatMul: f32[2, 3] and f32[3] are not matrices of one element type"),
    (linalg.Linear(), [X, "f32[4, 5]"], "Linear: input f32[2, 3] has 3 features, weight f32[4, 5] expects 5"),
    (linalg.Linear(), [X, "f32[4, 3]", "f32[3]"], "Linear: bias f32[3] does not fit weight f32[4, 3]"),
    (linalg.Linear(), [X, "f32[4, 3]", "f64[4]"], "Linear: bias f64[4] does not fit weight f32[4, 3]"),
    (linalg.LinearWeightGrad(), [X, "f32[3, 3]"], "LinearWeightGrad: f32[2, 3] and f32[3, 3] differ outside their last axis"),  # noqa: E501
    (linalg.Gather(0), [X, "f32[2]"], "Gather: the index is f32[2], expected whole numbers"),
    (linalg.ScatterAdd(0, (5,)), [X, "i64[3]"], "ScatterAdd: f32[2, 3] lacks the axes of i64[3] at 0"),
    (CONV, ["f32[N, 3, 32, 32]", "f32[16, 4, 3, 3]"], "conv: input f32[N, 3, 32, 32] has 3 channels, weight f32[16, 4, 3, 3] expects 4"),  # noqa: E501
    (CONV, [X, "f32[16, 4, 3, 3]"], "conv: input f32[2, 3] and weight f32[16, 4, 3, 3] are not for 2 axes"),
    (CONV, ["f32[1, 1, 2, 9]", "f32[1, 1, 3, 3]"], "conv: a window of 3 does not fit axis 2 of f32[1, 1, 2, 9] padded by 0"),  # noqa: E501
    (CONV, ["f32[1, 1, T, 9]", "f32[1, 1, 3, 3]"], "conv: axis T of f32[1, 1, T, 9] has no fixed size: only stride 1 with `same` padding keeps it"),  # noqa: E501
    (CONV, ["f32[1, 1, 9, 9]", "f64[1, 1, 3, 3]"], "conv: input f32[1, 1, 9, 9] and weight f64[1, 1, 3, 3] differ in element type"),  # noqa: E501
    (CONV, ["f32[1, 1, 9, 9]", "f32[2, 1, 3, 3]", "f32[3]"], "conv: bias f32[3] does not fit weight f32[2, 1, 3, 3]"),
    (conv.Conv((1,), ((0, 0),), (1,), 2), ["f32[1, 2, 9]", "f32[3, 1, 3]"], "conv: 3 filters do not divide into 2 groups"),  # noqa: E501
    (conv.MaxPool((2,), (2,), ((2, 0),)), ["f32[1, 2, 9]"], "max_pool: padding ((2, 0),) leaves windows (2,) with nothing in them"),  # noqa: E501
    (conv.AvgPool((2, 2), (2, 2), ((0, 0), (0, 0))), [X], "avg_pool: f32[2, 3] has fewer than 2 axes to pool"),
    (losses.SquaredError(), [X, "f32[2]"], "SquaredError: prediction f32[2, 3] and target f32[2] differ"),
    (losses.CrossEntropy(), [X, "i64[3]"], "cross_entropy: logits f32[2, 3] and labels i64[3] differ outside the classes"),  # noqa: E501
    (losses.CrossEntropy(), [X, "f32[2]"], "cross_entropy: labels are f32[2], expected whole numbers"),
    (norm.BatchNormTrain(), [X, "f32[2]", "f32[3]"], "BatchNormTrain: f32[2] does not fit the channels of f32[2, 3]"),
    (norm.LayerNorm(), [X, "f32[2]", "f32[3]"], "LayerNorm: f32[2] does not fit the last axis of f32[2, 3]"),
    (norm.RmsNorm(), [X, "f64[3]"], "RmsNorm: f64[3] does not fit the last axis of f32[2, 3]"),
    (norm.Dropout(0.5), [X, "f32[3]"], "Dropout: random numbers f32[3] do not fit f32[2, 3]"),
    (optim.Sgd(), [X, X, "f32[]", "f64[]"], "Sgd: learning rate f32[] and step f64[] are not f64[]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "types", "message"), ILL_TYPED, ids=[f"{i}-{c[0].kind}" for i, c in enumerate(ILL_TYPED)]
)
def test_ill_typed_application(op: Any, types: list[str], message: str) -> None:
    with pytest.raises(IRError) as caught:
        op(*(hole(t, f"x{i}") for i, t in enumerate(types)))
    assert str(caught.value) == message


# -- values --------------------------------------------------------------------------------------


def test_equal_values_are_one_object() -> None:
    a, b = (elementwise.Exp()(hole(X) + 1.0) for _ in range(2))
    assert a is b
    assert a is not elementwise.Exp()(hole(X, "other") + 1.0)
    assert constant(0.0) is not constant(-0.0)
    assert constant(1.0, DType.f32) is not constant(1.0, DType.f64)


def test_values_from_different_places_are_different() -> None:
    x = hole(X)
    with origin(Origin("one")):
        a = elementwise.Exp()(x)
    with origin(Origin("two")):
        b = elementwise.Exp()(x)
        (part,) = shape.Split(0, (2,))(x).items()
    assert a is not b
    assert (a.origin, b.origin) == (Origin("one"), Origin("two"))
    assert Item(0)(part.inputs[0]) is part
    assert elementwise.Exp()(x).origin is None


def test_values_that_nothing_holds_are_forgotten() -> None:
    x = hole("f32[2, 3, 4]", "lonely")
    before = len(Value._interned)
    for i in range(100):
        x * float(i)
    gc.collect()
    assert len(Value._interned) <= before


def test_values_and_ops_cannot_change() -> None:
    v = hole(X) + 1.0
    with pytest.raises(AttributeError):
        v.op = elementwise.Sub()
    with pytest.raises(AttributeError):
        v.anything = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        reduce.Sum((0,)).axes = (1,)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Graph("g", (), {}).name = "h"  # type: ignore[misc]


@pytest.mark.parametrize("count", [3, 3000])
def test_constants_do_not_follow_the_array_they_were_made_of(count: int) -> None:
    array = np.zeros(count)
    value = constant(array)
    array[0] = 1.0
    (found,) = evaluate([value], {})
    assert found[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 2.0


def test_large_constants_are_compared_by_identity_small_ones_by_value() -> None:
    small, large = np.zeros(4), np.zeros(4000)
    assert Frozen(small) == Frozen(small.copy())
    assert Frozen(large) != Frozen(large)
    frozen = Frozen(large)
    assert Const(frozen)() is Const(frozen)()


def test_ops_compare_by_kind_and_attributes() -> None:
    assert reduce.Sum((0,)) == reduce.Sum((0,))
    assert reduce.Sum((0,)) != reduce.Sum((1,))
    assert reduce.Sum((0,)) != reduce.Mean((0,))
    assert len({elementwise.Exp(), elementwise.Exp(), elementwise.Log()}) == 2
    assert repr(reduce.Sum((0,))) == "Sum(axes=(0,))"


def test_one_of_several_outputs_must_be_taken() -> None:
    parts = shape.Split(0, (1, 1))(hole(X))
    with pytest.raises(IRError, match="Split has 2 outputs: take one by Item"):
        elementwise.Exp()(parts)
    with pytest.raises(IRError, match="Item: output 2 of a value that has 2"):
        Item(2)(parts)
    assert [str(v.type) for v in parts] == ["f32[1, 3]", "f32[1, 3]"]


def test_operators_build_ops() -> None:
    x = hole("f64[2]")
    feeds = {"x": np.array([2.0, 4.0])}
    made: list[tuple[Value, Callable[[Array], Array]]] = [
        (x + 1.0, lambda a: a + 1), (1.0 + x, lambda a: 1 + a), (x - 1.0, lambda a: a - 1), (1.0 - x, lambda a: 1 - a),
        (x * 3.0, lambda a: a * 3), (3.0 * x, lambda a: 3 * a), (x / 2.0, lambda a: a / 2), (2.0 / x, lambda a: 2 / a),
        (x**2.0, lambda a: a**2), (2.0**x, lambda a: 2**a), (-x, lambda a: -a),
    ]  # fmt: skip
    for value, expected in made:
        np.testing.assert_array_equal(evaluate([value], feeds)[0], expected(feeds["x"]))


def test_scalar_of() -> None:
    assert scalar_of(constant(2.5)) == 2.5
    assert scalar_of(constant(np.array([[3.0]]))) == 3.0
    assert scalar_of(constant(np.array([1.0, 1.0]))) is None
    assert scalar_of(hole("f32[]")) is None


def test_order_puts_inputs_before_users_and_stops_at_what_is_known() -> None:
    x = hole(X)
    a = elementwise.Exp()(x)
    b = elementwise.Log()(a)
    c = a + b
    assert order([c, b]) == [x, a, b, c]
    assert order([c], {a}) == [b, c]


def test_bind_op_changes_only_named_dims() -> None:
    assert bind_op(shape.Reshape(("N", 4)), {"N": 3}) == shape.Reshape((3, 4))
    assert bind_op(shape.Size("T"), {"T": 3}) == shape.Size(3)
    op = reduce.Sum((0,))
    assert bind_op(op, {"N": 3}) is op


# -- graphs ----------------------------------------------------------------------------------------


def test_evaluation_wants_sizes_that_agree() -> None:
    x, y = hole("f64[N]"), hole("f64[N, 2]", "y")
    total = reduce.Sum((0,))(x) + reduce.Sum((0, 1))(y)
    with pytest.raises(IRError, match="N is 4 here and 3 elsewhere"):
        evaluate([total], {"x": np.zeros(3), "y": np.zeros((4, 2))})


def test_verify() -> None:
    x, y, twin = hole("f32[2]"), hole("f32[2]", "y"), hole("f32[3]")
    Graph("g", (x, y), {"a": x + y}, {"x": y}).verify()
    broken = {
        "graph g: two inputs share a name": Graph("g", (x, twin), {"a": x}),
        "graph g: reads y, which is not its input": Graph("g", (x,), {"a": x + y}),
        "graph g: reads x, which is not its input": Graph("g", (twin,), {"a": x}),
        "graph g: updates y, which is not its input": Graph("g", (x,), {"a": x}, {"y": x}),
        "graph g: the update of x is f32[3], the input is f32[2]": Graph("g", (x,), {}, {"x": constant(np.zeros(3), DType.f32)}),  # noqa: E501
    }  # fmt: skip
    for message, graph in broken.items():
        with pytest.raises(IRError) as caught:
            graph.verify()
        assert str(caught.value) == message


def test_inputs_that_nothing_reads_are_pruned() -> None:
    names = ["used", "kept", "state", "idle"]
    used, kept, state, idle = (hole("f32[2]", name) for name in names)
    graph = Graph("g", (used, kept, state, idle), {"a": used * 2.0}, {"state": used})
    assert [input_of(v).name for v in graph.prune_inputs(["kept"]).inputs] == ["used", "kept", "state"]


def test_looking_up_inputs() -> None:
    x = hole("f32[N]")
    w = Input("w", Type((2,)), "param")()
    graph = Graph("g", (x, w), {"x": x})
    assert graph.input("w") is w
    assert graph.by_role("param") == [w]
    assert graph.names == {"N"}
    with pytest.raises(KeyError):
        graph.input("v")
    with pytest.raises(IRError, match="is not an input"):
        input_of(x * 2.0)


def test_every_op_is_registered_under_its_name() -> None:
    assert all(op.__name__ == name for name, op in OPS.items())
