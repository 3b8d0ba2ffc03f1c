"""Losses: what training makes small. Each compares a step with a field of the data."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from ..ir import DType, Op, Type, Value, constant
from ..ops import losses as ops
from ..ops.activations import Sigmoid
from ..ops.linalg import Gather
from ..ops.reduce import Softmax, drop
from ..spec.kinds import NonNegative, PositiveFloat, Range, Share
from ..spec.signatures import spec_type
from .core import Builder, LayerError, Loss, Target, features, loss, need_floats


@loss
def mse(b: Builder, prediction: Value, target: Target) -> Loss:
    """The mean squared error.

    Example: {mse: [price, target]}
    """
    return _regression(ops.SquaredError(), prediction, target)


@loss
def mae(b: Builder, prediction: Value, target: Target) -> Loss:
    """The mean absolute error.

    Example: {mae: [price, target]}
    """
    return _regression(ops.AbsoluteError(), prediction, target)


@loss
def huber(b: Builder, prediction: Value, target: Target, *, delta: PositiveFloat = 1.0) -> Loss:
    """Quadratic for errors up to delta, linear beyond (Huber, 1964).

    delta: where the two meet.
    Example: {huber: {delta: 0.5}, from: [price, target]}
    """
    return _regression(ops.HuberError(delta), prediction, target)


@loss
def log_cosh(b: Builder, prediction: Value, target: Target) -> Loss:
    """The logarithm of the hyperbolic cosine of the error: smooth, and linear for large errors.

    Example: {log_cosh: [price, target]}
    """
    return _regression(ops.LogCosh(), prediction, target)


@loss
def quantile(
    b: Builder, prediction: Value, target: Target, *, q: Annotated[float, Range(0, 1, True, True)] = 0.5
) -> Loss:
    """The pinball loss: least when the prediction is the q-quantile of the target.

    q: the quantile.
    Example: {quantile: {q: 0.9}, from: [price, target]}
    """
    return _regression(ops.QuantileError(q), prediction, target)


def _regression(op: Op, prediction: Value, target: Target) -> Loss:
    """A loss on numbers. A prediction [1] is compared with a target without axes."""
    need_floats(prediction)
    known = target.known
    if prediction.rank == 2 and prediction.shape[1] == 1 and (known is None or known.rank == 1):
        prediction = drop(prediction, 1)
    return Loss(ops.per_sample(op(prediction, target.of(prediction.type))), prediction, "values")


@loss
def cross_entropy(
    b: Builder,
    logits: Value,
    label: Target,
    *,
    smoothing: Share = 0.0,
    weights: list[NonNegative] | None = None,
) -> Loss:
    """The cross-entropy between softmax(logits) and a class id: logits [..., classes], ids [...].

    smoothing: how much of the target is spread over all classes (Szegedy et al., 2016).
    weights: how much each class counts, one number per class.
    Example: {cross_entropy: [logits, digit]}
    """
    need_floats(logits)
    features(logits)
    ids = label.of(Type(logits.shape[:-1], DType.i64))
    values = ops.CrossEntropy(smoothing)(logits, ids)
    if weights is None:
        return Loss(ops.per_sample(values), Softmax(-1)(logits), "classes")
    classes = logits.shape[-1]
    if isinstance(classes, int) and len(weights) != classes:
        raise LayerError(
            f"{spec_type(logits.type)} has {classes} classes, `weights` has {len(weights)}",
            argument="weights",
        )
    if logits.rank != 2:
        raise LayerError(
            f"class weights need one label per row, the logits are {spec_type(logits.type)}",
            argument="weights",
        )
    each = Gather(0)(constant(np.asarray(weights), logits.dtype), ids)
    return Loss(values, Softmax(-1)(logits), "classes", each)


@loss
def binary_cross_entropy(b: Builder, logits: Value, target: Target, *, positive_weight: PositiveFloat = 1.0) -> Loss:
    """The cross-entropy between sigmoid(logit) and a target from 0 to 1, number by number.

    For one yes-or-no question per row, logits [1] and a target without axes fit.

    positive_weight: how much the positive targets count.
    Example: {binary_cross_entropy: [logits, churned]}
    """
    need_floats(logits)
    if logits.rank == 2 and logits.shape[1] == 1 and (target.known is None or target.known.rank == 1):
        logits = drop(logits, 1)
    values = ops.BinaryCrossEntropy(positive_weight)(logits, target.of(logits.type))
    return Loss(ops.per_sample(values), Sigmoid()(logits), "labels")


@loss
def hinge(b: Builder, score: Value, target: Target, *, margin: PositiveFloat = 1.0) -> Loss:
    """max(0, margin - target * score), for targets -1 and 1.

    margin: how far on the right side a score should be.
    Example: {hinge: [score, sign]}
    """
    return _regression(ops.Hinge(margin), score, target)
