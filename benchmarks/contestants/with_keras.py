"""Keras on JAX, its channels last: the two simplest networks, and `fit`."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import cycle
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # before its import

import keras
import numpy as np
from keras import layers

from .. import fitting
from ..workloads import Workload
from . import Step


def infer(workload: Workload) -> Step:
    model, x = _model(workload), keras.ops.convert_to_tensor(_last(workload.feeds()["x"]))
    model.compile(jit_compile=True)
    return lambda: np.asarray(model.predict_on_batch(x))


def train(workload: Workload) -> Step:
    model = _model(workload)
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.01, epsilon=1e-8)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = cycle([(_last(feeds["x"]), feeds["label"]) for feeds in workload.batches()])

    def once() -> float:
        # It gives the mean of the losses since the metrics were reset.
        model.reset_metrics()
        return float(model.train_on_batch(*next(batches)))

    return once


def fit(workload: Workload) -> Callable[[int], float]:
    rows, valid = fitting.rows("train"), fitting.rows("valid")

    def once(epochs: int) -> float:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layers.Input((784,)), layers.Dense(32, activation="relu"), layers.Dense(10)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.01), loss, metrics=["accuracy"])
        held = (valid["x"], valid["label"])
        settings = {"batch_size": workload.batch, "epochs": epochs, "validation_data": held, "verbose": 0}
        return float(model.fit(rows["x"], rows["label"], **settings).history["val_accuracy"][-1])

    return once


def _last(x: Any) -> Any:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim == 4 else x


def _model(workload: Workload) -> Any:
    model = keras.Sequential(_mlp() if workload.name == "mlp" else _cnn())
    w = workload.weights()
    if workload.name == "cnn":
        # What is flattened has its channels last.
        w["c.weight"] = w["c.weight"].reshape(-1, 64, 7, 7).transpose(0, 2, 3, 1).reshape(len(w["c.weight"]), -1)
    for layer in model.layers:
        if layer.weights:
            kernel = w[f"{layer.name}.weight"]
            axes = (2, 3, 1, 0) if kernel.ndim == 4 else (1, 0)
            layer.set_weights([kernel.transpose(axes), w[f"{layer.name}.bias"]])
    return model


def _mlp() -> list[Any]:
    hidden = [layers.Dense(512, "relu", name="a"), layers.Dense(256, "relu", name="b")]
    return [layers.Input((784,)), *hidden, layers.Dense(10, name="logits")]


def _cnn() -> list[Any]:
    found = [layers.Input((28, 28, 1))]
    for name, filters in (("a", 32), ("b", 64)):
        found += [layers.Conv2D(filters, 3, padding="same", activation="relu", name=name), layers.MaxPooling2D(2)]
    return [*found, layers.Flatten(), layers.Dense(128, "relu", name="c"), layers.Dense(10, name="logits")]
