"""Losses: what training makes small. Each compares a step with a field of the data."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from ..ir import DType, Op, Type, Value, constant
from ..ops import losses as ops
from ..ops.activations import Sigmoid
from ..ops.elementwise import And, Cast, Less, Maximum, Minimum, Not, Where
from ..ops.linalg import Gather
from ..ops.norm import at_least
from ..ops.reduce import Softmax, Sum, drop
from ..ops.shape import Iota, Size, reshape
from ..spec.kinds import NonNegative, PositiveFloat, Range, Share
from ..spec.signatures import spec_type
from .core import Builder, LayerError, Loss, Target, features, loss, need_floats


@loss
def mse(b: Builder, prediction: Value, target: Target) -> Loss:
    """The mean squared error.

    Example: {mse: [price, target]}
    """
    return _regression(b, ops.SquaredError(), prediction, target)


@loss
def mae(b: Builder, prediction: Value, target: Target) -> Loss:
    """The mean absolute error.

    Example: {mae: [price, target]}
    """
    return _regression(b, ops.AbsoluteError(), prediction, target)


@loss
def huber(b: Builder, prediction: Value, target: Target, *, delta: PositiveFloat = 1.0) -> Loss:
    """Quadratic for errors up to delta, linear beyond (Huber, 1964).

    delta: where the two meet.
    Example: {huber: {delta: 0.5}, from: [price, target]}
    """
    return _regression(b, ops.HuberError(delta), prediction, target)


@loss
def log_cosh(b: Builder, prediction: Value, target: Target) -> Loss:
    """The logarithm of the hyperbolic cosine of the error: smooth, and linear for large errors.

    Example: {log_cosh: [price, target]}
    """
    return _regression(b, ops.LogCosh(), prediction, target)


@loss
def quantile(
    b: Builder, prediction: Value, target: Target, *, q: Annotated[float, Range(0, 1, True, True)] = 0.5
) -> Loss:
    """The pinball loss: least when the prediction is the q-quantile of the target.

    q: the quantile.
    Example: {quantile: {q: 0.9}, from: [price, target]}
    """
    return _regression(b, ops.QuantileError(q), prediction, target)


def _regression(b: Builder, op: Op, prediction: Value, target: Target) -> Loss:
    """A loss on numbers. A prediction [1] is compared with a target without axes."""
    need_floats(prediction)
    known = target.known
    if prediction.rank == 2 and prediction.shape[1] == 1 and (known is None or known.rank == 1):
        prediction = drop(prediction, 1)
    values = op(prediction, target.of(prediction.type))
    mask = b.mask(values) if values.rank > 1 else None
    if mask is None:
        return Loss(ops.per_sample(values), prediction, "values")
    real = Cast(values.dtype)(mask)
    counts = reshape(Sum((1,))(reshape(real, values.shape[:2])), values.shape[:1])
    total = ops.per_sample(values * real) * Size(values.shape[1], values.dtype)()
    return Loss(total / at_least(counts, 1.0), prediction, "values", counts)


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

    Of sequences, steps whose id is below zero are padding and do not count.

    smoothing: how much of the target is spread over all classes (Szegedy et al., 2016).
    weights: how much each class counts, one number per class.
    Example: {cross_entropy: [logits, digit]}
    """
    need_floats(logits)
    features(logits)
    ids = label.of(Type(logits.shape[:-1], DType.i64))
    if weights is None:
        values, counts = _over_labels(logits, ids, smoothing)
        return Loss(values, Softmax(-1)(logits), "classes", counts)
    values = ops.CrossEntropy(smoothing)(logits, ids)
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


def _over_labels(logits: Value, ids: Value, smoothing: float) -> tuple[Value, Value | None]:
    """The mean over each row's labels, and how many it has; a label below zero is padding."""
    if ids.rank == 1:
        return ops.CrossEntropy(smoothing)(logits, ids), None
    zero = constant(0, ids.dtype)
    values = ops.CrossEntropy(smoothing)(logits, Maximum()(ids, zero))
    real = Cast(values.dtype)(Not()(Less()(ids, zero)))
    axes = tuple(range(1, ids.rank))
    count = Sum(axes)(real)
    mean = Sum(axes)(values * real) / at_least(count, 1.0)
    return reshape(mean, ids.shape[:1]), reshape(count, ids.shape[:1])


@loss
def next_token(b: Builder, logits: Value, tokens: Target, *, smoothing: Share = 0.0) -> Loss:
    """The cross-entropy of each token given those before it: logits [T, tokens] at a step are for the token after it.

    The last step of each sequence, which nothing follows, does not count, nor does padding.

    smoothing: how much of the target is spread over all tokens (Szegedy et al., 2016).
    Example: {next_token: [logits, tokens]}
    """
    need_floats(logits)
    if logits.rank != 3:
        raise LayerError(f"the logits are {spec_type(logits.type)}, expected [T, tokens]")
    ids = tokens.of(Type(logits.shape[:-1], DType.i64))
    following = _following(ids, b.mask(ids))
    values, counts = _over_labels(logits, following, smoothing)
    return Loss(values, Softmax(-1)(logits), "classes", counts, following)


def _following(ids: Value, mask: Value | None) -> Value:
    """At each step the id of the next one, -1 where there is none."""
    _, steps = ids.shape
    here = Iota((steps,), 0)()
    last = Size(steps, DType.i64)() - 1
    after = Minimum()(here + 1, last)
    exists = reshape(Less()(here, last), (1, steps))
    if mask is not None:
        exists = And()(exists, Gather(1)(mask, after))
    return Where()(exists, Gather(1)(ids, after), constant(-1, ids.dtype))


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
    return _regression(b, ops.Hinge(margin), score, target)
