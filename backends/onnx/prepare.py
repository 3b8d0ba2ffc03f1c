"""What ONNX Runtime lacks, in terms of what it has: done to a graph before it is emitted."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from ...compiler.ir import Dim, DType, Graph, Value, constant
from ...compiler.ops import conv as c
from ...compiler.ops import elementwise as e
from ...compiler.ops import linalg as lin
from ...compiler.ops import reduce as r
from ...compiler.ops import shape as s
from ...compiler.rewrite import rebuild


def prepare(graph: Graph) -> Graph:
    """Put what ONNX Runtime lacks in terms of what it has.

    Windows are gathers along each axis, and their adjoint scatters; the error function of float64 is a
    polynomial; small whole numbers and booleans pass through wider ones.
    """

    def change(v: Value) -> Value | None:
        if isinstance(v.op, c.Windows):
            return _windows(v)
        if isinstance(v.op, c.Fold):
            return _fold(v)
        if isinstance(v.op, e.Erf) and v.dtype is DType.f64:
            return _erf(v.inputs[0])
        if isinstance(v.op, r.Sum) and v.dtype in (DType.i8, DType.u8):
            return _through(v, DType.i64)
        if isinstance(v.op, e.Maximum | e.Minimum | e.Less | e.Where | r.ArgMax | r.Max):
            return _through(v, DType.u8) if v.inputs[-1].dtype is DType.boolean else None
        return None

    return rebuild(graph, change)


def _through(v: Value, dtype: DType) -> Value:
    """The value computed in another element type; the condition of `Where` stays."""
    first = 1 if isinstance(v.op, e.Where) else 0
    y = v.op(*v.inputs[:first], *(e.Cast(dtype)(x) for x in v.inputs[first:]))
    return y if y.dtype is v.dtype else e.Cast(v.dtype)(y)


# From 6 on the error function is 1 to the last digit of float64.
_ERF_END = 6.0
_ERF_DEGREE = 20


@functools.cache
def _erf_coefficients() -> tuple[float, ...]:
    """A polynomial in u for log(erfc(x) / t) + x², t = 2 / (2 + x), u from -1 to 1 as t goes over its range.

    Interpolated at Chebyshev's points; with degree 20 the error function is right to 2e-15.
    """
    u = np.cos((np.arange(200) + 0.5) * np.pi / 200)
    low = 2 / (2 + _ERF_END)
    t = low + (1 - low) * (u + 1) / 2
    heights = [math.log(math.erfc(2 / n - 2) / n) + (2 / n - 2) ** 2 for n in t]
    polynomial = np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebfit(u, heights, _ERF_DEGREE))
    return tuple(float(number) for number in polynomial)


def _erf(x: Value) -> Value:
    """The error function of float64, in Horner's scheme."""
    y = e.Minimum()(e.Abs()(x), constant(_ERF_END, x.dtype))
    t = 2.0 / (y + 2.0)
    low = 2 / (2 + _ERF_END)
    u = (t - low) * (2 / (1 - low)) - 1.0
    *rest, top = _erf_coefficients()
    total = u * top + rest[-1]
    for number in reversed(rest[:-1]):
        total = total * u + number
    return e.Sign()(x) * (1.0 - t * e.Exp()(total - y * y))


def _taps(outs: int, kernel: int, stride: int, dilation: int) -> Value:
    """The positions under each window, [outs, kernel]."""
    return constant(np.arange(outs)[:, None] * stride + np.arange(kernel)[None, :] * dilation)


def _apart(size: Sequence[Dim], kernel: Sequence[Dim], op: c.Windows | c.Fold) -> bool:
    """Whether windows lie side by side and nothing is between or behind them: then they are but a view."""
    once = tuple(kernel) == op.stride and all(d == 1 for d in op.dilation)
    return once and all(not isinstance(n, str) and n % int(k) == 0 for n, k in zip(size, kernel, strict=True))


def _windows(v: Value) -> Value:
    op = cast(c.Windows, v.op)
    x, rank = v.inputs[0], len(op.kernel)
    lead = x.rank - rank
    if _apart(x.shape[lead:], op.kernel, op):
        pairs = [n for i, k in enumerate(op.kernel) for n in (v.shape[lead + i], k)]
        split = s.reshape(x, (*x.shape[:lead], *pairs))
        return s.transpose(split, (*range(lead), *(lead + 2 * i + j for j in (0, 1) for i in range(rank))))
    for i, (k, s_, d) in enumerate(zip(op.kernel, op.stride, op.dilation, strict=True)):
        x = lin.Gather(lead + 2 * i)(x, _taps(int(v.shape[lead + i]), k, s_, d))
    axes = (*range(lead), *(lead + 2 * i for i in range(rank)), *(lead + 2 * i + 1 for i in range(rank)))
    return s.transpose(x, axes)


def _fold(v: Value) -> Value:
    op = cast(c.Fold, v.op)
    g, rank = v.inputs[0], len(op.size)
    lead = g.rank - 2 * rank
    kernel, outs = g.shape[lead + rank :], g.shape[lead : lead + rank]
    pairs = [axis for i in range(rank) for axis in (lead + i, lead + rank + i)]
    g = s.transpose(g, (*range(lead), *pairs))
    if _apart(op.size, kernel, op):
        return s.reshape(g, v.shape)
    for i in reversed(range(rank)):
        taps = _taps(int(outs[i]), int(kernel[i]), op.stride[i], op.dilation[i])
        g = lin.ScatterAdd(lead + 2 * i, (op.size[i],))(g, taps)
    return g
