"""Views that are taken once: where NumPy shows memory in another shape, and where it copies, is foreseen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trine.backends.base import load
from trine.backends.standing import reshaped
from trine.compiler.ir import DType, Graph, Input, Type, constant, evaluate
from trine.compiler.ops.activations import Gelu
from trine.compiler.ops.elementwise import Add, Mul
from trine.compiler.ops.linalg import Linear
from trine.compiler.ops.norm import LayerNorm
from trine.compiler.ops.reduce import Mean
from trine.compiler.ops.shape import Split, Transpose, reshape
from trine.compiler.passes.rows import as_matrices


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Parts of arrays of a few axes, turned."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    whole = np.arange(math.prod(shape), dtype=np.int8).reshape(shape)
    turned = whole.transpose(draw(st.permutations(range(len(shape)))))
    return turned[tuple(slice(0, draw(st.integers(1, d))) for d in turned.shape)]


@st.composite
def shapes(draw: st.DrawFn, count: int) -> tuple[int, ...]:
    found = []
    while count > 1:
        found.append(draw(st.sampled_from([d for d in range(2, count + 1) if count % d == 0])))
        count //= found[-1]
    for _ in range(draw(st.integers(0, 2))):
        found.insert(draw(st.integers(0, len(found))), 1)
    return tuple(found)


@given(st.data())
def test_reshaping_is_a_view_where_numpy_makes_one(data: st.DataObject) -> None:
    array = data.draw(arrays())
    new = data.draw(shapes(array.size))
    found, right = reshaped(array.shape, array.strides, new), array.reshape(new)
    assert (found is not None) == np.shares_memory(array, right)
    if found is not None:
        assert [s for s, d in zip(found, new, strict=True) if d > 1] == [
            s for s, d in zip(right.strides, new, strict=True) if d > 1
        ]


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_views_of_what_is_computed_anew_show_the_new_numbers(backend: str) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 4)).astype(np.float32)

    x = Input("x", Type((3, 4), DType.f32))()
    first, second = Split(1, (2, 4))(Linear()(x, constant(weight), constant(np.zeros(6, np.float32)))).items()
    y = Transpose((1, 0))(reshape(first, (3, 2))) * 2.0
    z = reshape(second, (3, 2, 2)) + 1.0
    runner = load(backend)
    run = runner.compile(Graph("g", (x,), {"y": y, "z": z, "same": second}), runner.state({}))
    kept = None
    for seed in range(3):
        fed = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
        found, whole = run({"x": fed}), fed @ weight.T
        np.testing.assert_allclose(found["y"], 2 * whole[:, :2].T, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["z"], 1 + whole[:, 2:].reshape(3, 2, 2), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["same"], whole[:, 2:], rtol=1e-5, atol=1e-6)
        if kept is not None:
            np.testing.assert_array_equal(kept[0], kept[1])  # what was returned stays as it was
        kept = found["same"], found["same"].copy()


def test_linear_layers_of_sequences_are_products_of_matrices() -> None:
    """With what is between them; what else reads them sees sequences."""
    rng = np.random.default_rng(0)
    first, second = (constant(rng.normal(size=shape)) for shape in ((8, 4), (3, 8)))
    x = Input("x", Type((2, 5, 4), DType.f64))()
    hidden = Gelu()(LayerNorm()(Linear()(x, first) * 2.0, constant(np.ones(8)), constant(np.zeros(8))))
    graph = Graph("g", (x,), {"y": Linear()(hidden + hidden, second), "mean": Mean((1,))(hidden)})
    made = as_matrices(graph)
    assert {v.rank for v in made.order() if isinstance(v.op, Linear | LayerNorm | Gelu | Mul | Add)} == {2}
    feeds = {"x": rng.normal(size=(2, 5, 4))}
    before, after = (evaluate(g.outputs.values(), feeds) for g in (graph, made))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12)  # float64, whose sums are taken in another order
    assert as_matrices(made) is made


def test_few_gelus_are_those_of_many() -> None:
    x = np.linspace(-6, 6, 2000, dtype=np.float32)[None]
    hole = Input("x", Type(("N", 2000), DType.f32))()
    run = load("torch").compile(Graph("g", (hole,), {"y": Gelu()(hole)}), load("torch").state({}))
    np.testing.assert_allclose(run({"x": x})["y"][0], run({"x": np.tile(x, (9, 1))})["y"][0], rtol=0, atol=2e-6)
