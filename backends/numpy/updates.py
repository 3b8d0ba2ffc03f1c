"""NumPy kernels for optimizers: a parameter and its slots change in place, block by block in cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from .kernels import Array, Work, scratch


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    lr: Any,
    step: Any,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    decoupled: bool,
    work: Work | None = None,
) -> tuple[Array, ...]:
    """One update of Adam; with `decoupled` decay, of AdamW. The corrections are taken out of the root's sum."""
    time = float(step) + 1.0
    correction = float(1.0 - beta2**time) ** -0.5
    rate, eps = float(lr) / float(1.0 - beta1**time) / correction, eps / correction
    shrink = 1.0 - float(lr) * decay if decoupled else 1.0
    size, block = p.size, min(p.size, 1 << 15)
    weights, grads, means, squares = p.reshape(-1), g.reshape(-1), m.reshape(-1), v.reshape(-1)
    space = scratch(work, "step", (block,), p.dtype)
    for i in range(0, size, block):
        w, d, a, b = (whole[i : i + block] for whole in (weights, grads, means, squares))
        t = space[: len(w)]
        if decay and not decoupled:
            d = np.multiply(w, decay, out=scratch(work, "decayed", (len(w),), p.dtype))
            np.add(d, grads[i : i + block], out=d)
        if shrink != 1.0:
            np.multiply(w, shrink, out=w)
        np.multiply(d, 1.0 - beta1, out=t)
        np.multiply(a, beta1, out=a)
        np.add(a, t, out=a)
        np.multiply(d, d, out=t)
        np.multiply(t, 1.0 - beta2, out=t)
        np.multiply(b, beta2, out=b)
        np.add(b, t, out=b)
        np.sqrt(b, out=t)
        np.add(t, eps, out=t)
        np.divide(a, t, out=t)
        np.multiply(t, rate, out=t)
        np.subtract(w, t, out=w)
    return p, m, v


def sgd(
    p: Array,
    g: Array,
    *rest: Any,
    momentum: float,
    nesterov: bool,
    decay: float,
    work: Work | None = None,
) -> tuple[Array, ...]:
    """One update of gradient descent; `rest` is the running step, where there is momentum, the rate and the time."""
    *slots, lr, _ = rest
    rate = float(lr)
    block = min(p.size, 1 << 15)
    weights, grads, kept = p.reshape(-1), g.reshape(-1), [slot.reshape(-1) for slot in slots]
    space = scratch(work, "step", (block,), p.dtype)
    for i in range(0, p.size, block):
        w, d = weights[i : i + block], grads[i : i + block]
        t = space[: len(w)]
        if decay:
            np.multiply(w, decay, out=t)
            d = np.add(d, t, out=t)
        for slot in kept:
            v = slot[i : i + block]
            np.multiply(v, momentum, out=v)
            np.add(v, d, out=v)
            if nesterov:
                ahead = scratch(work, "ahead", (len(w),), p.dtype)
                np.multiply(v, momentum, out=ahead)
                d = np.add(d, ahead, out=t)
            else:
                d = v
        np.multiply(d, rate, out=t)
        np.subtract(w, t, out=w)
    return (p, *slots)
