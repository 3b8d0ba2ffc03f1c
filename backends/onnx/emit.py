"""How each op is written in ONNX: the table is the set of ops the backend emits as they are.

Forms are those ONNX Runtime's optimizer recognises. What ONNX has no operator for (windows, and their
adjoint) is first put in terms of others: see `prepare`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import Any, cast

import numpy as np
from onnx import TensorProto

from ...compiler.ir import Const, DType, Input, Item, Op, Value
from ...compiler.ops import activations, attention, conv, elementwise, linalg, norm, recurrent, reduce, resize, shape
from ...compiler.passes.precision import touches_bfloat16
from ..source import hint_of
from . import convolution
from .emitter import ELEMENTS, Emitter, Write

OPSET = 20
IR_VERSION = 10

# `Attention` came with this one. Files keep to the older, which more runtimes read; sessions of ours need not.
ATTENTION_OPSET = 23


def write(em: Emitter, v: Value) -> None:
    """Write a value whose inputs were written."""
    if isinstance(v.op, Const):
        em.written[v] = em.constant(v.op.value.array)
    elif isinstance(v.op, Item):
        em.written[v] = em.outputs[v.inputs[0]][v.op.index]
    else:
        made = EMIT[type(v.op)](em, v, [em.written[x] for x in v.inputs])
        if isinstance(made, str):
            em.written[v] = made
        else:
            em.outputs[v] = made


def _node(kind: str, **fixed: Any) -> Write:
    return lambda em, v, a: em.node(kind, a, hint_of(v), **fixed)


def _elementwise(kind: str) -> Write:
    def write(em: Emitter, v: Value, a: Sequence[str]) -> str:
        return em.node(kind, [_beside(em, x, name, v) for x, name in zip(v.inputs, a, strict=True)], hint_of(v))

    return write


def _beside(em: Emitter, x: Value, name: str, y: Value) -> str:
    """A single number with as many axes as y has, where y's last is one long.

    With fewer, ONNX Runtime goes through y number by number, which takes a hundred times as long.
    """
    if x.rank == y.rank or y.shape[-1] != 1 or x.type.names or x.type.numel() != 1:
        return name
    if isinstance(x.op, Const):
        return em.constant(x.op.value.array.reshape([1] * y.rank))
    return em.node("Reshape", [name, em.integers([1] * y.rank)])


def _with(kind: str, attributes: Callable[[Any], dict[str, Any]]) -> Write:
    return lambda em, v, a: em.node(kind, a, hint_of(v), **attributes(v.op))


def _reshape(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """Named dims: one may be -1; one that stays in its place is copied by 0."""
    x = v.inputs[0]
    named = [d for d in v.shape if isinstance(d, str)]
    if not named:
        return em.node("Reshape", [a[0], em.shape(v.shape)], hint_of(v), allowzero=int(0 in v.shape))
    if len(named) == 1 and 0 not in v.shape:
        return em.node("Reshape", [a[0], em.open_shape(v.shape)], hint_of(v))
    kept = all(not isinstance(d, str) or (i < x.rank and x.shape[i] == d) for i, d in enumerate(v.shape))
    if kept and 0 not in v.shape:
        return em.node("Reshape", [a[0], em.integers(0 if isinstance(d, str) else d for d in v.shape)], hint_of(v))
    return em.node("Reshape", [a[0], em.shape(v.shape)], hint_of(v), allowzero=int(0 in v.shape))


def _expand(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """A dim that x has already may be written 1: `Expand` broadcasts both ways."""
    x = v.inputs[0]
    lead = v.rank - x.rank
    dims = [1 if i >= lead and x.shape[i - lead] == d else d for i, d in enumerate(v.shape)]
    return em.node("Expand", [a[0], em.shape(dims)], hint_of(v))


def _slice(em: Emitter, v: Value, a: Sequence[str]) -> str:
    cut = [(axis, *bound) for axis, bound in enumerate(cast(shape.Slice, v.op).bounds) if bound is not None]
    columns = [em.integers(row[i] for row in cut) for i in (1, 2, 0)]
    return em.node("Slice", [a[0], *columns], hint_of(v)) if cut else em.node("Identity", a, hint_of(v))


def _pad(em: Emitter, v: Value, a: Sequence[str]) -> str:
    op = cast(shape.Pad, v.op)
    if not any(low or high for low, high in op.pads):
        return em.node("Identity", a, hint_of(v))
    pads = em.integers([low for low, _ in op.pads] + [high for _, high in op.pads])
    return em.node("Pad", [a[0], pads, em.constant(np.asarray(op.value, v.dtype.numpy))], hint_of(v))


def _split(em: Emitter, v: Value, a: Sequence[str]) -> list[str]:
    op = cast(shape.Split, v.op)
    count = len(op.sizes)
    if len(set(op.sizes)) == 1:
        return em.node_of_several("Split", [a[0]], hint_of(v), count, axis=op.axis, num_outputs=count)
    return em.node_of_several("Split", [a[0], em.integers(op.sizes)], hint_of(v), count, axis=op.axis)


def _flip(em: Emitter, v: Value, a: Sequence[str]) -> str:
    axis = cast(shape.Flip, v.op).axis % v.rank
    ends = [em.integers([n]) for n in (-1, np.iinfo(np.int64).min, axis, -1)]
    return em.node("Slice", [a[0], *ends], hint_of(v))


def _size(em: Emitter, v: Value, a: Sequence[str]) -> str:
    dim = cast(shape.Size, v.op).dim
    if isinstance(dim, int):
        return em.constant(np.asarray(dim, v.dtype.numpy))
    scalar = em.node("Reshape", [em.size(dim), em.integers([])], dim)
    return em.node("Cast", [scalar], dim, to=ELEMENTS[v.dtype])


def _iota(em: Emitter, v: Value, a: Sequence[str]) -> str:
    op = cast(shape.Iota, v.op)
    if not v.type.names:
        return em.constant(np.ascontiguousarray(op.eval()))
    axis = op.axis % len(op.shape)
    dim = op.shape[axis]
    ends = [em.constant(np.asarray(n, np.int64)) for n in (0, 1)]
    size = em.integers([dim]) if isinstance(dim, int) else em.size(dim)
    limit = em.node("Reshape", [size, em.integers([])])
    line = em.node("Cast", [em.node("Range", [ends[0], limit, ends[1]])], to=ELEMENTS[v.dtype])
    column = em.node("Reshape", [line, em.integers(-1 if i == axis else 1 for i in range(len(op.shape)))])
    return em.node("Expand", [column, em.shape(op.shape)], hint_of(v))


def _sum(em: Emitter, v: Value, a: Sequence[str]) -> str:
    axes = cast(reduce.Sum, v.op).axes
    if not axes:
        return em.node("Identity", a, hint_of(v))
    return em.node("ReduceSum", [a[0], em.integers(axes)], hint_of(v), keepdims=1)


def _mean(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """Over all positions it is a pooling, which is done in the layout of the convolutions before it."""
    axes, x = [axis % v.rank for axis in cast(reduce.Mean, v.op).axes], v.inputs[0]
    if axes == list(range(2, x.rank)) and x.rank in (3, 4, 5) and x.dtype is DType.f32:
        return em.node("GlobalAveragePool", a, hint_of(v))
    return em.node("ReduceMean", [a[0], em.integers(axes)], hint_of(v), keepdims=1)


def _max(em: Emitter, v: Value, a: Sequence[str]) -> str:
    return em.node("ReduceMax", [a[0], em.integers([cast(reduce.Max, v.op).axis])], hint_of(v), keepdims=1)


def _cum_sum(em: Emitter, v: Value, a: Sequence[str]) -> str:
    return em.node("CumSum", [a[0], em.constant(np.asarray(cast(reduce.CumSum, v.op).axis, np.int64))], hint_of(v))


# From so many rows on, a bias is cheaper in the product than in a node of its own.
ROWS = 8


def _linear(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """A product of matrices that adds its bias itself; of few rows in more than two axes, one node for each."""
    x, weight, *bias = a
    if v.rank == 2:
        return em.node("Gemm", [x, weight, *bias], hint_of(v), transB=1)
    if not bias or (not v.type.names and math.prod(map(int, v.shape[:-1])) < ROWS):
        y = em.node("MatMul", [x, em.node("Transpose", [weight], perm=[1, 0])], hint_of(v))
        return em.node("Add", [y, bias[0]], hint_of(v)) if bias else y
    rows = em.node("Reshape", [x, em.integers([-1, int(v.inputs[1].shape[1])])])
    product = em.node("Gemm", [rows, weight, *bias], hint_of(v), transB=1)
    return em.node("Reshape", [product, em.open_shape(v.shape)], hint_of(v))


def _linear_weight_grad(em: Emitter, v: Value, a: Sequence[str]) -> str:
    g, x = a
    if v.inputs[0].rank > 2:
        g, x = (em.node("Reshape", [t, em.integers([-1, int(d)])]) for t, d in zip(a, v.shape, strict=True))
    return em.node("Gemm", [g, x], hint_of(v), transA=1)


def _write_slice(em: Emitter, v: Value, a: Sequence[str]) -> str:
    x, new, _ = v.inputs
    places = em.node("Expand", [em.node("Reshape", [a[2], em.integers([1] * x.rank)]), em.shape(new.shape)])
    axis = cast(linalg.WriteSlice, v.op).axis
    return em.node("ScatterElements", [a[0], places, a[1]], hint_of(v), axis=axis)


def _scatter_add(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """`ScatterND` adds slices of the leading axis: the axis is moved there and back."""
    axis = cast(linalg.ScatterAdd, v.op).axis
    g, index = v.inputs
    rank = index.rank
    rest = [i for i in range(g.rank) if not axis <= i < axis + rank]
    slices = a[0] if axis == 0 else em.node("Transpose", [a[0]], perm=[*range(axis, axis + rank), *rest])
    dims = [v.shape[axis], *(d for i, d in enumerate(v.shape) if i != axis)]
    zero = em.constant(np.zeros((), v.dtype.numpy))
    empty = em.node("Expand", [zero, em.shape(dims)])
    places = em.node("Unsqueeze", [em.node("Cast", [a[1]], to=TensorProto.INT64), em.integers([rank])])
    summed = em.node("ScatterND", [empty, places, slices], hint_of(v), reduction="add")
    back = [*range(1, axis + 1), 0, *range(axis + 1, v.rank)]
    return summed if axis == 0 else em.node("Transpose", [summed], perm=back)


def _resize(em: Emitter, v: Value, a: Sequence[str]) -> str:
    op = cast(resize.Resize, v.op)
    axes = list(range(v.rank - len(op.size), v.rank))
    form: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    if op.mode == "nearest":
        form = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return em.node("Resize", [a[0], "", "", em.integers(op.size)], hint_of(v), axes=axes, **form)


def _batch_norm(em: Emitter, v: Value, a: Sequence[str]) -> str:
    return em.node("BatchNormalization", a, hint_of(v), epsilon=cast(norm.BatchNorm, v.op).eps)


def _group_norm(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """A group as the one channel that `InstanceNormalization` takes; `GroupNormalization` has, before opset 21, a
    scale per group."""
    op = cast(norm.GroupNorm, v.op)
    ones, zeros = (em.constant(np.full(op.groups, n, v.dtype.numpy)) for n in (1, 0))
    flat = em.node("Reshape", [a[0], em.integers([0, op.groups, -1])])
    normal = em.node("InstanceNormalization", [flat, ones, zeros], epsilon=op.eps)
    y = em.node("Reshape", [normal, em.shape(v.shape)], hint_of(v))
    if len(a) == 1:
        return y
    column = em.integers([1, -1, *(1 for _ in v.shape[2:])])
    scale, shift = (em.node("Reshape", [x, column]) for x in a[1:])
    return em.node("Add", [em.node("Mul", [y, scale]), shift], hint_of(v))


def _attention(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """What is added or may be seen has, for ONNX Runtime, the last two axes of the scores."""
    op = cast(attention.Attention, v.op)
    q, k, _, *extras = v.inputs
    mask = list(a[3:])
    for i, x in enumerate(extras):
        if x.shape[-2:] != (q.shape[2], k.shape[2]):
            mask[i] = em.node("Expand", [mask[i], em.shape((*x.shape[:-2], q.shape[2], k.shape[2]))])
    return em.node("Attention", [*a[:3], *mask], hint_of(v), scale=op.scale, is_causal=int(op.causal))


def _cached_attention(em: Emitter, v: Value, a: Sequence[str]) -> list[str]:
    """ONNX Runtime's own operator: where keys and values come from the memory that they go to, it moves nothing."""
    op = cast(attention.CachedAttention, v.op)
    q, _, _, keys, *_ = v.inputs
    at = em.node("Cast", [em.node("Reshape", [a[5], em.integers([1])])], to=TensorProto.INT32)
    rows = em.node("Expand", [at, em.shape(q.shape[:1])])
    total = em.node("Add", [em.node("Cast", [a[5]], to=TensorProto.INT32), em.constant(np.asarray(1, np.int32))])
    return em.node_of_several(
        "com.microsoft::GroupQueryAttention", [*a[:5], rows, total], hint_of(v), 3,
        num_heads=op.heads(q.type, keys.type), kv_num_heads=int(keys.shape[1]), scale=op.scale,
    )  # fmt: skip


# The order of ONNX's gates in that of ours.
_GATES = {recurrent.Lstm: (0, 3, 1, 2), recurrent.Gru: (1, 0, 2), recurrent.Rnn: (0,)}


def _recurrent(em: Emitter, v: Value, a: Sequence[str]) -> list[str]:
    """`LSTM`, `GRU` or `RNN`: time goes first, weights have an axis of directions."""
    op = cast(recurrent.Recurrent, v.op)
    scan, order = op.scan(), _GATES[type(op)]
    x, weight, recurrent_, bias, *rest = a
    units = int(v.types[0].shape[2])
    own = rest.pop(0) if op.biases == 2 else None
    zeros = em.constant(np.zeros(units * (2 if own else len(order)), v.types[0].dtype.numpy))
    inner = em.node("Concat", [zeros, own], axis=0) if own else zeros
    axis = em.integers([0])
    gates = [em.node("Unsqueeze", [_gates(em, t, units, order), axis]) for t in (weight, recurrent_)]
    biases = em.node("Unsqueeze", [em.node("Concat", [_gates(em, bias, units, order), inner], axis=0), axis])
    lengths = ""
    if len(rest) > scan.states:
        real = em.node("Cast", [rest[-1]], to=TensorProto.INT32)
        lengths = em.node("ReduceSum", [real, em.integers([1])], keepdims=0)
    begun = v.inputs[-len(rest) :][: scan.states]
    at_zero = all(_is_zero(state) for state in begun)
    first = [] if at_zero else [em.node("Unsqueeze", [state, axis]) for state in rest[: scan.states]]
    kind = {recurrent.Lstm: "LSTM", recurrent.Gru: "GRU", recurrent.Rnn: "RNN"}[type(op)]
    extra: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    if isinstance(op, recurrent.Rnn):
        extra["activations"] = [op.activation.capitalize()]
    y, *last = em.node_of_several(
        kind, [em.node("Transpose", [x], perm=[1, 0, 2]), *gates, biases, lengths, *first], hint_of(v),
        1 + scan.states, hidden_size=units, direction="reverse" if op.reverse else "forward", **extra,
    )  # fmt: skip
    found = []
    for i, state in enumerate([y, *last]):
        if not em.is_read(v, i):
            found.append("")
        elif i == 0:
            found.append(em.node("Transpose", [em.node("Squeeze", [y, em.integers([1])])], perm=[1, 0, 2]))
        elif at_zero or not lengths:
            found.append(em.node("Squeeze", [state, axis]))
        else:
            # a row without steps keeps its first state, where ONNX has zeros
            some = em.node("Cast", [em.node("Unsqueeze", [lengths, em.integers([1])])], to=TensorProto.BOOL)
            found.append(em.node("Where", [some, em.node("Squeeze", [state, axis]), rest[i - 1]]))
    return found


def _is_zero(x: Value) -> bool:
    """Whether x is known to be zero everywhere."""
    if isinstance(x.op, Const):
        return not x.op.value.array.any()
    return isinstance(x.op, shape.BroadcastTo) and _is_zero(x.inputs[0])


def _gates(em: Emitter, weight: str, units: int, order: Sequence[int]) -> str:
    """A weight's gates in another order."""
    if len(order) == 1:
        return weight
    parts = em.node_of_several("Split", [weight, em.integers([units] * len(order))], "gate", len(order), axis=0)
    return em.node("Concat", [parts[i] for i in order], axis=0)


e, s, r, lin, c, act, rec = elementwise, shape, reduce, linalg, conv, activations, recurrent

EMIT: dict[type[Op], Write] = {
    e.Neg: _node("Neg"), e.Exp: _node("Exp"), e.Log: _node("Log"), e.Sqrt: _node("Sqrt"), e.Sin: _node("Sin"),
    e.Cos: _node("Cos"), e.Tanh: _node("Tanh"), e.Abs: _node("Abs"), e.Sign: _node("Sign"), e.Floor: _node("Floor"),
    e.Erf: _node("Erf"), e.Not: _node("Not"),
    e.Add: _elementwise("Add"), e.Sub: _elementwise("Sub"), e.Mul: _elementwise("Mul"), e.Div: _elementwise("Div"),
    e.Pow: _elementwise("Pow"), e.Maximum: _elementwise("Max"), e.Minimum: _elementwise("Min"),
    e.Less: _elementwise("Less"), e.Equal: _elementwise("Equal"), e.And: _elementwise("And"),
    e.Where: _elementwise("Where"),
    e.Cast: lambda em, v, a: em.node("Cast", a, hint_of(v), to=ELEMENTS[v.dtype]),
    s.Reshape: _reshape, s.BroadcastTo: _expand, s.Slice: _slice, s.Pad: _pad, s.Split: _split, s.Flip: _flip,
    s.Size: _size, s.Iota: _iota,
    s.Transpose: _with("Transpose", lambda op: {"perm": list(op.axes)}),
    s.Concat: _with("Concat", lambda op: {"axis": op.axis}),
    r.Sum: _sum,
    r.Mean: _mean,
    r.Max: _max,
    r.ArgMax: _with("ArgMax", lambda op: {"axis": op.axis, "keepdims": 1}),
    r.CumSum: _cum_sum,
    r.Softmax: _with("Softmax", lambda op: {"axis": op.axis}),
    r.LogSoftmax: _with("LogSoftmax", lambda op: {"axis": op.axis}),
    lin.MatMul: _node("MatMul"), lin.Linear: _linear, lin.LinearWeightGrad: _linear_weight_grad,
    lin.Gather: _with("Gather", lambda op: {"axis": op.axis}), lin.ScatterAdd: _scatter_add,
    lin.WriteSlice: _write_slice,
    c.Conv: convolution.conv, c.ConvInputGrad: convolution.input_grad, c.ConvWeightGrad: convolution.weight_grad,
    c.MaxPool: convolution.pool("MaxPool"), c.AvgPool: convolution.pool("AveragePool"),
    c.MaxPoolGrad: convolution.max_pool_grad,
    attention.Attention: _attention, attention.CachedAttention: _cached_attention,
    rec.Lstm: _recurrent, rec.Gru: _recurrent, rec.Rnn: _recurrent,
    resize.Resize: _resize,
    act.Relu: _node("Relu"), act.Sigmoid: _node("Sigmoid"),
    act.Gelu: _with("Gelu", lambda op: {"approximate": "tanh" if op.approximate else "none"}),
    norm.BatchNorm: _batch_norm, norm.GroupNorm: _group_norm,
    norm.LayerNorm: _with("LayerNormalization", lambda op: {"axis": -1, "epsilon": op.eps}),
}  # fmt: skip

# ONNX Runtime computes these in float32 alone on the CPU, or has an epsilon of float32: in float64 they are decomposed.
_FLOAT32_ONLY = (
    c.Conv, c.ConvInputGrad, c.ConvWeightGrad, c.AvgPool, act.Gelu, norm.BatchNorm, norm.LayerNorm, norm.GroupNorm,
    resize.Resize, rec.Lstm, rec.Gru, rec.Rnn,
)  # fmt: skip


def native_here(value: Value, kept: Container[str] = ()) -> bool:
    """Whether ONNX Runtime runs a value's op as it is; `kept` are the caches that it may write over."""
    op = value.op
    if isinstance(op, attention.Attention):
        # of a mask, ONNX Runtime makes nothing where all keys are hidden; of numbers, what others do
        plain = all(x.rank > 1 and x.dtype is not DType.boolean for x in value.inputs[3:])
        return value.dtype is DType.f32 and op.window is None and plain and len(value.inputs) < 5
    if isinstance(op, attention.CachedAttention):
        return _caches(value, kept)
    return native(value)


def _caches(value: Value, kept: Container[str]) -> bool:
    """Whether `GroupQueryAttention` says the same: it leaves nothing behind the step where it copies a cache, and has
    heads of one size, a multiple of eight."""
    op = cast(attention.CachedAttention, value.op)
    q, _, _, keys, values, *_ = value.inputs
    same = keys.shape == values.shape and int(keys.shape[3]) % 8 == 0 and q.dtype is DType.f32 and q.shape[1] == 1
    known = all(isinstance(x.op, Input) and x.op.name in kept for x in (keys, values))
    return same and known and op.window is None and len(value.inputs) == 6


def native(value: Value) -> bool:
    """Whether files have a value's op as it is."""
    op = value.op
    if isinstance(op, Const | Item | e.Cast):
        return True
    if touches_bfloat16(value) or isinstance(op, attention.Attention | attention.CachedAttention):
        return False
    if isinstance(op, _FLOAT32_ONLY) and value.types[0].dtype is not DType.f32:
        return False
    if isinstance(op, r.Mean):
        return bool(op.axes) and 0 not in value.inputs[0].shape
    if isinstance(op, c.ConvWeightGrad):
        return not value.inputs[0].type.names
    if isinstance(op, c.ConvInputGrad):
        return convolution.padding_of_input_grad(value) is not None or convolution.plain_transpose(value)
    if isinstance(op, c.MaxPool | c.AvgPool):
        return value.rank == len(op.kernel) + 2
    if isinstance(op, c.MaxPoolGrad):
        return value.rank == len(op.kernel) + 2 and not value.type.names
    if isinstance(op, resize.Resize):
        return value.rank == len(op.size) + 2 and len(op.size) <= 3 and _resizes(value)
    return type(op) in EMIT or isinstance(op, c.Windows | c.Fold)


def _resizes(value: Value) -> bool:
    """Whether `Resize` takes the same places: ONNX Runtime finds the nearest in float32, which is right for whole
    factors, and now and then one off for others."""
    op = cast(resize.Resize, value.op)
    return op.mode == "linear" or op.whole(value.inputs[0].type) is not None
