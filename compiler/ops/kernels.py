"""NumPy kernels for the primitives NumPy has no function for.

Each stands alone (NumPy and its arguments only): `trine compile -o model.py` copies the ones a
model needs into the file it writes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def erf(x: Array) -> Array:
    """The error function to double precision: W. J. Cody, Math. Comp. 23 (1969), 631-637."""
    small = (
        3.16112374387056560e00,
        1.13864154151050156e02,
        3.77485237685302021e02,
        3.20937758913846947e03,
        1.85777706184603153e-1,
    )
    small_q = (2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03)
    middle = (
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e01,
        2.98635138197400131e02,
        8.81952221241769090e02,
        1.71204761263407058e03,
        2.05107837782607147e03,
        1.23033935479799725e03,
        2.15311535474403846e-8,
    )
    middle_q = (
        1.57449261107098347e01,
        1.17693950891312499e02,
        5.37181101862009858e02,
        1.62138957456669019e03,
        3.29079923573345963e03,
        4.36261909014324716e03,
        3.43936767414372164e03,
        1.23033935480374942e03,
    )
    large = (
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
        1.63153871373020978e-2,
    )
    large_q = (
        2.56852019228982242e00,
        1.87295284992346725e00,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    )

    def ratio(t: Array, p: tuple[float, ...], q: tuple[float, ...]) -> Array:
        top, bottom = p[-1] * t, t
        for a, b in zip(p[:-2], q[:-1], strict=True):
            top, bottom = (top + a) * t, (bottom + b) * t
        return np.asarray((top + p[-2]) / (bottom + q[-1]))

    z = np.asarray(x, np.float64)
    y = np.abs(z)
    near = y <= 0.46875
    square = np.where(near, y, 0.0) ** 2
    inner = z * ratio(square, small, small_q)
    mid = np.clip(y, 0.46875, 4.0)
    tail = np.clip(y, 4.0, 26.0)
    inverse = 1.0 / (tail * tail)
    far = (0.56418958354775628695 - inverse * ratio(inverse, large, large_q)) / tail
    outer = np.where(y <= 4.0, np.exp(-mid * mid) * ratio(mid, middle, middle_q), np.exp(-tail * tail) * far)
    return np.asarray(np.where(near, inner, np.sign(z) * (1.0 - outer)), x.dtype)


def windows(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Array:
    """Every window of the trailing axes, as a view: [..., *S] -> [..., *O, *K]."""
    rank = len(kernel)
    lead = x.shape[: x.ndim - rank]
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    out = [(s - w) // t + 1 for s, w, t in zip(x.shape[x.ndim - rank :], spans, stride, strict=True)]
    steps = x.strides[x.ndim - rank :]
    strides = (
        *x.strides[: x.ndim - rank],
        *(a * t for a, t in zip(steps, stride, strict=True)),
        *(a * d for a, d in zip(steps, dilation, strict=True)),
    )
    return np.lib.stride_tricks.as_strided(x, (*lead, *out, *kernel), strides, writeable=False)


def fold(g: Array, size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Array:
    """The adjoint of `windows`: add each window back in its place: [..., *O, *K] -> [..., *S]."""
    rank = len(size)
    lead, out, kernel = (
        g.shape[: g.ndim - 2 * rank],
        g.shape[g.ndim - 2 * rank : g.ndim - rank],
        g.shape[g.ndim - rank :],
    )
    x = np.zeros((*lead, *size), g.dtype)
    for offset in np.ndindex(*kernel):
        place: Any = tuple(
            slice(o * d, o * d + t * (n - 1) + 1, t) for o, d, t, n in zip(offset, dilation, stride, out, strict=True)
        )
        tap: Any = (..., *offset)
        x[(..., *place)] += g[tap]
    return x


def scatter_add(g: Array, index: Array, axis: int, dim: int) -> Array:
    """The adjoint of `np.take(x, index, axis)`: add each slice of g to the place it was taken from."""
    index = np.asarray(index)
    lead, tail = g.shape[:axis], g.shape[axis + index.ndim :]
    rows = np.moveaxis(g.reshape(*lead, index.size, *tail), axis, 0).reshape(index.size, -1)
    flat = np.zeros((dim, rows.shape[1]), g.dtype)
    np.add.at(flat, index.reshape(-1), rows)
    return np.moveaxis(flat.reshape(dim, *lead, *tail), 0, axis)
