"""What must hold for every op, derived from the table of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from compiler_samples import ALL, IDS, SAMPLES, Sample, leaf_ops
from trine.backends.numpy import BACKEND
from trine.compiler import text
from trine.compiler.autodiff import grad
from trine.compiler.ir import DType, Graph, Input, Type, Value, evaluate, input_of
from trine.compiler.ops.norm import Dropout
from trine.compiler.ops.optim import Update
from trine.compiler.ops.reduce import Sum
from trine.compiler.ops.shape import reshape
from trine.compiler.rewrite import legalize

Array = Any
each = pytest.mark.parametrize("sample", ALL, ids=IDS)

# Sums of a few dozen float64 numbers of size one in another order: about 1e-14 in practice.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
# Likewise in float32, whose numbers have 7 digits, after up to a hundred operations.
CLOSE32 = {"rtol": 2e-4, "atol": 2e-5}
# A step of 1e-5: a truncation error of 1e-10 times a third derivative, and 1e-11 from rounding.
STEP = 1e-5
DIFFERENCE = {"rtol": 2e-6, "atol": 2e-6}


def run(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    return dict(zip(graph.outputs, evaluate(graph.outputs.values(), feeds), strict=True))


def test_every_op_has_samples() -> None:
    assert sorted(set(leaf_ops()) - set(SAMPLES)) == []
    assert sorted(set(SAMPLES) - set(leaf_ops())) == []


def test_every_op_has_a_docstring() -> None:
    # `vars`: a docstring is not inherited from a base class.
    assert [name for name, op in leaf_ops().items() if not (vars(op).get("__doc__") or "").strip()] == []


@each
def test_inferred_type_is_that_of_the_result(sample: Sample) -> None:
    graph, feeds = sample.graph()
    for name, array in run(graph, feeds).items():
        assert Type(array.shape, DType.of(array)) == graph.outputs[name].type


@each
def test_decomposition_into_primitives_gives_the_same(sample: Sample) -> None:
    graph, feeds = sample.graph()
    lowered = legalize(graph, lambda v: not v.op.is_composite)
    assert not any(v.op.is_composite for v in lowered.order())
    expected = run(graph, feeds)
    for name, array in run(lowered, feeds).items():
        np.testing.assert_allclose(array, expected[name], **CLOSE)
        assert lowered.outputs[name].type == graph.outputs[name].type


@pytest.mark.parametrize("dtype", [DType.f64, DType.f32])
@each
def test_numpy_backend_gives_the_same(sample: Sample, dtype: DType) -> None:
    graph, feeds = sample.graph(dtype)
    expected = run(graph, feeds)
    executable = BACKEND.compile(graph, BACKEND.state({}))
    before = {name: array.copy() for name, array in feeds.items()}
    for _ in range(2):
        for name, array in executable(feeds).items():
            assert Type(array.shape, DType.of(array)) == graph.outputs[name].type
            np.testing.assert_allclose(array, expected[name], **(CLOSE if dtype is DType.f64 else CLOSE32))
    for name, array in feeds.items():
        np.testing.assert_array_equal(array, before[name])


@each
def test_text_round_trip(sample: Sample) -> None:
    graph, feeds = sample.graph()
    written = text.write(graph)
    parsed = text.parse(written)
    assert text.write(parsed) == written
    expected = run(graph, feeds)
    for name, array in run(parsed, feeds).items():
        np.testing.assert_array_equal(array, expected[name])


@each
def test_flops_are_counted(sample: Sample) -> None:
    graph, _ = sample.graph()
    (made,) = [v for v in graph.order() if v.op == sample.op]
    assert isinstance(made.flops, int)
    assert made.flops >= 0


def weighted(graph: Graph, feeds: dict[str, Array], outputs: list[str], rng: np.random.Generator) -> Graph:
    """The graph with one output more: `loss`, the sum of the given outputs times random numbers."""
    total: Value | None = None
    inputs = list(graph.inputs)
    for name in outputs:
        value = graph.outputs[name]
        weight = Input(f"u{len(inputs)}", value.type)()
        inputs.append(weight)
        feeds[input_of(weight).name] = np.asarray(rng.uniform(0.5, 1.5, value.shape))
        term = reshape(Sum(tuple(range(value.rank)))(value * weight), ())
        total = term if total is None else total + term
    assert total is not None
    return Graph(graph.name, tuple(inputs), {**graph.outputs, "loss": total})


def check_gradient(graph: Graph, feeds: dict[str, Array], wrt: list[str], rng: np.random.Generator) -> Graph:
    """Compare ⟨gradient, v⟩ with a central difference along a random v, for each input."""
    derived = grad(graph, "loss", wrt)
    found = run(derived, feeds)
    for name in wrt:
        v = np.asarray(rng.choice([-1.0, 1.0], feeds[name].shape) * rng.uniform(0.5, 1.0, feeds[name].shape))
        up, down = (run(graph, {**feeds, name: feeds[name] + h * v})["loss"] for h in (STEP, -STEP))
        np.testing.assert_allclose(
            np.sum(found[f"dloss/d{name}"] * v), (up - down) / (2 * STEP), **DIFFERENCE, err_msg=name
        )
    return derived


def smooth(sample: Sample) -> bool:
    """Whether there is a gradient to check: floats in and out, and no kink near."""
    graph, feeds = sample.graph()
    floats_in = any(array.dtype == np.float64 for array in feeds.values())
    floats_out = any(v.dtype is DType.f64 for v in graph.outputs.values())
    return floats_in and floats_out and sample.grad > 0 and not isinstance(sample.op, Update)


SMOOTH = [(s, i) for s, i in zip(ALL, IDS, strict=True) if smooth(s)]


@pytest.mark.parametrize("sample", [s for s, _ in SMOOTH], ids=[i for _, i in SMOOTH])
def test_gradient_is_that_of_a_central_difference(sample: Sample) -> None:
    rng = np.random.default_rng(1)
    graph, feeds = sample.graph()
    outputs = [name for name, v in graph.outputs.items() if v.dtype is DType.f64]
    wrt = [name for name, array in feeds.items() if array.dtype == np.float64]
    if isinstance(sample.op, Dropout):
        wrt = wrt[:1]  # the second input only decides, its gradient is none
    derived = check_gradient(weighted(graph, feeds, outputs, rng), feeds, wrt, rng)
    if sample.grad > 1:
        again = Graph(graph.name, derived.inputs, {f"g{i}": derived.outputs[f"dloss/d{n}"] for i, n in enumerate(wrt)})
        check_gradient(weighted(again, feeds, list(again.outputs), rng), feeds, wrt, rng)


def test_gradients_at_ties() -> None:
    ties = {
        "Max": [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
        "Maximum": [0.5, 0.0, 1.0],
        "Minimum": [0.5, 1.0, 0.0],
        "Abs": [-1.0, 0.0, 1.0],
        "Relu": [0.0, 0.0, 1.0],
        "Elu": [np.exp(-40.0), 1.0, 1.0],
        # windows of 2 x 2 over ones with a padded row above: the first real one of each wins
        "MaxPool": [[[[2.0, 2.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]],
    }
    for kind, expected in ties.items():
        sample = next(s for s in SAMPLES[kind] if not s.grad)
        graph, feeds = sample.graph()
        value = graph.outputs["y0"]
        total = graph.with_outputs({"loss": reshape(Sum(tuple(range(value.rank)))(value), ())})
        found = run(grad(total, "loss", ["x0"]), feeds)["dloss/dx0"]
        np.testing.assert_allclose(found, expected, atol=1e-15, err_msg=kind)  # exp(-40) + 1 - 1 is rounded
