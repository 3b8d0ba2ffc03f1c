"""Fewer and larger kernels: what follows a product done by its kernel, products of one input done at once.

A rule proposes; a backend that has no kernel for what is proposed leaves the graph as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..ir import Array, Const, Graph, Op, Value, constant, order, origin
from ..ops.activations import Gelu, HardSigmoid, HardSwish, Relu, Sigmoid, Silu
from ..ops.attention import Attention
from ..ops.conv import Conv
from ..ops.elementwise import Add, Tanh
from ..ops.fused import NAMES, FusedConv, FusedLinear
from ..ops.linalg import Linear
from ..ops.shape import Split
from ..rewrite import Replacement, Rule, Uses, mapped, rewrite, with_roots

Native = Callable[[Value], bool]


def fuse(graph: Graph, native: Native) -> Graph:
    """The graph with activations and additions done by the kernels before them, where `native` has such kernels."""
    activation = Rule((Relu, Gelu, Silu, Sigmoid, Tanh, HardSwish, HardSigmoid), _if(native, _activation))
    rules = [Rule((Add,), _if(native, _addition)), activation, Rule((Attention,), _if(native, _mask))]
    return rewrite(graph, rules)


def _if(native: Native, propose: Callable[[Value, Uses], Value | None]) -> Callable[[Value, Uses], Value | None]:
    def accepted(v: Value, uses: Uses) -> Value | None:
        found = propose(v, uses)
        return found if found is not None and native(found) else None

    return accepted


def _activation(v: Value, uses: Uses) -> Value | None:
    """activation(conv(x, w) + b) -> fused_conv(x, w, b), likewise for linear layers and with an addend"""
    y, name = v.inputs[0], NAMES.get(v.op)
    if name is None or uses(y) != 1:
        return None
    match y:
        case Value(Conv() | Linear(), (x, weight, *bias)):
            return _fused(y.op, name)(x, weight, bias[0] if bias else _zeros(weight))
        case Value(FusedConv(activation="") | FusedLinear(activation=""), inputs):
            return _fused(y.op, name)(*inputs)
    return None


def _addition(v: Value, uses: Uses) -> Value | None:
    """(conv(x, w) + b) + a -> fused_conv(x, w, b, a), where a has the shape of the result"""
    for y, addend in (v.inputs, v.inputs[::-1]):
        match y:
            case Value(Conv() | Linear(), (x, weight, *bias)) if uses(y) == 1 and y.type == addend.type:
                return _fused(y.op, "")(x, weight, bias[0] if bias else _zeros(weight), addend)
    return None


def _mask(v: Value, uses: Uses) -> Value | None:
    """attention(q, k, v, mask) -> attention(q, k, v, bias): masks, and what positions hide, as numbers"""
    return v.op.biased(*v.inputs) if isinstance(v.op, Attention) else None


def _fused(op: Op, activation: str) -> Op:
    if isinstance(op, Conv | FusedConv):
        return FusedConv(op.stride, op.pads, op.dilation, op.groups, activation)
    return FusedLinear(activation)


def _zeros(weight: Value) -> Value:
    """The bias of a layer that has none."""
    return constant(np.zeros(int(weight.shape[0]), weight.dtype.numpy))


def merge_linears(graph: Graph) -> Graph:
    """The graph with linear layers of one input, such as the queries, keys and values of attention, as one product.

    Only where weights are constants: joining them in each run would cost what it gains.
    """
    groups = list(_groups(graph))
    if not groups:
        return graph
    joined = {v: (group, i) for group in groups for i, v in enumerate(group)}
    memo: dict[Value, Replacement] = {v: v for v in graph.inputs}
    parts: dict[Value, tuple[Value, ...]] = {}
    for v in order(graph.roots):
        new = mapped(v, memo)
        if v in joined and isinstance(new, Value):
            group, place = joined[v]
            if group[0] not in parts:
                parts[group[0]] = _join(new.inputs[0], group)
            new = parts[group[0]][place]
        memo[v] = new
    return with_roots(graph, memo)


def _groups(graph: Graph) -> Iterator[list[Value]]:
    """The linear layers with constant weights that read the same value, where there are several."""
    found: dict[tuple[Value, bool], list[Value]] = {}
    for v in order(graph.roots):
        match v:
            case Value(Linear(), (x, *weights)) if x.rank > 1 and all(isinstance(w.op, Const) for w in weights):
                found.setdefault((x, len(weights) > 1), []).append(v)
    return (group for group in found.values() if len(group) > 1)


def _join(x: Value, group: list[Value]) -> tuple[Value, ...]:
    columns = [[_array(w) for w in column] for column in zip(*(v.inputs[1:] for v in group), strict=True)]
    with origin(group[0].origin):
        whole = Linear()(x, *(constant(np.concatenate(column)) for column in columns))
        return Split(-1, tuple(int(v.shape[-1]) for v in group))(whole).items()


def _array(weight: Value) -> Array:
    assert isinstance(weight.op, Const)
    return weight.op.value.array
