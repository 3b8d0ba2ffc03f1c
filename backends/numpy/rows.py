"""NumPy kernels for chains of elementwise functions and sums over rows: all of a chain on what fits in cache.

Each stands alone but for those it names. `work` holds arrays that are used again from call to call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...compiler.ops.kernels import erf
from .kernels import Array, Work, scratch


def pieces(out: Array, *arrays: Array, rows: bool = False) -> Iterator[tuple[Array, ...]]:
    """Arrays of one shape in pieces of 64 KiB or so; with `rows`, the last axis stays whole.

    Where all lie densely and alike in memory they are cut as one long row, otherwise along their first axis.
    """
    everything = (out, *arrays)
    axes = range(out.ndim) if rows else sorted(range(out.ndim), key=lambda i: -out.strides[i])
    turned = [a.transpose(*axes) for a in everything]
    if out.ndim and all(a.flags.c_contiguous for a in turned):
        everything = tuple(a.reshape(-1, out.shape[-1]) if rows else a.reshape(-1) for a in turned)
    if not out.ndim or (rows and everything[0].ndim == 1):
        yield everything
        return
    first = everything[0]
    step = max(1, (1 << 16) * first.shape[0] // max(1, first.nbytes))
    for i in range(0, first.shape[0], step):
        yield tuple(a[i : i + step] for a in everything)


def erf_of(x: Array, out: Array | None = None, work: Work | None = None) -> Array:
    """The error function; of float32 to 5e-7.

    x P(x²) / Q(x²), fitted for the least largest error where |x| <= 3.92, beyond which float32 knows one.
    """
    y = np.empty(x.shape, x.dtype) if out is None else out
    if x.dtype != np.float32:
        for part, a in pieces(y, x):
            part[...] = erf(a)
        return y
    top = (0.000345754143, 0.00967316519, 0.0708479147, 0.33801286, 1.128377)
    bottom = (1.99632832e-05, 0.00245806281, 0.0268961551, 0.173829982, 0.632865031, 1.0)
    for part, a in pieces(y, x):
        near, square, p, q = (scratch(work, name, a.shape, a.dtype) for name in ("near", "square", "top", "bottom"))
        np.clip(a, -3.92, 3.92, out=near)
        np.multiply(near, near, out=square)
        for sum_, terms in ((p, top), (q, bottom)):
            np.multiply(square, terms[0], out=sum_)
            for term in terms[1:-1]:
                np.add(sum_, term, out=sum_)
                np.multiply(sum_, square, out=sum_)
            np.add(sum_, terms[-1], out=sum_)
        np.multiply(p, near, out=p)
        np.divide(p, q, out=part)
    return y


def gelu(x: Array, approximate: bool, out: Array | None = None, work: Work | None = None) -> Array:
    """x times the normal distribution function of x; or its tanh form."""
    y = np.empty(x.shape, x.dtype) if out is None else out
    for part, a in pieces(y, x):
        t = scratch(work, "inner", a.shape, a.dtype)
        if approximate:
            np.multiply(a, a, out=t)
            np.multiply(t, 0.044715 * (2 / np.pi) ** 0.5, out=t)
            np.add(t, (2 / np.pi) ** 0.5, out=t)
            np.multiply(t, a, out=t)
            np.tanh(t, out=t)
        else:
            np.multiply(a, 0.5**0.5, out=t)
            erf_of(t, t, work)
        np.add(t, 1.0, out=t)
        np.multiply(t, 0.5, out=t)
        np.multiply(t, a, out=part)
    return y


def softmax(x: Array, axis: int, out: Array | None = None, work: Work | None = None) -> Array:
    """exp(x) / sum(exp(x)) along an axis, shifted by the maximum for stability."""
    y = np.empty(x.shape, x.dtype) if out is None else out
    axis %= x.ndim
    last = axis == x.ndim - 1
    for part, a in pieces(y, x, rows=True) if last else [(y, x)]:
        along = a.ndim - 1 if last else axis
        np.subtract(a, np.maximum.reduce(a, along, keepdims=True), out=part)
        np.exp(part, out=part)
        np.divide(part, np.add.reduce(part, along, keepdims=True), out=part)
    return y


def layer_norm(
    x: Array, scale: Array, shift: Array, eps: float, out: Array | None = None, work: Work | None = None
) -> Array:
    """(x - mean) / sqrt(var + eps) * scale + shift over the last axis."""
    y = np.empty(x.shape, x.dtype) if out is None else out
    for part, a in pieces(y, x, rows=True):
        np.subtract(a, np.add.reduce(a, -1, keepdims=True) / a.shape[-1], out=part)
        var: Any = np.einsum("...i,...i->...", part, part)[..., None]
        np.multiply(part, 1.0 / np.sqrt(var / a.shape[-1] + eps), out=part)
        np.multiply(part, scale, out=part)
        np.add(part, shift, out=part)
    return y


def global_norm(*tensors: Array) -> Array:
    """The Euclidean norm of all numbers of several tensors together."""
    squares = [np.dot(flat, flat) for flat in (x.reshape(-1) for x in tensors)]
    return np.asarray(np.sqrt(sum(squares)), tensors[0].dtype)


def relu_grad(g: Array, x: Array, out: Array | None = None, work: Work | None = None) -> Array:
    """g where x is above zero, elsewhere zero."""
    y = np.empty(x.shape, x.dtype) if out is None else out
    for part, slope, a in pieces(y, g, x):
        above = scratch(work, "above", a.shape, np.bool_)
        np.less(0, a, out=above)
        np.multiply(slope, above, out=part)
    return y


def channel_sum(x: Array, out: Array | None = None, work: Work | None = None) -> Array:
    """The sum over all axes but the second, which keep the size one; by BLAS where channels are last in memory."""
    y = np.empty((1, x.shape[1], *(1 for _ in x.shape[2:])), x.dtype) if out is None else out
    rows = x.transpose(0, *range(2, x.ndim), 1)
    if not rows.flags.c_contiguous:
        return np.asarray(np.add.reduce(x, (0, *range(2, x.ndim)), keepdims=True, out=y))
    ones = scratch(work, "ones", (rows.size // x.shape[1],), x.dtype)
    ones.fill(1)
    np.matmul(ones, rows.reshape(-1, x.shape[1]), out=y.reshape(-1))
    return y
