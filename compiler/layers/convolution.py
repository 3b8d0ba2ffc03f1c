"""Convolution. Its rank is that of what flows in.

[T, features] is a sequence, convolved along T; [channels, H, W] an image; [channels, D, H, W] a volume. Padded steps
of a sequence are zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from ..ir import Dim, Init, Value
from ..ops.conv import Conv, ConvInputGrad, Pads
from ..ops.shape import reshape
from ..spec.kinds import Natural, Positive, Size
from ..spec.registry import Call
from .core import Builder, Initialiser, LayerError, initial, layer, masked
from .spatial import Given, Ints, Padding, pads_of, per_axis, spatial


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
    padding: `same` pads so that stride 1 keeps the size (with the larger half at the end; `same_lower`:
        at the start; `causal`, of a sequence: all of it); `valid` pads nothing; or the number of zeros on both
        sides, or a list with a number or a pair `[start, end]` per axis: `[[1, 2], [0, 1]]`.
    dilation: the distance between the taps of a window, one number or one per axis.
    groups: into how many independent groups the channels are divided.
    bias: whether to add a learned bias.
    init: how the weight starts; `he` where nothing is said.
    Example: conv: {filters: 32, kernel: 3, stride: 2}
    """
    x, axes, back = spatial(masked(b, x))
    k, s, d = (per_axis(v, axes, n) for v, n in ((kernel, "kernel"), (stride, "stride"), (dilation, "dilation")))
    channels = _grouped(x, filters, groups)
    weight = b.parameter("weight", (filters, channels // groups, *k), initial(init, "he"))
    inputs = [x, weight]
    if bias:
        inputs.append(b.parameter("bias", (filters,), initial(None, "zeros"), decay=False))
    return back(Conv(s, pads_of(padding, k, d, axes), d, groups)(*inputs))


@layer
def depthwise_conv(
    b: Builder,
    x: Value,
    *,
    kernel: Ints = 3,
    stride: Ints = 1,
    padding: Padding = "same",
    dilation: Ints = 1,
    multiplier: Positive = 1,
    bias: bool = True,
    init: Annotated[Call, Initialiser] | None = None,
) -> Value:
    """Convolution of each channel by itself: `conv` with as many groups as channels.

    Parameters `weight` [channels * multiplier, 1, *kernel] and `bias` [channels * multiplier].

    kernel: the window, one number or one per axis.
    stride: the step between windows, one number or one per axis.
    padding: as for `conv`.
    dilation: the distance between the taps of a window, one number or one per axis.
    multiplier: how many channels come out for each that comes in.
    bias: whether to add a learned bias.
    init: how the weight starts; `he` where nothing is said.
    Example: depthwise_conv: 3
    """
    x, _, back = spatial(masked(b, x))
    y = _depthwise(b, x, "weight", kernel, stride, padding, dilation, multiplier, initial(init, "he"))
    return back(_with_bias(b, y) if bias else y)


@layer
def separable_conv(
    b: Builder,
    x: Value,
    *,
    filters: Size,
    kernel: Ints = 3,
    stride: Ints = 1,
    padding: Padding = "same",
    dilation: Ints = 1,
    multiplier: Positive = 1,
    bias: bool = True,
    init: Annotated[Call, Initialiser] | None = None,
) -> Value:
    """Convolution of each channel by itself, then of all channels at each place (Chollet, 2017).

    Parameters `depthwise.weight` [channels * multiplier, 1, *kernel], `pointwise.weight`
    [filters, channels * multiplier, 1, …] and `bias` [filters].

    filters: how many channels come out.
    kernel: the window, one number or one per axis.
    stride: the step between windows, one number or one per axis.
    padding: as for `conv`.
    dilation: the distance between the taps of a window, one number or one per axis.
    multiplier: how many channels stand between the two for each that comes in.
    bias: whether to add a learned bias, after both.
    init: how both weights start; `he` where nothing is said.
    Example: separable_conv: {filters: 32, kernel: 3}
    """
    x, axes, back = spatial(masked(b, x))
    start = initial(init, "he")
    z = _depthwise(b, x, "depthwise.weight", kernel, stride, padding, dilation, multiplier, start)
    ones = (1,) * axes
    weight = b.parameter("pointwise.weight", (filters, z.shape[1], *ones), start)
    y = Conv(ones, ((0, 0),) * axes, ones)(z, weight)
    return back(_with_bias(b, y) if bias else y)


def _depthwise(
    b: Builder,
    x: Value,
    name: str,
    kernel: Ints,
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    multiplier: int,
    init: Init,
) -> Value:
    """Each channel of x, channels before space, convolved with `multiplier` windows of its own."""
    axes = x.rank - 2
    k, s, d = (per_axis(v, axes, n) for v, n in ((kernel, "kernel"), (stride, "stride"), (dilation, "dilation")))
    channels = _channels(x)
    weight = b.parameter(name, (channels * multiplier, 1, *k), init)
    return Conv(s, pads_of(padding, k, d, axes), d, channels)(x, weight)


def _with_bias(b: Builder, y: Value) -> Value:
    """y, channels before space, plus a learned bias."""
    bias = b.parameter("bias", y.shape[1:2], initial(None, "zeros"), decay=False)
    return y + reshape(bias, (1, *bias.shape, *(1 for _ in y.shape[2:])))


@layer
def transposed_conv(
    b: Builder,
    x: Value,
    *,
    filters: Size,
    kernel: Ints = 3,
    stride: Ints = 1,
    padding: Literal["same", "valid"] | Natural | list[Natural] = "same",
    output_padding: Natural | list[Natural] | None = None,
    groups: Positive = 1,
    bias: bool = True,
    init: Annotated[Call, Initialiser] | None = None,
) -> Value:
    """Transposed convolution: the adjoint of `conv`, which makes the spatial axes larger by its stride.

    An image [channels, H, W] becomes [filters, H', W'], a sequence [T, features] becomes [T', filters].
    The window of each input is added into the output, a stride from the next (Zeiler et al., 2010).
    Parameters `weight` [channels, filters / groups, *kernel] and `bias` [filters].

    filters: how many channels come out.
    kernel: the window, one number or one per axis.
    stride: the step between windows in the output, one number or one per axis.
    padding: what is cut off around the output: `same` makes it the input's size times the stride (the larger
        half is cut at the end); `valid` cuts nothing; or numbers for both sides, one number or one per axis.
    output_padding: what is added at the end of the output, below the stride, one number or one per axis; 0 where
        nothing is said, and with `same` as many as it needs.
    groups: into how many independent groups the channels are divided.
    bias: whether to add a learned bias.
    init: how the weight starts; `he` where nothing is said.
    Example: transposed_conv: {filters: 32, kernel: 4, stride: 2}
    """
    x, axes, back = spatial(masked(b, x))
    k, s = per_axis(kernel, axes, "kernel"), per_axis(stride, axes, "stride")
    channels = _grouped(x, filters, groups)
    pads, extra = _output_pads(padding, output_padding, k, s)
    size = tuple(_grown(*each) for each in zip(x.shape[2:], k, s, pads, extra, strict=True))
    shape = (channels, filters // groups if isinstance(filters, int) else filters, *k)
    weight = b.parameter("weight", shape, initial(init, "he"))
    y = ConvInputGrad(size, s, pads, (1,) * axes, groups)(x, weight)
    return back(_with_bias(b, y) if bias else y)


def _output_pads(
    padding: Given, added: int | list[int] | None, kernel: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[Pads, tuple[int, ...]]:
    """What a transposed convolution cuts off around its output, and what it adds at the end."""
    axes = len(stride)
    if padding != "same":
        extra = (0,) * axes if added is None else per_axis(added, axes, "output_padding")
        if any(e >= s for e, s in zip(extra, stride, strict=True)):
            raise LayerError(
                f"`output_padding` is {_numbers(extra)}, it must stay below the stride, {_numbers(stride)}",
                argument="output_padding",
            )
        return pads_of(padding, kernel, (1,) * axes, axes), extra
    if added is not None:
        raise LayerError(
            "`padding: same` adds what it needs at the end of the output",
            argument="output_padding",
            help="leave `output_padding` out, or give `padding` in numbers",
        )
    over = [k - s for k, s in zip(kernel, stride, strict=True)]
    pads = tuple((max(n, 0) // 2, max(n, 0) - max(n, 0) // 2) for n in over)
    return pads, tuple(max(-n, 0) for n in over)


def _grown(size: Dim, kernel: int, stride: int, pads: tuple[int, int], extra: int) -> Dim:
    """The size of an axis after transposed convolution."""
    cut = sum(pads)
    if isinstance(size, str):
        if stride != 1 or cut != kernel - 1:
            raise LayerError(
                f"axis {size} has no fixed size: only stride 1 with `same` padding keeps it",
                help="give the axis a number in the model's inputs",
            )
        return size
    grown = (size - 1) * stride + kernel - cut + extra
    if grown < 1:
        raise LayerError(f"padding cuts {cut} off an output of {grown + cut}", argument="padding")
    return grown


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def _grouped(x: Value, filters: int, groups: int) -> int:
    """How many channels come in; raises `LayerError` where groups do not divide them or the filters."""
    channels = _channels(x)
    if channels % groups or (isinstance(filters, int) and filters % groups):
        raise LayerError(
            f"{channels} channels and {filters} filters do not divide into {groups} groups", argument="groups"
        )
    return channels


def _channels(x: Value) -> int:
    channels = x.shape[1]
    if isinstance(channels, str):
        raise LayerError(f"the number of channels, {channels}, has no fixed size")
    return channels
