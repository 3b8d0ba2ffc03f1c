"""How numbers lie in memory: channels last where convolutions are, and constants as their products read them.

A value's axes keep their order; only its buffer's do not. NumPy's elementwise functions run along whatever axis is
innermost, so a chain after a convolution stays as the convolution left it, and nothing is transposed in between.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...compiler.ir import Array, Const, Op, Value
from ...compiler.ops import activations, conv, elementwise, fused, shape

# Ops whose output has channels last whatever they are given, and ops that keep what their inputs have.
MAKES: tuple[type[Op], ...] = (conv.Conv, fused.FusedConv, conv.ConvInputGrad)
KEEPS: tuple[type[Op], ...] = (
    conv.MaxPool, conv.MaxPoolGrad, conv.AvgPool, activations.Activation, activations.ActivationGrad,
    elementwise.Unary, elementwise.Binary, elementwise.Not, elementwise.Where, elementwise.Cast, shape.Slice,
    shape.Pad, shape.Concat,
)  # fmt: skip


def channels_last(values: Iterable[Value]) -> set[Value]:
    """The values whose channels (axis 1) are best last in memory. `values` come after their inputs."""
    found: set[Value] = set()
    for v in values:
        if isinstance(v.op, MAKES) or (
            isinstance(v.op, KEEPS) and any(x in found and x.rank == v.rank for x in v.inputs)
        ):
            found.add(v)
    return found


def packed(constants: dict[Value, Array], values: Iterable[Value]) -> dict[Value, Array]:
    """The constants, those that are weights in the order of memory in which they are read."""
    orders = {x: order for v in values for x, order in _weights(v)}
    return {v: _laid_out(array, orders[v]) if v in orders else array for v, array in constants.items()}


def _weights(v: Value) -> list[tuple[Value, tuple[int, ...]]]:
    """The constant weight of a value, with the order of its axes in memory, if it has one."""
    if not isinstance(v.op, conv.Conv | fused.FusedConv) or not isinstance(v.inputs[1].op, Const):
        return []
    rank = v.inputs[1].rank
    return [(v.inputs[1], (0, *range(2, rank), 1))]


def _laid_out(array: Array, axes: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(array.transpose(axes)).transpose([axes.index(i) for i in range(array.ndim)])
