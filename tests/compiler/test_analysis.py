"""FLOPs, parameters, bytes, the packing of buffers, liveness."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from compiler_samples import CONVS, Maze
from hypothesis import given, settings
from hypothesis import strategies as st
from trine.compiler import analysis
from trine.compiler.analysis import (
    ALIGN,
    VIEWS,
    Buffer,
    costs,
    dying,
    id_bounds,
    last_uses,
    pack,
    parameters,
    peak_memory,
    summary,
)
from trine.compiler.ir import Const, DType, Graph, Input, Origin, Type, Value, order, origin
from trine.compiler.ops.conv import Conv, ConvInputGrad, ConvWeightGrad
from trine.compiler.ops.elementwise import Exp, Tanh
from trine.compiler.ops.linalg import Gather, Linear, LinearWeightGrad, MatMul
from trine.compiler.ops.losses import CrossEntropy
from trine.compiler.ops.shape import Reshape

steady = settings(max_examples=60, deadline=None, derandomize=True)


def hole(*dims: int | str, name: str = "x", role: Any = "data") -> Value:
    return Input(name, Type(dims), role)()


def test_flops_of_matrix_products() -> None:
    x, w, b = hole(8, 5), hole(3, 5, name="w"), hole(3, name="b")
    assert Linear()(x, w).flops == 2 * 8 * 5 * 3
    assert Linear()(x, w, b).flops == 2 * 8 * 5 * 3 + 8 * 3
    assert LinearWeightGrad()(hole(8, 3, name="g"), x).flops == 2 * 8 * 5 * 3
    assert MatMul()(hole(4, 2, 3), hole(3, 7, name="y")).flops == 2 * 4 * 2 * 3 * 7
    assert Linear()(hole("N", "T", 5), w).flops == 2 * 5 * 3  # one row of one step
    assert Exp()(x).flops == 40


@pytest.mark.parametrize(("attributes", "x", "weight", "y"), CONVS)
def test_flops_of_convolutions(
    attributes: Any, x: tuple[int, ...], weight: tuple[int, ...], y: tuple[int, ...]
) -> None:
    """Two per tap, filter and output position; the gradients do the same products."""
    expected = 2 * int(np.prod(y)) * int(np.prod(weight[1:]))
    a, w, g = hole(*x), hole(*weight, name="w"), hole(*y, name="g")
    assert Conv(*attributes)(a, w).flops == expected
    assert Conv(*attributes)(a, w, hole(weight[0], name="b")).flops == expected + int(np.prod(y))
    assert ConvInputGrad(x[2:], *attributes)(g, w).flops == expected
    assert ConvWeightGrad(weight[2:], *attributes)(g, a).flops == expected


def mlp() -> Graph:
    x, w, v = hole("N", 5), hole(7, 5, name="w", role="param"), hole(2, 7, name="v", role="param")
    with origin(Origin("one", "net.yaml", 3)):
        h = Tanh()(Linear()(x, w))
    with origin(Origin("two", "net.yaml", 4)):
        y = Linear()(h, v)
    return Graph("mlp", (x, w, v), {"y": y})


def test_summary_and_parameters() -> None:
    graph = mlp()
    assert parameters(graph) == 7 * 5 + 2 * 7
    found = summary(graph, {"N": 10})
    assert found.nodes == 3
    assert found.parameters == 49
    assert found.flops == 2 * 35 + 7 + 2 * 14
    assert found.activation_bytes == 4 * 10 * (7 + 7 + 2)


def test_costs_by_step() -> None:
    one, two = costs(mlp(), {"N": 10})
    assert (one.step, one.file, one.line, one.flops, one.bytes) == ("one", "net.yaml", 3, 77, 560)
    assert (two.step, two.line, two.flops, two.bytes) == ("two", 4, 28, 80)


buffers = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 10), st.integers(0, 5000)).map(
        lambda t: Buffer(t[0], t[0] + t[1], t[2])
    ),
    max_size=40,
)


@steady
@given(buffers)
def test_packed_buffers_do_not_overlap_while_both_live(asked: list[Buffer]) -> None:
    offsets, total = pack(asked)
    assert len(offsets) == len(asked)
    for i, a in enumerate(asked):
        assert offsets[i] % ALIGN == 0
        assert offsets[i] + a.size <= total
        for j in range(i):
            b = asked[j]
            alive = a.first <= b.last and b.first <= a.last
            apart = offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
            assert apart or not alive
    live = [sum(b.size for b in asked if b.first <= t <= b.last) for t in range(42)]
    assert total >= max(live)
    assert total <= sum(-(-b.size // ALIGN) * ALIGN for b in asked)


def packed_plainly(buffers: list[Buffer]) -> list[int]:
    """First fit, largest first, as one would write it down."""
    offsets: dict[int, int] = {}
    for i in sorted(range(len(buffers)), key=lambda i: -buffers[i].size):
        a = buffers[i]
        busy = [(offsets[j], buffers[j]) for j in offsets if buffers[j].first <= a.last and a.first <= buffers[j].last]
        ends = [-(-(at + b.size) // ALIGN) * ALIGN for at, b in busy]
        offsets[i] = next(
            at
            for at in sorted({0, *ends})
            if all(at + a.size <= start or at >= end for (start, _), end in zip(busy, ends, strict=True))
        )
    return [offsets[i] for i in range(len(buffers))]


@steady
@given(buffers)
def test_pack_is_first_fit(asked: list[Buffer]) -> None:
    asked = [Buffer(b.first, b.last, b.size + 1) for b in asked]  # what is empty fits anywhere
    expected = packed_plainly(asked)
    for few in (0, 1000):
        with patch.object(analysis, "FEW", few):
            assert pack(asked)[0] == expected


def test_pack_uses_a_place_again() -> None:
    assert pack([Buffer(0, 1, 640), Buffer(2, 3, 640), Buffer(4, 5, 320)]) == ([0, 0, 0], 640)
    assert pack([Buffer(0, 5, 64), Buffer(1, 2, 640), Buffer(3, 4, 640)]) == ([640, 0, 0], 704)
    assert pack([]) == ([], 0)


@steady
@given(st.integers(0, 2**32 - 1))
def test_peak_memory_is_at_least_the_largest_live_set(seed: int) -> None:
    graph = Maze(seed).graph
    values = order(graph.roots)
    place = {v: i for i, v in enumerate(values)}
    last = {v: max([place[u] for u in values if v in u.inputs], default=place[v]) for v in values}
    last |= dict.fromkeys(graph.roots, len(values))
    owned = [v for v in values if not isinstance(v.op, Input | Const) and v.op.kind not in VIEWS]
    live = [sum(v.type.nbytes() for v in owned if place[v] <= t <= last[v]) for t in range(len(values))]
    found = peak_memory(graph, {})
    assert max(live) <= found
    assert found <= sum(-(-v.type.nbytes() // ALIGN) * ALIGN for v in owned)


def test_peak_memory_of_a_chain_is_two_buffers() -> None:
    x = hole("N", 16)
    y = x
    for _ in range(10):
        y = Exp()(y)
    assert peak_memory(Graph("g", (x,), {"y": y}), {"N": 4}) == 2 * 4 * 16 * 4


def test_a_view_keeps_what_it_shows() -> None:
    x = hole(4)
    a = Exp()(x)
    view = Reshape((2, 2))(a)
    b = Tanh()(x)
    c = Exp()(view)
    values = [a, view, b, c]
    assert last_uses(values, [], lambda v: v is view)[a] == 3
    assert last_uses(values, [], lambda v: False)[a] == 1
    assert last_uses(values, [view], lambda v: v is view)[a] == 4


def test_dying() -> None:
    x = hole(4)
    a = Exp()(x)
    b = Tanh()(a)
    c = a * b
    assert dying([x, a, b, c], [b]) == {x: [], a: [x], b: [], c: [a]}


def test_id_bounds() -> None:
    ids, label = Input("ids", Type(("N",), DType.i64))(), Input("label", Type(("N",), DType.i64))()
    table, other = hole(50, 6, name="t", role="param"), hole(40, 6, name="o", role="param")
    logits = Gather(0)(table, ids) + Gather(0)(other, ids)
    graph = Graph("g", (ids, label, table, other), {"loss": CrossEntropy()(logits, label)})
    assert id_bounds(graph) == {"ids": 40, "label": 6}
