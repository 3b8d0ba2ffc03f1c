"""Recurrences as loops, for the backends that run Python: `xp` is the module `numpy` or `torch`.

Both have the few functions these loops are made of, by the same names. Shapes and outputs are those of the scans in
`compiler/ops/recurrent.py`; inside, time goes first, so that what a step reads and writes lies together, and what does
not need the step before is computed for all steps at once. A file that `trine compile` writes holds a copy of the
functions that it calls.
"""

from __future__ import annotations

from typing import Any

NAMES = (
    "lstm_scan", "lstm_scan_grad", "gru_scan", "gru_scan_grad", "rnn_scan", "rnn_scan_grad", "shifted", "time_first",
)  # fmt: skip


def time_first(xp: Any, x: Any) -> Any:
    """A copy of [N, T, …] as [T, N, …]."""
    turned = xp.swapaxes(x, 0, 1)
    copied = xp.empty(turned.shape, dtype=x.dtype, device=x.device)
    copied[...] = turned
    return copied


def shifted(xp: Any, states: Any, first: Any, reverse: bool) -> Any:
    """The state before each step, [T, N, units]."""
    start = first[None]
    return xp.concatenate([states[1:], start] if reverse else [start, states[:-1]], axis=0)


def lstm_scan(xp: Any, z: Any, recurrent: Any, h: Any, c: Any, mask: Any = None, reverse: bool = False) -> Any:
    """The states, cells and gates of an LSTM."""
    steps, units = z.shape[1], h.shape[1]
    gates = time_first(xp, z)
    hs = xp.empty_like(gates[:, :, :units])
    cs = xp.empty_like(hs)
    # sigmoid(a) = tanh(a / 2) / 2 + 1/2: one call for all four gates. Halves are exact, also of weights.
    scale = xp.full_like(recurrent[:, 0], 0.5)
    scale[2 * units : 3 * units] = 1.0
    shift, turned = 1.0 - scale, recurrent.T * scale
    gates *= scale
    for t in range(steps - 1, -1, -1) if reverse else range(steps):
        a, after, state = gates[t], cs[t], hs[t]
        a += h @ turned
        xp.tanh(a, out=a)
        a *= scale
        a += shift
        i, f, g, o = (a[:, k * units : (k + 1) * units] for k in range(4))
        xp.multiply(f, c, out=after)
        after += i * g
        xp.tanh(after, out=state)
        state *= o
        if mask is not None:
            real = mask[:, t, None]
            state[...] = xp.where(real, state, h)
            after[...] = xp.where(real, after, c)
        h, c = state, after
    return xp.swapaxes(hs, 0, 1), xp.swapaxes(cs, 0, 1), xp.swapaxes(gates, 0, 1)


def lstm_scan_grad(
    xp: Any, gh: Any, gc: Any, z: Any, recurrent: Any, h: Any, c: Any, *rest: Any, reverse: bool = False
) -> Any:
    """The gradients of `lstm_scan` in z, the recurrent weight and the first state and cell."""
    *masks, hs, cs, gates = rest
    steps, units = z.shape[1], h.shape[1]
    gh, gc, hs, cs, gates = (xp.swapaxes(x, 0, 1) for x in (gh, gc, hs, cs, gates))
    gz = xp.empty(gates.shape, dtype=z.dtype, device=z.device)
    i, f, g, o = (gates[:, :, k * units : (k + 1) * units] for k in range(4))
    bent = xp.tanh(cs)
    through = o * (1.0 - bent * bent)
    slopes = gates * (1.0 - gates)
    factors = xp.concatenate(
        [
            slopes[:, :, :units] * g,
            slopes[:, :, units : 2 * units] * shifted(xp, cs, c, reverse),
            i * (1.0 - g * g),
            slopes[:, :, 3 * units :] * bent,
        ],
        axis=2,
    )
    dh, dc = xp.zeros_like(h), xp.zeros_like(c)
    for t in range(steps) if reverse else range(steps - 1, -1, -1):
        da, factor = gz[t], factors[t]
        dh = dh + gh[t]
        dc = dc + gc[t]
        inner = dc + dh * through[t]
        for k in range(3):
            part = slice(k * units, (k + 1) * units)
            xp.multiply(inner, factor[:, part], out=da[:, part])
        xp.multiply(dh, factor[:, 3 * units :], out=da[:, 3 * units :])
        if masks:
            real = masks[0][:, t, None]
            da *= real
            dh, dc = xp.where(real, da @ recurrent, dh), xp.where(real, inner * f[t], dc)
        else:
            dh, dc = da @ recurrent, inner * f[t]
    before = shifted(xp, hs, h, reverse).reshape(-1, units)
    return xp.swapaxes(gz, 0, 1), gz.reshape(-1, 4 * units).T @ before, dh, dc


def gru_scan(xp: Any, z: Any, recurrent: Any, bias: Any, h: Any, mask: Any = None, reverse: bool = False) -> Any:
    """The states, gates and candidates of a GRU."""
    steps, units = z.shape[1], h.shape[1]
    gates = time_first(xp, z)
    hs = xp.empty_like(gates[:, :, :units])
    candidates = xp.empty_like(hs)
    # sigmoid(a) = tanh(a / 2) / 2 + 1/2. Halves are exact, also of weights.
    scale = xp.full_like(recurrent[:, 0], 0.5)
    scale[2 * units :] = 1.0
    turned = recurrent.T * scale
    gates[:, :, : 2 * units] *= 0.5
    for t in range(steps - 1, -1, -1) if reverse else range(steps):
        a, state, step = gates[t], hs[t], h @ turned
        both = a[:, : 2 * units]
        both += step[:, : 2 * units]
        xp.tanh(both, out=both)
        both *= 0.5
        both += 0.5
        r, u, n = (a[:, k * units : (k + 1) * units] for k in range(3))
        xp.add(step[:, 2 * units :], bias, out=candidates[t])
        n += r * candidates[t]
        xp.tanh(n, out=n)
        xp.subtract(h, n, out=state)
        state *= u
        state += n
        if mask is not None:
            state[...] = xp.where(mask[:, t, None], state, h)
        h = state
    return xp.swapaxes(hs, 0, 1), xp.swapaxes(gates, 0, 1), xp.swapaxes(candidates, 0, 1)


def gru_scan_grad(
    xp: Any, gh: Any, z: Any, recurrent: Any, bias: Any, h: Any, *rest: Any, reverse: bool = False
) -> Any:
    """The gradients of `gru_scan` in z, the recurrent weight, the recurrent bias and the first state."""
    *masks, hs, gates, candidates = rest
    steps, units = z.shape[1], h.shape[1]
    gh, hs, gates, candidates = (xp.swapaxes(x, 0, 1) for x in (gh, hs, gates, candidates))
    # what reaches z, and what the product with the state
    gz, gs = (xp.empty(gates.shape, dtype=z.dtype, device=z.device) for _ in range(2))
    befores = shifted(xp, hs, h, reverse)
    r, u, n = (gates[:, :, k * units : (k + 1) * units] for k in range(3))
    new = (1.0 - u) * (1.0 - n * n)
    reset = candidates * r * (1.0 - r)
    update = (befores - n) * u * (1.0 - u)
    dh = xp.zeros_like(h)
    for t in range(steps) if reverse else range(steps - 1, -1, -1):
        da, ds = gz[t], gs[t]
        dh = dh + gh[t]
        dn = dh * new[t]
        xp.multiply(dn, reset[t], out=da[:, :units])
        xp.multiply(dh, update[t], out=da[:, units : 2 * units])
        da[:, 2 * units :] = dn
        if masks:
            da *= masks[0][:, t, None]
        ds[:, : 2 * units] = da[:, : 2 * units]
        xp.multiply(da[:, 2 * units :], r[t], out=ds[:, 2 * units :])
        back = ds @ recurrent
        back += dh * u[t]
        dh = back if not masks else xp.where(masks[0][:, t, None], back, dh)
    flat = gs.reshape(-1, 3 * units)
    return xp.swapaxes(gz, 0, 1), flat.T @ befores.reshape(-1, units), flat[:, 2 * units :].sum(0), dh


def rnn_scan(
    xp: Any, z: Any, recurrent: Any, h: Any, mask: Any = None, reverse: bool = False, relu: bool = False
) -> Any:
    """The states of a plain recurrent layer."""
    steps = z.shape[1]
    hs = time_first(xp, z)
    turned = recurrent.T
    for t in range(steps - 1, -1, -1) if reverse else range(steps):
        state = hs[t]
        state += h @ turned
        if relu:
            state *= state > 0
        else:
            xp.tanh(state, out=state)
        if mask is not None:
            state[...] = xp.where(mask[:, t, None], state, h)
        h = state
    return (xp.swapaxes(hs, 0, 1),)


def rnn_scan_grad(
    xp: Any, gh: Any, z: Any, recurrent: Any, h: Any, *rest: Any, reverse: bool = False, relu: bool = False
) -> Any:
    """The gradients of `rnn_scan` in z, the recurrent weight and the first state."""
    *masks, hs = rest
    steps, units = z.shape[1], h.shape[1]
    gh, hs = (xp.swapaxes(x, 0, 1) for x in (gh, hs))
    gz = xp.empty(hs.shape, dtype=z.dtype, device=z.device)
    slopes = hs > 0 if relu else 1.0 - hs * hs
    dh = xp.zeros_like(h)
    for t in range(steps) if reverse else range(steps - 1, -1, -1):
        dh = dh + gh[t]
        xp.multiply(dh, slopes[t], out=gz[t])
        if masks:
            gz[t] *= masks[0][:, t, None]
        back = gz[t] @ recurrent
        dh = back if not masks else xp.where(masks[0][:, t, None], back, dh)
    before = shifted(xp, hs, h, reverse).reshape(-1, units)
    return xp.swapaxes(gz, 0, 1), gz.reshape(-1, units).T @ before, dh
