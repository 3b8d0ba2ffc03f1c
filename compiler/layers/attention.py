"""Attention, positions, and what makes sequences of images. Sequences are [T, features]."""

from __future__ import annotations

from typing import Literal

from ..ir import DType, Init, Value, constant
from ..ops import attention as ops
from ..ops.conv import Conv
from ..ops.elementwise import Abs, Cast
from ..ops.linalg import Gather, Linear
from ..ops.norm import Dropout
from ..ops.shape import BroadcastTo, Concat, reshape, transpose
from ..spec.kinds import Positive, PositiveFloat, Share
from ..spec.signatures import spec_type
from .core import Builder, LayerError, initial, layer, need_floats

# Vaswani et al. (2017) and Su et al. (2021) take this one.
BASE = 10000.0


@layer
def attention(
    b: Builder,
    x: Value,
    context: Value | None = None,
    *,
    heads: Positive,
    kv_heads: Positive | None = None,
    head_dim: Positive | None = None,
    causal: bool = False,
    window: Positive | None = None,
    positions: Literal["none", "rotary", "alibi"] = "none",
    base: PositiveFloat = BASE,
    dropout: Share = 0.0,
    bias: bool = True,
) -> Value:
    """Multi-head attention (Vaswani et al., 2017): each step gathers from all steps what it asks for.

    [T, features] stays [T, features]. With a second input [S, features], queries come from the first and keys and
    values from the second (cross-attention). Padded steps are not seen. Parameters `query.weight`
    [heads * head_dim, features], `key.weight` and `value.weight` [kv_heads * head_dim, features], `output.weight`
    [features, heads * head_dim], and their `bias`.

    heads: how many attentions there are side by side.
    kv_heads: how many different keys and values they share (Ainslie et al., 2023); as many as heads if not given.
    head_dim: the features of each head; features / heads if not given.
    causal: whether a step sees only itself and those before it.
    window: how many steps back a step sees, itself included (Beltagy et al., 2020).
    positions: `rotary` turns queries and keys by their position (Su et al., 2021); `alibi` lowers the scores of
        distant steps (Press et al., 2021).
    base: of the rates at which `rotary` turns.
    dropout: the share of attention weights zeroed in training.
    bias: whether the projections add a learned bias.
    Example: attention: {heads: 4, causal: true, positions: rotary}
    """
    features, groups = _checked(x, context, heads, kv_heads, head_dim)
    _check_order(context, causal or window is not None, positions, base)
    size = head_dim or features // heads
    if positions == "rotary" and size % 2:
        raise LayerError("`rotary` needs an even number of features in each head", argument="positions")
    source = x if context is None else context
    q = ops.split_heads(_project(b, "query", x, heads * size, bias), heads)
    k, v = (ops.split_heads(_project(b, name, source, groups * size, bias), groups) for name in ("key", "value"))
    if positions == "rotary":
        at = b.positions(x)
        q, k = ops.Rotary(base)(q, at), ops.Rotary(base)(k, at)
    if context is None and b.decoding is not None and b.stepping(x):
        if not causal:
            raise LayerError("only causal attention can go on step by step", argument="causal")
        bias_of_steps = [_alibi(heads, b.decoding.distances(), q.dtype)] if positions == "alibi" else []
        y = _next(b, ops.CachedAttention(size**-0.5, window), q, k, v, bias_of_steps)
        return _project(b, "output", y, features, bias)
    extras = []
    mask = b.mask(source)
    if mask is not None:
        extras.append(reshape(mask, (mask.shape[0], 1, 1, mask.shape[1])))
    if positions == "alibi":
        extras.append(_alibi(heads, ops.distances(q.shape[2], k.shape[2]), q.dtype))
    op = ops.Attention(size**-0.5, causal, window)
    if dropout and b.training:
        weights = op.weights(q, k, *extras)
        y = ops.attend(Dropout(dropout)(weights, b.random(weights.shape)), v)
    else:
        y = op(q, k, v, *extras)
    return _project(b, "output", ops.join_heads(y), features, bias)


def _checked(
    x: Value,
    context: Value | None,
    heads: int,
    kv_heads: int | None,
    head_dim: int | None,
) -> tuple[int, int]:
    """The number of features, and of groups of heads that share keys; raises `LayerError`."""
    for value in (x, context):
        if value is not None:
            need_floats(value)
            if value.rank != 3:
                raise LayerError(f"the input is {spec_type(value.type)}, expected a sequence [T, features]")
    features = x.shape[2]
    if isinstance(features, str):
        raise LayerError(f"the number of features, {features}, has no fixed size")
    if head_dim is None and features % heads:
        raise LayerError(f"{features} features do not divide into {heads} heads", argument="heads")
    groups = kv_heads or heads
    if heads % groups:
        raise LayerError(f"{heads} heads do not divide into {groups} groups", argument="kv_heads")
    return features, groups


def _check_order(context: Value | None, ordered: bool, positions: str, base: float) -> None:
    """Raise `LayerError` for arguments about the order of steps that mean nothing here."""
    if context is not None and (ordered or positions != "none"):
        raise LayerError("steps of two sequences have no common order: leave out `causal`, `window` and `positions`")
    if positions != "rotary" and base != BASE:
        raise LayerError("`base` is that of rotary positions: set `positions: rotary` too", argument="base")


def _project(b: Builder, name: str, x: Value, size: int, bias: bool) -> Value:
    weight = b.parameter(f"{name}.weight", (size, x.shape[-1]), initial(None, "glorot"))
    if not bias:
        return Linear()(x, weight)
    return Linear()(x, weight, b.parameter(f"{name}.bias", (size,), Init("zeros"), decay=False))


def _alibi(heads: int, distance: Value, dtype: DType) -> Value:
    """What `alibi` adds to the scores, [1, heads, T, S]."""
    slopes = constant(ops.alibi_slopes(heads).reshape(1, heads, 1, 1), dtype)
    return -(Abs()(Cast(dtype)(distance)) * slopes)


def _next(b: Builder, op: ops.CachedAttention, q: Value, k: Value, v: Value, extras: list[Value]) -> Value:
    """The attention of one step to all so far, whose keys and values it leaves to the next."""
    assert b.decoding is not None
    kept = [
        b.remembered(f"cache.{name}", (*x.shape[:2], b.decoding.limit, x.shape[3]))
        for name, x in (("key", k), ("value", v))
    ]
    flat = [ops.join_heads(x) for x in (q, k, v)]
    y, *new = op(*flat, *(held for _, held in kept), b.decoding.position, *extras)
    for (full, _), value in zip(kept, new, strict=True):
        b.remember(full, value)
    return y


@layer
def positions(
    b: Builder,
    x: Value,
    *,
    kind: Literal["learned", "sinusoidal"] = "learned",
    length: Positive | None = None,
    base: PositiveFloat = BASE,
) -> Value:
    """Adds to each step of a sequence [T, features] what says where it stands.

    Parameter `weight` [length, features] where they are learned.

    kind: `learned`: a vector for each position; `sinusoidal`: sines and cosines (Vaswani et al., 2017).
    length: for how many positions there are vectors; as many as T may be if not given.
    base: of the rates of `sinusoidal`.
    Example: positions: sinusoidal
    """
    need_floats(x)
    if x.rank != 3 or isinstance(x.shape[2], str):
        raise LayerError(f"the input is {spec_type(x.type)}, expected a sequence [T, features]")
    if kind == "sinusoidal" and length is not None:
        raise LayerError("`length` is how many positions are learned: `sinusoidal` has all", argument="length")
    if kind == "learned" and base != BASE:
        raise LayerError("`base` is that of `sinusoidal` positions", argument="base")
    if kind == "sinusoidal":
        if x.shape[2] % 2:
            raise LayerError(f"`sinusoidal` needs an even number of features, the input has {x.shape[2]}")
        return x + ops.Sinusoids(x.shape[2], base)(b.positions(x))
    limit = length or b.limit(x.shape[1])
    if limit is None:
        raise LayerError(
            f"it is not known how long {x.shape[1]} may be",
            help=f"say it in the input's signature: `{x.shape[1]} <= 512`",
        )
    most = b.limit(x.shape[1])
    if most is not None and most > limit:
        raise LayerError(f"the sequence has up to {most} steps, there are {limit} positions", argument="length")
    table = b.parameter("weight", (limit, x.shape[2]), initial(None, "normal", std=0.02), decay=False)
    return x + Gather(0)(table, b.steps_of(x))


@layer
def patch_embedding(b: Builder, x: Value, *, dim: Positive, size: Positive = 4, bias: bool = True) -> Value:
    """An image cut into square patches, each mapped to a vector: [channels, H, W] becomes [patches, dim].

    Parameters `weight` [dim, channels, size, size] and `bias` [dim] (Dosovitskiy et al., 2020).

    dim: the size of each vector.
    size: the height and width of a patch, which divide those of the image.
    bias: whether to add a learned bias.
    Example: patch_embedding: {dim: 64, size: 4}
    """
    need_floats(x)
    if x.rank != 4 or any(isinstance(d, str) or d % size for d in x.shape[2:]):
        raise LayerError(f"the input is {spec_type(x.type)}, expected an image [channels, H, W] that {size} divides")
    weight = b.parameter("weight", (dim, x.shape[1], size, size), initial(None, "glorot"))
    inputs = [x, weight, *([b.parameter("bias", (dim,), Init("zeros"), decay=False)] if bias else [])]
    y = Conv((size, size), ((0, 0), (0, 0)), (1, 1))(*inputs)
    return transpose(reshape(y, (y.shape[0], dim, int(y.shape[2]) * int(y.shape[3]))), (0, 2, 1))


@layer
def class_token(b: Builder, x: Value) -> Value:
    """A learned vector put before the first step: [T, features] becomes [T + 1, features].

    Parameter `weight` [1, features] (Devlin et al., 2018).
    Example: class_token
    """
    need_floats(x)
    if x.rank != 3 or isinstance(x.shape[1], str):
        raise LayerError(f"the input is {spec_type(x.type)}, expected a sequence with a fixed number of steps")
    weight = b.parameter("weight", (1, x.shape[2]), initial(None, "normal", std=0.02), decay=False)
    return Concat(1)(BroadcastTo((x.shape[0], 1, x.shape[2]))(weight), x)
