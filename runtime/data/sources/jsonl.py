"""Rows written as JSON objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....compiler.spec.registry import SOURCES
from ..table import Column, DataError, Table, as_column, list_column, make_table, text_column
from .files import decode, read_file

WHOLE = range(-(2**63), 2**63)
KINDS = {
    "number": "a number",
    "text": "text",
    "numbers": "a list of numbers",
    "texts": "a list of text",
    "empty": "a list",
}


@SOURCES.register
def jsonl(target: str, folder: Path, *, encoding: str = "utf-8") -> Table:
    """Rows of a file of JSON lines, one object a line, which may be compressed or in an archive.

    The keys are the columns; a key that is absent or null is missing. Values are text, numbers,
    booleans (as 0 and 1), and lists of text or of numbers; what columns hold that no field reads is of no concern.
    The keys of an object in an object are the columns `outer.inner`. Blank lines are skipped.

    encoding: how the file writes characters.
    Example: source: jsonl:reviews.jsonl
    """
    path = folder / target
    content = decode(read_file(path), encoding, path.name)
    # JSON may have other ends of lines inside of text, where `splitlines` would cut it.
    lines = [(n, line) for n, line in enumerate(content.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path.name} is empty: it has no rows")
    return table_of_objects([(n, _parse(line, f"{path.name}: line {n}")) for n, line in lines], path.name, "line")


def _parse(line: str, place: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place} is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise DataError(f"{place} has objects or lists too deep in each other") from None
    except ValueError as error:
        # Python refuses whole numbers of thousands of digits.
        raise DataError(f"{place} cannot be read: {error}") from None


def table_of_objects(objects: Sequence[tuple[int, object]], source: str, unit: str) -> Table:
    """A table of objects, each with the number of the line or row (as `unit` says) it stands in."""
    columns: dict[str, list[Any]] = {}
    kinds: dict[str, tuple[str, int]] = {}
    refused: dict[str, str] = {}
    for row, (number, value) in enumerate(objects):
        place = f"{source}: {unit} {number}"
        for name, cell in _cells(value, place, refused).items():
            columns.setdefault(name, [None] * len(objects))[row] = cell
            if cell is None or name in refused:
                continue
            try:
                kind = _kind(cell, f"{place}: `{name}`")
            except DataError as error:
                refused[name] = error.message
                continue
            before, origin = kinds.get(name, (kind, number))
            if not _agree(before, kind):
                refused[name] = (
                    f"{place}: `{name}` is {KINDS[kind]}, in {unit} {origin} it is {KINDS[before]}; "
                    "a column holds values of one kind"
                )
            kinds[name] = (kind, number) if before == "empty" else (before, origin)
    held = {
        n: _column(n, cells, kinds.get(n, ("text", 0))[0], source) for n, cells in columns.items() if n not in refused
    }
    return make_table(held, source, refused)


def _agree(before: str, kind: str) -> bool:
    """Whether values of two kinds may stand in one column: an empty list is a list of anything."""
    return before == kind or ("empty" in (before, kind) and {before, kind} <= {"empty", "numbers", "texts"})


def _cells(value: object, place: str, refused: dict[str, str]) -> dict[str, Any]:
    """The values of an object by the names of their columns; `refused` are names that mean two things."""
    if not isinstance(value, dict):
        raise DataError(f"{place} holds {_noun(value)}, expected an object with the columns as keys")
    cells: dict[str, Any] = {}
    for name, cell in _flat(value):
        if name in cells:
            refused[name] = f"{place} has the column `{name}` twice: as a key and as an object in an object"
        cells[name] = cell
    return cells


def _flat(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys and values of an object, those of objects in it as `outer.inner`, in their order."""
    stack = list(reversed(value.items()))
    while stack:
        name, cell = stack.pop()
        if isinstance(cell, dict):
            stack += [(f"{name}.{key}", inner) for key, inner in reversed(cell.items())]
        else:
            yield name, cell


def _noun(value: object) -> str:
    names = {list: "a list", str: "text", type(None): "null"}
    return names.get(type(value), "a single value")


def _kind(cell: object, place: str) -> str:
    """The kind of a value that is not null, one of `KINDS`."""
    if isinstance(cell, str):
        return "text"
    if not isinstance(cell, list):
        _check_whole(cell, place)
        return "number"
    if all(isinstance(step, str) for step in cell):
        return "texts" if cell else "empty"
    steps = list(_leaves(cell))
    if not all(isinstance(step, int | float) for step in steps):
        raise DataError(f"{place} is a list of more than text alone or numbers alone, or of nulls or objects")
    for step in steps:
        _check_whole(step, place)
    try:
        np.asarray(cell)
    except ValueError:
        raise DataError(f"{place} has lists of different lengths within a list; expected lists of one length") from None
    return "numbers"


def _check_whole(value: object, place: str) -> None:
    if isinstance(value, int) and value not in WHOLE:
        raise DataError(f"{place} has the whole number {value}, which does not fit in 64 bits")


def _leaves(steps: list[Any]) -> Iterator[object]:
    """What a list holds, and the lists in it."""
    stack = [*steps]
    while stack:
        step = stack.pop()
        if isinstance(step, list):
            stack += step
        else:
            yield step


def _column(name: str, cells: list[Any], kind: str, source: str) -> Column:
    if kind == "number":
        return as_column(name, cells, source)
    if kind == "text":
        missing = np.fromiter((cell is None for cell in cells), np.bool_, len(cells))
        return text_column((cell or "" for cell in cells), missing)
    dtype = object if kind == "texts" else None
    return list_column([None if cell is None else np.asarray(cell, dtype) for cell in cells])
