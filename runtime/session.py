"""What the doors call: train a spec, evaluate a trained model, compile either."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backends.base import Backend
from ..backends.base import load as load_backend
from ..backends.executable import sizes_of
from ..backends.machine import width
from ..backends.threads import owner, threads
from ..compiler.analysis import id_bounds
from ..compiler.build import Network, build
from ..compiler.ir import Array, DType, Graph, input_of
from ..compiler.passes import Decided
from ..compiler.spec.reader import Spec, read_string
from ..compiler.spec.sections import Train
from ..compiler.spec.signatures import BATCH
from ..compiler.structs import Struct
from . import report
from .artefacts import is_artefact, open_artefact
from .bundles import DATA
from .checkpoints import ArtefactError, load_json, save_json
from .choice import AUTO, backend_for
from .choice import for_training as choose_for_training
from .data import (
    DataError,
    Dataset,
    Split,
    Table,
    as_wanted,
    check_against,
    encode_split,
    from_arrays,
    load_dataset,
)
from .data.fields import Derived, FittedSeries
from .data.fields.together import encode
from .data.schema import as_json as schema_as_json
from .data.table import Rowwise, listed
from .evaluation import Outcome, as_json, calls_for, earlier, judged
from .metrics import About, by_horizon, confusion_matrix, intervals, per_class, reliability, slices, span_table
from .model import LoadedModel, initial_weights, load
from .progress import Listener
from .runs import ENV, EVALUATION, RESOLVED, Run, about_data
from .specs import UsageError, open_spec
from .targets import check_targets, state_of
from .texts import check_texts, with_texts
from .trainer import Trainer

# -- training ------------------------------------------------------------------------------------


class Trained(Struct):
    """A run that has finished: its folder (if it has one), its metrics by split, and the model."""

    path: Path | None
    metrics: dict[str, dict[str, float]]
    model: LoadedModel


Columns = Mapping[str, Rowwise]


def prepare(spec: Spec, data: Columns | None = None) -> tuple[Spec, Dataset]:
    """The spec with the sizes that its data define, and the data; both checked against each other.

    `data` are columns by name for each split, to use instead of the spec's source.
    """
    if spec.sections.data is None or spec.sections.train is None:
        missing = "data" if spec.sections.data is None else "train"
        raise UsageError(f"`{spec.path}` has no `{missing}` section: training needs one")
    tables = None if data is None else {name: from_arrays(columns, name) for name, columns in data.items()}
    dataset = load_dataset(spec, tables)
    sized = spec.with_sizes(dataset.sizes)
    network = build(sized, "train")
    _check_data(sized, network, dataset)
    return sized, dataset


def _check_validation(train: Train | None, dataset: Dataset) -> None:
    """Where training watches the validation split, that has rows."""
    if train is None or len(dataset.splits.get("valid", ())):
        return
    watching = {"early_stopping": train.early_stopping, "schedule": train.schedule and train.schedule().monitor}
    for key, watched in watching.items():
        if watched:
            name = key.replace("_", " ")
            raise DataError(f"{name} needs validation rows: give `split` a share of `valid`", train.spans.get(key))


def _check_data(spec: Spec, network: Network, dataset: Dataset) -> None:
    """The model against the data: types, shapes, ids and classes, splits and columns that are needed."""
    wanted = {input_of(v).name: v.type for v in network.graph.by_role("data")}
    bounds = {dim: limit for signature in spec.inputs.values() for dim, limit in signature.bounds}
    check_against(wanted, dataset, bounds, wanted.keys() - spec.inputs.keys())
    check_targets(spec, network, dataset)
    _check_validation(spec.sections.train, dataset)
    for name in spec.inputs:
        _check_lengths(name, spec, dataset)
    for name, limit in id_bounds(network.graph).items():
        for split, part in dataset.splits.items():
            ids = part.arrays[name]
            if ids.size and int(ids.max()) >= limit:
                raise DataError(
                    f"the field `{name}` has ids up to {int(ids.max())} in its {split} rows, the model has room for "
                    f"{limit}: `${name}.size` is the number of ids"
                )
    check_texts(spec, network.heads, dataset.fields)
    for name in spec.sections.evaluate.slices:
        _check_column(name, spec, dataset)


def _check_lengths(name: str, spec: Spec, dataset: Dataset) -> None:
    """Sequences are within their bounds in every split, and padded ones have an axis with a name."""
    signature, field = spec.inputs[name], dataset.fields[name]
    if field.padded and signature.type.rank == 2 and isinstance(signature.type.shape[1], int):
        raise DataError(
            f"rows of the field `{name}` differ in length: its input is of type `int[T <= {signature.type.shape[1]}]`",
            signature.key.span,
        )
    for split, part in dataset.splits.items():
        if (problem := signature.exceeded(part.arrays[name].shape)) is not None:
            message = f"the field `{name}` has {problem} (in its {split} rows): `max_length` cuts what is longer"
            raise DataError(message, signature.key.span)


def _check_column(name: str, spec: Spec, dataset: Dataset) -> None:
    """Raise `DataError`, at the section's place, for what rows cannot be sliced by."""
    span = spec.sections.evaluate.spans.get("slices")
    if any(len(part) != len(part.table) for part in dataset.splits.values()):
        raise DataError("windows of a running text are not rows of a table: there is nothing to slice them by", span)
    if name in dataset.fields and len(dataset.fields[name].columns) != 1:
        raise DataError(f"rows are sliced by one column: the field `{name}` is made of several", span)
    if name in dataset.fields:
        return
    try:
        dataset.splits["train"].table.column(name)
    except DataError as error:
        raise error.at(span) from None


def train(
    spec: Spec,
    out: Path | None = None,
    backend: str | None = None,
    listener: Listener | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dtype: DType = DType.f32,
    data: Columns | None = None,
) -> Trained:
    """Train a spec, evaluate it on every split, and leave a run at `out` (nowhere if it is `None`).

    backend: NumPy where none is named; a run that is resumed goes on on its own.
    Raises `SpecError`, `DataError`, `UsageError`, `TrainingError`, `Interrupted`, `ArtefactError`.
    """
    if resume and out is None:
        raise UsageError("only a run with a folder can be resumed")
    sized, dataset = prepare(spec, data)
    arrays = {name: part.arrays for name, part in dataset.splits.items()}
    again = resume and out is not None and out.exists()
    begun = load_json(out / ENV) if again and out is not None and (out / ENV).exists() else {}
    runner, about = _runner(backend or str(begun.get("backend", "numpy")), sized, arrays["train"], listener)
    known = state_of(build(sized, "train"), dataset)
    trainer = Trainer(sized, arrays, runner, listener, dtype, again, dataset.fields, known)
    # Sums depend on the number of threads: a run goes on on as many as it was begun on.
    own = _width(trainer.step_graph, arrays["train"], trainer.train.batch, runner.name)
    noted = begun.get("threads")
    count = noted if isinstance(noted, int) else own
    with ExitStack() as stack:
        run, checkpoint = None, None
        if out is not None:
            # Only now is an old run removed: whatever could be wrong with this one was found before.
            told = {**about, "threads": min(threads(), own)}
            learnt = _about(dataset, sized, out)
            run = _resumed(out, sized, dataset) if again else Run.create(out, sized, overwrite, told, learnt)
            trainer.run = run
            stack.enter_context(run.locked())
            run.sweep()
            if again:
                _lengthen(run, sized)
                run.describe(sized, learnt)
            checkpoint = run.latest_checkpoint() if resume else None
            run.truncate_metrics(checkpoint.position.batches if checkpoint else 0)
        if checkpoint is not None:
            trainer.resume(checkpoint)
        stack.enter_context(owner(runner.name, count))
        trainer.fit()
        return _finish(sized, dataset, trainer, run)


def _about(dataset: Dataset, spec: Spec, out: Path) -> dict[str, Any]:
    """What a run keeps of its data."""
    folder = os.path.relpath(spec.folder, out)
    return about_data(dataset.state(), dataset.sizes, dataset.fingerprint, folder, schema_as_json(dataset.schema))


def _width(graph: Graph, rows: Mapping[str, Array], batch: int, backend: str) -> int:
    """On how many threads a graph runs on batches of such rows."""
    types = {input_of(v).name: v.type for v in graph.by_role("data")}
    sizes = sizes_of(types, as_wanted(rows, types))
    return width(graph, {**sizes, BATCH: min(batch, sizes[BATCH])}, backend)


def _runner(
    backend: str, spec: Spec, rows: Mapping[str, Array], listener: Listener | None
) -> tuple[Backend, dict[str, Any]]:
    """The backend to train on, and what a run notes of it."""
    seconds: Mapping[str, float] = {}
    if backend == AUTO:
        choice = choose_for_training(spec, rows)
        backend, seconds = choice.backend, choice.seconds
        if listener is not None:
            listener.note(choice.words)
    about: dict[str, Any] = {"backend": backend}
    return load_backend(backend), about | ({"backend_seconds": dict(seconds)} if seconds else {})


def _resumed(out: Path, spec: Spec, dataset: Dataset) -> Run:
    """The run to go on with; raises `DataError` where its data have changed."""
    run = replace(Run.open(out), spec_hash=spec.hash)
    if load_json(out / DATA).get("fingerprint") != dataset.fingerprint:
        raise DataError(f"the data are not those that `{out}` was begun with: `--overwrite` starts anew")
    return run


# What says how long a run goes on, and nothing of what it is.
LENGTH = ("epochs", "steps", "duration")


def _lengthen(run: Run, spec: Spec) -> None:
    """Let a run go on by a spec that differs in the length of training alone; raises `ArtefactError` for any other.

    The checkpoint is told first: if that is all that is done, resuming does the rest.
    """
    before = read_string(run.read(RESOLVED).decode(), run.path / RESOLVED)
    if before.hash == spec.hash:
        return
    if _without_length(before) != _without_length(spec):
        raise ArtefactError(
            f"`{run.path}` was made by another spec: start anew with `--overwrite`, or undo the change; what may "
            f"change is how long it trains ({listed([f'train.{key}' for key in LENGTH])})"
        )
    run.adopt(before.hash)


def _without_length(spec: Spec) -> Any:
    plain: Any = spec.root.plain
    return {**plain, "train": {k: v for k, v in (plain.get("train") or {}).items() if k not in LENGTH}}


def _finish(spec: Spec, dataset: Dataset, trainer: Trainer, run: Run | None) -> Trained:
    arrays = {name: part.arrays for name, part in dataset.splits.items() if len(part)}
    outcomes = {name: trainer.evaluator.run(rows, earlier(arrays, name)) for name, rows in arrays.items()}
    model = LoadedModel(
        spec, trainer.weights(), dataset.fields, trainer.evaluator, trainer.backend, schema=dataset.schema
    )
    if run is not None:
        run.save_weights(model.weights)
    split = "test" if "test" in outcomes else "valid" if "valid" in outcomes else "train"
    outcomes[split] = with_texts(outcomes[split], model, arrays[split], dataset.splits[split].table)
    metrics = {name: model.metrics_of(outcome) for name, outcome in outcomes.items()}
    if run is not None:
        summary = summarise(model, split, outcomes[split], dataset, metrics)
        save_json(run.path / EVALUATION, summary)
        report.write_report(run.path, run.metrics(), summary)
    return Trained(run.path if run else None, metrics, model)


# How many generated texts are shown beside those of the data.
SHOWN = 10

# Of more classes than these, such as words, no table is made.
MANY = 200


def summarise(
    model: LoadedModel, split: str, outcome: Outcome, dataset: Dataset, metrics: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """What a report tells: metrics by split, and one split in detail."""
    calls = model.spec.sections.evaluate.metrics
    found: dict[str, Any] = {
        "name": model.spec.name,
        "split": split,
        "rows": {name: len(part) for name, part in dataset.splits.items()},
        "splits": {name: as_json(values) for name, values in metrics.items()},
    }
    head = next((head for head in model.heads if head.key in outcome.predictions), None)
    if head is None:
        return {**found, "intervals": {split: {}}}
    prediction, target, about = judged(head, outcome, model.fields.get(head.target))
    fitting = calls_for(head.task, calls)
    bounds = intervals(fitting, prediction, target, head.task, 0, about)
    found["intervals"] = {split: {name: list(pair) for name, pair in bounds.items()}}
    if not head.predicts:
        return found
    if head.task == "classes":
        found |= _class_tables(prediction, target, about)
    if head.task == "values" and isinstance(model.fields.get(head.target), FittedSeries):
        found["horizons"] = by_horizon(prediction, target)
    texts = (prediction, target) if head.task == "text" else outcome.texts.get(head.key)
    if texts is not None:
        if head.task != "text":
            bounds = intervals(calls_for("text", calls), *texts, "text", 0)
            found["intervals"][split] |= {name: list(pair) for name, pair in bounds.items()}
        found["texts"] = [{"generated": one, "expected": other} for one, other in zip(*texts, strict=True)][:SHOWN]
    rows = outcome.sources.get(head.key, slice(None))
    by = {
        name: slices(prediction, target, model.groups(name, dataset, split)[rows], fitting, head.task, about)
        for name in model.spec.sections.evaluate.slices
    }
    return {**found, "slices": by} if by else found


def _class_tables(prediction: Array, target: Array, about: About) -> dict[str, Any]:
    """Tables by class, and by kind of entity where classes are tags of such."""
    if prediction.shape[-1] > MANY:
        return {}
    names = list(about.names)
    found: dict[str, Any] = {
        "classes": names,
        "confusion": confusion_matrix(prediction, target, prediction.shape[-1]).tolist(),
        "per_class": per_class(prediction, target, names),
        "reliability": reliability(prediction, target).table(),
    }
    if any(name.startswith("B-") for name in names):
        found["spans"] = span_table(prediction, target, about)
    return found


# -- trained models -----------------------------------------------------------------------------


def own_rows(path: str | Path, split: str | None) -> tuple[Dataset, str]:
    """The data of a trained model and the split to look at: `test` where there is one, else `valid`, else `train`.

    Raises `UsageError` for a split that is not there, and `DataError` where the data have changed since
    training, so that rows may have moved between splits.
    """
    found = open_artefact(path)
    dataset = load_dataset(found.spec)
    there = [name for name in ("test", "valid", "train") if len(dataset.splits.get(name, ()))]
    split = split or there[0]
    if split not in there:
        raise UsageError(f"there is no split `{split}`: there is {', '.join(f'`{name}`' for name in there)}")
    data = found.spec.sections.data
    apart = data is not None and getattr(data, split, None) is not None
    if found.fingerprint != dataset.fingerprint and not apart:
        raise DataError(
            f"the data are not those that `{path}` was trained on: rows of its `{split}` split may have been trained "
            "on; `trine predict --input` takes new rows"
        )
    return dataset, split


# What rows are called that are no split of a model's own data.
GIVEN = "given"


def evaluate(
    path: str | Path, split: str | None = None, backend: str = "numpy", rows: Rowwise | Table | None = None
) -> dict[str, Any]:
    """Evaluate a run or bundle on a split of its data (see `own_rows`), or on other rows that have targets."""
    model = load(path, backend_for(path, backend))
    if rows is None:
        dataset, split = own_rows(path, split)
        # The fitted state of the run counts, not what today's data would give.
        # What is ranked leaves out what the splits before have.
        wanted = dataset.splits if model.evaluator.scorers else [split]
        arrays = {name: encode_split(model.fields, dataset.tables, name) for name in wanted}
    else:
        dataset, split = _given(path, model, rows), GIVEN
        arrays = {name: part.arrays for name, part in dataset.splits.items()}
    graph, batch, runner = build(model.spec, "evaluate").graph, model.spec.sections.evaluate.batch, model.backend.name
    with owner(runner, _width(graph, arrays[split], batch, runner)):
        outcome = model.evaluator.run(arrays[split], earlier(arrays, split))
        outcome = with_texts(outcome, model, arrays[split], dataset.splits[split].table)
    return summarise(model, split, outcome, dataset, {split: model.metrics_of(outcome)})


def _given(path: str | Path, model: LoadedModel, rows: Rowwise | Table) -> Dataset:
    """Rows with targets as a data set of their own, before them the splits of the model's data where items are ranked.

    Raises `DataError` for rows without targets, or with such as do not fit.
    """
    table = model.rows(rows)
    names = [*model.spec.inputs, *(name for head in model.heads for name in (head.target, head.sample_weight) if name)]
    fields = {name: model.fields[name] for name in dict.fromkeys(names) if name in model.fields}
    if model.evaluator.scorers or any(isinstance(field, Derived) for field in fields.values()):
        tables = {**own_rows(path, None)[0].tables, GIVEN: table}
        arrays = {name: encode_split(model.fields, tables, name) for name in tables}
    else:
        tables, arrays = {GIVEN: table}, {GIVEN: encode(fields, table)}
    splits = {name: Split(arrays[name], tables[name]) for name in tables}
    return Dataset(splits, model.fields, "", model.schema)


class Opened(Struct):
    """A spec whose sizes are known, weights, and what was decided when they were compiled."""

    spec: Spec
    weights: dict[str, Array]
    decided: Decided | None = None


def open_source(source: str | Path, overrides: Iterable[str] = ()) -> Opened:
    """A run or bundle with its weights, or a spec with those that training would start from."""
    if is_artefact(source):
        if list(overrides):
            raise UsageError(f"`{source}` is trained: `--set` changes specs, before that")
        found = open_artefact(source)
        return Opened(found.spec, found.weights, found.decided)
    spec = open_spec(source, overrides)
    if spec.unknown_sizes:
        spec = spec.with_sizes(load_dataset(spec).sizes)
    return Opened(spec, initial_weights(spec))
