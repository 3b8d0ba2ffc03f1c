"""Training within a budget of memory: some of what the backward pass reads is computed again instead of being kept.

Chen, Xu, Zhang & Guestrin, 2016, "Training deep nets with sublinear memory cost". What to keep, of what may be computed
again, is a minimum cut between what may not and what the backward pass reads.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ..ir import Const, Graph, Input, Item, Value, order, origin
from ..ops.attention import Attention
from ..ops.conv import Conv
from ..ops.elementwise import Add
from ..ops.linalg import Linear, MatMul
from ..ops.recurrent import Recurrent, Scan
from ..ops.shape import After
from ..rewrite import Replacement, mapped, with_roots
from ..structs import Struct

# Nearly all of the arithmetic: computed again only where nothing less is enough.
DEAR = (Linear, Conv, MatMul, Attention, Recurrent, Scan)
# Into how many segments, at most, the forward pass is cut.
SEGMENTS = 32

Sizes = Mapping[str, int]


class Budgeted(Struct):
    """A step of training, the bytes that it keeps at most, and which share of its arithmetic it does twice."""

    graph: Graph
    peak: int
    again: float = 0.0


class OverBudget(ValueError):
    """No way that is known keeps a step within its budget; `least` is how little is possible."""

    def __init__(self, least: int) -> None:
        super().__init__(f"{least} bytes are needed at least")
        self.least = least


def within(graph: Graph, limit: int, sizes: Sizes, peak: Callable[[Graph], int]) -> Budgeted:
    """The step as it is if that keeps no more than `limit` bytes, or else with as little done twice as is enough.

    Activations and norms are computed again, or whole segments of the forward pass. `graph` has an output `loss`;
    `peak` says what a step keeps. Raises `OverBudget`.
    """
    plain = Budgeted(graph, peak(graph))
    if plain.peak <= limit:
        return plain
    tried = [Budgeted(candidate, peak(candidate), again) for candidate, again in _candidates(graph, sizes)]
    fitting = [found for found in tried if found.peak <= limit]
    if not fitting:
        raise OverBudget(min(found.peak for found in (plain, *tried)))
    return min(fitting, key=lambda found: (found.again, found.peak))


def _candidates(graph: Graph, sizes: Sizes) -> Iterator[tuple[Graph, float]]:
    """The step in forms that keep less and less, with the share of the arithmetic that each does twice."""
    forward = _forward(graph)
    joins = {v for v in forward if isinstance(v.op, DEAR) or _joins(v)}
    yield _kept_less(graph, forward, joins, sizes)
    places = {v: i for i, v in enumerate(forward)}
    alive = _alive(forward, sizes)
    count = 2
    while count <= min(SEGMENTS, len(forward)):
        bounds = _bounds(forward, alive, count)
        edges = {v for bound in bounds for v in _across(forward, places, bound)}
        last = {v for v in joins if places[v] >= bounds[-1]}
        yield _kept_less(graph, forward, edges | last, sizes)
        count = math.ceil(count * 1.5)


def _forward(graph: Graph) -> list[Value]:
    """What the loss is made of, and the other outputs of its ops."""
    made = set(order([graph.outputs["loss"]]))
    made |= {v for v in graph.order() if isinstance(v.op, Item) and v.inputs[0] in made}
    return [v for v in graph.order() if v in made and not isinstance(v.op, Input | Const)]


def _joins(v: Value) -> bool:
    """Whether a value adds up two branches: a residual stream, computed again, is so from its very beginning."""
    return isinstance(v.op, Add) and all(x.type == v.type and not isinstance(x.op, Input | Const) for x in v.inputs)


def _alive(forward: Sequence[Value], sizes: Sizes) -> list[int]:
    """Before each value, the bytes of those that are computed and still to be read, by the forward pass alone."""
    last = {x: i for i, v in enumerate(forward) for x in v.inputs}
    change = [0] * (len(forward) + 1)
    for i, v in enumerate(forward):
        change[min(i + 1, len(forward))] += _bytes(v, sizes)
        change[min(last.get(v, i) + 1, len(forward))] -= _bytes(v, sizes)
    found, total = [], 0
    for delta in change[:-1]:
        total += delta
        found.append(total)
    return found


def _bounds(forward: Sequence[Value], alive: Sequence[int], count: int) -> list[int]:
    """Where to cut the forward pass into about so many segments of equal length: where little is alive near by."""
    length = len(forward) / count
    found = []
    for i in range(1, count):
        low, high = max(1, round((i - 0.25) * length)), min(len(forward) - 1, round((i + 0.25) * length))
        found.append(min(range(low, max(low, high) + 1), key=lambda at: (alive[at], abs(at - i * length))))
    return sorted(set(found))


def _across(forward: Sequence[Value], places: Mapping[Value, int], bound: int) -> set[Value]:
    """The values before a bound that are read after it."""
    return {x for v in forward[bound:] for x in v.inputs if places.get(x, bound) < bound}


def _bytes(v: Value, sizes: Sizes) -> int:
    return sum(t.nbytes(sizes) for t in v.types)


def _kept_less(graph: Graph, forward: Sequence[Value], fixed: Collection[Value], sizes: Sizes) -> tuple[Graph, float]:
    """The graph with what the backward pass reads computed again where it is not kept; values in `fixed` are not.

    What is computed again waits for the gradient that is computed just before it is first read.
    """
    inside = set(forward)
    backward = [v for v in graph.order() if v not in inside and not isinstance(v.op, Input | Const)]
    read = {x for v in backward for x in v.inputs if x in inside}
    again = _computed_again(read, _cut(forward, read, fixed, sizes), inside)
    group = _alike(again)
    members: dict[int, list[Value]] = {}
    for v in forward:
        if v in again:
            members.setdefault(group[v], []).append(v)
    memo: dict[Value, Replacement] = {v: v for v in (*graph.inputs, *forward)}
    copies: dict[Value, Replacement] = {}
    before: Value | None = None
    for v in graph.order():
        if v in memo:
            continue
        for number in {group[x] for x in v.inputs if x in again}:
            alike = members.pop(number, [])
            copies |= _copies(alike, before) if before is not None else {}
        new = v if isinstance(v.op, Input | Const) else mapped(v, ChainMap(copies, memo))
        memo[v] = new
        if isinstance(new, Value) and not isinstance(new.op, Const) and not isinstance(new.type_, tuple):
            before = new
    total = sum(v.flops for v in graph.order())
    return with_roots(graph, memo), sum(v.flops for v in copies) / max(total, 1)


def _cut(forward: Sequence[Value], read: Collection[Value], fixed: Collection[Value], sizes: Sizes) -> set[Value]:
    """The values to keep: of fewest bytes, such that the backward pass can do without those before."""
    import networkx as nx  # few trainings have a budget

    flow: Any = nx.DiGraph()
    flow.add_nodes_from(["source", "sink"])
    for v in forward:
        flow.add_edge((v, "in"), (v, "out"), capacity=_bytes(v, sizes))
        if v in fixed:
            flow.add_edge("source", (v, "in"))  # an edge without a capacity has any
        if v in read:
            flow.add_edge((v, "out"), "sink")
        for x in v.inputs:
            if not isinstance(x.op, Input | Const):
                flow.add_edge((x, "out"), (v, "in"))
    _, (near, _) = nx.minimum_cut(flow, "source", "sink")
    return {v for v in forward if (v, "in") in near and (v, "out") not in near}


def _computed_again(read: Collection[Value], kept: Collection[Value], inside: Collection[Value]) -> set[Value]:
    """What the backward pass reads and what that is made of, back to what is kept."""
    found: set[Value] = set()
    waiting = [v for v in read if v not in kept]
    while waiting:
        v = waiting.pop()
        if v not in found:
            found.add(v)
            waiting += [x for x in v.inputs if x in inside and x not in kept]
    return found


def _alike(again: Collection[Value]) -> dict[Value, int]:
    """Numbers of groups: values that are made of each other are computed again together."""
    import networkx as nx

    graph: Any = nx.Graph()
    graph.add_nodes_from(again)
    graph.add_edges_from((x, v) for v in again for x in v.inputs if x in again)
    return {v: i for i, members in enumerate(nx.connected_components(graph)) for v in members}


def _copies(values: Sequence[Value], trigger: Value) -> dict[Value, Replacement]:
    """The values once more, after a trigger."""
    copies: dict[Value, Value] = {}
    for v in values:
        with origin(v.origin):
            inputs = [copies[x] if x in copies else _after(x, trigger, v) for x in v.inputs]
            copies[v] = v.op(*inputs)
    return dict(copies)


def _after(x: Value, trigger: Value, reader: Value) -> Value:
    return x if isinstance(x.op, Const) or isinstance(reader.op, Item) else After()(x, trigger)
