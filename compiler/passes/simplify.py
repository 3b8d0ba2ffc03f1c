"""Algebra that changes no number: neutral elements, cancelling moves, equal values once."""

from __future__ import annotations

from typing import cast

from ..ir import Graph, Input, Item, Value, scalar_of
from ..ops.elementwise import Add, Cast, Div, Maximum, Minimum, Mul, Neg, Pow, Sub
from ..ops.reduce import Sum
from ..ops.shape import BroadcastTo, Reshape, Transpose, reshape, transpose
from ..rewrite import Replacement, Rule, Uses, mapped, rewrite, rule, with_roots
from ..spec.registry import PASSES
from .pipeline import Model


@PASSES.register
def simplify(model: Model) -> Model:
    """Remove what changes no number: adding zero, multiplying by one, moves that cancel, duplicates.

    Example: simplify
    """
    return Model(merge_equal(rewrite(model.graph, RULES)), model.weights)


def merge_equal(graph: Graph) -> Graph:
    """The graph with structurally equal values made one, wherever in the spec they come from."""
    memo: dict[Value, Replacement] = {v: v for v in graph.inputs}
    known: dict[tuple[object, ...], Replacement] = {}
    for value in graph.order():
        if value in memo:
            continue
        new = mapped(value, memo)
        if isinstance(new, Value) and not isinstance(new.op, Input | Item):
            new = known.setdefault((new.op, new.inputs), new)
        memo[value] = new
    return with_roots(graph, memo)


def _same(old: Value, new: Value) -> Value | None:
    """`new` in the place of `old`, where it has its type."""
    return new if new.type == old.type else None


@rule(Add, Sub)
def drop_zero(v: Value, uses: Uses) -> Value | None:
    """x + 0 -> x;  x - 0 -> x"""
    a, b = v.inputs
    if scalar_of(b) == 0:
        return _same(v, a)
    return _same(v, b) if scalar_of(a) == 0 and isinstance(v.op, Add) else None


@rule(Mul, Div)
def drop_one(v: Value, uses: Uses) -> Value | None:
    """x * 1 -> x;  x / 1 -> x"""
    a, b = v.inputs
    if scalar_of(b) == 1:
        return _same(v, a)
    return _same(v, b) if scalar_of(a) == 1 and isinstance(v.op, Mul) else None


@rule(Neg)
def drop_double_negation(v: Value, uses: Uses) -> Value | None:
    """-(-x) -> x"""
    match v.inputs[0]:
        case Value(Neg(), (x,)):
            return x
    return None


@rule(Add, Sub)
def negation_into_sum(v: Value, uses: Uses) -> Value | None:
    """a + (-b) -> a - b;  a - (-b) -> a + b"""
    a, b = v.inputs
    match b:
        case Value(Neg(), (x,)):
            return Sub()(a, x) if isinstance(v.op, Add) else Add()(a, x)
    return None


@rule(Reshape)
def merge_reshapes(v: Value, uses: Uses) -> Value | None:
    """reshape(reshape(x)) -> reshape(x);  a reshape to the same shape -> x"""
    match v.inputs[0]:
        case Value(Reshape(), (x,)):
            return reshape(x, v.shape)
    return v.inputs[0] if v.inputs[0].shape == v.shape else None


@rule(Transpose)
def merge_transposes(v: Value, uses: Uses) -> Value | None:
    """transpose(transpose(x)) -> transpose(x), or x where they cancel"""
    outer = cast(Transpose, v.op).axes
    match v.inputs[0]:
        case Value(Transpose(axes=inner), (x,)):
            return transpose(x, tuple(inner[a] for a in outer))
    return v.inputs[0] if outer == tuple(range(v.rank)) else None


@rule(Cast)
def drop_cast(v: Value, uses: Uses) -> Value | None:
    """cast(x) -> x, where x has that type"""
    return v.inputs[0] if v.inputs[0].dtype is v.dtype else None


@rule(BroadcastTo)
def drop_broadcast(v: Value, uses: Uses) -> Value | None:
    """broadcast(x) -> x, where x has that shape;  broadcast(broadcast(x)) -> broadcast(x)"""
    x = v.inputs[0]
    if x.shape == v.shape:
        return x
    match x:
        case Value(BroadcastTo(), (inner,)):
            return BroadcastTo(v.shape)(inner)
    return None


@rule(Add, Sub, Mul, Div, Pow, Maximum, Minimum)
def broadcast_into_binary(v: Value, uses: Uses) -> Value | None:
    """broadcast(a) op b -> a op b, where b alone gives the shape (binary ops broadcast themselves)"""
    stripped = tuple(x.inputs[0] if isinstance(x.op, BroadcastTo) else x for x in v.inputs)
    for candidate in (stripped, (stripped[0], v.inputs[1]), (v.inputs[0], stripped[1])):
        if candidate != v.inputs and _broadcasts_to(candidate, v):
            return v.op(*candidate)
    return None


def _broadcasts_to(inputs: tuple[Value, ...], v: Value) -> bool:
    return v.op.type(*(x.type for x in inputs)) == v.type_


@rule(Sum)
def drop_empty_sum(v: Value, uses: Uses) -> Value | None:
    """sum over axes of size one -> x"""
    return v.inputs[0] if v.inputs[0].shape == v.shape else None


RULES: tuple[Rule, ...] = (
    drop_zero, drop_one, drop_double_negation, negation_into_sum, merge_reshapes, merge_transposes,
    drop_cast, drop_broadcast, broadcast_into_binary, drop_empty_sum,
)  # fmt: skip
