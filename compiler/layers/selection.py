"""Layers that keep a part: some positions of an axis, or one of them."""

from __future__ import annotations

from ..ir import DType, Value, constant
from ..ops.elementwise import And, Cast, Equal, Where
from ..ops.reduce import Sum, drop
from ..ops.shape import Iota, Size, Slice, reshape
from ..spec.kinds import Word
from ..spec.signatures import spec_type
from .core import Builder, LayerError, layer, need_floats
from .dense import axis_named


@layer
def slice_(b: Builder, x: Value, *, start: int = 0, stop: int | None = None, over: Word = "1") -> Value:
    """The positions of an axis from start up to stop, which is not among them. The axis has a fixed size.

    start: the first position, from 0; below zero, counted from the end.
    stop: the position to stop before, likewise; the end where nothing is said.
    over: the axis, counted from 1 after the batch.
    Example: slice: {start: 1}
    """
    axis = axis_named(x, int(over) if over.isdigit() else over)
    size = _fixed(x, axis)
    low, high, _ = slice(start, stop).indices(size)
    if low >= high:
        raise LayerError(f"nothing is left of the {size} positions of {spec_type(x.type)}", argument="start")
    return _part(x, axis, low, high)


@layer
def take(b: Builder, x: Value, *, at: int = 0, over: Word = "1") -> Value:
    """One position of an axis, which goes away: `at: -1` is the last step of a sequence that is no padding.

    at: the position, from 0; below zero, counted from the end. Where a sequence has no such step, zeros.
    over: the axis, by its name or counted from 1 after the batch.
    Example: take: {at: -1, over: T}
    """
    axis = axis_named(x, int(over) if over.isdigit() else over)
    dim = x.shape[axis]
    if isinstance(dim, int) and b.mask(x, axis) is None:
        if not -dim <= at < dim:
            raise LayerError(f"there are {dim} positions, `at` is {at}", argument="at")
        place = at % dim
        return drop(_part(x, axis, place, place + 1), axis)
    need_floats(x)
    b.across_steps(x, axis)
    here = Equal()(Iota(tuple(dim if i == axis else 1 for i in range(x.rank)), axis)(), _place(b, x, axis, at))
    mask = b.mask(x, axis)
    here = here if mask is None else And()(here, mask)
    return drop(Sum((axis,))(Where()(here, x, constant(0.0, x.dtype))), axis)


def _place(b: Builder, x: Value, axis: int, at: int) -> Value:
    """Which position that is in each row, as whole numbers that broadcast against x."""
    if at >= 0:
        return reshape(constant(at, DType.i64), (1,) * x.rank)
    mask = b.mask(x, axis)
    count = Size(x.shape[axis], DType.i64)() if mask is None else Sum((axis,))(Cast(DType.i64)(mask))
    return reshape(count, (1,) * x.rank) + at if mask is None else count + at


def _fixed(x: Value, axis: int) -> int:
    size = x.shape[axis]
    if not isinstance(size, int):
        raise LayerError(f"the axis {size} of {spec_type(x.type)} has no fixed size", argument="over")
    return size


def _part(x: Value, axis: int, low: int, high: int) -> Value:
    return Slice(tuple((low, high) if i == axis else None for i in range(x.rank)))(x)
