"""NumPy kernels for convolution and pooling, without loops over pixels.

Each stands alone but for those it names: `trine compile -o model.py` copies what a model needs.
Arrays are [N, C, *S]; weights [O, C/groups, *K].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiler.ops.kernels import fold, windows

Array = NDArray[Any]
Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def pad(x: Array, pads: Pads, value: float = 0.0) -> Array:
    """x with `value` around its trailing axes."""
    if not any(low or high for low, high in pads):
        return x
    lead = x.ndim - len(pads)
    size = [d + low + high for d, (low, high) in zip(x.shape[lead:], pads, strict=True)]
    out = np.full((*x.shape[:lead], *size), value, x.dtype)
    inside: Any = tuple(slice(low, low + d) for d, (low, _) in zip(x.shape[lead:], pads, strict=True))
    out[(..., *inside)] = x
    return out


def columns(x: Array, kernel: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Array:
    """The numbers under each window, [N, groups, C/groups * K, positions]."""
    w = windows(pad(x, pads), kernel, stride, dilation)
    rank = len(kernel)
    w = w.transpose(0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    taps = int(np.prod(kernel)) * (x.shape[1] // groups)
    return w.reshape(x.shape[0], groups, taps, int(np.prod(w.shape[-rank:])))


def conv(x: Array, weight: Array, bias: Array | None, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Array:
    """Cross-correlation as one matrix product per row over gathered windows."""
    kernel = weight.shape[2:]
    size = [
        (s + low + high - d * (k - 1) - 1) // t + 1
        for s, k, t, (low, high), d in zip(x.shape[2:], kernel, stride, pads, dilation, strict=True)
    ]
    if groups == x.shape[1] and weight.shape[1] == 1 and groups > 1:
        y = depthwise(pad(x, pads), weight, tuple(size), stride, dilation)
    else:
        cols = columns(x, kernel, stride, pads, dilation, groups)
        y = np.matmul(weight.reshape(groups, weight.shape[0] // groups, -1), cols)
        y = y.reshape(x.shape[0], weight.shape[0], *size)
    if bias is not None:
        y += bias.reshape(1, -1, *(1 for _ in size))
    return y


def depthwise(x: Array, weight: Array, size: Ints, stride: Ints, dilation: Ints) -> Array:
    """Convolution of each channel by itself: one multiply-add of whole arrays per tap."""
    factor = weight.shape[0] // x.shape[1]
    x = np.repeat(x, factor, axis=1) if factor > 1 else x
    y = np.zeros((x.shape[0], x.shape[1], *size), x.dtype)
    tap: Any
    for tap in np.ndindex(*weight.shape[2:]):
        place: Any = tuple(
            slice(o * d, o * d + t * (n - 1) + 1, t) for o, d, t, n in zip(tap, dilation, stride, size, strict=True)
        )
        y += x[(..., *place)] * weight[(slice(None), 0, *tap)].reshape(1, -1, *(1 for _ in size))
    return y


def conv_input_grad(
    g: Array, weight: Array, size: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int
) -> Array:
    """The gradient of `conv` in its input, whose spatial size is `size`."""
    n, out = g.shape[:2]
    kernel = weight.shape[2:]
    taps = weight.reshape(groups, out // groups, -1).transpose(0, 2, 1)
    cols = np.matmul(taps, g.reshape(n, groups, out // groups, -1))
    rank = len(size)
    cols = cols.reshape(n, groups * weight.shape[1], *kernel, *g.shape[2:])
    cols = cols.transpose(0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    padded = tuple(s + low + high for s, (low, high) in zip(size, pads, strict=True))
    x = fold(cols, padded, stride, dilation)
    inside: Any = tuple(slice(low, low + s) for s, (low, _) in zip(size, pads, strict=True))
    return np.asarray(x[(..., *inside)])


def conv_weight_grad(g: Array, x: Array, kernel: Ints, stride: Ints, pads: Pads, dilation: Ints, groups: int) -> Array:
    """The gradient of `conv` in its weight, whose window is `kernel`."""
    n, out = g.shape[:2]
    cols = columns(x, kernel, stride, pads, dilation, groups)
    rows = g.reshape(n, groups, out // groups, -1)
    if groups == 1:
        total = np.tensordot(rows[:, 0], cols[:, 0], axes=((0, 2), (0, 2)))
    else:
        total = np.matmul(rows, cols.transpose(0, 1, 3, 2)).sum(0)
    return total.reshape(out, x.shape[1] // groups, *kernel)


def max_pool(x: Array, kernel: Ints, stride: Ints, pads: Pads) -> Array:
    """The largest number of each window: one comparison of whole arrays per tap."""
    w = windows(pad(x, pads, -np.inf), kernel, stride, (1,) * len(kernel))
    first: Any = (0,) * len(kernel)
    y = np.array(w[(..., *first)])
    tap: Any
    for tap in np.ndindex(*kernel):
        np.maximum(y, w[(..., *tap)], out=y)
    return y


def max_pool_grad(g: Array, x: Array, y: Array, kernel: Ints, stride: Ints, pads: Pads) -> Array:
    """The gradient of `max_pool`: each number of g goes to the first largest of its window."""
    rank = len(kernel)
    padded = pad(x, pads, -np.inf)
    w = windows(padded, kernel, stride, (1,) * rank)
    out = np.zeros_like(padded)
    free = np.ones(g.shape, np.bool_)
    tap: Any
    for tap in np.ndindex(*kernel):
        hit = (w[(..., *tap)] == y) & free
        free &= ~hit
        place: Any = tuple(
            slice(o, o + t * (n - 1) + 1, t) for o, t, n in zip(tap, stride, g.shape[-rank:], strict=True)
        )
        out[(..., *place)] += g * hit
    inside: Any = tuple(slice(low, low + s) for s, (low, _) in zip(x.shape[-rank:], pads, strict=True))
    return np.asarray(out[(..., *inside)])


def window_sum(x: Array, kernel: Ints, stride: Ints, pads: Pads) -> Array:
    """The sum of each window: one addition of whole arrays per tap."""
    w = windows(pad(x, pads), kernel, stride, (1,) * len(kernel))
    first: Any = (0,) * len(kernel)
    y = np.array(w[(..., *first)])
    tap: Any
    for tap in list(np.ndindex(*kernel))[1:]:
        y += w[(..., *tap)]
    return y


def write_slice(x: Array, new: Array, index: Array, axis: int, out: Array | None = None) -> Array:
    """x with the slice number `index` along `axis` replaced by `new`; in the place of x where `out` is x."""
    if out is None:
        out = np.array(x)
    elif out is not x:
        np.copyto(out, x)
    place: Any = (*(slice(None) for _ in range(axis % x.ndim)), slice(int(index), int(index) + 1))
    out[place] = new
    return out
