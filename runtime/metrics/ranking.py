"""Metrics of rankings: where what is relevant stands among all that a query, or a user, could have been shown."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...compiler.ir import Array
from ...compiler.spec.kinds import Positive
from .core import metric
from .parts import mean


@metric("ranking")
def hit_rate(prediction: Array, target: Array, *, k: Positive = 10) -> float:
    """How often any of what is relevant is among the first k. Queries to which nothing is relevant do not count.

    k: how many.
    Example: hit_rate: 10
    """
    return mean(np.asarray(_placed(prediction, target).within(k).any(1)))


@metric("ranking")
def ranking_recall(prediction: Array, target: Array, *, k: Positive = 10) -> float:
    """The share of what is relevant that is among the first k, on average over queries to which anything is relevant.

    k: how many.
    Example: ranking_recall: 10
    """
    placed = _placed(prediction, target)
    return mean(placed.within(k).sum(1) / placed.relevant)


@metric("ranking")
def ranking_precision(prediction: Array, target: Array, *, k: Positive = 10) -> float:
    """The share of the first k that is relevant, on average over queries to which anything is relevant.

    k: how many; it is the whole of the share, even where there are fewer candidates.
    Example: ranking_precision: 10
    """
    return mean(_placed(prediction, target).within(k).sum(1) / k)


@metric("ranking")
def ndcg(prediction: Array, target: Array, *, k: Positive | None = 10) -> float:
    """What is relevant, counted as 1 / log2(1 + rank), as a share of the best possible.

    It is a mean over the queries to which anything is relevant (Järvelin and Kekäläinen, 2002).

    k: how many of the first count; all for null.
    Example: ndcg: 10
    """
    placed = _placed(prediction, target)
    gains = np.where(placed.within(k), 1 / np.log2(1 + placed.ranks), 0).sum(1)
    best = np.cumsum(1 / np.log2(1 + placed.order))
    return mean(gains / best[placed.reachable(k) - 1])


@metric("ranking")
def mrr(prediction: Array, target: Array, *, k: Positive | None = None) -> float:
    """1 / the rank of the first that is relevant, on average over queries to which anything is relevant.

    k: how many of the first count, a query with nothing relevant among them having 0; all by default.
    Example: mrr
    """
    placed = _placed(prediction, target)
    return mean(np.where(placed.within(k), 1 / placed.ranks, 0).max(1, initial=0))


@metric("ranking")
def map_(prediction: Array, target: Array, *, k: Positive | None = None) -> float:
    """The mean average precision: for each that is relevant, the share of the relevant down to its rank.

    The mean is over what is relevant, then over the queries to which anything is.

    k: how many of the first count; no more than k that are relevant are expected then. All count by default.
    Example: map
    """
    placed = _placed(prediction, target)
    return mean(np.where(placed.within(k), placed.order / placed.ranks, 0).sum(1) / placed.reachable(k))


class _Placed(NamedTuple):
    """The queries to which anything is relevant.

    ranks: those of what is relevant, ascending, then infinite, [queries, most].
    relevant: how many are relevant to each query, [queries].
    """

    ranks: Array
    relevant: Array

    @property
    def order(self) -> Array:
        """1, 2, … [most]: how many that are relevant there are down to each rank."""
        return np.arange(1, self.ranks.shape[1] + 1)

    def within(self, k: int | None) -> Array:
        return np.isfinite(self.ranks) if k is None else self.ranks <= k

    def reachable(self, k: int | None) -> Array:
        """How many that are relevant the first k can hold."""
        return self.relevant if k is None else np.minimum(self.relevant, k)


def _placed(prediction: Array, target: Array) -> _Placed:
    counts = target.astype(bool)
    if (prediction < 1)[counts].any():
        raise ValueError(f"ranks are counted from 1, found {prediction[counts].min()}")
    ranks = np.sort(np.where(counts, prediction, np.inf), axis=1)
    relevant = counts.sum(1)
    return _Placed(ranks[relevant > 0], relevant[relevant > 0])


def ranks_of(scores: Array, relevant: Array, candidates: Array | None = None) -> tuple[Array, Array]:
    """The ranks of what is relevant to each query, and which of these numbers count: both [queries, most].

    Of equal scores, what is relevant comes last, so that a model that gives one score to all gets no credit for it.
    Scores that are nan come after all others.

    scores: how well each item fits each query, [queries, items].
    relevant: which items are relevant, [queries, items].
    candidates: which items take part, [queries, items], all by default; what is relevant always does.
    """
    shapes = {scores.shape, relevant.shape, relevant.shape if candidates is None else candidates.shape}
    if len(shapes) > 1 or scores.ndim != 2:
        shown = " and ".join(str(list(shape)) for shape in sorted(shapes))
        raise ValueError(f"scores, relevant items and candidates need one shape [queries, items], found {shown}")
    relevant = relevant.astype(bool)
    absent = np.zeros_like(relevant) if candidates is None else ~(candidates.astype(bool) | relevant)
    # The last key comes first; nan is sorted behind all numbers.
    order = np.lexsort((relevant, -scores.astype(np.float64), absent), axis=1)
    _, place = np.nonzero(np.take_along_axis(relevant, order, 1))
    found = relevant.sum(1)
    counts = np.arange(found.max(initial=0)) < found[:, None]
    ranks = np.zeros(counts.shape, np.int64)
    ranks[counts] = place + 1
    return ranks, counts
