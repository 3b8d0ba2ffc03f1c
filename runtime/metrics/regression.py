"""Metrics of numbers."""

from __future__ import annotations

import math
from typing import TypedDict

import numpy as np

from ...compiler.ir import Array
from ...compiler.spec.kinds import Positive
from .core import NAN, metric
from .parts import mean


def _outputs(p: Array, t: Array) -> tuple[Array, Array]:
    """Predictions and targets [n, outputs] in double precision."""
    return p.reshape(len(p), -1).astype(np.float64), t.reshape(len(t), -1).astype(np.float64)


def _error(p: Array, t: Array, horizon: int | None = None) -> Array:
    """The errors [n, outputs]; of one step ahead alone where there is a horizon, and none where it is too far."""
    p, t = _outputs(_at_step(p, horizon), _at_step(t, horizon))
    return p - t


def _at_step(values: Array, horizon: int | None) -> Array:
    if horizon is None:
        return values
    steps = values if values.ndim > 1 else values[:, None]
    return steps[:, horizon - 1 : horizon]


@metric("values", goal="min")
def mse(prediction: Array, target: Array, *, horizon: Positive | None = None) -> float:
    """The mean squared error.

    horizon: of which step ahead alone, counted from 1; of all by default, and nan for more than there are.
    Example: mse
    """
    return mean(np.square(_error(prediction, target, horizon)))


@metric("values", goal="min")
def rmse(prediction: Array, target: Array, *, horizon: Positive | None = None) -> float:
    """The root of the mean squared error, its mean where a row has several numbers.

    horizon: of which step ahead alone, counted from 1; of all by default, and nan for more than there are.
    Example: rmse
    """
    return mean(np.sqrt(np.square(_error(prediction, target, horizon)).mean(0)))


@metric("values", goal="min")
def mae(prediction: Array, target: Array, *, horizon: Positive | None = None) -> float:
    """The mean absolute error.

    horizon: of which step ahead alone, counted from 1; of all by default, and nan for more than there are.
    Example: mae
    """
    return mean(np.abs(_error(prediction, target, horizon)))


class HorizonRow(TypedDict):
    """One line of the table by horizon: the errors of a step ahead, counted from 1."""

    step: int
    mae: float
    rmse: float


def by_horizon(prediction: Array, target: Array) -> list[HorizonRow]:
    """The errors of each step ahead, of values [n, steps, ...]; nothing where a row has one number."""
    p, t = np.asarray(prediction), np.asarray(target)
    if math.prod(t.shape[1:]) < 2:
        return []
    return [
        HorizonRow(step=step, mae=mae(p, t, horizon=step), rmse=rmse(p, t, horizon=step))
        for step in range(1, t.shape[1] + 1)
    ]


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
