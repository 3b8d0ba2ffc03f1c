"""Activation functions, number by number."""

from __future__ import annotations

from ..ir import Value
from ..ops import activations as ops
from ..ops.attention import UNSEEN
from ..ops.elementwise import Tanh
from ..ops.reduce import LogSoftmax, Softmax
from ..spec.kinds import NonNegative
from .core import Builder, features, layer, masked, need_floats


@layer
def relu(b: Builder, x: Value) -> Value:
    """The rectifier: max(x, 0).

    Example: relu
    """
    need_floats(x)
    return ops.Relu()(x)


@layer
def leaky_relu(b: Builder, x: Value, *, slope: NonNegative = 0.01) -> Value:
    """x where positive, slope * x elsewhere.

    slope: the factor on negative numbers.
    Example: leaky_relu: 0.1
    """
    need_floats(x)
    return ops.LeakyRelu(slope)(x)


@layer
def elu(b: Builder, x: Value, *, alpha: NonNegative = 1.0) -> Value:
    """x where positive, alpha * (exp(x) - 1) elsewhere (Clevert et al., 2015).

    alpha: the negative limit.
    Example: elu
    """
    need_floats(x)
    return ops.Elu(alpha)(x)


@layer
def selu(b: Builder, x: Value) -> Value:
    """The self-normalising scaled ELU (Klambauer et al., 2017).

    Example: selu
    """
    need_floats(x)
    return ops.Selu()(x)


@layer
def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + exp(-x)).

    Example: sigmoid
    """
    need_floats(x)
    return ops.Sigmoid()(x)


@layer
def hard_sigmoid(b: Builder, x: Value) -> Value:
    """clip(x / 6 + 1/2, 0, 1).

    Example: hard_sigmoid
    """
    need_floats(x)
    return ops.HardSigmoid()(x)


@layer
def tanh(b: Builder, x: Value) -> Value:
    """The hyperbolic tangent.

    Example: tanh
    """
    need_floats(x)
    return Tanh()(x)


@layer
def silu(b: Builder, x: Value) -> Value:
    """x * sigmoid(x), also known as swish.

    Example: silu
    """
    need_floats(x)
    return ops.Silu()(x)


@layer
def hard_swish(b: Builder, x: Value) -> Value:
    """x * hard_sigmoid(x) (Howard et al., 2019).

    Example: hard_swish
    """
    need_floats(x)
    return ops.HardSwish()(x)


@layer
def gelu(b: Builder, x: Value, *, approximate: bool = False) -> Value:
    """x Φ(x), Φ being the normal distribution function (Hendrycks & Gimpel, 2016).

    approximate: use the tanh form.
    Example: gelu
    """
    need_floats(x)
    return ops.Gelu(approximate)(x)


@layer
def softplus(b: Builder, x: Value) -> Value:
    """log(1 + exp(x)), a smooth rectifier.

    Example: softplus
    """
    need_floats(x)
    return ops.Softplus()(x)


@layer
def mish(b: Builder, x: Value) -> Value:
    """x * tanh(softplus(x)) (Misra, 2019).

    Example: mish
    """
    need_floats(x)
    return ops.Mish()(x)


@layer
def softmax(b: Builder, x: Value) -> Value:
    """Positive numbers that add up to one along the last axis: exp(x) / sum(exp(x)). Padded steps have none.

    Losses on classes take logits: leave softmax out before `cross_entropy`.
    Example: softmax
    """
    need_floats(x)
    features(x)
    return Softmax(-1)(masked(b, x, x.rank - 1, UNSEEN))


@layer
def log_softmax(b: Builder, x: Value) -> Value:
    """The logarithm of softmax along the last axis.

    Example: log_softmax
    """
    need_floats(x)
    features(x)
    return LogSoftmax(-1)(masked(b, x, x.rank - 1, UNSEEN))
