"""How metrics are declared, checked against tasks, and computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Literal, TypeVar, cast

import numpy as np

from ...compiler.build import Head
from ...compiler.ir import Array
from ...compiler.spec.registry import METRICS, Call
from ...compiler.structs import Struct

Task = Literal["classes", "labels", "values", "ranking", "text"]
Goal = Literal["max", "min"]
F = TypeVar("F", bound=Callable[..., float])

TASKS: dict[str, tuple[Task, ...]] = {}
# What a metric is for that an installed package adds without saying so.
PLAIN: tuple[Task, ...] = ("classes", "labels", "values")
GOALS: dict[str, Goal] = {}
BINARY: set[str] = set()
# Metrics that are told, as a third argument, what there is to know besides predictions and targets.
TOLD: set[str] = set()
# How many axes predictions and targets have; those of other tasks have any number.
AXES: dict[Task, int] = {"ranking": 2, "text": 1}
NAN = float("nan")
SMALL = 30


class About(Struct):
    """What there is to know of predictions: what classes are called, and of which row each prediction is.

    `rows` [n] are ascending where several predictions, such as those of the steps of a sequence, are of one row.
    """

    names: Sequence[str] = ()
    rows: Array | None = None

    def take(self, indices: Array) -> About:
        return self if self.rows is None else replace(self, rows=self.rows[indices])


NOTHING = About()


# Metrics that are shares of rows.
PROPORTIONS: set[str] = set()


def metric(
    *tasks: Task, goal: Goal = "max", binary: bool = False, told: bool = False, proportion: bool = False
) -> Callable[[F], F]:
    """Register a function `(prediction, target, *, …) -> float` as a metric.

    It is called with arrays that fit its tasks, hold at least one row, no nan, and no missing text.

    tasks: what it is for.
    goal: whether more or less is better.
    binary: whether, of classes, it takes no more than two.
    told: whether it takes an `About` as a third argument.
    proportion: whether it is the share of rows for which something holds.
    """

    def add(function: F) -> F:
        name = function.__name__.rstrip("_")

        @wraps(function)
        def checked(prediction: Array, target: Array, *about: About, **arguments: Any) -> float:
            p, t = np.asarray(prediction), np.asarray(target)
            _check_shapes(name, tasks, p, t)
            if p.size == 0 or _has_nan(p) or _has_nan(t):
                return NAN
            with np.errstate(all="ignore"):
                return float(function(p, t, *(about or [NOTHING] * told), **arguments))

        TASKS[name], GOALS[name] = tasks, goal
        if binary:
            BINARY.add(name)
        if told:
            TOLD.add(name)
        if proportion:
            PROPORTIONS.add(name)
        return cast(F, METRICS.register(checked))

    return add


def _has_nan(array: Array) -> bool:
    if array.dtype.kind == "O":
        return any(not isinstance(cell, str) for cell in array.flat)
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _check_shapes(name: str, tasks: tuple[Task, ...], p: Array, t: Array) -> None:
    if not any(_fits(task, p, t) for task in tasks):
        raise ValueError(f"`{name}` cannot compare predictions {list(p.shape)} with targets {list(t.shape)}")


def _fits(task: Task, p: Array, t: Array) -> bool:
    if task == "classes":
        return p.ndim == t.ndim + 1 and p.shape[:-1] == t.shape
    return p.shape == t.shape and p.ndim == AXES.get(task, p.ndim) > 0


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

    task: `nothing` where there are no predictions.
    loss: the name of the loss that the task comes from, for the message.
    classes: how many classes there are, where that is known.
    """
    who = f"the loss `{loss}`" if loss else "the network"
    if task == "nothing":
        return f"metric `{call.name}` judges predictions, {who} makes none"
    tasks = TASKS.get(call.name, PLAIN)
    if task not in tasks:
        does = "gives scores to rank by" if task == "ranking" else f"predicts {task}"
        return f"metric `{call.name}` is for {' and '.join(tasks)}, {who} {does}"
    if task == "classes" and call.name in BINARY and classes is not None and classes != 2:
        other = f"macro_{call.name}"
        advice = f": use `{other}`" if other in METRICS else ""
        return f"metric `{call.name}` is for two classes, there are {classes}{advice}"
    return None


def check_head(call: Call, head: Head) -> str | None:
    """Why a metric cannot judge what a loss's head predicts, or `None` where it can."""
    problems = [check_metric(call, task, head.loss) for task in head.tasks]
    return None if None in problems else problems[0]


def measure(call: Call, prediction: Array, target: Array, about: About) -> float:
    """The value of one metric."""
    told = (about,) if call.name in TOLD else ()
    return float(call(prediction, target, *told))


def evaluate_metrics(
    calls: Sequence[Call], prediction: Array, target: Array, task: str, about: About = NOTHING
) -> dict[str, float]:
    """The value of each metric by its name; a name that comes again carries its arguments."""
    values: dict[str, float] = {}
    for call in calls:
        if problem := check_metric(call, task):
            raise ValueError(problem)
        name = call.title
        if name in values:
            name += f"({', '.join(f'{key}={value}' for key, value in call.args.items())})"
        values[name] = measure(call, prediction, target, about)
    return values
