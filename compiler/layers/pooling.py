"""Pooling: the largest number or the mean of windows of the spatial axes, or of all of them.

Padded steps of a sequence are never the largest, and do not count in means.
"""

from __future__ import annotations

import math

import numpy as np

from ..ir import Array, Value, constant
from ..ops.conv import AvgPool, MaxPool
from ..ops.elementwise import Cast
from ..ops.linalg import Gather
from ..ops.norm import at_least
from ..ops.reduce import Max, drop
from ..ops.shape import merge, reshape, swap_axes
from .combine import max_over, mean_over
from .core import Builder, layer, masked
from .spatial import Ints, Padding, fixed_sizes, pads_of, per_axis, spatial

# Less than the share of a window that one step is.
TINY = 1e-6


@layer
def max_pool(
    b: Builder, x: Value, *, kernel: Ints = 2, stride: Ints | None = None, padding: Padding = "valid"
) -> Value:
    """The largest number of each window of the spatial axes.

    kernel: the window, one number or one per axis.
    stride: the step between windows; the window's size where nothing is said.
    padding: as for `conv`; padding never wins.
    Example: max_pool: 2
    """
    x, axes, back = spatial(masked(b, x, fill=-math.inf))
    k = per_axis(kernel, axes, "kernel")
    s = k if stride is None else per_axis(stride, axes, "stride")
    return masked(b, back(MaxPool(k, s, pads_of(padding, k, (1,) * axes, axes))(x)))


@layer
def avg_pool(
    b: Builder,
    x: Value,
    *,
    kernel: Ints = 2,
    stride: Ints | None = None,
    padding: Padding = "valid",
    count_padding: bool = False,
) -> Value:
    """The mean of each window of the spatial axes.

    kernel: the window, one number or one per axis.
    stride: the step between windows; the window's size where nothing is said.
    padding: as for `conv`.
    count_padding: whether padding counts, as zeros, in the mean.
    Example: avg_pool: 2
    """
    mask = b.mask(x)
    x, axes, back = spatial(masked(b, x))
    k = per_axis(kernel, axes, "kernel")
    s = k if stride is None else per_axis(stride, axes, "stride")
    pads = pads_of(padding, k, (1,) * axes, axes)
    if mask is None or count_padding:
        return back(AvgPool(k, s, pads, count_padding)(x))
    real = swap_axes(Cast(x.dtype)(mask), 1, 2)
    pool = AvgPool(k, s, pads)
    return back(pool(x) / at_least(pool(real), TINY))


@layer
def global_avg_pool(b: Builder, x: Value) -> Value:
    """The mean over all spatial axes: [channels, H, W] becomes [channels].

    Example: global_avg_pool
    """
    spatial(x)
    return mean_over(b, x, (1,) if x.rank == 3 else tuple(range(2, x.rank)))


@layer
def global_max_pool(b: Builder, x: Value) -> Value:
    """The largest number over all spatial axes: [channels, H, W] becomes [channels].

    Example: global_max_pool
    """
    y, _, _ = spatial(x)
    if x.rank == 3:
        return max_over(b, x, 1)
    return reshape(Max(2)(merge(y, 2, y.rank)), y.shape[:2])


@layer
def adaptive_avg_pool(b: Builder, x: Value, *, size: Ints) -> Value:
    """The means of as many windows as there are to be outputs: [channels, H, W] becomes [channels, *size].

    Of `in` places, output i is the mean of those from floor(i * in / out) up to ceil((i + 1) * in / out), as
    in PyTorch. The spatial axes have fixed sizes.

    size: how many outputs, one number or one per axis.
    Example: adaptive_avg_pool: 7
    """
    x, axes, back = spatial(x)
    outs, sizes = per_axis(size, axes, "size"), fixed_sizes(x)
    if (window := _even(sizes, outs)) is not None:
        return back(AvgPool(window, window, ((0, 0),) * axes)(x))
    for i, (n, out) in enumerate(zip(sizes, outs, strict=True)):
        if n != out:
            x = _means(x, 2 + i, _starts_and_ends(n, out))
    return back(x)


@layer
def adaptive_max_pool(b: Builder, x: Value, *, size: Ints) -> Value:
    """The largest numbers of as many windows as there are to be outputs: [channels, H, W] becomes [channels, *size].

    The windows are those of `adaptive_avg_pool`.

    size: how many outputs, one number or one per axis.
    Example: adaptive_max_pool: 7
    """
    x, axes, back = spatial(x)
    outs, sizes = per_axis(size, axes, "size"), fixed_sizes(x)
    if (window := _even(sizes, outs)) is not None:
        return back(MaxPool(window, window, ((0, 0),) * axes)(x))
    for i, (n, out) in reversed(list(enumerate(zip(sizes, outs, strict=True)))):
        if n != out:
            x = _largest(x, 2 + i, _starts_and_ends(n, out))
    return back(x)


def _even(sizes: tuple[int, ...], outs: tuple[int, ...]) -> tuple[int, ...] | None:
    """The one window that does for all outputs, where sizes divide."""
    if any(n % out for n, out in zip(sizes, outs, strict=True)):
        return None
    return tuple(n // out for n, out in zip(sizes, outs, strict=True))


def _starts_and_ends(size: int, outs: int) -> Array:
    """Where each window starts and ends, [outs, 2]."""
    return np.array([(i * size // outs, -(-(i + 1) * size // outs)) for i in range(outs)])


def _means(x: Value, axis: int, windows: Array) -> Value:
    """The means of windows of an axis: a product with ones where they are, divided by how long they are."""
    places = np.arange(int(x.shape[axis]))[:, None]
    inside = (windows[:, 0] <= places) & (places < windows[:, 1])
    y = swap_axes(x, axis, x.rank - 1) @ constant(inside.astype(np.float64), x.dtype)
    lengths = constant((windows[:, 1] - windows[:, 0]).astype(np.float64), x.dtype)
    return swap_axes(y / lengths, axis, x.rank - 1)


def _largest(x: Value, axis: int, windows: Array) -> Value:
    """The largest numbers of windows of an axis; short windows name their last place again."""
    longest = int((windows[:, 1] - windows[:, 0]).max())
    places = np.minimum(windows[:, :1] + np.arange(longest), windows[:, 1:] - 1)
    return drop(Max(axis + 1)(Gather(axis)(x, constant(places))), axis + 1)
