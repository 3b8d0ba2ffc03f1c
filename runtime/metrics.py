"""Metrics: how good predictions are. Computed once, in NumPy, for every backend.

A metric takes predictions and targets of all rows of a split. There are three tasks: `classes`
(probabilities [n, classes], ids [n]), `labels` (probabilities and 0 or 1, [n] or [n, k]) and
`values` (numbers of equal shape). A metric without a value (the area under a curve when there is
but one class, anything of no rows, anything of predictions that are not numbers) is nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar, cast

import numpy as np

from ..compiler.initialisers import generator
from ..compiler.ir import Array
from ..compiler.spec.kinds import Positive
from ..compiler.spec.registry import METRICS, Call

Task = Literal["classes", "labels", "values"]
Goal = Literal["max", "min"]
F = TypeVar("F", bound=Callable[..., float])

TASKS: dict[str, tuple[Task, ...]] = {}
GOALS: dict[str, Goal] = {}
BINARY: set[str] = set()
NAN = float("nan")
SMALL = 30


def metric(*tasks: Task, goal: Goal = "max", binary: bool = False) -> Callable[[F], F]:
    """Register a function `(prediction, target, *, …) -> float` as a metric.

    It is called with arrays that fit its tasks, hold at least one row, and no nan.

    tasks: what it is for.
    goal: whether more or less is better.
    binary: whether, of classes, it takes no more than two.
    """

    def add(function: F) -> F:
        name = function.__name__.rstrip("_")

        @wraps(function)
        def checked(prediction: Array, target: Array, **arguments: Any) -> float:
            p, t = np.asarray(prediction), np.asarray(target)
            _check_shapes(name, tasks, p, t)
            if p.size == 0 or np.isnan(p).any() or np.isnan(t).any():
                return NAN
            with np.errstate(all="ignore"):
                return float(function(p, t, **arguments))

        TASKS[name], GOALS[name] = tasks, goal
        if binary:
            BINARY.add(name)
        return cast(F, METRICS.register(checked))

    return add


def _check_shapes(name: str, tasks: tuple[Task, ...], p: Array, t: Array) -> None:
    if "classes" in tasks and p.shape[:-1] == t.shape and p.ndim == t.ndim + 1:
        return
    if tasks != ("classes",) and p.shape == t.shape and p.ndim > 0:
        return
    raise ValueError(f"`{name}` cannot compare predictions {list(p.shape)} with targets {list(t.shape)}")


def direction(name: str) -> Goal:
    """Whether more or less of a number is better: `loss`, `valid/loss`, `valid/accuracy`, `test/auc@group`.

    A metric that an installed package adds without saying so is better when it is larger.
    """
    parts = name.split("@")[0].split("(")[0].split("/")
    if "loss" in parts:
        return "min"
    if METRICS.find(parts[-1]) is None:
        raise ValueError(f"there is no metric `{parts[-1]}`")
    return GOALS.get(parts[-1], "max")


def check_metric(call: Call, task: str, loss: str | None = None, classes: int | None = None) -> str | None:
    """Why a metric cannot judge predictions of a task, or `None` where it can.

    loss: the name of the loss that the task comes from, for the message.
    classes: how many classes there are, where that is known.
    """
    tasks = TASKS.get(call.name)
    if tasks is None:
        return None
    if task not in tasks:
        who = f"the loss `{loss}`" if loss else "the network"
        return f"metric `{call.name}` is for {' and '.join(tasks)}, {who} predicts {task}"
    if task == "classes" and call.name in BINARY and classes is not None and classes != 2:
        other = f"macro_{call.name}"
        advice = f": use `{other}`" if other in METRICS else ""
        return f"metric `{call.name}` is for two classes, there are {classes}{advice}"
    return None


def evaluate_metrics(calls: Sequence[Call], prediction: Array, target: Array, task: str) -> dict[str, float]:
    """The value of each metric by its name; a name that comes again carries its arguments."""
    values: dict[str, float] = {}
    for call in calls:
        if problem := check_metric(call, task):
            raise ValueError(problem)
        name = call.name
        if name in values:
            name += f"({', '.join(f'{key}={value}' for key, value in call.args.items())})"
        values[name] = float(call(prediction, target))
    return values


# Predictions taken apart.


def _is_classes(p: Array, t: Array) -> bool:
    return p.ndim == t.ndim + 1


def _rows(p: Array, t: Array) -> tuple[Array, Array]:
    """Class probabilities [n, classes] and ids [n], all other axes taken as rows."""
    ids = t.reshape(-1).astype(np.int64)
    if ids.size and (ids.min() < 0 or ids.max() >= p.shape[-1]):
        raise ValueError(f"class ids must be from 0 to {p.shape[-1] - 1}, found {ids.min()} to {ids.max()}")
    return p.reshape(-1, p.shape[-1]), ids


def _decided(p: Array, t: Array) -> tuple[Array, Array, int]:
    """The predicted ids [n], the true ids [n], and how many ids there are; labels have two."""
    if _is_classes(p, t):
        rows, ids = _rows(p, t)
        return rows.argmax(1), ids, rows.shape[1]
    return (p >= 0.5).reshape(-1).astype(np.int64), (t >= 0.5).reshape(-1).astype(np.int64), 2


def _columns(p: Array, t: Array) -> tuple[Array, Array]:
    """Yes-or-no questions: scores [n, k] and answers [n, k]. Two classes are one question."""
    if not _is_classes(p, t):
        return p.reshape(len(p), -1), t.reshape(len(t), -1) >= 0.5
    rows, ids = _rows(p, t)
    first = 1 if rows.shape[1] == 2 else 0
    return rows[:, first:], ids[:, None] == np.arange(first, rows.shape[1])


def _mean_defined(values: Array) -> float:
    """The mean of the numbers that are not nan."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else NAN


def _ratio(part: Array | float, whole: Array | float) -> Array:
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
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> Array:
        return _ratio(self.hits, self.actual)

    @property
    def f1(self) -> Array:
        return _ratio(2 * self.hits, self.predicted + self.actual)


def _matrix(p: Array, t: Array) -> Array:
    predicted, actual, classes = _decided(p, t)
    return np.bincount(actual * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _counts(p: Array, t: Array) -> Counts:
    """The counts of each class that occurs; of several labels per row, those of each label."""
    if _several(p, t):
        return _label_counts(p, t)
    counts = _class_counts(p, t)
    occurs = counts.predicted + counts.actual > 0
    return Counts(*(column[occurs] for column in counts))


def _several(p: Array, t: Array) -> bool:
    """Whether each row has several labels."""
    return not _is_classes(p, t) and math.prod(p.shape[1:]) > 1


def _label_counts(p: Array, t: Array) -> Counts:
    outputs = math.prod(p.shape[1:])
    predicted, actual = p.reshape(-1, outputs) >= 0.5, t.reshape(-1, outputs) >= 0.5
    return Counts((predicted & actual).sum(0), predicted.sum(0), actual.sum(0))


def _class_counts(p: Array, t: Array) -> Counts:
    matrix = _matrix(p, t)
    return Counts(np.diag(matrix), matrix.sum(0), matrix.sum(1))


def _positive(p: Array, t: Array) -> Counts | None:
    """The counts of the answer yes, or `None` where there are more classes than two."""
    matrix = _matrix(p, t)
    if len(matrix) != 2:
        return None
    return Counts(matrix[1, 1], matrix[:, 1].sum(), matrix[1].sum())


# Decisions.


@metric("classes", "labels")
def accuracy(prediction: Array, target: Array) -> float:
    """How often the most probable class is the true one; of labels, how many are right at 0.5.

    Example: accuracy
    """
    predicted, actual, _ = _decided(prediction, target)
    return float((predicted == actual).mean())


@metric("classes")
def top_k(prediction: Array, target: Array, *, k: Positive = 5) -> float:
    """How often the true class is among the k most probable; of equals, the lower id counts as more.

    k: how many.
    Example: top_k: 5
    """
    rows, ids = _rows(prediction, target)
    own = np.take_along_axis(rows, ids[:, None], 1)
    before = (rows == own) & (np.arange(rows.shape[1]) < ids[:, None])
    return float((((rows > own) | before).sum(1) < k).mean())


@metric("classes", "labels")
def balanced_accuracy(prediction: Array, target: Array) -> float:
    """The mean recall of the classes that occur (Brodersen et al., 2010); labels are taken together.

    Example: balanced_accuracy
    """
    counts = _class_counts(prediction, target)
    return float(counts.recall[counts.actual > 0].mean())


@metric("classes", "labels", binary=True)
def precision(prediction: Array, target: Array) -> float:
    """How many of those predicted positive are: 0 when none is. Of two classes, 1 is the positive one.

    Example: precision
    """
    counts = _positive(prediction, target)
    return NAN if counts is None else float(counts.precision)


@metric("classes", "labels", binary=True)
def recall(prediction: Array, target: Array) -> float:
    """How many of the positive are predicted so: 0 when there are none. Of two classes, 1 is the positive one.

    Example: recall
    """
    counts = _positive(prediction, target)
    return NAN if counts is None else float(counts.recall)


@metric("classes", "labels", binary=True)
def f1(prediction: Array, target: Array) -> float:
    """The harmonic mean of precision and recall. Of two classes, 1 is the positive one.

    Example: f1
    """
    counts = _positive(prediction, target)
    return NAN if counts is None else float(counts.f1)


@metric("classes", "labels")
def macro_f1(prediction: Array, target: Array) -> float:
    """The mean F1 of the classes, each counting the same, or of the labels where a row has several.

    Example: macro_f1
    """
    return float(_counts(prediction, target).f1.mean())


@metric("classes", "labels")
def weighted_f1(prediction: Array, target: Array) -> float:
    """The mean F1 of the classes, or labels, each counting as often as it is true.

    Example: weighted_f1
    """
    counts = _counts(prediction, target)
    return float(_ratio((counts.f1 * counts.actual).sum(), counts.actual.sum()))


@metric("classes", "labels")
def micro_f1(prediction: Array, target: Array) -> float:
    """The F1 of all classes, or labels, counted together; where each row has one class, the accuracy.

    Example: micro_f1
    """
    return float(Counts(*(column.sum() for column in _counts(prediction, target))).f1)


@metric("classes", "labels")
def macro_precision(prediction: Array, target: Array) -> float:
    """The mean precision of the classes, or labels, each counting the same.

    Example: macro_precision
    """
    return float(_counts(prediction, target).precision.mean())


@metric("classes", "labels")
def macro_recall(prediction: Array, target: Array) -> float:
    """The mean recall of the classes, or labels, each counting the same.

    Example: macro_recall
    """
    return float(_counts(prediction, target).recall.mean())


@metric("classes", "labels")
def matthews(prediction: Array, target: Array) -> float:
    """The correlation of predicted and true classes (Matthews, 1975; Gorodkin, 2004): 0 when either is constant.

    Example: matthews
    """
    matrix = _matrix(prediction, target).astype(np.float64)
    n, predicted, actual = matrix.sum(), matrix.sum(0), matrix.sum(1)
    spread = (n**2 - predicted @ predicted) * (n**2 - actual @ actual)
    return float((np.trace(matrix) * n - predicted @ actual) / np.sqrt(spread)) if spread > 0 else 0.0


@metric("classes", "labels")
def cohen_kappa(prediction: Array, target: Array) -> float:
    """How far predictions agree with the truth beyond chance (Cohen, 1960).

    Example: cohen_kappa
    """
    matrix = _matrix(prediction, target).astype(np.float64)
    n = matrix.sum()
    chance = matrix.sum(0) @ matrix.sum(1) / n
    return float((np.trace(matrix) - chance) / (n - chance)) if chance < n else NAN


# Rankings.


@metric("classes", "labels")
def auc(prediction: Array, target: Array) -> float:
    """The area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Of two classes, 1 is the positive one. Of more, and of several labels, the mean of those that are
    true of some rows and not of others, each against the rest.
    Example: auc
    """
    scores, truth = _columns(prediction, target)
    return _mean_defined(np.array([_area(s, y) for s, y in zip(scores.T, truth.T, strict=True)]))


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
    scores, truth = _columns(prediction, target)
    return _mean_defined(np.array([_step_area(s, y) for s, y in zip(scores.T, truth.T, strict=True)]))


def _step_area(score: Array, truth: Array) -> float:
    if not truth.any():
        return NAN
    _, group, count = np.unique(score, return_inverse=True, return_counts=True)
    hits = np.bincount(group, weights=truth)[::-1]
    return float((hits * np.cumsum(hits) / np.cumsum(count[::-1])).sum() / truth.sum())


# Probabilities.


@metric("classes", "labels", goal="min")
def log_loss(prediction: Array, target: Array) -> float:
    """The mean negative logarithm of the probability given to what is true, which counts as at least epsilon.

    Example: log_loss
    """
    kind = prediction.dtype if prediction.dtype.kind == "f" else np.dtype(np.float64)
    epsilon = float(np.finfo(kind).eps)
    p = np.clip(prediction.astype(np.float64), epsilon, 1 - epsilon)
    if _is_classes(p, target):
        rows, ids = _rows(p, target)
        return float(-np.log(np.take_along_axis(rows, ids[:, None], 1)).mean())
    t = target.astype(np.float64)
    return float(-(t * np.log(p) + (1 - t) * np.log1p(-p)).mean())


@metric("classes", "labels", goal="min")
def brier(prediction: Array, target: Array) -> float:
    """The squared error of the probabilities (Brier, 1950): of one for two classes, of all added up for more.

    Example: brier
    """
    p = prediction.astype(np.float64)
    if not _is_classes(p, target):
        return float(np.square(p - target).mean())
    rows, ids = _rows(p, target)
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


# Numbers.


def _outputs(p: Array, t: Array) -> tuple[Array, Array]:
    """Predictions and targets [n, outputs] in double precision."""
    return p.reshape(len(p), -1).astype(np.float64), t.reshape(len(t), -1).astype(np.float64)


def _error(p: Array, t: Array) -> Array:
    p, t = _outputs(p, t)
    return p - t


@metric("values", goal="min")
def mse(prediction: Array, target: Array) -> float:
    """The mean squared error.

    Example: mse
    """
    return float(np.square(_error(prediction, target)).mean())


@metric("values", goal="min")
def rmse(prediction: Array, target: Array) -> float:
    """The root of the mean squared error, its mean where a row has several numbers.

    Example: rmse
    """
    return float(np.sqrt(np.square(_error(prediction, target)).mean(0)).mean())


@metric("values", goal="min")
def mae(prediction: Array, target: Array) -> float:
    """The mean absolute error.

    Example: mae
    """
    return float(np.abs(_error(prediction, target)).mean())


@metric("values", goal="min")
def median_absolute_error(prediction: Array, target: Array) -> float:
    """The median absolute error, its mean where a row has several numbers.

    Example: median_absolute_error
    """
    return float(np.median(np.abs(_error(prediction, target)), 0).mean())


@metric("values", goal="min")
def mape(prediction: Array, target: Array) -> float:
    """The mean absolute error as a share of the target, which counts as at least 2.2e-16.

    Example: mape
    """
    _, t = _outputs(prediction, target)
    return float((np.abs(_error(prediction, target)) / np.maximum(np.abs(t), np.finfo(np.float64).eps)).mean())


@metric("values", goal="min")
def max_error(prediction: Array, target: Array) -> float:
    """The largest absolute error.

    Example: max_error
    """
    return float(np.abs(_error(prediction, target)).max())


@metric("values")
def r2(prediction: Array, target: Array) -> float:
    """The share of the variance that is explained: 1 - squared errors / squared deviations from the mean.

    It is a mean where a row has several numbers, and nan for a single row. A constant target counts
    1 if predicted exactly, and 0 if not.
    Example: r2
    """
    if len(target) < 2:
        return NAN
    _, t = _outputs(prediction, target)
    return _explained(np.square(_error(prediction, target)).sum(0), np.square(t - t.mean(0)).sum(0))


@metric("values")
def explained_variance(prediction: Array, target: Array) -> float:
    """1 - variance of the errors / variance of the target: r2, but blind to a constant error.

    It is a mean where a row has several numbers, and nan for a single row. A constant target counts
    1 if the errors are constant, and 0 if not.
    Example: explained_variance
    """
    if len(target) < 2:
        return NAN
    _, t = _outputs(prediction, target)
    return _explained(_error(prediction, target).var(0), t.var(0))


def _explained(left: Array, all_: Array) -> float:
    """The mean over outputs of 1 - left / all."""
    constant = np.where(left == 0, 1.0, 0.0)
    return float(np.where(all_ == 0, constant, 1 - left / np.where(all_ == 0, 1.0, all_)).mean())


# Tables.


def confusion_matrix(prediction: Array, target: Array, classes: int | None = None) -> Array:
    """How often each class [row] was taken for each class [column], [classes, classes].

    classes: how many there are, where more than the predictions show.
    """
    matrix = _matrix(np.asarray(prediction), np.asarray(target))
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
    counts = _label_counts(p, t) if _several(p, t) else _class_counts(p, t)
    labels = [str(name) for name in names] if names else [str(i) for i in range(len(counts.actual))]
    columns = (counts.precision, counts.recall, counts.f1, counts.actual)
    return [
        ClassRow(name=name, precision=float(a), recall=float(b), f1=float(c), support=int(n))
        for name, a, b, c, n in zip(labels, *columns, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Reliability:
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
    predicted, actual, _ = _decided(p, t)
    confidence = (p.max(-1) if _is_classes(p, t) else np.maximum(p, 1 - p)).reshape(-1).astype(np.float64)
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    count = np.bincount(bin_of, minlength=bins)
    right = np.bincount(bin_of, weights=predicted == actual, minlength=bins)
    whole = np.where(count > 0, count, np.nan)
    mean = np.bincount(bin_of, weights=confidence, minlength=bins) / whole
    return Reliability(mean, right / whole, count)


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
