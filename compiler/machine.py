"""What a machine can do, and how long a graph should take on it: the cost model behind plans, profiles and threads.

An op takes as long as its arithmetic or the bytes that it moves, whichever is longer (Williams, Waterman & Patterson,
2009, "Roofline"), and what calling it costs besides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from .analysis import VIEWS
from .ir import Const, Graph, Input, Item, Origin, Value
from .ops.recurrent import LstmGrad, Recurrent
from .structs import Struct

# (size, rate) at rising sizes; between two sizes the rate is interpolated, beyond the last it stays.
Curve = tuple[tuple[float, float], ...]


class Rates(Struct):
    """What a machine does in a second, by how much there is to do at a time.

    products: FLOP/s of a float32 matrix product, by its FLOPs.
    bandwidth: bytes/s read and written, by the bytes that are in use together.
    functions: exponentials, logarithms and the like, a second.
    """

    products: Curve
    bandwidth: Curve
    functions: float


class Machine(Struct):
    """A machine on one thread and on all that are used.

    op, call: the seconds that an op, and a call of a whole graph, take besides their work, by backend.
    spread: the seconds of work on one thread from which an op gains by being spread over the others, by backend: how
        long threads take to wake up is their library's affair.
    packed: the FLOPs from which kernels with layouts of their own are a gain, by kind of op; those of a `product` are
        made anew each time.
    about: what the figures hold for: processor, versions.
    """

    threads: int
    one: Rates
    all: Rates
    op: Mapping[str, float]
    call: Mapping[str, float]
    spread: Mapping[str, float]
    packed: Mapping[str, float] = field(default_factory=lambda: PACKED)
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        return bool(self.about)

    def rates(self, threads: int) -> Rates:
        return self.one if threads == 1 else self.all


# A core of a common server of the years around 2020, at about 2.5 GHz with vectors of 256 bits, when nothing was
# measured: good for telling large from small, not for promises. Memory is shared by the cores, products are not.
CORE = Rates(
    products=((1e4, 3e9), (2e5, 20e9), (1e8, 40e9)),
    bandwidth=((64 << 10, 60e9), (1 << 20, 30e9), (16 << 20, 12e9)),
    functions=0.4e9,
)
OP = {"numpy": 1.5e-6, "torch": 3e-6, "onnx": 2e-6}
CALL = {"numpy": 5e-6, "torch": 15e-6, "onnx": 15e-6}
SPREAD = {"numpy": 40e-6, "torch": 40e-6, "onnx": 40e-6}
PACKED: dict[str, float] = {"conv": 8e6, "linear": 100e6, "product": 1e15}


def default_machine(threads: int) -> Machine:
    """What is supposed of a machine that was not measured."""
    wide = Rates(
        products=tuple((size, rate * (1 if size < 1e6 else 0.9 * threads)) for size, rate in CORE.products),
        bandwidth=tuple((size, rate * min(threads, 4 if size < 16 << 20 else 2)) for size, rate in CORE.bandwidth),
        functions=CORE.functions * threads,
    )
    return Machine(threads, CORE, CORE if threads == 1 else wide, OP, CALL, SPREAD, PACKED)


def rate_at(curve: Curve, size: float) -> float:
    """The rate at a size, along straight lines between the logarithms of the points."""
    if size <= curve[0][0]:
        return curve[0][1]
    for (a, low), (b, high) in itertools.pairwise(curve):
        if size <= b:
            share = math.log(size / a) / math.log(b / a)
            return math.exp((1 - share) * math.log(low) + share * math.log(high))
    return curve[-1][1]


# Parts of the names of ops that are matrix products, and of those that are made of exponentials and the like.
PRODUCTS = ("MatMul", "Linear", "Conv", "Attention", *(STEPWISE := ("Scan", "Lstm", "Gru", "Rnn")))
FUNCTIONS = (
    "Exp",
    "Expm1",
    "Log",
    "Log1p",
    "Sin",
    "Cos",
    "Tanh",
    "Erf",
    "Pow",
    "Sigmoid",
    "Silu",
    "Gelu",
    "Softplus",
    "Mish",
    "Softmax",
)
FREE = (Input, Const, Item)
# Calls that a step of a recurrence takes where it is a loop.
STEP_CALLS = 8


def moved(value: Value) -> int:
    """The bytes that an op reads and writes. A view moves none, and a look-up reads of its table what it takes."""
    if isinstance(value.op, FREE) or value.op.kind in VIEWS:
        return 0
    written = sum(t.nbytes() for t in value.types)
    if value.op.kind == "Gather":
        return 2 * written
    return written + sum(t.nbytes() for v in dict.fromkeys(value.inputs) for t in v.types)


def steps_of(value: Value) -> int:
    """How many products an op makes one after the other: the steps of a recurrence, or one."""
    if not _is(value, STEPWISE):
        return 1
    sequences = [v.shape for v in value.inputs if not isinstance(v.type_, tuple) and v.rank == 3]
    return max((d for shape in sequences if isinstance(d := shape[1], int)), default=1)


def products_of(value: Value) -> list[tuple[float, int]]:
    """The FLOPs of the products that an op makes one after the other, and how many there are of these.

    A recurrence makes one of its inputs at all steps, and one of its states at each; its gradient those of weights.
    """
    steps, at_once = steps_of(value), 0
    if isinstance(value.op, Recurrent | LstmGrad):
        x, weight, recurrent = value.op.forward(value.inputs)[:3]
        rows = x.type.with_shape(x.shape[:2]).numel()
        more = weight.type.numel() + recurrent.type.numel() if isinstance(value.op, LstmGrad) else 0
        at_once = 2 * rows * (weight.type.numel() + more)
    rest = (value.flops - at_once) / steps
    return [(rest, steps)] if at_once == 0 else [(at_once, 1), (rest, steps)]


def _is(value: Value, words: Sequence[str]) -> bool:
    return any(word in value.op.kind for word in words)


def work_seconds(value: Value, rates: Rates) -> float:
    """How long an op's arithmetic and memory take; dims without a size count as one."""
    size = moved(value)
    if size == 0:
        return 0.0
    memory = size / rate_at(rates.bandwidth, size)
    if _is(value, PRODUCTS):
        return max(memory, sum(count * flops / rate_at(rates.products, flops) for flops, count in products_of(value)))
    if _is(value, FUNCTIONS):
        return max(memory, max(t.numel() for t in (*value.types, *value.inputs[0].types)) / rates.functions)
    return memory


def estimate(value: Value, machine: Machine, backend: str = "numpy", threads: int | None = None) -> float:
    """The seconds that an op should take on a machine, on one thread or on all."""
    if isinstance(value.op, FREE):
        return 0.0
    rates = machine.rates(machine.threads if threads is None else threads)
    calls = 1 if (steps := steps_of(value)) == 1 else steps * STEP_CALLS
    return calls * machine.op[backend] + work_seconds(value, rates)


def floor_seconds(value: Value, rates: Rates) -> float:
    """The least that an op could take: the roofline, its products at the machine's best rate."""
    size = moved(value)
    if size == 0:
        return 0.0
    best = max(rate for _, rate in rates.products) if _is(value, PRODUCTS) else math.inf
    return max(value.flops / best, size / rate_at(rates.bandwidth, size))


class Priced(Struct):
    """What a step of a spec should cost: its arithmetic, the bytes it moves, the time it takes, the least it could.

    kernels: what runs it, where a backend has the choice.
    """

    place: Origin | None
    flops: int
    bytes: int
    seconds: float
    floor: float
    kernels: tuple[str, ...] = ()


def priced(
    graph: Graph,
    machine: Machine,
    backend: str,
    threads: int | None = None,
    kernel: Callable[[Value], str] = lambda v: "",
) -> list[Priced]:
    """The cost of each step of a graph whose dims have sizes, in order of first appearance; `kernel` names those."""
    rates = machine.rates(machine.threads if threads is None else threads)
    kernels: dict[Origin | None, dict[str, None]] = {}
    totals: dict[Origin | None, tuple[int, int, float, float]] = {}
    for v in graph.order():
        if isinstance(v.op, FREE):
            continue
        flops, size, seconds, floor = totals.get(v.origin, (0, 0, 0.0, 0.0))
        seconds += estimate(v, machine, backend, threads)
        totals[v.origin] = flops + v.flops, size + moved(v), seconds, floor + floor_seconds(v, rates)
        if name := kernel(v):
            kernels.setdefault(v.origin, {})[name] = None
    return [Priced(place, *cost, tuple(kernels.get(place, ()))) for place, cost in totals.items()]


# The share of a graph's time that several threads must save, to be worth what they risk.
WORTH = 0.1
# What waking threads up costs, as a share of `spread`: there, two that halve the work are faster by a tenth.
WAKING = 1 / 1.1 - 1 / 2


def threads_for(graph: Graph, machine: Machine, backend: str = "numpy") -> int:
    """On how many threads a graph whose dims have sizes should run: on one, unless others save a tenth of its time.

    They do where ops are large enough to share out. Threads that have little to gain have much to lose: each op waits
    for the slowest of them, which may not have a core.
    """
    whole = saved = 0.0
    least = machine.spread[backend]
    for v in graph.order():
        whole += work_seconds(v, machine.one) + (
            0.0 if isinstance(v.op, FREE) else steps_of(v) * min(machine.op.values())
        )
        for alone, together, count in _pieces(v, machine):
            if alone > least:
                saved += count * (alone - together - WAKING * least)
    return machine.threads if saved > WORTH * whole else 1


def _pieces(value: Value, machine: Machine) -> list[tuple[float, float, int]]:
    """What an op does without a pause: the seconds on one thread and on all, and how often."""
    if steps_of(value) == 1:
        return [(work_seconds(value, machine.one), work_seconds(value, machine.all), 1)]
    one, all_ = machine.one.products, machine.all.products
    return [(flops / rate_at(one, flops), flops / rate_at(all_, flops), n) for flops, n in products_of(value)]


def time_text(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def bytes_text(count: int) -> str:
    """An amount of memory in the unit that suits it."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"
