"""What reports show: confusion, classes, calibration, slices, intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np

from ...compiler.initialisers import generator
from ...compiler.ir import Array
from ...compiler.spec.registry import Call
from .core import NAN, SMALL, evaluate_metrics
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


def slices(prediction: Array, target: Array, groups: Array, calls: Sequence[Call], task: str) -> list[SliceRow]:
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
        found = evaluate_metrics(calls, p[own], t[own], task)
        rows.append(SliceRow(value=str(value), count=count, small=count < SMALL, metrics=found))
    return rows


def bootstrap(
    metric: Callable[[Array, Array], float], prediction: Array, target: Array, seed: int, rounds: int = 200
) -> tuple[float, float]:
    """A 95 % interval of a metric: percentiles over rows drawn again with replacement (Efron, 1979).

    Draws for which the metric has no value are left out.

    seed: what rows are drawn from; the same seed gives the same interval.
    rounds: how often to draw.
    """
    p, t = np.asarray(prediction), np.asarray(target)
    if len(p) < 2:
        return NAN, NAN
    rng = generator(seed, "bootstrap")
    draws = (rng.integers(0, len(p), len(p)) for _ in range(rounds))
    values = np.array([metric(p[rows], t[rows]) for rows in draws])
    defined = values[~np.isnan(values)]
    if not defined.size:
        return NAN, NAN
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)


def intervals(
    calls: Sequence[Call], prediction: Array, target: Array, task: str, seed: int, rounds: int = 200
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric, under the names that `evaluate_metrics` gives."""
    names = evaluate_metrics(calls, prediction, target, task)
    return {name: bootstrap(call, prediction, target, seed, rounds) for name, call in zip(names, calls, strict=True)}
