"""Optimizers: how weights follow their gradients. Each makes the update op of one parameter."""

from __future__ import annotations

from typing import Annotated

from .ops.optim import Adam, RmsProp, Sgd, Update
from .spec.kinds import NonNegative, PositiveFloat, Range, Share
from .spec.registry import OPTIMIZERS

Beta = Annotated[float, Range(0, 1, open_high=True)]


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


def _betas(betas: list[float] | None) -> tuple[float, float]:
    if betas is None:
        return 0.9, 0.999
    if len(betas) != 2:
        raise ValueError(f"`betas` are two numbers, found {len(betas)}")
    return betas[0], betas[1]
