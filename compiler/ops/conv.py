"""Convolution and pooling over one to three trailing axes; channels come before them."""

from __future__ import annotations

import math

import numpy as np

from ..ir import Array, Dim, Grads, IRError, Op, Shape, Type, Value, constant
from . import kernels
from .elementwise import Cast, floating
from .reduce import ArgMax, Max, Sum, one_hot_like, sum_to
from .shape import BroadcastTo, Pad, Reshape, Slice, merge, reshape, transpose

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def window_dims(name: str, x: Type, kernel: Ints, stride: Ints, pads: Pads, dilation: Ints) -> Shape:
    """The sizes of the trailing axes after sliding a window over them."""
    dims: list[Dim] = []
    for size, k, s, (low, high), d in zip(x.shape[x.rank - len(kernel) :], kernel, stride, pads, dilation, strict=True):
        span = d * (k - 1) + 1
        if isinstance(size, str):
            if s != 1 or low + high != span - 1:
                raise IRError(
                    f"{name}: axis {size} of {x} has no fixed size: only stride 1 with `same` padding keeps it"
                )
            dims.append(size)
            continue
        if size + low + high < span:
            raise IRError(f"{name}: a window of {span} does not fit axis {size} of {x} padded by {low + high}")
        dims.append((size + low + high - span) // s + 1)
    return tuple(dims)


class Windows(Op):
    """Every window of the trailing axes: [..., *S] -> [..., *O, *K]."""

    kernel: Ints
    stride: Ints
    dilation: Ints

    def type(self, x: Type) -> Type:
        rank = len(self.kernel)
        out = window_dims("Windows", x, self.kernel, self.stride, ((0, 0),) * rank, self.dilation)
        return x.with_shape((*x.shape[: x.rank - rank], *out, *self.kernel))

    def eval(self, x: Array) -> Array:
        return kernels.windows(x, self.kernel, self.stride, self.dilation)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [Fold(x.shape[x.rank - len(self.kernel) :], self.stride, self.dilation)(g)]


class Fold(Op):
    """The adjoint of `Windows`: each window added back in its place: [..., *O, *K] -> [..., *S]."""

    size: Shape
    stride: Ints
    dilation: Ints

    def type(self, g: Type) -> Type:
        rank = len(self.size)
        lead, out, kernel = g.shape[: -2 * rank], g.shape[-2 * rank : -rank], g.shape[-rank:]
        x = floating("Fold", g.with_shape((*lead, *self.size)))
        if window_dims("Fold", x, tuple(map(int, kernel)), self.stride, ((0, 0),) * rank, self.dilation) != out:
            raise IRError(f"Fold: {g} are not the windows of {x}")
        return x

    def eval(self, g: Array) -> Array:
        return kernels.fold(g, tuple(map(int, self.size)), self.stride, self.dilation)

    def vjp(self, h: Value, y: Value, g: Value) -> Grads:
        kernel = tuple(map(int, g.shape[-len(self.size) :]))
        return [Windows(kernel, self.stride, self.dilation)(h)]

    def flops(self, out: Type, g: Type) -> int:
        return g.numel()


def _pad(x: Value, pads: Pads, value: float = 0.0) -> Value:
    if not any(low or high for low, high in pads):
        return x
    return Pad((*((0, 0) for _ in range(x.rank - len(pads))), *pads), value)(x)


def _unpad(x: Value, pads: Pads) -> Value:
    if not any(low or high for low, high in pads):
        return x
    lead = x.rank - len(pads)
    bounds = [(low, int(d) - high) for d, (low, high) in zip(x.shape[lead:], pads, strict=True)]
    return Slice((*(None for _ in range(lead)), *bounds))(x)


def _padded(size: Shape, pads: Pads) -> Shape:
    return tuple(d if isinstance(d, str) else d + low + high for d, (low, high) in zip(size, pads, strict=True))


class Conv(Op):
    """Cross-correlation: [N, C, *S] with weight [O, C/groups, *K] (and bias [O]) -> [N, O, *S']."""

    stride: Ints
    pads: Pads
    dilation: Ints
    groups: int = 1

    def type(self, x: Type, weight: Type, bias: Type | None = None) -> Type:
        rank = len(self.stride)
        if x.rank != rank + 2 or weight.rank != rank + 2:
            raise IRError(f"conv: input {x} and weight {weight} are not for {rank} axes")
        if x.dtype != weight.dtype:
            raise IRError(f"conv: input {x} and weight {weight} differ in element type")
        expected = _times(weight.shape[1], self.groups)
        if x.shape[1] != expected:
            raise IRError(f"conv: input {x} has {x.shape[1]} channels, weight {weight} expects {expected}")
        if isinstance(weight.shape[0], int) and weight.shape[0] % self.groups:
            raise IRError(f"conv: {weight.shape[0]} filters do not divide into {self.groups} groups")
        if bias is not None and bias != weight.with_shape(weight.shape[:1]):
            raise IRError(f"conv: bias {bias} does not fit weight {weight}")
        kernel = tuple(map(int, weight.shape[2:]))
        out = window_dims("conv", x, kernel, self.stride, self.pads, self.dilation)
        return floating("conv", x.with_shape((x.shape[0], weight.shape[0], *out)))

    def decompose(self, x: Value, weight: Value, bias: Value | None = None) -> Value:
        rank = len(self.stride)
        kernel = tuple(map(int, weight.shape[2:]))
        columns = self._columns(x, kernel)  # [N, *O, G, C/G*K]
        taps = reshape(weight, (self.groups, int(weight.shape[0]) // self.groups, columns.shape[-1]))
        y = reshape(columns, (*columns.shape[:-1], 1, columns.shape[-1])) @ transpose(taps, (0, 2, 1))
        y = reshape(y, (*columns.shape[: rank + 1], weight.shape[0]))
        y = y if bias is None else y + bias
        return transpose(y, (0, rank + 1, *range(1, rank + 1)))

    def _columns(self, x: Value, kernel: Ints) -> Value:
        """The inputs under each output, [N, *O, G, C/G*K]."""
        rank = len(kernel)
        w = Windows(kernel, self.stride, self.dilation)(_pad(x, self.pads))  # [N, C, *O, *K]
        w = transpose(w, (0, *range(2, rank + 2), 1, *range(rank + 2, 2 * rank + 2)))
        taps = int(x.shape[1]) // self.groups * math.prod(kernel)
        return reshape(w, (*w.shape[: rank + 1], self.groups, taps))

    def vjp(self, g: Value, y: Value, x: Value, weight: Value, bias: Value | None = None) -> Grads:
        attributes = (self.stride, self.pads, self.dilation, self.groups)
        grads = [
            ConvInputGrad(x.shape[2:], *attributes)(g, weight),
            ConvWeightGrad(weight.shape[2:], *attributes)(g, x),
        ]
        if bias is None:
            return grads
        return [*grads, reshape(sum_to(g, (1, g.shape[1], *(1 for _ in self.stride))), bias.shape)]

    def flops(self, out: Type, x: Type, weight: Type, bias: Type | None = None) -> int:
        return out.numel() * (2 * Type(weight.shape[1:]).numel() + (bias is not None))


def _times(dim: Dim, factor: int) -> Dim:
    return dim * factor if isinstance(dim, int) else dim


class ConvInputGrad(Op):
    """The gradient of `Conv` in its input, of spatial size `size`; also known as transposed convolution."""

    size: Shape
    stride: Ints
    pads: Pads
    dilation: Ints
    groups: int = 1

    def type(self, g: Type, weight: Type) -> Type:
        x = g.with_shape((g.shape[0], _times(weight.shape[1], self.groups), *self.size))
        if Conv(self.stride, self.pads, self.dilation, self.groups).type(x, weight) != g:
            raise IRError(f"ConvInputGrad: {g} is not what {x} with weight {weight} gives")
        return x

    def decompose(self, g: Value, weight: Value) -> Value:
        rank, groups = len(self.stride), self.groups
        kernel = tuple(map(int, weight.shape[2:]))
        rows = transpose(g, (0, *range(2, rank + 2), 1))  # [N, *O, out]
        out = int(g.shape[1]) // groups
        rows = reshape(rows, (*rows.shape[:-1], groups, 1, out))
        inputs = int(weight.shape[1])
        columns = rows @ reshape(weight, (groups, out, inputs * math.prod(kernel)))
        columns = reshape(columns, (*columns.shape[: rank + 1], groups * inputs, *kernel))
        columns = transpose(columns, (0, rank + 1, *range(1, rank + 1), *range(rank + 2, 2 * rank + 2)))
        return _unpad(Fold(_padded(self.size, self.pads), self.stride, self.dilation)(columns), self.pads)

    def vjp(self, h: Value, y: Value, g: Value, weight: Value) -> Grads:
        attributes = (self.stride, self.pads, self.dilation, self.groups)
        return [Conv(*attributes)(h, weight), ConvWeightGrad(weight.shape[2:], *attributes)(g, h)]

    def flops(self, out: Type, g: Type, weight: Type) -> int:
        return 2 * g.numel() * Type(weight.shape[1:]).numel()


class ConvWeightGrad(Op):
    """The gradient of `Conv` in its weight, of kernel `size`."""

    size: Shape
    stride: Ints
    pads: Pads
    dilation: Ints
    groups: int = 1

    def type(self, g: Type, x: Type) -> Type:
        channels = x.shape[1] // self.groups if isinstance(x.shape[1], int) else x.shape[1]
        weight = g.with_shape((g.shape[1], channels, *self.size))
        if Conv(self.stride, self.pads, self.dilation, self.groups).type(x, weight) != g:
            raise IRError(f"ConvWeightGrad: {g} is not what {x} with weight {weight} gives")
        return weight

    def decompose(self, g: Value, x: Value) -> Value:
        rank, groups = len(self.stride), self.groups
        conv = Conv(self.stride, self.pads, self.dilation, groups)
        columns = conv._columns(x, tuple(map(int, self.size)))  # [N, *O, G, C/G*K]
        out = int(g.shape[1]) // groups
        rows = transpose(g, (0, *range(2, rank + 2), 1))
        rows = reshape(rows, (*rows.shape[:-1], groups, out, 1))
        product = rows @ reshape(columns, (*columns.shape[:-1], 1, columns.shape[-1]))
        total = Sum(tuple(range(rank + 1)))(product)
        return reshape(total, (groups * out, int(x.shape[1]) // groups, *self.size))

    def vjp(self, h: Value, y: Value, g: Value, x: Value) -> Grads:
        attributes = (self.stride, self.pads, self.dilation, self.groups)
        return [Conv(*attributes)(x, h), ConvInputGrad(x.shape[2:], *attributes)(g, h)]

    def flops(self, out: Type, g: Type, x: Type) -> int:
        return 2 * g.numel() * Type(out.shape[1:]).numel()


class MaxPool(Op):
    """The largest number of each window of the trailing axes; at ties the gradient goes to the first."""

    kernel: Ints
    stride: Ints
    pads: Pads

    def type(self, x: Type) -> Type:
        return _pooled("max_pool", x, self.kernel, self.stride, self.pads)

    def decompose(self, x: Value) -> Value:
        return reshape(Max(-1)(self.taps(x)), self.type(x.type).shape)

    def taps(self, x: Value) -> Value:
        """The numbers of each window, in one last axis."""
        rank = len(self.kernel)
        w = Windows(self.kernel, self.stride, (1,) * rank)(_pad(x, self.pads, -math.inf))
        return merge(w, w.rank - rank, w.rank)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        return [MaxPoolGrad(self.kernel, self.stride, self.pads)(g, x, y)]

    def flops(self, out: Type, x: Type) -> int:
        return out.numel() * math.prod(self.kernel)


class MaxPoolGrad(Op):
    """The gradient of `MaxPool`, from that of its output, its input and its output."""

    kernel: Ints
    stride: Ints
    pads: Pads

    def type(self, g: Type, x: Type, y: Type) -> Type:
        if _pooled("MaxPoolGrad", x, self.kernel, self.stride, self.pads) != g or y != g:
            raise IRError(f"MaxPoolGrad: {g} and {y} are not what pooling {x} gives")
        return x

    def decompose(self, g: Value, x: Value, y: Value) -> Value:
        rank = len(self.kernel)
        taps = MaxPool(self.kernel, self.stride, self.pads).taps(x)
        hit = Cast(g.dtype)(one_hot_like(taps, ArgMax(-1)(taps), -1))
        spread = Reshape((*g.shape, *self.kernel))(hit * reshape(g, (*g.shape, 1)))
        size = _padded(x.shape[x.rank - rank :], self.pads)
        return _unpad(Fold(size, self.stride, (1,) * rank)(spread), self.pads)

    def flops(self, out: Type, g: Type, x: Type, y: Type) -> int:
        return g.numel() * math.prod(self.kernel)


class AvgPool(Op):
    """The mean of each window of the trailing axes; padding counts as zeros where `count_pads`."""

    kernel: Ints
    stride: Ints
    pads: Pads
    count_pads: bool = True

    def type(self, x: Type) -> Type:
        return _pooled("avg_pool", x, self.kernel, self.stride, self.pads)

    def decompose(self, x: Value) -> Value:
        rank = len(self.kernel)
        w = Windows(self.kernel, self.stride, (1,) * rank)(_pad(x, self.pads))
        total = Sum(tuple(range(w.rank - rank, w.rank)))(w)
        return reshape(total, self.type(x.type).shape) / self.counts(x.type)

    def vjp(self, g: Value, y: Value, x: Value) -> Grads:
        size = x.shape[x.rank - len(self.kernel) :]
        return [AvgPoolGrad(size, self.kernel, self.stride, self.pads, self.count_pads)(g)]

    @property
    def counts_vary(self) -> bool:
        """Whether some windows have fewer numbers in them than others."""
        return not self.count_pads and any(low or high for low, high in self.pads)

    def counts(self, x: Type) -> Value:
        """What to divide by: a number, or one number per output position."""
        if not self.counts_vary:
            return constant(float(math.prod(self.kernel)), x.dtype)
        rank = len(self.kernel)
        ones = np.ones([int(d) for d in x.shape[x.rank - rank :]])
        counts = kernels.windows(np.pad(ones, self.pads), self.kernel, self.stride, (1,) * rank)
        return constant(counts.sum(tuple(range(rank, 2 * rank))), x.dtype)

    def flops(self, out: Type, x: Type) -> int:
        return out.numel() * math.prod(self.kernel)


class AvgPoolGrad(Op):
    """The gradient of `AvgPool` in its input, of trailing sizes `size`."""

    size: Shape
    kernel: Ints
    stride: Ints
    pads: Pads
    count_pads: bool = True

    def type(self, g: Type) -> Type:
        x = g.with_shape((*g.shape[: g.rank - len(self.size)], *self.size))
        if _pooled("AvgPoolGrad", x, self.kernel, self.stride, self.pads) != g:
            raise IRError(f"AvgPoolGrad: {g} is not what pooling {x} gives")
        return x

    def decompose(self, g: Value) -> Value:
        share = g / self._pool.counts(self.type(g.type))
        spread = BroadcastTo((*g.shape, *self.kernel))(reshape(share, (*g.shape, *(1 for _ in self.kernel))))
        size = _padded(self.size, self.pads)
        return _unpad(Fold(size, self.stride, (1,) * len(size))(spread), self.pads)

    def vjp(self, h: Value, y: Value, g: Value) -> Grads:
        return [self._pool(h)]

    @property
    def _pool(self) -> AvgPool:
        return AvgPool(self.kernel, self.stride, self.pads, self.count_pads)

    def flops(self, out: Type, g: Type) -> int:
        return g.numel() * math.prod(self.kernel)


def _pooled(name: str, x: Type, kernel: Ints, stride: Ints, pads: Pads) -> Type:
    rank = len(kernel)
    if x.rank < rank + 1:
        raise IRError(f"{name}: {x} has fewer than {rank} axes to pool")
    if any(max(p) >= k and max(p) > 0 for p, k in zip(pads, kernel, strict=True)):
        raise IRError(f"{name}: padding {pads} leaves windows {kernel} with nothing in them")
    out = window_dims(name, x, kernel, stride, pads, (1,) * rank)
    return floating(name, x.with_shape((*x.shape[: x.rank - rank], *out)))
