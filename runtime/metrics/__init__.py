"""Metrics: how good predictions are. Computed once, in NumPy, for every backend.

A metric takes predictions and targets of all rows of a split. There are three tasks: `classes`
(probabilities [n, classes], ids [n]), `labels` (probabilities and 0 or 1, [n] or [n, k]) and
`values` (numbers of equal shape). A metric without a value (the area under a curve when there is
but one class, anything of no rows, anything of predictions that are not numbers) is nan.
"""

from __future__ import annotations

from . import classification, regression
from .core import BINARY, GOALS, SMALL, TASKS, check_metric, direction, evaluate_metrics, metric
from .parts import Reliability, reliability
from .tables import ClassRow, SliceRow, bootstrap, confusion_matrix, intervals, per_class, slices

__all__ = [
    "BINARY",
    "GOALS",
    "SMALL",
    "TASKS",
    "ClassRow",
    "Reliability",
    "SliceRow",
    "bootstrap",
    "check_metric",
    "classification",
    "confusion_matrix",
    "direction",
    "evaluate_metrics",
    "intervals",
    "metric",
    "per_class",
    "regression",
    "reliability",
    "slices",
]
