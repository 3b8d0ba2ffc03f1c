"""Trine itself, on one of its backends."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from .. import fitting
from ..workloads import SPECS, Workload
from . import Step

# How far results in bfloat16 may be off, of the largest: as `precision: auto` has it.
BOUND = 1e-2


def infer(workload: Workload, backend: str, precision: str = "f32") -> Step:
    from trine.backends.base import load
    from trine.compiler.passes import Decided, freeze
    from trine.compiler.passes import precision as passes
    from trine.runtime.model import inference_model
    from trine.runtime.trial import Trial

    runner, feeds = load(backend), {"x": workload.feeds()["x"]}
    model, _ = inference_model(workload.spec(), workload.weights())
    if precision == "bf16":
        trial = Trial(workload.spec(), workload.weights(), feeds)
        model = passes.precision(model, Decided(trial.within(BOUND, trial.steps)))
    run = runner.compile(freeze(model), runner.state({}))
    return lambda: run(feeds)["logits"]


def train(workload: Workload, backend: str, precision: str = "f32") -> Step:
    from trine.backends.base import load
    from trine.compiler.passes import Model, for_training
    from trine.compiler.training import training
    from trine.runtime.trainer import initial_state

    runner = load(backend)
    step = training(workload.spec([f"train.precision={precision}"])).step
    assert step is not None
    graph = for_training(Model(step))[0].graph
    run = runner.compile(graph, runner.state(initial_state([graph], 0)))
    batches = cycle(workload.batches())
    hyper = {"lr": np.asarray(1e-3), "step": np.asarray(0.0)}

    def once() -> Any:
        loss = run({**next(batches), **hyper})["loss"]
        hyper["step"] = hyper["step"] + 1.0
        return loss

    return once


def decode(workload: Workload, backend: str) -> Step:
    from trine.backends.base import load
    from trine.runtime.generation import Generator
    from trine.runtime.model import LoadedModel

    generator = Generator(LoadedModel(workload.spec(), workload.weights(), {}, backend=load(backend)))
    first = int(workload.feeds()["x"][0, 0])

    def once() -> Any:
        generator.begin({})
        token, rows = first, []
        for _ in range(fitting.DECODED):
            logits = generator.step([token])[0]
            token = int(logits.argmax())
            rows.append(logits)
        return rows

    return once


def fit(workload: Workload, backend: str) -> Callable[[int], float]:
    """The whole of `trine.train`, as a user calls it: metrics, the log and validation after every epoch.

    No checkpoints but the last, like Lightning here.
    """
    import trine

    data = {split: fitting.rows(split) for split in ("train", "valid")}
    path = SPECS / f"{workload.name}.yaml"

    def once(epochs: int) -> float:
        settings = {"train.epochs": epochs, "train.batch": workload.batch, "train.checkpoint.every": f"{epochs}ep"}
        with tempfile.TemporaryDirectory() as folder:
            trained = trine.train(path, Path(folder) / "run", set=settings, data=data, backend=backend)
        return trained.metrics["valid"]["accuracy"]

    return once
