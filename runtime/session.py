"""What the doors call: open a spec, train it, evaluate it, load it, compile it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.base import Backend
from ..backends.base import load as load_backend
from ..compiler import build as builder
from ..compiler.analysis import id_bounds
from ..compiler.build import Head, Network, build
from ..compiler.initialisers import initialise
from ..compiler.ir import Array, DType, Type, input_of
from ..compiler.passes import Model, Record, for_inference
from ..compiler.spec.diagnostics import Report, SpecError, hint
from ..compiler.spec.reader import Spec, read
from . import report, schedules
from .checkpoints import ArtefactError, save_json
from .data import (
    DataError,
    Dataset,
    Fitted,
    Table,
    check_against,
    declare_fields,
    declare_options,
    from_arrays,
    load_dataset,
    restore_fields,
    transform,
)
from .evaluation import Evaluator, Outcome, as_json, batches, metrics_of
from .metrics import check_metric, confusion_matrix, intervals, per_class, reliability, slices
from .progress import Listener
from .runs import DATA, EVALUATION, WEIGHTS, Run, trine_version
from .trainer import Trainer

assert schedules  # importing it registers the schedules

ZOO = "zoo:"


class UsageError(Exception):
    """A command that cannot be carried out as it was given (exit code 2)."""


# -- specs ---------------------------------------------------------------------------------------


def zoo() -> dict[str, Path]:
    """The specs that ship with trine, by name: `vision/digits-mlp`."""
    root = Path(str(resources.files(__package__.rpartition(".")[0]))) / "specs"
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.glob("*/*.yaml"))}


def spec_path(name: str | Path) -> Path:
    """The file that a name stands for: a path, or `zoo:<family>/<name>`; raises `UsageError`."""
    text = str(name)
    if not text.startswith(ZOO):
        return Path(name)
    known = zoo()
    found = known.get(text.removeprefix(ZOO))
    if found is None:
        raise UsageError(f"the zoo has no `{text.removeprefix(ZOO)}`: {hint(text.removeprefix(ZOO), known)}")
    return found


def open_spec(name: str | Path, overrides: Iterable[str] = (), sizes: Mapping[str, int] | None = None) -> Spec:
    """Read and check a spec; raises `SpecError` with all of its problems at once."""
    spec = read(spec_path(name), overrides, sizes)
    check_spec(spec)
    return spec


def check_spec(spec: Spec) -> None:
    """Raise `SpecError` with every problem of sections, steps, losses, fields and metrics."""
    problems = Report(spec.report.sources, dict(spec.report.diagnostics))
    network: Network | None = None
    try:
        network = build(spec, "train")
    except SpecError as error:
        problems.diagnostics.update(error.report.diagnostics)
    data = spec.sections.data
    if data is not None:
        declare_fields(data, spec.scope, problems)
        declare_options(data, spec.scope, problems)
    if network is not None and network.heads:
        _check_metrics(spec, network, problems)
    problems.check()


def _check_metrics(spec: Spec, network: Network, problems: Report) -> None:
    for call in spec.sections.evaluate.metrics:
        texts = [check_metric(call, head.task, head.loss) for head in network.heads]
        if all(texts) and call.span is not None:
            problems.error("E230", str(texts[0]), call.span)


# -- training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """A run that has finished: its folder (if it has one), its metrics by split, and the model."""

    path: Path | None
    metrics: dict[str, dict[str, float]]
    model: LoadedModel


Columns = Mapping[str, Mapping[str, Any]]


def prepare(spec: Spec, data: Columns | None = None) -> tuple[Spec, Dataset]:
    """The spec with the sizes that its data define, and the data; both checked against each other.

    `data` are columns by name for each split, to use instead of the spec's source.
    """
    if spec.sections.data is None or spec.sections.train is None:
        missing = "data" if spec.sections.data is None else "train"
        raise UsageError(
            f"`{spec.path}` has no `{missing}` section: there is nothing to train {'on' if missing == 'data' else ''}".rstrip()
        )
    tables = None if data is None else {name: from_arrays(columns, name) for name, columns in data.items()}
    dataset = load_dataset(spec, tables)
    sized = spec.with_sizes(dataset.sizes)
    network = build(sized, "train")
    _check_data(sized, network, dataset)
    return sized, dataset


def _check_data(spec: Spec, network: Network, dataset: Dataset) -> None:
    """The model against the data: types, shapes, the range of ids, the presence of columns to slice by."""
    wanted = {input_of(v).name: v.type for v in network.graph.by_role("data")}
    bounds = {dim: limit for signature in spec.inputs.values() for dim, limit in signature.bounds}
    check_against(wanted, dataset, bounds)
    for name, limit in id_bounds(network.graph).items():
        for split, part in dataset.splits.items():
            ids = part.arrays[name]
            if ids.size and int(ids.max()) >= limit:
                raise DataError(
                    f"the field `{name}` has ids up to {int(ids.max())} in its {split} rows, the model has room for "
                    f"{limit}: `${name}.size` is the number of ids"
                )
    for name in spec.sections.evaluate.slices:
        if name not in dataset.fields:
            dataset.splits["train"].table.column(name)


def train(
    spec: Spec,
    out: Path | None = None,
    backend: str = "numpy",
    listener: Listener | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: DType = DType.f32,
    data: Columns | None = None,
) -> Trained:
    """Train a spec, evaluate it on every split, and leave a run at `out` (nowhere if it is `None`).

    Raises `SpecError`, `DataError`, `UsageError`, `TrainingError`, `Interrupted`, `ArtefactError`.
    """
    if resume and out is None:
        raise UsageError("only a run with a folder can be resumed")
    sized, dataset = prepare(spec, data)
    run, checkpoint = None, None
    if out is not None:
        run = Run(out, sized.hash) if resume and out.exists() else Run.create(out, sized, overwrite)
        checkpoint = run.latest_checkpoint() if resume else None
    arrays = {name: part.arrays for name, part in dataset.splits.items()}
    trainer = Trainer(sized, arrays, load_backend(backend), run, listener, dtype)
    if run is not None:
        run.save_data(dataset.state(), dataset.sizes, dataset.fingerprint, sized.folder)
        run.truncate_metrics(checkpoint.position.batches if checkpoint else 0)
    if checkpoint is not None:
        trainer.resume(checkpoint)
    trainer.fit()
    return _finish(sized, dataset, trainer, run)


def _finish(spec: Spec, dataset: Dataset, trainer: Trainer, run: Run | None) -> Trained:
    outcomes = {name: trainer.evaluator.run(part.arrays) for name, part in dataset.splits.items() if len(part)}
    model = LoadedModel(spec, trainer.weights(), dataset.fields, trainer.evaluator)
    metrics = {name: model.metrics_of(outcome) for name, outcome in outcomes.items()}
    if run is not None:
        run.save_weights(model.weights)
        split = "test" if "test" in outcomes else "valid" if "valid" in outcomes else "train"
        summary = summarise(model, split, outcomes[split], dataset, metrics)
        save_json(run.path / EVALUATION, summary)
        report.write_report(run.path, run.metrics(), summary)
    return Trained(run.path if run else None, metrics, model)


def summarise(
    model: LoadedModel, split: str, outcome: Outcome, dataset: Dataset, metrics: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """What a report tells: metrics by split, and one split in detail."""
    calls = model.spec.sections.evaluate.metrics
    head = model.heads[0]
    prediction, target = model.in_units(head, outcome)
    fitting = [call for call in calls if check_metric(call, head.task) is None]
    found: dict[str, Any] = {
        "name": model.spec.name,
        "split": split,
        "rows": {name: len(part) for name, part in dataset.splits.items()},
        "splits": {name: as_json(values) for name, values in metrics.items()},
        "intervals": {
            split: {k: list(v) for k, v in intervals(fitting, prediction, target, head.task, seed=0).items()}
        },
    }
    if head.task == "classes":
        names = model.names(head)
        found["classes"] = names
        found["confusion"] = confusion_matrix(prediction, target, prediction.shape[-1]).tolist()
        found["per_class"] = per_class(prediction, target, names)
        found["reliability"] = reliability(prediction, target).table()
    by = {
        name: slices(prediction, target, model.groups(name, dataset, split), fitting, head.task)
        for name in model.spec.sections.evaluate.slices
    }
    return {**found, "slices": by} if by else found


# -- models --------------------------------------------------------------------------------------


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
    ) -> None:
        self.spec, self.weights, self.fields = spec, dict(weights), dict(fields)
        self.backend = backend or load_backend("numpy")
        network = build(spec, "evaluate")
        self.heads: tuple[Head, ...] = network.heads
        self.evaluator = evaluator or Evaluator(
            network, self.backend, self.backend.state(self.weights), spec.sections.evaluate.batch
        )
        self._predictor: Any = None

    @property
    def inputs(self) -> dict[str, Type]:
        """What `predict_arrays` takes: types by name, the batch axis first."""
        return {name: signature.type for name, signature in self.spec.inputs.items()}

    def names(self, head: Head) -> list[str]:
        """The names of a head's classes."""
        field = self.fields.get(head.target)
        names = getattr(field, "names", None)
        return list(names) if names else []

    def in_units(self, head: Head, outcome: Outcome) -> tuple[Array, Array]:
        """Predictions and targets of a head; numbers in the units of the data, their scaling undone."""
        prediction, target = outcome.predictions[head.target], outcome.targets[head.target]
        field = self.fields.get(head.target)
        if head.task != "values" or field is None:
            return prediction, target
        return field.inverse(prediction), field.inverse(target)

    def metrics_of(self, outcome: Outcome) -> dict[str, float]:
        """The loss and the metrics of an outcome, in the units of the data."""
        pairs = {head.target: self.in_units(head, outcome) for head in self.heads}
        scaled = Outcome(
            outcome.loss,
            outcome.rows,
            {name: pair[0] for name, pair in pairs.items()},
            {name: pair[1] for name, pair in pairs.items()},
        )
        return metrics_of(scaled, self.heads, self.spec.sections.evaluate.metrics)

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

    def predict(self, rows: Mapping[str, Any] | Table) -> dict[str, Array]:
        """Predictions for raw rows: columns by name, as in the training data.

        For each target: the class names with `<target>/probability` (the largest), or the numbers in
        the units of the data. Raises `DataError` for columns or values that do not fit.
        """
        table = rows if isinstance(rows, Table) else from_arrays(rows)
        inputs = transform(self.fields, table, self.inputs)
        return self.decode(self.predict_arrays(inputs))

    def predict_arrays(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The network's raw predictions for encoded inputs: probabilities or numbers, by target."""
        run = self._compiled()
        parts = [run(feeds) for feeds in batches(inputs, self.spec.sections.evaluate.batch)]
        if not parts:
            raise DataError("there are no rows to predict")
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def decode(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Raw predictions as people read them."""
        found: dict[str, Array] = {}
        for head in self.heads:
            raw = outputs[head.target]
            names = self.names(head)
            if head.task == "classes":
                best = raw.argmax(-1)
                found[head.target] = np.array(names, object)[best] if names else best
                found[f"{head.target}/probability"] = raw.max(-1)
            elif head.task == "labels":
                hit = (raw >= 0.5).astype(int)
                found[head.target] = np.array(names, object)[hit] if len(names) == 2 else hit
                found[f"{head.target}/probability"] = raw
            else:
                field = self.fields.get(head.target)
                found[head.target] = field.inverse(raw) if field else raw
        return found if self.heads else dict(outputs)

    def _compiled(self) -> Any:
        if self._predictor is None:
            model, _ = inference_model(self.spec, self.weights, predictions=True)
            self._predictor = self.backend.compile(model.graph, self.backend.state(model.weights))
        return self._predictor


def inference_model(spec: Spec, weights: Mapping[str, Array], predictions: bool = False) -> tuple[Model, list[Record]]:
    """The optimised inference graph of a spec with its weights.

    Its outputs are those of the spec; with `predictions`, what the losses' heads predict, by target.
    """
    graph = builder.build(spec, "infer").graph
    if predictions:
        network = builder.build(spec, "evaluate")
        if network.heads:
            outputs = {head.target: network.graph.outputs[f"prediction/{head.target}"] for head in network.heads}
            graph = network.graph.with_outputs(outputs, {}).prune_inputs(keep=spec.inputs)
    names = {input_of(v).name for v in graph.by_role("param", "buffer")}
    return for_inference(Model(graph, {k: v for k, v in weights.items() if k in names}), spec)


def initial_weights(spec: Spec) -> dict[str, Array]:
    """The weights that training would start from."""
    graph = builder.build(spec, "infer").graph
    seed = spec.sections.train.seed if spec.sections.train else 0
    return {input_of(v).name: initialise(v, seed) for v in graph.by_role("param", "buffer")}


def load(path: str | Path, backend: str = "numpy") -> LoadedModel:
    """The trained model of a run; raises `ArtefactError`."""
    run = Run.open(Path(path))
    spec = run.spec()
    try:
        fields = restore_fields(run.data()["fields"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"`{run.path / DATA}` does not describe fitted fields: {error}") from error
    weights = run.weights()
    _check_weights(spec, weights, run.path / WEIGHTS)
    return LoadedModel(spec, weights, fields, backend=load_backend(backend))


def _check_weights(spec: Spec, weights: Mapping[str, Array], path: Path) -> None:
    for v in builder.build(spec, "infer").graph.by_role("param", "buffer"):
        name = input_of(v).name
        if name not in weights:
            raise ArtefactError(f"`{path}` lacks `{name}`")
        if weights[name].shape != v.shape or weights[name].dtype != v.dtype.numpy:
            raise ArtefactError(
                f"`{path}`: `{name}` is {weights[name].dtype}{list(weights[name].shape)}, expected {v.type}"
            )


def evaluate(path: str | Path, split: str = "test", backend: str = "numpy") -> dict[str, Any]:
    """Evaluate a run on a split of its data; raises `UsageError` for a split it does not have."""
    model = load(path, backend)
    dataset = load_dataset(model.spec)
    if split not in dataset.splits or not len(dataset.splits[split]):
        known = ", ".join(f"`{name}`" for name, part in dataset.splits.items() if len(part))
        raise UsageError(f"there is no split `{split}`: there is {known}")
    # The fitted state of the run counts, not what today's data would give.
    table = dataset.splits[split].table
    arrays = transform(model.fields, table, model.fields)
    outcome = model.evaluator.run(arrays)
    return summarise(model, split, outcome, dataset, {split: model.metrics_of(outcome)})


def is_run(path: str | Path) -> bool:
    """Whether a path is the folder of a run, and not a spec."""
    return not str(path).startswith(ZOO) and Path(path).is_dir()


def open_source(source: str | Path, overrides: Iterable[str] = ()) -> tuple[Spec, dict[str, Array]]:
    """A spec whose sizes are known, with weights: those of a run, or those training would start from."""
    if is_run(source):
        if list(overrides):
            raise UsageError(f"`{source}` is a run: `--set` changes specs, before they are trained")
        model = load(source)
        return model.spec, model.weights
    spec = open_spec(source, overrides)
    if spec.unknown_sizes:
        spec = spec.with_sizes(load_dataset(spec).sizes)
    return spec, initial_weights(spec)


def compile_source(
    source: str | Path, out: Path, overrides: Iterable[str] = (), backend: str = "numpy"
) -> list[Record]:
    """Write a run, or a spec with its initial weights, as a file that runs without trine."""
    if out.suffix != ".py":
        raise UsageError(f"cannot compile to `{out}`: a file ending in `.py` is written for NumPy")
    spec, weights = open_source(source, overrides)
    model, records = inference_model(spec, weights)
    notes = {
        "spec": spec.name,
        "spec hash": spec.hash,
        "compiled by": f"trine {trine_version()}, Python {sys.version.split()[0]}",
    }
    load_backend(backend).export(model, out, notes)
    return records
