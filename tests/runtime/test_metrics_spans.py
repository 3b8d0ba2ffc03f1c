"""Metrics of spans, against seqeval."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support
from trine.compiler.spec.registry import METRICS, Call
from trine.runtime import metrics as m

Array = Any
SCORES = {"span_f1": f1_score, "span_precision": precision_score, "span_recall": recall_score}
BIO = ("O", "B-per", "I-per", "B-new-york", "I-new-york", "I-odd")
BIOES = ("O", "B-a", "I-a", "E-a", "S-a", "B-b", "I-b", "E-b", "S-b")
BARE = ("O", "B", "I", "E", "S", "B-", "I-a")
CASES = [(scheme, seed) for scheme in (BIO, BIOES, BARE) for seed in range(40)]


def value(name: str, p: Array, t: Array, about: m.About, **args: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return float(Call(METRICS[name], args)(p, t, about))


def case(names: tuple[str, ...], seed: int) -> tuple[Array, Array, m.About]:
    """Sequences of any tags in any order, of which the prediction gets most, or few, right."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, rng.integers(1, 12))
    n, classes = int(lengths.sum()), len(names)
    t = rng.integers(0, classes, n)
    guess = np.where(rng.random(n) < (0.2, 0.7, 0.9, 1.0)[seed % 4], t, rng.integers(0, classes, n))
    p = rng.random((n, classes)) * 0.5 + np.eye(classes)[guess]
    return p, t, m.About(names, np.repeat(np.arange(len(lengths)) * 3, lengths))


def tags(ids: Array, about: m.About) -> list[list[str]]:
    """Sequences of tags, as seqeval takes them."""
    assert about.rows is not None
    return [[about.names[i] for i in ids[about.rows == row]] for row in np.unique(about.rows)]


@pytest.mark.parametrize(("names", "seed"), CASES)
def test_spans(names: tuple[str, ...], seed: int) -> None:
    p, t, about = case(names, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, score in SCORES.items():
            expected = score(tags(t, about), tags(p.argmax(1), about))
            assert value(name, p, t, about) == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize(("names", "seed"), CASES)
def test_table_of_types(names: tuple[str, ...], seed: int) -> None:
    p, t, about = case(names, seed)
    actual, predicted = tags(t, about), tags(p.argmax(1), about)
    occurring = sorted({(tag[1:].split("-", 1)[-1] or "_") for row in actual + predicted for tag in row if tag != "O"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        columns = precision_recall_fscore_support(actual, predicted, average=None)
    rows = {row["name"]: row for row in m.span_table(p, t, about)}
    assert list(rows) == sorted(rows)
    for name, *expected in zip(occurring, *columns, strict=True):
        row = rows.pop(name)
        assert list(row.values())[1:] == pytest.approx(expected, abs=1e-12)
        for metric, number in zip(("span_precision", "span_recall", "span_f1"), expected, strict=False):
            assert value(metric, p, t, about, type=name) == pytest.approx(number, abs=1e-12)
    assert all(list(row.values())[1:] == [0, 0, 0, 0] for row in rows.values()), "types that never occur"


def one(written: str, truth: str, rows: list[int] | None = None) -> float:
    names = ("O", "B-x", "I-x", "B-y", "I-y")
    p, t = (np.array([names.index(tag) for tag in text.split()]) for text in (written, truth))
    return value("span_f1", np.eye(5)[p], t, m.About(names, None if rows is None else np.array(rows)))


def test_by_hand() -> None:
    assert one("B-x I-x O B-y", "B-x I-x O B-y") == 1
    assert one("I-x I-x O I-y", "B-x I-x O B-y") == 1, "an I- that follows nothing begins a span"
    assert one("B-x B-x", "B-x I-x") == 0, "two spans are not one"
    assert one("B-x I-y", "B-x B-y") == 1, "another type begins another span"
    assert one("B-x I-x I-x", "B-x I-x O") == 0, "too long is wrong"
    assert one("O O", "O O") == 0


def test_a_span_ends_with_its_sequence() -> None:
    assert one("B-x I-x", "B-x B-x", [0, 0]) == 0
    assert one("B-x I-x", "B-x B-x", [0, 1]) == 1


def test_rows_of_several_steps_are_sequences() -> None:
    t = np.random.default_rng(0).integers(0, 3, 400)
    p = np.eye(len(BIO))[np.roll(t, 1)]
    rows = m.About(BIO, np.repeat(np.arange(100), 4))
    whole = value("span_f1", p.reshape(-1, 4, len(BIO)), t.reshape(-1, 4), m.About(BIO))
    assert whole == value("span_f1", p, t, rows) != value("span_f1", p, t, m.About(BIO))


def test_other_names_are_outside() -> None:
    """The same numbers whether a class is called `O` or has a name that is no tag."""
    p, t, about = case(BIO, 5)
    for other in ("person", "Bob", "o", ".", "[other]"):
        names = (other, *BIO[1:])
        assert value("span_f1", p, t, m.About(names, about.rows)) == value("span_f1", p, t, about)


def test_without_spans_there_is_no_value() -> None:
    p, t, about = case(BIO, 1)
    for names in ((), ("cat", "dog", "cow", "O", "Bee", "Indigo")):
        assert math.isnan(value("span_f1", p, t, m.About(names)))
        assert m.span_table(p, t, m.About(names)) == []
    assert math.isnan(value("span_recall", p, t, about, type="loc"))
    with pytest.raises(ValueError, match="6 classes need a name each, found 2 names"):
        value("span_f1", p, t, m.About(("O", "B-x")))


def test_evaluated_with_their_names() -> None:
    p, t, about = case(BIO, 2)
    calls = [Call(METRICS["span_f1"], {"type": kind}) for kind in (None, "per")] + [Call(METRICS["accuracy"], {})]
    found = m.evaluate_metrics(calls, p, t, "classes", about)
    assert list(found) == ["span_f1", "span_f1(type=per)", "accuracy"]
    assert found["span_f1"] == value("span_f1", p, t, about)
    low, high = m.intervals(calls[:1], p, t, "classes", 0, about)["span_f1"]
    assert 0 <= low <= found["span_f1"] <= high <= 1
