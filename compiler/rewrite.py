"""Rebuilding graphs: by a function, by rules, and until every op is one that a backend accepts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import fields, replace
from itertools import chain
from typing import Any, cast

import numpy as np

from .ir import (
    Array,
    Const,
    DType,
    Frozen,
    Graph,
    Input,
    IRError,
    Item,
    Op,
    Type,
    Types,
    Value,
    as_values,
    bind_op,
    input_of,
    order,
    origin,
)
from .structs import Struct

Replacement = Value | tuple[Value, ...]
Uses = Callable[[Value], int]


class UnsupportedOp(IRError):
    """An op that a backend can neither run nor see decomposed."""

    def __init__(self, value: Value, backend: str = "this backend") -> None:
        place = value.origin
        where = f", asked for by step `{place.step}` at {place.file}:{place.line}" if place else ""
        super().__init__(f"{backend} cannot run {value.op.kind} and it has no decomposition{where}")
        self.value = value


def mapped(value: Value, memo: Mapping[Value, Replacement]) -> Replacement:
    """`value` with its inputs looked up in `memo`: itself where they are unchanged."""
    if isinstance(value.op, Item):
        source = memo[value.inputs[0]]
        if source is value.inputs[0]:
            return value
        return source[value.op.index] if isinstance(source, tuple) else value.op(source)
    inputs = tuple([memo[v] for v in value.inputs])
    if inputs == value.inputs:
        return value
    operands = tuple(map(single, inputs))
    kept = all(new.type_ == old.type_ for new, old in zip(operands, value.inputs, strict=True))
    return Value.at(value.origin, value.op, operands, value.type_ if kept else None)


def single(replacement: Replacement) -> Value:
    if isinstance(replacement, tuple):
        raise IRError("a value of several outputs stands where one is expected")
    return replacement


def _types(replacement: Replacement) -> Types:
    return replacement.type_ if isinstance(replacement, Value) else tuple(v.type for v in replacement)


def with_roots(graph: Graph, memo: Mapping[Value, Replacement]) -> Graph:
    """The graph with inputs, outputs and updates looked up in `memo`: itself where they are unchanged."""
    inputs = tuple(single(memo.get(v, v)) for v in graph.inputs)
    outputs = {name: single(memo[v]) for name, v in graph.outputs.items()}
    updates = {name: single(memo[v]) for name, v in graph.updates.items()}
    same = inputs == graph.inputs and outputs == graph.outputs and updates == graph.updates
    return graph if same else Graph(graph.name, inputs, outputs, updates)


def rebuild(graph: Graph, change: Callable[[Value], Replacement | None]) -> Graph:
    """The graph with each value, its inputs already rebuilt, replaced by what `change` returns.

    `None` leaves a value as it is. A replacement may not change a value's type.
    """
    memo: dict[Value, Replacement] = {v: v for v in graph.inputs}
    for value in graph.order():
        new = mapped(value, memo)
        memo[value] = _changed(new, change) if isinstance(new, Value) else new
    return with_roots(graph, memo)


def _changed(value: Value, change: Callable[[Value], Replacement | None]) -> Replacement:
    with origin(value.origin):
        replacement = change(value)
    if replacement is None:
        return value
    if _types(replacement) != value.type_:
        raise IRError(f"{value.op.kind}: the replacement is {_types(replacement)}, not {value.type_}")
    return replacement


class Rule(Struct):
    """A local rewrite of values whose op is one of `heads`."""

    heads: tuple[type[Op], ...]
    apply: Callable[[Value, Uses], Value | None]

    @property
    def name(self) -> str:
        return self.apply.__name__


def rule(*heads: type[Op]) -> Callable[[Callable[[Value, Uses], Value | None]], Rule]:
    """Declare a rewrite: a function from a value to its replacement, or to `None`.

    Its second argument tells how often a value is used: what a rule swallows must have one use.
    """
    return lambda function: Rule(heads, function)


def rewrite(graph: Graph, rules: Iterable[Rule], sweeps: int = 50) -> Graph:
    """Apply rules everywhere until none of them changes anything (at most `sweeps` times)."""
    table: dict[type[Op], list[Rule]] = {}
    for each in rules:
        for head in each.heads:
            table.setdefault(head, []).append(each)
    settled: set[Value] = set()
    for _ in range(sweeps):
        new = _sweep(graph, table, settled)
        if new is graph:
            return graph
        graph = new
    raise IRError(f"rules still change graph {graph.name} after {sweeps} sweeps")


def _sweep(graph: Graph, table: Mapping[type[Op], list[Rule]], settled: set[Value]) -> Graph:
    """Apply rules to every value once, but for those in `settled`, and add to them those that no rule changes.

    A value is not settled where a rule asked for numbers of uses, which may be others in the next sweep.
    """
    values = graph.order()
    if not any(type(v.op) in table and v not in settled for v in values):
        return graph
    counts = Counter(chain(graph.roots, *(v.inputs for v in values)))
    memo: dict[Value, Replacement] = {v: v for v in graph.inputs}
    uses: dict[Value, int] = {}
    asked: list[Value] = []

    def used(value: Value) -> int:
        asked.append(value)
        return uses.get(value, 0)

    def change(value: Value) -> Value | None:
        asked.clear()
        for each in table[type(value.op)]:
            replacement = each.apply(value, used)
            if replacement is not None and replacement is not value:
                return replacement
        if not asked:
            settled.add(value)
        return None

    for value in values:
        new = mapped(value, memo)
        if isinstance(new, Value) and type(new.op) in table and new not in settled:
            new = _changed(new, change)
        memo[value] = new
        for v in as_values(new):
            uses[v] = uses.get(v, 0) + counts[value]
    return with_roots(graph, memo)


def legalize(graph: Graph, keep: Callable[[Value], bool], backend: str = "this backend") -> Graph:
    """Replace every value that `keep` rejects by its decomposition, down to what it accepts.

    Inputs and items are always kept. Raises `UnsupportedOp` for what is neither kept nor composite.
    """
    memo: dict[Value, Replacement] = {v: v for v in graph.inputs}

    def lower(value: Value) -> Replacement:
        if isinstance(value.op, Input) or keep(value):
            return value
        if not value.op.is_composite:
            raise UnsupportedOp(value, backend)
        with origin(value.origin):
            result = value.op.decompose(*value.inputs)
        if _types(result) != value.type_:
            raise IRError(f"{value.op.kind} decomposes to {_types(result)}, not {value.type_}")
        memo.update((v, v) for v in value.inputs)
        visit(as_values(result))
        return single(memo[result]) if isinstance(result, Value) else tuple(single(memo[v]) for v in result)

    def visit(roots: Iterable[Value]) -> None:
        for value in order(roots, memo):
            new = mapped(value, memo)
            memo[value] = new if isinstance(value.op, Item) or isinstance(new, tuple) else lower(new)

    visit(graph.roots)
    return with_roots(graph, memo)


def bind(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """The graph with the named dims in `sizes` replaced by numbers, and its types inferred anew."""
    if not sizes or not graph.names & sizes.keys():
        return graph
    return retype(graph, lambda op: bind_op(op, sizes))


def retype(graph: Graph, change: Callable[[Op], Op]) -> Graph:
    """The graph with every op replaced by `change(op)`, types inferred anew."""
    memo: dict[Value, Value] = {}
    for value in (*graph.inputs, *graph.order()):
        if value not in memo:
            with origin(value.origin):
                memo[value] = change(value.op)(*[memo[v] for v in value.inputs])
    return with_roots(graph, memo)


def with_precision(graph: Graph, dtype: DType) -> Graph:
    """The graph with every float32 number in `dtype` instead; float64 scalars stay as they are."""

    def change(op: Op) -> Op:
        if isinstance(op, Const) and op.value.array.dtype == np.float32:
            return Const(Frozen(_converted(op.value.array, dtype)))
        changes = {f.name: new for f in fields(cast(Any, op)) if (new := _cast(getattr(op, f.name), dtype)) is not None}
        return cast(Op, replace(cast(Any, op), **changes)) if changes else op

    return retype(graph, change)


def _converted(array: Array, dtype: DType) -> Array:
    """A float32 constant in `dtype`. To float64 the shortest decimal is what was meant: 0.1 stays 0.1."""
    if dtype is DType.f64 and array.size <= 1024:
        return np.array([float(str(number)) for number in array.reshape(-1)]).reshape(array.shape)
    return array.astype(dtype.numpy)


def _cast(attribute: object, dtype: DType) -> object | None:
    if isinstance(attribute, Type) and attribute.dtype is DType.f32:
        return attribute.with_dtype(dtype)
    return dtype if isinstance(attribute, DType) and attribute is DType.f32 else None


def independent(graph: Graph, varying: Container[str]) -> list[Value]:
    """What can be computed before: the last values that depend on data, not on the inputs `varying` nor on state."""
    changing: set[Value] = set()
    fed: set[Value] = set()
    for v in graph.order():
        if isinstance(v.op, Input):
            changing |= {v} if v.op.name in varying or v.op.name in graph.updates else set()
            fed |= {v} if v.op.role == "data" and v.op.name not in varying else set()
            continue
        changing |= {v} if any(x in changing for x in v.inputs) else set()
        fed |= {v} if any(x in fed for x in v.inputs) else set()
    read = set(graph.roots).union(*(v.inputs for v in changing))
    return [v for v in graph.order() if v in fed and v in read and v not in changing]


def replaced(graph: Graph, known: Mapping[Value, Value]) -> Graph:
    """The graph with inputs in the place of some of its values."""
    memo: dict[Value, Replacement] = {**{v: v for v in graph.inputs}, **known}
    for v in order(graph.roots, memo):
        memo[v] = v if isinstance(v.op, Input | Const) else mapped(v, memo)
    found = with_roots(graph, memo)
    return Graph(graph.name, (*found.inputs, *known.values()), found.outputs, found.updates)


def computed_before(graph: Graph, names: Collection[str], prefix: str) -> tuple[Graph, Graph]:
    """The graph in two: what depends on the inputs `names` alone, and the rest, which reads it as `prefix0`, …"""
    others = {input_of(v).name for v in graph.by_role("data")} - set(names)
    edge = independent(graph, others)
    parts = {v: Input(f"{prefix}{i}", v.type)() for i, v in enumerate(edge)}
    before = graph.with_outputs({input_of(part).name: v for v, part in parts.items()}, {}).prune_inputs()
    return before, replaced(graph, parts).prune_inputs()
