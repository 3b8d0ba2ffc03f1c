"""What layers over space share: which axes are space, and arguments given once or per axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from ..ir import Value
from ..ops.conv import Pads
from ..ops.shape import transpose
from ..spec.kinds import Natural, Positive
from ..spec.signatures import spec_type
from .core import LayerError, need_floats

Ints = list[Positive] | Positive
Padding = Literal["same", "valid", "same_lower", "causal"] | Natural | list[Natural | list[Natural]]
Number = TypeVar("Number", int, float)
Given = str | int | list[int] | list[int | list[int]]  # what `Padding` reads


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


def per_axis(value: Number | list[Number], axes: int, name: str) -> tuple[Number, ...]:
    if not isinstance(value, list):
        return (value,) * axes
    if len(value) != axes:
        raise LayerError(f"`{name}` has {len(value)} numbers, the input has {_axes(axes)}", argument=name)
    return tuple(value)


def fixed_sizes(x: Value) -> tuple[int, ...]:
    """The sizes of the spatial axes; raises `LayerError` where one is a name."""
    for size in x.shape[2:]:
        if isinstance(size, str):
            raise LayerError(
                f"axis {size} of the input has no fixed size, which this layer depends on",
                help="give the axis a number in the model's inputs",
            )
    return tuple(int(size) for size in x.shape[2:])


def pads_of(padding: Given, kernel: tuple[int, ...], dilation: tuple[int, ...], axes: int) -> Pads:
    """What `padding` puts before and after each spatial axis."""
    if padding == "valid":
        return ((0, 0),) * axes
    if isinstance(padding, str):
        spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple(_divided(padding, span, axes) for span in spans)
    entries = [padding] * axes if isinstance(padding, int) else padding
    if len(entries) != axes:
        raise LayerError(
            f"`padding` has {len(entries)} entries, the input has {_axes(axes)}",
            argument="padding",
            help="a pair for the start and end of an axis stands in a list of its own: `[[1, 2]]`",
        )
    return tuple(_pair(entry) for entry in entries)


def _divided(padding: str, span: int, axes: int) -> tuple[int, int]:
    """`span` zeros divided between the start and the end of an axis."""
    if padding == "same":
        return span // 2, span - span // 2
    if padding == "same_lower":
        return span - span // 2, span // 2
    if axes != 1:
        raise LayerError(f"`causal` pads the start of a sequence, the input has {_axes(axes)}", argument="padding")
    return span, 0


def _pair(entry: int | list[int]) -> tuple[int, int]:
    if isinstance(entry, int):
        return entry, entry
    if len(entry) != 2:
        raise LayerError(
            f"`padding` gives an axis {len(entry)} numbers, expected two: its start and its end", argument="padding"
        )
    return entry[0], entry[1]


def _axes(count: int) -> str:
    return "1 spatial axis" if count == 1 else f"{count} spatial axes"
