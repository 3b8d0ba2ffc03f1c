"""Predicting the rows of a file, or of a run's own data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.threads import owner
from ..compiler.spec.reader import Spec
from ..compiler.spec.registry import SOURCES
from ..files import write_atomically
from .choice import backend_for
from .data import Column, DataError, Table, declare_options, from_arrays
from .data.sources.files import decode, plain_name, read_file
from .data.sources.jsonl import table_of_objects
from .model import load
from .session import own_rows
from .specs import UsageError

Columns = dict[str, Any]


def predict(run: Path, rows: Path | None, split: str | None, backend: str = "numpy") -> Columns:
    """Predictions by name for the rows of a file; without one, for a split of the run's data, beside the truth."""
    model = load(run, backend_for(run, backend))
    if rows is not None:
        table = read_rows(rows, model.spec)
        with owner(model.backend.name):
            return dict(model.predict(table))
    dataset, split = own_rows(run, split)
    table = dataset.splits[split].table
    truth: Columns = {}
    for head in model.heads:
        field = model.fields.get(head.target)
        whole = len(table) == len(dataset.splits[split])
        if head.predicts and head.loss != "next_token" and field is not None and len(field.columns) == 1 and whole:
            truth[f"{head.target} (true)"] = _listed(table.column(field.columns[0]))
    with owner(model.backend.name):
        return {**truth, **model.predict(table)}


def _listed(column: Column) -> Any:
    """The values of a column, sequences as lists."""
    out = np.empty(len(column.values), object)
    out[:] = [value.tolist() if isinstance(value, np.ndarray) else value for value in column.values]
    return out


def read_rows(path: Path, spec: Spec | None = None) -> Table:
    """The rows of a file or folder: .csv, .npz, .json or .jsonl, or of the form of the spec's data.

    So a model that was trained on images takes an image or a folder of them. Raises `DataError` and `UsageError`.
    """
    name = plain_name(path.name)
    if name.endswith(".json"):
        return _json_rows(path)
    data = spec.sections.data if spec is not None else None
    own = data.source.scheme if data is not None else ""
    scheme = next((known for known in ("csv", "npz", "jsonl") if name.endswith(f".{known}")), own)
    if scheme not in READABLE:
        raise UsageError(f"cannot read rows from `{path}`: expected a .csv, .npz, .json or .jsonl file")
    options = _options(spec, scheme) if spec is not None and scheme == own else {}
    found = _read(scheme, path, options)
    if not isinstance(found, Table):
        raise UsageError(f"`{path}` has splits ({', '.join(f'`{split}`' for split in found)}): name one of them")
    return found


def _read(scheme: str, path: Path, options: dict[str, Any]) -> Any:
    """The rows of a file; columns that were kept as text are so again, where the file has them."""
    text = options.pop("text", None)
    found = SOURCES[scheme].function(str(path.resolve()), path.parent, **options)
    there = [name for name in text or () if name in found.columns]
    return SOURCES[scheme].function(str(path.resolve()), path.parent, **options, text=there) if there else found


# Sources that rows can be predicted from, and those of their options that say how files are read, not what is in them.
READABLE = {
    "csv": ("missing", "delimiter", "quote", "encoding", "text"),
    "npz": (),
    "jsonl": ("encoding",),
    "conll": ("header", "comments", "encoding"),
    "images": ("size", "fit", "mode"),
    "audio": ("rate",),
    "parquet": (),
    "text": ("encoding", "skip_blank"),
}


def _options(spec: Spec, scheme: str) -> dict[str, Any]:
    """How the training data were read; the rows to predict have a header, and may have no targets."""
    assert spec.sections.data is not None
    given = declare_options(spec.sections.data, spec.scope, spec.report)
    return {key: given[key] for key in READABLE[scheme] if key in given}


def _json_rows(path: Path) -> Table:
    """The rows of a .json file: a list of objects, or an object of columns."""
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


def write_csv(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns as a .csv file, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in as_rows(columns):
        writer.writerow(row.values())
    write_atomically(path, text.getvalue().encode())
