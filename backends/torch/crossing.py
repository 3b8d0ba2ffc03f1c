"""From which size on oneDNN's own layouts are a gain on this machine: both kernels timed, side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F

from ..profiling import gains_from, repeat
from .packed import channels_last

# Columns of a product, channels of a convolution, and what they are multiplied with.
COLUMNS, CHANNELS = 256, 32
ROWS = (1, 4, 16, 64, 256, 1024, 4096)
SPREAD = (2, 4, 8, 16, 32, 64, 128, 256)
SQUARES = (32, 64, 128, 256, 512)
SIDES = (2, 4, 8, 16, 32, 64)

# What packed kernels may take, of the time of others: where they also do what follows, they need not be faster.
SLACK = {"linear": 1.05, "conv": 1.05, "product": 0.8}

# FLOPs, and a call of either kernel.
Pair = tuple[float, Callable[[], object], Callable[[], object]]


def crossings(seconds: float) -> dict[str, float]:
    """By kind of op, the FLOPs from which packed weights are faster, here and at all larger sizes that were tried."""
    with torch.inference_mode():
        kinds = {"linear": _linears(), "product": _products(), "conv": _convolutions()}
        return {kind: _crossing(pairs, seconds, SLACK[kind]) for kind, pairs in kinds.items()}


def spread(seconds: float, threads: int) -> float | None:
    """The time on one thread from which more of PyTorch's make products faster."""
    if threads == 1:
        return None
    weight = torch.rand(COLUMNS, COLUMNS)
    calls = [partial(torch.mm, torch.rand(rows, COLUMNS), weight) for rows in SPREAD]

    def together(call: Callable[[], object]) -> float:
        # Not the least: threads that happen to be awake are soon asleep again.
        return min(statistics.median(repeat(call, seconds / 3, least=3)) for _ in range(3))

    return gains_from(calls, "torch", threads, lambda call: min(repeat(call, seconds, least=3)), together)


def _crossing(pairs: Iterator[Pair], seconds: float, slack: float) -> float:
    found, before = math.nan, 0.0
    for flops, plain, packed in pairs:
        gains = min(repeat(packed, seconds / 2, least=3)) < slack * min(repeat(plain, seconds / 2, least=3))
        if not gains:
            found = math.nan
        elif math.isnan(found):
            # between the last size at which it was none, and this one
            found = math.sqrt(max(before, flops / 4) * flops)
        before = flops
    return 1e15 if math.isnan(found) else found


def _products() -> Iterator[Pair]:
    for side in SQUARES:
        x, y = torch.rand(side, side), torch.rand(side, side)
        yield (
            2.0 * side**3,
            lambda x=x, y=y: torch.mm(x, y),  # type: ignore[misc]
            lambda x=x, y=y: torch.ops.mkldnn._linear_pointwise(x, y.t(), None, "none", [], ""),  # type: ignore[misc]
        )


def _linears() -> Iterator[Pair]:
    weight, bias = torch.rand(COLUMNS, COLUMNS), torch.rand(COLUMNS)
    for rows in ROWS:
        x = torch.rand(rows, COLUMNS)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        yield (
            2.0 * rows * COLUMNS**2,
            lambda x=x: torch.addmm(bias, x, weight.t()),  # type: ignore[misc]
            lambda x=x, w=packed: torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], ""),  # type: ignore[misc]
        )


def _convolutions() -> Iterator[Pair]:
    weight, bias = channels_last(torch.rand(CHANNELS, CHANNELS, 3, 3)), torch.rand(CHANNELS)
    ones = [1, 1]
    for side in SIDES:
        shape = (1, CHANNELS, side, side)
        x = channels_last(torch.rand(shape))
        packed = torch.ops.mkldnn._reorder_convolution_weight(weight, ones, ones, ones, 1, list(shape))
        yield (
            2.0 * 9 * (CHANNELS * side) ** 2,
            lambda x=x: torch.relu(F.conv2d(x, weight, bias, padding=1)),  # type: ignore[misc]
            lambda x=x, w=packed: torch.ops.mkldnn._convolution_pointwise(  # type: ignore[misc]
                x, w, bias, ones, ones, ones, 1, "relu", [], ""
            ),
        )
