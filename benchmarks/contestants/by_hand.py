"""What one writes in NumPy for an MLP without thinking about speed."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

from ..workloads import Arrays, Workload
from . import Step

NAMES = ("a", "b", "logits")


def _forward(w: Arrays, x: Any) -> list[Any]:
    """The input, and the output of every layer."""
    values = [x]
    for name in NAMES:
        z = values[-1] @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        values.append(z if name == "logits" else np.maximum(z, 0))
    return values


def infer(workload: Workload) -> Step:
    w, x = workload.weights(), workload.feeds()["x"]
    return lambda: _forward(w, x)[-1]


def train(workload: Workload) -> Step:
    w = workload.weights()
    m, v = ({name: np.zeros_like(array) for name, array in w.items()} for _ in range(2))
    batches = cycle(workload.batches())
    time = 0

    def once() -> Any:
        nonlocal time
        time += 1
        feeds = next(batches)
        label = feeds["label"]
        values = _forward(w, feeds["x"])
        z = values[-1] - values[-1].max(1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        rows = np.arange(len(label))
        loss = -np.log(p[rows, label]).mean()
        p[rows, label] -= 1
        g = p / len(label)
        for name, value in reversed(list(zip(NAMES, values, strict=False))):
            grads = {f"{name}.weight": g.T @ value, f"{name}.bias": g.sum(0)}
            g = (g @ w[f"{name}.weight"]) * (value > 0)
            for key, d in grads.items():
                _adamw(w, m, v, key, d, time)
        return loss

    return once


def _adamw(w: Arrays, m: Arrays, v: Arrays, key: str, g: Any, t: int) -> None:
    if key.endswith("weight"):
        w[key] = w[key] * np.float32(1 - 1e-3 * 0.01)
    m[key] = 0.9 * m[key] + 0.1 * g
    v[key] = 0.999 * v[key] + 0.001 * g * g
    step = np.float32(1e-3 / (1 - 0.9**t)) * m[key] / (np.sqrt(v[key]) / np.float32(np.sqrt(1 - 0.999**t)) + 1e-8)
    w[key] = w[key] - step
