"""Metrics: how good predictions are. Computed once, in NumPy, for every backend.

A metric takes predictions and targets of all rows of a split. There are five tasks: `classes`
(probabilities [n, classes], ids [n]), `labels` (probabilities and 0 or 1, [n] or [n, k]), `values`
(numbers of equal shape), `ranking` (for each query the ranks, from 1, of what is relevant among all
candidates, and which of these numbers count: [queries, most]) and `text` (a text for each row). A
metric without a value (the area under a curve when there is but one class, anything of no rows,
anything of predictions that are not numbers) is nan.
"""

from __future__ import annotations

from . import classification, ranking, regression, spans, text
from .core import BINARY, GOALS, SMALL, TASKS, About, check_head, check_metric, direction, evaluate_metrics, metric
from .parts import Reliability, reliability
from .ranking import ranks_of
from .regression import HorizonRow, by_horizon
from .spans import span_table
from .tables import (
    ClassRow,
    SliceRow,
    bootstrap,
    confusion_matrix,
    draws_of,
    intervals,
    per_class,
    slices,
    wilson,
)

__all__ = [
    "BINARY",
    "GOALS",
    "SMALL",
    "TASKS",
    "About",
    "ClassRow",
    "HorizonRow",
    "Reliability",
    "SliceRow",
    "bootstrap",
    "by_horizon",
    "check_head",
    "check_metric",
    "classification",
    "confusion_matrix",
    "direction",
    "draws_of",
    "evaluate_metrics",
    "intervals",
    "metric",
    "per_class",
    "ranking",
    "ranks_of",
    "regression",
    "reliability",
    "slices",
    "span_table",
    "spans",
    "text",
    "wilson",
]
