"""Predictions taken apart: decisions, counts, columns."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ...compiler.ir import Array
from ...compiler.structs import Struct
from .core import NAN


def is_classes(p: Array, t: Array) -> bool:
    return p.ndim == t.ndim + 1


def as_rows(p: Array, t: Array) -> tuple[Array, Array]:
    """Class probabilities [n, classes] and ids [n], all other axes taken as rows."""
    ids = t.reshape(-1).astype(np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= p.shape[-1]):
        raise ValueError(f"class ids must be from 0 to {p.shape[-1] - 1}, found {ids.min()} to {ids.max()}")
    return p.reshape(-1, p.shape[-1]), ids


def decided(p: Array, t: Array) -> tuple[Array, Array, int]:
    """The predicted ids [n], the true ids [n], and how many ids there are; labels have two."""
    if is_classes(p, t):
        rows, ids = as_rows(p, t)
        return rows.argmax(1), ids, rows.shape[1]
    return (p >= 0.5).reshape(-1).astype(np.int64), (t >= 0.5).reshape(-1).astype(np.int64), 2


def as_columns(p: Array, t: Array) -> tuple[Array, Array]:
    """Yes-or-no questions: scores [n, k] and answers [n, k]. Two classes are one question."""
    if not is_classes(p, t):
        return p.reshape(len(p), -1), t.reshape(len(t), -1) >= 0.5
    rows, ids = as_rows(p, t)
    first = 1 if rows.shape[1] == 2 else 0
    return rows[:, first:], ids[:, None] == np.arange(first, rows.shape[1])


def mean(values: Array) -> float:
    """The mean, and nan of nothing."""
    return float(values.mean()) if values.size else NAN


def mean_defined(values: Array) -> float:
    """The mean of the numbers that are not nan."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else NAN


def ratio(part: Array | float, whole: Array | float) -> Array:
    """part / whole, and 0 where there is no whole, as scikit-learn has it."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


class Counts(NamedTuple):
    """Per class: how often it was rightly predicted, predicted, and true."""

    hits: Array
    predicted: Array
    actual: Array

    @property
    def precision(self) -> Array:
        return ratio(self.hits, self.predicted)

    @property
    def recall(self) -> Array:
        return ratio(self.hits, self.actual)

    @property
    def f1(self) -> Array:
        return ratio(2 * self.hits, self.predicted + self.actual)


def joint_counts(p: Array, t: Array) -> Array:
    predicted, actual, classes = decided(p, t)
    return np.bincount(actual * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def counts_of(p: Array, t: Array) -> Counts:
    """The counts of each class that occurs; of several labels per row, those of each label."""
    if has_several(p, t):
        return label_counts(p, t)
    counts = class_counts(p, t)
    occurs = counts.predicted + counts.actual > 0
    return Counts(*(column[occurs] for column in counts))


def has_several(p: Array, t: Array) -> bool:
    """Whether each row has several labels."""
    return not is_classes(p, t) and math.prod(p.shape[1:]) > 1


def label_counts(p: Array, t: Array) -> Counts:
    outputs = math.prod(p.shape[1:])
    predicted, actual = p.reshape(-1, outputs) >= 0.5, t.reshape(-1, outputs) >= 0.5
    return Counts((predicted & actual).sum(0), predicted.sum(0), actual.sum(0))


def class_counts(p: Array, t: Array) -> Counts:
    matrix = joint_counts(p, t)
    return Counts(np.diag(matrix), matrix.sum(0), matrix.sum(1))


def positive_counts(p: Array, t: Array) -> Counts | None:
    """The counts of the answer yes, or `None` where there are more classes than two."""
    matrix = joint_counts(p, t)
    if len(matrix) != 2:
        return None
    return Counts(matrix[1, 1], matrix[:, 1].sum(), matrix[1].sum())


class Reliability(Struct):
    """Per bin of confidence: its mean, how often the prediction was right, and how many there were, [bins].

    The mean and the accuracy of an empty bin are nan.
    """

    confidence: Array
    accuracy: Array
    count: Array

    def table(self) -> dict[str, list[float | None]]:
        """The same as plain lists, with `None` for nan, for JSON."""
        return {name: [None if np.isnan(x) else x for x in column.tolist()] for name, column in vars(self).items()}


def reliability(prediction: Array, target: Array, bins: int = 15) -> Reliability:
    """Confidence against accuracy in bins of equal width, a bin holding its upper edge (Guo et al., 2017)."""
    p, t = np.asarray(prediction), np.asarray(target)
    predicted, actual, _ = decided(p, t)
    confidence = (p.max(-1) if is_classes(p, t) else np.maximum(p, 1 - p)).reshape(-1).astype(np.float64)
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    count = np.bincount(bin_of, minlength=bins)
    right = np.bincount(bin_of, weights=predicted == actual, minlength=bins)
    whole = np.where(count > 0, count, np.nan)
    mean = np.bincount(bin_of, weights=confidence, minlength=bins) / whole
    return Reliability(mean, right / whole, count)
