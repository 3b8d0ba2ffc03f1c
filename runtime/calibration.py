"""Measuring this machine: how fast products, memory and calls are, for the cost model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import numpy as np

from ..backends import machine as machines
from ..backends import threads as pools
from ..backends.base import NAMES, BackendError, Measured, load
from ..backends.profiling import gains_from, repeat
from ..compiler.ir import Array, Graph, Input, Type, constant
from ..compiler.machine import CALL, OP, PACKED, SPREAD, Curve, Machine, Rates
from ..compiler.ops.linalg import Linear

# Sides of square products, and bytes in use together.
SIDES = (16, 48, 128, 200, 320, 768)
SETS = (48 << 10, 384 << 10, 3 << 20, 24 << 20)
# Rows of a product with a weight of 256 by 256, for finding from where other threads are a gain.
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Ops in the longer of two graphs, whose difference is what an op costs.
OPS = 17
BUDGET = 0.12


def calibrate() -> Machine:
    """Measure the machine for the threads that are used, and every backend that is installed."""
    count = pools.threads()
    own = _measured(count)
    overheads = {name: found for name in NAMES if (found := _overheads(name)) is not None}
    one = _rates(1)
    return Machine(
        threads=count,
        one=one,
        all=one if count == 1 else _at_least(_rates(count), one),
        op=OP | {name: op for name, (op, _) in overheads.items()},
        call=CALL | {name: call for name, (_, call) in overheads.items()},
        spread=SPREAD | _spread(count) | {name: each.spread for name, each in own.items() if each.spread},
        packed=PACKED | {kind: flops for each in own.values() for kind, flops in each.packed.items()},
        about=machines.about(),
    )


def _at_least(found: Rates, one: Rates) -> Rates:
    """Rates of several threads: what looks slower than one of them was disturbed."""

    def higher(a: Curve, b: Curve) -> Curve:
        return tuple((size, max(x, y)) for (size, x), (_, y) in zip(a, b, strict=True))

    return Rates(
        higher(found.products, one.products),
        higher(found.bandwidth, one.bandwidth),
        max(found.functions, one.functions),
    )


def _least(call: Callable[[], object], seconds: float = BUDGET) -> float:
    """The time of a call when nothing disturbs it."""
    return min(repeat(call, seconds, least=3))


def _rates(count: int) -> Rates:
    with pools.on("numpy", count):
        products = [2.0 * n**3 / _least(_product(n, n, n)) for n in SIDES]
    bandwidth = [_bandwidth(size, count) for size in SETS]
    x = np.linspace(-3, 3, 1 << 14, dtype=np.float32)
    functions = count * x.size / _least(partial(np.tanh, x, out=np.empty_like(x)))
    # A larger product is no slower by the FLOP, nor is memory that is nearer: what looks so was disturbed, or is the
    # time of a call, which is counted by itself.
    rising = itertools.accumulate(products, max)
    falling = [*itertools.accumulate(reversed(bandwidth), max)][::-1]
    return Rates(
        tuple((2.0 * n**3, rate) for n, rate in zip(SIDES, rising, strict=True)),
        tuple((float(size), rate) for size, rate in zip(SETS, falling, strict=True)),
        functions,
    )


def _product(rows: int, columns: int, inner: int) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    a, b = rng.random((rows, inner), np.float32), rng.random((inner, columns), np.float32)
    return partial(np.matmul, a, b, out=np.empty((rows, columns), np.float32))


def _bandwidth(size: int, count: int) -> float:
    """Bytes a second that sums of arrays move, the arrays together of a size, shared out among threads."""
    elements = size // 3 // 4 // count
    times = max(3, (16 << 20) // size)
    sets = [tuple(np.ones(elements, np.float32) for _ in range(3)) for _ in range(count)]

    def add(arrays: tuple[Array, ...]) -> None:
        for _ in range(times):
            np.add(arrays[0], arrays[1], out=arrays[2])

    if count == 1:
        return 3 * 4 * elements * times / _least(partial(add, sets[0]))
    with ThreadPoolExecutor(count) as pool:
        return 3 * 4 * elements * count * times / _least(lambda: list(pool.map(add, sets)))


def _overheads(name: str) -> tuple[float, float] | None:
    """What an op and a call cost on a backend besides their work; `None` where it is not installed."""
    try:
        backend = load(name)
    except BackendError:
        return None
    feeds = {"x": np.ones((1, 8), np.float32)}
    seconds = []
    for count in (1, OPS):
        executable = backend.compile(_chain(count), backend.state({}))
        seconds.append(_least(partial(executable, feeds)))
    op = max((seconds[1] - seconds[0]) / (OPS - 1), 1e-8)
    return op, max(seconds[0] - op, 1e-7)


def _measured(count: int) -> dict[str, Measured]:
    """What the libraries of backends that are installed make of the machine.

    On one thread but where it is asked otherwise: what several cost small ops they cost each kernel.
    """
    found: dict[str, Measured] = {}
    for name in NAMES:
        with suppress(BackendError):
            backend = load(name)
            with pools.owner(name, 1):
                found[name] = backend.measured(BUDGET / 4, count)
    return found


def _chain(count: int) -> Graph:
    """So many small products one after the other, which no pass makes fewer."""
    x = Input("x", Type((1, 8)))()
    y = x
    for i in range(count):
        y = Linear()(y, constant(np.random.default_rng(i).random((8, 8), np.float32)))
    return Graph("chain", (x,), {"y": y})


def _spread(count: int) -> dict[str, float]:
    """The time on one thread from which others make products faster.

    Of NumPy's BLAS; ONNX Runtime's threads wake up as soon.
    """
    if count == 1:
        return {}
    calls = [_product(rows, 256, 256) for rows in ROWS]
    least = partial(_least, seconds=BUDGET / 3)
    # Seen twice: a single time may have been disturbed.
    found = gains_from(calls, "numpy", count, least, lambda call: max(least(call) for _ in range(2)))
    return {"numpy": found, "onnx": found}
