"""Products of matrices, and look-ups by index."""

from __future__ import annotations

import numpy as np

from ..ir import Array, DType, Grads, IRError, Op, Type, Value
from . import kernels
from .elementwise import Equal, Where, broadcast, floating
from .reduce import Sum, sum_to
from .shape import Iota, axis_of, replaced, reshape, swap_last


class MatMul(Op):
    """[..., m, k] @ [..., k, n] -> [..., m, n]; leading axes broadcast."""

    def type(self, a: Type, b: Type) -> Type:
        if a.rank < 2 or b.rank < 2 or a.dtype != b.dtype:
            raise IRError(f"MatMul: {a} and {b} are not matrices of one element type")
        if a.shape[-1] != b.shape[-2]:
            raise IRError(f"MatMul: {a} has {a.shape[-1]} columns, {b} has {b.shape[-2]} rows")
        lead = broadcast("MatMul", a.with_shape(a.shape[:-2]), b.with_shape(b.shape[:-2]))
        return floating("MatMul", a.with_shape((*lead, a.shape[-2], b.shape[-1])))

    def eval(self, a: Array, b: Array) -> Array:
        return np.asarray(np.matmul(a, b))

    def vjp(self, g: Value, y: Value, a: Value, b: Value) -> Grads:
        return [g @ swap_last(b), swap_last(a) @ g]

    def flops(self, out: Type, a: Type, b: Type) -> int:
        return 2 * out.numel() * Type(a.shape[-1:]).numel()


class Linear(Op):
    """x @ weightᵀ + bias over the last axis: [..., in] and [out, in] -> [..., out]."""

    def type(self, x: Type, weight: Type, bias: Type | None = None) -> Type:
        if weight.rank != 2 or x.rank < 1 or x.dtype != weight.dtype:
            raise IRError(f"Linear: {x} and weight {weight} do not fit")
        if x.shape[-1] != weight.shape[1]:
            raise IRError(f"Linear: input {x} has {x.shape[-1]} features, weight {weight} expects {weight.shape[1]}")
        if bias is not None and bias != weight.with_shape(weight.shape[:1]):
            raise IRError(f"Linear: bias {bias} does not fit weight {weight}")
        return floating("Linear", x.with_shape((*x.shape[:-1], weight.shape[0])))

    def decompose(self, x: Value, weight: Value, bias: Value | None = None) -> Value:
        row = reshape(x, (1, *x.shape)) if x.rank == 1 else x
        y = row @ swap_last(weight)
        y = reshape(y, (*x.shape[:-1], weight.shape[0]))
        return y if bias is None else y + bias

    def vjp(self, g: Value, y: Value, x: Value, weight: Value, bias: Value | None = None) -> Grads:
        rows = (reshape(g, (1, *g.shape)), reshape(x, (1, *x.shape))) if x.rank == 1 else (g, x)
        grads = [Linear()(g, swap_last(weight)), LinearWeightGrad()(*rows)]
        return grads if bias is None else [*grads, sum_to(g, bias.shape)]

    def flops(self, out: Type, x: Type, weight: Type, bias: Type | None = None) -> int:
        return out.numel() * (2 * Type(weight.shape[1:]).numel() + (bias is not None))


class LinearWeightGrad(Op):
    """The gradient of `Linear` in its weight: [..., out] and [..., in] -> [out, in]."""

    def type(self, g: Type, x: Type) -> Type:
        if g.rank < 2 or g.shape[:-1] != x.shape[:-1] or g.dtype != x.dtype:
            raise IRError(f"LinearWeightGrad: {g} and {x} differ outside their last axis")
        return floating("LinearWeightGrad", g.with_shape((g.shape[-1], x.shape[-1])))

    def decompose(self, g: Value, x: Value) -> Value:
        y = swap_last(g) @ x
        return reshape(Sum(tuple(range(y.rank - 2)))(y), y.shape[-2:]) if y.rank > 2 else y

    def vjp(self, h: Value, y: Value, g: Value, x: Value) -> Grads:
        return [Linear()(x, h), Linear()(g, swap_last(h))]

    def flops(self, out: Type, g: Type, x: Type) -> int:
        return 2 * out.numel() * x.with_shape(x.shape[:-1]).numel()


def _check_index(name: str, index: Type) -> None:
    if index.dtype.value not in ("i32", "i64"):
        raise IRError(f"{name}: the index is {index}, expected whole numbers")


class Gather(Op):
    """The slices of x along `axis` that an index names: axis is replaced by the index's axes."""

    axis: int = 0

    def type(self, x: Type, index: Type) -> Type:
        _check_index("Gather", index)
        return x.with_shape(replaced(x.shape, axis_of("Gather", self.axis, x), *index.shape))

    def eval(self, x: Array, index: Array) -> Array:
        return np.take(x, index, self.axis)

    def vjp(self, g: Value, y: Value, x: Value, index: Value) -> Grads:
        axis = self.axis % x.rank
        return [ScatterAdd(axis, (x.shape[axis],))(g, index), None]


class ScatterAdd(Op):
    """The adjoint of `Gather`: zeros of size `size` along `axis`, with each slice of g added in."""

    axis: int
    size: tuple[int | str]

    def type(self, g: Type, index: Type) -> Type:
        _check_index("ScatterAdd", index)
        if self.axis < 0 or g.shape[self.axis : self.axis + index.rank] != index.shape:
            raise IRError(f"ScatterAdd: {g} lacks the axes of {index} at {self.axis}")
        return floating(
            "ScatterAdd",
            g.with_shape((*g.shape[: self.axis], *self.size, *g.shape[self.axis + index.rank :])),
        )

    def eval(self, g: Array, index: Array) -> Array:
        return kernels.scatter_add(g, index, self.axis, int(self.size[0]))

    def vjp(self, h: Value, y: Value, g: Value, index: Value) -> Grads:
        return [Gather(self.axis)(h, index), None]

    def flops(self, out: Type, g: Type, index: Type) -> int:
        return g.numel()


class WriteSlice(Op):
    """x with the slice number `index` along `axis` replaced by `new`, which is one long there."""

    axis: int

    def type(self, x: Type, new: Type, index: Type) -> Type:
        axis = axis_of("WriteSlice", self.axis, x)
        if new != x.with_shape(replaced(x.shape, axis, 1)) or index != Type((), DType.i64):
            raise IRError(f"WriteSlice: {new} at {index} is no slice of {x} along axis {axis}")
        return x

    def decompose(self, x: Value, new: Value, index: Value) -> Value:
        axis = self.axis % x.rank
        places = Iota(tuple(d if i == axis else 1 for i, d in enumerate(x.shape)), axis)()
        return Where()(Equal()(places, index), new, x)
