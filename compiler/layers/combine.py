"""Layers of several inputs, reductions, and residual connections."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from ..ir import Value, constant
from ..ops.conv import Conv
from ..ops.elementwise import Cast, Less, Where, broadcast
from ..ops.linalg import Linear
from ..ops.norm import at_least
from ..ops.reduce import Max, Mean, Sum, drop
from ..ops.shape import Concat, axis_of, reshape
from ..spec.kinds import Range, Steps, Word
from ..spec.signatures import spec_type
from .core import Builder, LayerError, features, initial, layer, masked, need_floats
from .dense import axis_named
from .normalisation import batch_norm


@layer
def concat(b: Builder, *xs: Value, axis: Annotated[int, Range(-8, 8)] = -1) -> Value:
    """The inputs one after another along an axis; they agree on every other axis.

    axis: the axis, counted from 1 after the batch, or from the end.
    Example: concat: [a, b]
    """
    if any(x.rank < 2 for x in xs):
        xs = tuple(reshape(x, (x.shape[0], 1)) if x.rank == 1 else x for x in xs)
    first = xs[0]
    if axis == 0 or not -first.rank < axis < first.rank:
        raise LayerError(f"{spec_type(first.type)} has no axis {axis} to join along", argument="axis")
    where = axis_of("concat", axis, first.type)
    for x in xs[1:]:
        if x.rank != first.rank:
            raise LayerError("inputs differ in their number of axes")
        for i, (d, e) in enumerate(zip(first.shape, x.shape, strict=True)):
            if i != where and d != e:
                raise LayerError(f"inputs differ on axis {d if isinstance(d, str) else i}")
    return Concat(where)(*xs)


@layer
def add(b: Builder, *xs: Value) -> Value:
    """The sum of the inputs, number by number; axes of size one are repeated.

    Example: add: [a, b]
    """
    return _fold("add", xs, lambda x, y: x + y)


@layer
def multiply(b: Builder, *xs: Value) -> Value:
    """The product of the inputs, number by number; axes of size one are repeated.

    Example: multiply: [a, gate]
    """
    return _fold("multiply", xs, lambda x, y: x * y)


@layer
def subtract(b: Builder, x: Value, y: Value) -> Value:
    """The first input minus the second, number by number.

    Example: subtract: [a, b]
    """
    return _fold("subtract", (x, y), lambda x, y: x - y)


def _fold(name: str, xs: tuple[Value, ...], op: Callable[[Value, Value], Value]) -> Value:
    for x in xs:
        need_floats(x)
    try:
        broadcast(name, *(x.type for x in xs))
    except ValueError:
        raise LayerError("inputs differ in shape") from None
    if len({x.rank for x in xs}) > 1:
        raise LayerError("inputs differ in their number of axes")
    total = xs[0]
    for x in xs[1:]:
        total = op(total, x)
    return total


@layer
def dot(b: Builder, x: Value, y: Value) -> Value:
    """The inner product over the last axis: [..., d] and [..., d] give [...].

    Where one input has one axis more, the other is compared with each of its vectors.
    Example: dot: [user, item]
    """
    need_floats(x)
    need_floats(y)
    if x.rank < y.rank:
        x = reshape(x, (x.shape[0], *(1 for _ in range(y.rank - x.rank)), *x.shape[1:]))
    elif y.rank < x.rank:
        y = reshape(y, (y.shape[0], *(1 for _ in range(x.rank - y.rank)), *y.shape[1:]))
    if x.rank < 2 or x.shape[-1] != y.shape[-1]:
        raise LayerError(f"inputs differ on their last axis: {spec_type(x.type)} and {spec_type(y.type)}")
    return drop(Sum((-1,))(x * y), -1)


@layer
def mean(b: Builder, x: Value, *, over: Word = "1") -> Value:
    """The mean over an axis, which goes away. Padded steps do not count.

    over: the axis, by its name or counted from 1 after the batch.
    Example: mean: {over: 1}
    """
    need_floats(x)
    return mean_over(b, x, (axis_named(x, int(over) if over.isdigit() else over),))


def mean_over(b: Builder, x: Value, axes: tuple[int, ...]) -> Value:
    """The mean over axes, which go away; padded steps do not count."""
    for axis in axes:
        b.across_steps(x, axis)
    kept = tuple(d for i, d in enumerate(x.shape) if i not in axes)
    padded = [axis for axis in axes if b.mask(x, axis) is not None]
    if not padded:
        return reshape(Mean(axes)(x), kept)
    (axis,) = padded
    mask = b.mask(x, axis)
    assert mask is not None
    real = Cast(x.dtype)(mask)
    others = tuple(a for a in axes if a != axis)
    total = Sum((axis,))(Mean(others)(masked(b, x, axis))) / at_least(Sum((axis,))(real), 1.0)
    return reshape(total, kept)


def max_over(b: Builder, x: Value, axis: int) -> Value:
    """The largest number along an axis, which goes away. Padded steps do not count; where all are padded it is 0."""
    y = Max(axis)(masked(b, x, axis, -math.inf))
    mask = b.mask(x, axis)
    if mask is not None:
        some = Less()(constant(0.0, y.dtype), Sum((axis,))(Cast(y.dtype)(mask)))
        y = Where()(some, y, constant(0.0, y.dtype))
    return drop(y, axis)


@layer
def maximum(b: Builder, x: Value, *, over: Word = "1") -> Value:
    """The largest number along an axis, which goes away. Padded steps do not count.

    over: the axis, by its name or counted from 1 after the batch.
    Example: maximum: {over: 1}
    """
    need_floats(x)
    axis = axis_named(x, int(over) if over.isdigit() else over)
    return max_over(b, x, axis)


@layer
def residual(b: Builder, x: Value, *, layers: Steps, shortcut: Literal["identity", "project"] = "identity") -> Value:
    """x plus what a list of steps makes of it (He et al., 2015).

    layers: the steps.
    shortcut: `identity`, or `project`: where shapes differ, a learned map brings x to the steps' shape: for
        images a 1 x 1 convolution followed by batch normalisation, otherwise a linear layer; neither has a bias.
    Example: residual: [{linear: 10}, relu]
    """
    y = b.steps(layers, x)
    if y.type == x.type:
        return x + y
    if shortcut == "identity":
        raise LayerError(
            f"the input is {spec_type(x.type)}, the steps make it {spec_type(y.type)}",
            help="`shortcut: project` learns a projection between them",
        )
    return y + _project(b, x, y)


def _project(b: Builder, x: Value, y: Value) -> Value:
    """x brought to the shape of y by a learned linear map; images are batch-normalised after it."""
    need_floats(x)
    if x.rank != y.rank or x.rank == 1:
        raise LayerError(f"no projection leads from {spec_type(x.type)} to {spec_type(y.type)}")
    if x.rank <= 3:
        if x.shape[:-1] != y.shape[:-1]:
            raise LayerError(f"no projection leads from {spec_type(x.type)} to {spec_type(y.type)}")
        weight = b.parameter("projection.weight", (y.shape[-1], features(x)), initial(None, "glorot"))
        return Linear()(x, weight)
    strides = []
    for size, wanted in zip(x.shape[2:], y.shape[2:], strict=True):
        if isinstance(size, str) or isinstance(wanted, str) or not 0 < wanted <= size:
            raise LayerError(f"no projection leads from {spec_type(x.type)} to {spec_type(y.type)}")
        strides.append(-(-size // wanted))
    ones = tuple(1 for _ in strides)
    conv = Conv(tuple(strides), tuple((0, 0) for _ in strides), ones)
    weight = b.parameter("projection.weight", (y.shape[1], x.shape[1], *ones), initial(None, "he"))
    z = conv(x, weight)
    if z.shape != y.shape:
        raise LayerError(f"no projection leads from {spec_type(x.type)} to {spec_type(y.type)}")
    outer, b.path = b.path, f"{b.path}.projection"
    try:
        return batch_norm(b, z)
    finally:
        b.path = outer


@layer
def identity(b: Builder, x: Value) -> Value:
    """x as it is: gives a value another name, or stands where steps may be left out.

    Example: identity
    """
    return x
