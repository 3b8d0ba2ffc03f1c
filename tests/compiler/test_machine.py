"""The cost model: rates between points, estimates, rooflines, and on how many threads a graph runs."""

from __future__ import annotations

import pytest
from compiler_samples import Maze
from trine.compiler.ir import Graph, Input, Origin, Type, Value, origin
from trine.compiler.machine import (
    default_machine,
    estimate,
    floor_seconds,
    moved,
    priced,
    products_of,
    rate_at,
    threads_for,
    time_text,
    work_seconds,
)
from trine.compiler.ops.elementwise import Exp
from trine.compiler.ops.linalg import Gather, Linear
from trine.compiler.ops.recurrent import Lstm
from trine.compiler.ops.shape import Reshape

MACHINE = default_machine(4)


def hole(*dims: int, name: str = "x") -> Value:
    return Input(name, Type(dims))()


def test_rates_between_points_lie_on_a_line_of_logarithms() -> None:
    curve = ((1e2, 1e3), (1e4, 1e5))
    assert rate_at(curve, 1e3) == pytest.approx(1e4)
    assert [rate_at(curve, size) for size in (1, 1e2, 1e4, 1e9)] == pytest.approx([1e3, 1e3, 1e5, 1e5])


def test_bytes_moved() -> None:
    x, w = hole(8, 5), hole(3, 5, name="w")
    assert moved(Linear()(x, w)) == 4 * (8 * 5 + 3 * 5 + 8 * 3)
    assert moved(x * x) == 4 * 2 * 8 * 5  # read once
    assert moved(Reshape((40,))(x)) == 0
    ids = Input("ids", Type.parse("i64[2]"))()
    assert moved(Gather(0)(hole(1000, 6, name="t"), ids)) == 4 * 2 * 2 * 6  # two rows of the table


def test_a_large_product_takes_its_arithmetic_and_a_sum_its_memory() -> None:
    product = Linear()(hole(2000, 2000), hole(2000, 2000, name="w"))
    assert work_seconds(product, MACHINE.one) == pytest.approx(2 * 2000**3 / MACHINE.one.products[-1][1])
    a = hole(4_000_000)
    assert work_seconds(a + a, MACHINE.one) == pytest.approx(8 * 4_000_000 / MACHINE.one.bandwidth[-1][1])
    assert estimate(a + a, MACHINE) < estimate(a + a, MACHINE, threads=1)
    assert estimate(Exp()(hole(1)), MACHINE) == pytest.approx(MACHINE.op["numpy"], rel=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_faster_than_the_roofline(seed: int) -> None:
    for v in Maze(seed).graph.order():
        assert floor_seconds(v, MACHINE.one) <= estimate(v, MACHINE, threads=1)


def test_prices_by_step() -> None:
    x = hole(16, 5)
    with origin(Origin("one", "net.yaml", 3)):
        h = Exp()(Linear()(x, hole(7, 5, name="w")))
    with origin(Origin("two", "net.yaml", 4)):
        y = Linear()(h, hole(2, 7, name="v"))
    one, two = priced(Graph("g", (x,), {"y": y}), MACHINE, "torch", kernel=lambda v: "product" * (v is y))
    assert (one.kernels, two.kernels) == ((), ("product",))
    assert (one.place, two.place) == (Origin("one", "net.yaml", 3), Origin("two", "net.yaml", 4))
    assert (one.flops, two.flops) == (16 * (2 * 35 + 7), 16 * 2 * 14)
    assert two.seconds == estimate(y, MACHINE, "torch")


def test_small_work_stays_on_one_thread() -> None:
    def net(rows: int, width: int) -> Graph:
        x = hole(rows, width)
        return Graph("g", (x,), {"y": Exp()(Linear()(x, hole(width, width, name="w")))})

    assert threads_for(net(32, 32), MACHINE) == 1
    assert threads_for(net(256, 1024), MACHINE) == 4
    assert threads_for(net(256, 1024), default_machine(1)) == 1


def test_one_large_op_among_many_small_ones_is_not_worth_it() -> None:
    x = hole(64, 128)
    large = Linear()(x, hole(128, 128, name="w"))
    assert work_seconds(large, MACHINE.one) > MACHINE.spread["numpy"]
    small = [hole(16, 16, name=f"v{i}") for i in range(200)]
    outputs = {f"y{i}": Linear()(v, v) for i, v in enumerate(small)}
    assert threads_for(Graph("g", (x,), {"large": large}), MACHINE) == 4
    assert threads_for(Graph("g", (x, *small), {"large": large, **outputs}), MACHINE) == 1


def test_what_a_recurrence_does_at_once_may_be_shared_out_and_its_steps_may_not() -> None:
    def layer(rows: int, features: int = 256) -> Value:
        x, h = hole(rows, 100, features), hole(rows, 32, name="h")
        weights = hole(128, features, name="w"), hole(128, 32, name="r"), hole(128, name="b")
        return Lstm()(x, *weights, h, hole(rows, 32, name="c"))

    (at_once, once), (step, steps) = products_of(layer(64))
    assert (once, steps) == (1, 100)
    assert at_once == 2 * 64 * 100 * 128 * 256
    assert at_once + steps * step == layer(64).flops
    assert threads_for(Graph("g", (), {"y": layer(64).items()[0]}), MACHINE) == 4
    assert threads_for(Graph("g", (), {"y": layer(1, 16).items()[0]}), MACHINE) == 1


def test_times_have_a_fitting_unit() -> None:
    assert [time_text(s) for s in (2.5, 0.0123, 4.56e-6)] == ["2.5 s", "12.3 ms", "4.56 µs"]
