"""Elementwise primitives: arithmetic, comparisons, selection, casts. Shapes broadcast as in NumPy."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..ir import Array, Dim, DType, Grads, IRError, Op, Shape, Type, Value, constant
from . import kernels


def broadcast(name: str, *types: Type) -> Shape:
    """The common shape of `types`; raises `IRError` naming both sides where there is none."""
    first = types[0].shape
    if all(t.shape in (first, ()) for t in types[1:]):
        return first
    rank = max(t.rank for t in types)
    shape: list[Dim] = [1] * rank
    for t in types:
        for axis, dim in enumerate(t.shape, start=rank - t.rank):
            if shape[axis] in (1, dim):
                shape[axis] = dim
            elif dim != 1:
                raise IRError(f"{name}: {' and '.join(map(str, types))} do not broadcast: {shape[axis]} against {dim}")
    return tuple(shape)


def floating(name: str, x: Type) -> Type:
    if not x.dtype.floating:
        raise IRError(f"{name}: expected floating point numbers, got {x}")
    return x


class Unary(Op):
    """An op on each number of one floating-point input."""

    ufunc: ClassVar[str]
    cost: ClassVar[int] = 1

    def type(self, x: Type) -> Type:
        return floating(self.kind, x)

    def eval(self, x: Array) -> Array:
        result: Array = getattr(np, self.ufunc)(x)
        return result

    def flops(self, out: Type, *inputs: Type) -> int:
        return self.cost * out.numel()


class Neg(Unary):
    """-x"""

    ufunc = "negative"

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [-g]


class Exp(Unary):
    """e ** x"""

    ufunc = "exp"

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * y]


class Log(Unary):
    """The natural logarithm of x."""

    ufunc = "log"

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g / x]


class Expm1(Unary):
    """e ** x - 1, near 0 as exact as elsewhere."""

    ufunc = "expm1"

    def decompose(self, x: Value) -> Value:
        """By exp and log (Kahan): what rounding takes from one it takes from the other."""
        one = constant(1.0, x.dtype)
        u = Exp()(x)
        same = Equal()(u, one)
        near = Where()(same, x, (u - 1.0) * (x / Where()(same, one, Log()(u))))
        return Where()(Less()(Abs()(x), one), near, u - 1.0)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * Exp()(x)]


class Log1p(Unary):
    """The natural logarithm of 1 + x, near 0 as exact as elsewhere."""

    ufunc = "log1p"

    def decompose(self, x: Value) -> Value:
        """By log alone (Kahan): what rounding 1 + x takes is given back."""
        one = constant(1.0, x.dtype)
        u = x + 1.0
        same = Equal()(u, one)
        near = Where()(same, x, Log()(u) * (x / Where()(same, one, u - 1.0)))
        return Where()(Less()(x, one), near, Log()(u))

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g / (x + 1.0)]


class Sqrt(Unary):
    """The square root of x."""

    ufunc = "sqrt"

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * 0.5 / y]


class Sin(Unary):
    """The sine of x, in radians."""

    ufunc = "sin"

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * Cos()(x)]


class Cos(Unary):
    """The cosine of x, in radians."""

    ufunc = "cos"

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [-(g * Sin()(x))]


class Tanh(Unary):
    """The hyperbolic tangent of x."""

    ufunc = "tanh"

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * (1.0 - y * y)]


class Abs(Unary):
    """|x|; its gradient at zero is zero."""

    ufunc = "abs"

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * Sign()(x)]


class Sign(Unary):
    """-1, 0 or 1, as x is negative, zero or positive."""

    ufunc = "sign"
    differentiable = False


class Floor(Unary):
    """The largest whole number not above x."""

    ufunc = "floor"
    differentiable = False


class Erf(Unary):
    """The error function, (2/√π) ∫₀ˣ exp(-t²) dt."""

    ufunc = "erf"

    def eval(self, x: Array) -> Array:
        return kernels.erf(x)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * (2.0 / np.sqrt(np.pi)) * Exp()(-(x * x))]


class Binary(Op):
    """An op on pairs of numbers of one element type."""

    ufunc: ClassVar[str]

    def type(self, a: Type, b: Type) -> Type:
        name = self.kind
        if a.dtype != b.dtype:
            raise IRError(f"{name}: {a} and {b} differ in element type")
        return Type(broadcast(name, a, b), a.dtype)

    def eval(self, a: Array, b: Array) -> Array:
        result: Array = getattr(np, self.ufunc)(a, b)
        return result

    def flops(self, out: Type, *inputs: Type) -> int:
        return out.numel()


class Arithmetic(Binary):
    """An op on pairs of numbers; booleans are none."""

    def type(self, a: Type, b: Type) -> Type:
        if a.dtype is DType.boolean:
            raise IRError(f"{self.kind}: expected numbers, got {a} and {b}")
        return super().type(a, b)


class Add(Arithmetic):
    """a + b"""

    ufunc = "add"

    def vjp(self, g: Value, y: Value, a: Value, b: Value) -> Grads:
        return [g, g]


class Sub(Arithmetic):
    """a - b"""

    ufunc = "subtract"

    def vjp(self, g: Value, y: Value, a: Value, b: Value) -> Grads:
        return [g, -g]


class Mul(Arithmetic):
    """a * b"""

    ufunc = "multiply"

    def vjp(self, g: Value, y: Value, a: Value, b: Value) -> Grads:
        return [g * b, g * a]


class Div(Arithmetic):
    """a / b, of floating point numbers."""

    ufunc = "divide"

    def type(self, a: Type, b: Type) -> Type:
        return floating("Div", super().type(a, b))

    def vjp(self, g: Value, y: Value, a: Value, b: Value) -> Grads:
        return [g / b, -(g * y / b)]


class Pow(Arithmetic):
    """a ** b, of floating point numbers. Where b is not a constant, its gradient needs a > 0."""

    ufunc = "power"

    def type(self, a: Type, b: Type) -> Type:
        return floating("Pow", super().type(a, b))

    def vjp(self, g: Value, y: Value, a: Value, b: Value) -> Grads:
        return [g * b * a ** (b - 1.0), g * y * Log()(a)]


class Maximum(Binary):
    """The larger of a and b; where they are equal the gradient goes to each by half."""

    ufunc = "maximum"

    def vjp(self, g: Value, y: Value, a: Value, b: Value) -> Grads:
        return _share(g, y, a, b)


class Minimum(Binary):
    """The smaller of a and b; where they are equal the gradient goes to each by half."""

    ufunc = "minimum"

    def vjp(self, g: Value, y: Value, a: Value, b: Value) -> Grads:
        return _share(g, y, a, b)


def _share(g: Value, y: Value, a: Value, b: Value) -> list[Value]:
    half = constant(0.5, g.dtype)
    weight_a = Where()(Equal()(a, b), half, Cast(g.dtype)(Equal()(a, y)))
    return [g * weight_a, g * (1.0 - weight_a)]


class Comparison(Binary):
    """A comparison: the output is boolean."""

    differentiable = False

    def type(self, a: Type, b: Type) -> Type:
        return super().type(a, b).with_dtype(DType.boolean)

    def flops(self, out: Type, *inputs: Type) -> int:
        return 0


class Less(Comparison):
    """a < b"""

    ufunc = "less"


class Equal(Comparison):
    """a == b"""

    ufunc = "equal"


class And(Comparison):
    """a and b, of booleans."""

    ufunc = "logical_and"

    def type(self, a: Type, b: Type) -> Type:
        if any(t.dtype is not DType.boolean for t in (a, b)):
            raise IRError(f"And: expected booleans, got {' and '.join(map(str, (a, b)))}")
        return super().type(a, b)


class Not(Op):
    """Not x, of booleans."""

    differentiable = False
    ufunc: ClassVar[str] = "logical_not"

    def type(self, x: Type) -> Type:
        if x.dtype is not DType.boolean:
            raise IRError(f"Not: expected booleans, got {x}")
        return x

    def eval(self, x: Array) -> Array:
        return np.logical_not(x)


class Where(Op):
    """a where the condition holds, else b."""

    def type(self, condition: Type, a: Type, b: Type) -> Type:
        if condition.dtype is not DType.boolean:
            raise IRError(f"Where: the condition is {condition}, expected booleans")
        if a.dtype != b.dtype:
            raise IRError(f"Where: {a} and {b} differ in element type")
        return Type(broadcast("Where", condition, a, b), a.dtype)

    def eval(self, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition, a, b)

    def vjp(self, g: Value, y: Value, condition: Value, a: Value, b: Value) -> Grads:
        zero = constant(0.0, g.dtype)
        return [None, Where()(condition, g, zero), Where()(condition, zero, g)]


class Cast(Op):
    """The same numbers in another element type; to whole numbers by truncation."""

    to: DType

    def type(self, x: Type) -> Type:
        return x.with_dtype(DType(self.to))

    def eval(self, x: Array) -> Array:
        return x.astype(DType(self.to).numpy)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [Cast(x.dtype)(g) if x.dtype.floating else None]


def in_type(dtype: DType, x: Value) -> Value:
    """x in an element type: itself where it has it."""
    return x if x.dtype is dtype else Cast(dtype)(x)


class Rounded(Op):
    """The nearest numbers that a shorter element type has, in the type of x; of two as near, the even one."""

    to: DType

    def type(self, x: Type) -> Type:
        if not x.dtype.floating:
            raise IRError(f"Rounded: expected floating-point numbers, got {x}")
        return x

    def decompose(self, x: Value) -> Value:
        return Cast(x.dtype)(Cast(self.to)(x))
