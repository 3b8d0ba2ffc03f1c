"""Layers that bring the spatial axes to another size without weights."""

from __future__ import annotations

import math
from typing import Literal

from ..ir import Value
from ..ops.resize import Resize
from ..spec.kinds import PositiveFloat
from .core import Builder, LayerError, layer
from .spatial import Ints, fixed_sizes, per_axis, spatial

Mode = Literal["nearest", "linear", "bilinear"]


@layer
def resize(
    b: Builder,
    x: Value,
    *,
    scale: list[PositiveFloat] | PositiveFloat | None = None,
    size: Ints | None = None,
    mode: Mode = "nearest",
) -> Value:
    """The spatial axes at another size: [channels, H, W] becomes [channels, H', W'].

    Place i of an axis that goes from `in` to `out` places is, for `nearest`, place floor(i * in / out); for
    `linear` it lies between the two around (i + 1/2) * in / out - 1/2. ONNX calls these `asymmetric` with
    `floor`, and `half_pixel`. The spatial axes have fixed sizes.

    scale: by how much an axis grows, one number or one per axis: the size is floor(in * scale).
    size: the size itself, one number or one per axis.
    mode: `nearest` or `linear`; `bilinear` is another word for `linear` on images.
    Example: resize: {size: [64, 64], mode: bilinear}
    """
    x, axes, back = spatial(x)
    sizes = fixed_sizes(x)
    if (scale is None) == (size is None):
        raise LayerError("`resize` needs one of `scale` and `size`", help="`resize: 2` doubles every spatial axis")
    if size is not None:
        return back(_resized(x, per_axis(size, axes, "size"), mode))
    assert scale is not None
    new = tuple(math.floor(n * factor) for n, factor in zip(sizes, per_axis(scale, axes, "scale"), strict=True))
    if min(new) < 1:
        raise LayerError(f"the scale leaves nothing of an axis of {min(sizes)}", argument="scale")
    return back(_resized(x, new, mode))


@layer
def upsample(b: Builder, x: Value, *, scale: Ints = 2, mode: Mode = "nearest") -> Value:
    """The spatial axes made larger by a whole factor: [channels, H, W] becomes [channels, scale * H, scale * W].

    scale: the factor, one number or one per axis.
    mode: as for `resize`.
    Example: upsample: 2
    """
    x, axes, back = spatial(x)
    factors = per_axis(scale, axes, "scale")
    new = tuple(n * factor for n, factor in zip(fixed_sizes(x), factors, strict=True))
    return back(_resized(x, new, mode))


def _resized(x: Value, size: tuple[int, ...], mode: Mode) -> Value:
    if mode == "bilinear" and len(size) != 2:
        raise LayerError("`bilinear` is for images", argument="mode", help="`linear` is for any number of axes")
    return Resize(size, "nearest" if mode == "nearest" else "linear")(x)
