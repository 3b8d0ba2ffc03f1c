"""Graphs as text: what is written is read back, and what cannot be read is named by its line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compiler_samples import Maze
from hypothesis import given, settings
from hypothesis import strategies as st
from trine.compiler.ir import DType, Frozen, Graph, Init, Input, IRError, Type, constant, evaluate
from trine.compiler.ops.elementwise import Exp
from trine.compiler.ops.shape import Pad, Split
from trine.compiler.text import parse, same, write

Array = Any


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_random_graphs_come_back(seed: int) -> None:
    maze = Maze(seed)
    written = write(maze.graph)
    graph = parse(written)
    assert write(graph) == written
    assert same(graph, maze.graph)
    feeds = maze.feeds(seed)
    for a, b in zip(evaluate(maze.graph.roots, feeds), evaluate(graph.roots, feeds), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_text_is_as_documented() -> None:
    x = Input("image", Type(("N", 4)))()
    w = Input("w", Type((2, 4)), "param", Init("constant", (("value", 0.5),)), True)()
    from trine.compiler.ops.linalg import Linear

    graph = Graph("mlp", (x, w), {"logits": Linear()(x, w)}, {"w": w})
    assert write(graph) == (
        "graph mlp {\n"
        '  image = Input(name="image", t="f32[N, 4]") : f32[N, 4]\n'
        '  w = Input(name="w", t="f32[2, 4]", role="param", init=["constant", {"value": 0.5}], decay=true) : f32[2, 4]\n'  # noqa: E501
        "  %0 = Linear() image w : f32[N, 2]\n"
        "  return logits = %0\n"
        "  update w = w\n"
        "}\n"
    )
    assert parse(write(graph)) == graph


@pytest.mark.parametrize(
    "name",
    ["return", "update", "%0", "two words", 'a "quote"', "ünïcode", "a.b/c-d", "", "new\nline", "1st", ":", "graph"],
)
def test_any_name_comes_back(name: str) -> None:
    x = Input(name, Type((2,)))()
    graph = Graph(name or "g", (x,), {name: Exp()(x), "z": x}, {name: x})
    again = parse(write(graph))
    assert again == graph
    assert write(again) == write(graph)


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.1, -0.0, np.inf, -np.inf, np.nan, 1e-45], np.float32),
        np.array([0.1, np.nan, 5e-324, 1.7976931348623157e308]),
        np.array([0.1, 65504.0], np.float16),
        np.array([True, False]),
        np.array([-(2**63), 2**63 - 1]),
        np.array([255, 0], np.uint8),
        np.arange(30.0).reshape(5, 6),
        np.zeros((0, 3)),
        np.array(2.5),
    ],
    ids=lambda a: f"{a.dtype}{list(a.shape)}",
)
def test_constants_come_back_bit_by_bit(array: Array) -> None:
    (value,) = parse(write(Graph("g", (), {"y": constant(array)}))).outputs.values()
    found = value.op.value.array  # type: ignore[attr-defined]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


def test_elided_text_leaves_large_constants_out() -> None:
    graph = Graph("g", (), {"y": constant(np.zeros(17)), "z": constant(np.zeros(2))})
    assert '["f64", [17], "\\u2026"]' in write(graph, elide=True)
    assert '["f64", [2], [0.0, 0.0]]' in write(graph, elide=True)
    assert "\\u2026" not in write(graph)


def test_attributes_of_every_kind_come_back() -> None:
    x = Input("x", Type((2, 4), DType.f64))()
    padded = Pad(((0, 1), (2, 0)), float("-inf"))(x)
    graph = Graph("g", (x,), {f"y{i}": part for i, part in enumerate(Split(1, (1, 5))(padded))})
    again = parse(write(graph))
    assert again == graph
    assert "(f64[3, 1], f64[3, 5])" in write(graph)


X = '  x = Input(name="x", t="f32[2]") : f32[2]'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  %0 = Expo() x : f32[2]", "line 3: there is no op Expo: %0 = Expo() x : f32[2]"),
        ("  %0 = Exp() y : f32[2]", "line 3: there is no value y: %0 = Exp() y : f32[2]"),
        ("  %0 = Exp() x : f32[3]", "line 3: the types are f32[2]: %0 = Exp() x : f32[3]"),
        ("  %0 = Exp() x", "line 3: the line ends early: %0 = Exp() x"),
        ("  %0 : Exp() x : f32[2]", "line 3: expected `=`: %0 : Exp() x : f32[2]"),
        ("  return y = %7", "line 3: there is no value %7: return y = %7"),
        ("  %0 = Sum(axes=[5]) x : f32[2]", "line 3: Sum: f32[2] has no axis 5: %0 = Sum(axes=[5]) x : f32[2]"),
        ("  %0 = Exp(speed=3) x : f32[2]", "line 3: "),
        ("  %0 = Sum(axes=) x : f32[2]", "line 3: "),
        ('  %0 = Cast(to="f31") x : f32[2]', "line 3: 'f31' is not a valid DType"),
        ('  %0 = Input(name="z", t="f32") : f32', "line 3: not a type: 'f32'"),
        ("  %0 = Exp() x x : f32[2]", "line 3: "),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str, message: str) -> None:
    with pytest.raises(IRError) as caught:
        parse(f"graph g {{\n{X}\n{line}\n}}\n")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["", "graph g {", "hello\n}", "graph g {\n  x = 1\n"])
def test_what_is_no_graph_is_refused(text: str) -> None:
    with pytest.raises(IRError, match="not the text of a graph"):
        parse(text)


def test_frozen_arrays_repeat_their_type() -> None:
    assert repr(Frozen(np.zeros((2, 3), np.float32))) == "Frozen(float32[2, 3])"
