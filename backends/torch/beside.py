"""What PyTorch's kernels on the CPU keep beside their results: padded and reordered copies, workspaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, cast

import torch

from ...compiler.analysis import VIEWS, Buffer
from ...compiler.ir import Const, Item, Op, Type, Value
from ...compiler.ops import recurrent
from ...compiler.ops.conv import Conv, ConvInputGrad, ConvWeightGrad
from ...compiler.ops.fused import FusedLinear, conv_of
from ...compiler.ops.linalg import Linear, LinearWeightGrad
from ...compiler.ops.norm import BatchNormGrad
from . import packed


def beside(values: Sequence[Value]) -> list[Buffer]:
    """The buffers that a schedule needs besides those of its values, all of known sizes."""
    found = [Buffer(i, i, size) for i, v in enumerate(values) if (size := _scratch(v))]
    return found + list(_workspaces(values))


def _scratch(v: Value) -> int:
    """The bytes that a kernel needs while it runs."""
    count = SCRATCH.get(type(v.op))
    return 0 if count is None else count(v)


def _bytes(v: Value) -> int:
    return v.type.nbytes()


def _padded(x: Value, op: Any) -> int:
    """The bytes of an image padded by hand, as it is where the pads of an axis differ."""
    pads = [(0, 0), (0, 0), *op.pads]
    shape = tuple(cast(int, d) + low + high for d, (low, high) in zip(x.shape, pads, strict=True))
    return Type(shape, x.dtype).nbytes()


def _conv(v: Value) -> int:
    x, weight = v.inputs[:2]
    op = conv_of(v)
    if isinstance(weight.op, Const):
        return 0  # laid out before the first run
    even = packed.symmetric(op.pads)
    if v.rank == 4:
        return _bytes(weight) + (0 if even else _padded(x, op))
    # of one axis, or of three: also turned to have channels innermost
    return _bytes(weight) + 2 * _padded(x, op)


def _conv_input_grad(v: Value) -> int:
    op, (grad, weight) = cast(ConvInputGrad, v.op), v.inputs
    more = 0 if packed.symmetric(op.pads) else _padded(v, op) - _bytes(v)
    return _bytes(weight) + more if v.rank == 4 else _bytes(weight) + more + _bytes(grad) + _bytes(v)


def _conv_weight_grad(v: Value) -> int:
    op, (grad, x) = cast(ConvWeightGrad, v.op), v.inputs
    if v.rank == 4:
        return 2 * _bytes(v) + (0 if packed.symmetric(op.pads) else _padded(x, op))
    return 2 * (_bytes(grad) + _padded(x, op))


def _linear(v: Value) -> int:
    """A copy of what a loop over time left with time first."""
    x = v.inputs[0]
    return _bytes(x) if isinstance(x.op, Item) and isinstance(x.inputs[0].op, tuple(HALVES)) else 0


def _linear_weight_grad(v: Value) -> int:
    """The gradient turned for oneDNN, and once more where it does not lie row by row."""
    grad = v.inputs[0]
    rows = math.prod(cast(int, d) for d in grad.shape[:-1])
    if not packed.by_onednn(v, rows):
        return 0
    return _bytes(grad) * (2 if grad.op.kind in VIEWS else 1)


def _batch_norm_grad(v: Value) -> int:
    return v.inputs[1].type.nbytes()


def _scan_grad(v: Value) -> int:
    """Products over all steps, before the loop, and the gradients of the products with the states: by what the loops
    of `recurrent` allocate, in halves of the gradient of the gates."""
    return HALVES[type(v.op)] * v.types[0].nbytes() // 2


HALVES: dict[type[Op], int] = {
    recurrent.GruScanGrad: 6, recurrent.LstmScanGrad: 7, recurrent.RnnScanGrad: 4, recurrent.ReluScanGrad: 4,
}  # fmt: skip

SCRATCH: dict[type[Op], Callable[[Value], int]] = {
    Conv: _conv, ConvInputGrad: _conv_input_grad, ConvWeightGrad: _conv_weight_grad,
    Linear: _linear, FusedLinear: _linear, LinearWeightGrad: _linear_weight_grad, BatchNormGrad: _batch_norm_grad,
    **dict.fromkeys(HALVES, _scan_grad),
}  # fmt: skip


def _workspaces(values: Sequence[Value]) -> Iterator[Buffer]:
    """What LSTMs leave behind for their gradients, from the one to the last of the other."""
    grads: dict[packed.Trained, list[int]] = {}
    for i, v in enumerate(values):
        if isinstance(v.op, recurrent.LstmGrad):
            grads.setdefault(packed.trained_by(v), []).append(i)
    for i, v in enumerate(values):
        if isinstance(v.op, recurrent.Lstm) and (own := grads.pop(packed.trained_by(v), None)):
            yield from _workspace(v, i, own[-1])
    for own in grads.values():
        yield from _workspace(values[own[0]], own[0], own[-1])


def _workspace(v: Value, first: int, last: int) -> Iterator[Buffer]:
    x, weight = packed.trained_by(v)[0][:2]
    rows, steps, features = map(int, x.shape)
    size = lstm_workspace(rows, steps, features, int(weight.shape[0]) // 4)
    # With it, the input with time first; what both kernels compute on beside it has been seen to be of these shares.
    yield Buffer(first, last, size + _bytes(x))
    yield Buffer(first, first, size * 2 // 7)
    yield Buffer(last, last, size * 3 // 8)


@cache
def lstm_workspace(rows: int, steps: int, features: int, units: int) -> int:
    """The bytes that an LSTM of oneDNN leaves behind for its gradient: it tells for few steps, and adds as much for
    each more."""
    few, more = _measured(rows, 8, features, units), _measured(rows, 16, features, units)
    return few + (more - few) // 8 * (steps - 8)


def _measured(rows: int, steps: int, features: int, units: int) -> int:
    x, h, bias = torch.zeros(steps, rows, features), torch.zeros(rows, units), torch.zeros(4 * units)
    weights = torch.zeros(4 * units, features), torch.zeros(4 * units, units), bias, bias
    with torch.enable_grad():
        *_, space = torch.ops.aten.mkldnn_rnn_layer(x, *weights, h, h, False, [], 2, units, 1, True, False, False, True)
    return int(space.numel() * space.element_size())
