"""Reverse-mode differentiation, on the graph: gradients are values like any other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .ir import Graph, IRError, Item, Value, constant, order, origin
from .ops.elementwise import Add
from .ops.reduce import sum_to
from .ops.shape import zeros_like
from .rewrite import legalize


def differentiable(value: Value) -> bool:
    """Whether autodiff takes the value as it is: the `keep` of its legalization."""
    return value.op.has_vjp or not value.op.differentiable or isinstance(value.op, Item)


def gradients(of: Value, wrt: Sequence[Value]) -> list[Value]:
    """The gradients of the scalar `of` in each of `wrt`; zeros where it does not depend on one.

    `of` must come from a graph legalized by `differentiable` (see `grad`).
    """
    if of.shape != ():
        raise IRError(f"gradients: {of.type} is not a scalar")
    values = order([of])
    active = _active(values, wrt)
    grads: dict[Value, Value] = {of: constant(1.0, of.dtype)}
    for value in reversed(values):
        if value not in active or isinstance(value.op, Item):
            continue
        g = _gradient_of(value, grads)
        if g is None or not value.op.differentiable or not value.inputs:
            continue
        with origin(value.origin):
            for x, gx in zip(value.inputs, value.op.vjp(g, value, *value.inputs), strict=True):
                if gx is not None and x in active:
                    _accumulate(grads, x, sum_to(gx, x.shape))
    return [grads[x] if x in grads else zeros_like(x) for x in wrt]


def _active(values: Iterable[Value], wrt: Sequence[Value]) -> set[Value]:
    """The values that depend on any of `wrt` through floating-point numbers."""
    active = set(wrt)
    for value in values:
        floating = any(t.dtype.floating for t in value.types)
        if floating and any(x in active for x in value.inputs):
            active.add(value)
    return active


def _gradient_of(value: Value, grads: dict[Value, Value]) -> Value | tuple[Value | None, ...] | None:
    if not isinstance(value.type_, tuple):
        return grads.get(value)
    parts = tuple(grads.get(item) for item in value.items())
    return parts if any(part is not None for part in parts) else None


def _accumulate(grads: dict[Value, Value], x: Value, g: Value) -> None:
    grads[x] = Add()(grads[x], g) if x in grads else g


def grad(graph: Graph, output: str, wrt: Sequence[str]) -> Graph:
    """The graph with `d<output>/d<name>` among its outputs for each input in `wrt`."""
    lowered = legalize(graph, differentiable)
    inputs = [lowered.input(name) for name in wrt]
    found = gradients(lowered.outputs[output], inputs)
    named = {f"d{output}/d{name}": g for name, g in zip(wrt, found, strict=True)}
    return lowered.with_outputs({**lowered.outputs, **named})
