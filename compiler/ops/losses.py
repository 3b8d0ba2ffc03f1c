"""Losses, one number per sample: the mean over the batch is taken where the loss is declared."""

from __future__ import annotations

import math

from ..ir import Grads, IRError, Op, Type, Value, constant
from .activations import Sigmoid, Softplus
from .elementwise import Abs, And, Cast, Equal, Exp, Less, Log, Log1p, Maximum, Minimum, Not, Sqrt, Where, floating
from .reduce import LogSoftmax, LogSumExp, Max, Mean, OneHot, Softmax, Sum, drop
from .shape import Iota, reshape, swap_last

# Stands for the logarithm of zero, and for what can be no maximum: adding to it changes nothing, and unlike
# infinity it has differences.
LOWEST = -1e30


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
            # What cancels does so before what is small is added.
            near = Maximum()(logit, constant(0.0, logit.dtype)) - logit * target
            return near + Log1p()(Exp()(-Abs()(logit)))
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
        logs = LogSoftmax(-1)(logits)
        line = Iota((*(1 for _ in label.shape), logits.shape[-1]), label.rank, label.dtype)()
        mine = Equal()(line, reshape(label, (*label.shape, 1)))
        # Chosen, not multiplied: a class that cannot be has a logarithm of minus infinity, which counts nothing.
        own = -drop(Sum((-1,))(Where()(mine, logs, constant(0.0, logs.dtype))), -1)
        if not self.smoothing:
            return own
        return own * (1.0 - self.smoothing) - drop(Mean((-1,))(logs), -1) * self.smoothing

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


class Focal(Op):
    """-(1 - p)^gamma log p, where p = softmax(logits)[label] (Lin et al., 2017).

    Logits [..., C] and labels [...] -> [...]. 1 - p is the sum of the other classes' shares, so that
    neither it nor its gradient is lost where p is close to 1.
    """

    gamma: float = 2.0

    def type(self, logits: Type, label: Type) -> Type:
        if logits.rank < 1 or logits.shape[:-1] != label.shape:
            raise IRError(f"focal: logits {logits} and labels {label} differ outside the classes")
        if label.dtype.value not in ("i32", "i64"):
            raise IRError(f"focal: labels are {label}, expected whole numbers")
        return floating("focal", logits.with_shape(logits.shape[:-1]))

    def decompose(self, logits: Value, label: Value) -> Value:
        line = Iota((*(1 for _ in label.shape), logits.shape[-1]), label.rank, label.dtype)()
        mine = Equal()(line, reshape(label, (*label.shape, 1)))
        logs = LogSoftmax(-1)(logits)
        own = Sum((-1,))(Where()(mine, logs, constant(0.0, logs.dtype)))
        rest = LogSumExp(-1)(Where()(mine, constant(LOWEST, logs.dtype), logs))
        return drop(-(Exp()(rest * self.gamma) * own), -1)


class BinaryFocal(PairLoss):
    """-(1 - p)^gamma log p, where p = sigmoid(logit) for target 1 and 1 - sigmoid(logit) for target 0.

    Lin et al. (2017). With z = logit for target 1 and -logit for target 0, log p = -softplus(-z) and
    log(1 - p) = -softplus(z).
    """

    gamma: float = 2.0

    def decompose(self, logit: Value, target: Value) -> Value:
        z = logit * (target * 2.0 - 1.0)
        return Softplus()(-z) * Exp()(Softplus()(z) * -self.gamma)


class PoissonError(PairLoss):
    """exp(x) - target * x where x is the logarithm of a Poisson's rate, its negative log-likelihood.

    A term that depends on the target alone is left out. Where not `log`, x is the rate itself:
    x - target * log(x + eps).
    """

    log: bool = True
    eps: float = 1e-8

    def decompose(self, prediction: Value, target: Value) -> Value:
        if self.log:
            return Exp()(prediction) - target * prediction
        return prediction - target * Log()(prediction + self.eps)


class GaussianError(Op):
    """(log v + (mean - target)² / v) / 2 where v is the variance, and at least `eps` (Nix & Weigend, 1994).

    The negative log-likelihood of a normal distribution less log(2π) / 2. The gradient in the
    variance is that at v, so that a variance below `eps` can grow again.
    """

    eps: float = 1e-6

    def type(self, mean: Type, variance: Type, target: Type) -> Type:
        if mean != target or mean != variance:
            raise IRError(f"GaussianError: mean {mean}, variance {variance} and target {target} differ")
        return floating("GaussianError", mean)

    def decompose(self, mean: Value, variance: Value, target: Value) -> Value:
        v, d = self._at_least(variance), mean - target
        return (Log()(v) + d * d / v) * 0.5

    def vjp(self, g: Value, y: Value, mean: Value, variance: Value, target: Value) -> Grads:
        v = self._at_least(variance)
        slope = (mean - target) / v
        return [g * slope, g * ((1.0 / v - slope * slope) * 0.5), -(g * slope)]

    def _at_least(self, variance: Value) -> Value:
        return Maximum()(variance, constant(self.eps, variance.dtype))


class Divergence(Op):
    """target * (log target - log-probability), number by number, and 0 where the target is.

    Its sum is the divergence of Kullback and Leibler (1951) of the target from the prediction.
    """

    def type(self, logs: Type, target: Type) -> Type:
        if logs != target:
            raise IRError(f"Divergence: log-probabilities {logs} and target {target} differ")
        return floating("Divergence", logs)

    def decompose(self, logs: Value, target: Value) -> Value:
        tiny = constant(1e-30, target.dtype)
        return target * (Log()(Maximum()(target, tiny)) - logs)


class TripletInBatch(Op):
    """max(0, d(anchor, farthest of its class) - d(anchor, nearest of another) + margin) for each row.

    "Batch hard" of Hermans et al. (2017), d being the Euclidean distance. Embeddings [N, D] and class
    ids [N] -> losses [N], and weights [N]: 1 for the rows that have both a row of their class beside
    them and one of another, else 0, and so is their loss.
    """

    margin: float = 1.0
    eps: float = 1e-6

    def type(self, embedding: Type, label: Type) -> tuple[Type, ...]:
        if embedding.rank != 2 or embedding.shape[:1] != label.shape or label.dtype.value not in ("i32", "i64"):
            raise IRError(f"TripletInBatch: expected vectors and a class id for each, got {embedding} and {label}")
        each = floating("TripletInBatch", embedding.with_shape(embedding.shape[:1]))
        return each, each

    def decompose(self, embedding: Value, label: Value) -> tuple[Value, ...]:
        n = label.shape[0]
        distance = self._distances(embedding)
        same = Equal()(reshape(label, (n, 1)), reshape(label, (1, n)))
        positive = And()(same, Not()(diagonal(n)))
        farthest = _most(distance, positive)
        nearest = -_most(-distance, Not()(same))
        zero = constant(0.0, distance.dtype)
        valid = And()(
            Less()(constant(LOWEST / 2, zero.dtype), farthest), Less()(nearest, constant(-LOWEST / 2, zero.dtype))
        )
        loss = Where()(valid, Maximum()(farthest - nearest + self.margin, zero), zero)
        return loss, Cast(zero.dtype)(valid)

    def _distances(self, x: Value) -> Value:
        """[N, D] -> [N, N]. |a - b|² = |a|² + |b|² - 2ab, and at least eps², where the root still has a slope."""
        squares = Sum((-1,))(x * x)
        squared = squares + swap_last(squares) - (x @ swap_last(x)) * 2.0
        return Sqrt()(Maximum()(squared, constant(self.eps**2, x.dtype)))


def _most(x: Value, among: Value) -> Value:
    """The largest number of each row of x [N, N] among those marked: [N]."""
    return drop(Max(-1)(Where()(among, x, constant(LOWEST, x.dtype))), -1)


def diagonal(n: int | str) -> Value:
    """Booleans [n, n], true where row and column are the same."""
    return Equal()(Iota((n, 1), 0)(), Iota((1, n), 1)())


def distance(a: Value, b: Value, eps: float = 1e-6) -> Value:
    """The Euclidean distance of vectors [N, D]: [N]; `eps` is added to each difference, so that it has a gradient."""
    d = a - b + eps
    return drop(Sqrt()(Sum((-1,))(d * d)), -1)


def per_sample(loss: Value) -> Value:
    """The mean over every axis but the first: one number per row of the batch."""
    if loss.rank < 2:
        return loss
    return reshape(Mean(tuple(range(1, loss.rank)))(loss), loss.shape[:1])
