"""Attention, and positions turned into rotations and biases."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from ..ir import Array, Dim, DType, IRError, Op, Type, Value, constant
from .elementwise import Abs, Add, And, Cast, Cos, Less, Not, Sin, Where, broadcast, floating
from .linalg import MatMul, WriteSlice
from .reduce import Softmax, Sum
from .shape import Concat, Iota, Split, reshape, swap_last, transpose

# What the score of a key that may not be seen is: finite, so that a row without any key gives numbers.
UNSEEN = -1e30


class AttentionWeights(Op):
    """How much each query takes of each value: softmax(q kᵀ scale + bias) over the keys that may be seen.

    q [N, heads, T, d] and k [N, groups, S, d] -> [N, heads, T, S]; heads / groups queries share a key (Ainslie et
    al., 2023). Further inputs broadcast against that: booleans that say what may be seen, and numbers that are added.
    With `causal`, query i sees keys up to i; with `window`, of these the last `window` (and without `causal`, those
    less than `window` away).
    """

    scale: float
    causal: bool = False
    window: int | None = None

    def type(self, q: Type, k: Type, *extras: Type) -> Type:
        if not q.rank == k.rank == 4 or q.dtype != k.dtype:
            raise IRError(f"attention: {q} and {k} are not [N, heads, steps, features]")
        if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
            raise IRError(f"attention: queries {q} and keys {k} do not fit")
        if int(q.shape[1]) % int(k.shape[1]):
            raise IRError(f"attention: {q.shape[1]} heads do not divide into {k.shape[1]} groups")
        scores = q.with_shape((*q.shape[:3], k.shape[2]))
        for extra in extras:
            if extra.dtype not in (DType.boolean, q.dtype) or broadcast("attention", scores, extra) != scores.shape:
                raise IRError(f"attention: {extra} does not fit the scores {scores}")
        return floating("attention", scores)

    def decompose(self, q: Value, k: Value, *extras: Value) -> Value:
        scores = grouped(MatMul(), q * self.scale, k, turned=True)
        for extra in extras:
            if extra.dtype is not DType.boolean:
                scores = scores + extra
        seen = [extra for extra in extras if extra.dtype is DType.boolean] + self.near(*scores.shape[2:])
        if seen:
            every = seen[0]
            for part in seen[1:]:
                every = And()(every, part)
            scores = Where()(every, scores, constant(UNSEEN, scores.dtype))
        return Softmax(-1)(scores)

    def near(self, queries: Dim, keys: Dim) -> list[Value]:
        """What the positions alone allow to be seen, [1, 1, T, S]."""
        if not self.causal and self.window is None:
            return []
        distance = distances(queries, keys)
        found = []
        if self.causal:
            found.append(Not()(Less()(distance, constant(0, DType.i64))))
        if self.window is not None:
            far = distance if self.causal else Cast(DType.i64)(Abs()(Cast(DType.f64)(distance)))
            found.append(Less()(far, constant(self.window, DType.i64)))
        return found

    def flops(self, out: Type, q: Type, k: Type, *extras: Type) -> int:
        return Type(k.shape[2:3]).numel() * (2 * q.numel() + 6 * q.with_shape(q.shape[:3]).numel())


class Attention(Op):
    """Attention (Vaswani et al., 2017): the values by `AttentionWeights`.

    q [N, heads, T, d], k [N, groups, S, d], v [N, groups, S, e] -> [N, heads, T, e], and further inputs as there.
    """

    scale: float
    causal: bool = False
    window: int | None = None

    @property
    def weights(self) -> AttentionWeights:
        return AttentionWeights(self.scale, self.causal, self.window)

    def type(self, q: Type, k: Type, v: Type, *extras: Type) -> Type:
        self.weights.type(q, k, *extras)
        if v.rank != 4 or k.shape[:3] != v.shape[:3] or k.dtype != v.dtype:
            raise IRError(f"attention: keys {k} and values {v} do not fit")
        return floating("attention", q.with_shape((*q.shape[:3], v.shape[3])))

    def decompose(self, q: Value, k: Value, v: Value, *extras: Value) -> Value:
        return attend(self.weights(q, k, *extras), v)

    def biased(self, q: Value, k: Value, v: Value, *extras: Value) -> Value | None:
        """The same with all that may be seen in one bias, as kernels take it; `None` where nothing is hidden by more.

        Not for gradients: where a query sees no key at all, a bias lets through what a mask holds back.
        """
        masked = [x for x in extras if x.dtype is DType.boolean]
        if not masked and self.window is None and not (self.causal and extras):
            return None
        seen = reduce(And(), [*masked, *self.weights.near(q.shape[2], k.shape[2])])
        added = [x for x in extras if x.dtype is not DType.boolean]
        return Attention(self.scale)(q, k, v, reduce(Add(), [*added, hidden(seen, q.dtype)]))

    def flops(self, out: Type, q: Type, k: Type, v: Type, *extras: Type) -> int:
        return self.weights.flops(out, q, k) + 2 * out.numel() * Type(k.shape[2:3]).numel()


class CachedAttention(Op):
    """Attention of one step of a sequence to itself and the steps before it, whose keys and values are remembered.

    q [N, 1, heads * d], k [N, 1, groups * d], v [N, 1, groups * e], the remembered keys [N, groups, S, d] and values
    [N, groups, S, e], and the position of the step, i64[] -> [N, 1, heads * e], and the keys and values with those of
    the step at its position. Further inputs are as those of `AttentionWeights`, and so is `window`.
    """

    scale: float
    window: int | None = None

    def type(
        self, q: Type, k: Type, v: Type, keys: Type, values: Type, position: Type, *extras: Type
    ) -> tuple[Type, Type, Type]:
        if not q.rank == k.rank == v.rank == 3 or q.shape[:2] != k.shape[:2] or k.shape[:2] != v.shape[:2]:
            raise IRError(f"cached attention: {q}, {k} and {v} are not of one step")
        if position != Type((), DType.i64) or keys.rank != 4 or keys.shape[:3] != values.shape[:3]:
            raise IRError(f"cached attention: keys {keys}, values {values}, position {position} do not fit")
        for new, kept in ((k, keys), (v, values)):
            if new.dtype != kept.dtype or new.shape[2] != int(kept.shape[1]) * int(kept.shape[3]):
                raise IRError(f"cached attention: {new} is no step of {kept}")
        wide = q.with_shape((q.shape[0], self.heads(q, keys), q.shape[1], keys.shape[3]))
        y = Attention(self.scale).type(wide, keys, values, *extras)
        return q.with_shape((*q.shape[:2], int(y.shape[1]) * int(y.shape[3]))), keys, values

    @staticmethod
    def heads(q: Type, keys: Type) -> int:
        return int(q.shape[2]) // int(keys.shape[3])

    def decompose(
        self, q: Value, k: Value, v: Value, keys: Value, values: Value, position: Value, *extras: Value
    ) -> tuple[Value, ...]:
        distance = reshape(position, (1, 1, 1, 1)) - Iota((1, 1, 1, keys.shape[2]), 3)()
        groups = int(keys.shape[1])
        # the sum over an axis that is one long drops its name
        keys, values = (
            WriteSlice(2)(kept, split_heads(Sum((1,))(new), groups), position) for new, kept in ((k, keys), (v, values))
        )
        seen = Not()(Less()(distance, constant(0, DType.i64)))
        if self.window is not None:
            seen = And()(seen, Less()(distance, constant(self.window, DType.i64)))
        wide = split_heads(q, self.heads(q.type, keys.type))
        whole = Attention(self.scale)
        y = whole.biased(wide, keys, values, seen, *extras) or whole(wide, keys, values, seen, *extras)
        return join_heads(y), keys, values


def hidden(seen: Value, dtype: DType) -> Value:
    """What is added to the scores so that nothing is left of keys that may not be seen."""
    return Where()(seen, constant(0.0, dtype), constant(UNSEEN, dtype))


def split_heads(x: Value, heads: int) -> Value:
    """[N, T, heads * size] as [N, heads, T, size]."""
    return transpose(reshape(x, (*x.shape[:2], heads, int(x.shape[2]) // heads)), (0, 2, 1, 3))


def join_heads(x: Value) -> Value:
    """[N, heads, T, size] as [N, T, heads * size]."""
    y = transpose(x, (0, 2, 1, 3))
    return reshape(y, (*y.shape[:2], int(y.shape[2]) * int(y.shape[3])))


def attend(weights: Value, v: Value) -> Value:
    """The values by their weights."""
    return grouped(MatMul(), weights, v)


def grouped(product: Op, a: Value, b: Value, turned: bool = False) -> Value:
    """A product per head, where several heads of a share one group of b."""
    n, heads, steps, features = a.shape
    groups = b.shape[1]
    b = swap_last(b) if turned else b
    if heads == groups:
        return product(a, b)
    wide = reshape(a, (n, groups, int(heads) // int(groups), steps, features))
    found = product(wide, reshape(b, (n, groups, 1, *b.shape[2:])))
    return reshape(found, (n, heads, steps, found.shape[-1]))


def distances(queries: int | str, keys: int | str) -> Value:
    """How many steps each key lies before each query, [1, 1, T, S]."""
    return Iota((1, 1, queries, 1), 2)() - Iota((1, 1, 1, keys), 3)()


class Rotary(Op):
    """Pairs of features turned by angles that grow with the position (Su et al., 2021).

    x [..., T, d] and positions [T] -> [..., T, d]; feature i is paired with i + d/2.
    """

    base: float = 10000.0

    def type(self, x: Type, positions: Type) -> Type:
        if x.rank < 2 or positions != Type(x.shape[-2:-1], x.dtype):
            raise IRError(f"rotary: positions {positions} do not fit {x}")
        if isinstance(x.shape[-1], str) or x.shape[-1] % 2:
            raise IRError(f"rotary: {x} has no even number of features to pair")
        return floating("rotary", x)

    def decompose(self, x: Value, positions: Value) -> Value:
        half = int(x.shape[-1]) // 2
        rates = constant(self.base ** (-np.arange(half) / half), x.dtype)
        angles = reshape(positions, (*positions.shape, 1)) * rates
        cos, sin = Cos()(angles), Sin()(angles)
        a, b = Split(-1, (half, half))(x).items()
        return Concat(-1)(a * cos - b * sin, b * cos + a * sin)


class Sinusoids(Op):
    """Sines and cosines of positions [T] at `features` rates -> [T, features] (Vaswani et al., 2017)."""

    features: int
    base: float = 10000.0

    def type(self, positions: Type) -> Type:
        if positions.rank != 1 or self.features % 2:
            raise IRError(f"sinusoids: {positions} and {self.features} features: expected [T] and an even number")
        return floating("sinusoids", positions.with_shape((*positions.shape, self.features)))

    def decompose(self, positions: Value) -> Value:
        half = self.features // 2
        rates = constant(self.base ** (-np.arange(half) / half), positions.dtype)
        angles = reshape(positions, (*positions.shape, 1)) * rates
        return Concat(-1)(Sin()(angles), Cos()(angles))


def alibi_slopes(heads: int) -> Array:
    """How fast attention falls off with distance in each head (Press et al., 2021)."""
    power = 2 ** math.floor(math.log2(heads))
    slopes: Array = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    if power < heads:
        between = 2.0 ** (-8.0 * np.arange(1, 2 * power + 1) / (2 * power))
        slopes = np.concatenate([slopes, between[0::2][: heads - power]])
    return slopes
