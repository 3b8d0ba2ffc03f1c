"""NumPy kernels for convolution, without loops over pixels.

Each stands alone but for those it names: `trine compile -o model.py` copies what a model needs.
Arrays are [N, C, *S], weights [O, C/groups, *K]. Memory may be in any order; it is best where channels come last,
and what a kernel makes has them last. Work goes tile by tile, so that what is gathered stays in cache;
`work` holds arrays that are used again from call to call.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiler.ops.kernels import windows

Array = NDArray[Any]
Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
Work = dict[Any, Array]


def scratch(work: Work | None, name: str, shape: Ints, dtype: Any) -> Array:
    """An array to work in, of any content; kept in `work` under its name, as large as it was ever asked for."""
    size = math.prod(shape)
    if work is None:
        return np.empty(shape, dtype)
    kept = work.get((name, dtype))
    if kept is None or kept.size < size:
        kept = work[name, dtype] = np.empty(size, dtype)
    return kept[:size].reshape(shape)


def channels_last(shape: Ints, dtype: Any) -> Array:
    """An empty array [N, C, *S] whose channels are last in memory."""
    return np.empty((shape[0], *shape[2:], shape[1]), dtype).transpose(0, len(shape) - 1, *range(1, len(shape) - 1))


def like(x: Array, shape: Ints, dtype: Any, work: Work | None, name: str) -> Array:
    """An array to work in whose axes are in the same order in memory as those of x."""
    axes = sorted(range(x.ndim), key=lambda i: -x.strides[i])
    made = scratch(work, name, tuple(shape[i] for i in axes), dtype)
    return made.transpose([axes.index(i) for i in range(x.ndim)])


def padded(x: Array, pads: Pads, work: Work | None, value: float = 0.0) -> Array:
    """x with `value` around its trailing axes."""
    if not any(low or high for low, high in pads):
        return x
    lead = x.ndim - len(pads)
    size = [d + low + high for d, (low, high) in zip(x.shape[lead:], pads, strict=True)]
    out = like(x, (*x.shape[:lead], *size), x.dtype, work, "padded")
    out.fill(value)
    inside: Any = tuple(slice(low, low + d) for d, (low, _) in zip(x.shape[lead:], pads, strict=True))
    out[(..., *inside)] = x
    return out


def tile_of(size: Ints, each: int, budget: int) -> tuple[int, int]:
    """How many images, and how many rows of each, are worked on at once.

    A tile is as many positions as fit the budget of bytes, a share of the second level of cache, at `each` bytes
    for one; but at least 128, fewer of which would not pay for packing the other factor of a matrix product.
    """
    positions = math.prod(size)
    limit = max(128, budget // each)
    if positions <= limit:
        return limit // positions, size[0]
    return 1, max(1, limit * size[0] // positions)


def tiles(
    x: Array,
    size: Ints,
    kernel: Ints,
    stride: Ints,
    pads: Pads,
    dilation: Ints,
    each: int,
    budget: int,
    work: Work | None,
) -> Iterator[tuple[slice, slice, Array]]:
    """Tile by tile: which images, which rows of outputs of `size`, and the windows of x there, [n, C, *O, *K].

    Padding is put around the images of one tile at a time, in an array whose borders stay zero.
    """
    images, band = tile_of(size, each, budget)
    bare = not any(low or high for low, high in pads)
    source = x if bare else padded(x[:images], pads, work)
    inside: Any = tuple(slice(low, low + d) for d, (low, _) in zip(x.shape[2:], pads, strict=True))
    w, centre = windows(source, kernel, stride, dilation), source[(..., *inside)]
    for i in range(0, x.shape[0], images):
        count = min(images, x.shape[0] - i)
        if i and not bare:
            centre[:count] = x[i : i + count]
        first = i if bare else 0
        for r in range(0, size[0], band):
            yield slice(i, i + count), slice(r, r + band), w[first : first + count, :, r : r + band]


def gathered(w: Array, rank: int, work: Work | None) -> Array:
    """Windows [N, C, *O, *K] as a matrix [positions, taps * channels].

    The copy goes along whatever is longer: the channels of a row of taps, or a row of positions, of which the
    matrix is then the transpose. Windows of one number that lie as the matrix would are not copied.
    """
    outs, taps = range(2, 2 + rank), range(2 + rank, 2 + 2 * rank)
    count = w.shape[1] * math.prod(w.shape[2 + rank :])
    channels = w.shape[1] if w.strides[1] == w.itemsize else 1
    if w.shape[1 + rank] > channels * w.shape[-1] and w.strides[-1] == w.itemsize:
        long = w.transpose(*taps, 1, 0, *outs)
        columns = scratch(work, "columns", long.shape, w.dtype)
        np.copyto(columns, long)
        return columns.reshape(count, -1).T
    rows = w.transpose(0, *outs, *taps, 1)
    if count == w.shape[1] and rows.flags.c_contiguous:
        return rows.reshape(-1, count)
    columns = scratch(work, "columns", rows.shape, w.dtype)
    np.copyto(columns, rows)
    return columns.reshape(-1, count)


def product(x: Array, weight: Array, out: Array, work: Work | None = None) -> Array:
    """x @ weightᵀ, [m, k] and [n, k].

    Of few rows, and more columns, it is made the other way round and turned: BLAS packs its second factor, and it is
    faster by half where that is the small one.
    """
    m, n = out.shape
    if not 1 < m <= 64 or n < 2 * m:
        return np.matmul(x, weight.T, out=out)
    turned = scratch(work, "product", (n, m), out.dtype)
    np.matmul(weight, x.T, out=turned)
    out[:] = turned.T
    return out


def conv(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Ints,
    pads: Pads,
    dilation: Ints,
    groups: int,
    plus: Array | None = None,
    relu: bool = False,
    out: Array | None = None,
    work: Work | None = None,
) -> Array:
    """Cross-correlation; `plus` is added to it, and with `relu` nothing below zero is left."""
    size = tuple(
        (s + low + high - d * (k - 1) - 1) // t + 1
        for s, k, t, (low, high), d in zip(x.shape[2:], weight.shape[2:], stride, pads, dilation, strict=True)
    )
    y = channels_last((x.shape[0], weight.shape[0], *size), x.dtype) if out is None else out
    if groups > 1 and weight.shape[0] == groups and weight.shape[1] == 1:
        depthwise(x, weight, bias, stride, pads, dilation, plus, relu, y, work)
        return y
    inner, outer = weight.shape[1], weight.shape[0] // groups
    for g in range(groups):
        mine = slice(g * outer, (g + 1) * outer)
        convolve(
            x[:, g * inner : (g + 1) * inner],
            weight[mine],
            None if bias is None else bias[mine],
            stride,
            pads,
            dilation,
            None if plus is None else plus[:, mine],
            relu,
            y[:, mine],
            work,
        )
    return y


def convolve(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Ints,
    pads: Pads,
    dilation: Ints,
    plus: Array | None,
    relu: bool,
    y: Array,
    work: Work | None,
) -> None:
    """A convolution of one group into y: for each tile one matrix product over gathered windows."""
    rank, filters = len(stride), weight.shape[0]
    last = (0, *range(2, rank + 2), 1)
    taps = weight.transpose(0, *range(2, rank + 2), 1).reshape(filters, -1)
    each = taps.shape[1] * x.itemsize
    ends = endings(y, bias, relu, work)
    for images, band, w in tiles(x, y.shape[2:], weight.shape[2:], stride, pads, dilation, each, 1 << 19, work):
        part = y[images, :, band]
        product(gathered(w, rank, work), taps, part.transpose(last).reshape(-1, filters), work)
        finish(part, *ends, None if plus is None else plus[images, :, band])


def endings(y: Array, bias: Array | None, relu: bool, work: Work | None) -> tuple[Array | None, Array | None]:
    """The bias, and the zeros below which nothing is left, for a whole row of positions.

    NumPy's loops run along the last axis only as far as their operands do: long rows make long loops.
    """
    width = row_of(y)
    row, shape = (width, y.shape[1]), (y.shape[1], *(1 for _ in y.shape[3:]), width)
    biases, zeros = None, None
    if bias is not None:
        biases = scratch(work, "bias", row, y.dtype)
        biases[:] = bias
        biases = biases.T.reshape(shape)
    if relu:
        zeros = scratch(work, "zeros", row, y.dtype)
        zeros.fill(0)
        zeros = zeros.T.reshape(shape)
    return biases, zeros


def row_of(y: Array) -> int:
    """How long the rows of y are in all of its tiles: one number, where tiles cut the last axis, the only one."""
    return y.shape[-1] if y.ndim > 3 else 1


def finish(y: Array, bias: Array | None, least: Array | None, plus: Array | None) -> None:
    """What follows a convolution, in place."""
    if bias is not None:
        np.add(y, bias, out=y)
    if plus is not None:
        np.add(y, plus, out=y)
    if least is not None:
        np.maximum(y, least, out=y)


def depthwise(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Ints,
    pads: Pads,
    dilation: Ints,
    plus: Array | None,
    relu: bool,
    y: Array,
    work: Work | None,
) -> None:
    """Convolution of each channel by itself, into y: a product and a sum for each tap, on tiles that stay in cache."""
    kernel, channels = weight.shape[2:], x.shape[1]
    taps = scratch(work, "taps", (math.prod(kernel), row_of(y), channels), x.dtype)
    taps[:] = weight.reshape(channels, 1, -1).transpose(2, 1, 0)
    rows = [tap.T.reshape(channels, *(1 for _ in kernel[1:]), -1) for tap in taps]
    ends = endings(y, bias, relu, work)
    for images, band, w in tiles(x, y.shape[2:], kernel, stride, pads, dilation, channels * x.itemsize, 1 << 16, work):
        part = y[images, :, band]
        term = like(part, part.shape, x.dtype, work, "term")
        for t, (tap, row) in enumerate(zip(np.ndindex(*kernel), rows, strict=True)):
            place: Any = (..., *tap)
            np.multiply(w[place], row, out=term if t else part)
            if t:
                np.add(part, term, out=part)
        finish(part, *ends, None if plus is None else plus[images, :, band])


def conv_input_grad(
    g: Array,
    weight: Array,
    size: Ints,
    stride: Ints,
    pads: Pads,
    dilation: Ints,
    groups: int,
    out: Array | None = None,
    work: Work | None = None,
) -> Array:
    """The gradient of `conv` in its input, whose spatial size is `size`.

    At stride one it is a convolution of g, the taps in reverse and inputs and outputs exchanged.
    """
    rank, kernel = len(size), weight.shape[2:]
    inner, outer = weight.shape[1], weight.shape[0] // groups
    x = channels_last((g.shape[0], groups * inner, *size), g.dtype) if out is None else out
    back = tuple((d * (k - 1) - a, d * (k - 1) - b) for k, d, (a, b) in zip(kernel, dilation, pads, strict=True))
    if all(t == 1 for t in stride) and all(a >= 0 and b >= 0 for a, b in back):
        turned = weight.reshape(groups, outer, inner, *kernel).swapaxes(1, 2)
        turned = np.flip(turned, tuple(range(3, 3 + rank))).reshape(groups * inner, outer, *kernel)
        return conv(g, turned, None, stride, back, dilation, groups, out=x, work=work)
    if groups > 1 and inner == outer == 1:
        fold_taps(g, weight, x, stride, pads, dilation, True, work)
        return x
    for i in range(groups):
        mine = slice(i * outer, (i + 1) * outer)
        fold_taps(g[:, mine], weight[mine], x[:, i * inner : (i + 1) * inner], stride, pads, dilation, False, work)
    return x


def fold_taps(
    g: Array, weight: Array, x: Array, stride: Ints, pads: Pads, dilation: Ints, alone: bool, work: Work | None
) -> None:
    """What g gives each number of the windows it came from, added up in x; with `alone`, each channel by itself."""
    rank, kernel, count = len(stride), weight.shape[2:], math.prod(weight.shape[2:])
    last = (0, *range(2, rank + 2), 1)
    taps = weight.transpose(*range(2, rank + 2), 1, 0).reshape(-1, weight.shape[0])
    padded_size = tuple(s + a + b for s, (a, b) in zip(x.shape[2:], pads, strict=True))
    inside: Any = tuple(slice(a, a + s) for s, (a, _) in zip(x.shape[2:], pads, strict=True))
    images, _ = tile_of(g.shape[2:], count * x.shape[1] * g.itemsize, 1 << 19)
    for i in range(0, g.shape[0], images):
        rows = g[i : i + images].transpose(last)
        columns = scratch(work, "columns", (*rows.shape[:-1], *kernel, x.shape[1]), g.dtype)
        if alone:
            np.multiply(rows[..., None, :], taps, out=columns.reshape(*rows.shape[:-1], count, x.shape[1]))
        else:
            np.matmul(rows.reshape(-1, taps.shape[1]), taps.T, out=columns.reshape(-1, taps.shape[0]))
        whole = scratch(work, "padded", (rows.shape[0], *padded_size, x.shape[1]), g.dtype)
        whole.fill(0)
        tap: Any
        for tap in np.ndindex(*kernel):
            place: Any = tuple(
                slice(o * d, o * d + t * (n - 1) + 1, t)
                for o, d, t, n in zip(tap, dilation, stride, g.shape[2:], strict=True)
            )
            whole[(slice(None), *place)] += columns[(slice(None),) * (rank + 1) + tap]
        x[i : i + images].transpose(last)[:] = whole[(slice(None), *inside)]


def conv_weight_grad(
    g: Array,
    x: Array,
    kernel: Ints,
    stride: Ints,
    pads: Pads,
    dilation: Ints,
    groups: int,
    out: Array | None = None,
    work: Work | None = None,
) -> Array:
    """The gradient of `conv` in its weight, whose window is `kernel`."""
    inner, outer = x.shape[1] // groups, g.shape[1] // groups
    weight = np.empty((g.shape[1], inner, *kernel), g.dtype) if out is None else out
    if groups > 1 and inner == outer == 1:
        depthwise_weight_grad(g, x, weight, stride, pads, dilation, work)
        return weight
    for i in range(groups):
        mine = slice(i * outer, (i + 1) * outer)
        correlate(g[:, mine], x[:, i * inner : (i + 1) * inner], weight[mine], stride, pads, dilation, work)
    return weight


def correlate(g: Array, x: Array, weight: Array, stride: Ints, pads: Pads, dilation: Ints, work: Work | None) -> None:
    """The weight's gradient of one group: a sum over tiles of products of gathered windows with g."""
    rank, kernel = len(stride), weight.shape[2:]
    shape = (math.prod(kernel) * x.shape[1], g.shape[1])
    total, term = scratch(work, "total", shape, g.dtype), scratch(work, "term", shape, g.dtype)
    started = False
    total.fill(0)
    each = shape[0] * x.itemsize
    for images, band, w in tiles(x, g.shape[2:], kernel, stride, pads, dilation, each, 1 << 19, work):
        rows = g[images, :, band].transpose(0, *range(2, rank + 2), 1).reshape(-1, shape[1])
        np.matmul(gathered(w, rank, work).T, rows, out=term if started else total)
        if started:
            np.add(total, term, out=total)
        started = True
    weight[:] = total.reshape(*kernel, x.shape[1], shape[1]).transpose(rank + 1, rank, *range(rank))


def depthwise_weight_grad(
    g: Array, x: Array, weight: Array, stride: Ints, pads: Pads, dilation: Ints, work: Work | None
) -> None:
    """The weight's gradient of a convolution of each channel by itself: for each tap a product, summed by BLAS."""
    rank, kernel, channels = len(stride), weight.shape[2:], x.shape[1]
    weight.fill(0)
    last = (0, *range(2, rank + 2), 1)
    for images, band, w in tiles(x, g.shape[2:], kernel, stride, pads, dilation, channels * x.itemsize, 1 << 16, work):
        part = g[images, :, band].transpose(last)
        term = scratch(work, "term", part.shape, g.dtype)
        ones = scratch(work, "ones", (term.size // channels,), g.dtype)
        ones.fill(1)
        for tap in np.ndindex(*kernel):
            piece: Any = (..., *tap)
            np.multiply(w[piece].transpose(last), part, out=term)
            weight[(slice(None), 0, *tap)] += ones @ term.reshape(-1, channels)


def write_slice(x: Array, new: Array, index: Array, axis: int, out: Array | None = None) -> Array:
    """x with the slice number `index` along `axis` replaced by `new`; in the place of x where `out` is x."""
    if out is None:
        out = np.array(x)
    elif out is not x:
        np.copyto(out, x)
    place: Any = (*(slice(None) for _ in range(axis % x.ndim)), slice(int(index), int(index) + 1))
    out[place] = new
    return out


def rounded(x: Array) -> Array:
    """float32 numbers to the nearest that their upper halves can say: to even ones where two are as near."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    up = ((bits >> 16) & 1) + np.uint32(0x7FFF)
    near: Array = ((bits + up) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), x, near).reshape(x.shape)
