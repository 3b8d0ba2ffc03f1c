"""What reports show: confusion, classes, calibration, slices, intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypedDict

import numpy as np

from ...compiler.initialisers import generator
from ...compiler.ir import Array
from ...compiler.spec.registry import Call
from .core import NAN, NOTHING, PROPORTIONS, SMALL, About, evaluate_metrics, measure
from .parts import (
    class_counts,
    has_several,
    joint_counts,
    label_counts,
)


def confusion_matrix(prediction: Array, target: Array, classes: int | None = None) -> Array:
    """How often each class [row] was taken for each class [column], [classes, classes].

    classes: how many there are, where more than the predictions show.
    """
    matrix = joint_counts(np.asarray(prediction), np.asarray(target))
    missing = max(0, (classes or 0) - len(matrix))
    return np.pad(matrix, (0, missing))


class ClassRow(TypedDict):
    """One line of the table by class. `support` is how often the class is true."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def per_class(prediction: Array, target: Array, names: Sequence[str] | None = None) -> list[ClassRow]:
    """Precision, recall, F1 and support of each class, or of each label where a row has several.

    names: what the classes, or labels, are called; their numbers otherwise.
    """
    p, t = np.asarray(prediction), np.asarray(target)
    counts = label_counts(p, t) if has_several(p, t) else class_counts(p, t)
    labels = [str(name) for name in names] if names else [str(i) for i in range(len(counts.actual))]
    columns = (counts.precision, counts.recall, counts.f1, counts.actual)
    return [
        ClassRow(name=name, precision=float(a), recall=float(b), f1=float(c), support=int(n))
        for name, a, b, c, n in zip(labels, *columns, strict=True)
    ]


class SliceRow(TypedDict):
    """The metrics of the rows that share a value; `small` says that they are too few to rely on."""

    value: str
    count: int
    small: bool
    metrics: dict[str, float]


def slices(
    prediction: Array, target: Array, groups: Array, calls: Sequence[Call], task: str, about: About = NOTHING
) -> list[SliceRow]:
    """The metrics of each group of rows, in the order of the groups' names.

    groups: the name of each row's group, [n].
    """
    p, t, names = np.asarray(prediction), np.asarray(target), np.asarray(groups)
    if names.shape != (len(p),):
        raise ValueError(f"{len(p)} rows need one group each, found groups {list(names.shape)}")
    rows: list[SliceRow] = []
    for value in np.unique(names):
        own = names == value
        count = int(own.sum())
        found = evaluate_metrics(calls, p[own], t[own], task, about.take(own))
        rows.append(SliceRow(value=str(value), count=count, small=count < SMALL, metrics=found))
    return rows


Draws = Iterable[Array]


# How often rows are drawn again.
ROUNDS = 1000


def draws_of(rows: Array | int, seed: int, rounds: int = ROUNDS) -> Draws:
    """Which predictions are in each of `rounds` samples drawn with replacement, one sample after the other.

    rows: how many predictions there are; or of which row each is: rows are drawn then, with all of their predictions,
        because the steps of a sequence do not err apart from each other.
    seed: what they are drawn from; the same seed gives the same draws.
    """
    rng = generator(seed, "bootstrap")
    if isinstance(rows, int):
        yield from (rng.integers(0, rows, rows) for _ in range(rounds if rows > 1 else 0))
        return
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    pieces = np.split(np.arange(len(rows)), starts[1:])
    for _ in range(rounds if len(starts) > 1 else 0):
        yield np.concatenate([pieces[i] for i in rng.integers(0, len(pieces), len(pieces))])


def bootstrap(
    metric: Callable[[Array, Array, Array], float],
    prediction: Array,
    target: Array,
    draws: Draws,
    left_out: Iterable[Array] = (),
) -> tuple[float, float]:
    """A 95 % interval of a metric, over rows drawn again with replacement (Efron, 1979).

    With `left_out`, bias-corrected and accelerated (BCa; Efron, 1987); else percentiles. Draws for which the metric
    has no value are left out.

    metric: called with the predictions and targets of a draw, and with the draw.
    draws: see `draws_of`. left_out: draws of all rows but a few, each time others: see `without_each`.
    """
    p, t = np.asarray(prediction), np.asarray(target)

    def values_of(draws: Iterable[Array]) -> Array:
        values = np.array([metric(p[rows], t[rows], rows) for rows in draws], np.float64)
        return values[np.isfinite(values)]

    values = values_of(draws)
    if not values.size:
        return NAN, NAN
    shares = np.array([0.025, 0.975])
    jackknife = values_of(left_out)
    if len(jackknife) > 1 and np.ptp(jackknife) > 0:
        whole = np.arange(len(p))
        shares = _accelerated(values, metric(p[whole], t[whole], whole), jackknife, shares)
    low, high = np.quantile(values, shares)
    return float(low), float(high)


def _accelerated(values: Array, value: float, jackknife: Array, shares: Array) -> Array:
    """The shares of draws that bound a BCa interval."""
    from scipy.special import ndtr, ndtri  # slow to import, and most commands judge nothing

    below = (np.sum(values < value) + 0.5 * np.sum(values == value)) / len(values)
    bias = ndtri(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
    apart = jackknife.mean() - jackknife
    acceleration = np.sum(apart**3) / (6 * np.sum(apart**2) ** 1.5)
    z = bias + ndtri(shares)
    found: Array = ndtr(bias + z / np.maximum(1 - acceleration * z, 1e-6))
    return found


def without_each(rows: Array | int, most: int = 100) -> Iterator[Array]:
    """All predictions but those of a row, or of every so many rows where there are more than `most`."""
    of = np.arange(rows) if isinstance(rows, int) else rows
    numbers = np.cumsum(np.diff(of, prepend=of[:1]) != 0) if len(of) else of
    count = int(numbers[-1]) + 1 if len(numbers) else 0
    for group in range(min(count, most) if count > 1 else 0):
        yield np.flatnonzero(numbers % min(count, most) != group)


# Of the normal distribution: what 97.5 % are below.
QUANTILE = 1.959963984540054


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson, 1927): it is right also where nearly all is, or nothing."""
    z2 = QUANTILE**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    # The bounds are exact at the ends, which rounding would miss.
    return (0.0 if share == 0 else max(0.0, middle - half)), (1.0 if share == 1 else min(1.0, middle + half))


def studentised(each: Array, seed: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """The 95 % interval of the mean of numbers, by draws of how many standard errors means are off (bootstrap-t)."""
    count = len(each)
    drawn = each[generator(seed, "bootstrap").integers(0, count, (rounds, count))]
    spread = drawn.std(axis=1, ddof=1)
    off = (drawn.mean(axis=1) - each.mean())[spread > 0] / spread[spread > 0]
    if not off.size:
        return float(each.mean()), float(each.mean())
    low, high = np.quantile(off, (0.025, 0.975)) * each.std(ddof=1)
    return float(each.mean() - high), float(each.mean() - low)


# Of more rows, a metric is not taken row by row to see whether it is the mean of that.
FEW = 1000


def intervals(
    calls: Sequence[Call], prediction: Array, target: Array, task: str, seed: int, about: About = NOTHING
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric, under the names that `evaluate_metrics` gives.

    Of proportions of rows it is Wilson's, of means over few rows by studentised draws, of all else BCa.
    """
    values = evaluate_metrics(calls, prediction, target, task, about)
    return {
        name: _interval(call, value, prediction, target, seed, about)
        for (name, value), call in zip(values.items(), calls, strict=True)
    }


def _interval(
    call: Call, value: float, prediction: Array, target: Array, seed: int, about: About
) -> tuple[float, float]:
    p, t = np.asarray(prediction), np.asarray(target)
    if about.rows is None and len(p) > 1 and math.isfinite(value):
        if call.name in PROPORTIONS and math.prod(t.shape[1:]) == 1:
            return wilson(value, len(p))
        each = _each(call, p, t, about) if len(p) <= FEW else None
        if each is not None and math.isclose(float(each.mean()), value, rel_tol=1e-6, abs_tol=1e-12):
            return studentised(each, seed)
    rows = len(p) if about.rows is None else about.rows
    # Drawn again for each: all draws together are a thousand times as many numbers as there are predictions.
    return bootstrap(partial(_measure, call, about), p, t, draws_of(rows, seed), without_each(rows))


def _each(call: Call, p: Array, t: Array, about: About) -> Array | None:
    """A metric of each row by itself; `None` where it has no value of one row."""
    found = []
    for i in range(len(p)):
        one = measure(call, p[i : i + 1], t[i : i + 1], about)
        if not math.isfinite(one):
            return None
        found.append(one)
    return np.asarray(found)


def _measure(call: Call, about: About, prediction: Array, target: Array, draw: Array) -> float:
    return measure(call, prediction, target, _drawn(about, draw))


def _drawn(about: About, draw: Array) -> About:
    """Of which row each drawn prediction is; a row that is drawn twice counts as two."""
    if about.rows is None:
        return about
    begins = (np.diff(draw, prepend=draw[:1] - 2) != 1) | (np.diff(about.rows[draw], prepend=-1) != 0)
    return replace(about, rows=np.cumsum(begins))
