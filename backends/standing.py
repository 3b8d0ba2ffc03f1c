"""Views that stay where they are: of memory that a program keeps, they are taken once, before its first call."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import cast

from ..compiler.ir import Item, Value
from ..compiler.ops import shape

# The ops that such views are of, besides the parts of a split.
STANDING = (shape.Split, shape.Slice, shape.Transpose, shape.Reshape)

# Lengths of axes, and the distance of neighbours along each, in numbers.
Lengths = tuple[int, ...]


class Standing:
    """Which values of a program are such views, found in the order in which it computes them."""

    def __init__(self) -> None:
        self._strides: dict[Value, Lengths | tuple[Lengths, ...]] = {}

    def keep(self, v: Value) -> None:
        """A value has memory of its own, row by row, in every call the same."""
        self._strides[v] = _rows(_lengths(v))

    def view(self, v: Value) -> bool:
        """Whether a value is a view of such memory, and not a copy, as reshaping may be."""
        before = self._strides.get(v.inputs[0]) if v.inputs else None
        if before is None:
            return False
        after = _after(v, before)
        if after is not None:
            self._strides[v] = after
        return after is not None


def _lengths(v: Value) -> Lengths:
    return tuple(cast(int, d) for d in v.shape)


def _rows(lengths: Lengths) -> Lengths:
    return tuple(math.prod(lengths[i + 1 :]) for i in range(len(lengths)))


def _after(v: Value, strides: Lengths | tuple[Lengths, ...]) -> Lengths | tuple[Lengths, ...] | None:
    """The strides of a view of something with others; `None` for anything else."""
    if isinstance(v.op, Item):
        return cast(Lengths, strides[v.op.index]) if isinstance(v.inputs[0].op, shape.Split) else None
    plain = cast(Lengths, strides)
    match v.op:
        case shape.Split():
            return (plain,) * len(v.types)
        case shape.Slice():
            return plain
        case shape.Transpose():
            return tuple(plain[axis] for axis in v.op.axes)
        case shape.Reshape():
            return reshaped(_lengths(v.inputs[0]), plain, _lengths(v))
    return None


def reshaped(lengths: Lengths, strides: Lengths, new: Lengths) -> Lengths | None:
    """The strides by which other lengths show the same numbers in the same order; `None` if none do.

    Axes that lie one within the other are one stretch; each new axis must be within one of these.
    """
    if 0 in lengths:
        return _rows(new)
    found: list[int] = []
    axes = iter(reversed(new))
    for length, stride in reversed(list(_stretches(lengths, strides))):
        count = 1
        while count < length:
            axis = next(axes)
            found.append(stride * count)
            count *= axis
        if count != length:
            return None
    found += [1 for _ in axes]  # of one number each
    return tuple(reversed(found))


def _stretches(lengths: Sequence[int], strides: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The lengths and strides of an array's axes, those joined that lie one within the other, without those of one."""
    axes = [(length, stride) for length, stride in zip(lengths, strides, strict=True) if length != 1]
    if not axes:
        return
    length, stride = axes[0]
    for inner, step in itertools.islice(axes, 1, None):
        if stride == inner * step:
            length, stride = length * inner, step
            continue
        yield length, stride
        length, stride = inner, step
    yield length, stride
