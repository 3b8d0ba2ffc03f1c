"""Columns of equal length, with what is missing and where each row came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...compiler.spec.diagnostics import Span, hint

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

# What stands where a sequence of ids has no step.
PAD = -1


class DataError(Exception):
    """A problem with the data: what was found, where, what was expected, and what to do."""

    def __init__(self, message: str, span: Span | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.span = span

    def at(self, span: Span | None) -> DataError:
        """The same error with the place in the spec that it concerns, unless it has one."""
        return DataError(self.message, self.span or span)


@dataclass(frozen=True, eq=False)
class Column:
    """One column: `values` [rows, ...] and which rows are missing.

    Values are int64, float64, text (an object array of `str`), or numbers of any type with more
    than one axis. What stands in `values` where a row is missing means nothing.

    A `ragged` column has a sequence in each row, of its own length: `values` is an object array of
    arrays [steps, ...] of numbers, or of `str` (object arrays).
    """

    values: Array
    missing: Mask
    ragged: bool = False

    @property
    def is_text(self) -> bool:
        return self.values.dtype == object and not self.ragged

    @property
    def is_sequence(self) -> bool:
        """Whether a row is a sequence of single values: a ragged one, or one of as many numbers as all others."""
        return self.ragged or len(self.shape) == 1

    @property
    def lengths(self) -> Rows:
        """The number of steps in each row of sequences, 0 where it is missing."""
        return np.fromiter((len(v) for v in self.values), np.int64, len(self.values)) * ~self.missing

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return self.values.shape[1:]

    def take(self, indices: Array) -> Column:
        return Column(self.values[indices], self.missing[indices], self.ragged)


@dataclass(frozen=True, eq=False)
class Table:
    """Columns by name, the file or source they came from, and the number of each row there, from 1."""

    columns: Mapping[str, Column]
    source: str
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Array) -> Table:
        """The rows at `indices` (or where a mask is true), in that order."""
        return Table({name: c.take(indices) for name, c in self.columns.items()}, self.source, self.rows[indices])

    def column(self, name: str) -> Column:
        """The column called `name`; raises `DataError` where there is none."""
        if name not in self.columns:
            raise DataError(f"{self.source} has no column `{name}`: {hint(name, self.columns)}")
        return self.columns[name]

    def with_columns(self, columns: Mapping[str, Column]) -> Table:
        """The same table with some columns added or replaced."""
        return replace(self, columns={**self.columns, **columns})

    def place(self, name: str) -> str:
        """A column as messages call it."""
        return f"column `{name}` of {self.source}"

    def first(self, mask: Mask) -> int:
        """The number of the first row where a mask is true."""
        return int(self.rows[np.argmax(mask)])


def make_table(columns: Mapping[str, Column], source: str) -> Table:
    """A table of columns; raises `DataError` if there are none or they differ in length."""
    if not columns:
        raise DataError(f"{source} has no columns")
    lengths = {name: len(column.values) for name, column in columns.items()}
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise DataError(
                f"{source}: column `{first}` has {counted(lengths[first], 'row')}, column `{name}` has {length}; "
                "all columns need the same number"
            )
    return Table(columns, source, np.arange(1, lengths[first] + 1, dtype=np.int64))


def from_arrays(columns: Mapping[str, ArrayLike], source: str = "the given arrays") -> Table:
    """A table of arrays or lists by name: strings become text, `None` and NaN are missing.

    Raises `DataError` for lengths that differ and for values that are neither numbers nor text.
    """
    return make_table({name: as_column(name, value, source) for name, value in columns.items()}, source)


def as_column(name: str, value: ArrayLike, source: str) -> Column:
    """A column of an array or list [rows, ...]; raises `DataError` for what no column can hold.

    Rows that are lists of text, or lists of numbers that differ in length, make a ragged column.
    """
    try:
        array = np.asarray(value)
    except ValueError:
        return _ragged(list(cast("Any", value)), name, source)
    if array.ndim == 0:
        raise DataError(f"{source}: `{name}` is a single value, expected one per row")
    if array.dtype.kind in "UO" and (array.ndim == 2 or _has_sequences(array)):
        return _ragged(list(cast("Any", value)), name, source)
    if array.dtype.kind in "biuf":
        return _number_column(array, name, source)
    if array.ndim == 1 and array.dtype.kind in "UO":
        # np.asarray has turned None and NaN in a list of strings into text: go back to what was given.
        return _object_column(array.tolist() if hasattr(value, "__array__") else list(cast("Any", value)), name, source)
    raise DataError(
        f"{source}: `{name}` holds {array.dtype} of shape {list(array.shape)}, "
        "expected numbers, or text with one cell per row"
    )


def _has_sequences(array: Array) -> bool:
    return array.ndim == 1 and any(isinstance(cell, list | tuple | np.ndarray) for cell in array.tolist())


def _ragged(rows: list[Any], name: str, source: str) -> Column:
    steps = [None if row is None else _steps(row, name, source) for row in rows]
    kinds = {(row.dtype == object, row.shape[1:]) for row in steps if row is not None and len(row)}
    if len(kinds) > 1:
        raise DataError(f"{source}: `{name}` has rows that differ in more than their length")
    return list_column(steps)


def list_column(rows: Sequence[Array | None]) -> Column:
    """A column with a list in each row, `None` where it is missing.

    Lists of numbers that agree in shape become one array [rows, ...], of which rows with a NaN are
    missing; all others, and lists of text (object arrays), a ragged column.
    """
    missing = np.fromiter((row is None for row in rows), np.bool_, len(rows))
    given = [row for row in rows if row is not None]
    dtype = _common(given)
    # An empty list says nothing of what it might hold.
    filled = [np.empty(0, dtype) if row is None or not len(row) else row.astype(dtype, copy=False) for row in rows]
    shapes = {row.shape for row in given}
    if dtype.kind == "O" or len(shapes) != 1 or 0 in (shape := shapes.pop()):
        return ragged_column(filled, missing)
    values = np.zeros((len(rows), *shape), dtype)
    values[~missing] = np.stack(given)
    return Column(values, missing | rows_where(np.isnan(values)) if dtype.kind == "f" else missing)


def _common(rows: Sequence[Array]) -> np.dtype[np.generic]:
    """The type that holds the steps of all rows."""
    types = {row.dtype for row in rows if len(row)}
    dtype = np.result_type(*types) if types else np.dtype(np.float64)
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _steps(row: Any, name: str, source: str) -> Array:
    """One row of a ragged column."""
    if isinstance(row, list | tuple) and len({isinstance(step, str) for step in row}) > 1:
        raise DataError(f"{source}: `{name}` has a row that mixes text and numbers")
    try:
        array = np.asarray(row)
    except ValueError:
        array = np.zeros(())
    if array.ndim and array.dtype.kind in "biuf":
        return array
    if array.ndim == 1 and array.dtype.kind in "UO" and all(isinstance(step, str) for step in array.tolist()):
        return array.astype(object)
    raise DataError(f"{source}: `{name}` has a row that is neither a list of text nor an array of numbers")


def ragged_column(rows: Sequence[Array], missing: Mask | None = None) -> Column:
    """A column with a sequence in each row."""
    values = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        values[i] = row
    return Column(values, np.zeros(len(rows), np.bool_) if missing is None else missing, ragged=True)


def _number_column(array: Array, name: str, source: str) -> Column:
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{source}: `{name}` has numbers of 2**63 and above, which do not fit")
    if array.ndim == 1:
        array = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    elif array.dtype.kind == "b":
        array = array.astype(np.uint8)
    return Column(array, _missing_rows(array))


def _missing_rows(array: Array) -> Mask:
    """Which rows have a NaN anywhere."""
    return rows_where(np.isnan(array)) if array.dtype.kind == "f" else np.zeros(len(array), np.bool_)


def rows_where(mask: Mask) -> Mask:
    """In which rows of a mask [rows, ...] anything is true."""
    return np.asarray(mask.any(axis=tuple(range(1, mask.ndim))), np.bool_)


def _object_column(cells: Sequence[Any], name: str, source: str) -> Column:
    missing = np.fromiter((cell is None or cell != cell for cell in cells), np.bool_, len(cells))
    kept = [cell for cell, absent in zip(cells, missing, strict=True) if not absent]
    if all(isinstance(cell, str) for cell in kept):
        return text_column([str(cell) if cell == cell and cell is not None else "" for cell in cells], missing)
    if not all(isinstance(cell, bool | int | float | np.number) for cell in kept):
        odd = next(cell for cell in kept if not isinstance(cell, bool | int | float | np.number))
        what = "mixes text and numbers" if isinstance(odd, str) else f"holds a {type(odd).__name__}"
        raise DataError(f"{source}: `{name}` {what}; a column is either text or numbers")
    numbers = _number_column(_as_numbers(kept, name, source), name, source).values
    values = np.zeros(len(cells), numbers.dtype) if numbers.dtype.kind == "i" else np.full(len(cells), np.nan)
    values[~missing] = numbers
    return Column(values, missing)


def _as_numbers(cells: list[Any], name: str, source: str) -> Array:
    array = np.asarray(cells)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{source}: `{name}` has whole numbers that do not fit in 64 bits")
    return array


def text_column(cells: Iterable[str], missing: Mask) -> Column:
    """A column of text."""
    values = np.empty(len(missing), object)
    values[:] = list(cells)
    return Column(values, missing)


def number_name(value: float) -> str:
    """A number as a category is called: `3` for 3.0, `0.5` for 0.5."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def categories(column: Column) -> tuple[list[str], Rows]:
    """The distinct values of a column by name, in sorted order, and each row's index (-1 where missing).

    Numbers are sorted as numbers, text as text. The column has one value per row.
    """
    kept = column.values[~column.missing]
    codes = np.full(len(column.values), -1, np.int64)
    if column.is_text:
        names = sorted(set(kept))
        index = {name: i for i, name in enumerate(names)}
        codes[~column.missing] = np.fromiter(map(index.__getitem__, kept), np.int64, len(kept))
        return names, codes
    values, inverse = np.unique(kept, return_inverse=True)
    codes[~column.missing] = inverse
    return [number_name(value) for value in values.tolist()], codes


def listed(names: Sequence[str], limit: int = 8) -> str:
    """Names as a message lists them: the first few, and how many more there are."""
    text = ", ".join(f"`{name}`" for name in names[:limit])
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def by_step(table: Table, name: str) -> tuple[Table, Rows | None]:
    """The table with a row for each step of a column of sequences, and their lengths.

    Of a column with one value per row, the table as it is, and `None`.
    """
    column = table.column(name)
    if not column.is_sequence:
        return table, None
    lengths = column.lengths
    kept = [row for row, length in zip(column.values, lengths, strict=True) if length]
    steps = np.concatenate(kept) if kept else np.empty(0, object)
    if steps.ndim > 1:
        raise DataError(f"{table.place(name)} has an array in each step of its sequences, expected a single value")
    flat = Column(
        steps, np.zeros(len(steps), np.bool_) if steps.dtype == object else np.isnan(steps.astype(np.float64))
    )
    return Table({name: flat}, table.source, np.repeat(table.rows, lengths)), lengths


def padded(steps: Array, lengths: Rows, limit: int | None, pad: int) -> Array:
    """Steps as sequences again [rows, longest], cut to `limit` and padded at their ends."""
    kept = lengths if limit is None else np.minimum(lengths, limit)
    out = np.full((len(lengths), max(1, int(kept.max(initial=0)))), pad, steps.dtype)
    real = np.arange(out.shape[1]) < kept[:, None]
    starts = np.cumsum(lengths) - lengths
    places = (starts[:, None] + np.arange(out.shape[1]))[real]
    out[real] = steps[places]
    return out


def flat(table: Table, name: str, use: str) -> Column:
    """The column `name`, which must have one value per row; raises `DataError`."""
    column = table.column(name)
    if column.ragged:
        raise DataError(f"{table.place(name)} has a sequence in each row; {use} needs a single value")
    if column.shape:
        raise DataError(
            f"{table.place(name)} has an array {list(column.shape)} in each row; {use} needs a single value"
        )
    return column


def numeric(table: Table, name: str, use: str) -> Column:
    """The column `name`, which must hold finite numbers; raises `DataError`.

    A column in which every value is missing may be taken as numbers.
    """
    column = table.column(name)
    if column.ragged:
        raise DataError(f"{table.place(name)} has a sequence in each row; {use} needs rows of one shape")
    if column.is_text and column.missing.all():
        return Column(np.full(len(table), np.nan), column.missing)
    if column.is_text:
        raise DataError(_text_message(table, name, column, use))
    if column.values.dtype.kind == "f":
        infinite = rows_where(np.isinf(column.values))
        if infinite.any():
            raise DataError(
                f"{table.place(name)} has {counted(int(infinite.sum()), 'row')} with an infinite number, "
                f"first at row {table.first(infinite)}; {use} needs finite numbers"
            )
    return column


def _text_message(table: Table, name: str, column: Column, use: str) -> str:
    odd = ~column.missing & np.fromiter((not is_number(cell) for cell in column.values), np.bool_, len(table))
    if not odd.any():
        cure = f"`clean: [{{as_number: {{columns: {name}}}}}]` makes numbers of it"
        return f"{table.place(name)} is text, {use} needs numbers; {cure}"
    example = str(column.values[np.argmax(odd)])[:40]
    cure = "set `encode: ids` for categories, or mend the column in `data.clean` or by the source's `missing`"
    return (
        f"{table.place(name)} is text ({counted(int(odd.sum()), 'row')}, first `{example}` at row {table.first(odd)}), "
        f"{use} needs numbers; {cure}"
    )


def is_number(cell: str) -> bool:
    """Whether a cell is a finite number as files write it: no `nan`, `inf` or `1_000`."""
    return parse_number(cell) is not None


def parse_number(cell: str) -> float | None:
    """The finite number a cell writes, or `None`."""
    if not cell.isascii() or "_" in cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
