"""Padding changes nothing: a row in a padded batch gives what it gives alone, and so do the losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from trine.backends.base import load
from trine.compiler.build import build
from trine.compiler.initialisers import initialise
from trine.compiler.ir import input_of
from trine.compiler.spec.diagnostics import SpecError
from trine.compiler.spec.reader import read_string

Array = Any
ROWS = [[3, 1, 4, 1, 5], [2, 6], [5, 3, 5], [0]]
PAD = -1

# What makes one vector of each row, or ends in steps of which the real ones are compared.
BODIES = {
    "mean": "{mean: {over: T}}",
    "maximum": "{maximum: {over: T}}",
    "pool": "{conv: 6}, relu, global_max_pool",
    "average": "{conv: {filters: 6, kernel: 4}}, global_avg_pool",
    "max_pool": "{max_pool: {kernel: 3, stride: 1, padding: same}}",
    "avg_pool": "{avg_pool: {kernel: 3, stride: 1, padding: same}}",
    "separable": "{separable_conv: 6}, {depthwise_conv: {kernel: 3, padding: causal}}",
    "lstm": "{lstm: {units: 5, layers: 2, bidirectional: true}}",
    "lstm last": "{lstm: {units: 5, bidirectional: true, returns: last}}",
    "gru": "{gru: {units: 5, layers: 2, bidirectional: true}}",
    "gru last": "{gru: {units: 5, bidirectional: true, returns: last}}",
    "rnn last": "{rnn: {units: 5, bidirectional: true, returns: last}}",
    "attention": "{attention: 2}, {residual: [layer_norm, {attention: {heads: 2, positions: alibi}}]}",
    "causal": "positions, {attention: {heads: 2, causal: true, positions: rotary}}",
    "take last": "{linear: 5}, {take: {at: -1, over: T}}",
    "take third": "{linear: 5}, {take: {at: 2, over: T}}",
    "pooled attention": "{attention: 2}, {mean: {over: T}}",
}


def padded(rows: list[list[int]], width: int) -> Array:
    return np.array([row + [PAD] * (width - len(row)) for row in rows])


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
@pytest.mark.parametrize("body", BODIES)
def test_rows_in_a_padded_batch(body: str, backend: str) -> None:
    spec = read_string(
        "spec: 1\nmodel: {inputs: {x: 'int[T <= 16]'}, layers: "
        f"[{{embedding: {{rows: 7, dim: 4}}}}, {BODIES[body]}, {{linear: 3, as: y}}]}}\n"
    )
    graph = build(spec).graph
    rng = np.random.default_rng(0)
    arrays = {input_of(v).name: initialise(v, 0) for v in graph.by_role("param")}
    arrays = {n: a + rng.normal(0, 0.3, a.shape).astype(a.dtype) for n, a in arrays.items()}
    made = load(backend)
    run = made.compile(graph, made.state(arrays))
    together = run({"x": padded(ROWS, 8)})["y"]
    for row, found in zip(ROWS, together, strict=True):
        alone = run({"x": np.array([row])})["y"][0]
        if alone.ndim == 2:
            found = found[: len(row)]
        # float32 sums in another order
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "target"),
    [("next_token: [y, x]", None), ("cross_entropy: [y, t]", "int"), ("mse: [y, t]", "float")],
)
def test_losses_count_real_steps_alone(loss: str, target: str | None) -> None:
    """The loss of a padded batch is the mean over all real steps of all rows."""
    spec = read_string(
        "spec: 1\nmodel: {inputs: {x: 'int[T <= 16]'}, layers: [{embedding: {rows: 7, dim: 7}}, {linear: 7, as: y}]}\n"
        f"train: {{loss: {{{loss}}}, optimizer: sgd}}\n"
    )
    graph = build(spec, "train").graph
    arrays = {input_of(v).name: initialise(v, 0) for v in graph.by_role("param")}
    made = load("numpy")
    run = made.compile(graph, made.state(arrays))
    rows = [row for row in ROWS if len(row) > 1]
    rng = np.random.default_rng(0)
    draw = {"int": lambda n: rng.integers(0, 7, n), "float": lambda n: rng.normal(size=(n, 7)).astype(np.float32)}
    targets = [draw[target](len(row)) for row in rows] if target else []

    def feeds(chosen: list[int], width: int) -> dict[str, Array]:
        found: dict[str, Array] = {"x": padded([rows[i] for i in chosen], width)}
        if target:
            fill = PAD if target == "int" else 9.0
            ends = [np.full((width - len(targets[i]), *targets[i].shape[1:]), fill, targets[i].dtype) for i in chosen]
            found["t"] = np.stack([np.concatenate([targets[i], end]) for i, end in zip(chosen, ends, strict=True)])
        return found

    whole = run(feeds([0, 1, 2], 7))
    alone = [run(feeds([i], len(row))) for i, row in enumerate(rows)]
    total = sum(float(out["loss/total"]) for out in alone)
    weight = sum(float(out["loss/weight"]) for out in alone)
    steps = sum(len(row) - (target is None) for row in rows)
    # a row by itself has no padding; of rows without a count the weight is one each
    counted = [len(row) - (target is None) for row in rows]
    mean = sum(float(out["loss"]) * n for out, n in zip(alone, counted, strict=True)) / steps
    assert float(whole["loss"]) == pytest.approx(mean, rel=1e-5)
    assert float(whole["loss/weight"]) == pytest.approx(steps)
    assert total / weight == pytest.approx(mean, rel=1e-5)


TOKENS = "spec: 1\nmodel: {inputs: {x: 'int[T <= 16]'}, layers: [{embedding: {rows: 7, dim: 7}}, BODY]}\n"


@pytest.mark.parametrize("loss", ["cross_entropy: [y, x]", "focal: [y, x]", "next_token: [y, x]"])
@pytest.mark.parametrize("body", ["{linear: 7, as: y}", "transpose, softmax, transpose, {linear: 7, as: y}"])
def test_more_padding_changes_no_loss(loss: str, body: str) -> None:
    """An input that is also the target, and a softmax over the steps."""
    spec = read_string(TOKENS.replace("BODY", body) + f"train: {{loss: {{{loss}}}, optimizer: sgd}}\n")
    graph = build(spec, "train").graph
    made = load("numpy")
    run = made.compile(graph, made.state({input_of(v).name: initialise(v, 0) for v in graph.by_role("param")}))
    found = [float(run({"x": padded(ROWS[:3], width)})["loss"]) for width in (5, 9)]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "low"), [("binary_cross_entropy", 0), ("binary_focal", 0), ("poisson", 0), ("mae", -1)]
)
def test_what_stands_at_padded_steps_changes_no_loss(loss: str, low: int) -> None:
    text = TOKENS.replace("BODY", "{linear: 7, as: y}") + f"train: {{loss: {{{loss}: [y, t]}}, optimizer: sgd}}\n"
    graph = build(read_string(text), "train").graph
    made = load("numpy")
    run = made.compile(graph, made.state({input_of(v).name: initialise(v, 0) for v in graph.by_role("param")}))
    rows = padded(ROWS[:3], 6)
    t = np.random.default_rng(0).integers(0, 2, (3, 6, 7)).astype(np.float32)
    other = np.where(rows[:, :, None] < 0, 1 - t, t).astype(np.float32)
    first, second = (float(run({"x": rows, "t": each})["loss"]) for each in (t, other))
    assert first == pytest.approx(second, rel=1e-6)


def test_two_padded_inputs_of_one_axis() -> None:
    """A step is real where it is real in both."""
    spec = read_string(
        "spec: 1\nmodel: {inputs: {a: 'int[T]', c: 'int[T]'}, layers: [{embedding: {rows: 7, dim: 4}, from: a, as: p}, "
        "{embedding: {rows: 7, dim: 4}, from: c, as: q}, {add: [p, q]}, {mean: {over: T}, as: y}]}\n"
    )
    graph = build(spec).graph
    made = load("numpy")
    run = made.compile(graph, made.state({input_of(v).name: initialise(v, 0) for v in graph.by_role("param")}))
    long, short = (run({"a": a, "c": c})["y"] for a, c in (
        (np.array([[1, 2, 3]]), np.array([[4, 5, -1]])), (np.array([[1, 2]]), np.array([[4, 5]])),
    ))  # fmt: skip
    np.testing.assert_allclose(long, short, rtol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "{lstm: {units: 3, returns: last}}",
        "{gru: {units: 3, bidirectional: true, returns: last}}",
        "{attention: 2}",
        "{maximum: {over: T}}",
        "{conv: 4}, global_max_pool",
        "{max_pool: {kernel: 3, stride: 1, padding: same}}, layer_norm",
    ],
)
def test_rows_without_a_step(body: str) -> None:
    """An empty text is a row like any other: finite, and the same on every backend."""
    text = TOKENS.replace("dim: 7", "dim: 4").replace("BODY", f"{body}, {{linear: 3, as: y}}")
    graph = build(read_string(text)).graph
    arrays = {input_of(v).name: initialise(v, 0) for v in graph.by_role("param")}
    found = []
    for backend in ("numpy", "torch", "onnx"):
        made = load(backend)
        found.append(made.compile(graph, made.state(arrays))({"x": padded([[3, 1], []], 3)})["y"])
    assert np.isfinite(found[0]).all()
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-6)


def test_batch_norm_counts_real_steps_alone() -> None:
    """Its statistics are those of all real steps, laid end to end as one row."""
    spec = read_string(
        "spec: 1\nmodel: {inputs: {x: 'int[T <= 16]'}, layers: [{embedding: {rows: 7, dim: 4}}, "
        "{batch_norm: {}, as: n}, {linear: 7, as: y}]}\ntrain: {loss: {next_token: [y, x]}, optimizer: sgd}\n"
    )
    graph = build(spec, "train").graph
    arrays = {input_of(v).name: initialise(v, 0) for v in graph.by_role("param", "buffer")}
    made = load("numpy")
    found = []
    for rows in (padded(ROWS, 8), np.concatenate(ROWS)[None]):
        state = made.state(arrays)
        made.compile(graph, state)({"x": rows})
        found.append(state.read())
    for name in ("n.mean", "n.variance"):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5, atol=1e-6)
        assert not np.allclose(found[0][name], arrays[name])


def test_statistics_over_padded_steps_are_refused() -> None:
    for layer in ("instance_norm: {}", "group_norm: 2"):
        layers = f"[{{embedding: {{rows: 7, dim: 4}}}}, {{{layer}}}]"
        spec = read_string(f"spec: 1\nmodel: {{inputs: {{x: 'int[T <= 16]'}}, layers: {layers}}}\n")
        with pytest.raises(SpecError, match="statistics over them would count it"):
            build(spec)
