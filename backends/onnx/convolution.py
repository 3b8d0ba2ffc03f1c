"""Convolution and pooling in ONNX, with their gradients in the forms that ONNX Runtime runs fast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from ...compiler.ir import Dim, DType, Value
from ...compiler.ops.conv import AvgPool, Conv, ConvInputGrad, ConvWeightGrad, MaxPool, MaxPoolGrad
from ..source import hint_of
from .emitter import Attribute, Emitter, Write

# Bytes of shifted copies of the input that one product of a weight gradient reads: with more, they leave the cache.
COLUMNS = 8 << 20


def _pads(pads: Sequence[tuple[int, int]]) -> list[int]:
    return [low for low, _ in pads] + [high for _, high in pads]


def _sliding(op: Conv | ConvInputGrad) -> dict[str, Attribute]:
    return {"strides": op.stride, "pads": _pads(op.pads), "dilations": op.dilation, "group": op.groups}


def conv(em: Emitter, v: Value, a: Sequence[str]) -> str:
    return em.node("Conv", a, hint_of(v), **_sliding(cast(Conv, v.op)))


def input_grad(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """With stride 1 a convolution by the flipped weight, its channels exchanged, which is faster than the transposed
    one that ONNX has."""
    op = cast(ConvInputGrad, v.op)
    pads = padding_of_input_grad(v)
    if pads is None:
        return em.node("ConvTranspose", a, hint_of(v), output_padding=output_padding(v), **_sliding(op))
    shape = v.inputs[1].shape
    flipped = a[1] if all(k == 1 for k in shape[2:]) else _flipped(em, a[1], len(op.stride))
    weight = _exchanged(em, flipped, shape, op.groups)
    return em.node("Conv", [a[0], weight], hint_of(v), pads=_pads(pads), dilations=op.dilation, group=op.groups)


def padding_of_input_grad(v: Value) -> list[tuple[int, int]] | None:
    """How far the gradient is padded where the `ConvInputGrad` is a convolution of it; `None` where it is none."""
    op = cast(ConvInputGrad, v.op)
    spans = [d * (int(k) - 1) for k, d in zip(v.inputs[1].shape[2:], op.dilation, strict=True)]
    pads = [(span - low, span - high) for span, (low, high) in zip(spans, op.pads, strict=True)]
    return None if any(s != 1 for s in op.stride) or any(min(pair) < 0 for pair in pads) else pads


def _flipped(em: Emitter, weight: str, rank: int) -> str:
    last = np.iinfo(np.int64).min
    ends = [em.integers(row) for row in ([-1] * rank, [last] * rank, range(2, rank + 2), [-1] * rank)]
    return em.node("Slice", [weight, *ends])


def _exchanged(em: Emitter, weight: str, shape: Sequence[Dim], groups: int) -> str:
    """[G * O, C, *K] as [G * C, O, *K]."""
    swap = [1, 0, *range(2, len(shape))]
    if groups == 1:
        return em.node("Transpose", [weight], perm=swap)
    out, channels, *kernel = map(int, shape)
    parts = em.node("Reshape", [weight, em.integers([groups, out // groups, channels, *kernel])])
    swapped = em.node("Transpose", [parts], perm=[0, *(1 + i for i in swap)])
    return em.node("Reshape", [swapped, em.integers([groups * channels, out // groups, *kernel])])


def output_padding(v: Value) -> list[int]:
    """How far beyond the last window each axis of a `ConvInputGrad` reaches; an axis without a size is kept."""
    op = cast(ConvInputGrad, v.op)
    g, weight = v.inputs
    extra = []
    for i, (size, s, (low, high), d) in enumerate(zip(op.size, op.stride, op.pads, op.dilation, strict=True)):
        if isinstance(size, str):
            extra.append(0)
            continue
        reached = (int(g.shape[2 + i]) - 1) * s + d * (int(weight.shape[2 + i]) - 1) + 1 - low - high
        extra.append(size - reached)
    return extra


def plain_transpose(v: Value) -> bool:
    """Whether the window reaches the end within one stride, which is all `ConvTranspose` can say."""
    op = cast(ConvInputGrad, v.op)
    return all(0 <= n < max(t, d) for n, t, d in zip(output_padding(v), op.stride, op.dilation, strict=True))


def weight_grad(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """Products of the gradient with shifted copies of the input, one for each tap of the kernel, summed over rows.

    `Conv` on exchanged operands says the same in one node, and takes up to ten times as long.
    """
    op = cast(ConvWeightGrad, v.op)
    g, x = v.inputs
    rows, out, *places = map(int, g.shape)
    groups, channels, size = op.groups, int(x.shape[1]) // op.groups, math.prod(places)
    padded = a[1]
    if any(low or high for low, high in op.pads):
        padded = em.node("Pad", [padded, em.integers(_pads([(0, 0), (0, 0), *op.pads]))])
    left = em.node("Reshape", [a[0], em.integers([rows, groups, out // groups, size])])
    column = em.integers([rows, groups, channels, size])
    parts = []
    for offsets in _batches([int(k) for k in op.size], x.dtype.numpy.itemsize * rows * int(x.shape[1]) * size):
        taps = [em.node("Reshape", [_tap(em, padded, op, offset, places), column]) for offset in offsets]
        right = em.node("Concat", taps, axis=2) if len(taps) > 1 else taps[0]
        total = _summed(em, left, right, (rows, groups, out // groups, len(taps) * channels, size))
        parts.append(em.node("Reshape", [total, em.integers([out, len(taps), channels])]))
    whole = em.node("Concat", parts, axis=1) if len(parts) > 1 else parts[0]
    return em.node("Reshape", [em.node("Transpose", [whole], perm=[0, 2, 1]), em.shape(v.shape)], hint_of(v))


def _summed(em: Emitter, left: str, right: str, sizes: tuple[int, int, int, int, int]) -> str:
    """Products of [rows, groups, m, size] and [rows, groups, n, size] over their last axes, summed over rows.

    Row by row, or, where that would write more than is read, with all rows side by side.
    """
    rows, groups, m, n, size = sizes
    if m * n <= (m + n) * size:
        product = em.node("MatMul", [left, em.node("Transpose", [right], perm=[0, 1, 3, 2])])
        return em.node("ReduceSum", [product, em.integers([0])], keepdims=0)
    wide, deep = (
        em.node("Reshape", [em.node("Transpose", [x], perm=[1, 2, 0, 3]), em.integers([groups, k, rows * size])])
        for x, k in ((left, m), (right, n))
    )
    return em.node("MatMul", [wide, em.node("Transpose", [deep], perm=[0, 2, 1])])


def _batches(kernel: Sequence[int], nbytes: int) -> list[list[tuple[int, ...]]]:
    """The taps of a kernel, those together whose copies of `nbytes` each are within `COLUMNS`."""
    offsets = list(itertools.product(*map(range, kernel)))
    step = max(1, COLUMNS // nbytes)
    return [offsets[start : start + step] for start in range(0, len(offsets), step)]


def _tap(em: Emitter, x: str, op: ConvWeightGrad, offset: Sequence[int], places: Sequence[int]) -> str:
    """What lies under one tap of the kernel, at every place."""
    rank = len(places)
    starts = [o * d for o, d in zip(offset, op.dilation, strict=True)]
    ends = [start + s * (n - 1) + 1 for start, s, n in zip(starts, op.stride, places, strict=True)]
    bounds = [starts, ends, range(2, rank + 2), op.stride]
    return em.node("Slice", [x, *(em.integers(row) for row in bounds)])


def pool(kind: str) -> Write:
    def write(em: Emitter, v: Value, a: Sequence[str]) -> str:
        op = cast(MaxPool | AvgPool, v.op)
        extra: dict[str, Attribute] = {"count_include_pad": int(op.count_pads)} if isinstance(op, AvgPool) else {}
        return em.node(kind, a, hint_of(v), **_window(op), **extra)

    return write


def _window(op: MaxPool | AvgPool | MaxPoolGrad) -> dict[str, Attribute]:
    return {"kernel_shape": op.kernel, "strides": op.stride, "pads": _pads(op.pads)}


def max_pool_grad(em: Emitter, v: Value, a: Sequence[str]) -> str:
    """The gradient put where the largest numbers were; the pooling itself says where, as a second output."""
    op = cast(MaxPoolGrad, v.op)
    _, x, y = v.inputs
    if y.op == MaxPool(op.kernel, op.stride, op.pads) and y.inputs == (x,):
        places = em.second_output(a[2])
    else:
        places = em.node_of_several("MaxPool", [a[1]], "max_pool", 2, **_window(op))[1]
    apart = all(s >= k for s, k in zip(op.stride, op.kernel, strict=True))
    if apart and v.dtype is DType.f32:
        return em.node("MaxUnpool", [a[0], places, em.shape(v.shape)], hint_of(v), **_window(op))
    line = em.integers([-1])
    flat, index = (em.node("Reshape", [t, line]) for t in (a[0], places))
    empty = em.node("Expand", [em.constant(np.zeros(1, v.dtype.numpy)), em.integers([v.type.numel()])])
    summed = em.node("ScatterElements", [empty, index, flat], axis=0, reduction="none" if apart else "add")
    return em.node("Reshape", [summed, em.shape(v.shape)], hint_of(v))
