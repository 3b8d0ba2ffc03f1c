"""Convolution and pooling. Their rank is that of what flows in.

[T, features] is a sequence, convolved along T; [channels, H, W] an image; [channels, D, H, W] a volume. Padded steps
of a sequence are zeros to a convolution and never the largest of a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from ..ir import Value
from ..ops.conv import AvgPool, Conv, MaxPool, Pads
from ..ops.reduce import Max
from ..ops.shape import merge, reshape, transpose
from ..spec.kinds import Natural, Positive, Size
from ..spec.registry import Call
from ..spec.signatures import spec_type
from .combine import mean_over
from .core import Builder, Initialiser, LayerError, initial, layer, masked, need_floats

Ints = list[Positive] | Positive
Padding = Literal["same", "valid"] | Natural | list[Natural]


@layer
def conv(
    b: Builder,
    x: Value,
    *,
    filters: Size,
    kernel: Ints = 3,
    stride: Ints = 1,
    padding: Padding = "same",
    dilation: Ints = 1,
    groups: Positive = 1,
    bias: bool = True,
    init: Annotated[Call, Initialiser] | None = None,
) -> Value:
    """Convolution (cross-correlation) over the spatial axes.

    An image [channels, H, W] becomes [filters, H', W']; a sequence [T, features] becomes
    [T', filters]. Parameters `weight` [filters, channels / groups, *kernel] and `bias` [filters].

    filters: how many channels come out.
    kernel: the window, one number or one per axis.
    stride: the step between windows, one number or one per axis.
    padding: `same` pads so that stride 1 keeps the size (with the larger half at the end);
        `valid` pads nothing; or zeros on both sides, one number or one per axis.
    dilation: the distance between the taps of a window, one number or one per axis.
    groups: into how many independent groups the channels are divided.
    bias: whether to add a learned bias.
    init: how the weight starts; `he` where nothing is said.
    Example: conv: {filters: 32, kernel: 3, stride: 2}
    """
    x, axes, back = _spatial(masked(b, x))
    k, s, d = (_per_axis(v, axes, n) for v, n in ((kernel, "kernel"), (stride, "stride"), (dilation, "dilation")))
    channels = x.shape[1]
    if isinstance(channels, str):
        raise LayerError(f"the number of channels, {channels}, has no fixed size")
    if channels % groups or (isinstance(filters, int) and filters % groups):
        raise LayerError(
            f"{channels} channels and {filters} filters do not divide into {groups} groups", argument="groups"
        )
    weight = b.parameter("weight", (filters, channels // groups, *k), initial(init, "he"))
    inputs = [x, weight]
    if bias:
        inputs.append(b.parameter("bias", (filters,), initial(None, "zeros"), decay=False))
    return back(Conv(s, _pads(padding, k, d, axes), d, groups)(*inputs))


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
    x, axes, back = _spatial(masked(b, x, fill=-math.inf))
    k = _per_axis(kernel, axes, "kernel")
    s = k if stride is None else _per_axis(stride, axes, "stride")
    return back(MaxPool(k, s, _pads(padding, k, (1,) * axes, axes))(x))


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
    x, axes, back = _spatial(x)
    k = _per_axis(kernel, axes, "kernel")
    s = k if stride is None else _per_axis(stride, axes, "stride")
    return back(AvgPool(k, s, _pads(padding, k, (1,) * axes, axes), count_padding)(x))


@layer
def global_avg_pool(b: Builder, x: Value) -> Value:
    """The mean over all spatial axes: [channels, H, W] becomes [channels].

    Example: global_avg_pool
    """
    _spatial(x)
    return mean_over(b, x, (1,) if x.rank == 3 else tuple(range(2, x.rank)))


@layer
def global_max_pool(b: Builder, x: Value) -> Value:
    """The largest number over all spatial axes: [channels, H, W] becomes [channels].

    Example: global_max_pool
    """
    x, _, _ = _spatial(masked(b, x, fill=-math.inf))
    flat = merge(x, 2, x.rank)
    return reshape(Max(2)(flat), x.shape[:2])


def _spatial(x: Value) -> tuple[Value, int, Callable[[Value], Value]]:
    """x with channels before space, how many axes are space, and the way back."""
    need_floats(x)
    if x.rank == 3:
        return transpose(x, (0, 2, 1)), 1, lambda y: transpose(y, (0, 2, 1))
    if x.rank in (4, 5):
        return x, x.rank - 2, lambda y: y
    raise LayerError(
        f"the input is {spec_type(x.type)}, expected a sequence [T, features], an image [channels, H, W] "
        "or a volume [channels, D, H, W]",
        help="`reshape: [1, 8, 8]` gives an image a channel axis" if x.rank < 3 else None,
    )


def _per_axis(value: int | list[int], axes: int, name: str) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * axes
    if len(value) != axes:
        raise LayerError(f"`{name}` has {len(value)} numbers, the input has {axes} spatial axes", argument=name)
    return tuple(value)


def _pads(padding: str | int | list[int], kernel: tuple[int, ...], dilation: tuple[int, ...], axes: int) -> Pads:
    if padding == "valid":
        return ((0, 0),) * axes
    if padding == "same":
        spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((span // 2, span - span // 2) for span in spans)
    assert not isinstance(padding, str)
    numbers = [padding] * axes if isinstance(padding, int) else padding
    if len(numbers) != axes:
        raise LayerError(f"`padding` has {len(numbers)} numbers, the input has {axes} spatial axes", argument="padding")
    return tuple((p, p) for p in numbers)
