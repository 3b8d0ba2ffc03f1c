"""What reports show: confusion, classes, calibration, slices, intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypedDict

import numpy as np

from ...compiler.initialisers import generator
from ...compiler.ir import Array
from ...compiler.spec.registry import Call
from .core import NAN, NOTHING, SMALL, About, evaluate_metrics, measure
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


def draws_of(rows: Array | int, seed: int, rounds: int = 200) -> Draws:
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
    metric: Callable[[Array, Array, Array], float], prediction: Array, target: Array, draws: Draws
) -> tuple[float, float]:
    """A 95 % interval of a metric: percentiles over rows drawn again with replacement (Efron, 1979).

    Draws for which the metric has no value are left out.

    metric: called with the predictions and targets of a draw, and with the draw.
    draws: see `draws_of`.
    """
    p, t = np.asarray(prediction), np.asarray(target)
    values = np.array([metric(p[rows], t[rows], rows) for rows in draws], np.float64)
    defined = values[~np.isnan(values)]
    if not defined.size:
        return NAN, NAN
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)


def intervals(
    calls: Sequence[Call], prediction: Array, target: Array, task: str, seed: int, about: About = NOTHING
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric, under the names that `evaluate_metrics` gives."""
    names = evaluate_metrics(calls, prediction, target, task, about)
    rows = len(prediction) if about.rows is None else about.rows
    found = {}
    for name, call in zip(names, calls, strict=True):
        # Drawn again for each: all draws together are two hundred times as many numbers as there are predictions.
        found[name] = bootstrap(partial(_measure, call, about), prediction, target, draws_of(rows, seed))
    return found


def _measure(call: Call, about: About, prediction: Array, target: Array, draw: Array) -> float:
    return measure(call, prediction, target, _drawn(about, draw))


def _drawn(about: About, draw: Array) -> About:
    """Of which row each drawn prediction is; a row that is drawn twice counts as two."""
    if about.rows is None:
        return about
    begins = (np.diff(draw, prepend=draw[:1] - 2) != 1) | (np.diff(about.rows[draw], prepend=-1) != 0)
    return replace(about, rows=np.cumsum(begins))
