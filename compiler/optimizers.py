"""Optimizers: how weights follow their gradients. Each makes the update op of one parameter."""

from __future__ import annotations

from typing import Annotated

from .ops.optim import Adafactor, Adagrad, Adam, Lamb, Lion, NAdam, RAdam, RmsProp, Sgd, Update
from .spec.kinds import NonNegative, PositiveFloat, Range, Share
from .spec.registry import OPTIMIZERS

Beta = Annotated[float, Range(0, 1, open_high=True)]
AtLeastOne = Annotated[float, Range(1)]
NonPositive = Annotated[float, Range(high=0)]


@OPTIMIZERS.register
def sgd(
    *,
    lr: PositiveFloat = 0.01,
    momentum: Share = 0.0,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
) -> Update:
    """Stochastic gradient descent.

    lr: the learning rate, before the schedule.
    momentum: how much of the last step is carried on.
    nesterov: look ahead along the momentum (Sutskever et al., 2013).
    weight_decay: added to the gradient, times the weight; norms and biases are exempt.
    Example: {sgd: {lr: 0.1, momentum: 0.9}}
    """
    return Sgd(momentum, nesterov, weight_decay)


@OPTIMIZERS.register
def adam(
    *,
    lr: PositiveFloat = 1e-3,
    betas: list[Beta] | None = None,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> Update:
    """Adam (Kingma & Ba, 2014).

    lr: the learning rate, before the schedule.
    betas: the decay rates of the running mean and square of the gradient; [0.9, 0.999].
    eps: what is added to the root of the running square.
    weight_decay: added to the gradient, times the weight; norms and biases are exempt.
    Example: {adam: {lr: 1e-3}}
    """
    beta1, beta2 = _betas(betas)
    return Adam(beta1, beta2, eps, weight_decay)


@OPTIMIZERS.register
def adamw(
    *,
    lr: PositiveFloat = 1e-3,
    betas: list[Beta] | None = None,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegative = 0.01,
) -> Update:
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2017).

    lr: the learning rate, before the schedule.
    betas: the decay rates of the running mean and square of the gradient; [0.9, 0.999].
    eps: what is added to the root of the running square.
    weight_decay: the share of a weight that a step at learning rate 1 takes away; norms and biases
        are exempt.
    Example: {adamw: {lr: 1e-3, weight_decay: 0.01}}
    """
    beta1, beta2 = _betas(betas)
    return Adam(beta1, beta2, eps, weight_decay, decoupled=True)


@OPTIMIZERS.register
def rmsprop(
    *,
    lr: PositiveFloat = 0.01,
    alpha: Beta = 0.99,
    eps: PositiveFloat = 1e-8,
    momentum: Share = 0.0,
    centered: bool = False,
    weight_decay: NonNegative = 0.0,
) -> Update:
    """RMSProp (Tieleman & Hinton, 2012).

    lr: the learning rate, before the schedule.
    alpha: the decay rate of the running square of the gradient.
    eps: what is added to its root.
    momentum: how much of the last step is carried on.
    centered: divide by an estimate of the variance instead of the square.
    weight_decay: added to the gradient, times the weight; norms and biases are exempt.
    Example: {rmsprop: {lr: 1e-3}}
    """
    return RmsProp(alpha, eps, momentum, centered, weight_decay)


@OPTIMIZERS.register
def adagrad(
    *,
    lr: PositiveFloat = 0.01,
    lr_decay: NonNegative = 0.0,
    eps: PositiveFloat = 1e-10,
    weight_decay: NonNegative = 0.0,
) -> Update:
    """Adagrad (Duchi et al., 2011): steps over the root of the sum of all squared gradients so far.

    lr: the learning rate, before the schedule.
    lr_decay: how the rate falls by itself: after n steps it is divided by 1 + n lr_decay.
    eps: what is added to the root of the sum.
    weight_decay: added to the gradient, times the weight; norms and biases are exempt.
    Example: {adagrad: {lr: 0.01}}
    """
    return Adagrad(lr_decay, eps, weight_decay)


@OPTIMIZERS.register
def nadam(
    *,
    lr: PositiveFloat = 2e-3,
    betas: list[Beta] | None = None,
    eps: PositiveFloat = 1e-8,
    momentum_decay: NonNegative = 4e-3,
    weight_decay: NonNegative = 0.0,
    decoupled: bool = False,
) -> Update:
    """Adam with Nesterov momentum (Dozat, 2016).

    lr: the learning rate, before the schedule.
    betas: the decay rates of the running mean and square of the gradient; [0.9, 0.999].
    eps: what is added to the root of the running square.
    momentum_decay: how fast the momentum grows from half of the first beta to all of it.
    weight_decay: added to the gradient, times the weight; norms and biases are exempt.
    decoupled: take the decay off the weight instead, as adamw does (Loshchilov & Hutter, 2017).
    Example: {nadam: {lr: 2e-3}}
    """
    beta1, beta2 = _betas(betas)
    return NAdam(beta1, beta2, eps, momentum_decay, weight_decay, decoupled)


@OPTIMIZERS.register
def radam(
    *,
    lr: PositiveFloat = 1e-3,
    betas: list[Beta] | None = None,
    eps: PositiveFloat = 1e-8,
    weight_decay: NonNegative = 0.0,
    decoupled: bool = False,
) -> Update:
    """Rectified Adam (Liu et al., 2019): momentum alone until the running square can be trusted.

    lr: the learning rate, before the schedule.
    betas: the decay rates of the running mean and square of the gradient; [0.9, 0.999].
    eps: what is added to the root of the running square.
    weight_decay: added to the gradient, times the weight; norms and biases are exempt.
    decoupled: take the decay off the weight instead, as adamw does (Loshchilov & Hutter, 2017).
    Example: {radam: {lr: 1e-3}}
    """
    beta1, beta2 = _betas(betas)
    return RAdam(beta1, beta2, eps, weight_decay, decoupled)


@OPTIMIZERS.register
def lion(
    *,
    lr: PositiveFloat = 1e-4,
    betas: list[Beta] | None = None,
    weight_decay: NonNegative = 0.0,
) -> Update:
    """Lion (Chen et al., 2023): steps of one size, along the sign of a running mean of the gradient.

    lr: the learning rate, before the schedule; a tenth to a third of what suits adamw.
    betas: the share of the running mean in the step, and the mean's decay rate; [0.9, 0.99].
    weight_decay: the share of a weight that a step at learning rate 1 takes away; norms and biases
        are exempt.
    Example: {lion: {lr: 1e-4, weight_decay: 0.1}}
    """
    beta1, beta2 = _betas(betas, (0.9, 0.99))
    return Lion(beta1, beta2, weight_decay)


@OPTIMIZERS.register
def lamb(
    *,
    lr: PositiveFloat = 1e-3,
    betas: list[Beta] | None = None,
    eps: PositiveFloat = 1e-6,
    weight_decay: NonNegative = 0.01,
) -> Update:
    """LAMB (You et al., 2019), for large batches: Adam's steps, as long as the weights they change.

    lr: the learning rate, before the schedule: the length of a step as a share of the weights' norm.
    betas: the decay rates of the running mean and square of the gradient; [0.9, 0.999].
    eps: what is added to the root of the running square.
    weight_decay: added to the step before it is scaled, times the weight; norms and biases are
        exempt.
    Example: {lamb: {lr: 2e-3, weight_decay: 0.01}}
    """
    beta1, beta2 = _betas(betas)
    return Lamb(beta1, beta2, eps, weight_decay)


@OPTIMIZERS.register
def adafactor(
    *,
    lr: PositiveFloat = 0.01,
    beta2_decay: NonPositive = -0.8,
    eps1: PositiveFloat | None = None,
    eps2: PositiveFloat = 1e-3,
    clip_threshold: AtLeastOne = 1.0,
    weight_decay: NonNegative = 0.0,
) -> Update:
    """Adafactor (Shazeer & Stern, 2018): a matrix's running square from its rows and columns alone.

    lr: the largest step, before the schedule, as a share of the weights' root mean square; at step t
        it is 1 / sqrt(t) at most.
    beta2_decay: the running square takes in a share t ** beta2_decay of what is new at step t.
    eps1: the least that the root of the running square is taken to be; by default the distance from
        1 to the next number.
    eps2: the least that the weights' root mean square is taken to be.
    clip_threshold: the largest root mean square of a step before it is scaled.
    weight_decay: the share of a weight that a step at learning rate 1 takes away; norms and biases
        are exempt.
    Example: {adafactor: {lr: 0.01}}
    """
    return Adafactor(beta2_decay, eps1, eps2, clip_threshold, weight_decay)


def _betas(betas: list[float] | None, default: tuple[float, float] = (0.9, 0.999)) -> tuple[float, float]:
    if betas is None:
        return default
    if len(betas) != 2:
        raise ValueError(f"`betas` are two numbers, found {len(betas)}")
    return betas[0], betas[1]
