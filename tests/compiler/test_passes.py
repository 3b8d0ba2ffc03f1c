"""Passes: text before and after, and equal numbers on random graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiler_samples import Maze
from hypothesis import given, settings
from hypothesis import strategies as st
from trine.compiler import text
from trine.compiler.initialisers import initialise
from trine.compiler.ir import DType, Graph, Input, IRError, Origin, Type, Value, constant, evaluate, input_of, origin
from trine.compiler.ops.conv import Conv
from trine.compiler.ops.elementwise import Exp, Sqrt
from trine.compiler.ops.linalg import Linear
from trine.compiler.ops.norm import BatchNorm
from trine.compiler.ops.reduce import Mean, count
from trine.compiler.ops.shape import BroadcastTo, Iota, Size, transpose
from trine.compiler.passes import Model, for_inference, for_training, run
from trine.compiler.passes.fold import fold_batch_norm, fold_constants, precompute
from trine.compiler.passes.simplify import RULES, merge_equal, simplify
from trine.compiler.rewrite import rewrite

Array = Any
seeds = st.integers(0, 2**32 - 1)
steady = settings(max_examples=40, deadline=None, derandomize=True)


def values(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    keys = [*graph.outputs, *(f"next {name}" for name in graph.updates)]
    return dict(zip(keys, evaluate(graph.roots, feeds), strict=True))


def assert_same(a: Graph, b: Graph, feeds: dict[str, Array]) -> None:
    before, after = values(a, feeds), values(b, feeds)
    assert before.keys() == after.keys()
    for name, array in before.items():
        # Simplified arithmetic may round differently: a - b for a + (-b) does not, a folded sum may.
        np.testing.assert_allclose(after[name], array, rtol=1e-10, atol=1e-12, err_msg=name)


# -- random graphs ---------------------------------------------------------------------------


PASSES: dict[str, Callable[[Model], Model]] = {
    "simplify": simplify,
    "fold_constants": fold_constants,
    "fold_batch_norm": fold_batch_norm,
    "merge_equal": lambda model: Model(merge_equal(model.graph), model.weights),
    "for_training": lambda model: for_training(model)[0],
    "for_inference": lambda model: for_inference(model)[0],
}


@pytest.mark.parametrize("name", PASSES)
@steady
@given(seeds)
def test_every_pass_keeps_the_values(name: str, seed: int) -> None:
    maze = Maze(seed)
    new = PASSES[name](Model(maze.graph)).graph
    new.verify()
    assert_same(maze.graph, new, maze.feeds(seed))
    assert len(new.order()) <= len(maze.graph.order())


@steady
@given(seeds)
def test_passes_settle(seed: int) -> None:
    once = for_training(Model(Maze(seed).graph))[0].graph
    again = simplify(Model(once)).graph
    assert text.same(once, again)


@pytest.mark.parametrize("rule", RULES, ids=[r.name for r in RULES])
def test_each_rule_alone_keeps_the_values_and_is_used(rule: Any) -> None:
    used = 0
    for seed in range(60):
        maze = Maze(seed, steps=12)
        new = rewrite(maze.graph, [rule])
        if new.roots != maze.graph.roots:
            used += 1
            assert_same(maze.graph, new, maze.feeds(seed))
    if rule.name in ("drop_zero", "drop_one", "merge_reshapes", "merge_transposes", "negation_into_sum"):
        assert used > 0


# -- rules, before and after -----------------------------------------------------------------

X = '  x = Input(name="x", t="f32[N, 3]") : f32[N, 3]'
S = '  s = Input(name="s", t="f32[]") : f32[]'
ROW = '  row = Input(name="row", t="f32[1, 3]") : f32[1, 3]'
Y = '  y = Input(name="y", t="f32[2, 3, 4]") : f32[2, 3, 4]'
ZERO = '  %0 = Const(value=["f32", [], [0.0]]) : f32[]'
ONE = '  %0 = Const(value=["f32", [], [1.0]]) : f32[]'
ONES = '  %0 = Const(value=["f32", [2, 3], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]) : f32[2, 3]'

# rule, the lines before, the lines after; `return y = …` comes last
BEFORE_AFTER: list[tuple[str, list[str], str, list[str], str]] = [
    ("drop_zero", [X, ZERO, "  %1 = Add() x %0 : f32[N, 3]"], "%1", [X], "x"),
    ("drop_zero", [X, ZERO, "  %1 = Add() %0 x : f32[N, 3]"], "%1", [X], "x"),
    ("drop_zero", [X, ZERO, "  %1 = Sub() x %0 : f32[N, 3]"], "%1", [X], "x"),
    ("drop_zero", [X, ZERO, "  %1 = Sub() %0 x : f32[N, 3]"], "%1", [X, ZERO, "  %1 = Sub() %0 x : f32[N, 3]"], "%1"),
    (
        "drop_zero",
        [S, '  %0 = Const(value=["f32", [1], [0.0]]) : f32[1]', "  %1 = Add() s %0 : f32[1]"],
        "%1",
        [S, '  %0 = Const(value=["f32", [1], [0.0]]) : f32[1]', "  %1 = Add() s %0 : f32[1]"],
        "%1",
    ),
    ("drop_one", [X, ONE, "  %1 = Mul() x %0 : f32[N, 3]"], "%1", [X], "x"),
    ("drop_one", [X, ONE, "  %1 = Mul() %0 x : f32[N, 3]"], "%1", [X], "x"),
    ("drop_one", [X, ONE, "  %1 = Div() x %0 : f32[N, 3]"], "%1", [X], "x"),
    ("drop_one", [X, ONE, "  %1 = Div() %0 x : f32[N, 3]"], "%1", [X, ONE, "  %1 = Div() %0 x : f32[N, 3]"], "%1"),
    ("drop_double_negation", [X, "  %0 = Neg() x : f32[N, 3]", "  %1 = Neg() %0 : f32[N, 3]"], "%1", [X], "x"),
    (
        "negation_into_sum",
        [X, S, "  %0 = Neg() s : f32[]", "  %1 = Add() x %0 : f32[N, 3]"],
        "%1",
        [X, S, "  %0 = Sub() x s : f32[N, 3]"],
        "%0",
    ),
    (
        "negation_into_sum",
        [X, S, "  %0 = Neg() s : f32[]", "  %1 = Sub() x %0 : f32[N, 3]"],
        "%1",
        [X, S, "  %0 = Add() x s : f32[N, 3]"],
        "%0",
    ),
    (
        "merge_reshapes",
        [Y, "  %0 = Reshape(shape=[6, 4]) y : f32[6, 4]", "  %1 = Reshape(shape=[24]) %0 : f32[24]"],
        "%1",
        [Y, "  %0 = Reshape(shape=[24]) y : f32[24]"],
        "%0",
    ),
    (
        "merge_reshapes",
        [Y, "  %0 = Reshape(shape=[6, 4]) y : f32[6, 4]", "  %1 = Reshape(shape=[2, 3, 4]) %0 : f32[2, 3, 4]"],
        "%1",
        [Y],
        "y",
    ),
    ("merge_reshapes", [Y, "  %0 = Reshape(shape=[2, 3, 4]) y : f32[2, 3, 4]"], "%0", [Y], "y"),
    (
        "merge_transposes",
        [Y, "  %0 = Transpose(axes=[1, 2, 0]) y : f32[3, 4, 2]", "  %1 = Transpose(axes=[1, 2, 0]) %0 : f32[4, 2, 3]"],
        "%1",
        [Y, "  %0 = Transpose(axes=[2, 0, 1]) y : f32[4, 2, 3]"],
        "%0",
    ),
    (
        "merge_transposes",
        [Y, "  %0 = Transpose(axes=[1, 2, 0]) y : f32[3, 4, 2]", "  %1 = Transpose(axes=[2, 0, 1]) %0 : f32[2, 3, 4]"],
        "%1",
        [Y],
        "y",
    ),
    ("merge_transposes", [Y, "  %0 = Transpose(axes=[0, 1, 2]) y : f32[2, 3, 4]"], "%0", [Y], "y"),
    ("drop_cast", [X, '  %0 = Cast(to="f32") x : f32[N, 3]'], "%0", [X], "x"),
    ("drop_broadcast", [X, '  %0 = BroadcastTo(shape=["N", 3]) x : f32[N, 3]'], "%0", [X], "x"),
    (
        "drop_broadcast",
        [ROW, "  %0 = BroadcastTo(shape=[2, 3]) row : f32[2, 3]", "  %1 = BroadcastTo(shape=[4, 2, 3]) %0 : f32[4, 2, 3]"],  # noqa: E501
        "%1",
        [ROW, "  %0 = BroadcastTo(shape=[4, 2, 3]) row : f32[4, 2, 3]"],
        "%0",
    ),
    (
        "broadcast_into_binary",
        [X, ROW, '  %0 = BroadcastTo(shape=["N", 3]) row : f32[N, 3]', "  %1 = Mul() x %0 : f32[N, 3]"],
        "%1",
        [X, ROW, "  %0 = Mul() x row : f32[N, 3]"],
        "%0",
    ),
    (
        "broadcast_into_binary",
        [S, ROW, "  %0 = BroadcastTo(shape=[2, 3]) row : f32[2, 3]", "  %1 = Maximum() s %0 : f32[2, 3]"],
        "%1",
        [S, ROW, "  %0 = BroadcastTo(shape=[2, 3]) row : f32[2, 3]", "  %1 = Maximum() s %0 : f32[2, 3]"],
        "%1",
    ),
    ("drop_empty_sum", [ROW, "  %0 = Sum(axes=[0]) row : f32[1, 3]"], "%0", [ROW], "row"),
    ("drop_empty_sum", [X, "  %0 = Sum(axes=[0]) x : f32[1, 3]"], "%0", [X, "  %0 = Sum(axes=[0]) x : f32[1, 3]"], "%0"),  # noqa: E501
]  # fmt: skip


def written(lines: list[str], result: str) -> str:
    return "\n".join(["graph g {", *lines, f"  return y = {result}", "}"]) + "\n"


@pytest.mark.parametrize("number", range(len(BEFORE_AFTER)))
def test_rule_before_and_after(number: int) -> None:
    name, before, result, after, new_result = BEFORE_AFTER[number]
    (rule,) = [r for r in RULES if r.name == name]
    assert text.write(rewrite(text.parse(written(before, result)), [rule])) == written(after, new_result)


def test_every_rule_has_a_before_and_after() -> None:
    assert {r.name for r in RULES} == {name for name, *_ in BEFORE_AFTER}


def test_merge_equal_joins_what_comes_from_different_steps() -> None:
    x = Input("x", Type((2,), DType.f64))()
    made = []
    for step in ("one", "two"):
        with origin(Origin(step)):
            made.append(Exp()(Exp()(x)))
    graph = Graph("g", (x,), {"a": made[0], "b": made[1]})
    assert made[0] is not made[1]
    merged = merge_equal(graph)
    assert merged.outputs["a"] is merged.outputs["b"]
    assert_same(graph, merged, {"x": np.array([0.1, 0.2])})


# -- folding -----------------------------------------------------------------------------------


def test_fold_constants() -> None:
    before = text.parse(
        'graph g {\n  x = Input(name="x", t="f32[2]") : f32[2]\n'
        '  %0 = Const(value=["f32", [2], [1.0, 4.0]]) : f32[2]\n  %1 = Sqrt() %0 : f32[2]\n'
        "  %2 = Add() %1 %0 : f32[2]\n  %3 = Mul() x %2 : f32[2]\n  return y = %3\n}\n"
    )
    assert text.write(fold_constants(Model(before)).graph) == (
        'graph g {\n  x = Input(name="x", t="f32[2]") : f32[2]\n'
        '  %0 = Const(value=["f32", [2], [2.0, 6.0]]) : f32[2]\n  %1 = Mul() x %0 : f32[2]\n  return y = %1\n}\n'
    )


def test_fold_constants_leaves_what_is_large_or_of_unknown_size() -> None:
    wide = BroadcastTo((1000, 1000))(constant(1.0, DType.f32))
    named = BroadcastTo(("N", 2))(constant(1.0, DType.f32))
    x = Input("x", Type(("N", 2)))()
    graph = Graph("g", (x,), {"wide": wide, "named": named, "size": x * Size("N")()})
    kinds = [v.op.kind for v in fold_constants(Model(graph)).graph.order()]
    assert kinds.count("BroadcastTo") == 2
    assert "Size" in kinds


def batch_norm(x: Value, channels: int, prefix: str = "bn") -> tuple[Value, list[Value]]:
    names = [Input(f"{prefix}.{n}", Type((channels,), DType.f64), r)() for n, r in STATISTICS]  # type: ignore[arg-type]
    return BatchNorm(1e-3)(x, *names), names


STATISTICS = (("scale", "param"), ("shift", "param"), ("mean", "buffer"), ("variance", "buffer"))


def weights_of(graph: Graph) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {input_of(v).name: rng.uniform(0.2, 1.5, v.shape) for v in graph.by_role("param", "buffer")}


LAYERS: dict[str, tuple[tuple[Any, ...], Any, tuple[int, ...]]] = {
    "conv1d": (("N", 2, 7), Conv((2,), ((1, 0),), (1,)), (4, 2, 3)),
    "conv2d": (("N", 4, 5, 6), Conv((1, 2), ((1, 1), (0, 0)), (1, 1), 2), (6, 2, 3, 3)),
    "conv3d": (("N", 2, 3, 3, 3), Conv((1, 1, 1), ((0, 0),) * 3, (1, 1, 1)), (3, 2, 2, 2, 2)),
    "linear": (("N", 5), Linear(), (4, 5)),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_fold_batch_norm(kind: str, bias: bool) -> None:
    shape, op, weight_shape = LAYERS[kind]
    x, w = Input("x", Type(shape, DType.f64))(), Input("w", Type(weight_shape, DType.f64), "param")()
    b = [Input("b", Type(weight_shape[:1], DType.f64), "param")()] if bias else []
    y, statistics = batch_norm(op(x, w, *b), weight_shape[0])
    graph = Graph("g", (x, w, *b, *statistics), {"y": Exp()(y * 0.1)})
    weights = weights_of(graph)
    folded = fold_batch_norm(Model(graph, weights))
    folded.graph.verify()
    kinds = [v.op.kind for v in folded.graph.order()]
    assert "BatchNorm" not in kinds and "Sqrt" not in kinds
    assert len(folded.graph.inputs) == 3 and "w" in folded.weights
    data = np.random.default_rng(1).normal(size=(3, *shape[1:]))
    assert folded.weights.keys() == {input_of(v).name for v in folded.graph.by_role("param", "buffer")}
    expected = evaluate(graph.outputs.values(), weights | {"x": data})
    found = evaluate(folded.graph.outputs.values(), dict(folded.weights) | {"x": data})
    np.testing.assert_allclose(found, expected, rtol=1e-10)  # the scale is applied before the sum


def conv_graph(extra: bool) -> Graph:
    x = Input("x", Type((2, 2, 5), DType.f64))()
    w = Input("w", Type((3, 2, 2), DType.f64), "param")()
    y = Conv((1,), ((0, 0),), (1,))(x, w)
    z, statistics = batch_norm(y, 3)
    return Graph("g", (x, w, *statistics), {"z": z, **({"y": y} if extra else {})})


def test_batch_norm_stays_where_the_convolution_has_another_use() -> None:
    graph = conv_graph(extra=True)
    kept = fold_batch_norm(Model(graph, weights_of(graph))).graph
    assert "BatchNorm" in [v.op.kind for v in kept.order()]
    folded = fold_batch_norm(Model(conv_graph(extra=False), weights_of(graph))).graph
    assert "BatchNorm" not in [v.op.kind for v in folded.order()]


def test_batch_norm_stays_after_a_linear_layer_over_another_axis() -> None:
    """The channels of BatchNorm are axis 1; those of a linear layer on a sequence are the last."""
    x, w = Input("x", Type((2, 4, 3), DType.f64))(), Input("w", Type((4, 3), DType.f64), "param")()
    y, statistics = batch_norm(Linear()(x, w), 4)
    graph = Graph("g", (x, w, *statistics), {"y": y})
    weights = weights_of(graph)
    new = fold_batch_norm(Model(graph, weights))
    feeds = weights | {"x": np.random.default_rng(0).normal(size=(2, 4, 3))}
    expected = evaluate(graph.outputs.values(), feeds)
    found = evaluate(new.graph.outputs.values(), feeds | dict(new.weights))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_two_batch_norms_over_shared_statistics_both_fold() -> None:
    x = Input("x", Type((2, 3), DType.f64))()
    ws = [Input(f"w{i}", Type((3, 3), DType.f64), "param")() for i in range(2)]
    y, statistics = batch_norm(Linear()(x, ws[0]), 3)
    z = BatchNorm(1e-3)(Linear()(y, ws[1]), *statistics)
    graph = Graph("g", (x, *ws, *statistics), {"z": z})
    weights = weights_of(graph)
    folded = fold_batch_norm(Model(graph, weights))
    folded.graph.verify()
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 3))}
    expected = evaluate(graph.outputs.values(), weights | feeds)
    np.testing.assert_allclose(
        evaluate(folded.graph.outputs.values(), dict(folded.weights) | feeds), expected, rtol=1e-10
    )
    assert "BatchNorm" not in [v.op.kind for v in folded.graph.order()]


def test_precompute_leaves_what_has_no_parameters_and_what_has_no_size() -> None:
    x, w = Input("x", Type(("N", 3), DType.f64))(), Input("w", Type((3,), DType.f64), "param")()
    line = Iota((100_000, 1), 0, DType.f64)()
    mean = x * (count(x, (0,)) * 2.0) + Sqrt()(w) + Mean((0,))(line)
    model = Model(Graph("g", (x, w), {"y": mean}), {"w": np.array([1.0, 4.0, 9.0])})
    new = precompute(model)
    new.graph.verify()
    np.testing.assert_array_equal(new.weights["w"], [1.0, 2.0, 3.0])
    feeds = {"x": np.ones((2, 3))}
    expected = evaluate(model.graph.outputs.values(), feeds | dict(model.weights))
    np.testing.assert_allclose(evaluate(new.graph.outputs.values(), feeds | dict(new.weights)), expected)
    assert {"Size", "Iota"} <= {v.op.kind for v in new.graph.order()}


def test_precompute_keeps_state_that_is_updated() -> None:
    x, w = Input("x", Type((3,), DType.f64))(), Input("w", Type((3,), DType.f64), "param")()
    s = Input("s", Type((3,), DType.f64), "buffer")()
    graph = Graph("g", (x, w, s), {"y": x + Exp()(w)}, {"s": x * 2.0})
    new = precompute(Model(graph, {"w": np.zeros(3), "s": np.ones(3)}))
    new.graph.verify()
    np.testing.assert_array_equal(new.weights["s"], np.ones(3))
    np.testing.assert_array_equal(new.weights["w"], np.ones(3))


def test_precompute_without_weights_changes_nothing() -> None:
    graph = conv_graph(extra=False)
    model = Model(graph)
    assert precompute(model) is model


# -- the pipeline ------------------------------------------------------------------------------


def small() -> Model:
    x, w = Input("x", Type((2, 3), DType.f64))(), Input("w", Type((4, 3), DType.f64), "param")()
    return Model(Graph("net", (x, w), {"y": Linear()(x, w) + 0.0}), {"w": initialise(w, 0)})


def test_pipeline_records_what_passes_did() -> None:
    model, records = run(small(), [("simplify", simplify), ("again", simplify)])
    assert [r.name for r in records] == ["simplify", "again"]
    assert records[0].nodes == (2, 1)
    assert records[1].nodes == (1, 1)
    assert records[0].flops == (2 * 3 * 8 + 8, 2 * 3 * 8)
    assert records[0].parameters == (12, 12)
    assert all(r.seconds >= 0 for r in records)
    assert [v.op.kind for v in model.graph.order()][-1] == "Linear"


def changed(outputs: Callable[[Graph], dict[str, Value]]) -> Callable[[Model], Model]:
    return lambda m: Model(m.graph.with_outputs(outputs(m.graph)), m.weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(lambda g: {"y": transpose(g.outputs["y"], (1, 0))}), "changed the outputs of graph net"),
        (changed(lambda g: {"z": g.outputs["y"]}), "changed the outputs of graph net"),
        (
            lambda m: Model(Graph("net", m.graph.inputs[1:], {"y": constant(np.zeros((2, 4)))}), {}),
            "changed the inputs",
        ),
        (
            lambda m: Model(Graph("net", m.graph.inputs, m.graph.outputs, {"w": m.graph.input("w")}), {}),
            "changed the updates",
        ),
        (lambda m: Model(Graph("net", m.graph.inputs[:1], m.graph.outputs), {}), "reads w, which is not its input"),
    ],
)
def test_pipeline_refuses_a_pass_that_breaks_the_graph(change: Callable[[Model], Model], message: str) -> None:
    with pytest.raises(IRError, match=message) as caught:
        run(small(), [("simplify", simplify), ("bad", change)])
    (note,) = caught.value.__notes__
    assert "in pass `bad`, on the graph\ngraph net {" in note
    assert "Linear() x w : f64[2, 4]" in note


def test_pipeline_attaches_the_graph_to_any_exception() -> None:
    def fails(model: Model) -> Model:
        raise KeyError("what")

    with pytest.raises(KeyError) as caught:
        run(small(), [("fails", fails)])
    assert caught.value.__notes__[0].startswith("in pass `fails`, on the graph\ngraph net {")


def test_a_rule_that_never_settles_is_an_error() -> None:
    from trine.compiler.ops.elementwise import Neg
    from trine.compiler.rewrite import rule

    @rule(Exp, Neg)
    def forever(v: Value, uses: Any) -> Value:
        return -Exp()(v.inputs[0]) if isinstance(v.op, Exp) else Neg()(-v)

    x = Input("x", Type((2,), DType.f64))()
    with pytest.raises(IRError, match="still change graph g after 3 sweeps"):
        rewrite(Graph("g", (x,), {"y": Exp()(x)}), [forever], sweeps=3)
