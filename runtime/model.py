"""A trained network with its fitted fields: rows in, predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.base import Backend
from ..backends.base import load as load_backend
from ..backends.executable import sizes_of
from ..compiler.analysis import id_bounds, id_lows
from ..compiler.build import Head, build
from ..compiler.initialisers import initialise
from ..compiler.ir import Array, Graph, IRError, Type, input_of
from ..compiler.passes import Decided, Model, Record, for_inference, freeze
from ..compiler.passes.precision import in_bfloat16
from ..compiler.spec.diagnostics import hint
from ..compiler.spec.reader import Spec
from ..compiler.spec.signatures import spec_type
from .artefacts import open_artefact
from .data import DataError, Dataset, Fitted, Schema, Table, conform, from_arrays, mend, transform
from .data.fields import in_order
from .data.table import Rowwise
from .evaluation import Evaluator, Outcome, batches, metrics_of, spelled
from .transfer import transferred


class LoadedModel:
    """A network with its weights and fitted fields: it takes rows or arrays, and predicts.

    Made by `trine.load` and `trine.train`.
    """

    def __init__(
        self,
        spec: Spec,
        weights: Mapping[str, Array],
        fields: Mapping[str, Fitted],
        evaluator: Evaluator | None = None,
        backend: Backend | None = None,
        decided: Decided | None = None,
        schema: Schema | None = None,
    ) -> None:
        """schema: what the columns of the training rows were; without it, what rows hold is guessed from them."""
        self.decided = decided
        self.schema: Schema = schema or {}
        self.spec, self.weights, self.fields = spec, dict(weights), dict(fields)
        self.backend = backend or load_backend("numpy")
        self._network = build(spec, "evaluate")
        self.heads: tuple[Head, ...] = self._network.heads
        self._evaluator = evaluator
        self._inputs: dict[str, Type] | None = None
        self._model: Model | None = None
        self._predictor: Any = None

    @property
    def evaluator(self) -> Evaluator:
        """Runs the network over rows with targets; made when it is first asked for."""
        if self._evaluator is None:
            state = self.backend.state(self.weights)
            batch = self.spec.sections.evaluate.batch
            network = self._network
            if self.decided is not None:
                network = replace(network, graph=in_bfloat16(network.graph, self.decided.steps))
            self._evaluator = Evaluator(network, self.backend, state, batch, self.fields)
        return self._evaluator

    @property
    def inputs(self) -> dict[str, Type]:
        """What `predict_arrays` takes, and predictions read: types by name, the batch axis first."""
        if self._inputs is None:
            self._inputs = {input_of(v).name: v.type for v in self._optimised.graph.by_role("data")}
        return self._inputs

    def names(self, head: Head) -> list[str]:
        """The names of a head's classes."""
        field = self.fields.get(head.target)
        names = getattr(field, "names", None)
        return list(names) if names else []

    def metrics_of(self, outcome: Outcome) -> dict[str, float]:
        """The loss and the metrics of an outcome, in the units of the data."""
        return metrics_of(outcome, self.heads, self.spec.sections.evaluate.metrics, self.fields)

    def groups(self, name: str, dataset: Dataset, split: str) -> Array:
        """The group of each row of a split: the value of a field or column, as text."""
        part = dataset.splits[split]
        column = name
        if name in self.fields and len(self.fields[name].columns) == 1:
            column = self.fields[name].columns[0]
        found = part.table.column(column)
        return np.array(["(missing)" if m else str(v) for v, m in zip(found.values, found.missing, strict=True)])

    def evaluate(self, arrays: Mapping[str, Array]) -> dict[str, float]:
        """The loss and metrics on fields that are encoded already."""
        return self.metrics_of(self.evaluator.run(arrays))

    def rows(self, rows: Rowwise | Table) -> Table:
        """Raw rows as the training rows were: of the same kinds, and mended by the same steps of `data.clean`.

        Raises `DataError` for what has no columns and no rows.
        """
        table = rows if isinstance(rows, Table) else from_arrays(rows)
        if not len(table):
            raise DataError(f"{table.source}: there are no rows")
        data = self.spec.sections.data
        mended = mend(conform(table, self.schema), data.clean if data is not None else ())
        return in_order(self.fields.values(), mended)

    def predict(self, rows: Rowwise | Table, *, probabilities: bool = False) -> dict[str, Array]:
        """Predictions for raw rows: columns by name (arrays, lists, a data frame), or a list of rows.

        Rows are taken as the training rows were: their columns are of the same kinds, and the steps of `data.clean`
        that mend columns are applied to them. For each target: its classes with `<target>/probability` (that of the
        class named), or the numbers in the units of the data. Where several losses compare with one target, those
        after the first predict `<target>/2` and so on. Where a loss predicts nothing, the outputs of the spec.

        probabilities: whether the probability of each class is added, as `<target>/probability/<class>`.
        Raises `DataError` for columns or values that do not fit.
        """
        return self.predict_prepared(self.rows(rows), probabilities)

    def predict_prepared(self, table: Table, probabilities: bool = False) -> dict[str, Array]:
        """Predictions for rows that are as the training rows were already: see `rows`."""
        inputs = transform(self.fields, table, self.inputs)
        return self._without_padding(self.decode(self.predict_arrays(inputs), probabilities), inputs)

    def _without_padding(self, found: dict[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Predictions for each step of a sequence, those of padded steps left out: a list for each row."""
        masks = {self.inputs[n].shape[1]: array >= 0 for n, array in inputs.items() if self._is_padded(n)}
        outputs = self._optimised.graph.outputs
        for name, array in found.items():
            output = outputs.get(name.partition("/probability")[0])
            mask = masks.get(output.shape[1]) if output is not None and output.rank > 1 else None
            if mask is not None and array.ndim == 2:
                found[name] = _rows(array, mask)
        return found

    def _is_padded(self, name: str) -> bool:
        """Whether rows of an input of sequences are padded: its axis has a name then."""
        return bool(self.fields[name].padded) and self.inputs[name].rank == 2

    def predict_arrays(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The network's raw predictions for encoded inputs: probabilities or numbers, by target.

        Where a loss predicts nothing, the outputs of the spec by name are among them.
        Raises `DataError` for inputs that are missing, unknown, or not of the declared type.
        """
        run, inputs = self._compiled(), self._checked(inputs)
        parts = [run(feeds) for feeds in batches(inputs, self.spec.sections.evaluate.batch)]
        if not parts:
            raise DataError("there are no rows to predict")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _checked(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The inputs as arrays of their declared types."""
        for name in inputs:
            if name not in self.inputs:
                raise DataError(f"the model has no input `{name}`: {hint(name, self.inputs)}")
        found: dict[str, Array] = {}
        for name, t in self.inputs.items():
            if name not in inputs:
                raise DataError(f"the model's input `{name}` is missing: {spec_type(t)} for each row")
            array = np.asarray(inputs[name])
            if array.dtype.kind not in ("biuf" if t.dtype.floating else "biu"):
                raise DataError(f"the model's input `{name}` is {spec_type(t)}, got an array of {array.dtype}")
            found[name] = array.astype(t.dtype.numpy, copy=False)
        try:
            sizes_of(self.inputs, found)
        except IRError as error:
            raise DataError(f"what was given does not fit the model's input {error}") from None
        for name, array in found.items():
            self._check_numbers(name, array)
            if (problem := self.spec.inputs[name].exceeded(array.shape)) is not None:
                raise DataError(f"the model's input `{name}` has {problem}")
        return found

    def _check_numbers(self, name: str, array: Array) -> None:
        """Raise `DataError` for what backends would make different things of: NaN, ids that are none, odd padding."""
        what = f"the model's input `{name}`"
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise DataError(f"{what} has NaN in row {_first(np.isnan(array))}: what is missing must be filled before")
        if 0 in array.shape[1:]:
            raise DataError(f"{what} has sequences of no steps: its shape is {list(array.shape)}")
        if name not in self._ids or not array.size:
            return
        low, room = self._ids[name]
        odd = (array < low) | (array >= room)
        if odd.any():
            raise DataError(
                f"{what} has the id {array[odd][0]} in row {_first(odd)}: ids are from 0 to {room - 1}"
                + (", and -1 after the end of a sequence" if low < 0 else "")
            )
        if low < 0 and array.ndim > 1:
            steps = np.asarray((array < 0).reshape(*array.shape[:2], -1).all(axis=2))
            inside = steps[:, :-1] & ~steps[:, 1:]
            if inside.any():
                raise DataError(f"{what} has padding (-1) before the end of the sequence in row {_first(inside)}")

    def decode(self, outputs: Mapping[str, Array], probabilities: bool = False) -> dict[str, Array]:
        """Raw predictions as people read them; outputs of the spec as they are."""
        predicted = {head.key for head in self.heads if head.predicts}
        found = {name: array for name, array in outputs.items() if name not in predicted}
        for head in self.heads:
            if head.predicts:
                found |= self._decoded(head, outputs[head.key], probabilities)
        return found

    def _decoded(self, head: Head, raw: Array, probabilities: bool) -> dict[str, Array]:
        """What a head predicts, by name."""
        field = self.fields.get(head.target)
        if head.task == "text":
            return {head.key: spelled(raw, field)}
        if head.task not in ("classes", "labels"):
            return {head.key: field.inverse(raw) if field else raw}
        names, known = self.names(head), field.labels if field is not None else None
        if head.task == "classes":
            best, of_best = raw.argmax(-1), raw.max(-1)
            each = {name: raw[..., i] for i, name in enumerate(names or map(str, range(raw.shape[-1])))}
        else:
            best = (raw >= 0.5).astype(int)
            of_best = np.where(best == 1, raw, 1 - raw)
            each = dict(zip(names, (1 - raw, raw), strict=True)) if len(names) == 2 else {}
            known = known if len(names) == 2 else None
        found = {head.key: _array(known)[best] if known else best, f"{head.key}/probability": of_best}
        if probabilities:
            found |= {f"{head.key}/probability/{name}": array for name, array in each.items()}
        return found

    @cached_property
    def _ids(self) -> dict[str, tuple[int, int]]:
        """The least and the number of the ids of each input that has them."""
        graph = self._network.graph
        lows, rooms = id_lows(graph), id_bounds(graph)
        return {name: (low, rooms[name]) for name, low in lows.items() if name in rooms}

    @property
    def _optimised(self) -> Model:
        """The optimised network that predicts."""
        if self._model is None:
            self._model, _ = inference_model(self.spec, self.weights, True, self.decided)
        return self._model

    def _compiled(self) -> Any:
        if self._predictor is None:
            self._predictor = self.backend.compile(freeze(self._optimised), self.backend.state({}))
        return self._predictor


def _first(odd: Array) -> int:
    """The number of the first row in which anything is true, from 0."""
    return int(np.argmax(odd.reshape(len(odd), -1).any(axis=1)))


def _array(labels: Sequence[Any]) -> Array:
    """Classes as an array: of numbers or booleans where all are, else of objects."""
    kinds = {type(label) for label in labels}
    if len(kinds) == 1 and kinds <= {int, float, bool}:
        return np.asarray(labels)
    out = np.empty(len(labels), object)
    out[:] = list(labels)
    return out


def _rows(array: Array, mask: Array) -> Array:
    """The real numbers of each row, as an array of lists."""
    out = np.empty(len(array), object)
    out[:] = [row[real].tolist() for row, real in zip(array, mask, strict=True)]
    return out


def inference_model(
    spec: Spec, weights: Mapping[str, Array], predictions: bool = False, decided: Decided | None = None
) -> tuple[Model, list[Record]]:
    """The optimised inference graph of a spec with its weights, by what was `decided` when it was compiled.

    Its outputs are those of the spec; with `predictions`, what the losses' heads predict, by target, and those of the
    spec only where a loss predicts nothing.
    """
    graph = (_predicting(spec) if predictions else None) or build(spec, "infer").graph
    names = {input_of(v).name for v in graph.by_role("param", "buffer")}
    return for_inference(Model(graph, {k: v for k, v in weights.items() if k in names}), spec, decided)


def _predicting(spec: Spec) -> Graph | None:
    """The graph of what the losses' heads predict; `None` where there are no losses."""
    network = build(spec, "evaluate")
    if not network.heads:
        return None
    predicting = [head for head in network.heads if head.predicts]
    own = build(spec, "infer").graph.outputs if len(predicting) < len(network.heads) else ()
    outputs = {name: network.graph.outputs[name] for name in own}
    outputs |= {head.key: network.graph.outputs[f"prediction/{head.key}"] for head in predicting}
    return network.graph.with_outputs(outputs, {}).prune_inputs()


def initial_weights(spec: Spec) -> dict[str, Array]:
    """The weights that training would start from."""
    graph = build(spec, "infer").graph
    seed = spec.sections.train.seed if spec.sections.train else 0
    drawn = {input_of(v).name: initialise(v, seed) for v in graph.by_role("param", "buffer")}
    found = transferred(spec, drawn)
    return drawn if found is None else drawn | found.arrays


def load(path: str | Path, backend: str = "numpy") -> LoadedModel:
    """The trained model of a run or bundle; raises `ArtefactError`."""
    found = open_artefact(path)
    return LoadedModel(
        found.spec, found.weights, found.fields, None, load_backend(backend), found.decided, found.schema
    )
