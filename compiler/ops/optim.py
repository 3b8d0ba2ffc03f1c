"""Optimizer updates: (parameter, gradient, slots…, learning rate, step) -> (parameter, slots…).

`step` counts from zero and, like `lr`, is a float64 scalar, so that bias corrections of long runs
keep their digits in float32 graphs.
"""

from __future__ import annotations

from ..ir import DType, IRError, Op, Type, Value, constant
from .elementwise import Cast, Maximum, Sqrt


class Update(Op):
    """An optimizer's update of one parameter; `slots` is how many arrays of state it keeps."""

    differentiable = False

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the arrays of state, each of the parameter's type and starting at zero."""
        return ()

    def type(self, parameter: Type, gradient: Type, *rest: Type) -> tuple[Type, ...]:
        *slots, lr, step = rest
        if len(slots) != len(self.slots) or any(t != parameter for t in (gradient, *slots)):
            raise IRError(f"{self.kind}: {parameter}, gradient {gradient} and slots {slots} differ")
        if any(t != Type((), DType.f64) for t in (lr, step)):
            raise IRError(f"{self.kind}: learning rate {lr} and step {step} are not f64[]")
        return (parameter,) * (1 + len(slots))


class Sgd(Update):
    """Gradient descent with momentum, as in PyTorch: v = momentum v + g."""

    momentum: float = 0.0
    nesterov: bool = False
    decay: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

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

    @property
    def slots(self) -> tuple[str, ...]:
        return ("mean", "square")

    def decompose(self, p: Value, g: Value, m: Value, v: Value, lr: Value, step: Value) -> tuple[Value, ...]:
        time = step + 1.0
        rate = Cast(p.dtype)(lr / (1.0 - self.beta1**time))
        correction = Cast(p.dtype)(constant(1.0, DType.f64) / Sqrt()(1.0 - self.beta2**time))
        if self.decay and self.decoupled:
            p = p * Cast(p.dtype)(1.0 - lr * self.decay)
        elif self.decay:
            g = g + p * self.decay
        m = m * self.beta1 + g * (1.0 - self.beta1)
        v = v * self.beta2 + g * g * (1.0 - self.beta2)
        return p - m * rate / (Sqrt()(v) * correction + self.eps), m, v


class RmsProp(Update):
    """RMSProp (Tieleman & Hinton, 2012), optionally centred and with momentum, as in PyTorch."""

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    decay: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        names = ("square", *(("mean",) if self.centered else ()))
        return (*names, "momentum") if self.momentum else names

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
