"""What a graph costs: parameters, arithmetic, memory; per value, per step, per line of the spec."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from .ir import Const, Graph, Input, Item, Value, order
from .ops.activations import Activation, ActivationGrad
from .ops.ctc import Ctc
from .ops.elementwise import Binary, Maximum, Not, Unary, Where
from .ops.linalg import Gather, WriteSlice
from .ops.losses import CrossEntropy, Focal
from .ops.optim import Update
from .ops.reduce import Softmax
from .structs import Struct


class Summary(Struct):
    """A graph in numbers. FLOPs and bytes are those of one row where the batch has no size."""

    nodes: int
    parameters: int
    flops: int
    activation_bytes: int


def summary(graph: Graph, sizes: Mapping[str, int] | None = None) -> Summary:
    """Count a graph's nodes, parameters, FLOPs and the bytes of all values it computes."""
    values = [v for v in graph.order() if not isinstance(v.op, Input | Const | Item)]
    return Summary(
        nodes=len(values),
        parameters=parameters(graph),
        flops=sum(v.flops for v in values),
        activation_bytes=sum(t.nbytes(sizes) for v in values for t in v.types),
    )


def parameters(graph: Graph) -> int:
    """How many numbers a graph learns; dims without a size count as one."""
    return sum(v.type.numel() for v in graph.by_role("param"))


class Cost(Struct):
    """What one step of a spec costs, by its line."""

    step: str
    file: str
    line: int
    flops: int
    bytes: int


def costs(graph: Graph, sizes: Mapping[str, int] | None = None) -> list[Cost]:
    """The cost of each step that the graph's values come from, in order of first appearance."""
    totals: dict[tuple[str, str, int], list[int]] = {}
    for v in graph.order():
        if isinstance(v.op, Input | Const | Item):
            continue
        place = v.origin
        key = (place.step, place.file, place.line) if place else ("", "", 0)
        entry = totals.setdefault(key, [0, 0])
        entry[0] += v.flops
        entry[1] += sum(t.nbytes(sizes) for t in v.types)
    return [Cost(*key, flops, size) for key, (flops, size) in totals.items()]


class Buffer(Struct):
    """A stretch of memory: which steps of a schedule need it, and how many bytes it has."""

    first: int
    last: int
    size: int


ALIGN = 64


def pack(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """Offsets at which buffers that are needed at the same time do not overlap, and the total size.

    Greedy by size, first fit: the largest buffer is placed first, each at the lowest offset that is
    free while it is needed (Pisarchyk & Lee, 2020, "greedy by size for offset calculation").
    """
    order = sorted(range(len(buffers)), key=lambda i: -buffers[i].size)
    place = _place_few if len(buffers) <= FEW else _place_many
    found = dict(zip(order, place([buffers[i] for i in order]), strict=True))
    total = max((offset + buffers[i].size for i, offset in found.items()), default=0)
    return [found[i] for i in range(len(buffers))], total


FEW = 1000  # up to here a loop in Python is as fast as arrays


def _place_few(buffers: Sequence[Buffer]) -> list[int]:
    """Offsets for buffers in the order given, each at the lowest that is free while it is needed."""
    offsets = []
    placed: list[tuple[int, int, int, int]] = []  # in order of offsets: where each begins and ends, when it is needed
    for mine in buffers:
        first, last, size = mine.first, mine.last, mine.size
        offset = 0
        for start, end, born, dead in placed:
            if born <= last and first <= dead:
                if offset + size <= start:
                    break
                offset = max(offset, end)
        insort(placed, (offset, _aligned(offset + size), first, last))
        offsets.append(offset)
    return offsets


def _place_many(buffers: Sequence[Buffer]) -> list[int]:
    """`_place_few` with arrays in the place of its inner loop."""
    offsets = []
    placed = np.empty((4, len(buffers)), np.int64)
    for count, mine in enumerate(buffers):
        starts, ends, born, dead = known = placed[:, :count]
        busy = (born <= mine.last) & (dead >= mine.first)
        free = np.maximum.accumulate(np.append(0, ends[busy]))  # before each of those, and after the last
        room = free[:-1] + mine.size <= starts[busy]
        offset = int(free[room.argmax()] if room.any() else free[-1])
        at = int(np.searchsorted(starts, offset))
        placed[:, at + 1 : count + 1] = known[:, at:]
        placed[:, at] = offset, _aligned(offset + mine.size), mine.first, mine.last
        offsets.append(offset)
    return offsets


def _aligned(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN


def last_uses(values: Sequence[Value], keep: Iterable[Value], alias: Callable[[Value], bool]) -> dict[Value, int]:
    """For each value the position of its last use in the schedule `values`.

    A value that is an alias (a view of its first input) extends its input's life to its own.
    Values in `keep` live to the end.
    """
    last = {v: i for i, v in enumerate(values)}
    for i, v in enumerate(values):
        for x in v.inputs:
            last[x] = max(last.get(x, i), i)
    for v in keep:
        last[v] = len(values)
    for v in reversed(values):
        if alias(v) and v.inputs:
            last[v.inputs[0]] = max(last.get(v.inputs[0], 0), last[v])
    return last


def dying(values: Sequence[Value], keep: Iterable[Value]) -> dict[Value, list[Value]]:
    """For each value of a schedule, the values that nothing reads after it."""
    last = last_uses(values, keep, lambda _: False)
    return {v: [x for x in dict.fromkeys(v.inputs) if last[x] == i] for i, v in enumerate(values)}


def peak_memory(
    graph: Graph,
    sizes: Mapping[str, int],
    alias: Callable[[Value], bool] | None = None,
    over: Callable[[Value], bool] | None = None,
    beside: Callable[[Sequence[Value]], list[Buffer]] | None = None,
) -> int:
    """The bytes of activations that a run needs at most at one time, by liveness.

    Inputs, state and constants are not counted, and values that are views of others neither. Where `over` says so, a
    value may be written over an input of its type, or over the state that it updates, which nothing reads after it;
    optimizers then update in place, and the gradients of all parameters lie side by side. `beside` tells what kernels
    keep besides the values of a schedule.
    """
    values = order(graph.roots)
    view = alias or (lambda v: v.op.kind in VIEWS)
    places = {v: i for i, v in enumerate(values)}

    def is_view(v: Value) -> bool:
        # The outputs of an op have memory of their own, but for pieces of what it read.
        return view(v) and not (isinstance(v.op, Item) and not view(v.inputs[0]))

    last = last_uses(values, graph.roots, is_view)
    state = {v: graph.input(name) for name, v in graph.updates.items()}
    buffers: dict[Value, Buffer] = {}
    home: dict[Value, Value] = {}
    for i, v in enumerate(values):
        if isinstance(v.op, Input | Const) or isinstance(v.type_, tuple) or is_view(v):
            continue
        if isinstance(v.op, Item):
            if isinstance(v.inputs[0].op, Update) and over is not None:
                continue  # over the state that it updates
            home[v] = v
            buffers[v] = Buffer(places[v.inputs[0]], last[v], v.type.nbytes(sizes))
            continue
        free = over is not None and over(v)
        if free and v in state and last.get(state[v], i) <= i:
            continue
        dead = next((x for x in v.inputs if free and x in home and last[x] == i and x.types == v.types), None)
        if dead is not None:
            home[v] = home[dead]
            old = buffers[home[v]]
            buffers[home[v]] = Buffer(old.first, last[v], old.size)
            continue
        home[v] = v
        buffers[v] = Buffer(i, last[v], v.type.nbytes(sizes))
    if over is not None:
        # The gradients of all parameters lie side by side, from the first that is made.
        made = dict.fromkeys(home[v.inputs[1]] for v in values if isinstance(v.op, Update) and v.inputs[1] in home)
        first = min((buffers[v].first for v in made), default=0)
        buffers |= {v: Buffer(first, buffers[v].last, buffers[v].size) for v in made}
    return pack([*buffers.values(), *(beside(values) if beside is not None else ())])[1]


def elementwise(value: Value) -> bool:
    """Whether an op's result may be written over an argument of its type, as NumPy's kernels do."""
    return isinstance(value.op, Unary | Binary | Not | Activation | ActivationGrad | Softmax | WriteSlice)


VIEWS = frozenset({"Reshape", "Transpose", "BroadcastTo", "Slice", "Windows", "Item", "Split", "Flip", "After"})


def id_bounds(graph: Graph) -> dict[str, int]:
    """For each input of ids, how many ids the graph has room for: rows of tables, classes of losses."""
    bounds: dict[str, int] = {}
    for v in graph.order():
        match v:
            case Value(Gather(axis=0) | CrossEntropy() | Focal() | Ctc() as op, (table, ids)):
                room = table.shape[0] if isinstance(op, Gather) else table.shape[-1]
                source = _ids(ids)
                if isinstance(room, int) and source is not None:
                    bounds[source.name] = min(bounds.get(source.name, room), room)
    return bounds


def id_lows(graph: Graph) -> dict[str, int]:
    """For each input of ids, the least that may be in it: 0, or -1 where that stands for padding."""
    lows: dict[str, int] = {}
    for v in graph.order():
        if isinstance(v.op, Gather) and v.op.axis == 0 and (source := _ids(v.inputs[1])) is not None:
            lows[source.name] = max(lows.get(source.name, -1), 0 if isinstance(v.inputs[1].op, Input) else -1)
    return lows


def _ids(value: Value) -> Input | None:
    """The input that ids come from, padding taken off."""
    match value:
        case Value(Input() as op):
            return op
        case Value(Maximum() | Where(), (*_, Value(Input() as op), Value(Const()))):
            return op
    return None
