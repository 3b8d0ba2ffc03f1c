"""Predicting the rows of a file, or of a run's own data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.threads import owner
from ..compiler.spec.reader import Spec
from ..compiler.structs import Struct
from ..files import json_text, write_atomically
from .artefacts import open_artefact
from .choice import backend_for
from .data import Column, DataError, Schema, Table, conform, declare_options, from_arrays, read_as
from .data.cleaning import undone
from .data.fields.together import window_rows
from .data.sources.files import decode, plain_name, read_file
from .data.sources.jsonl import table_of_objects
from .data.sources.parquet import need_pyarrow
from .model import LoadedModel, load
from .session import own_rows
from .specs import UsageError, read_options

Columns = dict[str, Any]
ROW = "row"


class Wanted(Struct):
    """What is written beside predictions: columns of the rows, their numbers, the probability of each class."""

    keep: tuple[str, ...] = ()
    numbers: bool = False
    probabilities: bool = False


def predict(
    run: Path,
    rows: Path | None,
    split: str | None,
    backend: str = "numpy",
    wanted: Wanted | None = None,
    options: Sequence[str] = (),
) -> Columns:
    """Predictions by name for the rows of a file; without one, for a split of the run's data, beside the truth.

    options: how the file is read, as `delimiter=;`, where it is not read as the training data were.
    Raises `DataError` and `UsageError`.
    """
    wanted = wanted or Wanted()
    model = load(run, backend_for(run, backend))
    if rows is not None:
        raw = read_rows(rows, model.spec, model.schema, options)
        table, truth = model.rows(raw), Columns()
    elif options:
        raise UsageError("`--option` says how the file of `--input` is read: there is none")
    else:
        dataset, split = own_rows(run, split)
        raw = table = dataset.splits[split].table
        truth = _truth(model, table) if len(table) == len(dataset.splits[split]) else {}
    own = window_rows(model.fields, model.inputs, table)
    predicted = table if own is None else table.take(own)
    # Rows may have been put in the order of time.
    beside = _beside(
        wanted, raw.take(np.searchsorted(raw.rows, predicted.rows)) if rows is not None else predicted, predicted
    )
    with owner(model.backend.name):
        return {**beside, **truth, **model.predict_prepared(table, wanted.probabilities)}


def _truth(model: LoadedModel, table: Table) -> Columns:
    """The targets of rows, in the units of the data."""
    truth: Columns = {}
    for head in model.heads:
        field = model.fields.get(head.target)
        if head.predicts and head.loss != "next_token" and field is not None and len(field.columns) == 1:
            truth[f"{head.target} (true)"] = _listed(table.column(field.columns[0]))
    return truth


def _beside(wanted: Wanted, raw: Table, table: Table) -> Columns:
    """What was asked for beside predictions: columns as they were read, or by the names that `clean` gave them."""
    found: Columns = {ROW: raw.rows} if wanted.numbers else {}
    for name in wanted.keep:
        if name in found:
            raise UsageError(f"two columns would be called `{name}`: leave out `--rows`, or `--keep {name}`")
        found[name] = _listed((raw if name in raw.names else table).column(name))
    return found


def _listed(column: Column) -> Any:
    """The values of a column in the units of the data, sequences as lists, `None` where one is missing."""
    values = undone(column.mended, column.values) if column.mended else column.values
    plain = [value.tolist() if isinstance(value, np.ndarray) else value for value in values.tolist()]
    if column.logical:
        plain = [bool(value) for value in plain]
    elif values.dtype.kind == "f" and not column.shape and _whole(values[~column.missing]):
        plain = [value if absent else int(value) for value, absent in zip(plain, column.missing, strict=True)]
    out = np.empty(len(values), object)
    out[:] = [None if absent else value for value, absent in zip(plain, column.missing, strict=True)]
    return out


def _whole(values: Any) -> bool:
    """Whether all numbers are whole, as files write them."""
    return bool(np.isfinite(values).all() and (values == np.floor(values)).all() and (np.abs(values) < 2**53).all())


def rows_for(run: Path, rows: Path, options: Sequence[str]) -> Table:
    """The rows of a file for a run or bundle, before they are mended; raises `DataError` and `UsageError`."""
    found = open_artefact(run)
    return read_rows(rows, found.spec, found.schema, options)


def read_rows(path: Path, spec: Spec | None = None, schema: Schema | None = None, options: Sequence[str] = ()) -> Table:
    """The rows of a file or folder, of any form that is read: by its name, or else as the spec's data are.

    So a model that was trained on images takes an image or a folder of them. What is of the form of the training data
    is read as these were, but for `options`. Columns are what `schema` says that they were in the training rows.
    Raises `DataError` and `UsageError`.
    """
    schema = schema or {}
    name = plain_name(path.name)
    if name.endswith(".json"):
        if options:
            raise UsageError("`--option` says how files are read that are no JSON")
        return conform(_json_rows(path), schema)
    data = spec.sections.data if spec is not None else None
    own = data.source.scheme if data is not None else ""
    scheme = next((known for ending, known in ENDINGS.items() if name.endswith(ending)), own)
    if scheme not in READABLE:
        known = ", ".join(dict.fromkeys(ENDINGS))
        raise UsageError(f"cannot read rows from `{path}`: expected one of {known} or .json")
    remembered: dict[str, Any] = TABS if name.endswith(".tsv") else {}
    if spec is not None and scheme == own:
        remembered = _remembered(spec, scheme)
    found = read_as(scheme, path.resolve(), {**remembered, **read_options(scheme, options)}, schema)
    if not isinstance(found, Table):
        raise UsageError(f"`{path}` has splits ({', '.join(f'`{split}`' for split in found)}): name one of them")
    return found


# Forms of rows by how files are called.
ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".npz": "npz", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".conll": "conll",
}  # fmt: skip
TABS = {"delimiter": "\t"}
# Sources that rows can be predicted from, and those of their options that say what is in the training data alone.
READABLE: dict[str, tuple[str, ...]] = {
    "csv": (), "npz": (), "jsonl": (), "conll": (), "images": ("masks",), "audio": ("names",), "parquet": ("columns",),
    "text": (),
}  # fmt: skip


def _remembered(spec: Spec, scheme: str) -> dict[str, Any]:
    """How the training data were read; the rows to predict may have no targets."""
    assert spec.sections.data is not None
    given = declare_options(spec.sections.data, spec.scope, spec.report)
    return {key: value for key, value in given.items() if key not in READABLE[scheme]}


def _json_rows(path: Path) -> Table:
    """The rows of a .json file: a list of objects, one object, or an object of columns."""
    try:
        rows = json.loads(decode(read_file(path), "utf-8", path.name))
    except (ValueError, RecursionError) as error:
        raise DataError(f"`{path}` cannot be read as JSON: {error}") from error
    if isinstance(rows, dict):
        return from_arrays(rows, path.name)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"`{path}` holds no rows: expected a list of objects, or an object of columns")
    return table_of_objects(list(enumerate(rows, 1)), path.name, "row")


def as_rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns as a list of plain rows, for JSON."""
    plain = {name: np.asarray(values).tolist() for name, values in columns.items()}
    count = len(next(iter(plain.values()))) if plain else 0
    return [{name: values[i] for name, values in plain.items()} for i in range(count)]


def write(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns in the form that the file's name asks for, atomically; see `check_output`."""
    write_atomically(path, _WRITERS[check_output(path)](columns))


def check_output(path: Path) -> str:
    """The form that a file's name asks for; raises `UsageError` for one that is not written, `DataError` without
    what writes it."""
    if path.suffix.lower() not in _WRITERS:
        known = ", ".join(_WRITERS)
        raise UsageError(f"predictions are written as {known}: `{path}` has none of these endings")
    if path.suffix.lower() == ".parquet":
        need_pyarrow("`.parquet`")
    return path.suffix.lower()


def _separated(columns: Mapping[str, Any], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    for row in as_rows(columns):
        writer.writerow(row.values())
    return text.getvalue().encode()


def _json(columns: Mapping[str, Any]) -> bytes:
    return (json_text(as_rows(columns), indent=1) + "\n").encode()


def _json_lines(columns: Mapping[str, Any]) -> bytes:
    return "".join(json_text(row) + "\n" for row in as_rows(columns)).encode()


def _parquet(columns: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pa.table({name: np.asarray(values).tolist() for name, values in columns.items()}), stream)
    return stream.getvalue()


_WRITERS: dict[str, Callable[[Mapping[str, Any]], bytes]] = {
    ".csv": _separated, ".tsv": partial(_separated, delimiter="\t"), ".json": _json, ".jsonl": _json_lines,
    ".parquet": _parquet,
}  # fmt: skip
