"""Recurrent layers for inference, rows innermost: the gates of a step are [gates, rows], and each gate is one stretch.

BLAS is faster where the weights are its first factor, and NumPy where what it works on lies together. A sigmoid is half
of a tanh of half: the halves are in the weights, exactly. Layers that follow each other read what is there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# Weights of the input, of the state, and biases, ready for the loops below.
Ready = tuple[Array, Array, Array]


def lstm_ready(weight: Array, recurrent: Array, bias: Array) -> Ready:
    """An LSTM's weights, gates in the order input, forget, output, cell."""
    units = recurrent.shape[1]
    order = np.concatenate([np.arange(2 * units), np.arange(3 * units, 4 * units), np.arange(2 * units, 3 * units)])
    return halved(weight[order], recurrent[order], bias[order], 3 * units)


def gru_ready(weight: Array, recurrent: Array, bias: Array) -> Ready:
    """A GRU's weights."""
    return halved(weight, recurrent, bias, 2 * recurrent.shape[1])


def halved(weight: Array, recurrent: Array, bias: Array, count: int) -> Ready:
    """Weights with the first `count` rows halved."""
    scale = np.ones((len(bias), 1), bias.dtype)
    scale[:count] = 0.5
    return weight * scale, recurrent * scale, bias * scale[:, 0]


def lstm(
    x: Array, ready: Ready, h: Array, c: Array, mask: Array | None = None, reverse: bool = False
) -> tuple[Array, ...]:
    """An LSTM in one direction: (states of all steps, last state, last cell)."""
    units = h.shape[1]
    gates, recurrent = of_inputs(x, ready), ready[1]
    states = np.empty((len(gates), units, len(x)), gates.dtype)
    h, c, product = h.T, c.T.copy(), np.empty(gates.shape[1:], gates.dtype)
    for t, real in steps(x, mask, reverse):
        a, state, before = gates[t], states[t], c if real is None else c.copy()
        sigmoids, i, f, o = a[: 3 * units], a[:units], a[units : 2 * units], a[2 * units : 3 * units]
        np.add(a, np.matmul(recurrent, h, out=product), out=a)
        np.tanh(a, out=a)
        np.multiply(sigmoids, 0.5, out=sigmoids)
        np.add(sigmoids, 0.5, out=sigmoids)
        np.multiply(c, f, out=c)
        np.multiply(i, a[3 * units :], out=i)
        np.add(c, i, out=c)
        np.tanh(c, out=state)
        np.multiply(state, o, out=state)
        if real is not None:
            np.copyto(state, h, where=~real)
            np.copyto(c, before, where=~real)
        h = state
    return shown(states, mask), h.T, c.T


def gru(
    x: Array, ready: Ready, new: Array, h: Array, mask: Array | None = None, reverse: bool = False
) -> tuple[Array, ...]:
    """A GRU in one direction: (states of all steps, last state)."""
    units = h.shape[1]
    gates, recurrent = of_inputs(x, ready), ready[1]
    states = np.empty((len(gates), units, len(x)), gates.dtype)
    h, product = h.T, np.empty(gates.shape[1:], gates.dtype)
    both, candidate, bias = product[: 2 * units], product[2 * units :], np.repeat(new[:, None], len(x), axis=1)
    r, u = both[:units], both[units:]
    for t, real in steps(x, mask, reverse):
        a, state = gates[t], states[t]
        np.matmul(recurrent, h, out=product)
        np.add(both, a[: 2 * units], out=both)
        np.tanh(both, out=both)
        np.multiply(both, 0.5, out=both)
        np.add(both, 0.5, out=both)
        np.add(candidate, bias, out=candidate)
        np.multiply(candidate, r, out=candidate)
        np.add(candidate, a[2 * units :], out=candidate)
        np.tanh(candidate, out=candidate)
        np.subtract(h, candidate, out=state)
        np.multiply(state, u, out=state)
        np.add(state, candidate, out=state)
        if real is not None:
            np.copyto(state, h, where=~real)
        h = state
    return shown(states, mask), h.T


def rnn(
    x: Array, ready: Ready, h: Array, mask: Array | None = None, reverse: bool = False, relu: bool = False
) -> tuple[Array, ...]:
    """A plain recurrent layer in one direction: (states of all steps, last state)."""
    gates, recurrent = of_inputs(x, ready), ready[1]
    h, product = h.T, np.empty(gates.shape[1:], gates.dtype)
    for t, real in steps(x, mask, reverse):
        state = gates[t]
        np.add(state, np.matmul(recurrent, h, out=product), out=state)
        np.maximum(state, 0.0, out=state) if relu else np.tanh(state, out=state)
        if real is not None:
            np.copyto(state, h, where=~real)
        h = state
    return shown(gates, mask), h.T


def of_inputs(x: Array, ready: Ready) -> Array:
    """What the inputs add to the gates of all steps, [steps, gates, rows]."""
    weight, _, bias = ready
    if len(x) == 1:
        gates: Array = np.matmul(x[0], weight.T)[:, :, None]
    else:
        gates = np.matmul(weight, np.ascontiguousarray(x.transpose(1, 2, 0)))
    gates += bias[:, None]
    return gates


def steps(x: Array, mask: Array | None, reverse: bool) -> Iterator[tuple[int, Array | None]]:
    """The steps in order, each with which rows are real, if any may not be."""
    count = x.shape[1]
    for t in range(count - 1, -1, -1) if reverse else range(count):
        yield t, None if mask is None else mask[:, t]


def shown(states: Array, mask: Array | None) -> Array:
    """States [steps, units, rows] as [rows, steps, units], zero where steps are not real."""
    found: Array = states if mask is None else states * mask.T[:, None]
    return found.transpose(2, 0, 1)
