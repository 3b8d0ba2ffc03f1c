"""Element types, shapes and their names: `f32[N, 3, 32, 32]`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Dim = int | str
Shape = tuple[Dim, ...]


class IRError(ValueError):
    """A rule of the representation is broken: the message names the op and both sides."""


class DType(StrEnum):
    """Element types, by their usual short names."""

    f64 = "f64"
    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    i64 = "i64"
    i32 = "i32"
    i8 = "i8"
    u8 = "u8"
    boolean = "bool"

    __hash__ = str.__hash__  # that of `Enum` is written in Python, and types are looked up all the time

    @property
    def numpy(self) -> np.dtype[Any]:
        return _NUMPY.get(self) or _bfloat16()

    @property
    def floating(self) -> bool:
        return self in _FLOATING

    @classmethod
    def of(cls, array: Array) -> DType:
        """The `DType` of a NumPy array; raises `IRError` for a dtype graphs do not have."""
        found = _OF_NUMPY.get(array.dtype)
        if found is None and array.dtype.name == "bfloat16":
            return cls.bf16
        if found is None:
            raise IRError(f"arrays of dtype {array.dtype} have no place in a graph")
        return found


def _bfloat16() -> np.dtype[Any]:
    """The upper half of a float32: its eight bits of exponent, and eight of precision. NumPy has it by a package."""
    from ml_dtypes import bfloat16  # few networks have it

    found: np.dtype[Any] = np.dtype(bfloat16)
    return found


_FLOATING = frozenset({DType.f64, DType.f32, DType.f16, DType.bf16})
_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.f64: np.dtype("float64"), DType.f32: np.dtype("float32"), DType.f16: np.dtype("float16"),
    DType.i64: np.dtype("int64"), DType.i32: np.dtype("int32"), DType.i8: np.dtype("int8"),
    DType.u8: np.dtype("uint8"), DType.boolean: np.dtype("bool"),
}  # fmt: skip
_OF_NUMPY = {numpy: dtype for dtype, numpy in _NUMPY.items()}


@dataclass(frozen=True)
class Type:
    """A shape and an element type, written `f32[N, 3, 32, 32]`. A dim is a number or a name."""

    shape: Shape
    dtype: DType = DType.f32

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(dim for dim in self.shape if isinstance(dim, str))

    def with_shape(self, shape: Iterable[Dim]) -> Type:
        return Type(tuple(shape), self.dtype)

    def with_dtype(self, dtype: DType) -> Type:
        return Type(self.shape, dtype)

    def numel(self, sizes: Mapping[str, int] | None = None) -> int:
        """The number of elements; a name absent from `sizes` counts as one."""
        sizes = sizes or {}
        return math.prod(sizes.get(dim, 1) if isinstance(dim, str) else dim for dim in self.shape)

    def nbytes(self, sizes: Mapping[str, int] | None = None) -> int:
        return self.numel(sizes) * self.dtype.numpy.itemsize

    def bind(self, sizes: Mapping[str, int]) -> Type:
        """The same type with the named dims in `sizes` replaced by numbers."""
        return self.with_shape(bind_dims(self.shape, sizes))

    @classmethod
    def parse(cls, text: str) -> Type:
        """Read what `str` writes."""
        head, bracket, rest = text.strip().partition("[")
        if not bracket or not rest.endswith("]"):
            raise IRError(f"not a type: {text!r}")
        if head not in DType.__members__.values():
            raise IRError(f"not an element type: {head!r}")
        dims = [dim.strip() for dim in rest[:-1].split(",") if dim.strip()]
        return cls(tuple(int(dim) if dim.isdigit() else dim for dim in dims), DType(head))


def bind_dims(shape: Iterable[Dim], sizes: Mapping[str, int]) -> Shape:
    return tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in shape)


def measure(name: str, declared: Type, shape: Sequence[int]) -> dict[str, int]:
    """The sizes of the named dims of `declared`, read off an array's shape; raises `IRError`."""
    sizes: dict[str, int] = {}
    if len(shape) != declared.rank:
        raise IRError(f"{name}: expected {declared}, got an array of shape {tuple(shape)}")
    for dim, size in zip(declared.shape, shape, strict=True):
        expected = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
        if expected != size:
            raise IRError(f"{name}: expected {declared}, got an array of shape {tuple(shape)}")
    return sizes


def agree(sizes: dict[str, int], name: str, measured: Mapping[str, int]) -> None:
    """Add the sizes read off one input to those known; raises `IRError` where they contradict."""
    for dim, size in measured.items():
        if sizes.setdefault(dim, size) != size:
            raise IRError(f"{name}: {dim} is {size} here and {sizes[dim]} elsewhere")
