"""Dates and times that files write as text, as numbers to sort by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import numpy as np

from .table import Array, Column, DataError, Rows, Table, as_numbers, counted, flat

# 2024-05-17, 2024/5/7, 2024-05, and what follows of a time.
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})(?:\2(\d{1,2}))?(?:[T ]+(.+))?")
# 17/05/2021, 5-17-2021, 17.5.2021: which of the first two is the month is another question.
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?:[T ]+(.+))?")
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?(Z|[+-]\d{2}(:?\d{2})?))?", re.I)
DAY_FIRST, MONTH_FIRST = "day/month/year", "month/day/year"
EXAMPLES = {DAY_FIRST: "%d{0}%m{0}%Y", MONTH_FIRST: "%m{0}%d{0}%Y"}


def moments(table: Table, name: str, use: str, form: str | None = None) -> Array:
    """Numbers that rise with the times of a column: seconds, or the column's own numbers.

    Text is ISO 8601, or a date with the year at its end where the column shows which of the other two is the month;
    `form` says how other text is read, in the codes of `datetime.strptime`. Raises `DataError` for what is missing, is
    no time, or can be read in two ways that differ in their order.
    """
    column = flat(table, name, use)
    if column.missing.any():
        raise DataError(
            f"{table.place(name)} has {counted(int(column.missing.sum()), 'missing value')}, first at row "
            f"{table.first(column.missing)}; {use} needs every value: "
            f"`clean: [{{drop_rows: {{missing: {name}}}}}]` drops those rows"
        )
    if not column.is_text:
        return column.values
    numbers = as_numbers(column) if form is None else None
    return numbers.values if numbers is not None else _parsed(table, name, column, use, form)


def ranks(table: Table, name: str, use: str, form: str | None = None) -> Rows:
    """The place of each row's time among all different times, from 0."""
    return np.unique(moments(table, name, use, form), return_inverse=True)[1].reshape(-1)


def _parsed(table: Table, name: str, column: Column, use: str, form: str | None) -> Array:
    cells = list(dict.fromkeys(column.values.tolist()))
    if form is not None:
        read = {cell: _strptime(cell, form) for cell in cells}
        _check(table, name, column, read, f"does not read as `{form}`")
        return _column(column, _seconds(read))
    readings = {kind: {cell: _read(cell, kind) for cell in cells} for kind in (DAY_FIRST, MONTH_FIRST)}
    whole = {kind: found for kind, found in readings.items() if all(moment is not None for moment in found.values())}
    if not whole:
        best = max(readings.values(), key=lambda found: sum(moment is not None for moment in found.values()))
        _check(table, name, column, best, f"is no date or time that {use} can sort by")
    found, *others = (_seconds(moments) for moments in whole.values())
    if others and _order(found) != _order(others[0]):
        raise DataError(_ambiguous(table, name, cells, found, others[0]))
    return _column(column, found)


def _strptime(cell: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(cell.strip(), form)
    except ValueError:
        return None


def _read(cell: str, kind: str) -> datetime | None:
    """A time as ISO 8601 writes it, or with its year at the end."""
    cell = cell.strip()
    if match := _YEAR_FIRST.fullmatch(cell):
        year, _, month, day, clock = match.groups()
    elif match := _YEAR_LAST.fullmatch(cell):
        first, _, second, year, clock = match.groups()
        day, month = (first, second) if kind == DAY_FIRST else (second, first)
    else:
        return _iso(cell)
    if clock is not None and not _CLOCK.fullmatch(clock):
        return None
    text = f"{year}-{int(month):02d}-{int(day or 1):02d}"
    return _iso(text if clock is None else f"{text}T{_padded(clock)}")


def _padded(clock: str) -> str:
    clock = clock.replace(" ", "").replace(",", ".")
    return clock if clock[1:2] != ":" else f"0{clock}"


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _seconds(moments: Mapping[str, datetime | None]) -> dict[str, float]:
    """Seconds since 1970; a time without a zone is taken for one in UTC."""
    given = {cell: moment for cell, moment in moments.items() if moment is not None}
    return {c: (m if m.tzinfo else m.replace(tzinfo=UTC)).timestamp() for c, m in given.items()}


def _order(found: Mapping[str, float]) -> list[int]:
    """The order of different texts by their times, equal times beside each other."""
    order: list[int] = np.unique(np.asarray(list(found.values())), return_inverse=True)[1].reshape(-1).tolist()
    return order


def _column(column: Column, found: Mapping[str, float]) -> Array:
    return np.fromiter((found[cell] for cell in column.values), np.float64, len(column.values))


def _check(table: Table, name: str, column: Column, found: Mapping[str, object], what: str) -> None:
    """Raise `DataError` where a cell could not be read."""
    odd = np.fromiter((found[cell] is None for cell in column.values), np.bool_, len(column.values))
    if odd.any():
        cell = str(column.values[np.argmax(odd)])[:40]
        raise DataError(
            f"{table.place(name)}: `{cell}` at row {table.first(odd)} {what} ({counted(int(odd.sum()), 'such row')}); "
            'give dates as 2024-05-17, or say by `format` how they are written, such as `format: "%d.%m.%y"`'
        )


def _ambiguous(
    table: Table, name: str, cells: Iterable[str], one: Mapping[str, float], other: Mapping[str, float]
) -> str:
    """Both readings of a date that has two."""
    cell = next(cell for cell in cells if one[cell] != other[cell])
    days = [datetime.fromtimestamp(found[cell], UTC).strftime("%Y-%m-%d") for found in (one, other)]
    mark = next(c for c in cell if c in "-/.")
    forms = [example.format(mark) for example in EXAMPLES.values()]
    return (
        f"{table.place(name)}: `{cell}` may be {days[0]} ({DAY_FIRST}) or {days[1]} ({MONTH_FIRST}), and no date there "
        f'tells which: say so by `format: "{forms[0]}"` or `format: "{forms[1]}"`'
    )
