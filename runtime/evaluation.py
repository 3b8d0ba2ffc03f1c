"""Running a network over a split: its loss, its predictions, its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from ..backends.base import Backend, Executable, State
from ..compiler.build import Head, Network, parts_of
from ..compiler.ir import Array, input_of
from ..compiler.passes import Model, for_training
from ..compiler.spec.registry import Call
from ..compiler.structs import Struct
from .data import Fitted, as_wanted
from .data.fields import FittedText
from .data.splits import NAMES
from .metrics import About, check_metric, evaluate_metrics
from .ranking import Scorer, scorers

Arrays = Mapping[str, Array]


class Outcome(Struct):
    """What a network makes of a split: the mean loss, and predictions beside targets by the head's key.

    Where padding was left out, there is one prediction for each step, and `sources` says which row it is of. Of a
    score, predictions are ranks, and targets say which of them count. `texts` are generated, beside those of the data.
    """

    loss: float
    rows: int
    predictions: Arrays
    targets: Arrays
    sources: Arrays = field(default_factory=dict)
    texts: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)


class Evaluator:
    """Runs a network's evaluation graph on the state that training updates."""

    def __init__(
        self, network: Network, backend: Backend, state: State, batch: int, fields: Mapping[str, Fitted] | None = None
    ) -> None:
        """`fields` say what is ranked by scores: see `scorers`."""
        model, _ = for_training(Model(network.graph))
        self.heads: tuple[Head, ...] = network.heads
        self.predicting = [head for head in network.heads if head.predicts]
        self.executable: Executable = backend.compile(model.graph, state)
        self.types = {input_of(v).name: v.type for v in model.graph.by_role("data")}
        self.names = list(self.types)
        self.parts = parts_of(model.graph.outputs)
        self.batch = batch
        self.scorers: dict[str, Scorer] = scorers(network, backend, state, fields or {})

    def run(self, arrays: Arrays, before: Sequence[Arrays] = ()) -> Outcome:
        """The loss and predictions over all rows; raises `ValueError` for no rows.

        before: the splits before this one; what they have is no candidate where items are ranked.
        """
        arrays, count = as_wanted(arrays, self.types), rows_of(arrays)
        if count == 0:
            raise ValueError("there are no rows to evaluate")
        sums = {name: 0.0 for pair in self.parts for name in pair}
        found: dict[str, list[Array]] = {}
        compared: dict[str, list[Array]] = {}
        for feeds in batches({name: arrays[name] for name in self.names}, self.batch):
            out = self.executable(feeds)
            for name in sums:
                sums[name] += float(out[name])
            for head in self.predicting:
                found.setdefault(head.key, []).append(out[f"prediction/{head.key}"])
                target = out.get(f"target/{head.key}", feeds.get(head.target))
                assert target is not None
                compared.setdefault(head.key, []).append(target)
        predictions = {name: np.concatenate(parts) for name, parts in found.items()}
        targets = {name: np.concatenate(parts) for name, parts in compared.items()}
        sources: dict[str, Array] = {}
        for head in self.predicting:
            key = head.key
            if head.task == "classes" and targets[key].ndim == 2:
                predictions[key], targets[key], sources[key] = _steps(predictions[key], targets[key])
        for key, scorer in self.scorers.items():
            predictions[key], targets[key] = scorer.ranks(arrays, before)
        return Outcome(loss_of((sums[t], sums[w]) for t, w in self.parts), count, predictions, targets, sources)


def loss_of(parts: Iterable[tuple[float, float]]) -> float:
    """The loss of many batches, by the sums of its parts (values and weights); NaN where no row weighs anything."""
    weighed = [total / weight for total, weight in parts if weight]
    return sum(weighed) if weighed else float("nan")


def _steps(prediction: Array, target: Array) -> tuple[Array, Array, Array]:
    """The steps of sequences that are no padding (ids below zero), in one row each, and which sequence they are of."""
    rows = np.repeat(np.arange(len(target)), target.shape[1])
    flat = prediction.reshape(-1, prediction.shape[-1]), target.reshape(-1), rows
    real = flat[1] >= 0
    # Nothing is copied where nothing is padded: language models have many steps of many classes.
    return flat if real.all() else (flat[0][real], flat[1][real], rows[real])


def earlier(splits: Mapping[str, Arrays], name: str) -> list[Arrays]:
    """The splits that come before one."""
    before = NAMES[: NAMES.index(name)] if name in NAMES else NAMES
    return [splits[n] for n in before if n in splits]


def rows_of(arrays: Arrays) -> int:
    return len(next(iter(arrays.values()))) if arrays else 0


def batches(arrays: Arrays, size: int) -> Iterator[dict[str, Array]]:
    """Consecutive rows, `size` at a time."""
    for start in range(0, rows_of(arrays), size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


def judged(head: Head, outcome: Outcome, field: Fitted | None) -> tuple[Array, Array, About]:
    """What metrics compare: predictions and targets in the units of the data, and what there is to know of them.

    The scaling of numbers is undone, and what frames spell is text.
    """
    prediction, target = outcome.predictions[head.key], outcome.targets[head.key]
    if head.task == "values" and field is not None:
        return field.inverse(prediction), field.inverse(target), About()
    if head.task == "text":
        return spelled(prediction, field), written(target, field), About()
    return prediction, target, About((field.names if field else None) or (), outcome.sources.get(head.key))


def spelled(frames: Array, field: Fitted | None) -> Array:
    """What the most probable classes of frames spell: those that follow each other count once, class 0 not at all."""
    best = frames.argmax(-1)
    kept = (best > 0) & (np.diff(best, axis=1, prepend=-1) != 0)
    return written(np.where(kept, best, -1), field)


def written(ids: Array, field: Fitted | None) -> Array:
    """Rows of ids as text; without a field of text, as numbers with blanks between them. Ids below one are left out."""
    out = np.empty(len(ids), object)
    for i, row in enumerate(ids):
        real = row[row > 0]
        out[i] = field.text(real) if isinstance(field, FittedText) else " ".join(map(str, real.tolist()))
    return out


def metrics_of(
    outcome: Outcome, heads: Sequence[Head], calls: list[Call], fields: Mapping[str, Fitted]
) -> dict[str, float]:
    """The loss and the metrics of an outcome, in the units of the data; with several heads, named after their keys."""
    found: dict[str, float] = {"loss": outcome.loss}
    for head in heads:
        prefix = f"{head.key}/" if len(heads) > 1 else ""
        if head.key in outcome.predictions:
            prediction, target, about = judged(head, outcome, fields.get(head.target))
            values = evaluate_metrics(calls_for(head.task, calls), prediction, target, head.task, about)
            found |= {prefix + name: value for name, value in values.items()}
        if head.key in outcome.texts:
            values = evaluate_metrics(calls_for("text", calls), *outcome.texts[head.key], "text")
            found |= {prefix + name: value for name, value in values.items()}
    return found


def calls_for(task: str, calls: list[Call]) -> list[Call]:
    """The metrics that are meant for a task."""
    return [call for call in calls if check_metric(call, task) is None]


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that JSON can hold: NaN becomes null."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}
