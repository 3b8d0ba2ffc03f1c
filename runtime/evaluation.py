"""Running a network over a split: its loss, its predictions, its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends.base import Backend, Executable, State
from ..compiler.build import Head, Network
from ..compiler.ir import Array, input_of
from ..compiler.passes import Model, for_training
from ..compiler.spec.registry import Call
from .metrics import check_metric, evaluate_metrics


@dataclass(frozen=True)
class Outcome:
    """What a network makes of a split: the mean loss, and predictions beside targets for each head that
    predicts.

    Where padding was left out, there is one prediction for each step, and `sources` says which row it is of.
    """

    loss: float
    rows: int
    predictions: Mapping[str, Array]
    targets: Mapping[str, Array]
    sources: Mapping[str, Array] = field(default_factory=dict)


class Evaluator:
    """Runs a network's evaluation graph on the state that training updates."""

    def __init__(self, network: Network, backend: Backend, state: State, batch: int) -> None:
        model, _ = for_training(Model(network.graph))
        self.heads: tuple[Head, ...] = network.heads
        self.predicting = [head for head in network.heads if head.predicts]
        self.executable: Executable = backend.compile(model.graph, state)
        self.names = [input_of(v).name for v in model.graph.by_role("data")]
        self.batch = batch

    def run(self, arrays: Mapping[str, Array]) -> Outcome:
        """The loss and predictions over all rows; raises `ValueError` for no rows."""
        count = rows_of(arrays)
        if count == 0:
            raise ValueError("there are no rows to evaluate")
        total = weight = 0.0
        found: dict[str, list[Array]] = {}
        compared: dict[str, list[Array]] = {}
        for feeds in batches({name: arrays[name] for name in self.names}, self.batch):
            out = self.executable(feeds)
            total += float(out["loss/total"])
            weight += float(out["loss/weight"])
            for head in self.predicting:
                found.setdefault(head.key, []).append(out[f"prediction/{head.key}"])
                target = out.get(f"target/{head.key}", feeds.get(head.target))
                assert target is not None
                compared.setdefault(head.key, []).append(target)
        predictions = {name: np.concatenate(parts) for name, parts in found.items()}
        targets = {name: np.concatenate(parts) for name, parts in compared.items()}
        sources: dict[str, Array] = {}
        for head in self.predicting:
            real = steps_of(predictions[head.key], targets[head.key])
            if real is not None:
                sources[head.key] = real[0]
                predictions[head.key], targets[head.key] = predictions[head.key][real], targets[head.key][real]
        return Outcome(total / weight if weight else float("nan"), count, predictions, targets, sources)


def steps_of(prediction: Array, target: Array) -> tuple[Array, ...] | None:
    """Where the steps are that are no padding (ids below zero); `None` where all are or there are no steps."""
    if target.ndim < 2 or target.dtype.kind != "i" or prediction.ndim != target.ndim + 1 or target.min() >= 0:
        return None
    return np.nonzero(target >= 0)


def rows_of(arrays: Mapping[str, Array]) -> int:
    return len(next(iter(arrays.values()))) if arrays else 0


def batches(arrays: Mapping[str, Array], size: int) -> Iterator[dict[str, Array]]:
    """Consecutive rows, `size` at a time."""
    for start in range(0, rows_of(arrays), size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


def metrics_of(outcome: Outcome, heads: tuple[Head, ...], calls: list[Call]) -> dict[str, float]:
    """The loss and the metrics of an outcome; with several heads, metrics are named after their targets."""
    found: dict[str, float] = {"loss": outcome.loss}
    for head in heads:
        if not head.predicts:
            continue
        values = evaluate_metrics(
            calls_for(head, calls), outcome.predictions[head.key], outcome.targets[head.key], head.task
        )
        prefix = f"{head.key}/" if len(heads) > 1 else ""
        found |= {prefix + name: value for name, value in values.items()}
    return found


def calls_for(head: Head, calls: list[Call]) -> list[Call]:
    """The metrics that are meant for a head's task."""
    return [call for call in calls if check_metric(call, head.task) is None]


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that JSON can hold: NaN becomes null."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}
