"""What may be written over an argument that nobody reads again, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from ...compiler.ir import Op, Value
from ...compiler.ops import activations as act
from ...compiler.ops import elementwise as e
from ...compiler.ops import linalg as lin
from ..source import Writer
from .emit import argument, few_gelus, places_text, takes_numbers

Over = Callable[[Writer, Value, Sequence[str]], str]


def _over(name: str) -> Over:
    """`x.name_(…)`"""
    return lambda w, v, a: f"{a[0]}.{name}_({', '.join(a[1:])})"


def _gelu_over(w: Writer, v: Value, a: Sequence[str]) -> str:
    if few_gelus(w, v):
        return f"gelu({a[0]})"  # into memory of its own
    form = "tanh" if cast(act.Gelu, v.op).approximate else "none"
    return f"torch.ops.aten.gelu_({a[0]}, approximate={form!r})"


# Ops that may write over an argument of their own type, by the form that does.
_OVER: dict[type[Op], Over] = {
    e.Neg: _over("neg"), e.Exp: _over("exp"), e.Log: _over("log"), e.Sqrt: _over("sqrt"), e.Sin: _over("sin"),
    e.Cos: _over("cos"), e.Tanh: _over("tanh"), e.Abs: _over("abs"), e.Floor: _over("floor"), e.Erf: _over("erf"),
    e.Add: _over("add"), e.Sub: _over("sub"), e.Mul: _over("mul"), e.Div: _over("div"),
    act.Relu: _over("relu"), act.Sigmoid: _over("sigmoid"), act.Gelu: _gelu_over,
    lin.WriteSlice: lambda w, v, a: f"{a[0]}.index_copy_({places_text(w, v, a)})",
    act.Silu: lambda w, v, a: f"F.silu({a[0]}, inplace=True)",
    act.ReluGrad: lambda w, v, a: f"torch.ops.aten.threshold_backward.grad_input({a[0]}, {a[1]}, 0, grad_input={a[0]})",
}  # fmt: skip
_EITHER = (e.Add, e.Mul)


def write_over(w: Writer, v: Value, free: Callable[[Value], bool]) -> str | None:
    """The expression for a value that takes the place of an argument which is `free`; `None` where there is none."""
    form = _OVER.get(type(v.op))
    if form is None:
        return None
    args = list(v.inputs)
    if isinstance(v.op, _EITHER) and not free(args[0]):
        args.reverse()
    if args[0].type != v.type or not free(args[0]) or args[0] in args[1:]:
        return None
    return form(w, v, [argument(w, x, takes_numbers(w, v)) for x in args])
