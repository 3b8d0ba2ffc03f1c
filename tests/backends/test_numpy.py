"""The NumPy backend: its buffers, its state, its shapes, its errors, its threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from compiler_samples import Maze
from hypothesis import given, settings
from hypothesis import strategies as st
from trine.backends.base import load
from trine.backends.executable import MAX_SHAPES, lower
from trine.backends.numpy import BACKEND, Program
from trine.backends.source import Names, literal_of
from trine.compiler.autodiff import grad
from trine.compiler.ir import DType, Graph, Input, IRError, Origin, Type, Value, constant, evaluate, origin
from trine.compiler.ops.conv import AvgPool, Conv, MaxPool
from trine.compiler.ops.elementwise import Exp, Less, Sin, Tanh, Where
from trine.compiler.ops.linalg import Linear
from trine.compiler.ops.reduce import Mean, Softmax, Sum
from trine.compiler.ops.shape import Flip, Reshape, Transpose, reshape
from trine.compiler.passes import Model

Array = Any
steady = settings(max_examples=40, deadline=None, derandomize=True)
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64, sums in another order


def hole(*dims: int | str, name: str = "x", role: Any = "data", dtype: DType = DType.f64) -> Value:
    return Input(name, Type(dims, dtype), role)()


def check_runs(graph: Graph, maze: Maze, runs: int = 3) -> None:
    """Run several times with other inputs; outputs, state and earlier outputs must be right."""
    arrays = {name: a for name, a in maze.feeds(1).items() if name in "st"}
    state = BACKEND.state(arrays)
    executable = BACKEND.compile(graph, state)
    objects = {name: id(a) for name, a in state.arrays.items()}
    seen: list[tuple[dict[str, Array], dict[str, Array]]] = []
    for seed in range(runs):
        feeds = {name: a for name, a in maze.feeds(seed).items() if name in "ab"}
        keys = [*graph.outputs, *graph.updates]
        expected = evaluate(graph.roots, feeds | arrays)
        found = executable(feeds)
        seen.append((found, {name: array.copy() for name, array in found.items()}))
        for name, array in zip(keys, expected, strict=True):
            if name in graph.outputs:
                np.testing.assert_allclose(found[name], array, **CLOSE, err_msg=name)
        arrays = {**arrays, **dict(zip(graph.updates, expected[len(graph.outputs) :], strict=True))}
        for name, array in arrays.items():
            np.testing.assert_allclose(state.arrays[name], array, **CLOSE, err_msg=name)
    for found, copies in seen:
        for name, array in found.items():
            np.testing.assert_array_equal(array, copies[name], err_msg=name)
    assert {name: id(a) for name, a in state.arrays.items()} == objects


@steady
@given(st.integers(0, 2**32 - 1))
def test_random_graphs(seed: int) -> None:
    maze = Maze(seed, steps=18)
    check_runs(maze.graph, maze)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_random_graphs_with_their_gradients(seed: int) -> None:
    maze = Maze(seed)
    check_runs(grad(maze.graph, "loss", ["a", "s"]), maze, runs=2)


def stepped(updates: dict[str, Value], inputs: list[Value], start: dict[str, Array], outputs: Any = None) -> Any:
    """The state and outputs after one step."""
    graph = Graph("g", tuple(inputs), outputs or {}, updates)
    graph.verify()
    state = BACKEND.state(start)
    found = BACKEND.compile(graph, state)({})
    return state.read(), found


def test_updates_read_the_state_before_the_step() -> None:
    a, b = hole(3, name="a", role="buffer"), hole(3, name="b", role="buffer")
    start = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([10.0, 20.0, 30.0])}
    cases: list[tuple[dict[str, Value], Array, Array]] = [
        ({"a": b, "b": a}, start["b"], start["a"]),
        ({"a": b * 2.0, "b": a * 3.0}, 2 * start["b"], 3 * start["a"]),
        ({"a": a + b, "b": a - b}, start["a"] + start["b"], start["a"] - start["b"]),
        ({"a": a + b, "b": a}, start["a"] + start["b"], start["a"]),
        ({"a": Exp()(a), "b": Exp()(a)}, np.exp(start["a"]), np.exp(start["a"])),
        ({"a": Flip(0)(b), "b": Flip(0)(a)}, start["b"][::-1], start["a"][::-1]),
        ({"a": Flip(0)(a), "b": b}, start["a"][::-1], start["b"]),
        ({"a": a + Flip(0)(a), "b": b * a}, start["a"] + start["a"][::-1], start["a"] * start["b"]),
        ({"a": a + 1.0, "b": (a + 1.0) * 2.0}, start["a"] + 1, (start["a"] + 1) * 2),
    ]
    for updates, new_a, new_b in cases:
        after, _ = stepped(updates, [a, b], start)
        np.testing.assert_allclose(after["a"], new_a, **CLOSE)
        np.testing.assert_allclose(after["b"], new_b, **CLOSE)


def test_outputs_are_not_views_of_state() -> None:
    a = hole(2, 2, name="a", role="buffer")
    new = a + 1.0
    graph = Graph(
        "g", (a,), {"old": a, "turned": Transpose((1, 0))(a), "new": new, "flat": Reshape((4,))(new)}, {"a": new}
    )
    state = BACKEND.state({"a": np.zeros((2, 2))})
    run = BACKEND.compile(graph, state)
    first, second = run({}), run({})
    for name, value in (("old", 0.0), ("turned", 0.0), ("new", 1.0), ("flat", 1.0)):
        np.testing.assert_array_equal(first[name], np.full_like(first[name], value), err_msg=name)
        np.testing.assert_array_equal(second[name], np.full_like(first[name], value + 1), err_msg=name)
        first[name] += 100.0
    np.testing.assert_array_equal(state.read()["a"], np.full((2, 2), 2.0))


def test_outputs_are_not_views_of_feeds_or_constants() -> None:
    x = hole(2)
    c = constant(np.arange(40.0))
    run = BACKEND.compile(Graph("g", (x,), {"x": x, "flip": Flip(0)(x), "c": c, "d": Flip(0)(c)}), BACKEND.state({}))
    feed = np.array([1.0, 2.0])
    found = run({"x": feed})
    feed[:] = 0.0
    np.testing.assert_array_equal(found["x"], [1.0, 2.0])
    np.testing.assert_array_equal(found["flip"], [2.0, 1.0])
    found["c"][0] = 7.0
    assert run({"x": feed})["c"][0] == 0.0


def test_state_is_copied_in_and_out() -> None:
    mine = np.zeros(2)
    state = BACKEND.state({"a": mine})
    state.read()["a"][0] = 5.0
    mine[1] = 5.0
    np.testing.assert_array_equal(state.read()["a"], [0.0, 0.0])
    state.write({"a": np.array([1.0, 2.0])})
    np.testing.assert_array_equal(state.read()["a"], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"a: \(2,\) cannot take \(3,\)"):
        state.write({"a": np.zeros(3)})
    with pytest.raises(KeyError):
        state.write({"b": np.zeros(3)})


def test_buffers_are_used_again() -> None:
    x = hole(1000)
    y = x
    for _ in range(25):
        y = Softmax()(Flip(0)(y) * 2.0)
    run = Program(lower(Graph("g", (x,), {"y": y}), {}, BACKEND.native, "numpy"))
    assert len(run.buffers) > 20
    assert 8000 <= run.size <= 4 * 8000


def test_two_graphs_share_a_state() -> None:
    a, x = hole(2, name="a", role="param"), hole(2)
    state = BACKEND.state({"a": np.zeros(2)})
    add = BACKEND.compile(Graph("add", (a, x), {}, {"a": a + x}), state)
    read = BACKEND.compile(Graph("read", (a,), {"y": a * 2.0}), state)
    add({"x": np.ones(2)})
    np.testing.assert_array_equal(read({})["y"], [2.0, 2.0])


def test_batch_sizes_come_and_go() -> None:
    x, w = hole("N", 3), hole(2, 3, name="w", role="param")
    graph = Graph("g", (x, w), {"y": Softmax()(Linear()(x, w)), "m": Mean((0,))(x)})
    weight = np.arange(6.0).reshape(2, 3) / 10
    run = BACKEND.compile(graph, BACKEND.state({"w": weight}))
    rng = np.random.default_rng(0)
    for n in (*range(1, MAX_SHAPES + 3), 1, 5):
        a = rng.normal(size=(n, 3))
        found, expected = run({"x": a}), evaluate(graph.roots, {"x": a, "w": weight})
        np.testing.assert_allclose(found["y"], expected[0], **CLOSE)
        np.testing.assert_allclose(found["m"], expected[1], **CLOSE)
    assert len(run._compiled) == MAX_SHAPES


def test_feeds_of_any_memory_layout() -> None:
    x = hole("N", 4, 6)
    graph = Graph("g", (x,), {"y": Tanh()(Reshape(("N", 24))(x)) * 2.0})
    run = BACKEND.compile(graph, BACKEND.state({}))
    a = np.random.default_rng(0).normal(size=(3, 4, 6))
    expected = evaluate(graph.roots, {"x": a})[0]
    for layout in (np.asfortranarray(a), np.repeat(a, 2, axis=2)[..., ::2], a[::-1].copy()[::-1]):
        np.testing.assert_allclose(run({"x": layout})["y"], expected, **CLOSE)


def test_wrong_feeds_are_named() -> None:
    x, y = hole("N", 3), hole("N", name="y")
    run = BACKEND.compile(Graph("g", (x, y), {"z": x * Reshape(("N", 1))(y)}), BACKEND.state({}))
    good = {"x": np.zeros((2, 3)), "y": np.zeros(2)}
    run(good)
    for change, message in (
        ({"y": None}, "there is no value for the input y: f64[N]"),
        ({"x": np.zeros((2, 4))}, "x: expected f64[N, 3], got an array of shape (2, 4)"),
        ({"x": np.zeros(3)}, "x: expected f64[N, 3], got an array of shape (3,)"),
        ({"x": np.zeros((2, 3), np.float32)}, "x: expected f64[N, 3], got an array of dtype float32"),
        ({"y": np.zeros(5)}, "y: N is 5 here and 2 elsewhere"),
    ):
        feeds = {name: a for name, a in (good | change).items() if a is not None}
        with pytest.raises(IRError) as caught:
            run(feeds)
        assert str(caught.value) == message


def test_calls_from_many_threads() -> None:
    x = hole("N", 50)
    y = x
    for _ in range(20):
        y = Tanh()(y * 1.1 + 0.1)
    graph = Graph("g", (x,), {"y": y})
    run = BACKEND.compile(graph, BACKEND.state({}))
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            a = rng.normal(size=(rng.integers(1, 5), 50))
            if not np.allclose(run({"x": a})["y"], evaluate([y], {"x": a})[0], **CLOSE):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_scalars_keep_the_element_type() -> None:
    """Two literals would make float64 of a float32 graph."""
    x = hole(3, dtype=DType.f32)
    zero, half = constant(0.0, DType.f32), constant(0.5, DType.f32)
    graph = Graph("g", (x,), {"y": Where()(Less()(zero, x), half, zero), "z": Exp()(x * half) / half})
    found = BACKEND.compile(graph, BACKEND.state({}))({"x": np.array([-1, 0, 1], np.float32)})
    assert {a.dtype for a in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found["y"], [0, 0, 0.5])


@pytest.mark.parametrize("step", ["run", "np", "conv", "lambda", "x", "state", "x²", "größe", "1st", "a b"])
def test_steps_and_inputs_may_have_any_name(step: str) -> None:
    x, w = hole("N", 3, name=step), hole(3, name=f"{step}.w", role="param")
    with origin(Origin(step)):
        y = Sin()(Exp()(x * w) * 2.0) + x
    graph = Graph("g", (x, w), {step: Sum((1,))(y)})
    run = BACKEND.compile(graph, BACKEND.state({f"{step}.w": np.ones(3)}))
    a = np.random.default_rng(0).normal(size=(2, 3))
    np.testing.assert_allclose(
        run({step: a})[step], evaluate(graph.roots, {step: a, f"{step}.w": np.ones(3)})[0], **CLOSE
    )


def test_names_are_identifiers_and_differ() -> None:
    names = Names(["np"])
    made = [names.make(hint) for hint in ("np", "a b", "a b", "class", "x²", "", "ﬁ", "fi", "9")]
    assert all(name.isidentifier() for name in made)
    assert len(set(made) | {"np", "class"}) == len(made) + 2


def test_literals_are_short_and_exact() -> None:
    for dtype in (np.float32, np.float64, np.float16):
        for number in (0.1, 1 / 3, 1e-7, 3.0, -2.5e5 if dtype is not np.float16 else -2.5):
            value = np.asarray(number, dtype)
            assert np.asarray(float(literal_of(value)), dtype) == value
    assert literal_of(np.float32(0.1)) == "0.1"  # type: ignore[arg-type]
    assert [literal_of(np.asarray(v)) for v in (np.inf, -np.inf, np.nan, 3, True)] == [
        "np.inf",
        "-np.inf",
        "np.nan",
        "3",
        "True",
    ]


@pytest.mark.parametrize("size", [(5, 7), (1, 3), (8, 4)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution_of_odd_shapes(size: tuple[int, int], stride: tuple[int, int], groups: int) -> None:
    """Against the definition, one output number at a time."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 4, *size)), rng.normal(size=(4, 4 // groups, 1, 3))
    op = Conv(stride, ((0, 1), (2, 0)), (2, 1), groups)
    graph = Graph("g", (hole(*x.shape), hole(*w.shape, name="w")), {"y": op(hole(*x.shape), hole(*w.shape, name="w"))})
    found = BACKEND.compile(graph, BACKEND.state({}))({"x": x, "w": w})["y"]
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (2, 0)))
    per = 4 // groups
    for n, o, i, j in np.ndindex(*found.shape):
        first = o // per * per
        window = padded[n, first : first + per, i * stride[0], j * stride[1] : j * stride[1] + 3]
        np.testing.assert_allclose(found[n, o, i, j], np.sum(window * w[o, :, 0]), **CLOSE)


@pytest.mark.parametrize("count", [True, False])
def test_pooling_and_convolution_over_an_axis_without_a_size_train(count: bool) -> None:
    x, w = hole("N", 2, "T"), hole(3, 2, 3, name="w", role="param")
    y = Conv((1,), ((1, 1),), (1,))(x, w)
    y = MaxPool((3,), (1,), ((1, 1),))(AvgPool((3,), (1,), ((1, 1),), count)(y))
    loss = reshape(Sum((0, 1, 2))(Sin()(y)), ())
    graph = grad(Graph("g", (x, w), {"loss": loss}), "loss", ["w", "x"])
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 2, 3))
    run = BACKEND.compile(graph, BACKEND.state({"w": weight}))
    for n, t in ((2, 5), (1, 9)):
        a, v = rng.normal(size=(n, 2, t)), rng.normal(size=(n, 2, t))
        found = run({"x": a})
        up, down = (run({"x": a + h * v})["loss"] for h in (1e-6, -1e-6))
        np.testing.assert_allclose(np.sum(found["dloss/dx"] * v), (up - down) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("end", ["\n", "\r", "\x0c", "\u2028", "\x85"])
def test_names_from_a_spec_stay_in_comments(backend: str, end: str) -> None:
    """Steps and files are named in the source's comments: a line break in a name must not start a line of code."""
    evil = f"b{end}    raise SystemExit('ran'){end}    #"
    x = Input("x", Type(("N", 2)))()
    with origin(Origin(evil, f"{evil}.yaml", 1)):
        y = Exp()(x)
    graph = Graph("g", (x,), {"y": y})
    runner = load(backend)
    run = runner.compile(graph, runner.state({}))
    assert np.array_equal(run({"x": np.zeros((1, 2), np.float32)})["y"], np.ones((1, 2)))
    assert evil not in runner.source(Model(graph))
