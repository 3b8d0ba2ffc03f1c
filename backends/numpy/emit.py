"""How each op is written in NumPy: the table is the set of ops the backend runs natively."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import numpy as np

from ...compiler.ir import Const, DType, Item, Op, Value
from ...compiler.ops import conv, elementwise, linalg, recurrent, reduce, shape
from ...compiler.structs import Struct
from ..source import Writer, literal_of, shape_text

Kind = Literal["ufunc", "into", "fresh", "view"]
Write = Callable[[Writer, Value, Sequence[str], str | None], str]


class Emit(Struct):
    """How an op is written: given the writer, the value, its arguments and where to put the result.

    A `ufunc` may write over an argument of its type; `into` fills a buffer it is given; `fresh`
    allocates; `view` shows its first argument's numbers.
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


def _ufunc(op: type[elementwise.Unary] | type[elementwise.Binary] | type[elementwise.Not]) -> Emit:
    return Emit("ufunc", _call(f"np.{op.ufunc}"))


def _into(function: str, extra: Callable[[Any], str] | None = None) -> Emit:
    return Emit("into", _call(function, extra=extra))


def _kernel(name: str, *needs: str, extra: Callable[[Any], str], kind: Kind = "fresh") -> Emit:
    return Emit(kind, _call(name, extra=extra), (name, *needs))


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
    w.line(f"np.matmul({x}, {weight}.T, out={out})")
    return f"np.add({out}, {bias[0]}, out={out})" if bias else out


def _linear_weight_grad(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    g, x = args
    if v.inputs[0].rank > 2:
        g, x = f"{g}.reshape(-1, {v.shape[0]})", f"{x}.reshape(-1, {v.shape[1]})"
    return f"np.matmul({g}.T, {x}, out={out})" if out else f"{g}.T @ {x}"


def _conv(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    x, weight, *bias = args
    return f"conv({x}, {weight}, {bias[0] if bias else None}, {_window(v.op)})"


def _window(op: Any) -> str:
    return f"{op.stride!r}, {op.pads!r}, {op.dilation!r}, {op.groups}"


def _avg_pool(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    op = cast(conv.AvgPool, v.op)
    window = f"{op.kernel!r}, {op.stride!r}, {op.pads!r}"
    total = f"window_sum({args[0]}, {window})"
    if op.counts_vary and any(isinstance(d, str) for d in v.shape[-len(op.kernel) :]):
        ones = f"np.ones({args[0]}.shape[-{len(op.kernel)}:], {_dtype(v.dtype)})"
        return f"{total} / window_sum({ones}, {window})"
    return f"{total} / {w.argument(op.counts(v.inputs[0].type), literal=True)}"


def _sum(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
    dtype = "" if v.dtype.floating else f", dtype={_dtype(v.dtype)}"  # NumPy widens whole numbers
    end = f", out={out}" if out else ""
    return f"np.sum({args[0]}, axis={cast(reduce.Sum, v.op).axes!r}{dtype}, keepdims=True{end})"


def _axis(op: Any) -> str:
    return f"axis={op.axis}, keepdims=True"


def _scan(name: str, *needs: str, extra: str = "") -> Emit:
    """A recurrence or its gradients, as a loop of NumPy's functions."""

    def write(w: Writer, v: Value, args: Sequence[str], out: str | None) -> str:
        return f"{name}(np, {', '.join(args)}, reverse={cast(Any, v.op).reverse}{extra})"

    return Emit("fresh", write, (name, *needs))


e, s, r, lin, c, rec = elementwise, shape, reduce, linalg, conv, recurrent

EMIT: dict[type[Op], Emit] = {
    **{op: _ufunc(op) for op in (e.Neg, e.Exp, e.Log, e.Sqrt, e.Sin, e.Cos, e.Tanh, e.Abs, e.Sign, e.Floor, e.Not)},
    **{op: _ufunc(op) for op in (e.Add, e.Sub, e.Mul, e.Div, e.Pow, e.Maximum, e.Minimum, e.Less, e.Equal, e.And)},
    e.Erf: Emit("fresh", _call("erf"), ("erf",)),
    e.Where: Emit("fresh", _call("np.where")),
    e.Cast: Emit("into", _cast),
    s.Reshape: Emit("view", _reshape),
    s.Transpose: Emit("view", lambda w, v, a, out: f"{a[0]}.transpose({cast(s.Transpose, v.op).axes!r})"),
    s.BroadcastTo: Emit("view", lambda w, v, a, out: f"np.broadcast_to({a[0]}, {shape_text(v.shape)})"),
    s.Slice: Emit("view", _slice),
    s.Pad: Emit("into", _pad),
    s.Concat: Emit("into", _concat),
    s.Split: Emit("view", _split),
    s.Flip: Emit("view", _call("np.flip", extra=lambda op: f"axis={op.axis}")),
    s.Size: Emit("fresh", _size),
    s.Iota: Emit("fresh", _iota),
    r.Sum: Emit("into", _sum),
    r.Max: _into("np.max", _axis),
    r.ArgMax: _into("np.argmax", _axis),
    r.CumSum: _into("np.cumsum", lambda op: f"axis={op.axis}"),
    lin.MatMul: _into("np.matmul"),
    lin.Linear: Emit("into", _linear),
    lin.LinearWeightGrad: Emit("into", _linear_weight_grad),
    lin.Gather: Emit("fresh", _call("np.take", extra=lambda op: f"axis={op.axis}")),
    lin.ScatterAdd: _kernel("scatter_add", extra=lambda op: f"{op.axis}, {op.size[0]}"),
    lin.WriteSlice: Emit("ufunc", _call("write_slice", extra=lambda op: f"{op.axis}"), ("write_slice",)),
    c.Windows: _kernel("windows", extra=lambda op: f"{op.kernel!r}, {op.stride!r}, {op.dilation!r}", kind="view"),
    c.Fold: _kernel("fold", extra=lambda op: f"{shape_text(op.size)}, {op.stride!r}, {op.dilation!r}"),
    c.Conv: Emit("fresh", _conv, ("windows", "pad", "columns", "depthwise", "conv")),
    c.ConvInputGrad: _kernel("conv_input_grad", "fold", extra=lambda op: f"{shape_text(op.size)}, {_window(op)}"),
    c.ConvWeightGrad: _kernel(
        "conv_weight_grad", "windows", "pad", "columns", extra=lambda op: f"{op.size!r}, {_window(op)}"
    ),
    c.MaxPool: _kernel(
        "max_pool", "windows", "pad", extra=lambda op: f"{op.kernel!r}, {op.stride!r}, {op.pads!r}"
    ),
    c.MaxPoolGrad: _kernel(
        "max_pool_grad", "windows", "pad", extra=lambda op: f"{op.kernel!r}, {op.stride!r}, {op.pads!r}"
    ),
    c.AvgPool: Emit("fresh", _avg_pool, ("windows", "pad", "window_sum")),
    rec.LstmScan: _scan("lstm_scan", "time_first"), rec.LstmScanGrad: _scan("lstm_scan_grad", "shifted"),
    rec.GruScan: _scan("gru_scan", "time_first"), rec.GruScanGrad: _scan("gru_scan_grad", "shifted"),
    rec.RnnScan: _scan("rnn_scan", "time_first"), rec.RnnScanGrad: _scan("rnn_scan_grad", "shifted"),
    rec.ReluScan: _scan("rnn_scan", "time_first", extra=", relu=True"),
    rec.ReluScanGrad: _scan("rnn_scan_grad", "shifted", extra=", relu=True"),
}  # fmt: skip


def kind_of(value: Value) -> Kind:
    """How a value's numbers come to be; items are views of what they are taken from."""
    if isinstance(value.op, Item):
        return "view"
    return "fresh" if isinstance(value.op, Const) else EMIT[type(value.op)].kind


def is_view(value: Value) -> bool:
    return kind_of(value) == "view"


def native(value: Value) -> bool:
    return type(value.op) in EMIT or isinstance(value.op, Const | Item)


def write(w: Writer, v: Value, out: str | None) -> str:
    """The expression for a value, after any lines it needs."""
    if isinstance(v.op, Item):
        return f"{w.argument(v.inputs[0], literal=True)}[{v.op.index}]"
    # A literal takes the element type of the arrays beside it: there must be one.
    peers = v.inputs[1:] if isinstance(v.op, elementwise.Where) else v.inputs
    literal = not all(isinstance(x.op, Const) and x.rank == 0 for x in peers)
    args = [w.argument(x, literal) for x in v.inputs]
    return EMIT[type(v.op)].write(w, v, args, out)
