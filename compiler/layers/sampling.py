"""Sampling inside a network."""

from __future__ import annotations

from ..ir import Value
from ..ops.elementwise import Exp
from ..ops.random import Normal
from ..spec.signatures import spec_type
from .core import Builder, LayerError, layer, need_floats


@layer
def gaussian(b: Builder, mean: Value, log_variance: Value) -> Value:
    """A number drawn from a normal distribution for each mean and logarithm of a variance.

    Gradients flow to both (the reparameterisation of Kingma & Welling, 2013): mean + exp(log_variance / 2) * noise,
    with fresh noise in each training step. In inference, the mean.

    Example: {gaussian: [mean, log_variance]}
    """
    need_floats(mean)
    if mean.type != log_variance.type:
        raise LayerError(f"the means are {spec_type(mean.type)}, the variances {spec_type(log_variance.type)}")
    if not b.training:
        return mean
    noise = Normal()(b.random(mean.shape), b.random(mean.shape))
    return mean + Exp()(log_variance * 0.5) * noise
