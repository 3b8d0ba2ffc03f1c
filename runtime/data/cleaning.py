"""Steps that mend columns, one row at a time: none of them learns anything from the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...compiler.spec.kinds import Scalar, Word
from ...compiler.spec.registry import CLEANERS
from .table import (
    Array,
    Column,
    DataError,
    Table,
    counted,
    flat,
    number_name,
    numeric,
    parse_number,
    rows_where,
    text_column,
)


def _list(columns: list[str] | str) -> list[str]:
    return [columns] if isinstance(columns, str) else columns


@CLEANERS.register
def strip(table: Table, *, columns: list[Word] | Word, characters: str) -> Table:
    """Remove characters from both ends of text. A cell of which nothing is left is missing.

    columns: the columns to mend; those that hold numbers stay as they are.
    characters: the characters to remove.
    Example: strip: {columns: income, characters: "."}
    """
    return _map_text(table, _list(columns), lambda cell: cell.strip(characters).strip())


def _map_text(table: Table, names: list[str], change: Callable[[str], str]) -> Table:
    """Change every cell of the text columns among `names`."""
    changed = {}
    for name in names:
        column = flat(table, name, "cleaning")
        if column.is_text:
            cells = ["" if absent else change(cell) for cell, absent in zip(column.values, column.missing, strict=True)]
            empty = np.fromiter((not cell for cell in cells), np.bool_, len(cells))
            changed[name] = text_column(cells, column.missing | empty)
    return table.with_columns(changed)


@CLEANERS.register
def replace(table: Table, *, columns: list[Word] | Word, values: dict[str, Scalar]) -> Table:
    """Replace whole cells by other values.

    columns: the columns to mend.
    values: what is found, and what takes its place.
    Example: replace: {columns: country, values: {Hong: Hong-Kong}}
    """
    changed = {name: _replaced(table, name, values) for name in _list(columns)}
    return table.with_columns(changed)


def _replaced(table: Table, name: str, values: dict[str, Any]) -> Column:
    column = flat(table, name, "`replace`")
    if column.is_text:
        mapping = {str(key): _as_cell(value) for key, value in values.items()}
        return text_column((mapping.get(cell, cell) for cell in column.values), column.missing)
    out = column.values.astype(np.float64)
    for key, value in values.items():
        old = parse_number(key)
        if old is None or not isinstance(value, int | float):
            raise DataError(
                f"{table.place(name)} holds numbers, `replace` was given `{key}: {_as_cell(value)}`; "
                f"`as_text: {{columns: {name}}}` before it makes the column text"
            )
        out[column.values == old] = value
    return Column(_narrowed(out, column.values), column.missing)


def _narrowed(numbers: Array, before: Array) -> Array:
    """Whole numbers stay int64 where they were."""
    if before.dtype.kind != "i" or not (numbers == np.round(numbers)).all():
        return numbers
    return np.where(numbers == before.astype(np.float64), before, numbers.astype(np.int64))


def _as_cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else number_name(value)


@CLEANERS.register
def drop_rows(table: Table, *, missing: list[Word] | Word) -> Table:
    """Drop the rows in which a value is missing.

    missing: the columns that must be there.
    Example: drop_rows: {missing: [age, income]}
    """
    absent = np.zeros(len(table), np.bool_)
    for name in _list(missing):
        absent |= table.column(name).missing
    return table.take(~absent)


@CLEANERS.register
def drop_duplicates(table: Table, *, columns: list[Word] | None = None) -> Table:
    """Keep the first of several rows that are the same.

    columns: the columns to compare; all of them where nothing is said.
    Example: drop_duplicates
    """
    names = columns or list(table.columns)
    keys = zip(*(_keys(table.column(name)) for name in names), strict=True)
    seen: set[Any] = set()
    kept = np.zeros(len(table), np.bool_)
    for i, key in enumerate(keys):
        kept[i] = key not in seen
        seen.add(key)
    return table.take(kept)


def _keys(column: Column) -> list[Any]:
    """A hashable value for each row, `None` where it is missing."""
    values = [row.tobytes() for row in column.values] if column.shape else column.values.tolist()
    return [None if absent else value for value, absent in zip(values, column.missing, strict=True)]


@CLEANERS.register
def rename(table: Table, *, columns: dict[str, Word]) -> Table:
    """Give columns other names.

    columns: the old names, and the new ones.
    Example: rename: {columns: {fnlwgt: weight}}
    """
    for name in columns:
        table.column(name)
    renamed: dict[str, Column] = {}
    for name, column in table.columns.items():
        new = columns.get(name, name)
        if new in renamed:
            raise DataError(f"`rename`: {table.source} would have two columns `{new}`")
        renamed[new] = column
    return Table(renamed, table.source, table.rows)


@CLEANERS.register
def clip(table: Table, *, columns: list[Word] | Word, low: float | None = None, high: float | None = None) -> Table:
    """Raise numbers to `low` and lower them to `high`.

    columns: the columns to mend.
    low: the least number to leave.
    high: the greatest number to leave.
    Example: clip: {columns: hours, low: 0, high: 80}
    """
    if low is None and high is None:
        raise DataError("`clip` needs `low`, `high` or both")
    if low is not None and high is not None and low > high:
        raise DataError(f"`clip`: `low` is {low:g}, which is above `high`, {high:g}")
    return _map_numbers(table, _list(columns), "`clip`", lambda name, x: np.clip(x, low, high))


def _map_numbers(table: Table, names: list[str], use: str, change: Callable[[str, Array], Array]) -> Table:
    """Change the numbers of columns, as float64."""
    changed = {}
    for name in names:
        column = numeric(table, name, use)
        changed[name] = Column(change(name, column.values.astype(np.float64)), column.missing)
    return table.with_columns(changed)


@CLEANERS.register
def log(table: Table, *, columns: list[Word] | Word) -> Table:
    """The logarithm of 1 + x, which brings large counts and amounts nearer to each other.

    columns: the columns to mend; their numbers are above -1.
    Example: log: {columns: [gain, loss]}
    """

    def change(name: str, x: Array) -> Array:
        low = rows_where(x <= -1) & ~table.column(name).missing
        if low.any():
            raise DataError(
                f"{table.place(name)} has {counted(int(low.sum()), 'row')} with a number of -1 or below, "
                f"first at row {table.first(low)}; `log` needs numbers above -1: `clip` them first"
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log1p(x)

    return _map_numbers(table, _list(columns), "`log`", change)


@CLEANERS.register
def as_text(table: Table, *, columns: list[Word] | Word) -> Table:
    """Turn numbers into text: 3.0 becomes `3`.

    columns: the columns to turn; text stays as it is.
    Example: as_text: {columns: zip_code}
    """
    changed = {}
    for name in _list(columns):
        column = flat(table, name, "`as_text`")
        if not column.is_text:
            cells = ["" if m else _as_cell(x) for x, m in zip(column.values.tolist(), column.missing, strict=True)]
            changed[name] = text_column(cells, column.missing)
    return table.with_columns(changed)


@CLEANERS.register
def as_number(table: Table, *, columns: list[Word] | Word) -> Table:
    """Turn text into numbers.

    columns: the columns to turn; numbers stay as they are.
    Example: as_number: {columns: price}
    """
    changed = {}
    for name in _list(columns):
        column = flat(table, name, "`as_number`")
        if column.is_text:
            changed[name] = _parsed(table, name, column)
    return table.with_columns(changed)


def _parsed(table: Table, name: str, column: Column) -> Column:
    parsed = [
        None if absent else parse_number(cell) for cell, absent in zip(column.values, column.missing, strict=True)
    ]
    odd = np.fromiter((x is None for x in parsed), np.bool_, len(parsed)) & ~column.missing
    if odd.any():
        cell = str(column.values[np.argmax(odd)])[:40]
        raise DataError(
            f"{table.place(name)}: `{cell}` at row {table.first(odd)} is no number "
            f"({counted(int(odd.sum()), 'such row')}); "
            "mend it with `strip` or `replace`, or name it in the source's `missing`"
        )
    values = np.fromiter((np.nan if x is None else x for x in parsed), np.float64, len(parsed))
    return Column(values, column.missing)
