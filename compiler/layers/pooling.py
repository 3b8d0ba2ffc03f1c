"""Pooling: the largest number or the mean of windows of the spatial axes, or of all of them."""

from __future__ import annotations

from ..ir import Value
from ..ops.conv import AvgPool, MaxPool
from ..ops.reduce import Max, Mean
from ..ops.shape import merge, reshape
from .core import Builder, layer
from .spatial import Ints, Padding, pads_of, per_axis, spatial


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
    x, axes, back = spatial(x)
    k = per_axis(kernel, axes, "kernel")
    s = k if stride is None else per_axis(stride, axes, "stride")
    return back(MaxPool(k, s, pads_of(padding, k, (1,) * axes, axes))(x))


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
    x, axes, back = spatial(x)
    k = per_axis(kernel, axes, "kernel")
    s = k if stride is None else per_axis(stride, axes, "stride")
    return back(AvgPool(k, s, pads_of(padding, k, (1,) * axes, axes), count_padding)(x))


@layer
def global_avg_pool(b: Builder, x: Value) -> Value:
    """The mean over all spatial axes: [channels, H, W] becomes [channels].

    Example: global_avg_pool
    """
    x, axes, _ = spatial(x)
    return reshape(Mean(tuple(range(2, 2 + axes)))(x), x.shape[:2])


@layer
def global_max_pool(b: Builder, x: Value) -> Value:
    """The largest number over all spatial axes: [channels, H, W] becomes [channels].

    Example: global_max_pool
    """
    x, _, _ = spatial(x)
    flat = merge(x, 2, x.rank)
    return reshape(Max(2)(flat), x.shape[:2])
