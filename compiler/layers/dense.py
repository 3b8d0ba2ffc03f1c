"""Fully connected layers, embeddings, and changes of shape."""

from __future__ import annotations

import math
from typing import Annotated

from ..ir import Dim, Value
from ..ops import shape as ops
from ..ops.linalg import Gather, Linear
from ..ops.reduce import L2Normalize
from ..spec.kinds import Range, Size
from ..spec.registry import Call
from ..spec.signatures import spec_type
from .core import Builder, Initialiser, LayerError, features, initial, layer, need_floats

Axis = Annotated[int, Range(-8, 8)]


@layer
def linear(
    b: Builder, x: Value, *, units: Size, bias: bool = True, init: Annotated[Call, Initialiser] | None = None
) -> Value:
    """A fully connected layer over the last axis: x @ weightᵀ + bias.

    Input [..., in], output [..., units]; parameters `weight` [units, in] and `bias` [units].

    units: how many features come out.
    bias: whether to add a learned bias.
    init: how the weight starts; `glorot` where nothing is said.
    Example: linear: 128
    """
    need_floats(x)
    weight = b.parameter("weight", (units, features(x)), initial(init, "glorot"))
    if not bias:
        return Linear()(x, weight)
    return Linear()(x, weight, b.parameter("bias", (units,), initial(None, "zeros"), decay=False))


@layer
def embedding(
    b: Builder, x: Value, *, rows: Size, dim: Size, init: Annotated[Call, Initialiser] | None = None
) -> Value:
    """A learned vector for each id: ids [...] become vectors [..., dim].

    Parameter `weight` [rows, dim]. Ids are whole numbers from 0 up to rows - 1.

    rows: how many ids there are.
    dim: the size of each vector.
    init: how the vectors start; `normal` with a standard deviation of 0.05 where nothing is said.
    Example: embedding: {rows: 1000, dim: 16}
    """
    if x.dtype.floating:
        raise LayerError(
            f"the input is {spec_type(x.type)}, expected ids: whole numbers",
            help="declare the input as `int`",
        )
    return Gather(0)(b.parameter("weight", (rows, dim), initial(init, "normal", std=0.05)), x)


@layer
def flatten(b: Builder, x: Value) -> Value:
    """All axes after the batch as one: [a, b, c] becomes [a * b * c].

    Example: flatten
    """
    return ops.reshape(x, (x.shape[0], 1)) if x.rank == 1 else ops.merge(x, 1, x.rank)


@layer
def reshape(b: Builder, x: Value, *, shape: list[Annotated[int, Range(-1)]]) -> Value:
    """The same numbers in another shape, batch axis aside. One dim may be -1, to be worked out.

    shape: the new dims.
    Example: reshape: [1, 8, 8]
    """
    dims = list(shape)
    total = math.prod(d for d in x.shape[1:] if isinstance(d, int))
    if any(isinstance(d, str) for d in x.shape[1:]):
        raise LayerError(f"the input is {spec_type(x.type)}: only fixed sizes can be reshaped")
    if dims.count(-1) > 1 or 0 in dims:
        raise LayerError("at most one dim is -1, and none is 0", argument="shape")
    if -1 in dims:
        rest = -math.prod(dims)
        if total % rest:
            raise LayerError(
                f"{spec_type(x.type)} has {total} numbers, which do not divide by {rest}", argument="shape"
            )
        dims[dims.index(-1)] = total // rest
    if math.prod(dims) != total:
        raise LayerError(f"{spec_type(x.type)} has {total} numbers, {dims} has {math.prod(dims)}", argument="shape")
    return ops.reshape(x, (x.shape[0], *dims))


@layer
def transpose(b: Builder, x: Value, *, axes: list[Annotated[int, Range(1, 8)]] | None = None) -> Value:
    """Axes in another order, counted from 1 after the batch axis; by default reversed.

    axes: the new order: output axis i is input axis axes[i].
    Example: transpose: [2, 1]
    """
    order = axes or list(range(x.rank - 1, 0, -1))
    if sorted(order) != list(range(1, x.rank)):
        raise LayerError(
            f"{spec_type(x.type)} has axes {list(range(1, x.rank))}, {order} is no order of them",
            argument="axes",
        )
    return ops.transpose(x, (0, *order))


@layer
def l2_normalize(b: Builder, x: Value) -> Value:
    """Vectors of length one: x divided by its Euclidean norm along the last axis.

    Example: l2_normalize
    """
    need_floats(x)
    features(x)
    return L2Normalize(-1)(x)


def axis_named(x: Value, over: Dim) -> int:
    """The axis an author means: a number counted from 1 after the batch, or a dim's name."""
    if isinstance(over, str):
        if over not in x.shape[1:]:
            raise LayerError(f"{spec_type(x.type)} has no axis `{over}`", argument="over")
        return x.shape.index(over, 1)
    if not 1 <= over < x.rank:
        raise LayerError(f"{spec_type(x.type)} has no axis {over}: axes count from 1", argument="over")
    return over
