"""Metrics of classes and labels: decisions, rankings, probabilities."""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Array
from ...compiler.spec.kinds import Positive
from .core import NAN, metric
from .parts import (
    Counts,
    as_columns,
    as_rows,
    class_counts,
    counts_of,
    decided,
    is_classes,
    joint_counts,
    mean_defined,
    positive_counts,
    ratio,
    reliability,
)


@metric("classes", "labels", proportion=True)
def accuracy(prediction: Array, target: Array) -> float:
    """How often the most probable class is the true one; of labels, how many are right at 0.5.

    Example: accuracy
    """
    predicted, actual, _ = decided(prediction, target)
    return float((predicted == actual).mean())


@metric("classes", proportion=True)
def top_k(prediction: Array, target: Array, *, k: Positive = 5) -> float:
    """How often the true class is among the k most probable; of equals, the lower id counts as more.

    k: how many.
    Example: top_k: 5
    """
    rows, ids = as_rows(prediction, target)
    own = np.take_along_axis(rows, ids[:, None], 1)
    before = (rows == own) & (np.arange(rows.shape[1]) < ids[:, None])
    return float((((rows > own) | before).sum(1) < k).mean())


@metric("classes", "labels")
def balanced_accuracy(prediction: Array, target: Array) -> float:
    """The mean recall of the classes that occur (Brodersen et al., 2010); labels are taken together.

    Example: balanced_accuracy
    """
    counts = class_counts(prediction, target)
    return float(counts.recall[counts.actual > 0].mean())


@metric("classes", "labels", binary=True)
def precision(prediction: Array, target: Array) -> float:
    """How many of those predicted positive are: 0 when none is. Of two classes, 1 is the positive one.

    Example: precision
    """
    counts = positive_counts(prediction, target)
    return NAN if counts is None else float(counts.precision)


@metric("classes", "labels", binary=True)
def recall(prediction: Array, target: Array) -> float:
    """How many of the positive are predicted so: 0 when there are none. Of two classes, 1 is the positive one.

    Example: recall
    """
    counts = positive_counts(prediction, target)
    return NAN if counts is None else float(counts.recall)


@metric("classes", "labels", binary=True)
def f1(prediction: Array, target: Array) -> float:
    """The harmonic mean of precision and recall. Of two classes, 1 is the positive one.

    Example: f1
    """
    counts = positive_counts(prediction, target)
    return NAN if counts is None else float(counts.f1)


@metric("classes", "labels")
def macro_f1(prediction: Array, target: Array) -> float:
    """The mean F1 of the classes, each counting the same, or of the labels where a row has several.

    Example: macro_f1
    """
    return float(counts_of(prediction, target).f1.mean())


@metric("classes", "labels")
def weighted_f1(prediction: Array, target: Array) -> float:
    """The mean F1 of the classes, or labels, each counting as often as it is true.

    Example: weighted_f1
    """
    counts = counts_of(prediction, target)
    return float(ratio((counts.f1 * counts.actual).sum(), counts.actual.sum()))


@metric("classes", "labels")
def micro_f1(prediction: Array, target: Array) -> float:
    """The F1 of all classes, or labels, counted together; where each row has one class, the accuracy.

    Example: micro_f1
    """
    return float(Counts(*(column.sum() for column in counts_of(prediction, target))).f1)


@metric("classes", "labels")
def macro_precision(prediction: Array, target: Array) -> float:
    """The mean precision of the classes, or labels, each counting the same.

    Example: macro_precision
    """
    return float(counts_of(prediction, target).precision.mean())


@metric("classes", "labels")
def macro_recall(prediction: Array, target: Array) -> float:
    """The mean recall of the classes, or labels, each counting the same.

    Example: macro_recall
    """
    return float(counts_of(prediction, target).recall.mean())


@metric("classes", "labels")
def matthews(prediction: Array, target: Array) -> float:
    """The correlation of predicted and true classes (Matthews, 1975; Gorodkin, 2004): 0 when either is constant.

    Example: matthews
    """
    matrix = joint_counts(prediction, target).astype(np.float64)
    n, predicted, actual = matrix.sum(), matrix.sum(0), matrix.sum(1)
    spread = (n**2 - predicted @ predicted) * (n**2 - actual @ actual)
    return float((np.trace(matrix) * n - predicted @ actual) / np.sqrt(spread)) if spread > 0 else 0.0


@metric("classes", "labels")
def cohen_kappa(prediction: Array, target: Array) -> float:
    """How far predictions agree with the truth beyond chance (Cohen, 1960).

    Example: cohen_kappa
    """
    matrix = joint_counts(prediction, target).astype(np.float64)
    n = matrix.sum()
    chance = matrix.sum(0) @ matrix.sum(1) / n
    return float((np.trace(matrix) - chance) / (n - chance)) if chance < n else NAN


@metric("classes", "labels")
def auc(prediction: Array, target: Array) -> float:
    """The area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Of two classes, 1 is the positive one. Of more, and of several labels, the mean of those that are
    true of some rows and not of others, each against the rest.
    Example: auc
    """
    scores, truth = as_columns(prediction, target)
    return mean_defined(np.array([_area(s, y) for s, y in zip(scores.T, truth.T, strict=True)]))


def _area(score: Array, truth: Array) -> float:
    positive = int(truth.sum())
    negative = len(truth) - positive
    if not positive or not negative:
        return NAN
    _, group, count = np.unique(score, return_inverse=True, return_counts=True)
    midrank = np.cumsum(count) - (count - 1) / 2
    return float((midrank[group[truth]].sum() - positive * (positive + 1) / 2) / (positive * negative))


@metric("classes", "labels")
def average_precision(prediction: Array, target: Array) -> float:
    """Precision at each score, weighted by the recall gained there.

    Of two classes, 1 is the positive one. Of more, and of several labels, the mean of those that are
    true of some row, each against the rest.
    Example: average_precision
    """
    scores, truth = as_columns(prediction, target)
    return mean_defined(np.array([_step_area(s, y) for s, y in zip(scores.T, truth.T, strict=True)]))


def _step_area(score: Array, truth: Array) -> float:
    if not truth.any():
        return NAN
    _, group, count = np.unique(score, return_inverse=True, return_counts=True)
    hits = np.bincount(group, weights=truth)[::-1]
    return float((hits * np.cumsum(hits) / np.cumsum(count[::-1])).sum() / truth.sum())


@metric("classes", "labels", goal="min")
def log_loss(prediction: Array, target: Array) -> float:
    """The mean negative logarithm of the probability given to what is true, which counts as at least epsilon.

    Example: log_loss
    """
    kind = prediction.dtype if prediction.dtype.kind == "f" else np.dtype(np.float64)
    epsilon = float(np.finfo(kind).eps)
    p = np.clip(prediction.astype(np.float64), epsilon, 1 - epsilon)
    if is_classes(p, target):
        rows, ids = as_rows(p, target)
        return float(-np.log(np.take_along_axis(rows, ids[:, None], 1)).mean())
    t = target.astype(np.float64)
    return float(-(t * np.log(p) + (1 - t) * np.log1p(-p)).mean())


@metric("classes", "labels", goal="min")
def brier(prediction: Array, target: Array) -> float:
    """The squared error of the probabilities (Brier, 1950): of one for two classes, of all added up for more.

    Example: brier
    """
    p = prediction.astype(np.float64)
    if not is_classes(p, target):
        return float(np.square(p - target).mean())
    rows, ids = as_rows(p, target)
    errors = np.square(rows - (ids[:, None] == np.arange(rows.shape[1]))).sum(1).mean()
    return float(errors / 2 if rows.shape[1] == 2 else errors)


@metric("classes", "labels", goal="min")
def calibration_error(prediction: Array, target: Array, *, bins: Positive = 15) -> float:
    """How far confidence is from accuracy, on average over bins of confidence (Guo et al., 2017).

    Confidence is the probability of the predicted class or answer.

    bins: how many, of equal width.
    Example: calibration_error
    """
    found = reliability(prediction, target, bins)
    share = found.count / found.count.sum()
    return float(np.nansum(share * np.abs(found.accuracy - found.confidence)))


@metric("classes", goal="min")
def perplexity(prediction: Array, target: Array) -> float:
    """The exponential of the mean cross-entropy: among how many equally likely classes the choice is.

    Example: perplexity
    """
    return float(np.exp(_surprise(prediction, target)))


@metric("classes", goal="min")
def bits_per_character(prediction: Array, target: Array) -> float:
    """The mean cross-entropy in bits: of a language model of characters, how many bits one of them takes.

    Example: bits_per_character
    """
    return float(_surprise(prediction, target) / np.log(2))


def _surprise(prediction: Array, target: Array) -> float:
    """The mean of -log p of the true class, in nats."""
    rows, ids = as_rows(prediction, target)
    own = np.take_along_axis(rows, ids[:, None], 1)
    return float(-np.log(np.maximum(own, np.finfo(rows.dtype).tiny)).mean())
