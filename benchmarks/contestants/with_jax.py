"""JAX: the networks without batch norms, as functions of their weights."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp

from ..workloads import Workload, blocks
from . import Step

Weights = dict[str, Any]
Params = Mapping[str, Any]


def infer(workload: Workload) -> Step:
    network = partial(NETWORKS[workload.name], workload.params())
    weights, x = _arrays(workload.weights()), jnp.asarray(workload.feeds()["x"])
    run = jax.jit(partial(network, weights))
    return lambda: run(x).block_until_ready()


def train(workload: Workload) -> Step:
    network = partial(NETWORKS[workload.name], workload.params())

    def loss_of(w: Weights, x: Any, label: Any) -> Any:
        logits = jax.nn.log_softmax(network(w, x))
        if label is None:  # each token is that of the one before it
            logits, label = logits[:, :-1], x[:, 1:]
        return -jnp.take_along_axis(logits, label[..., None], -1).mean()

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def update(w: Weights, m: Weights, v: Weights, step: Any, x: Any, label: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(w, x, label)
        m = {k: 0.9 * m[k] + 0.1 * g for k, g in grads.items()}
        v = {k: 0.999 * v[k] + 0.001 * g * g for k, g in grads.items()}
        return loss, {k: _adamw(k, w[k], m[k], v[k], step) for k in w}, m, v, step + 1

    w = _arrays(workload.weights())
    state = (w, jax.tree.map(jnp.zeros_like, w), jax.tree.map(jnp.zeros_like, w), jnp.asarray(1.0))
    batches = cycle([_arrays(feeds) for feeds in workload.batches()])

    def once() -> float:
        nonlocal state
        feeds = next(batches)
        loss, *new = update(*state, feeds["x"], feeds.get("label"))
        state = tuple(new)
        return float(loss)

    return once


def _adamw(name: str, w: Any, m: Any, v: Any, step: Any) -> Any:
    decayed = w * (1 - 1e-3 * 0.01) if w.ndim > 1 and name != "places.weight" else w
    return decayed - 1e-3 * (m / (1 - 0.9**step)) / (jnp.sqrt(v / (1 - 0.999**step)) + 1e-8)


def _arrays(arrays: Any) -> Weights:
    return {name: jnp.asarray(array) for name, array in arrays.items()}


# -- networks ------------------------------------------------------------------------------------


def _linear(w: Weights, name: str, x: Any) -> Any:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def _mlp(params: Params, w: Weights, x: Any) -> Any:
    x = jax.nn.relu(_linear(w, "a", x))
    return _linear(w, "logits", jax.nn.relu(_linear(w, "b", x)))


def _conv(w: Weights, name: str, x: Any) -> Any:
    layout = ("NCHW", "OIHW", "NCHW")
    y = jax.lax.conv_general_dilated(x, w[f"{name}.weight"], (1, 1), "SAME", dimension_numbers=layout)
    y = jax.nn.relu(y + w[f"{name}.bias"][:, None, None])
    return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def _cnn(params: Params, w: Weights, x: Any) -> Any:
    x = _conv(w, "b", _conv(w, "a", x))
    return _linear(w, "logits", jax.nn.relu(_linear(w, "c", x.reshape(len(x), -1))))


def _layer_norm(w: Weights, name: str, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    deviation = jnp.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred / deviation * w[f"{name}.scale"] + w[f"{name}.shift"]


def _block(w: Weights, name: str, x: Any, heads: int, causal: bool) -> Any:
    first, second = f"{name}.residual_1", f"{name}.residual_2"
    y = _layer_norm(w, f"{first}.layer_norm_1", x)
    split = (*x.shape[:2], heads, x.shape[2] // heads)
    q, k, v = (_linear(w, f"{first}.attention_1.{part}", y).reshape(split) for part in ("query", "key", "value"))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=causal).reshape(x.shape)
    x = x + _linear(w, f"{first}.attention_1.output", y)
    y = _linear(w, f"{second}.linear_1", _layer_norm(w, f"{second}.layer_norm_1", x))
    return x + _linear(w, f"{second}.linear_2", jax.nn.gelu(y, approximate=False))


def _encoder(params: Params, w: Weights, x: Any) -> Any:
    for name in blocks(w, "encoder"):
        x = _block(w, name, x, params["heads"], causal=False)
    return _linear(w, "logits", _layer_norm(w, "layer_norm_1", x).mean(1))


def _decoder(params: Params, w: Weights, x: Any) -> Any:
    y = w["table.weight"][x] + w["places.weight"][: x.shape[1]]
    for name in blocks(w, "decoder"):
        y = _block(w, name, y, params["heads"], causal=True)
    return _linear(w, "logits", _layer_norm(w, "layer_norm_1", y))


def _lstm_step(w: Weights, name: str, state: Any, x: Any) -> Any:
    h, c = state
    i, f, g, o = jnp.split(x + h @ w[f"{name}.recurrent"].T, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def _gru_step(w: Weights, name: str, state: Any, x: Any) -> Any:
    (h,) = state
    (r, z, n), (rh, zh, nh) = jnp.split(x, 3, -1), jnp.split(h @ w[f"{name}.recurrent"].T, 3, -1)
    z = jax.nn.sigmoid(z + zh)
    n = jnp.tanh(n + jax.nn.sigmoid(r + rh) * (nh + w[f"{name}.recurrent_bias"]))
    h = (1 - z) * n + z * h
    return (h,), h


def _recurrent(step: Callable[..., Any], states: int, params: Params, w: Weights, x: Any) -> Any:
    """The layers, and a linear one on the last states of the last of them."""
    empty = (jnp.zeros((len(x), params["units"])),) * states
    y, last = x.swapaxes(0, 1), []
    for i in range(params["depth"]):
        names = [name for end in ("", ".reverse") if f"{(name := f'states.layer_{i + 1}{end}')}.weight" in w]
        scanned = [
            jax.lax.scan(partial(step, w, name), empty, _linear(w, name, y), reverse=name.endswith("reverse"))
            for name in names
        ]
        last = [state[0] for state, _ in scanned]
        y = jnp.concatenate([output for _, output in scanned], -1)
    return _linear(w, "logits", jnp.concatenate(last, -1))


NETWORKS: dict[str, Callable[[Params, Weights, Any], Any]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "lstm": partial(_recurrent, _lstm_step, 2),
    "bilstm": partial(_recurrent, _lstm_step, 2),
    "gru": partial(_recurrent, _gru_step, 1),
    "encoder": _encoder,
    "decoder": _decoder,
}
