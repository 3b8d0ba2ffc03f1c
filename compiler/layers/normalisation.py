"""Normalisation and dropout."""

from __future__ import annotations

from ..ir import Init, Value
from ..ops import norm as ops
from ..ops.reduce import count
from ..ops.shape import transpose
from ..spec.kinds import PositiveFloat, Share
from ..spec.signatures import spec_type
from .core import Builder, LayerError, features, layer, need_floats

ONES = Init("constant", (("value", 1.0),))
ZEROS = Init("zeros")


@layer
def batch_norm(b: Builder, x: Value, *, momentum: Share = 0.1, eps: PositiveFloat = 1e-5) -> Value:
    """Each channel brought to mean 0 and variance 1 over the batch, then scaled and shifted.

    Training uses the batch's statistics and keeps running ones, which inference uses
    (Ioffe & Szegedy, 2015). Channels are the first axis of an image, the last of anything else.
    Parameters `scale` and `shift`, buffers `mean` and `variance`, all [channels].

    momentum: the weight of a new batch in the running statistics.
    eps: what is added to the variance.
    Example: batch_norm
    """
    need_floats(x)
    features(x)
    if x.rank == 3:
        last_first = transpose(x, (0, 2, 1))
        return transpose(_batch_norm(b, last_first, momentum, eps), (0, 2, 1))
    return _batch_norm(b, x, momentum, eps)


def _batch_norm(b: Builder, x: Value, momentum: float, eps: float) -> Value:
    channels = (x.shape[1],)
    scale = b.parameter("scale", channels, ONES, decay=False)
    shift = b.parameter("shift", channels, ZEROS, decay=False)
    mean, variance = b.buffer("mean", channels, ZEROS), b.buffer("variance", channels, ONES)
    if not b.training:
        return ops.BatchNorm(eps)(x, scale, shift, mean, variance)
    y, batch_mean, batch_variance = ops.BatchNormTrain(eps)(x, scale, shift).items()
    n = count(x, (0, *range(2, x.rank)))
    unbiased = batch_variance * (n / ops.at_least(n - 1.0, 1.0))
    b.update("mean", mean * (1.0 - momentum) + batch_mean * momentum)
    b.update("variance", variance * (1.0 - momentum) + unbiased * momentum)
    return y


@layer
def layer_norm(b: Builder, x: Value, *, eps: PositiveFloat = 1e-5) -> Value:
    """Each vector of the last axis brought to mean 0 and variance 1, then scaled and shifted.

    Parameters `scale` and `shift` [features] (Ba et al., 2016).

    eps: what is added to the variance.
    Example: layer_norm
    """
    need_floats(x)
    width = (features(x),)
    scale = b.parameter("scale", width, ONES, decay=False)
    return ops.LayerNorm(eps)(x, scale, b.parameter("shift", width, ZEROS, decay=False))


@layer
def rms_norm(b: Builder, x: Value, *, eps: PositiveFloat = 1e-6) -> Value:
    """Each vector of the last axis divided by its root mean square, then scaled.

    Parameter `scale` [features] (Zhang & Sennrich, 2019).

    eps: what is added to the mean square.
    Example: rms_norm
    """
    need_floats(x)
    return ops.RmsNorm(eps)(x, b.parameter("scale", (features(x),), ONES, decay=False))


@layer
def dropout(b: Builder, x: Value, *, rate: Share = 0.5) -> Value:
    """In training, a random share of the numbers zeroed and the rest scaled up to make up for it.

    In inference, x as it is (Srivastava et al., 2014).

    rate: the share of numbers that are zeroed.
    Example: dropout: 0.1
    """
    need_floats(x)
    if not b.training or rate == 0.0:
        return x
    if x.rank == 0:
        raise LayerError(f"the input is {spec_type(x.type)}")
    return ops.Dropout(rate)(x, b.random(x.shape))
