"""What the columns of the training rows are: learnt once, so that later rows are read alike from whatever file.

A file says little of its columns: `01` and `1` are two codes beside `A`, and one number without it; a category that
CSV calls `True` is a boolean in JSON. What the training rows were decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...compiler.structs import Struct
from .table import Column, DataError, Form, Table, as_numbers, number_name, parse_number, text_column

TRUTH = ("false", "true")


class Kind(Struct):
    """What a column of the training rows holds, and how false and true are written in it, where they are."""

    form: Form
    truth: tuple[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        return {"form": self.form} | ({"truth": list(self.truth)} if self.truth else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Kind:
        """Read what `as_json` made; raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        form, truth = data["form"], data.get("truth")
        if form not in ("text", "number", "boolean"):
            raise ValueError(f"there is no form {form!r} of columns")
        if truth is None:
            return cls(form)
        false, true = truth
        return cls(form, (str(false), str(true)))


Schema = Mapping[str, Kind]


def learn(table: Table) -> dict[str, Kind]:
    """The kind of each column that has one value per row."""
    return {name: _kind(column) for name, column in table.columns.items() if not column.ragged and not column.shape}


def _kind(column: Column) -> Kind:
    if column.is_text:
        return Kind(column.form, _spelling(column))
    kept = column.values[~column.missing]
    return Kind(column.form, ("0", "1") if column.logical or (len(kept) and np.isin(kept, (0, 1)).all()) else None)


def _spelling(column: Column) -> tuple[str, str] | None:
    """How text writes false and true, if in one way."""
    found: dict[str, set[str]] = {word: set() for word in TRUTH}
    for cell, absent in zip(column.values, column.missing, strict=True):
        # The longer of the two words has five letters.
        if not absent and len(cell) <= 5 and (word := cell.casefold()) in found:
            found[word].add(cell)
    if not any(found.values()) or any(len(spelled) > 1 for spelled in found.values()):
        return None
    false, true = (next(iter(found[word]), "") for word in TRUTH)
    alike = str.title if (false or true).istitle() else str.upper if (false or true).isupper() else str.lower
    return false or alike(TRUTH[0]), true or alike(TRUTH[1])


def conform(table: Table, schema: Schema) -> Table:
    """The table with its columns as those of the training rows were, as far as their values let them be.

    A number where text was becomes the text that writes it, text where numbers were the number it writes.
    """
    changed = {
        name: _conformed(column, schema[name])
        for name, column in table.columns.items()
        if name in schema and not column.ragged and not column.shape
    }
    return table.with_columns({name: column for name, column in changed.items() if column is not None})


def _conformed(column: Column, kind: Kind) -> Column | None:
    """The column as its kind has it; `None` where it is so already."""
    if kind.form == "text":
        return _as_text(column, kind.truth)
    if not column.is_text:
        return None
    return _as_number(column, kind.truth)


def _as_text(column: Column, truth: tuple[str, str] | None) -> Column | None:
    if column.is_text:
        return None if truth is None else _spelled(column, truth)
    values = column.values.tolist()
    plain = truth is not None and all(v in (0, 1) for v, m in zip(values, column.missing, strict=True) if not m)
    # Of booleans that are no text anywhere in the training rows, none is known: they are called as JSON does.
    words = truth if plain else TRUTH if column.logical else None
    cells = ((words[int(v)] if words else number_name(v)) for v in _filled(values, column))
    return text_column(cells, column.missing)


def _filled(values: Sequence[Any], column: Column) -> list[Any]:
    """The values, 0 where they are missing."""
    return [0 if absent else value for value, absent in zip(values, column.missing, strict=True)]


def _spelled(column: Column, truth: tuple[str, str]) -> Column:
    """Text with true and false as the training rows write them."""
    words = dict(zip(TRUTH, truth, strict=True))
    return text_column((words.get(cell.casefold(), cell) for cell in column.values), column.missing)


def _as_number(column: Column, truth: tuple[str, str] | None) -> Column | None:
    """The numbers that text writes; what writes none stays text, beside what numbers are called."""
    if column.missing.all():
        return None
    if truth is not None:
        words = dict(zip(TRUTH, truth, strict=True))
        column = text_column((words.get(cell.strip().casefold(), cell) for cell in column.values), column.missing)
    numbers = as_numbers(column)
    if numbers is not None:
        return numbers
    parsed = [(cell, parse_number(cell.strip())) for cell in column.values]
    return text_column((cell if n is None else number_name(n) for cell, n in parsed), column.missing)


def as_json(schema: Schema) -> dict[str, Any]:
    return {name: kind.as_json() for name, kind in schema.items()}


def from_json(data: object) -> dict[str, Kind]:
    """Read what `as_json` made; raises `DataError` for anything else."""
    if not isinstance(data, Mapping):
        raise DataError(f"the saved columns are a {type(data).__name__}, expected an object")
    try:
        return {str(name): Kind.from_json(kind) for name, kind in data.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the saved columns cannot be read: {error!r}") from None
