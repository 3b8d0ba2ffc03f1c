"""Steps that mend columns, one row at a time: none of them learns anything from the data.

They are part of the model: new rows are mended as the training rows were. Steps that drop rows are for training alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace as replaced
from typing import Any

import numpy as np

from ...compiler.spec.kinds import Scalar, Word
from ...compiler.spec.registry import CLEANERS, Call
from .table import (
    Array,
    Column,
    DataError,
    Notation,
    Table,
    as_numbers,
    comma_hint,
    counted,
    flat,
    notation_of,
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
    pairs = [(_old(table, name, key, value), value) for key, value in values.items()]
    whole = column.values.dtype.kind == "i" and all(float(value).is_integer() for _, value in pairs)
    out = column.values.copy() if whole else column.values.astype(np.float64)
    for old, value in pairs:
        # As whole numbers where both are: float64 holds them to 2 ** 53 alone.
        out[column.values == old] = int(value) if whole else value
    return Column(out, column.missing)


def _old(table: Table, name: str, key: str, value: object) -> int | float:
    """The number that is replaced."""
    found = int(key) if re.fullmatch(r"[+-]?[0-9]{1,18}", key) else parse_number(key)
    if found is None or not isinstance(value, int | float):
        raise DataError(
            f"{table.place(name)} holds numbers, `replace` was given `{key}: {_as_cell(value)}`; "
            f"`as_text: {{columns: {name}}}` before it makes the column text"
        )
    return found


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
    names = columns or table.names
    keys = zip(*(_keys(table.column(name)) for name in names), strict=True)
    seen: set[Any] = set()
    kept = np.zeros(len(table), np.bool_)
    for i, key in enumerate(keys):
        kept[i] = key not in seen
        seen.add(key)
    return table.take(kept)


def _keys(column: Column) -> list[Any]:
    """A hashable value for each row, `None` where it is missing."""
    if column.ragged:
        values = [(row.shape, tuple(row.ravel().tolist())) for row in column.values]
    else:
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
    new = [columns.get(name, name) for name in table.names]
    twice = next((name for name in new if new.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"`rename`: {table.source} would have two columns `{twice}`")
    renamed = {columns.get(name, name): column for name, column in table.columns.items()}
    refused = {columns.get(name, name): why for name, why in table.refused.items()}
    return replaced(table, columns=renamed, refused=refused)


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
    return table.with_columns({name: _clipped(table, name, low, high) for name in _list(columns)})


def _clipped(table: Table, name: str, low: float | None, high: float | None) -> Column:
    column = numeric(table, name, "`clip`")
    whole = [None if bound is None else int(bound) for bound in (low, high) if bound is None or bound == int(bound)]
    if column.values.dtype.kind == "i" and len(whole) == 2:
        # Whole numbers that float64 would round stay as they are.
        limits = np.iinfo(np.int64)
        least, most = (None if bound is None else min(max(bound, limits.min), limits.max) for bound in whole)
        found = np.clip(column.values, least, most)
    else:
        found = np.clip(column.values.astype(np.float64), low, high)
    return replaced(column, values=found, logical=False)


@CLEANERS.register
def log(table: Table, *, columns: list[Word] | Word) -> Table:
    """The logarithm of 1 + x, which brings large counts and amounts nearer to each other.

    What a network predicts of such a column, and its metrics, are in the units of the data again.

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

    changed = {}
    for name in _list(columns):
        column = numeric(table, name, "`log`")
        found = change(name, column.values.astype(np.float64))
        changed[name] = Column(found, column.missing, mended=(*column.mended, "log"))
    return table.with_columns(changed)


# What undoes steps in what a network predicts of a column that they mended.
INVERSES: dict[str, Callable[[Array], Array]] = {"log": np.expm1}


def undone(steps: Iterable[str], values: Array) -> Array:
    """Numbers of a column before the steps that it went through, in the units of the data."""
    with np.errstate(over="ignore"):  # of a network that has learnt nothing yet
        for step in reversed(list(steps)):
            values = INVERSES[step](values)
    return values


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
def as_number(table: Table, *, columns: list[Word] | Word, decimal: str = ".", thousands: str = "") -> Table:
    """Turn text into numbers.

    columns: the columns to turn; numbers stay as they are.
    decimal: the character before the decimals, such as a comma.
    thousands: the character between thousands, if there is one.
    Example: as_number: {columns: price, decimal: ",", thousands: "."}
    """
    notation = notation_of(decimal, thousands)
    changed = {}
    for name in _list(columns):
        column = flat(table, name, "`as_number`")
        if column.is_text:
            changed[name] = _parsed(table, name, column, notation)
    return table.with_columns(changed)


def _parsed(table: Table, name: str, column: Column, notation: Notation) -> Column:
    plain = [
        None if absent else notation.plain(cell) for cell, absent in zip(column.values, column.missing, strict=True)
    ]
    odd = np.fromiter((cell is None for cell in plain), np.bool_, len(plain)) & ~column.missing
    if odd.any():
        cell = str(column.values[np.argmax(odd)])[:40]
        raise DataError(
            f"{table.place(name)}: `{cell}` at row {table.first(odd)} is no number "
            f"({counted(int(odd.sum()), 'such row')}); "
            "mend it with `strip` or `replace`, or name it in the source's `missing`" + comma_hint(cell)
        )
    found = as_numbers(text_column((cell or "" for cell in plain), column.missing))
    return found or Column(np.full(len(table), np.nan), column.missing)


# ------------------------------------------------------------------------------------ new rows


# Steps that drop rows: the rows of training, not those that someone wants a prediction for.
DROPPING = frozenset({"drop_rows", "drop_duplicates"})


def mend(table: Table, steps: Iterable[Call]) -> Table:
    """New rows, mended as the training rows were: no row is dropped.

    Columns that are not there, such as those of targets, are left out. Raises `DataError`.
    """
    for step in steps:
        if step.name in DROPPING:
            continue
        columns = step.args.get("columns")
        named = [columns] if isinstance(columns, str) else list(columns or ())
        there = [name for name in named if name in table.columns]
        if named and not there:
            continue
        kept: Any = {name: columns[name] for name in there} if isinstance(columns, dict) else there
        call = Call(step.entry, {**step.args, "columns": kept}, step.spans, step.span) if named else step
        table = call(table)
    return table
