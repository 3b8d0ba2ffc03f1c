"""Optimizer updates: (parameter, gradient, slots…, learning rate, step) -> (parameter, slots…).

`step` counts from zero and, like `lr`, is a float64 scalar, so that bias corrections of long runs
keep their digits in float32 graphs.
"""

from __future__ import annotations

import numpy as np

from ..ir import DType, IRError, Op, Type, Value, constant
from .elementwise import And, Cast, Less, Maximum, Minimum, Sign, Sqrt, Where
from .reduce import Mean, Sum
from .shape import replaced

SCALAR = Type((), DType.f64)


class Update(Op):
    """An optimizer's update of one parameter."""

    differentiable = False

    def slots(self, parameter: Type) -> dict[str, Type]:
        """The arrays of state kept for a parameter, by name, each starting at zero."""
        return {}

    def type(self, parameter: Type, gradient: Type, *rest: Type) -> tuple[Type, ...]:
        *slots, lr, step = rest
        if gradient != parameter:
            raise IRError(f"{self.kind}: {parameter} and its gradient {gradient} differ")
        expected = self.slots(parameter)
        if slots != list(expected.values()):
            wanted = ", ".join(f"{name} {t}" for name, t in expected.items()) or "none"
            found = ", ".join(map(str, slots)) or "none"
            raise IRError(f"{self.kind}: {parameter} has the slots {wanted}, got {found}")
        if any(t != SCALAR for t in (lr, step)):
            raise IRError(f"{self.kind}: learning rate {lr} and step {step} are not f64[]")
        return (parameter, *slots)


def decayed(p: Value, g: Value, lr: Value, decay: float, decoupled: bool) -> tuple[Value, Value]:
    """A parameter and its gradient after weight decay: taken off the parameter, or added to the gradient."""
    if not decay:
        return p, g
    if decoupled:
        return p * Cast(p.dtype)(1.0 - lr * decay), g
    return p, g + p * decay


def moments(m: Value, v: Value, g: Value, beta1: float, beta2: float) -> tuple[Value, Value]:
    """The running mean of the gradient and of its square."""
    return m * beta1 + g * (1.0 - beta1), v * beta2 + g * g * (1.0 - beta2)


def norm(x: Value) -> Value:
    """The Euclidean norm of all numbers of x, as an array of one that broadcasts against x."""
    return Sqrt()(Sum(tuple(range(x.rank)))(x * x))


def rms(x: Value) -> Value:
    """The root of the mean square of all numbers of x, as an array of one that broadcasts against x."""
    return Sqrt()(Mean(tuple(range(x.rank)))(x * x))


class Sgd(Update):
    """Gradient descent with momentum, as in PyTorch: v = momentum v + g."""

    momentum: float = 0.0
    nesterov: bool = False
    decay: float = 0.0

    def slots(self, parameter: Type) -> dict[str, Type]:
        return {"momentum": parameter} if self.momentum else {}

    def decompose(self, p: Value, g: Value, *rest: Value) -> tuple[Value, ...]:
        *slots, lr, _ = rest
        rate = Cast(p.dtype)(lr)
        g = g + p * self.decay if self.decay else g
        if not slots:
            return (p - g * rate,)
        v = slots[0] * self.momentum + g
        step = g + v * self.momentum if self.nesterov else v
        return p - step * rate, v


class Adam(Update):
    """Adam (Kingma & Ba, 2014); with `decoupled` decay, AdamW (Loshchilov & Hutter, 2017)."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    decay: float = 0.0
    decoupled: bool = False

    def slots(self, parameter: Type) -> dict[str, Type]:
        return {"mean": parameter, "square": parameter}

    def decompose(self, p: Value, g: Value, m: Value, v: Value, lr: Value, step: Value) -> tuple[Value, ...]:
        time = step + 1.0
        rate = Cast(p.dtype)(lr / (1.0 - self.beta1**time))
        correction = Cast(p.dtype)(constant(1.0, DType.f64) / Sqrt()(1.0 - self.beta2**time))
        p, g = decayed(p, g, lr, self.decay, self.decoupled)
        m, v = moments(m, v, g, self.beta1, self.beta2)
        return p - m * rate / (Sqrt()(v) * correction + self.eps), m, v


class RmsProp(Update):
    """RMSProp (Tieleman & Hinton, 2012), optionally centred and with momentum, as in PyTorch."""

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    decay: float = 0.0

    def slots(self, parameter: Type) -> dict[str, Type]:
        kept = {"square": True, "mean": self.centered, "momentum": self.momentum > 0}
        return {name: parameter for name, needed in kept.items() if needed}

    def decompose(self, p: Value, g: Value, *rest: Value) -> tuple[Value, ...]:
        *slots, lr, _ = rest
        rate = Cast(p.dtype)(lr)
        g = g + p * self.decay if self.decay else g
        square = slots[0] * self.alpha + g * g * (1.0 - self.alpha)
        state, spread = [square], square
        if self.centered:
            mean = slots[1] * self.alpha + g * (1.0 - self.alpha)
            state.append(mean)
            spread = Maximum()(square - mean * mean, constant(0.0, p.dtype))  # rounding may leave less than zero
        step = g / (Sqrt()(spread) + self.eps)
        if self.momentum:
            step = slots[-1] * self.momentum + step
            state.append(step)
        return (p - step * rate, *state)


class Adagrad(Update):
    """Adagrad (Duchi et al., 2011), as in PyTorch: the learning rate may fall by 1 / (1 + `lr_decay` step)."""

    lr_decay: float = 0.0
    eps: float = 1e-10
    decay: float = 0.0

    def slots(self, parameter: Type) -> dict[str, Type]:
        return {"square": parameter}

    def decompose(self, p: Value, g: Value, square: Value, lr: Value, step: Value) -> tuple[Value, ...]:
        rate = Cast(p.dtype)(lr / (1.0 + step * self.lr_decay))
        p, g = decayed(p, g, lr, self.decay, decoupled=False)
        square = square + g * g
        return p - g * rate / (Sqrt()(square) + self.eps), square


class NAdam(Update):
    """Adam with Nesterov momentum (Dozat, 2016), as in PyTorch: the momentum grows towards `beta1`.

    The slot `correction` is one minus the product of all momenta so far, which starts at zero, and
    in which no digits are lost.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    momentum_decay: float = 4e-3
    decay: float = 0.0
    decoupled: bool = False

    def slots(self, parameter: Type) -> dict[str, Type]:
        return {"mean": parameter, "square": parameter, "correction": SCALAR}

    def momentum(self, time: Value) -> Value:
        """The momentum of an update, counted from one."""
        return self.beta1 * (1.0 - 0.5 * 0.96 ** (time * self.momentum_decay))

    def decompose(
        self, p: Value, g: Value, m: Value, v: Value, correction: Value, lr: Value, step: Value
    ) -> tuple[Value, ...]:
        time = step + 1.0
        now, ahead = self.momentum(time), self.momentum(time + 1.0)
        correction = 1.0 - now + now * correction
        of_gradient = Cast(p.dtype)(lr * (1.0 - now) / correction)
        of_mean = Cast(p.dtype)(lr * ahead / (1.0 - ahead + ahead * correction))
        unbias = Cast(p.dtype)(1.0 / Sqrt()(1.0 - self.beta2**time))
        p, g = decayed(p, g, lr, self.decay, self.decoupled)
        m, v = moments(m, v, g, self.beta1, self.beta2)
        return p - (g * of_gradient + m * of_mean) / (Sqrt()(v) * unbias + self.eps), m, v, correction


class RAdam(Update):
    """Rectified Adam (Liu et al., 2019), as in PyTorch.

    While the running square has seen too little for its variance to be known, the step is that of
    momentum alone; afterwards it is Adam's, times the rectification.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    decay: float = 0.0
    decoupled: bool = False

    def slots(self, parameter: Type) -> dict[str, Type]:
        return {"mean": parameter, "square": parameter}

    def decompose(self, p: Value, g: Value, m: Value, v: Value, lr: Value, step: Value) -> tuple[Value, ...]:
        time = step + 1.0
        rate = Cast(p.dtype)(lr / (1.0 - self.beta1**time))
        p, g = decayed(p, g, lr, self.decay, self.decoupled)
        m, v = moments(m, v, g, self.beta1, self.beta2)
        return p - m * rate * self.adaptation(v, time), m, v

    def adaptation(self, v: Value, time: Value) -> Value:
        """What the mean is multiplied by: one, or the rectification over the root of the unbiased square."""
        longest = 2.0 / (1.0 - self.beta2) - 1.0
        if longest <= 5.0:  # so short a memory never tells the variance
            return constant(1.0, v.dtype)
        power = self.beta2**time
        length = longest - 2.0 * time * power / (1.0 - power)
        known = Maximum()(length, constant(5.0, DType.f64))  # the rest is for lengths above five alone
        rectification = (known - 4.0) * (known - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * known)
        factor = Cast(v.dtype)(Sqrt()(rectification * (1.0 - power)))
        return Where()(
            Less()(constant(5.0, DType.f64), length), factor / (Sqrt()(v) + self.eps), constant(1.0, v.dtype)
        )


class Lion(Update):
    """Lion (Chen et al., 2023): the sign of a running mean, with decoupled weight decay."""

    beta1: float = 0.9
    beta2: float = 0.99
    decay: float = 0.0

    def slots(self, parameter: Type) -> dict[str, Type]:
        return {"mean": parameter}

    def decompose(self, p: Value, g: Value, m: Value, lr: Value, step: Value) -> tuple[Value, ...]:
        direction = Sign()(m * self.beta1 + g * (1.0 - self.beta1))
        p, _ = decayed(p, g, lr, self.decay, decoupled=True)
        return p - direction * Cast(p.dtype)(lr), m * self.beta2 + g * (1.0 - self.beta2)


class Lamb(Update):
    """LAMB (You et al., 2019): Adam's direction, scaled by the norm of the parameter over its own.

    The scale is one where either norm is zero. Weight decay is part of the direction.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    decay: float = 0.0

    def slots(self, parameter: Type) -> dict[str, Type]:
        return {"mean": parameter, "square": parameter}

    def decompose(self, p: Value, g: Value, m: Value, v: Value, lr: Value, step: Value) -> tuple[Value, ...]:
        time = step + 1.0
        m, v = moments(m, v, g, self.beta1, self.beta2)
        mean = m * Cast(p.dtype)(1.0 / (1.0 - self.beta1**time))
        square = v * Cast(p.dtype)(1.0 / (1.0 - self.beta2**time))
        direction = mean / (Sqrt()(square) + self.eps)
        direction = direction + p * self.decay if self.decay else direction
        return p - direction * (_trust(norm(p), norm(direction)) * Cast(p.dtype)(lr)), m, v


def _trust(weight: Value, step: Value) -> Value:
    """The norm of a weight over that of its step, one where either is zero."""
    zero, one = constant(0.0, weight.dtype), constant(1.0, weight.dtype)
    moves = Less()(zero, step)
    return Where()(And()(Less()(zero, weight), moves), weight / Where()(moves, step, one), one)


class Adafactor(Update):
    """Adafactor (Shazeer & Stern, 2018), as in PyTorch: memory for rows and columns instead of for all numbers.

    Of a parameter of two or more axes, the running square over the last two is estimated from its
    means along each. `eps1` bounds its root from below (the machine epsilon where it is `None`),
    `eps2` the parameter's root mean square, by which steps are scaled. Weight decay is decoupled.
    """

    beta2_decay: float = -0.8
    eps1: float | None = None
    eps2: float = 1e-3
    clip_threshold: float = 1.0
    decay: float = 0.0

    def slots(self, parameter: Type) -> dict[str, Type]:
        if parameter.rank < 2:
            return {"square": parameter}
        shape, rank = parameter.shape, parameter.rank
        return {
            "row": parameter.with_shape(replaced(shape, rank - 1, 1)),
            "column": parameter.with_shape(replaced(shape, rank - 2, 1)),
        }

    def decompose(self, p: Value, g: Value, *rest: Value) -> tuple[Value, ...]:
        *slots, lr, step = rest
        time = step + 1.0
        share = Cast(p.dtype)(time**self.beta2_decay)
        eps = self.eps1 if self.eps1 is not None else float(np.finfo(p.dtype.numpy).eps)
        slots = [slot + (seen - slot) * share for slot, seen in zip(slots, self.seen(g), strict=True)]
        direction = g / Sqrt()(Maximum()(self.square(slots, eps), constant(eps * eps, g.dtype)))
        excess = Maximum()(rms(direction) / self.clip_threshold, constant(1.0, g.dtype))
        size = Cast(p.dtype)(Minimum()(lr, 1.0 / Sqrt()(time))) * Maximum()(rms(p), constant(self.eps2, p.dtype))
        p, _ = decayed(p, g, lr, self.decay, decoupled=True)
        return (p - direction * (size / excess), *slots)

    def seen(self, g: Value) -> list[Value]:
        """What a gradient adds to the slots."""
        if g.rank < 2:
            return [g * g]
        return [Mean((g.rank - 1,))(g * g), Mean((g.rank - 2,))(g * g)]

    def square(self, slots: list[Value], eps: float) -> Value:
        """The running square, estimated from its rows and columns where it is not kept."""
        if len(slots) == 1:
            return slots[0]
        row, column = slots
        return row * column / Maximum()(Mean((row.rank - 2,))(row), constant(eps, row.dtype))
