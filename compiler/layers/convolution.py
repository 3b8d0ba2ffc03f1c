"""Convolution. Its rank is that of what flows in.

[T, features] is a sequence, convolved along T; [channels, H, W] an image; [channels, D, H, W] a volume.
"""

from __future__ import annotations

from typing import Annotated

from ..ir import Value
from ..ops.conv import Conv
from ..spec.kinds import Positive, Size
from ..spec.registry import Call
from .core import Builder, Initialiser, LayerError, initial, layer
from .spatial import Ints, Padding, pads_of, per_axis, spatial


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
    x, axes, back = spatial(x)
    k, s, d = (per_axis(v, axes, n) for v, n in ((kernel, "kernel"), (stride, "stride"), (dilation, "dilation")))
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
    return back(Conv(s, pads_of(padding, k, d, axes), d, groups)(*inputs))
