"""Metrics of rankings, against scikit-learn and against plain loops over sorted items."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from trine.compiler.spec.kinds import params_of
from trine.compiler.spec.registry import METRICS, Call
from trine.runtime import metrics as m

Array = Any
NAMES = ("hit_rate", "ranking_recall", "ranking_precision", "ndcg", "mrr", "map")
CASES = range(60)


def value(name: str, scores: Array, relevant: Array, candidates: Array | None = None, **args: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return float(Call(METRICS[name], args)(*m.ranks_of(scores, relevant, candidates)))


def case(seed: int, ties: bool = False) -> tuple[Array, Array]:
    """Scores and relevance [queries, items]; some queries have nothing relevant."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 20)), int(rng.integers(2, 30)))
    scores = (
        rng.integers(0, 4, shape).astype(float) if ties else rng.permuted(np.arange(shape[0] * shape[1])).reshape(shape)
    )
    return scores, rng.random(shape) < (0.05, 0.3, 0.9)[seed % 3]


def ordered(scores: Array, relevant: Array, takes_part: Array) -> list[bool]:
    """Of one query, whether each item is relevant, best first; of equals, what is relevant last."""
    items = [i for i in range(len(scores)) if takes_part[i] or relevant[i]]
    items.sort(key=lambda i: (math.isnan(scores[i]), 0 if math.isnan(scores[i]) else -scores[i], relevant[i]))
    return [bool(relevant[i]) for i in items]


def by_loops(name: str, hits: list[bool], k: int | None) -> float:
    total = sum(hits)
    shown = hits[:k]
    places = [place for place, hit in enumerate(shown, 1) if hit]
    reachable = min(total, k or total)
    if name == "hit_rate":
        return float(bool(places))
    if name == "ranking_recall":
        return len(places) / total
    if name == "ranking_precision":
        assert k is not None
        return len(places) / k
    if name == "mrr":
        return 1 / places[0] if places else 0.0
    if name == "map":
        return sum(sum(hits[:place]) / place for place in places) / reachable
    gain = sum(1 / math.log2(place + 1) for place in places)
    return gain / sum(1 / math.log2(place + 1) for place in range(1, reachable + 1))


@pytest.mark.parametrize("k", [1, 3, 10, 50, None])
@pytest.mark.parametrize("name", NAMES)
def test_by_loops(name: str, k: int | None) -> None:
    if k is None and name in ("hit_rate", "ranking_recall", "ranking_precision"):
        return
    for seed in CASES:
        scores, relevant = case(seed, ties=seed % 2 == 0)
        rng = np.random.default_rng(seed)
        candidates = rng.random(scores.shape) < 0.7 if seed % 4 < 2 else None
        if seed % 5 == 0:
            scores = np.where(rng.random(scores.shape) < 0.2, np.nan, scores)
        takes_part = np.ones_like(relevant) if candidates is None else candidates
        rows = [ordered(*row) for row in zip(scores, relevant, takes_part, strict=True) if row[1].any()]
        expected = np.mean([by_loops(name, row, k) for row in rows]) if rows else np.nan
        assert value(name, scores, relevant, candidates, k=k) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", CASES)
def test_against_scikit_learn(seed: int) -> None:
    scores, relevant = case(seed)
    some = relevant.any(1)
    if not some.any():
        assert all(math.isnan(value(name, scores, relevant)) for name in NAMES)
        return
    y, s = relevant[some], scores[some]
    for k in (1, 4, 10, None):
        expected = sk.ndcg_score(y, s, k=k, ignore_ties=True)
        assert value("ndcg", scores, relevant, k=k) == pytest.approx(expected, abs=1e-12)
    expected = np.mean([sk.average_precision_score(*row) for row in zip(y, s, strict=True)])
    assert value("map", scores, relevant) == pytest.approx(expected, abs=1e-12)
    assert value("map", scores, relevant) == pytest.approx(sk.label_ranking_average_precision_score(y, s), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_one_relevant_item_is_a_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, ids = rng.random((40, 12)), rng.integers(0, 12, 40)
    relevant = np.eye(12, dtype=bool)[ids]
    for k in (2, 5):
        expected = sk.top_k_accuracy_score(ids, scores, k=k, labels=np.arange(12))
        assert value("hit_rate", scores, relevant, k=k) == pytest.approx(expected)
        assert value("ranking_recall", scores, relevant, k=k) == pytest.approx(expected)
    assert value("mrr", scores, relevant) == pytest.approx(value("map", scores, relevant))


def test_by_hand() -> None:
    """Relevant at 1 and 4, and at 3; a third query has nothing relevant and does not count."""
    ranks = np.array([[4, 1], [3, 0], [0, 0]])
    counts = ranks > 0
    expected = {
        ("hit_rate", 2): 1 / 2,
        ("ranking_recall", 3): (1 / 2 + 1) / 2,
        ("ranking_precision", 4): (2 / 4 + 1 / 4) / 2,
        ("mrr", None): (1 + 1 / 3) / 2,
        ("mrr", 2): 1 / 2,
        ("map", None): ((1 + 2 / 4) / 2 + 1 / 3) / 2,
        ("map", 1): 1 / 2,
        ("ndcg", 1): 1 / 2,
        ("ndcg", 3): (1 / (1 + 1 / math.log2(3)) + 1 / 2) / 2,
    }
    for (name, k), number in expected.items():
        assert Call(METRICS[name], {"k": k})(ranks, counts) == pytest.approx(number), (name, k)


def test_the_order_of_what_is_relevant_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    ranks, counts = m.ranks_of(*case(4))
    columns = rng.permutation(ranks.shape[1])
    garbage = np.where(counts, ranks, rng.integers(-5, 5, ranks.shape))
    for name in NAMES:
        call = Call(METRICS[name], {})
        assert call(garbage[:, columns], counts[:, columns].astype(np.int64)) == call(ranks, counts)


def test_no_credit_for_a_constant_model() -> None:
    ranks, counts = m.ranks_of(np.zeros((1, 6)), np.array([[1, 0, 0, 1, 0, 0]], bool))
    assert ranks.tolist() == [[5, 6]]
    assert counts.all()


def test_ranks_of() -> None:
    scores = np.array([[0.9, 0.5, np.nan, 0.1], [np.nan, -np.inf, 3, 4], [1, 2, 3, 4]])
    relevant = np.array([[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    ranks, counts = m.ranks_of(scores, relevant)
    assert ranks.tolist() == [[2, 3], [3, 4], [0, 0]]
    assert counts.tolist() == [[True, True], [True, True], [False, False]]
    candidates = np.array([[0, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]], bool)
    ranks, again = m.ranks_of(scores, relevant, candidates)
    assert ranks.tolist() == [[1, 2], [2, 3], [0, 0]], "what is relevant takes part always"
    assert (again == counts).all()
    assert ranks.dtype.kind == "i"
    ranks, counts = m.ranks_of(scores, np.zeros_like(relevant))
    assert ranks.shape == counts.shape == (3, 0)
    assert math.isnan(Call(METRICS["mrr"], {})(ranks, counts))


def test_wrong_shapes_and_ranks() -> None:
    with pytest.raises(ValueError, match=r"need one shape \[queries, items\], found \[2, 2\] and \[2, 3\]"):
        m.ranks_of(np.zeros((2, 3)), np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match=r"found \[3\]"):
        m.ranks_of(np.zeros(3), np.zeros(3, bool))
    with pytest.raises(ValueError, match="ranks are counted from 1, found 0"):
        Call(METRICS["mrr"], {})(np.array([[0, 1]]), np.array([[True, True]]))


def test_k_comes_first() -> None:
    for name in NAMES:
        assert params_of(METRICS[name])[0].name == "k"
        assert m.direction(f"valid/{name}(k=3)") == "max"
    assert METRICS["map"].function.__name__ == "map_"


def test_evaluated_and_drawn() -> None:
    ranks, counts = m.ranks_of(*case(7))
    calls = [Call(METRICS["ndcg"], {"k": 5}), Call(METRICS["ndcg"], {"k": None})]
    found = m.evaluate_metrics(calls, ranks, counts, "ranking")
    assert list(found) == ["ndcg", "ndcg(k=None)"]
    low, high = m.intervals(calls[:1], ranks, counts, "ranking", 0)["ndcg"]
    assert low <= found["ndcg"] <= high
    with pytest.raises(ValueError, match="`mrr` is for ranking, the network predicts values"):
        m.evaluate_metrics([Call(METRICS["mrr"], {})], ranks, counts, "values")
