"""Metrics, against scikit-learn on random cases and against plain loops."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.stats import binom, bootstrap
from trine.compiler.spec.diagnostics import Report
from trine.compiler.spec.expressions import Scope
from trine.compiler.spec.kinds import CallKind, Context, argument_docs, params_of
from trine.compiler.spec.registry import METRICS, Call
from trine.compiler.spec.source import read_text
from trine.runtime import metrics as m

Array = Any
CASES = range(70)


def call(name: str, **args: Any) -> Call:
    return Call(METRICS[name], args)


def value(name: str, p: Array, t: Array, **args: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return float(call(name, **args)(p, t))


def quiet(function: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
    """scikit-learn's number, its warnings aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(function(*args, **kwargs))


def close(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, abs=1e-9, rel=1e-9, nan_ok=True)


def class_case(seed: int, classes: int | None = None) -> tuple[Array, Array]:
    """Probabilities [n, classes] and ids [n]: some with ties, some with absent classes, some with one class."""
    rng = np.random.default_rng(seed)
    count = classes or int(rng.integers(2, 7))
    n = int(rng.integers(2, 80))
    scores = rng.random((n, count)) + 1e-3
    if seed % 3 == 0:
        scores = rng.integers(1, 4, (n, count)).astype(float)
    used = 1 if seed % 7 == 0 else max(1, count - seed % 3)
    return scores / scores.sum(1, keepdims=True), rng.permutation(count)[rng.integers(0, used, n)]


def label_case(seed: int, outputs: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 60)), *([outputs] if outputs else []))
    p = rng.random(shape) if seed % 2 else rng.integers(0, 5, shape) / 4
    return p, (rng.random(shape) < [0.5, 0.1, 0.0, 1.0, 0.9][seed % 5]).astype(np.float32)


def value_case(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 60)), *([int(rng.integers(1, 5))] if seed % 2 else []))
    t = rng.normal(3, 2, shape)
    if seed % 5 == 0:
        t[..., :] = t[:1]
    return (t.copy() if seed % 10 == 0 else t + rng.normal(0, 1, shape)), t


DECISIONS = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "matthews": sk.matthews_corrcoef,
    "cohen_kappa": sk.cohen_kappa_score,
    "macro_f1": lambda t, y: sk.f1_score(t, y, average="macro"),
    "weighted_f1": lambda t, y: sk.f1_score(t, y, average="weighted"),
    "micro_f1": lambda t, y: sk.f1_score(t, y, average="micro"),
    "macro_precision": lambda t, y: sk.precision_score(t, y, average="macro"),
    "macro_recall": lambda t, y: sk.recall_score(t, y, average="macro"),
}
BINARY = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
VALUES = {
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
    "median_absolute_error": sk.median_absolute_error,
    "mape": sk.mean_absolute_percentage_error,
    "r2": sk.r2_score,
    "explained_variance": sk.explained_variance_score,
    "max_error": lambda t, y: sk.max_error(t.ravel(), y.ravel()),
}


@pytest.mark.parametrize("seed", CASES)
def test_decisions_on_classes(seed: int) -> None:
    p, t = class_case(seed)
    for name, reference in DECISIONS.items():
        close(value(name, p, t), quiet(reference, t, p.argmax(1)))


@pytest.mark.parametrize("seed", CASES)
def test_decisions_on_labels(seed: int) -> None:
    p, t = label_case(seed)
    for name, reference in {**DECISIONS, **BINARY}.items():
        close(value(name, p, t), quiet(reference, t, p >= 0.5))


@pytest.mark.parametrize("seed", CASES)
def test_decisions_on_two_classes(seed: int) -> None:
    p, t = class_case(seed, 2)
    for name, reference in BINARY.items():
        close(value(name, p, t), quiet(reference, t, p.argmax(1)))


@pytest.mark.parametrize("seed", CASES)
def test_several_labels(seed: int) -> None:
    p, t = label_case(seed, 3)
    for name in ("macro_f1", "weighted_f1", "micro_f1", "macro_precision", "macro_recall"):
        close(value(name, p, t), quiet(DECISIONS[name], t, p >= 0.5))
    for name, reference in BINARY.items():
        close(value(name, p, t), quiet(reference, t.ravel(), p.ravel() >= 0.5))
    close(value("accuracy", p, t), float((t == (p >= 0.5)).mean()))
    areas = [quiet(sk.roc_auc_score, t[:, i], p[:, i]) for i in range(3) if 0 < t[:, i].mean() < 1]
    close(value("auc", p, t), np.mean(areas) if areas else np.nan)


@pytest.mark.parametrize("seed", CASES)
def test_rankings_of_labels(seed: int) -> None:
    p, t = label_case(seed)
    close(value("auc", p, t), quiet(sk.roc_auc_score, t, p))
    close(value("average_precision", p, t), quiet(sk.average_precision_score, t, p) if t.any() else np.nan)


@pytest.mark.parametrize("seed", CASES)
def test_rankings_of_classes(seed: int) -> None:
    p, t = class_case(seed)
    columns = [1] if p.shape[1] == 2 else list(range(p.shape[1]))
    areas = [quiet(sk.roc_auc_score, t == c, p[:, c]) for c in columns if 0 < (t == c).mean() < 1]
    close(value("auc", p, t), np.mean(areas) if areas else np.nan)
    steps = [quiet(sk.average_precision_score, t == c, p[:, c]) for c in columns if (t == c).any()]
    close(value("average_precision", p, t), np.mean(steps) if steps else np.nan)


@pytest.mark.parametrize("seed", range(40))
def test_one_versus_rest_when_all_classes_occur(seed: int) -> None:
    p, t = class_case(seed, 4)
    t[:2] = [0, 1]
    t, p = np.append(t, [2, 3]), np.vstack([p, np.eye(4)[:2]])
    close(value("auc", p, t), quiet(sk.roc_auc_score, t, p, multi_class="ovr"))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(40))
def test_probabilities_of_classes(seed: int, kind: type) -> None:
    p, t = class_case(seed)
    p[0] = np.eye(p.shape[1])[(t[0] + 1) % p.shape[1]]
    p = p.astype(kind)
    known = list(range(p.shape[1]))
    expected = quiet(sk.log_loss, t, p, labels=known)
    assert value("log_loss", p, t) == pytest.approx(expected, abs=1e-9, rel=1e-6 if kind is np.float32 else 1e-9)
    p = p.astype(np.float64) / p.astype(np.float64).sum(1, keepdims=True)
    expected = quiet(sk.brier_score_loss, t, p[:, 1] if len(known) == 2 else p, labels=known)
    close(value("brier", p, t), expected)


@pytest.mark.parametrize("seed", CASES)
def test_probabilities_of_labels(seed: int) -> None:
    p, t = label_case(seed)
    close(value("log_loss", p, t), quiet(sk.log_loss, t, p, labels=[0, 1]))
    close(value("brier", p, t), quiet(sk.brier_score_loss, t, p, labels=[0, 1], pos_label=1))


def test_soft_labels_keep_their_probability() -> None:
    p, t = np.array([0.2, 0.9]), np.array([0.3, 0.6])
    by_hand = -np.mean([0.3 * math.log(0.2) + 0.7 * math.log(0.8), 0.6 * math.log(0.9) + 0.4 * math.log(0.1)])
    close(value("log_loss", p, t), by_hand)
    close(value("brier", p, t), (0.01 + 0.09) / 2)


@pytest.mark.parametrize("seed", CASES)
def test_values(seed: int) -> None:
    p, t = value_case(seed)
    for name, reference in VALUES.items():
        close(value(name, p, t), quiet(reference, t, p))


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("seed", range(60))
def test_top_k(seed: int, k: int) -> None:
    p, t = class_case(seed)
    hits = [t[i] in sorted(range(p.shape[1]), key=lambda c: (-p[i, c], c))[:k] for i in range(len(t))]
    close(value("top_k", p, t, k=k), float(np.mean(hits)))
    if seed % 3 and p.shape[1] > 2:
        expected = quiet(sk.top_k_accuracy_score, t, p, k=k, labels=list(range(p.shape[1])))
        close(value("top_k", p, t, k=k), expected)
    if k == 1:
        close(value("top_k", p, t, k=1), value("accuracy", p, t))


@pytest.mark.parametrize("bins", [1, 2, 4, 10, 15])
@pytest.mark.parametrize("seed", range(40))
def test_calibration_error(seed: int, bins: int) -> None:
    for p, t in (class_case(seed), label_case(seed)):
        if p.ndim == 2:
            confidence, right = p.max(1), p.argmax(1) == t
        else:
            confidence, right = np.maximum(p, 1 - p), (p >= 0.5) == (t >= 0.5)
        edges = np.linspace(0, 1, bins + 1)
        expected = 0.0
        for low, high in itertools.pairwise(edges):
            inside = (confidence > low) & (confidence <= high)
            if inside.any():
                expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        close(value("calibration_error", p, t, bins=bins), expected)


def test_reliability_counts_every_row() -> None:
    p, t = class_case(5)
    found = m.reliability(p, t, 10)
    assert found.count.sum() == len(t)
    assert np.isnan(found.accuracy[found.count == 0]).all()
    assert (np.nan_to_num(found.confidence) <= np.linspace(0.1, 1, 10) + 1e-12).all()
    assert json.loads(json.dumps(found.table(), allow_nan=False))["count"] == found.count.tolist()


@pytest.mark.parametrize("seed", range(40))
def test_tables(seed: int) -> None:
    p, t = class_case(seed)
    known = list(range(p.shape[1]))
    matrix = m.confusion_matrix(p, t)
    assert matrix.dtype.kind == "i"
    assert (matrix == sk.confusion_matrix(t, p.argmax(1), labels=known)).all()
    assert m.confusion_matrix(p, t, len(known) + 2).shape == (len(known) + 2,) * 2
    rows = m.per_class(p, t, [f"c{i}" for i in known])
    expected = sk.precision_recall_fscore_support(t, p.argmax(1), labels=known, zero_division=0)
    for i, row in enumerate(rows):
        assert list(row.values()) == [f"c{i}", *(pytest.approx(column[i]) for column in expected)]


def test_table_of_several_labels() -> None:
    p, t = label_case(1, 3)
    expected = sk.precision_recall_fscore_support(t, p >= 0.5, zero_division=0)
    for i, row in enumerate(m.per_class(p, t)):
        assert list(row.values()) == [str(i), *(pytest.approx(column[i]) for column in expected)]


def test_sequences_are_rows() -> None:
    p, t = class_case(1, 4)
    p, t = p[: len(p) // 2 * 2], t[: len(t) // 2 * 2]
    for name in (*DECISIONS, "auc", "log_loss", "brier", "calibration_error"):
        close(value(name, p.reshape(2, -1, 4), t.reshape(2, -1)), value(name, p, t))


def samples(task: str) -> tuple[Array, Array]:
    counts = np.array([[True, True, False], [True, True, True], [True, False, False]])
    words = np.array(["a cat sat on it", "two dogs ran", ""], object)
    return {
        "classes": class_case(3, 2),
        "labels": label_case(5),
        "values": value_case(1),
        "ranking": (np.array([[4.0, 2, 0], [1, 5, 3], [9, 0, 0]]), counts),
        "text": (np.array(["a cat sat here", "dogs, two", "x"], object), words),
    }[task]


def best(task: str) -> Array:
    """The best prediction for the targets of `samples`."""
    _, t = samples(task)
    if task == "classes":
        return np.eye(2)[t]
    return np.cumsum(t, 1) * 1.0 if task == "ranking" else t


ABOUT = m.About(("O", "B-cat"))


def told(name: str, p: Array, t: Array) -> float:
    return value(name, p, t) if name not in m.core.TOLD else float(call(name)(p, t, ABOUT))


@pytest.mark.parametrize("name", sorted(m.TASKS))
def test_every_metric(name: str) -> None:
    entry = METRICS[name]
    assert "Example: " in entry.doc
    docs = argument_docs(entry.function.__doc__)
    assert all(p.name in docs for p in params_of(entry))
    assert list(inspect.signature(entry.function).parameters)[:2] == ["prediction", "target"]
    better = {task: samples(task) for task in m.TASKS[name]}
    for p, t in better.values():
        assert not math.isnan(told(name, p, t))
        assert math.isnan(told(name, p[:0], t[:0]))
        assert math.isnan(told(name, np.full_like(p, np.nan), t))
        told(name, p[:1], t[:1])
        with pytest.raises(ValueError, match="cannot compare"):
            told(name, p, t[:-1])


@pytest.mark.parametrize("name", sorted(m.TASKS))
def test_a_perfect_prediction_is_the_best(name: str) -> None:
    for task in m.TASKS[name]:
        p, t = samples(task)
        ours, theirs = told(name, best(task), t), told(name, p, t)
        assert ours >= theirs if m.direction(name) == "max" else ours <= theirs


def test_a_column_is_not_compared_with_a_row() -> None:
    with pytest.raises(ValueError, match=r"`mse` cannot compare predictions \[9, 1\] with targets \[9\]"):
        value("mse", np.zeros((9, 1)), np.zeros(9))


@pytest.mark.parametrize("columns", [(), (3,)])
@pytest.mark.parametrize("name", ["mse", "rmse", "mae"])
def test_errors_by_horizon(name: str, columns: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    p, t = rng.normal(size=(2, 20, 4, *columns))
    for step in range(1, 5):
        close(value(name, p, t, horizon=step), quiet(VALUES[name], t[:, step - 1], p[:, step - 1]))
    close(value(name, p, t, horizon=None), quiet(VALUES[name], t.reshape(20, -1), p.reshape(20, -1)))
    assert math.isnan(value(name, p, t, horizon=5))


def test_a_single_number_is_one_step_ahead() -> None:
    p, t = value_case(2)
    close(value("mae", p, t, horizon=1), value("mae", p, t))
    assert math.isnan(value("mae", p, t, horizon=2))
    assert m.by_horizon(p, t) == m.by_horizon(p[:, None], t[:, None]) == []


def test_table_by_horizon() -> None:
    p, t = np.random.default_rng(1).normal(size=(2, 30, 3))
    rows = m.by_horizon(p, t)
    assert [row["step"] for row in rows] == [1, 2, 3]
    for step, row in enumerate(rows):
        close(row["mae"], sk.mean_absolute_error(t[:, step], p[:, step]))
        close(row["rmse"], sk.root_mean_squared_error(t[:, step], p[:, step]))


def test_a_ranking_has_two_axes_and_a_text_one() -> None:
    for name, shape in {"ndcg": (3,), "map": (3, 2, 2), "bleu": (3, 1)}.items():
        with pytest.raises(ValueError, match="cannot compare"):
            value(name, np.ones(shape), np.ones(shape))


def test_ids_out_of_range() -> None:
    with pytest.raises(ValueError, match="class ids must be from 0 to 2, found 0 to 3"):
        value("accuracy", np.zeros((2, 3)), np.array([0, 3]))


def test_more_than_two_classes_have_no_f1() -> None:
    p, t = class_case(1, 3)
    assert math.isnan(value("f1", p, t))
    assert m.check_metric(call("f1"), "classes", "cross_entropy", 3) == (
        "metric `f1` is for two classes, there are 3: use `macro_f1`"
    )
    assert m.check_metric(call("f1"), "classes", "cross_entropy", 2) is None


@pytest.mark.parametrize(
    ("written", "name", "args"),
    [
        ("mae", "mae", {"horizon": None}),
        ("mae: 3", "mae", {"horizon": 3}),
        ("ndcg: {k: null}", "ndcg", {"k": None}),
        ("map: 5", "map", {"k": 5}),
        ("hit_rate", "hit_rate", {"k": 10}),
        ("span_f1: person", "span_f1", {"type": "person"}),
        ("span_recall: {type: 7}", "span_recall", {"type": "7"}),
        ("bleu: true", "bleu", {"lower": True}),
        ("rouge: rouge2", "rouge", {"kind": "rouge2"}),
    ],
)
def test_metrics_as_written(written: str, name: str, args: dict[str, Any]) -> None:
    report = Report()
    node = read_text(written, "spec.yaml", report)
    assert node is not None
    found = CallKind(METRICS).read(node, Context(Scope(), report))
    assert not report.diagnostics
    assert (found.name, found.args) == (name, args)


def test_check_metric() -> None:
    assert m.check_metric(call("bleu"), "values", "mse") == "metric `bleu` is for text, the loss `mse` predicts values"
    assert m.check_metric(call("accuracy"), "classes") is None
    assert m.check_metric(call("auc"), "values", "mse") == (
        "metric `auc` is for classes and labels, the loss `mse` predicts values"
    )
    assert m.check_metric(call("r2"), "labels") == "metric `r2` is for values, the network predicts labels"


def test_direction() -> None:
    for name in ("loss", "valid/loss", "valid/loss/price", "rmse", "valid/log_loss", "test/brier@fold=1"):
        assert m.direction(name) == "min"
    for name in ("word_error_rate", "valid/character_error_rate", "mae(horizon=3)"):
        assert m.direction(name) == "min"
    for name in ("accuracy", "valid/auc", "top_k(k=3)", "map", "ndcg(k=5)", "span_f1(type=cat)", "test/bleu", "chrf"):
        assert m.direction(name) == "max"
    with pytest.raises(ValueError, match="there is no metric `accuracie`"):
        m.direction("valid/accuracie")


def test_evaluate_metrics() -> None:
    p, t = class_case(1, 6)
    calls = [call("accuracy"), call("top_k", k=2), call("top_k", k=3)]
    found = m.evaluate_metrics(calls, p, t, "classes")
    assert list(found) == ["accuracy", "top_k", "top_k(k=3)"]
    assert found["accuracy"] <= found["top_k"] <= found["top_k(k=3)"]
    with pytest.raises(ValueError, match="`mse` is for values"):
        m.evaluate_metrics([call("mse")], p, t, "classes")


def test_slices() -> None:
    p, t = class_case(2, 3)
    p, t = np.tile(p, (40, 1))[:100], np.tile(t, 40)[:100]
    groups = np.array(["b"] * 71 + ["a"] * 29)
    rows = m.slices(p, t, groups, [call("accuracy"), call("auc")], "classes")
    assert [(r["value"], r["count"], r["small"]) for r in rows] == [("a", 29, True), ("b", 71, False)]
    close(rows[0]["metrics"]["accuracy"], value("accuracy", p[71:], t[71:]))
    with pytest.raises(ValueError, match="one group each"):
        m.slices(p, t, groups[:5], [], "classes")


def interval(name: str, p: Array, t: Array, seed: int, rounds: int = 200) -> tuple[float, float]:
    return m.bootstrap(lambda p, t, _: call(name)(p, t), p, t, m.draws_of(len(p), seed, rounds))


def test_bootstrap_repeats_and_encloses() -> None:
    p, t = label_case(7)
    low, high = interval("accuracy", p, t, seed=1)
    assert low <= value("accuracy", p, t) <= high
    assert (low, high) == interval("accuracy", p, t, seed=1)
    assert (low, high) != interval("accuracy", p, t, seed=2)
    assert np.isnan(interval("accuracy", p[:1], t[:1], seed=1)).all()
    assert np.isnan(interval("auc", p, np.zeros_like(t), seed=1)).all()
    assert m.intervals([call("f1")], p, t, "labels", 1) == m.intervals([call("f1")], p, t, "labels", 1)


def test_bootstrap_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        t = rng.normal(0, 1, 150)
        low, high = interval("mae", np.zeros(150), t, seed, rounds=100)
        covered += low <= math.sqrt(2 / math.pi) <= high
    assert 0.90 <= covered / 200 <= 0.98


def test_wilson_is_that_of_the_literature() -> None:
    """Newcombe (1998), table I: method 3."""
    for hits, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert m.wilson(hits / count, count) == pytest.approx((low, high), abs=6e-5)
    t = np.ones(20)
    assert m.intervals([call("accuracy")], t * 0.9, t, "labels", 0)["accuracy"] == pytest.approx((0.8389, 1), abs=6e-5)


def coverage(draw: Callable[[np.random.Generator], tuple[Array, Array]], name: str, task: str, truth: float) -> float:
    """How often the interval of a metric holds the truth, in 600 samples."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(600):
        low, high = m.intervals([call(name)], *draw(rng), task, seed)[name]
        held += low <= truth <= high
    return held / 600


@pytest.mark.parametrize("count", [30, 100])
def test_intervals_of_proportions_cover(count: int) -> None:
    """Exactly, over all counts of hits: at each share near 95 %, and on average at it."""
    shares = np.linspace(0.5, 0.97, 100)
    bounds = [m.wilson(hits / count, count) for hits in range(count + 1)]
    found = [
        sum(binom.pmf(hits, count, share) for hits, (low, high) in enumerate(bounds) if low <= share <= high)
        for share in shares
    ]
    assert 0.945 <= np.mean(found) <= 0.96
    assert min(found) > 0.88


@pytest.mark.parametrize(("name", "count", "truth"), [("mae", 30, math.sqrt(2 / math.pi)), ("mse", 60, 1.0)])
def test_intervals_of_means_cover(name: str, count: int, truth: float) -> None:
    found = coverage(lambda rng: (np.zeros(count), rng.normal(0, 1, count)), name, "values", truth)
    assert 0.925 <= found <= 0.975


def test_intervals_of_other_metrics_are_accelerated() -> None:
    """As SciPy has them, which draws otherwise."""
    rng = np.random.default_rng(3)
    t = (rng.random(80) < 0.4) * 1.0
    p = np.clip(t * 0.3 + rng.random(80) * 0.7, 0, 1)
    found = m.intervals([call("f1")], p, t, "labels", 0)["f1"]

    def f1(rows: Array, axis: int = -1) -> float:
        return value("f1", p[rows], t[rows])

    exact = bootstrap((np.arange(80),), f1, n_resamples=2000, vectorized=False, method="BCa", rng=rng)
    assert found == pytest.approx(tuple(exact.confidence_interval), abs=0.025)


def test_steps_of_a_row_are_drawn_together() -> None:
    """Rows of equal steps: an interval over steps would be five times too narrow."""
    rows = np.repeat(np.arange(60), 25)
    t = np.repeat(np.random.default_rng(0).integers(0, 2, 60), 25)
    p = np.full(len(t), 1.0)
    apart = m.intervals([call("accuracy")], p, t, "labels", 0)["accuracy"]
    together = m.intervals([call("accuracy")], p, t, "labels", 0, m.About(rows=rows))["accuracy"]
    assert 4 < (together[1] - together[0]) / (apart[1] - apart[0]) < 6
    for draw in m.draws_of(rows, 1, 20):
        assert len(draw) == len(rows)
        assert (np.bincount(rows[draw]) % 25 == 0).all()
