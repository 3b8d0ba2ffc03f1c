"""Small parameters that are updated alike, in one call: what a call costs is more than what their arithmetic does.

Their state lies side by side, and so do their gradients; the updates come at the end of the program, where all
gradients are known. Large parameters are updated as soon as they can be, so that their gradients need not be kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ...compiler.ir import Array, Graph, Item, Value
from ...compiler.ops.shape import Reshape
from .emit import kind_of, written_over

# Parameters of at most so many numbers are updated together.
SMALL = 1 << 16

Key = tuple[object, ...]


def side_by_side(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Copies of arrays, those that may be updated together one after the other in memory.

    Those are the weights, or the norms and biases, or one of their slots (`…/mean`), in the order they are given.
    """
    kinds: dict[Key, list[str]] = {}
    for name, array in arrays.items():
        slot = name.rpartition("/")[2] if "/" in name else ""
        kinds.setdefault((np.asarray(array).dtype, slot, np.ndim(array) > 1), []).append(name)
    placed: dict[str, Array] = {}
    for (dtype, *_), names in kinds.items():
        sizes = [np.size(arrays[name]) for name in names]
        parts = np.split(np.empty(sum(sizes), np.dtype(dtype)), np.cumsum(sizes)[:-1])  # type: ignore[call-overload]
        for name, part in zip(names, parts, strict=True):
            placed[name] = part.reshape(np.shape(arrays[name]))
            np.copyto(placed[name], arrays[name])
    return {name: placed[name] for name in arrays}


def alike(graph: Graph, values: Sequence[Value], base: Callable[[Value], Value]) -> list[list[Value]]:
    """The updates of small parameters that can be made in one call, where there are two or more.

    Nothing but the graph's updates may read what they make, and no root may show what they write over.
    """
    shown = {base(v) for v in graph.roots}
    read = Counter(x for v in values for x in v.inputs)
    states = {graph.input(name): v for name, v in graph.updates.items()}
    found: dict[Key, list[Value]] = {}
    for v in values:
        if kind_of(v) != "state" or v.inputs[0].type.numel() > SMALL:
            continue
        items = [states.get(x) for x in written_over(v)]
        free = all(u is not None and isinstance(u.op, Item) and u.inputs[0] is v and not read[u] for u in items)
        indices = [u.op.index for u in items if u is not None and isinstance(u.op, Item)]
        if free and indices == list(range(len(v.types))) and read[v] == len(items) and not shown & {*written_over(v)}:
            found.setdefault((v.op, v.inputs[0].dtype, *v.inputs[-2:]), []).append(v)
    return [group for group in found.values() if len(group) > 1]


def gradient(v: Value) -> Value:
    """The value whose numbers an update's gradient shows."""
    g = v.inputs[1]
    while isinstance(g.op, Reshape):
        g = g.inputs[0]
    return g


def joined(parts: Iterable[tuple[Array, ...]]) -> list[tuple[Array, ...]]:
    """Tuples of arrays as fewer tuples of flat ones: neighbours in memory are taken as one."""
    found: list[tuple[Array, ...]] = []
    for part in parts:
        flat = tuple(array.reshape(-1) for array in part)
        if found and all(_end(a) == _start(b) and a.base is b.base for a, b in zip(found[-1], flat, strict=True)):
            flat = tuple(_extended(a, b.size) for a, b in zip(found.pop(), flat, strict=True))
        found.append(flat)
    return found


def _start(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _end(array: Array) -> int:
    return _start(array) + array.nbytes


def _extended(array: Array, count: int) -> Array:
    """A flat array with the numbers that follow it in the array it is a part of."""
    whole = array.base
    assert whole is not None
    everything = whole.reshape(-1).view(np.uint8)
    start = _start(array) - _start(whole)
    return everything[start : start + array.nbytes + count * array.itemsize].view(array.dtype)
