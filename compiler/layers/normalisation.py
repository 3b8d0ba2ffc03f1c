"""Normalisation and dropout."""

from __future__ import annotations

from ..ir import Init, Value
from ..ops import norm as ops
from ..ops.elementwise import Cast
from ..ops.reduce import Sum, count
from ..ops.shape import BroadcastTo, reshape, transpose
from ..spec.kinds import Positive, PositiveFloat, Share
from ..spec.signatures import spec_type
from .core import Builder, LayerError, features, layer, need_floats
from .spatial import spatial

ONES = Init("constant", (("value", 1.0),))
ZEROS = Init("zeros")


@layer
def batch_norm(b: Builder, x: Value, *, momentum: Share = 0.1, eps: PositiveFloat = 1e-5) -> Value:
    """Each channel brought to mean 0 and variance 1 over the batch, then scaled and shifted.

    Training uses the batch's statistics and keeps running ones, which inference uses
    (Ioffe & Szegedy, 2015). Channels are the first axis of an image, the last of anything else.
    Parameters `scale` and `shift`, buffers `mean` and `variance`, all [channels]. Padded steps do not count. Where
    `groups` freeze both parameters for good, training, too, normalises by the running statistics and leaves them.

    momentum: the weight of a new batch in the running statistics.
    eps: what is added to the variance.
    Example: batch_norm
    """
    need_floats(x)
    features(x)
    if x.rank == 3:
        last_first = transpose(x, (0, 2, 1))
        return transpose(_batch_norm(b, last_first, momentum, eps, b.mask(x)), (0, 2, 1))
    return _batch_norm(b, x, momentum, eps)


def _batch_norm(b: Builder, x: Value, momentum: float, eps: float, mask: Value | None = None) -> Value:
    channels = (x.shape[1],)
    scale, shift = _scale_and_shift(b, x)
    mean, variance = b.buffer("mean", channels, ZEROS), b.buffer("variance", channels, ONES)
    if not b.training or b.is_frozen("scale", "shift"):
        return ops.BatchNorm(eps)(x, scale, shift, mean, variance)
    if mask is None:
        y, batch_mean, batch_variance = ops.BatchNormTrain(eps)(x, scale, shift).items()
        n = count(x, (0, *range(2, x.rank)))
    else:
        real = Cast(x.dtype)(transpose(mask, (0, 2, 1)))
        n = reshape(ops.at_least(Sum((0, 2))(real), 1.0), ())
        batch_mean = reshape(Sum((0, 2))(x * real) / n, channels)
        centred = x - reshape(batch_mean, (1, *channels, 1))
        batch_variance = reshape(Sum((0, 2))(centred * centred * real) / n, channels)
        y = ops.BatchNorm(eps)(x, scale, shift, batch_mean, batch_variance)
    unbiased = batch_variance * (n / ops.at_least(n - 1.0, 1.0))
    b.update("mean", mean * (1.0 - momentum) + batch_mean * momentum)
    b.update("variance", variance * (1.0 - momentum) + unbiased * momentum)
    return y


@layer
def group_norm(b: Builder, x: Value, *, groups: Positive, eps: PositiveFloat = 1e-5) -> Value:
    """Each sample's groups of channels brought to mean 0 and variance 1, then scaled and shifted per channel.

    The statistics are over a group's channels and all spatial axes, in training as in inference
    (Wu & He, 2018). Channels are the first axis of an image, the last of anything else.
    Parameters `scale` and `shift` [channels].

    groups: into how many groups the channels are divided.
    eps: what is added to the variance.
    Example: group_norm: 8
    """
    need_floats(x)
    features(x)
    _need_whole(b, x)
    if x.rank == 3:
        last_first = transpose(x, (0, 2, 1))
        return transpose(_group_norm(b, last_first, groups, eps), (0, 2, 1))
    return _group_norm(b, x, groups, eps)


def _group_norm(b: Builder, x: Value, groups: int, eps: float) -> Value:
    if _channels(x) % groups:
        raise LayerError(f"{x.shape[1]} channels do not divide into {groups} groups", argument="groups")
    return ops.GroupNorm(groups, eps)(x, *_scale_and_shift(b, x))


@layer
def instance_norm(b: Builder, x: Value, *, eps: PositiveFloat = 1e-5, affine: bool = True) -> Value:
    """Each channel of each sample brought to mean 0 and variance 1 over the spatial axes.

    Then scaled and shifted per channel (Ulyanov et al., 2016). Parameters `scale` and `shift` [channels].

    eps: what is added to the variance.
    affine: whether to scale and shift.
    Example: instance_norm
    """
    _need_whole(b, x)
    x, _, back = spatial(x)
    learned = _scale_and_shift(b, x) if affine else ()
    return back(ops.GroupNorm(_channels(x), eps)(x, *learned))


def _need_whole(b: Builder, x: Value) -> None:
    """Raise `LayerError` for a sequence whose steps are padded, or read one by one."""
    if x.rank != 3:
        return
    b.across_steps(x)
    if b.mask(x) is not None:
        raise LayerError(
            f"the input is {spec_type(x.type)}, whose steps may be padding: statistics over them would count it",
            help="`layer_norm` takes each step by itself",
        )


def _channels(x: Value) -> int:
    if isinstance(x.shape[1], str):
        raise LayerError(f"the number of channels, {x.shape[1]}, has no fixed size")
    return x.shape[1]


def _scale_and_shift(b: Builder, x: Value) -> tuple[Value, Value]:
    """One and zero per channel to begin with, not decayed."""
    channels = x.shape[1:2]
    return b.parameter("scale", channels, ONES, decay=False), b.parameter("shift", channels, ZEROS, decay=False)


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


@layer
def spatial_dropout(b: Builder, x: Value, *, rate: Share = 0.5) -> Value:
    """In training, a random share of each sample's channels zeroed whole and the rest scaled up to make up for it.

    In inference, x as it is (Tompson et al., 2015).

    rate: the share of channels that are zeroed.
    Example: spatial_dropout: 0.2
    """
    x, _, back = spatial(x)
    if not b.training or rate == 0.0:
        return back(x)
    return back(_dropped(b, x, rate, kept=2))


@layer
def stochastic_depth(b: Builder, x: Value, *, rate: Share) -> Value:
    """In training, x zeroed whole in a random share of the samples, and scaled up in the others to make up for it.

    As the last step of a `residual` it skips the others at random. In
    inference, x as it is (Huang et al., 2016).

    rate: the share of samples in which x is zeroed.
    Example: stochastic_depth: 0.1
    """
    need_floats(x)
    if not b.training or rate == 0.0:
        return x
    return _dropped(b, x, rate, kept=1)


def _dropped(b: Builder, x: Value, rate: float, kept: int) -> Value:
    """Dropout with one random number for all that share their place on the first `kept` axes."""
    uniform = b.random((*x.shape[:kept], *(1 for _ in x.shape[kept:])))
    return ops.Dropout(rate)(x, BroadcastTo(x.shape)(uniform))
