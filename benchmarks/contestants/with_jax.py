"""JAX: the two simplest networks, as functions of their weights."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp

from ..workloads import Workload
from . import Step

Weights = dict[str, Any]


def _linear(w: Weights, name: str, x: Any) -> Any:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _mlp(w: Weights, x: Any) -> Any:
    x = jax.nn.relu(_linear(w, "a", x))
    return _linear(w, "logits", jax.nn.relu(_linear(w, "b", x)))


def _conv(w: Weights, name: str, x: Any) -> Any:
    layout = ("NCHW", "OIHW", "NCHW")
    y = jax.lax.conv_general_dilated(x, w[f"{name}.weight"], (1, 1), "SAME", dimension_numbers=layout)
    y = jax.nn.relu(y + w[f"{name}.bias"][:, None, None])
    return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def _cnn(w: Weights, x: Any) -> Any:
    x = _conv(w, "b", _conv(w, "a", x))
    return _linear(w, "logits", jax.nn.relu(_linear(w, "c", x.reshape(len(x), -1))))


NETWORKS = {"mlp": _mlp, "cnn": _cnn}


def infer(workload: Workload) -> Step:
    weights, x = _arrays(workload.weights()), jnp.asarray(workload.feeds()["x"])
    run = jax.jit(partial(NETWORKS[workload.name], weights))
    return lambda: run(x).block_until_ready()


def train(workload: Workload) -> Step:
    network = NETWORKS[workload.name]

    def loss_of(w: Weights, x: Any, label: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(network(w, x)), label[:, None], 1).mean()

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def update(w: Weights, m: Weights, v: Weights, step: Any, x: Any, label: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(w, x, label)
        m = {k: 0.9 * m[k] + 0.1 * g for k, g in grads.items()}
        v = {k: 0.999 * v[k] + 0.001 * g * g for k, g in grads.items()}
        return loss, {k: _adamw(w[k], m[k], v[k], step) for k in w}, m, v, step + 1

    w = _arrays(workload.weights())
    state = (w, jax.tree.map(jnp.zeros_like, w), jax.tree.map(jnp.zeros_like, w), jnp.asarray(1.0))
    batches = cycle([_arrays(feeds) for feeds in workload.batches()])

    def once() -> float:
        nonlocal state
        feeds = next(batches)
        loss, *new = update(*state, feeds["x"], feeds["label"])
        state = tuple(new)
        return float(loss)

    return once


def _adamw(w: Any, m: Any, v: Any, step: Any) -> Any:
    decayed = w * (1 - 1e-3 * 0.01) if w.ndim > 1 else w
    return decayed - 1e-3 * (m / (1 - 0.9**step)) / (jnp.sqrt(v / (1 - 0.999**step)) + 1e-8)


def _arrays(arrays: Any) -> Weights:
    return {name: jnp.asarray(array) for name, array in arrays.items()}
