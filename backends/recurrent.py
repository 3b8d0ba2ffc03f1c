"""Recurrences as loops, for the backends that run Python: `xp` is the module `numpy` or `torch`.

Both have the few functions these loops are made of, by the same names. Shapes and outputs are those of the scans in
`compiler/ops/recurrent.py`; a file that `trine compile` writes holds a copy of the functions that it calls.
"""

from __future__ import annotations

from typing import Any

NAMES = (
    "shifted", "lstm_scan", "lstm_scan_grad", "gru_scan", "gru_scan_grad", "rnn_scan", "rnn_scan_grad",
)  # fmt: skip


def shifted(xp: Any, states: Any, first: Any, reverse: bool) -> Any:
    """The state before each step, [N, T, units]."""
    start = first[:, None]
    return xp.concatenate([states[:, 1:], start] if reverse else [start, states[:, :-1]], axis=1)


def lstm_scan(xp: Any, z: Any, recurrent: Any, h: Any, c: Any, mask: Any = None, reverse: bool = False) -> Any:
    """The states, cells and gates of an LSTM."""
    steps, units = z.shape[1], h.shape[1]
    gates = xp.empty_like(z)
    hs = xp.empty_like(z[:, :, :units])
    cs = xp.empty_like(hs)
    turned = recurrent.T
    for t in range(steps - 1, -1, -1) if reverse else range(steps):
        a = z[:, t] + h @ turned
        # sigmoid(a) = tanh(a / 2) / 2 + 1/2: one call for all four gates
        a[:, : 2 * units] *= 0.5
        a[:, 3 * units :] *= 0.5
        xp.tanh(a, out=a)
        for gate in (a[:, : 2 * units], a[:, 3 * units :]):
            gate *= 0.5
            gate += 0.5
        gates[:, t] = a
        i, f, g, o = (a[:, k * units : (k + 1) * units] for k in range(4))
        after = f * c
        after += i * g
        state = xp.tanh(after)
        state *= o
        if mask is not None:
            real = mask[:, t, None]
            state, after = xp.where(real, state, h), xp.where(real, after, c)
        h, c = state, after
        hs[:, t] = h
        cs[:, t] = c
    return hs, cs, gates


def lstm_scan_grad(
    xp: Any, gh: Any, gc: Any, z: Any, recurrent: Any, h: Any, c: Any, *rest: Any, reverse: bool = False
) -> Any:
    """The gradients of `lstm_scan` in z, the recurrent weight and the first state and cell."""
    *masks, hs, cs, gates = rest
    steps, units = z.shape[1], h.shape[1]
    befores = shifted(xp, cs, c, reverse)
    gz = xp.empty_like(gates)
    dh, dc = xp.zeros_like(h), xp.zeros_like(c)
    for t in range(steps) if reverse else range(steps - 1, -1, -1):
        i, f, g, o = (gates[:, t, k * units : (k + 1) * units] for k in range(4))
        dh = dh + gh[:, t]
        dc = dc + gc[:, t]
        bent = xp.tanh(cs[:, t])
        inner = dc + dh * o * (1.0 - bent * bent)
        da = gz[:, t]
        da[:, :units] = inner * g * i * (1.0 - i)
        da[:, units : 2 * units] = inner * befores[:, t] * f * (1.0 - f)
        da[:, 2 * units : 3 * units] = inner * i * (1.0 - g * g)
        da[:, 3 * units :] = dh * bent * o * (1.0 - o)
        if masks:
            real = masks[0][:, t, None]
            da *= real
            dh, dc = xp.where(real, da @ recurrent, dh), xp.where(real, inner * f, dc)
        else:
            dh, dc = da @ recurrent, inner * f
    before = shifted(xp, hs, h, reverse).reshape(-1, units)
    return gz, gz.reshape(-1, 4 * units).T @ before, dh, dc


def gru_scan(xp: Any, z: Any, recurrent: Any, bias: Any, h: Any, mask: Any = None, reverse: bool = False) -> Any:
    """The states, gates and candidates of a GRU."""
    steps, units = z.shape[1], h.shape[1]
    gates = xp.empty_like(z)
    hs = xp.empty_like(z[:, :, :units])
    candidates = xp.empty_like(hs)
    turned = recurrent.T
    for t in range(steps - 1, -1, -1) if reverse else range(steps):
        a, step = gates[:, t], h @ turned
        a[:, : 2 * units] = xp.tanh((z[:, t, : 2 * units] + step[:, : 2 * units]) * 0.5)
        a[:, : 2 * units] *= 0.5
        a[:, : 2 * units] += 0.5
        candidates[:, t] = step[:, 2 * units :] + bias
        n = xp.tanh(z[:, t, 2 * units :] + a[:, :units] * candidates[:, t])
        a[:, 2 * units :] = n
        state = n + a[:, units : 2 * units] * (h - n)
        h = state if mask is None else xp.where(mask[:, t, None], state, h)
        hs[:, t] = h
    return hs, gates, candidates


def gru_scan_grad(
    xp: Any, gh: Any, z: Any, recurrent: Any, bias: Any, h: Any, *rest: Any, reverse: bool = False
) -> Any:
    """The gradients of `gru_scan` in z, the recurrent weight, the recurrent bias and the first state."""
    *masks, hs, gates, candidates = rest
    steps, units = z.shape[1], h.shape[1]
    befores = shifted(xp, hs, h, reverse)
    gz, gs = xp.empty_like(gates), xp.empty_like(gates)  # what reaches z, and the product with the state
    dh = xp.zeros_like(h)
    for t in range(steps) if reverse else range(steps - 1, -1, -1):
        r, u, n = (gates[:, t, k * units : (k + 1) * units] for k in range(3))
        dh = dh + gh[:, t]
        dn = dh * (1.0 - u) * (1.0 - n * n)
        da, ds = gz[:, t], gs[:, t]
        da[:, :units] = dn * candidates[:, t] * r * (1.0 - r)
        da[:, units : 2 * units] = dh * (befores[:, t] - n) * u * (1.0 - u)
        da[:, 2 * units :] = dn
        if masks:
            da *= masks[0][:, t, None]
        ds[:, : 2 * units] = da[:, : 2 * units]
        ds[:, 2 * units :] = da[:, 2 * units :] * r
        back = ds @ recurrent + dh * u
        dh = back if not masks else xp.where(masks[0][:, t, None], back, dh)
    flat = gs.reshape(-1, 3 * units)
    return gz, flat.T @ befores.reshape(-1, units), flat[:, 2 * units :].sum(0), dh


def rnn_scan(
    xp: Any, z: Any, recurrent: Any, h: Any, mask: Any = None, reverse: bool = False, relu: bool = False
) -> Any:
    """The states of a plain recurrent layer."""
    steps = z.shape[1]
    hs = xp.empty_like(z)
    turned = recurrent.T
    for t in range(steps - 1, -1, -1) if reverse else range(steps):
        state = z[:, t] + h @ turned
        state = state.clip(min=0) if relu else xp.tanh(state)
        h = state if mask is None else xp.where(mask[:, t, None], state, h)
        hs[:, t] = h
    return (hs,)


def rnn_scan_grad(
    xp: Any, gh: Any, z: Any, recurrent: Any, h: Any, *rest: Any, reverse: bool = False, relu: bool = False
) -> Any:
    """The gradients of `rnn_scan` in z, the recurrent weight and the first state."""
    *masks, hs = rest
    steps, units = z.shape[1], h.shape[1]
    gz = xp.empty_like(hs)
    dh = xp.zeros_like(h)
    for t in range(steps) if reverse else range(steps - 1, -1, -1):
        state = hs[:, t]
        dh = dh + gh[:, t]
        gz[:, t] = dh * (state > 0) if relu else dh * (1.0 - state * state)
        if masks:
            gz[:, t] *= masks[0][:, t, None]
        back = gz[:, t] @ recurrent
        dh = back if not masks else xp.where(masks[0][:, t, None], back, dh)
    before = shifted(xp, hs, h, reverse).reshape(-1, units)
    return gz, gz.reshape(-1, units).T @ before, dh
