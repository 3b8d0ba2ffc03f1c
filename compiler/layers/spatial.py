"""What layers over space share: which axes are space, and arguments given once or per axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..ir import Value
from ..ops.conv import Pads
from ..ops.shape import transpose
from ..spec.kinds import Natural, Positive
from ..spec.signatures import spec_type
from .core import LayerError, need_floats

Ints = list[Positive] | Positive
Padding = Literal["same", "valid"] | Natural | list[Natural]


def spatial(x: Value) -> tuple[Value, int, Callable[[Value], Value]]:
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


def per_axis(value: int | list[int], axes: int, name: str) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * axes
    if len(value) != axes:
        raise LayerError(f"`{name}` has {len(value)} numbers, the input has {axes} spatial axes", argument=name)
    return tuple(value)


def pads_of(padding: str | int | list[int], kernel: tuple[int, ...], dilation: tuple[int, ...], axes: int) -> Pads:
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
