"""Losses, one number per sample: the mean over the batch is taken where the loss is declared."""

from __future__ import annotations

import math

from ..ir import Grads, IRError, Op, Type, Value, constant
from .activations import Sigmoid, Softplus
from .elementwise import Abs, Less, Maximum, Minimum, Where, floating
from .reduce import LogSoftmax, Mean, OneHot, Softmax, Sum, drop
from .shape import reshape


class PairLoss(Op):
    """A loss that compares a prediction with a target of the same shape, number by number."""

    def type(self, prediction: Type, target: Type) -> Type:
        if prediction != target:
            raise IRError(f"{self.kind}: prediction {prediction} and target {target} differ")
        return floating(self.kind, prediction)


class SquaredError(PairLoss):
    """(prediction - target)²"""

    def decompose(self, prediction: Value, target: Value) -> Value:
        return (prediction - target) * (prediction - target)


class AbsoluteError(PairLoss):
    """|prediction - target|"""

    def decompose(self, prediction: Value, target: Value) -> Value:
        return Abs()(prediction - target)


class HuberError(PairLoss):
    """Quadratic up to `delta`, linear beyond (Huber, 1964)."""

    delta: float = 1.0

    def decompose(self, prediction: Value, target: Value) -> Value:
        size = Abs()(prediction - target)
        near = Minimum()(size, constant(self.delta, size.dtype))
        return near * (size - near * 0.5)


class BinaryCrossEntropy(PairLoss):
    """-log sigmoid(logit) for target 1, -log(1 - sigmoid(logit)) for target 0, and between."""

    positive_weight: float = 1.0

    def decompose(self, logit: Value, target: Value) -> Value:
        if self.positive_weight == 1.0:
            return Softplus()(logit) - logit * target
        factor = target * (self.positive_weight - 1.0) + 1.0
        return logit * (1.0 - target) + factor * Softplus()(-logit)

    def vjp(self, g: Value, y: Value, logit: Value, target: Value) -> Grads:
        factor = target * (self.positive_weight - 1.0) + 1.0
        slope = Sigmoid()(logit) * factor - target * self.positive_weight
        return [g * slope, g * (Softplus()(-logit) * (self.positive_weight - 1.0) - logit)]


class CrossEntropy(Op):
    """-log softmax(logits)[label]: logits [..., C] and labels [...] -> [...].

    With `smoothing` s the target is 1 - s for the label plus s / C for every class
    (Szegedy et al., 2016).
    """

    smoothing: float = 0.0

    def type(self, logits: Type, label: Type) -> Type:
        if logits.rank < 1 or logits.shape[:-1] != label.shape:
            raise IRError(f"cross_entropy: logits {logits} and labels {label} differ outside the classes")
        if label.dtype.value not in ("i32", "i64"):
            raise IRError(f"cross_entropy: labels are {label}, expected whole numbers")
        return floating("cross_entropy", logits.with_shape(logits.shape[:-1]))

    def decompose(self, logits: Value, label: Value) -> Value:
        return -drop(Sum((-1,))(LogSoftmax(-1)(logits) * self._target(logits, label)), -1)

    def vjp(self, g: Value, y: Value, logits: Value, label: Value) -> Grads:
        slope = Softmax(-1)(logits) - self._target(logits, label)
        return [slope * reshape(g, (*g.shape, 1)), None]

    def _target(self, logits: Value, label: Value) -> Value:
        classes = logits.shape[-1]
        if isinstance(classes, str):
            raise IRError(f"cross_entropy: the number of classes, {classes}, is not known yet")
        hot = OneHot(classes, logits.dtype)(label)
        return hot if not self.smoothing else hot * (1.0 - self.smoothing) + self.smoothing / classes


class Hinge(PairLoss):
    """max(0, margin - target * score), for targets -1 and 1."""

    margin: float = 1.0

    def decompose(self, score: Value, target: Value) -> Value:
        return Maximum()(self.margin - score * target, constant(0.0, score.dtype))


class LogCosh(PairLoss):
    """log cosh(prediction - target): quadratic near zero, linear far away."""

    def decompose(self, prediction: Value, target: Value) -> Value:
        d = prediction - target
        return d + Softplus()(d * -2.0) - math.log(2.0)


class QuantileError(PairLoss):
    """The pinball loss, least at the given quantile of the target (Koenker & Bassett, 1978)."""

    quantile: float = 0.5

    def decompose(self, prediction: Value, target: Value) -> Value:
        d = target - prediction
        return Where()(Less()(d, constant(0.0, d.dtype)), d * (self.quantile - 1.0), d * self.quantile)


def per_sample(loss: Value) -> Value:
    """The mean over every axis but the first: one number per row of the batch."""
    if loss.rank < 2:
        return loss
    return reshape(Mean(tuple(range(1, loss.rank)))(loss), loss.shape[:1])
