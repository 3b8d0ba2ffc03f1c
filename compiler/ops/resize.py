"""Resizing of the trailing axes."""

from __future__ import annotations

import numpy as np

from ..ir import Array, IRError, Op, Type, Value, constant
from .elementwise import floating
from .linalg import Gather
from .shape import BroadcastTo, replaced, reshape, swap_axes

MODES = ("nearest", "linear")


class Resize(Op):
    """The trailing axes brought to `size`: [N, C, *S] -> [N, C, *size], all of fixed size.

    `nearest` takes place floor(i * in / out); `linear` lies between the two places around
    (i + 1/2) * in / out - 1/2, the ends continued. In the words of ONNX: `asymmetric` with `floor`,
    and `half_pixel`; in those of PyTorch: `nearest`, and `align_corners=False`.
    """

    size: tuple[int, ...]
    mode: str = "nearest"

    def type(self, x: Type) -> Type:
        lead = x.rank - len(self.size)
        if self.mode not in MODES:
            raise IRError(f"Resize: there is no mode {self.mode}, expected one of {', '.join(MODES)}")
        if lead < 1 or min(self.size, default=0) < 1:
            raise IRError(f"Resize: {x} has no {len(self.size)} axes to bring to {self.size}")
        for dim in x.shape[lead:]:
            if isinstance(dim, str) or dim < 1:
                raise IRError(f"Resize: axis {dim} of {x} has no fixed size")
        return floating("Resize", x.with_shape((*x.shape[:lead], *self.size)))

    def decompose(self, x: Value) -> Value:
        lead = x.rank - len(self.size)
        for axis, size in enumerate(self.size, lead):
            if size != x.shape[axis]:
                x = self._one(x, axis, size)
        return x

    def whole(self, x: Type) -> int | None:
        """The largest factor by which an axis grows, if every axis grows by a whole one."""
        before = [int(d) for d in x.shape[x.rank - len(self.size) :]]
        if any(out % n for n, out in zip(before, self.size, strict=True)):
            return None
        return max(out // n for n, out in zip(before, self.size, strict=True))

    def _one(self, x: Value, axis: int, size: int) -> Value:
        before = int(x.shape[axis])
        if self.mode == "linear":
            weights = constant(_interpolation(before, size), x.dtype)
            return swap_axes(swap_axes(x, axis, x.rank - 1) @ weights, axis, x.rank - 1)
        if size % before:
            return Gather(axis)(x, constant(np.arange(size) * before // size))
        column = reshape(x, replaced(x.shape, axis, before, 1))
        repeated = BroadcastTo(replaced(x.shape, axis, before, size // before))(column)
        return reshape(repeated, replaced(x.shape, axis, size))

    def flops(self, out: Type, x: Type) -> int:
        return out.numel() * (2 * 2 ** len(self.size) if self.mode == "linear" else 0)


def _interpolation(before: int, size: int) -> Array:
    """What each of `before` places adds to each of `size`, [before, size]; the columns add up to one."""
    places = np.clip((np.arange(size) + 0.5) * before / size - 0.5, 0, before - 1)
    low = np.floor(places).astype(np.int64)
    high, share = np.minimum(low + 1, before - 1), places - low
    weights = np.zeros((before, size))
    np.add.at(weights, (low, np.arange(size)), 1 - share)
    np.add.at(weights, (high, np.arange(size)), share)
    return weights
