"""Reductions. They keep the reduced axes, with size one, so that results broadcast back."""

from __future__ import annotations

import numpy as np

from ..ir import Array, DType, Grads, IRError, Op, Shape, Type, Value, constant
from .elementwise import Cast, Equal, Exp, Log, Maximum, Sqrt, floating
from .shape import BroadcastTo, Flip, Iota, Size, axis_of, replaced, reshape


def _reduced(name: str, x: Type, axes: tuple[int, ...]) -> Type:
    where = {axis_of(name, a, x) for a in axes}
    if len(where) < len(axes):
        raise IRError(f"{name}: {axes} names an axis of {x} twice")
    return x.with_shape(1 if i in where else d for i, d in enumerate(x.shape))


class Sum(Op):
    """The sum over `axes`."""

    axes: tuple[int, ...]

    def type(self, x: Type) -> Type:
        if x.dtype is DType.boolean:
            raise IRError(f"Sum: expected numbers, got {x}")
        return _reduced("Sum", x, self.axes)

    def eval(self, x: Array) -> Array:
        return np.asarray(np.sum(x, self.axes, dtype=x.dtype, keepdims=True))

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [BroadcastTo(x.shape)(g)]

    def flops(self, out: Type, x: Type) -> int:
        return x.numel()


class Max(Op):
    """The largest number along `axis`; at ties the gradient goes to the first."""

    axis: int

    def type(self, x: Type) -> Type:
        return _reduced("Max", x, (self.axis,))

    def eval(self, x: Array) -> Array:
        return np.asarray(np.max(x, self.axis, keepdims=True))

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * Cast(g.dtype)(one_hot_like(x, ArgMax(self.axis)(x), self.axis))]

    def flops(self, out: Type, x: Type) -> int:
        return x.numel()


class ArgMax(Op):
    """The index of the (first) largest number along `axis`, kept with size one."""

    axis: int
    differentiable = False

    def type(self, x: Type) -> Type:
        return _reduced("ArgMax", x, (self.axis,)).with_dtype(DType.i64)

    def eval(self, x: Array) -> Array:
        return np.asarray(np.argmax(x, self.axis, keepdims=True))


class CumSum(Op):
    """Running sums along `axis`."""

    axis: int

    def type(self, x: Type) -> Type:
        axis_of("CumSum", self.axis, x)
        return floating("CumSum", x)

    def eval(self, x: Array) -> Array:
        return np.cumsum(x, self.axis, dtype=x.dtype)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [Flip(self.axis)(CumSum(self.axis)(Flip(self.axis)(g)))]

    def flops(self, out: Type, x: Type) -> int:
        return x.numel()


class Mean(Op):
    """The arithmetic mean over `axes`."""

    axes: tuple[int, ...]

    def type(self, x: Type) -> Type:
        return _reduced("Mean", floating("Mean", x), self.axes)

    def decompose(self, x: Value) -> Value:
        return Sum(self.axes)(x) / count(x, self.axes)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [BroadcastTo(x.shape)(g / count(x, self.axes))]


def count(x: Value, axes: tuple[int, ...]) -> Value:
    """How many numbers of x a reduction over `axes` takes together, as a scalar of x's dtype."""
    dims = [x.shape[a] for a in axes]
    result = constant(float(np.prod([d for d in dims if isinstance(d, int)], dtype=np.int64)), x.dtype)
    for dim in dims:
        if isinstance(dim, str):
            result = Size(dim, x.dtype)() * result
    return result


def one_hot_like(x: Value, index: Value, axis: int) -> Value:
    """Booleans of x's shape, true where the position along `axis` equals `index` (kept axis)."""
    axis %= x.rank
    line = Iota(tuple(d if i == axis else 1 for i, d in enumerate(x.shape)), axis)()
    return Equal()(line, index)


class OneHot(Op):
    """Indices [...] as rows of zeros with a one at the index: [..., depth]."""

    depth: int
    dtype: DType = DType.f32
    differentiable = False

    def type(self, index: Type) -> Type:
        if index.dtype not in (DType.i32, DType.i64):
            raise IRError(f"OneHot: the index is {index}, expected whole numbers")
        return Type((*index.shape, self.depth), DType(self.dtype))

    def decompose(self, index: Value) -> Value:
        line = Iota((*(1 for _ in index.shape), self.depth), index.rank, index.dtype)()
        return Cast(self.dtype)(Equal()(line, reshape(index, (*index.shape, 1))))


class Softmax(Op):
    """exp(x) / sum(exp(x)) along `axis`, shifted by the maximum for stability."""

    axis: int = -1

    def type(self, x: Type) -> Type:
        axis_of("Softmax", self.axis, x)
        return floating("Softmax", x)

    def decompose(self, x: Value) -> Value:
        e = Exp()(x - Max(self.axis)(x))
        return e / Sum((self.axis,))(e)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [SoftmaxGrad(self.axis)(g, y)]


class _FromOutput(Op):
    """A gradient that is made of the output's gradient and the output."""

    axis: int = -1

    def type(self, g: Type, y: Type) -> Type:
        axis_of(self.kind, self.axis, y)
        if g != y:
            raise IRError(f"{self.kind}: gradient {g} and output {y} differ")
        return floating(self.kind, y)


class SoftmaxGrad(_FromOutput):
    """The gradient of `Softmax`, from that of its output and its output."""

    def decompose(self, g: Value, y: Value) -> Value:
        return (g - Sum((self.axis,))(g * y)) * y


class LogSoftmaxGrad(_FromOutput):
    """The gradient of `LogSoftmax`, from that of its output and its output."""

    def decompose(self, g: Value, y: Value) -> Value:
        return g - Exp()(y) * Sum((self.axis,))(g)


class LogSoftmax(Op):
    """The logarithm of `Softmax`, computed without forming it."""

    axis: int = -1

    def type(self, x: Type) -> Type:
        axis_of("LogSoftmax", self.axis, x)
        return floating("LogSoftmax", x)

    def decompose(self, x: Value) -> Value:
        shifted = x - Max(self.axis)(x)
        return shifted - Log()(Sum((self.axis,))(Exp()(shifted)))

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [LogSoftmaxGrad(self.axis)(g, y)]


class LogSumExp(Op):
    """log(sum(exp(x))) along `axis`, shifted by the maximum so that it cannot overflow."""

    axis: int = -1

    def type(self, x: Type) -> Type:
        return _reduced("LogSumExp", floating("LogSumExp", x), (self.axis,))

    def decompose(self, x: Value) -> Value:
        most = Max(self.axis)(x)
        return most + Log()(Sum((self.axis,))(Exp()(x - most)))

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * Exp()(x - y)]


class L2Normalize(Op):
    """x divided by its Euclidean norm along `axis`, which is taken to be at least `eps`."""

    axis: int = -1
    eps: float = 1e-12

    def type(self, x: Type) -> Type:
        axis_of("L2Normalize", self.axis, x)
        return floating("L2Normalize", x)

    def decompose(self, x: Value) -> Value:
        norm = Sqrt()(Maximum()(Sum((self.axis,))(x * x), constant(self.eps**2, x.dtype)))
        return x / norm


class GlobalNorm(Op):
    """The Euclidean norm of all numbers of several tensors together, as a scalar."""

    def type(self, *tensors: Type) -> Type:
        if not tensors or any(t.dtype != tensors[0].dtype for t in tensors):
            raise IRError(f"GlobalNorm: expected tensors of one element type, got {', '.join(map(str, tensors))}")
        return floating("GlobalNorm", Type((), tensors[0].dtype))

    def decompose(self, *tensors: Value) -> Value:
        squares = [reshape(Sum(tuple(range(t.rank)))(t * t), ()) for t in tensors]
        total = squares[0]
        for square in squares[1:]:
            total = total + square
        return Sqrt()(total)

    def vjp(self, g: Value, y: Value, *tensors: Value) -> Grads:
        return [t * (g / y) for t in tensors]


def drop(x: Value, axis: int) -> Value:
    """x without an axis of size one."""
    return reshape(x, replaced(x.shape, axis % x.rank))


def sum_to(x: Value, shape: Shape) -> Value:
    """Undo a broadcast: sum x over the axes along which `shape` was repeated."""
    if x.shape == shape:
        return x
    lead = x.rank - len(shape)
    axes = (*range(lead), *(lead + i for i, d in enumerate(shape) if d == 1 and x.shape[lead + i] != 1))
    return reshape(Sum(axes)(x), shape)
