"""Activation functions: composites over the elementwise primitives."""

from __future__ import annotations

import math
from typing import ClassVar

from ..ir import Grads, IRError, Op, Type, Value, constant
from .elementwise import Abs, Cast, Erf, Exp, Expm1, Less, Log1p, Maximum, Minimum, Tanh, Where, floating


class Activation(Op):
    """A composite on each number of one floating-point input."""

    cost: ClassVar[int] = 4

    def type(self, x: Type) -> Type:
        return floating(self.kind, x)

    def flops(self, out: Type, *inputs: Type) -> int:
        return self.cost * out.numel()


class ActivationGrad(Op):
    """The gradient of an activation, from that of its output and its input."""

    cost: ClassVar[int] = 6

    def type(self, g: Type, x: Type) -> Type:
        if g != x:
            raise IRError(f"{self.kind}: gradient {g} and input {x} differ")
        return floating(self.kind, x)

    def flops(self, out: Type, *inputs: Type) -> int:
        return self.cost * out.numel()


def positive(x: Value) -> Value:
    """One where x > 0, zero elsewhere."""
    return Cast(x.dtype)(Less()(constant(0.0, x.dtype), x))


class Relu(Activation):
    """max(x, 0); its gradient at zero is zero."""

    cost = 1

    def decompose(self, x: Value) -> Value:
        return Maximum()(x, constant(0.0, x.dtype))

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [ReluGrad()(g, y)]


class ReluGrad(ActivationGrad):
    """g where x > 0, zero elsewhere; x may be the input of `Relu` or its output."""

    cost = 1

    def decompose(self, g: Value, x: Value) -> Value:
        return g * positive(x)


class LeakyRelu(Activation):
    """x where positive, slope * x elsewhere."""

    slope: float = 0.01
    cost = 2

    def decompose(self, x: Value) -> Value:
        return Where()(Less()(constant(0.0, x.dtype), x), x, x * self.slope)


class Elu(Activation):
    """x where positive, alpha * (exp(x) - 1) elsewhere (Clevert et al., 2015)."""

    alpha: float = 1.0

    def decompose(self, x: Value) -> Value:
        zero = constant(0.0, x.dtype)
        return Where()(Less()(zero, x), x, Expm1()(Minimum()(x, zero)) * self.alpha)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        zero = constant(0.0, x.dtype)
        # Not by y + alpha, of which rounding leaves nothing far below zero.
        return [Where()(Less()(zero, x), g, g * Exp()(Minimum()(x, zero)) * self.alpha)]


class Selu(Activation):
    """The self-normalising scaled ELU (Klambauer et al., 2017)."""

    def decompose(self, x: Value) -> Value:
        return Elu(1.6732632423543772)(x) * 1.0507009873554805


class Sigmoid(Activation):
    """1 / (1 + exp(-x)), computed so that it cannot overflow, and is exact however small it is."""

    def decompose(self, x: Value) -> Value:
        e = Exp()(-Abs()(x))
        return Where()(Less()(x, constant(0.0, x.dtype)), e, constant(1.0, x.dtype)) / (e + 1.0)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * y * (1.0 - y)]


class HardSigmoid(Activation):
    """clip(x / 6 + 1/2, 0, 1)."""

    def decompose(self, x: Value) -> Value:
        return clip(x * (1 / 6) + 0.5, 0.0, 1.0)


class Silu(Activation):
    """x * sigmoid(x), also known as swish (Elfwing et al., 2017)."""

    def decompose(self, x: Value) -> Value:
        return x * Sigmoid()(x)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [SiluGrad()(g, x)]


class SiluGrad(ActivationGrad):
    """The gradient of `Silu`."""

    def decompose(self, g: Value, x: Value) -> Value:
        s = Sigmoid()(x)
        return g * (s + x * s * (1.0 - s))


class HardSwish(Activation):
    """x * hard_sigmoid(x) (Howard et al., 2019)."""

    def decompose(self, x: Value) -> Value:
        return x * HardSigmoid()(x)


class Gelu(Activation):
    """x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel, 2016); or its tanh form."""

    approximate: bool = False
    cost = 8

    def decompose(self, x: Value) -> Value:
        if self.approximate:
            inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
            return x * 0.5 * (Tanh()(inner) + 1.0)
        return x * 0.5 * (Erf()(x * math.sqrt(0.5)) + 1.0)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [GeluGrad(self.approximate)(g, x)]


class GeluGrad(ActivationGrad):
    """The gradient of `Gelu`."""

    approximate: bool = False
    cost = 14

    def decompose(self, g: Value, x: Value) -> Value:
        if self.approximate:
            t = Tanh()((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi))
            slope = (x * x * (3 * 0.044715) + 1.0) * math.sqrt(2 / math.pi)
            return g * ((t + 1.0) * 0.5 + x * 0.5 * (1.0 - t * t) * slope)
        cdf = (Erf()(x * math.sqrt(0.5)) + 1.0) * 0.5
        return g * (cdf + x * Exp()(x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


class Softplus(Activation):
    """log(1 + exp(x)), computed so that it cannot overflow, and is exact however small it is."""

    def decompose(self, x: Value) -> Value:
        return Maximum()(x, constant(0.0, x.dtype)) + Log1p()(Exp()(-Abs()(x)))

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [g * Sigmoid()(x)]


class Mish(Activation):
    """x * tanh(softplus(x)) (Misra, 2019)."""

    def decompose(self, x: Value) -> Value:
        return x * Tanh()(Softplus()(x))


def clip(x: Value, low: float, high: float) -> Value:
    return Minimum()(Maximum()(x, constant(low, x.dtype)), constant(high, x.dtype))
