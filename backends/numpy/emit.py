"""How each op is written in NumPy: the table is the set of ops the backend runs natively."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np

from ...compiler.ir import Const, DType, Item, Op, Value, scalar_of
from ...compiler.ops import activations, conv, elementwise, fused, linalg, norm, optim, recurrent, reduce, shape
from ...compiler.passes.precision import touches_bfloat16
from ...compiler.structs import Struct
from ..source import Writer, literal_of, shape_text

# The arrays that kernels work in, by name, in the generated source.
WORK = "work"

Kind = Literal["ufunc", "into", "fresh", "view", "state"]
Write = Callable[[Writer, Value, Sequence[str], str | None], str]


class Emit(Struct):
    """How an op is written: given the writer, the value, its arguments and where to put the result.

    A `ufunc` may write over an argument of its type; `into` fills a buffer it is given; `fresh`
    allocates; `view` shows its first argument's numbers; `state` writes over its first argument and all
    between the second and the last two, which are what it returns.
    """

    kind: Kind
    write: Write
    kernels: tuple[str, ...] = ()


def _call(function: str, *, extra: Callable[[Any], str] | None = None) -> Write:
    """`function(arguments…, extra…, out=…)`"""

    def write(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
        parts = [*args, *([extra(v.op)] if extra else []), *([f"out={out}"] if out else [])]
        return f"{function}({', '.join(parts)})"

    return write


def _lent(out: str | None) -> str:
    """The last arguments of a kernel that is given a buffer to fill and arrays to work in."""
    return f", out={out}, work={WORK}" if out else ""


def _ufunc(op: type[elementwise.Unary] | type[elementwise.Binary] | type[elementwise.Not]) -> Emit:
    return Emit("ufunc", _call(f"np.{op.ufunc}"))


def _into(function: str, extra: Callable[[Any], str] | None = None) -> Emit:
    return Emit("into", _call(function, extra=extra))


def _kernel(name: str, *needs: str, extra: Callable[[Any], str], kind: Kind = "fresh") -> Emit:
    return Emit(kind, _call(name, extra=extra), (name, *needs))


def _tiled(name: str, *needs: str, extra: Callable[[Any], str], kind: Kind = "into") -> Emit:
    """A kernel that fills a buffer and works in arrays that are used again."""

    def write(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
        return f"{name}({', '.join([*args, *filter(None, [extra(v.op)])])}{_lent(out)})"

    return Emit(kind, write, (name, *needs))


# From so many numbers on, NumPy's `clip` is faster than its `maximum` and `minimum` with a number, which do not use
# vector instructions.
CLIP_FROM = 8192


def _bounded(function: str, low: str, high: str) -> Emit:
    """The larger or smaller of two; of large arrays and a finite number as a clip to the bounds, `{0}` being it."""
    plain = _call(function)

    def write(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
        bound = v.inputs[1]
        number = scalar_of(bound) if bound.rank == 0 else None
        if number is None or not math.isfinite(number) or not v.dtype.floating or v.type.numel() < CLIP_FROM:
            return plain(w, v, args, out)
        end = f", out={out}" if out else ""
        return f"np.clip({args[0]}, {low.format(args[1])}, {high.format(args[1])}{end})"

    return Emit("ufunc", write)


def _dtype(dtype: DType) -> str:
    return f"np.{'bool_' if dtype is DType.boolean else DType(dtype).numpy.name}"


def _cast(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    if out is None:
        return f"np.asarray({args[0]}).astype({_dtype(v.dtype)})"
    w.line(f"np.copyto({out}, {args[0]}, casting='unsafe')")
    return out


def _reshape(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    source = args[0] if v.inputs[0].rank else f"np.asarray({args[0]})"
    return f"{source}.reshape({shape_text(v.shape)})"


def _slice(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    bounds = cast(shape.Slice, v.op).bounds
    return f"{args[0]}[{', '.join(':' if b is None else f'{b[0]}:{b[1]}' for b in bounds) or '...'}]"


def _pad(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    op = cast(shape.Pad, v.op)
    value = literal_of(np.asarray(op.value))
    if out is None:
        return f"np.pad({args[0]}, {op.pads!r}, constant_values={value})" if op.pads else f"np.array({args[0]})"
    w.line(f"{out}.fill({value})")
    inside = ", ".join(
        ":" if isinstance(d, str) else f"{low}:{low + d}"
        for d, (low, _) in zip(v.inputs[0].shape, op.pads, strict=True)
    )
    w.line(f"{out}[{inside or '...'}] = {args[0]}")
    return out


def _concat(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    end = f", out={out}" if out else ""
    return f"np.concatenate([{', '.join(args)}], axis={cast(shape.Concat, v.op).axis}{end})"


def _split(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    op = cast(shape.Split, v.op)
    ends = [sum(op.sizes[: i + 1]) for i in range(len(op.sizes) - 1)]
    return f"np.split({args[0]}, {ends!r}, axis={op.axis})"


def _size(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    return f"{_dtype(v.dtype)}({cast(shape.Size, v.op).dim})"


def _iota(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    op = cast(shape.Iota, v.op)
    axis = op.axis % len(op.shape)
    line = f"np.arange({op.shape[axis]}, dtype={_dtype(v.dtype)})"
    column = f"{line}.reshape({shape_text(tuple(-1 if i == axis else 1 for i in range(len(op.shape))))})"
    if all(d == 1 for i, d in enumerate(op.shape) if i != axis):
        return column
    return f"np.broadcast_to({column}, {shape_text(op.shape)})"


def _linear(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    x, weight, *bias = args
    if out is None:
        return f"{x} @ {weight}.T" + (f" + {bias[0]}" if bias else "")
    rows, width = v.type.numel() // int(v.shape[-1]), int(v.shape[-1])
    if rows == 1 or v.rank == 1:
        w.line(f"np.matmul({x}, {weight}.T, out={out})")
    elif v.rank == 2:
        w.line(f"product({x}, {weight}, {out}, {WORK})")
    else:
        features = v.inputs[0].shape[-1]
        w.line(f"product({x}.reshape(-1, {features}), {weight}, {out}.reshape(-1, {width}), {WORK})")
    return f"np.add({out}, {bias[0]}, out={out})" if bias else out


def _linear_weight_grad(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    g, x = args
    if v.inputs[0].rank > 2:
        g, x = f"{g}.reshape(-1, {v.shape[0]})", f"{x}.reshape(-1, {v.shape[1]})"
    return f"np.matmul({g}.T, {x}, out={out})" if out else f"{g}.T @ {x}"


def _conv(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    x, weight, *bias = args
    return f"conv({x}, {weight}, {bias[0] if bias else None}, {_window(v.op)}{_lent(out)})"


def _fused_conv(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    op = cast(fused.FusedConv, v.op)
    x, weight, bias, *plus = args
    relu, bias = op.activation == "relu", "None" if fused.is_zero(v.inputs[2]) else bias
    return f"conv({x}, {weight}, {bias}, {_window(op)}, {plus[0] if plus else None}, {relu}{_lent(out)})"


def _adam(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    op = cast(optim.Adam, v.op)
    return f"adam({', '.join(args)}, {op.beta1}, {op.beta2}, {op.eps}, {op.decay}, {op.decoupled}, {WORK})"


def _sgd(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    op = cast(optim.Sgd, v.op)
    settings = f"momentum={op.momentum}, nesterov={op.nesterov}, decay={op.decay}"
    return f"sgd({', '.join(args)}, {settings}, work={WORK})"


def _window(op: Any) -> str:
    return f"{op.stride!r}, {op.pads!r}, {op.dilation!r}, {op.groups}"


def _avg_pool(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    op = cast(conv.AvgPool, v.op)
    window = f"{op.kernel!r}, {op.stride!r}, {op.pads!r}"
    total = f"window_sum({args[0]}, {window}{_lent(out)})"
    end = f", out={out}" if out else ""
    if op.counts_vary and any(isinstance(d, str) for d in v.shape[-len(op.kernel) :]):
        ones = f"np.ones({args[0]}.shape[-{len(op.kernel)}:], {_dtype(v.dtype)})"
        return f"{total} / window_sum({ones}, {window})"
    return f"np.divide({total}, {w.argument(op.counts(v.inputs[0].type), literal=True)}{end})"


def _sum(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    dtype = "" if v.dtype.floating else f", dtype={_dtype(v.dtype)}"  # NumPy widens whole numbers
    end = f", out={out}" if out else ""
    return f"np.add.reduce({args[0]}, axis={cast(reduce.Sum, v.op).axes!r}{dtype}, keepdims=True{end})"


def _sum_or_channels(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    x, axes = v.inputs[0], cast(reduce.Sum, v.op).axes
    if not out or x.rank < 3 or not x.dtype.floating or {a % x.rank for a in axes} != {*range(x.rank)} - {1}:
        return _sum(w, v, args, out)
    return f"channel_sum({args[0]}{_lent(out)})"


def _axis(op: Any) -> str:
    return f"axis={op.axis}, keepdims=True"


def _scan(name: str, *needs: str, extra: str = "") -> Emit:
    """A recurrence or its gradients, as a loop of NumPy's functions."""

    def write(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
        return f"{name}(np, {', '.join(args)}, reverse={cast(Any, v.op).reverse}{extra})"

    return Emit("fresh", write, (name, *needs))


def _layer(name: str, ready: str, extra: Callable[[Any], str] = lambda op: "") -> Emit:
    """A recurrent layer, with weights that are made ready ahead where they do not change."""

    def write(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
        x, *weights = args[:4]
        text = f"{ready}({', '.join(weights)})"
        made = w.once(text, "ready", ahead=True) if all(isinstance(i.op, Const) for i in v.inputs[1:4]) else text
        return f"{name}({', '.join([x, made, *args[4:]])}, reverse={cast(Any, v.op).reverse}{extra(v.op)})"

    return Emit("fresh", write, (name,))


CONV = (
    "windows", "scratch", "like", "channels_last", "padded", "tile_of", "tiles", "gathered", "product", "convolve",
    "depthwise", "endings", "row_of", "finish",
)  # fmt: skip
ROWS = ("erf", "scratch", "pieces")
POOL = ("scratch", "like", "slide", "join_along")

e, s, r, lin, c, rec = elementwise, shape, reduce, linalg, conv, recurrent

EMIT: dict[type[Op], Emit] = {
    **{op: _ufunc(op) for op in (e.Neg, e.Exp, e.Log, e.Sqrt, e.Sin, e.Cos, e.Tanh, e.Abs, e.Sign, e.Floor, e.Not)},
    **{op: _ufunc(op) for op in (e.Expm1, e.Log1p)},
    **{op: _ufunc(op) for op in (e.Add, e.Sub, e.Mul, e.Div, e.Pow, e.Less, e.Equal, e.And)},
    e.Maximum: _bounded("np.maximum", "{0}", "np.inf"),
    e.Minimum: _bounded("np.minimum", "-np.inf", "{0}"),
    e.Erf: _tiled("erf_of", *ROWS, extra=lambda op: "", kind="ufunc"),
    activations.Gelu: _tiled("gelu", "erf_of", *ROWS, extra=lambda op: f"{op.approximate}", kind="ufunc"),
    activations.ReluGrad: _tiled("relu_grad", "scratch", "pieces", extra=lambda op: "", kind="ufunc"),
    r.Softmax: _tiled("softmax", "pieces", extra=lambda op: f"{op.axis}", kind="ufunc"),
    norm.LayerNorm: _tiled("layer_norm", "pieces", extra=lambda op: f"{op.eps}"),
    e.Where: Emit("fresh", _call("np.where")),
    e.Cast: Emit("into", _cast),
    e.Rounded: Emit("fresh", _call("rounded"), ("rounded",)),
    s.Reshape: Emit("view", _reshape),
    s.Transpose: Emit("view", lambda w, v, a, out: f"{a[0]}.transpose({cast(s.Transpose, v.op).axes!r})"),
    s.BroadcastTo: Emit("view", lambda w, v, a, out: f"np.broadcast_to({a[0]}, {shape_text(v.shape)})"),
    s.Slice: Emit("view", _slice),
    s.After: Emit("view", lambda w, v, a, out: a[0]),
    s.Pad: Emit("into", _pad),
    s.Concat: Emit("into", _concat),
    s.Split: Emit("view", _split),
    s.Flip: Emit("view", _call("np.flip", extra=lambda op: f"axis={op.axis}")),
    s.Size: Emit("fresh", _size),
    s.Iota: Emit("fresh", _iota),
    r.Sum: Emit("into", _sum_or_channels),
    r.Max: _into("np.maximum.reduce", _axis),
    r.ArgMax: _into("np.argmax", _axis),
    r.GlobalNorm: Emit("fresh", _call("global_norm"), ("global_norm",)),
    r.CumSum: _into("np.cumsum", lambda op: f"axis={op.axis}"),
    lin.MatMul: _into("np.matmul"),
    lin.Linear: Emit("into", _linear),
    lin.LinearWeightGrad: Emit("into", _linear_weight_grad),
    lin.Gather: Emit("fresh", _call("np.take", extra=lambda op: f"axis={op.axis}")),
    lin.ScatterAdd: _kernel("scatter_add", extra=lambda op: f"{op.axis}, {op.size[0]}"),
    lin.WriteSlice: Emit("ufunc", _call("write_slice", extra=lambda op: f"{op.axis}"), ("write_slice",)),
    c.Windows: _kernel("windows", extra=lambda op: f"{op.kernel!r}, {op.stride!r}, {op.dilation!r}", kind="view"),
    c.Fold: _kernel("fold", extra=lambda op: f"{shape_text(op.size)}, {op.stride!r}, {op.dilation!r}"),
    c.Conv: Emit("into", _conv, ("conv", *CONV)),
    fused.FusedConv: Emit("into", _fused_conv, ("conv", *CONV)),
    c.ConvInputGrad: _tiled(
        "conv_input_grad", "conv", "fold_taps", *CONV, extra=lambda op: f"{shape_text(op.size)}, {_window(op)}"
    ),
    c.ConvWeightGrad: _tiled(
        "conv_weight_grad", "correlate", "depthwise_weight_grad", *CONV,
        extra=lambda op: f"{op.size!r}, {_window(op)}",
    ),
    c.MaxPool: _tiled("max_pool", *POOL, extra=lambda op: f"{op.kernel!r}, {op.stride!r}, {op.pads!r}"),
    c.MaxPoolGrad: _tiled(
        "max_pool_grad", "padded", "to_first", *POOL,
        extra=lambda op: f"{op.kernel!r}, {op.stride!r}, {op.pads!r}",
    ),
    c.AvgPool: Emit("into", _avg_pool, ("window_sum", *POOL)),
    optim.Adam: Emit("state", _adam, ("scratch", "adam")),
    optim.Sgd: Emit("state", _sgd, ("scratch", "sgd")),
    rec.Lstm: _layer("lstm", "lstm_ready"), rec.Gru: _layer("gru", "gru_ready"),
    rec.Rnn: _layer("rnn", "", lambda op: f", relu={op.activation == 'relu'}"),
    rec.LstmScan: _scan("lstm_scan", "time_first"), rec.LstmScanGrad: _scan("lstm_scan_grad", "shifted"),
    rec.GruScan: _scan("gru_scan", "time_first"), rec.GruScanGrad: _scan("gru_scan_grad", "shifted"),
    rec.RnnScan: _scan("rnn_scan", "time_first"), rec.RnnScanGrad: _scan("rnn_scan_grad", "shifted"),
    rec.ReluScan: _scan("rnn_scan", "time_first", extra=", relu=True"),
    rec.ReluScanGrad: _scan("rnn_scan_grad", "shifted", extra=", relu=True"),
}  # fmt: skip


# Kernels that work in pieces, and the size of array from which on that costs less than it saves.
PIECEWISE = (activations.Gelu, activations.ReluGrad, reduce.Softmax, norm.LayerNorm)
PIECES_FROM = 4096


def kind_of(value: Value) -> Kind:
    """How a value's numbers come to be; items are views of what they are taken from."""
    if isinstance(value.op, Item):
        return "view"
    return "fresh" if isinstance(value.op, Const) else EMIT[type(value.op)].kind


def written_over(value: Value) -> tuple[Value, ...]:
    """What an op that changes state writes over, in the order of its outputs."""
    p, _, *slots = value.inputs[:-2]
    return (p, *slots)


def is_view(value: Value) -> bool:
    return kind_of(value) == "view"


def native(value: Value) -> bool:
    if isinstance(value.op, Const | Item | elementwise.Cast):
        return True
    if touches_bfloat16(value):
        return False
    if isinstance(value.op, elementwise.Rounded):
        return value.op.to is DType.bf16 and value.dtype is DType.f32
    if isinstance(value.op, fused.FusedConv):
        return value.op.activation in ("", "relu")
    if isinstance(value.op, PIECEWISE) and value.type.numel() < PIECES_FROM:
        return False
    return type(value.op) in EMIT


def kernel_of(value: Value) -> str:
    """How a convolution is done."""
    if not isinstance(value.op, conv.Conv | fused.FusedConv):
        return ""
    if fused.is_depthwise(value):
        return "sums of shifted images"
    return "product" if all(d == 1 for d in value.inputs[1].shape[2:]) else "product of windows"


def write(w: Writer, v: Value, out: str | None) -> str:
    """The expression for a value, after any lines it needs."""
    if isinstance(v.op, Item):
        return f"{w.argument(v.inputs[0], literal=True)}[{v.op.index}]"
    # A literal takes the element type of the arrays beside it: there must be one.
    peers = v.inputs[1:] if isinstance(v.op, elementwise.Where) else v.inputs
    literal = not all(isinstance(x.op, Const) and x.rank == 0 for x in peers)
    args = [w.argument(x, literal) for x in v.inputs]
    return EMIT[type(v.op)].write(w, v, args, out)
