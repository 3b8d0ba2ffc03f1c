"""Primitives that move numbers without changing them, in adjoint pairs."""

from __future__ import annotations

import math

import numpy as np

from ..ir import Array, Dim, DType, Grads, IRError, Op, Shape, Type, Value, constant
from .elementwise import broadcast


def axis_of(name: str, axis: int, x: Type) -> int:
    """`axis` counted from the front; raises `IRError` if `x` has no such axis."""
    if not -x.rank <= axis < x.rank:
        raise IRError(f"{name}: {x} has no axis {axis}")
    return axis % x.rank


def replaced(shape: Shape, axis: int, *dims: Dim) -> Shape:
    """`shape` with the dim at `axis` replaced by `dims`."""
    return (*shape[:axis], *dims, *shape[axis + 1 :])


def numbers(shape: Shape) -> tuple[int, ...]:
    """A shape whose dims all have a size."""
    return tuple(int(dim) for dim in shape)


class Reshape(Op):
    """The same numbers in the same order, in another shape. Named dims are carried, not merged."""

    shape: Shape

    def type(self, x: Type) -> Type:
        named = sorted(d for d in x.shape if isinstance(d, str))
        if named != sorted(d for d in self.shape if isinstance(d, str)) or x.numel() != Type(self.shape).numel():
            raise IRError(f"Reshape: {x} does not fit {x.with_shape(self.shape)}")
        return x.with_shape(self.shape)

    def eval(self, x: Array) -> Array:
        return x.reshape(numbers(self.shape))

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [reshape(g, x.shape)]


class Transpose(Op):
    """Axes in another order: output axis i is input axis `axes[i]`."""

    axes: tuple[int, ...]

    def type(self, x: Type) -> Type:
        if sorted(self.axes) != list(range(x.rank)):
            raise IRError(f"Transpose: {self.axes} is no order of the axes of {x}")
        return x.with_shape(x.shape[a] for a in self.axes)

    def eval(self, x: Array) -> Array:
        return x.transpose(self.axes)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [transpose(g, tuple(self.axes.index(i) for i in range(len(self.axes))))]


class BroadcastTo(Op):
    """x repeated along axes of size one, and along new leading axes, to fill `shape`."""

    shape: Shape

    def type(self, x: Type) -> Type:
        if broadcast("BroadcastTo", x, Type(self.shape)) != self.shape:
            raise IRError(f"BroadcastTo: {x} does not fill {x.with_shape(self.shape)}")
        return x.with_shape(self.shape)

    def eval(self, x: Array) -> Array:
        return np.broadcast_to(x, numbers(self.shape))

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g]  # autodiff sums over what was broadcast


class Slice(Op):
    """Per axis, the part from start up to stop; `None` keeps the whole axis."""

    bounds: tuple[tuple[int, int] | None, ...]

    def type(self, x: Type) -> Type:
        if len(self.bounds) != x.rank:
            raise IRError(f"Slice: {len(self.bounds)} bounds for {x}")
        dims: list[Dim] = []
        for dim, bound in zip(x.shape, self.bounds, strict=True):
            if bound is None:
                dims.append(dim)
            elif isinstance(dim, str) or not 0 <= bound[0] <= bound[1] <= dim:
                raise IRError(f"Slice: {bound[0]}:{bound[1]} is outside axis {dim} of {x}")
            else:
                dims.append(bound[1] - bound[0])
        return x.with_shape(dims)

    def eval(self, x: Array) -> Array:
        return x[tuple(slice(None) if b is None else slice(*b) for b in self.bounds)]

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        pads = [
            (0, 0) if b is None or isinstance(d, str) else (b[0], d - b[1])
            for b, d in zip(self.bounds, x.shape, strict=True)
        ]
        return [Pad(tuple(pads))(g)]


class Pad(Op):
    """x with `value` added before and after, per axis."""

    pads: tuple[tuple[int, int], ...]
    value: float = 0.0

    def type(self, x: Type) -> Type:
        if len(self.pads) != x.rank:
            raise IRError(f"Pad: {len(self.pads)} pads for {x}")
        dims: list[Dim] = []
        for dim, (low, high) in zip(x.shape, self.pads, strict=True):
            if low < 0 or high < 0 or (isinstance(dim, str) and low + high):
                raise IRError(f"Pad: cannot pad axis {dim} of {x} by ({low}, {high})")
            dims.append(dim if isinstance(dim, str) else dim + low + high)
        return x.with_shape(dims)

    def eval(self, x: Array) -> Array:
        return np.pad(x, self.pads, constant_values=np.asarray(self.value, x.dtype)) if self.pads else x

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        bounds = [None if isinstance(d, str) else (p[0], p[0] + d) for p, d in zip(self.pads, x.shape, strict=True)]
        return [Slice(tuple(bounds))(g)]


class Concat(Op):
    """The inputs one after another along `axis`."""

    axis: int

    def type(self, *xs: Type) -> Type:
        axis = axis_of("Concat", self.axis, xs[0])
        for x in xs:
            if x.dtype != xs[0].dtype:
                raise IRError(f"Concat: {xs[0]} and {x} differ in element type")
            if x.rank != xs[0].rank or replaced(x.shape, axis, 0) != replaced(xs[0].shape, axis, 0):
                raise IRError(f"Concat: {xs[0]} and {x} differ outside axis {axis}")
        dims = [x.shape[axis] for x in xs]
        if len(xs) > 1 and any(isinstance(d, str) for d in dims):
            raise IRError(f"Concat: axis {axis} of {xs[0]} has no fixed size")
        total: Dim = dims[0] if len(xs) == 1 else sum(d for d in dims if isinstance(d, int))
        return xs[0].with_shape(replaced(xs[0].shape, axis, total))

    def eval(self, *xs: Array) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def vjp(self, g: Value, y: Value, *xs: Value) -> Grads:
        if len(xs) == 1:
            return [g]
        return Split(self.axis, tuple(int(x.shape[self.axis]) for x in xs))(g).items()


class Split(Op):
    """Consecutive pieces of the given sizes along `axis`, as several outputs."""

    axis: int
    sizes: tuple[int, ...]

    def type(self, x: Type) -> tuple[Type, ...]:
        axis = axis_of("Split", self.axis, x)
        if x.shape[axis] != sum(self.sizes):
            raise IRError(f"Split: sizes {self.sizes} do not add up to axis {axis} of {x}")
        return tuple(x.with_shape(replaced(x.shape, axis, size)) for size in self.sizes)

    def eval(self, x: Array) -> tuple[Array, ...]:
        return tuple(np.split(x, np.cumsum(self.sizes)[:-1], axis=self.axis))

    def vjp(self, g: tuple[Value | None, ...], y: Value, x: Value) -> Grads:
        return [Concat(self.axis)(*(piece or zeros_like(part) for piece, part in zip(g, y, strict=True)))]


class Flip(Op):
    """x in reverse order along `axis`."""

    axis: int

    def type(self, x: Type) -> Type:
        axis_of("Flip", self.axis, x)
        return x

    def eval(self, x: Array) -> Array:
        return np.flip(x, self.axis)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [Flip(self.axis)(g)]


class Size(Op):
    """The size of a dim, as a floating-point scalar."""

    dim: Dim
    dtype: DType = DType.f32

    def type(self) -> Type:
        return Type((), DType(self.dtype))

    def eval(self) -> Array:
        return np.asarray(self.dim, DType(self.dtype).numpy)

    def vjp(self, g: Value, y: Value) -> Grads:
        return []


class Iota(Op):
    """0, 1, 2, … along one axis of a shape that is one elsewhere."""

    shape: Shape
    axis: int
    dtype: DType = DType.i64

    def type(self) -> Type:
        t = Type(self.shape, DType(self.dtype))
        axis_of("Iota", self.axis, t)
        return t

    def eval(self) -> Array:
        line = np.arange(self.shape[self.axis], dtype=DType(self.dtype).numpy)
        column = line.reshape([-1 if i == self.axis % len(self.shape) else 1 for i in range(len(self.shape))])
        return np.broadcast_to(column, numbers(self.shape))

    def vjp(self, g: Value, y: Value) -> Grads:
        return []


class After(Op):
    """x, for what is to be computed again after `when` is known: it is not taken for what was computed of x before."""

    def type(self, x: Type, when: Type) -> Type:
        return x

    def decompose(self, x: Value, when: Value) -> Value:
        return x

    def vjp(self, g: Value, y: Value, x: Value, when: Value) -> Grads:
        return [g, None]


def reshape(x: Value, shape: Shape) -> Value:
    return x if x.shape == tuple(shape) else Reshape(tuple(shape))(x)


def transpose(x: Value, axes: tuple[int, ...]) -> Value:
    return x if tuple(axes) == tuple(range(x.rank)) else Transpose(tuple(axes))(x)


def zeros_like(x: Value) -> Value:
    return BroadcastTo(x.shape)(constant(0.0, x.dtype))


def swap_axes(x: Value, a: int, b: int) -> Value:
    """Two axes exchanged."""
    return transpose(x, tuple(b if i == a else a if i == b else i for i in range(x.rank)))


def swap_last(x: Value) -> Value:
    """The last two axes exchanged."""
    return transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def merge(x: Value, start: int, stop: int) -> Value:
    """Axes `start` up to `stop` as one; raises `IRError` where several of them are named."""
    dims = x.shape[start:stop]
    named = [d for d in dims if isinstance(d, str)]
    if named and len(dims) > 1 and Type(dims).numel() * len(named) != 1:
        raise IRError(f"{x.type}: axes {dims} cannot be merged while {named[0]} has no fixed size")
    dim: Dim = named[0] if named else math.prod(d for d in dims if isinstance(d, int))
    return reshape(x, (*x.shape[:start], dim, *x.shape[stop:]))
