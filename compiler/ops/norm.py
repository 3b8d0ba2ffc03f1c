"""Normalisation and dropout."""

from __future__ import annotations

from ..ir import DType, Grads, IRError, Op, Type, Value, constant
from .elementwise import Cast, Less, Maximum, Not, Sqrt, floating, in_type
from .reduce import Mean, Sum, count, sum_to
from .shape import reshape, zeros_like


def _columns(name: str, x: Type, *vectors: Type) -> None:
    """Check that per-channel vectors fit the channels (axis 1) of x; those of bfloat16 may be in float32."""
    known = (DType.bf16, DType.f32) if x.dtype is DType.bf16 else (x.dtype,)
    for v in vectors:
        if x.rank < 2 or v.shape != (x.shape[1],) or v.dtype not in known:
            raise IRError(f"{name}: {v} does not fit the channels of {x}")


def _spread(v: Value, x: Value) -> Value:
    """A per-channel vector in a shape that broadcasts against x."""
    return reshape(v, (1, *v.shape, *(1 for _ in x.shape[2:])))


class BatchNorm(Op):
    """(x - mean) / sqrt(var + eps) * scale + shift per channel (axis 1), by given statistics."""

    eps: float = 1e-5

    def type(self, x: Type, scale: Type, shift: Type, mean: Type, var: Type) -> Type:
        _columns("BatchNorm", x, scale, shift, mean, var)
        return floating("BatchNorm", x)

    def decompose(self, x: Value, scale: Value, shift: Value, mean: Value, var: Value) -> Value:
        factor = scale / Sqrt()(var + self.eps)
        return x * _spread(factor, x) + _spread(shift - mean * factor, x)


class BatchNormTrain(Op):
    """Batch normalisation by the batch's own statistics (Ioffe & Szegedy, 2015).

    Outputs (y, mean, variance): the statistics over every axis but channels, variance biased.
    """

    eps: float = 1e-5

    def type(self, x: Type, scale: Type, shift: Type) -> tuple[Type, ...]:
        _columns("BatchNormTrain", x, scale, shift)
        return floating("BatchNormTrain", x), scale, scale

    def decompose(self, x: Value, scale: Value, shift: Value) -> tuple[Value, ...]:
        axes, dtype = self._axes(x), x.dtype
        x = in_type(scale.dtype, x)
        mean = Mean(axes)(x)
        centred = x - mean
        var = Mean(axes)(centred * centred)
        y = centred / Sqrt()(var + self.eps) * _spread(scale, x) + _spread(shift, x)
        return in_type(dtype, y), reshape(mean, scale.shape), reshape(var, scale.shape)

    def vjp(self, g: tuple[Value | None, ...], y: Value, x: Value, scale: Value, shift: Value) -> Grads:
        gy, gmean, gvar = g[0] if g[0] is not None else zeros_like(x), g[1], g[2]
        _, mean, var = y.items()
        gx, gscale, gshift = BatchNormGrad(self.eps)(gy, x, scale, mean, var).items()
        if (gmean is not None or gvar is not None) and scale.dtype is not x.dtype:
            raise IRError("BatchNormTrain: statistics of bfloat16 have no gradients of their own")
        n = count(x, self._axes(x))
        if gmean is not None:
            gx = gx + _spread(gmean, x) / n
        if gvar is not None:
            gx = gx + (x - _spread(mean, x)) * 2.0 * _spread(gvar, x) / n
        return [gx, gscale, gshift]

    @staticmethod
    def _axes(x: Value) -> tuple[int, ...]:
        return (0, *range(2, x.rank))


class BatchNormGrad(Op):
    """The gradients of `BatchNormTrain` in (x, scale, shift), from that of y and the batch's statistics."""

    eps: float = 1e-5

    def type(self, g: Type, x: Type, scale: Type, mean: Type, var: Type) -> tuple[Type, ...]:
        _columns("BatchNormGrad", x, scale, mean, var)
        if g != x:
            raise IRError(f"BatchNormGrad: gradient {g} and input {x} differ")
        return floating("BatchNormGrad", x), scale, scale

    def decompose(self, g: Value, x: Value, scale: Value, mean: Value, var: Value) -> tuple[Value, ...]:
        axes, dtype = BatchNormTrain._axes(x), x.dtype
        g, x = in_type(scale.dtype, g), in_type(scale.dtype, x)
        inverse = constant(1.0, x.dtype) / Sqrt()(_spread(var, x) + self.eps)
        normal = (x - _spread(mean, x)) * inverse
        gscale, gshift = Sum(axes)(g * normal), Sum(axes)(g)
        gx = (g - (gshift + normal * gscale) / count(x, axes)) * (inverse * _spread(scale, x))
        return in_type(dtype, gx), reshape(gscale, scale.shape), reshape(gshift, scale.shape)


class LayerNorm(Op):
    """(x - mean) / sqrt(var + eps) * scale + shift over the last axis (Ba et al., 2016)."""

    eps: float = 1e-5

    def type(self, x: Type, scale: Type, shift: Type) -> Type:
        for v in (scale, shift):
            if v.shape != x.shape[-1:] or v.dtype != x.dtype:
                raise IRError(f"LayerNorm: {v} does not fit the last axis of {x}")
        return floating("LayerNorm", x)

    def decompose(self, x: Value, scale: Value, shift: Value) -> Value:
        centred = x - Mean((-1,))(x)
        return centred / Sqrt()(Mean((-1,))(centred * centred) + self.eps) * scale + shift

    def vjp(self, g: Value, y: Value, x: Value, scale: Value, shift: Value) -> Grads:
        return LayerNormGrad(self.eps)(g, x, scale).items()


class LayerNormGrad(Op):
    """The gradients of `LayerNorm` in (x, scale, shift), from that of its output."""

    eps: float = 1e-5

    def type(self, g: Type, x: Type, scale: Type) -> tuple[Type, ...]:
        if g != x or scale.shape != x.shape[-1:] or scale.dtype != x.dtype:
            raise IRError(f"LayerNormGrad: gradient {g} and scale {scale} do not fit {x}")
        return floating("LayerNormGrad", x), scale, scale

    def decompose(self, g: Value, x: Value, scale: Value) -> tuple[Value, ...]:
        centred = x - Mean((-1,))(x)
        inverse = constant(1.0, x.dtype) / Sqrt()(Mean((-1,))(centred * centred) + self.eps)
        normal = centred * inverse
        gn = g * scale
        gx = (gn - Mean((-1,))(gn) - normal * Mean((-1,))(gn * normal)) * inverse
        return gx, sum_to(g * normal, scale.shape), sum_to(g, scale.shape)


class GroupNorm(Op):
    """(x - mean) / sqrt(var + eps) within each sample's groups of channels (axis 1) (Wu & He, 2018).

    Then, with a scale and a shift per channel, scaled and shifted. With as many groups as channels this is
    instance normalisation (Ulyanov et al., 2016).
    """

    groups: int
    eps: float = 1e-5

    def type(self, x: Type, scale: Type | None = None, shift: Type | None = None) -> Type:
        channels = x.shape[1] if x.rank >= 2 else None
        if not isinstance(channels, int) or channels % self.groups:
            raise IRError(f"GroupNorm: the channels of {x} do not divide into {self.groups} groups")
        if (scale is None) != (shift is None):
            raise IRError("GroupNorm: a scale and a shift come together")
        _columns("GroupNorm", x, *(v for v in (scale, shift) if v is not None))
        return floating("GroupNorm", x)

    def decompose(self, x: Value, scale: Value | None = None, shift: Value | None = None) -> Value:
        grouped = reshape(x, (x.shape[0], self.groups, int(x.shape[1]) // self.groups, *x.shape[2:]))
        axes = tuple(range(2, grouped.rank))
        centred = grouped - Mean(axes)(grouped)
        y = reshape(centred / Sqrt()(Mean(axes)(centred * centred) + self.eps), x.shape)
        return y if scale is None or shift is None else y * _spread(scale, x) + _spread(shift, x)


class RmsNorm(Op):
    """x / sqrt(mean(x²) + eps) * scale over the last axis (Zhang & Sennrich, 2019)."""

    eps: float = 1e-6

    def type(self, x: Type, scale: Type) -> Type:
        if scale.shape != x.shape[-1:] or scale.dtype != x.dtype:
            raise IRError(f"RmsNorm: {scale} does not fit the last axis of {x}")
        return floating("RmsNorm", x)

    def decompose(self, x: Value, scale: Value) -> Value:
        return x / Sqrt()(Mean((-1,))(x * x) + self.eps) * scale


class Dropout(Op):
    """x with a share `rate` of its numbers zeroed, the rest scaled up (Srivastava et al., 2014).

    The second input is uniform on [0, 1) and decides: a number is kept where it is at least `rate`.
    """

    rate: float

    def type(self, x: Type, uniform: Type) -> Type:
        if x.shape != uniform.shape:
            raise IRError(f"Dropout: random numbers {uniform} do not fit {x}")
        return floating("Dropout", x)

    def decompose(self, x: Value, uniform: Value) -> Value:
        return x * self._factor(x, uniform)

    def vjp(self, g: Value, y: Value, x: Value, uniform: Value) -> Grads:
        return [Dropout(self.rate)(g, uniform), None]

    def _factor(self, x: Value, uniform: Value) -> Value:
        keep = Not()(Less()(uniform, constant(self.rate, uniform.dtype)))
        return Cast(x.dtype)(keep) * (1.0 / (1.0 - self.rate))


def at_least(x: Value, low: float) -> Value:
    return Maximum()(x, constant(low, x.dtype))
