"""How convolutions and pools are written in PyTorch, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ...compiler.ir import Const, Dim, DType, Shape, Value
from ...compiler.ops import conv as ops
from ..source import Writer, shape_text
from . import packed


def pad_text(x: str, pads: Sequence[tuple[int, int]], value: float = 0.0) -> str:
    """`F.pad` takes pads from the last axis to the first."""
    flat = [n for low, high in reversed(list(pads)) for n in (low, high)]
    number = "-math.inf" if value == float("-inf") else repr(value)
    return f"F.pad({x}, {flat!r}, value={number})" if any(flat) else x


def windows(w: Writer, v: Value, a: Sequence[str]) -> str:
    """One `unfold` per axis; dilated taps are picked from a wider window."""
    op = cast(ops.Windows, v.op)
    lead = v.inputs[0].rank - len(op.kernel)
    text = a[0]
    for i, (k, s, d) in enumerate(zip(op.kernel, op.stride, op.dilation, strict=True)):
        text += f".unfold({lead + i}, {d * (k - 1) + 1}, {s})"
    if any(d > 1 for d in op.dilation):
        text += f"[..., {', '.join(f'::{d}' for d in op.dilation)}]"
    return text


def fold(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(ops.Fold, v.op)
    return f"fold({a[0]}, {shape_text(op.size)}, {op.stride!r}, {op.dilation!r})"


def conv(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(ops.Conv, v.op)
    x, weight, *bias = a
    if isinstance(w, packed.Packing) and packed.packs_conv(v):
        return packed.conv(w, v, a)
    if isinstance(w, packed.Packing) and isinstance(v.inputs[1].op, Const) and v.rank == 4:
        weight = w.packed((v.inputs[1],), packed.channels_last, "channels last", "weight")
    pads = [low for low, _ in op.pads] if packed.symmetric(op.pads) else [0] * len(op.pads)
    x = x if packed.symmetric(op.pads) else pad_text(x, op.pads)
    b = bias[0] if bias else None
    return f"F.conv{len(pads)}d({x}, {weight}, {b}, {op.stride!r}, {tuple(pads)!r}, {op.dilation!r}, {op.groups})"


def _plus(dim: Dim, number: int) -> Dim:
    return dim + number if isinstance(dim, int) else f"{dim} + {number}"


def conv_grad(w: Writer, v: Value, a: Sequence[str]) -> str:
    """aten's backward of convolution, for the input or for the weight."""
    op = cast(Any, v.op)
    for_input = isinstance(v.op, ops.ConvInputGrad)
    rank = len(op.stride)
    even = packed.symmetric(op.pads)
    pads = [low for low, _ in op.pads] if even else [0] * rank
    if for_input:
        size = [d if even else _plus(d, low + high) for d, (low, high) in zip(v.shape[2:], op.pads, strict=True)]
        x, weight = _blank(w, a[0], (*v.shape[:2], *size), v.dtype), a[1]
    else:
        x, weight = a[1] if even else pad_text(a[1], op.pads), _blank(w, a[0], v.shape, v.dtype)
    mask, item = ([True, False, False], 0) if for_input else ([False, True, False], 1)
    text = (
        f"torch.ops.aten.convolution_backward({a[0]}, {x}, {weight}, None, {list(op.stride)!r}, {pads!r}, "
        f"{list(op.dilation)!r}, False, {[0] * rank!r}, {op.groups}, {mask!r})[{item}]"
    )
    if for_input and not even:
        inside = ", ".join(f"{low}:{_plus(d, low)}" for d, (low, _) in zip(v.shape[2:], op.pads, strict=True))
        text += f"[:, :, {inside}]"
    return text


def _blank(w: Writer, grad: str, shape: Shape, dtype: DType) -> str:
    """A tensor of which a kernel reads nothing but how it lies: as its result is to lie."""
    if isinstance(w, packed.Packing) and not any(isinstance(d, str) for d in shape):
        return w.blank(cast("tuple[int, ...]", tuple(shape)), dtype)
    return f"{grad}.new_empty({shape_text(shape)})"


def max_pool(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(ops.MaxPool, v.op)
    x, pads = _pool_input(a[0], op.pads, op.kernel, -float("inf"))
    return f"F.max_pool{len(op.kernel)}d({x}, {op.kernel!r}, {op.stride!r}, {pads!r})"


def _pool_input(
    x: str, pads: Sequence[tuple[int, int]], kernel: Sequence[int], value: float
) -> tuple[str, tuple[int, ...]]:
    """What to pool and the pads to give: torch pads at most half a window, alike on both sides."""
    if packed.symmetric(pads) and all(2 * low <= k for (low, _), k in zip(pads, kernel, strict=True)):
        return x, tuple(low for low, _ in pads)
    return pad_text(x, pads, value), (0,) * len(pads)


def max_pool_grad(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(ops.MaxPoolGrad, v.op)
    return f"max_pool_grad({a[0]}, {a[1]}, {op.kernel!r}, {op.stride!r}, {op.pads!r})"


def avg_pool(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(ops.AvgPool, v.op)
    pads = tuple(low for low, _ in op.pads)
    return f"F.avg_pool{len(op.kernel)}d({a[0]}, {op.kernel!r}, {op.stride!r}, {pads!r}, False, {op.count_pads})"


def avg_pool_grad(w: Writer, v: Value, a: Sequence[str]) -> str:
    op = cast(ops.AvgPoolGrad, v.op)
    pads, x = tuple(low for low, _ in op.pads), _blank(w, a[0], v.shape, v.dtype)
    window = f"{op.kernel!r}, {op.stride!r}, {pads!r}, False, {op.count_pads}, None"
    return f"torch.ops.aten.avg_pool{len(op.kernel)}d_backward({a[0]}, {x}, {window})"


def averages(op: ops.AvgPool | ops.AvgPoolGrad, size: Shape) -> bool:
    """Whether torch pools axes of these sizes by `avg_pool`: pads alike and small, and in 3-d no window beyond them."""
    if not packed.symmetric(op.pads) or any(2 * low > k for (low, _), k in zip(op.pads, op.kernel, strict=True)):
        return False
    return len(size) < 3 or all(isinstance(d, str) or d >= k for d, k in zip(size, op.kernel, strict=True))
