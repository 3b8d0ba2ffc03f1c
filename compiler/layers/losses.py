"""Losses: what training makes small. Each compares a step with a field of the data, or several steps.

A parameter annotated `Value` is a step of the network, one annotated `Target` a field of the data (or a step).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np

from ..ir import DType, Op, Type, Value, constant
from ..ops import losses as ops
from ..ops.activations import Sigmoid, Softplus
from ..ops.ctc import Ctc
from ..ops.elementwise import And, Cast, Exp, Expm1, Less, Maximum, Minimum, Not, Sqrt, Where
from ..ops.linalg import Gather
from ..ops.norm import at_least
from ..ops.reduce import L2Normalize, LogSoftmax, Mean, Softmax, Sum, drop
from ..ops.shape import BroadcastTo, Iota, Size, reshape, swap_last
from ..spec.kinds import Fraction, NonNegative, PositiveFloat, Range, Share
from ..spec.signatures import spec_type
from .core import Builder, LayerError, Loss, Takes, Target, features, loss, need_floats

# What losses take for their targets.
Share01 = Annotated[Target, Takes(0, 1)]
Sign = Annotated[Target, Takes(only=(-1, 1))]
Truth = Annotated[Target, Takes(only=(0, 1))]
Count = Annotated[Target, Takes(0)]


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
    prediction = _like(target, prediction)
    return _averaged(b, op(prediction, target.of(prediction.type)), prediction, "values")


def _averaged(
    b: Builder,
    values: Value,
    prediction: Value,
    task: Literal["classes", "labels", "values"],
    real: Value | None = None,
) -> Loss:
    """The mean of a row's numbers, one for each place. Padded steps, and places that are not `real`, do not count.

    A row then weighs as much as it has steps, so that the loss is the mean over all steps of a batch.
    """
    mask = b.mask(values) if values.rank > 1 else None
    if mask is not None:
        mask = BroadcastTo(values.shape[:2])(reshape(mask, values.shape[:2]))
    if real is not None:
        mask = real if mask is None else And()(mask, real)
    if mask is None or values.rank == 1:
        return Loss(ops.per_sample(values), prediction, task)
    spread = reshape(mask, (*mask.shape, *(1 for _ in values.shape[mask.rank :])))
    kept = Where()(spread, values, constant(0.0, values.dtype))
    counts = Sum(tuple(range(1, mask.rank)))(Cast(values.dtype)(mask))
    within = tuple(range(mask.rank, values.rank))
    total = Sum(tuple(range(1, mask.rank)))(drop_axes(Mean(within)(kept), within) if within else kept)
    mean = total / at_least(counts, 1.0)
    return Loss(reshape(mean, values.shape[:1]), prediction, task, reshape(counts, values.shape[:1]))


def drop_axes(x: Value, axes: tuple[int, ...]) -> Value:
    """x without axes of size one."""
    return reshape(x, tuple(d for i, d in enumerate(x.shape) if i not in axes))


def _like(target: Target, prediction: Value) -> Value:
    """A prediction [1] without its axis, where the target has none either."""
    need_floats(prediction)
    known = target.known
    if prediction.rank == 2 and prediction.shape[1] == 1 and (known is None or known.rank == 1):
        return drop(prediction, 1)
    return prediction


@loss
def cross_entropy(
    b: Builder,
    logits: Value,
    label: Target,
    *,
    smoothing: Share = 0.0,
    weights: list[NonNegative] | dict[str, NonNegative] | Literal["balanced"] | None = None,
) -> Loss:
    """The cross-entropy between softmax(logits) and a class id: logits [..., classes], ids [...].

    Of sequences, steps whose id is below zero are padding and do not count.

    smoothing: how much of the target is spread over all classes (Szegedy et al., 2016).
    weights: how much each class counts: numbers in the order of the classes, or by the classes' names (others count 1);
      `balanced` has all classes count as much together, however many rows they have.
    Example: {cross_entropy: [logits, digit]}
    """
    need_floats(logits)
    features(logits)
    ids = label.of(Type(logits.shape[:-1], DType.i64))
    if weights is None:
        return _over_labels(b, ops.CrossEntropy(smoothing), logits, ids)
    values = ops.CrossEntropy(smoothing)(logits, ids)
    classes = logits.shape[-1]
    if isinstance(weights, list) and isinstance(classes, int) and len(weights) != classes:
        raise LayerError(
            f"{spec_type(logits.type)} has {classes} classes, `weights` has {len(weights)}",
            argument="weights",
        )
    if logits.rank != 2:
        raise LayerError(
            f"class weights need one label per row, the logits are {spec_type(logits.type)}",
            argument="weights",
        )
    if isinstance(weights, list):
        return Loss(values, Softmax(-1)(logits), "classes", Gather(0)(constant(np.asarray(weights), logits.dtype), ids))
    # The data say which class has which id, and how many rows: the weights are state, which training sets.
    name, by_class = b.class_weights(label.name, (classes,))
    return Loss(values, Softmax(-1)(logits), "classes", Gather(0)(by_class, ids), class_weights=(name, weights))


def _over_labels(b: Builder, op: Op, logits: Value, ids: Value, target: Value | None = None) -> Loss:
    """A loss of logits [..., classes] and ids [...]; of sequences, an id below zero is padding."""
    prediction = Softmax(-1)(logits)
    if ids.rank == 1:
        return Loss(op(logits, ids), prediction, "classes")
    zero = constant(0, ids.dtype)
    found = _averaged(b, op(logits, Maximum()(ids, zero)), prediction, "classes", Not()(Less()(ids, zero)))
    return replace(found, target=target)


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
    following = _following(ids)
    return _over_labels(b, ops.CrossEntropy(smoothing), logits, following, following)


def _following(ids: Value) -> Value:
    """At each step the id of the next one, -1 where there is none."""
    _, steps = ids.shape
    here = Iota((steps,), 0)()
    last = Size(steps, DType.i64)() - 1
    after = Minimum()(here + 1, last)
    exists = reshape(Less()(here, last), (1, steps))
    return Where()(exists, Gather(1)(ids, after), constant(-1, ids.dtype))


@loss
def binary_cross_entropy(b: Builder, logits: Value, target: Share01, *, positive_weight: PositiveFloat = 1.0) -> Loss:
    """The cross-entropy between sigmoid(logit) and a target from 0 to 1, number by number.

    For one yes-or-no question per row, logits [1] and a target without axes fit.

    positive_weight: how much the positive targets count.
    Example: {binary_cross_entropy: [logits, churned]}
    """
    need_floats(logits)
    if logits.rank == 2 and logits.shape[1] == 1 and (target.known is None or target.known.rank == 1):
        logits = drop(logits, 1)
    values = ops.BinaryCrossEntropy(positive_weight)(logits, target.of(logits.type))
    return _averaged(b, values, Sigmoid()(logits), "labels")


@loss
def hinge(b: Builder, score: Value, target: Sign, *, margin: PositiveFloat = 1.0) -> Loss:
    """max(0, margin - target * score), for targets -1 and 1.

    margin: how far on the right side a score should be.
    Example: {hinge: [score, sign]}
    """
    return _regression(b, ops.Hinge(margin), score, target)


@loss
def focal(b: Builder, logits: Value, label: Target, *, gamma: NonNegative = 2.0) -> Loss:
    """-(1 - p)^gamma log p, where p is the share that softmax(logits) gives to the class id (Lin et al., 2017).

    Logits [..., classes], ids [...]. Rows that are right already count less than in `cross_entropy`.

    gamma: how much less; 0 is the cross-entropy.
    Example: {focal: [logits, digit]}
    """
    need_floats(logits)
    features(logits)
    ids = label.of(Type(logits.shape[:-1], DType.i64))
    return _over_labels(b, ops.Focal(gamma), logits, ids)


@loss
def binary_focal(
    b: Builder, logits: Value, target: Truth, *, alpha: Fraction | None = 0.25, gamma: NonNegative = 2.0
) -> Loss:
    """-a (1 - p)^gamma log p, where p is what sigmoid(logit) gives to a target of 0 or 1 (Lin et al., 2017).

    a is alpha for target 1 and 1 - alpha for target 0. For one question per row, logits [1] and a target without
    axes fit.

    alpha: how much the positive targets count, of 1 in all; without it both count 1.
    gamma: how much less what is right already counts.
    Example: {binary_focal: [logits, churned]}
    """
    logits = _like(target, logits)
    truth = target.of(logits.type)
    values = ops.BinaryFocal(gamma)(logits, truth)
    if alpha is not None:
        values = values * (truth * (2.0 * alpha - 1.0) + (1.0 - alpha))
    return _averaged(b, values, Sigmoid()(logits), "labels")


@loss
def kl_divergence(b: Builder, logits: Value, target: Count) -> Loss:
    """The divergence of a target distribution from softmax(logits): the sum of t (log t - log p) over the classes.

    Kullback & Leibler (1951). Logits and target [..., classes]; every axis but the batch is summed over.
    Example: {kl_divergence: [logits, shares]}
    """
    need_floats(logits)
    features(logits)
    each = ops.Divergence()(LogSoftmax(-1)(logits), target.of(logits.type))
    mask = b.mask(each) if each.rank > 2 else None
    each = each if mask is None else Where()(mask, each, constant(0.0, each.dtype))
    return Loss(_sum_per_sample(each), Softmax(-1)(logits), "values")


def _sum_per_sample(x: Value) -> Value:
    return reshape(Sum(tuple(range(1, x.rank)))(x), x.shape[:1])


@loss
def gaussian_kl(b: Builder, mean: Value, log_variance: Value) -> Loss:
    """The divergence of normal distributions from the standard one, summed over all numbers of a row.

    (mean² + v - 1 - log v) / 2, where v is the variance, given by its logarithm: what keeps the code of a variational
    autoencoder near a distribution that can be drawn from (Kingma & Welling, 2013).
    Example: {gaussian_kl: [mean, log_variance], weight: 0.01}
    """
    need_floats(mean)
    if mean.type != log_variance.type or mean.rank < 2:
        raise LayerError(f"the means are {spec_type(mean.type)}, the variances {spec_type(log_variance.type)}")
    return Loss(_sum_per_sample((mean * mean + (Expm1()(log_variance) - log_variance)) * 0.5))


@loss
def poisson(b: Builder, prediction: Value, target: Count, *, log: bool = True) -> Loss:
    """exp(x) - target * x: the negative log-likelihood of a count whose rate's logarithm is predicted.

    What depends on the target alone is left out. What the model then predicts is the rate, exp(x).

    log: whether the step is the logarithm of the rate; else it is the rate, which must be positive, and the loss
      is x - target * log x.
    Example: {poisson: [log_rate, visits]}
    """
    prediction = _like(target, prediction)
    values = ops.PoissonError(log)(prediction, target.of(prediction.type))
    return _averaged(b, values, Exp()(prediction) if log else prediction, "values")


@loss
def gaussian_nll(b: Builder, mean: Value, variance: Value, target: Target, *, eps: PositiveFloat = 1e-6) -> Loss:
    """(log v + (mean - target)² / v) / 2: the negative log-likelihood of a number whose variance v is predicted too.

    Nix & Weigend (1994). A `softplus` makes a step positive, as a variance is. What the model then predicts is the
    mean.

    eps: the least variance.
    Example: {gaussian_nll: [price, variance, target]}
    """
    mean = _like(target, mean)
    need_floats(variance)
    if variance.rank == mean.rank + 1 and variance.shape[-1] == 1:
        variance = drop(variance, -1)
    if variance.type != mean.type:
        raise LayerError(f"the mean is {spec_type(mean.type)}, the variance is {spec_type(variance.type)}")
    values = ops.GaussianError(eps)(mean, variance, target.of(mean.type))
    return _averaged(b, values, mean, "values")


@loss
def bpr(b: Builder, good: Value, bad: Value) -> Loss:
    """-log sigmoid(good - bad), the mean over the bad scores: good ones shall be higher (Rendle et al., 2009).

    One good score per row, and one bad one or several.
    Example: {bpr: [good, bad]}
    """
    good, bad = _scores(good, bad)
    return Loss(ops.per_sample(Softplus()(bad - good)), drop(good, 1), "ranking")


@loss
def margin_ranking(b: Builder, good: Value, bad: Value, *, margin: NonNegative = 0.0) -> Loss:
    """max(0, margin - (good - bad)), the mean over the bad scores: good ones shall be higher by a margin.

    One good score per row, and one bad one or several.

    margin: how much higher.
    Example: {margin_ranking: {margin: 1.0}, from: [good, bad]}
    """
    good, bad = _scores(good, bad)
    return Loss(ops.per_sample(_positive(bad - good + margin)), drop(good, 1), "ranking")


def _scores(good: Value, bad: Value) -> tuple[Value, Value]:
    """A score for each row, [N, 1], and those it is to be above, [N, K]."""
    need_floats(good)
    need_floats(bad)
    if good.rank > 2 or (good.rank == 2 and good.shape[1] != 1):
        raise LayerError(f"the good scores are {spec_type(good.type)}, expected one number per row")
    if bad.rank > 2:
        raise LayerError(f"the bad scores are {spec_type(bad.type)}, expected one number or a vector per row")
    column = (good.shape[0], 1)
    return reshape(good, column), bad if bad.rank == 2 else reshape(bad, column)


def _positive(x: Value) -> Value:
    return Maximum()(x, constant(0.0, x.dtype))


@loss
def triplet(b: Builder, anchor: Value, positive: Value, negative: Value, *, margin: NonNegative = 1.0) -> Loss:
    """max(0, |anchor - positive| - |anchor - negative| + margin), by Euclidean distance (Schroff et al., 2015).

    Three vectors of one size per row.

    margin: how much farther than the positive the negative shall be.
    Example: {triplet: [anchor, positive, negative]}
    """
    _need_vectors(anchor, positive, negative)
    return Loss(_positive(ops.distance(anchor, positive) - ops.distance(anchor, negative) + margin))


def _need_vectors(*steps: Value) -> None:
    """Raise `LayerError` for steps that are not vectors of one size."""
    for x in steps:
        need_floats(x)
        if x.rank != 2 or x.shape != steps[0].shape:
            both = " and ".join(dict.fromkeys(spec_type(each.type) for each in (steps[0], x)))
            raise LayerError(f"expected vectors of one size, found {both}")


@loss
def triplet_in_batch(b: Builder, embedding: Value, label: Target, *, margin: NonNegative = 1.0) -> Loss:
    """max(0, d + margin - e): d is the distance to the farthest row of a row's class, e to the nearest of another.

    "Batch hard" of Hermans et al. (2017). The rows of a batch are compared with each other: a vector and a class
    id per row. Those that are alone in their class, or have no other class beside them, weigh nothing. Large
    batches, shuffled, find harder triplets.

    margin: how much farther than its own class another shall be.
    Example: {triplet_in_batch: {margin: 0.2}, from: [embedding, person]}
    """
    _need_vectors(embedding)
    values, weights = ops.TripletInBatch(margin)(embedding, label.of(Type(embedding.shape[:1], DType.i64))).items()
    return Loss(values, weights=weights)


@loss
def contrastive(b: Builder, left: Value, right: Value, same: Truth, *, margin: PositiveFloat = 1.0) -> Loss:
    """d² / 2 for pairs that are the same (1), max(0, margin - d)² / 2 for those that are not (0).

    Hadsell et al. (2006); d is the Euclidean distance of two vectors of one size.

    margin: how far apart different ones shall be.
    Example: {contrastive: [left, right, same]}
    """
    _need_vectors(left, right)
    d = ops.distance(left, right)
    truth = same.of(d.type)
    apart = _positive(margin - d)
    return Loss((truth * d * d + (1.0 - truth) * apart * apart) * 0.5)


# What is added to squared lengths, as PyTorch does: a vector without a direction has a slope of no more than 1e6.
COSINE_EPS = 1e-12


@loss
def cosine_embedding(
    b: Builder, left: Value, right: Value, sign: Sign, *, margin: Annotated[float, Range(-1, 1)] = 0.0
) -> Loss:
    """1 - cos for pairs that belong together (1), max(0, cos - margin) for those that do not (-1).

    cos is the cosine of the angle between two vectors of one size, and what the model then predicts.

    margin: the cosine from which on different ones are too close.
    Example: {cosine_embedding: [left, right, sign]}
    """
    _need_vectors(left, right)
    squares = [drop(Sum((-1,))(x * x), -1) + COSINE_EPS for x in (left, right)]
    cosine = drop(Sum((-1,))(left * right), -1) / Sqrt()(squares[0] * squares[1])
    together = Less()(constant(0.0, cosine.dtype), sign.of(cosine.type))
    return Loss(Where()(together, 1.0 - cosine, _positive(cosine - margin)), cosine, "values")


@loss
def info_nce(
    b: Builder,
    anchor: Value,
    positive: Value,
    *,
    temperature: PositiveFloat = 0.07,
    normalize: bool = True,
    symmetric: bool = False,
) -> Loss:
    """-log of the share of exp(anchor · positive / temperature) among all rows' positives (van den Oord et al., 2018).

    Two vectors of one size per row. The positives of the batch's other rows are a row's negatives, so larger
    batches are harder.

    temperature: what the products are divided by.
    normalize: whether vectors are scaled to length 1 before.
    symmetric: whether positives look for their anchors as well, and the loss is the mean of both, as in CLIP
      (Radford et al., 2021).
    Example: {info_nce: {temperature: 0.1}, from: [text, image]}
    """
    _need_vectors(anchor, positive)
    if normalize:
        anchor, positive = L2Normalize()(anchor), L2Normalize()(positive)
    logits = (anchor @ swap_last(positive)) / temperature
    values = _own_among_all(logits)
    if symmetric:
        values = (values + _own_among_all(swap_last(logits))) * 0.5
    return Loss(values)


def _own_among_all(logits: Value) -> Value:
    """The cross-entropy of each row of logits [N, N], where the i-th row's class is i."""
    own = Cast(logits.dtype)(ops.diagonal(logits.shape[0]))
    return -drop(Sum((-1,))(LogSoftmax(-1)(logits) * own), -1)


@loss
def ctc(b: Builder, logits: Value, label: Target) -> Loss:
    """-log of the probability that the frames spell the label, per length of the label (Graves et al., 2006).

    Logits [T, classes] for T frames, all of which count; class 0 is the blank. The label is a field of ids [L]
    from 1 on, padded with 0 or -1 at its end. A frame spells a class or a blank; classes that follow
    each other unchanged count once. A label that needs more frames than there are has an infinite loss.
    Example: {ctc: [logits, letters]}
    """
    need_floats(logits)
    if logits.rank != 3:
        raise LayerError(f"the input is {spec_type(logits.type)}, expected [frames, classes]")
    known = label.known
    length = known.shape[1] if known is not None and known.rank == 2 else f"{label.name}_length"
    values = Ctc()(logits, label.of(Type((logits.shape[0], length), DType.i64)))
    return Loss(values, Softmax(-1)(logits), "text")
