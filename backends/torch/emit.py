"""How each op is written in PyTorch: the table is the set of ops the backend runs natively.

No autograd: gradients come from the graph, and call aten's backward kernels where there are some.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from ...compiler.ir import Const, DType, Item, Op, Value
from ...compiler.ops import (
    activations,
    attention,
    conv,
    elementwise,
    fused,
    linalg,
    norm,
    recurrent,
    reduce,
    resize,
    shape,
)
from ...compiler.passes.precision import touches_bfloat16
from ..source import Writer, shape_text
from . import convolution, packed
from .convolution import pad_text

Write = Callable[[Writer, Value, Sequence[str]], str]

_DTYPES = {
    DType.f64: "float64", DType.f32: "float32", DType.f16: "float16", DType.i64: "int64", DType.i32: "int32",
    DType.i8: "int8", DType.u8: "uint8", DType.boolean: "bool", DType.bf16: "bfloat16",
}  # fmt: skip


def dtype_text(dtype: DType) -> str:
    return f"torch.{_DTYPES[DType(dtype)]}"


def _call(function: str, extra: Callable[[Any], str] | None = None) -> Write:
    """`function(arguments…, extra…)`"""
    return lambda w, v, a: f"{function}({', '.join([*a, *([extra(v.op)] if extra else [])])})"


def _method(name: str, extra: Callable[[Any], str] = lambda op: "") -> Write:
    return lambda w, v, a: f"{a[0]}.{name}({extra(v.op)})"


def _infix(symbol: str) -> Write:
    return lambda w, v, a: f"{a[0]} {symbol} {a[1]}"


def _slice(w: Writer, v: Value, a: Sequence[str]) -> str:
    bounds = cast(shape.Slice, v.op).bounds
    if all(b is None for b in bounds):
        return a[0]
    return f"{a[0]}[{', '.join(':' if b is None else f'{b[0]}:{b[1]}' for b in bounds)}]"


def _concat(w: Writer, v: Value, a: Sequence[str]) -> str:
    return f"torch.cat([{', '.join(a)}], {cast(shape.Concat, v.op).axis})"


def _extreme(function: str, bound: str) -> Write:
    """The larger or smaller of two; a number is a bound to `torch.clamp`, which takes no booleans."""

    def write(w: Writer, v: Value, a: Sequence[str]) -> str:
        numbers = [isinstance(x.op, Const) and x.rank == 0 for x in v.inputs]
        if v.dtype is DType.boolean or all(numbers) or not any(numbers):
            return f"{function}({a[0]}, {a[1]})"
        x, number = (a[1], a[0]) if numbers[0] else (a[0], a[1])
        return f"torch.clamp({x}, {bound}={number})"

    return write


def _arg_max(w: Writer, v: Value, a: Sequence[str]) -> str:
    x = f"{a[0]}.to(torch.uint8)" if v.inputs[0].dtype is DType.boolean else a[0]
    return f"torch.argmax({x}, {_kept(v.op)})"


def _iota(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(shape.Iota, v.op)
    axis = op.axis % len(op.shape)
    column = shape_text(tuple(-1 if i == axis else 1 for i in range(len(op.shape))))
    line = f"torch.arange({op.shape[axis]}, dtype={dtype_text(v.dtype)}, device=device)"
    return f"{line}.reshape({column}).expand({shape_text(op.shape)})"


def _size(w: Writer, v: Value, a: Sequence[str]) -> str:
    return f"torch.tensor({cast(shape.Size, v.op).dim}, dtype={dtype_text(v.dtype)}, device=device)"


def _sum(w: Writer, v: Value, a: Sequence[str]) -> str:
    axes = cast(reduce.Sum, v.op).axes
    kept = "" if v.dtype.floating else f", dtype={dtype_text(v.dtype)}"
    return f"{a[0]}.sum({axes!r}, keepdim=True{kept})" if axes else a[0]


def _mean(w: Writer, v: Value, a: Sequence[str]) -> str:
    axes = cast(reduce.Mean, v.op).axes
    return f"{a[0]}.mean({axes!r}, keepdim=True)" if axes else a[0]


def _linear_weight_grad(w: Writer, v: Value, a: Sequence[str]) -> str:
    g, x = a
    if v.inputs[0].rank > 2:
        g, x = f"{g}.reshape(-1, {v.shape[0]})", f"{x}.reshape(-1, {v.shape[1]})"
    rows = math.prod(d for d in v.inputs[0].shape[:-1] if isinstance(d, int))
    if isinstance(w, packed.Packing) and packed.by_onednn(v, rows):
        return packed.product(f"{g}.t()", f"{x}.t()")
    return f"{g}.t() @ {x}"


def _gather(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(linalg.Gather, v.op)
    x, index = v.inputs
    axis = op.axis % x.rank
    if axis == 0 and x.rank == 2:
        return f"torch.embedding({a[0]}, {a[1]})"
    flat = f"torch.index_select({a[0]}, {axis}, {a[1]}.reshape(-1))"
    return f"{flat}.reshape({shape_text(v.shape)})" if index.rank != 1 else flat


def _scatter_add(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(linalg.ScatterAdd, v.op)
    g, index = v.inputs
    zeros = f"torch.zeros({shape_text(v.shape)}, dtype={dtype_text(v.dtype)}, device=device)"
    flat = (*g.shape[: op.axis], -1, *g.shape[op.axis + index.rank :])
    return f"{zeros}.index_add_({op.axis}, {a[1]}.reshape(-1), {a[0]}.reshape({shape_text(flat)}))"


def _write_slice(w: Writer, v: Value, a: Sequence[str]) -> str:
    return f"{a[0]}.index_copy({places_text(w, v, a)})"


def places_text(w: Writer, v: Value, a: Sequence[str]) -> str:
    place = w.once(f"{a[2]}.reshape((1,))", "place")
    return f"{cast(linalg.WriteSlice, v.op).axis}, {place}, {a[1]}"


def _linear(w: Writer, v: Value, a: Sequence[str]) -> str:
    if isinstance(w, packed.Packing) and (packed.packs_linear(v) or packed.is_plain(v)):
        return packed.linear(w, v, a)
    if isinstance(w, packed.Packing) and v.rank > 1 and packed.by_onednn(v, v.inputs[1].shape[1]):
        return packed.product(*a)
    return f"F.linear({', '.join(a)})"


def _matmul(w: Writer, v: Value, a: Sequence[str]) -> str:
    x, y = v.inputs
    if isinstance(w, packed.Packing) and x.rank > 1 and y.rank == 2 and packed.by_onednn(v, y.shape[0]):
        return packed.product(a[0], f"{a[1]}.t()")
    return f"{a[0]} @ {a[1]}"


def _fused(write: Callable[[packed.Packing, Value, Sequence[str]], str]) -> Write:
    return lambda w, v, a: write(cast(packed.Packing, w), v, a)


def _resize(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(resize.Resize, v.op)
    if op.mode == "nearest":
        return f"F.interpolate({a[0]}, {op.size!r}, mode='nearest')"
    mode = ("linear", "bilinear", "trilinear")[len(op.size) - 1]
    return f"F.interpolate({a[0]}, {op.size!r}, mode={mode!r}, align_corners=False)"


def _batch_norm(w: Writer, v: Value, a: Sequence[str]) -> str:
    x, scale, shift, mean, var = a
    return f"F.batch_norm({x}, {mean}, {var}, {scale}, {shift}, False, 0.0, {cast(norm.BatchNorm, v.op).eps!r})"


def _batch_norm_train(w: Writer, v: Value, a: Sequence[str]) -> str:
    return f"batch_norm_train({', '.join(a)}, {cast(norm.BatchNormTrain, v.op).eps!r})"


def _layer_norm(w: Writer, v: Value, a: Sequence[str]) -> str:
    return f"torch.layer_norm({a[0]}, {shape_text(v.shape[-1:])}, {a[1]}, {a[2]}, {cast(norm.LayerNorm, v.op).eps!r})"


def _group_norm(w: Writer, v: Value, a: Sequence[str]) -> str:
    """Not `F.group_norm`, which refuses groups of one number."""
    op, learned = cast(norm.GroupNorm, v.op), [*a[1:], "None", "None"][:2]
    return f"torch.group_norm({a[0]}, {op.groups}, {learned[0]}, {learned[1]}, {op.eps!r})"


def _norm_grad(name: str) -> Write:
    return lambda w, v, a: f"{name}({', '.join(a)}, {cast(Any, v.op).eps!r})"


def _softmax_grad(name: str) -> Write:
    return lambda w, v, a: f"torch.ops.aten.{name}({', '.join(a)}, {cast(Any, v.op).axis}, {dtype_text(v.dtype)})"


# A call of oneDNN's takes longer than the few that gelu is made of, for so few numbers.
FEW = 2048


def _gelu(w: Writer, v: Value, a: Sequence[str]) -> str:
    if few_gelus(w, v):
        return f"gelu({a[0]})"
    form = "tanh" if cast(activations.Gelu, v.op).approximate else "none"
    return f"F.gelu({a[0]}, approximate={form!r})"


def few_gelus(w: Writer, v: Value) -> bool:
    """Whether a gelu is of few enough numbers, on the CPU."""
    exact = not cast(activations.Gelu, v.op).approximate and v.dtype is DType.f32
    return isinstance(w, packed.Packing) and exact and not v.type.names and v.type.numel() <= FEW


def _gelu_grad(w: Writer, v: Value, a: Sequence[str]) -> str:
    form = "tanh" if cast(activations.GeluGrad, v.op).approximate else "none"
    return f"torch.ops.aten.gelu_backward({a[0]}, {a[1]}, approximate={form!r})"


def _recurrent(name: str, extra: Callable[[Any], str] = lambda op: "") -> Write:
    """A recurrent layer, its mask or `None`, its direction."""

    def write(w: Writer, v: Value, a: Sequence[str]) -> str:
        masked = v.inputs[-1].dtype is DType.boolean
        inputs = [*a, *([] if masked else ["None"])]
        return f"{name}({', '.join(inputs)}, {cast(Any, v.op).reverse}{extra(v.op)})"

    return write


def _lstm(w: Writer, v: Value, a: Sequence[str]) -> str:
    """An LSTM; where its gradient is asked for, its kernel leaves behind what that needs."""
    if isinstance(w, packed.Packing) and packed.trained_by(v) in w.trained:
        return _lstm_train(w, packed.trained_by(v), a)
    if isinstance(w, packed.Packing) and packed.packs_lstm(v):
        return packed.lstm(w, v, a)
    return _recurrent("lstm")(w, v, a)


def _lstm_train(w: packed.Packing, which: packed.Trained, a: Sequence[str]) -> str:
    states, saved = w.names.make("states"), w.names.make("saved")
    w.trained[which] = saved
    w.line(f"{states}, {saved} = lstm_train({', '.join(a)}, {which[1]})")
    return states


def _lstm_grad(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(recurrent.LstmGrad, v.op)
    parts = iter(a)
    grads = [next(parts) if given else "None" for given in op.given]
    w, which, names = cast(packed.Packing, w), packed.trained_by(v), op.forward(a)
    if not w.trained[which]:
        _lstm_train(w, which, names)
    w.gradients[which] -= 1
    saved = f"{w.trained[which]}[0]" if w.gradients[which] else f"{w.trained[which]}.pop()"
    return f"lstm_grad({', '.join(grads)}, {saved}, {', '.join(names)}, {op.reverse})"


def _scan(name: str, extra: str = "") -> Write:
    """A recurrence or its gradients, as a loop of PyTorch's functions."""
    return lambda w, v, a: f"{name}(torch, {', '.join(a)}, reverse={cast(Any, v.op).reverse}{extra})"


def _attention(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(attention.Attention, v.op)
    extra = f", attn_mask={a[3]}" if len(a) > 3 else ""
    shared = ", enable_gqa=True" if v.inputs[0].shape[1] != v.inputs[1].shape[1] else ""
    inputs = ", ".join(a[:3])
    return f"F.scaled_dot_product_attention({inputs}{extra}, is_causal={op.causal}, scale={op.scale!r}{shared})"


def _attends(value: Value) -> bool:
    """Whether torch says it in one call: causal or with one mask or bias, and no window.

    A mask is one of numbers, which are finite: a row whose keys are all hidden gives what it does elsewhere.
    """
    op = cast(attention.Attention, value.op)
    if any(extra.dtype is DType.boolean for extra in value.inputs[3:]):
        return False
    return op.window is None and len(value.inputs) - 3 + op.causal <= 1


e, s, r, lin, c, act, rec = elementwise, shape, reduce, linalg, conv, activations, recurrent
_axis: Callable[[Any], str] = lambda op: f"{op.axis}"  # noqa: E731
_kept: Callable[[Any], str] = lambda op: f"{op.axis}, keepdim=True"  # noqa: E731

EMIT: dict[type[Op], Write] = {
    e.Neg: lambda w, v, a: f"-{a[0]}",
    e.Expm1: _call("torch.expm1"), e.Log1p: _call("torch.log1p"),
    e.Exp: _call("torch.exp"), e.Log: _call("torch.log"), e.Sqrt: _call("torch.sqrt"), e.Sin: _call("torch.sin"),
    e.Cos: _call("torch.cos"), e.Tanh: _call("torch.tanh"), e.Abs: _call("torch.abs"), e.Sign: _call("torch.sign"),
    e.Floor: _call("torch.floor"), e.Erf: _call("torch.erf"), e.Not: _call("torch.logical_not"),
    e.Add: _infix("+"), e.Sub: _infix("-"), e.Mul: _infix("*"), e.Div: _infix("/"), e.Pow: _call("torch.pow"),
    e.Less: _infix("<"), e.Equal: _infix("=="), e.And: _infix("&"),
    e.Maximum: _extreme("torch.maximum", "min"), e.Minimum: _extreme("torch.minimum", "max"),
    e.Where: _call("torch.where"),
    e.Cast: lambda w, v, a: f"{a[0]}.to({dtype_text(v.dtype)})",
    s.Reshape: lambda w, v, a: f"{a[0]}.reshape({shape_text(v.shape)})",
    s.Transpose: _method("permute", lambda op: repr(op.axes)),
    s.BroadcastTo: lambda w, v, a: f"{a[0]}.expand({shape_text(v.shape)})",
    s.After: lambda w, v, a: a[0],
    s.Slice: _slice, s.Concat: _concat, s.Iota: _iota, s.Size: _size,
    s.Pad: lambda w, v, a: pad_text(a[0], cast(s.Pad, v.op).pads, cast(s.Pad, v.op).value),
    s.Split: _call("torch.split", lambda op: f"{list(op.sizes)!r}, {op.axis}"),
    s.Flip: _call("torch.flip", lambda op: f"({op.axis},)"),
    r.Sum: _sum, r.Mean: _mean, r.Max: _call("torch.amax", _kept), r.ArgMax: _arg_max,
    r.CumSum: _call("torch.cumsum", _axis), r.GlobalNorm: _call("global_norm"),
    r.Softmax: _call("torch.softmax", _axis), r.LogSoftmax: _call("torch.log_softmax", _axis),
    r.SoftmaxGrad: _softmax_grad("_softmax_backward_data"),
    r.LogSoftmaxGrad: _softmax_grad("_log_softmax_backward_data"),
    lin.MatMul: _matmul, lin.Linear: _linear, lin.LinearWeightGrad: _linear_weight_grad,
    lin.Gather: _gather, lin.ScatterAdd: _scatter_add, lin.WriteSlice: _write_slice,
    c.Windows: convolution.windows, c.Fold: convolution.fold, c.Conv: convolution.conv,
    c.ConvInputGrad: convolution.conv_grad, c.ConvWeightGrad: convolution.conv_grad,
    c.MaxPool: convolution.max_pool, c.MaxPoolGrad: convolution.max_pool_grad,
    c.AvgPool: convolution.avg_pool, c.AvgPoolGrad: convolution.avg_pool_grad,
    fused.FusedConv: _fused(packed.conv), fused.FusedLinear: _fused(packed.linear),
    attention.Attention: _attention,
    rec.Lstm: _lstm, rec.LstmGrad: _lstm_grad, rec.Gru: _recurrent("gru"),
    rec.Rnn: _recurrent("rnn", lambda op: f", torch.rnn_{op.activation}"),
    rec.LstmScan: _scan("lstm_scan"), rec.LstmScanGrad: _scan("lstm_scan_grad"),
    rec.GruScan: _scan("gru_scan"), rec.GruScanGrad: _scan("gru_scan_grad"),
    rec.RnnScan: _scan("rnn_scan"), rec.RnnScanGrad: _scan("rnn_scan_grad"),
    rec.ReluScan: _scan("rnn_scan", ", relu=True"), rec.ReluScanGrad: _scan("rnn_scan_grad", ", relu=True"),
    resize.Resize: _resize,
    act.Relu: _call("torch.relu"), act.Sigmoid: _call("torch.sigmoid"), act.Silu: _call("F.silu"), act.Gelu: _gelu,
    act.LeakyRelu: _call("F.leaky_relu", lambda op: repr(op.slope)), act.Elu: _call("F.elu", lambda op: repr(op.alpha)),
    act.HardSigmoid: _call("F.hardsigmoid"), act.HardSwish: _call("F.hardswish"), act.Mish: _call("F.mish"),
    act.ReluGrad: _call("torch.ops.aten.threshold_backward", lambda op: "0"), act.GeluGrad: _gelu_grad,
    act.SiluGrad: _call("torch.ops.aten.silu_backward"),
    norm.BatchNormGrad: _norm_grad("batch_norm_grad"), norm.LayerNormGrad: _norm_grad("layer_norm_grad"),
    norm.BatchNorm: _batch_norm, norm.BatchNormTrain: _batch_norm_train, norm.LayerNorm: _layer_norm,
    norm.GroupNorm: _group_norm,
}  # fmt: skip


# What PyTorch's kernels compute in bfloat16 as others do in float32, each result rounded once.
BFLOAT16 = (
    s.Reshape, s.Transpose, s.BroadcastTo, s.Slice, s.Pad, s.Concat, s.Split, s.Flip, e.Neg, e.Add, e.Sub, e.Mul,
    e.Maximum, e.Minimum, e.Tanh, e.Where, act.Relu, act.Sigmoid, act.Silu, act.Gelu, act.LeakyRelu, act.Elu,
    act.HardSigmoid, act.HardSwish, act.Mish, r.Mean, lin.MatMul, lin.Linear, c.Conv, c.MaxPool, c.AvgPool,
    fused.FusedConv, fused.FusedLinear, attention.Attention, norm.LayerNorm, norm.GroupNorm, norm.BatchNorm,
    r.Sum, r.Softmax, r.SoftmaxGrad, lin.LinearWeightGrad, c.ConvInputGrad, c.ConvWeightGrad, c.MaxPoolGrad,
    norm.BatchNormTrain, norm.BatchNormGrad, c.AvgPoolGrad, act.ReluGrad, act.GeluGrad, act.SiluGrad,
)  # fmt: skip


def native(value: Value, cpu: bool = True, bfloat16: bool = True) -> bool:
    """Tell whether PyTorch runs a value's op as it is, on the CPU or not, with kernels for bfloat16 or without."""
    if isinstance(value.op, Const | Item | e.Cast):
        return True
    if touches_bfloat16(value) and not (bfloat16 and isinstance(value.op, BFLOAT16)):
        return False
    if isinstance(value.op, fused.FusedConv):
        return cpu and packed.fuses_conv(value)
    if isinstance(value.op, fused.FusedLinear):
        return cpu and packed.fuses_linear(value)
    if isinstance(value.op, recurrent.LstmGrad):
        # oneDNN has it for rows without padding
        plain = value.types[0].dtype is DType.f32 and len(value.op.forward(value.inputs)) == 6
        return cpu and plain and 0 not in value.types[0].shape[:2]
    if isinstance(value.op, conv.AvgPool):
        return value.rank == len(value.op.kernel) + 2 and convolution.averages(value.op, value.inputs[0].shape[2:])
    if isinstance(value.op, conv.AvgPoolGrad):
        ranks = len(value.op.kernel) in (2, 3) and value.rank == len(value.op.kernel) + 2
        return ranks and convolution.averages(value.op, value.shape[2:])
    if isinstance(value.op, conv.MaxPool | conv.MaxPoolGrad):
        return value.rank == len(value.op.kernel) + 2
    if isinstance(value.op, attention.Attention):
        return _attends(value)
    if isinstance(value.op, recurrent.Recurrent):
        return value.inputs[0].shape[1] != 0
    if isinstance(value.op, resize.Resize):
        return value.rank == len(value.op.size) + 2 and len(value.op.size) <= 3 and _resizes(value)
    return type(value.op) in EMIT


# torch finds the nearest place in float32: right for whole factors up to 40, and now and then one off for others.
_LARGEST_FACTOR = 32


def _resizes(value: Value) -> bool:
    """Whether `F.interpolate` takes the same places as the op."""
    op = cast(resize.Resize, value.op)
    factor = op.whole(value.inputs[0].type)
    return op.mode == "linear" or (factor is not None and factor <= _LARGEST_FACTOR)


def argument(w: Writer, x: Value, literal: bool = False) -> str:
    """A value's variable; a scalar constant as a number where torch takes one, else as a tensor."""
    if x not in w.variables and isinstance(x.op, Const) and (x.rank or not literal):
        w.variables[x] = w.constant(x.op.value.array)
    return w.argument(x, literal=True).replace("np.", "math.")


def write(w: Writer, v: Value) -> str:
    """The expression for a value."""
    if isinstance(v.op, Item):
        return f"{argument(w, v.inputs[0])}[{v.op.index}]"
    plain = 1 if isinstance(v.op, e.Where) else 0  # a condition is a tensor
    args = [argument(w, x, i >= plain and takes_numbers(w, v)) for i, x in enumerate(v.inputs)]
    return EMIT[type(v.op)](w, v, args)


def takes_numbers(w: Writer, v: Value) -> bool:
    """Whether scalar constants are written as numbers: a tensor beside them gives the element type.

    A call takes a tensor sooner than it makes one of a number, but for exponents, of which it knows some.
    """
    if isinstance(w, packed.Packing) and isinstance(v.op, e.Add | e.Sub | e.Mul | e.Div | e.Less | e.Equal | e.Where):
        return False
    peers = v.inputs[1:] if isinstance(v.op, e.Where) else v.inputs
    if all(isinstance(x.op, Const) and x.rank == 0 for x in peers):
        return False
    if isinstance(v.op, e.Maximum | e.Minimum):
        return v.dtype is not DType.boolean
    return isinstance(v.op, e.Add | e.Sub | e.Mul | e.Div | e.Less | e.Equal | e.Pow | e.Where)
