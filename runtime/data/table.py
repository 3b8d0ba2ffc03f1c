"""Columns of equal length, with what is missing and where each row came from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...compiler.spec.diagnostics import Span, hint
from ...compiler.structs import Struct

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

Form = Literal["text", "number", "boolean"]

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

    logical: whether the numbers, 0 and 1, stand for false and true.
    mended: the steps of `clean` with an inverse that its numbers went through, in order.
    """

    values: Array
    missing: Mask
    ragged: bool = False
    logical: bool = False
    mended: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        return self.values.dtype == object and not self.ragged

    @property
    def form(self) -> Form:
        """What single values are: text, numbers, or false and true."""
        return "text" if self.is_text else "boolean" if self.logical else "number"

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
        return replace(self, values=self.values[indices], missing=self.missing[indices])


@dataclass(frozen=True, eq=False)
class Table:
    """Columns by name, the file or source they came from, and the number of each row there, from 1.

    refused: what is wrong with columns that cannot be held, by name. Whoever asks for one of them is told.
    order: the place of each row among all in the order of time, where rows were put into that.
    """

    columns: Mapping[str, Column]
    source: str
    rows: Rows
    refused: Mapping[str, str] = field(default_factory=dict)
    order: Rows | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Array) -> Table:
        """The rows at `indices` (or where a mask is true), in that order."""
        taken = {name: c.take(indices) for name, c in self.columns.items()}
        order = None if self.order is None else self.order[indices]
        return replace(self, columns=taken, rows=self.rows[indices], order=order)

    @property
    def names(self) -> list[str]:
        """The names of all columns, those among them that are refused."""
        return [*self.columns, *self.refused]

    def column(self, name: str) -> Column:
        """The column called `name`; raises `DataError` where there is none, or one that cannot be held."""
        if name in self.refused:
            raise DataError(self.refused[name])
        if name not in self.columns:
            raise DataError(f"{self.source} has no column `{name}`: {hint(name, self.columns)}")
        return self.columns[name]

    def with_columns(self, columns: Mapping[str, Column]) -> Table:
        """The same table with some columns added or replaced."""
        refused = {name: why for name, why in self.refused.items() if name not in columns}
        return replace(self, columns={**self.columns, **columns}, refused=refused)

    def place(self, name: str) -> str:
        """A column as messages call it."""
        return f"column `{name}` of {self.source}"

    def first(self, mask: Mask) -> int:
        """The number of the first row where a mask is true."""
        return int(self.rows[np.argmax(mask)])


def make_table(columns: Mapping[str, Column], source: str, refused: Mapping[str, str] | None = None) -> Table:
    """A table of columns; raises `DataError` if there are none or they differ in length."""
    if not columns:
        raise DataError(next(iter((refused or {}).values()), f"{source} has no columns"))
    lengths = {name: len(column.values) for name, column in columns.items()}
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise DataError(
                f"{source}: column `{first}` has {counted(lengths[first], 'row')}, column `{name}` has {length}; "
                "all columns need the same number"
            )
    return Table(columns, source, np.arange(1, lengths[first] + 1, dtype=np.int64), refused or {})


Rowwise = Mapping[Any, ArrayLike] | Sequence[Mapping[str, Any]] | Array


def from_arrays(columns: Rowwise, source: str = "the given arrays") -> Table:
    """A table of arrays or lists by name, of a data frame, of a structured array, or of a list of rows.

    Strings become text; `None`, NaN and what stands for a missing value in data frames are missing. Names are
    those of files: the column 0 is `0`. Values that are neither numbers nor text are of no concern until they are
    asked for. Raises `DataError` for lengths that differ, and for what has no columns.
    """
    held: dict[str, Column] = {}
    refused: dict[str, str] = {}
    for key, value in _by_name(columns, source).items():
        name = str(key)
        if name in held or name in refused:
            raise DataError(f"{source}: two columns are called `{name}`")
        try:
            held[name] = as_column(name, value, source)
        except DataError as error:
            refused[name] = error.message
    return make_table(held, source, refused)


def _by_name(rows: Any, source: str) -> Mapping[Any, Any]:
    """Columns by name of any form that rows are given in."""
    if isinstance(rows, Mapping):
        return rows
    if hasattr(rows, "columns") and hasattr(rows, "__getitem__"):  # a data frame, whoever made it
        names = list(rows.columns)
        if len(set(map(str, names))) < len(names):
            twice = next(name for name in map(str, names) if list(map(str, names)).count(name) > 1)
            raise DataError(f"{source}: two columns are called `{twice}`")
        return {name: rows[name] for name in names}
    if isinstance(rows, np.ndarray) and rows.dtype.names:
        return {name: rows[name] for name in rows.dtype.names}
    if isinstance(rows, list | tuple) and all(isinstance(row, Mapping) for row in rows):
        if not rows:
            raise DataError(f"{source}: there are no rows")
        names = list(dict.fromkeys(name for row in rows for name in row))
        return {name: [row.get(name) for row in rows] for name in names}
    what = f"an array of shape {list(rows.shape)}" if isinstance(rows, np.ndarray) else f"a {type(rows).__name__}"
    raise DataError(f"{source}: expected columns by name, as `{{'a': [1, 2]}}`, or a list of rows, got {what}")


def as_column(name: str, value: ArrayLike, source: str) -> Column:
    """A column of an array or list [rows, ...]; raises `DataError` for what no column can hold.

    Rows that are lists of text, or lists of numbers that differ in length, make a ragged column.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return _ragged(_each(value, name, source), name, source)
    if array.ndim == 0:
        raise DataError(f"{source}: `{name}` is a single value, expected one per row: a list, `[{_shown(value)}]`")
    if array.dtype.kind == "M":
        return _times(array, name, source)
    if array.dtype.kind in "UO" and (array.ndim == 2 or _has_sequences(array)):
        return _ragged(_each(value, name, source), name, source)
    if array.dtype.kind in "biuf":
        return _number_column(array, name, source)
    if array.ndim == 1 and array.dtype.kind in "UO":
        # np.asarray has turned None and NaN in a list of strings into text: go back to what was given.
        cells = array.tolist() if hasattr(value, "__array__") else _each(value, name, source)
        return _object_column(cells, name, source)
    raise DataError(
        f"{source}: `{name}` holds {array.dtype} of shape {list(array.shape)}, "
        "expected numbers, or text with one cell per row"
    )


def _each(value: Any, name: str, source: str) -> list[Any]:
    try:
        return list(value)
    except TypeError:
        raise DataError(f"{source}: `{name}` is a {type(value).__name__}, expected one value per row") from None


def _shown(value: object) -> str:
    return repr(value)[:40]


def _times(array: Array, name: str, source: str) -> Column:
    """Times as ISO text, in days where all of them are whole days; those that are missing, NaT."""
    if array.ndim != 1:
        raise DataError(f"{source}: `{name}` has {array.ndim} axes of times, expected one time per row")
    missing = np.isnat(array)
    kept = array[~missing]
    whole = bool((kept == kept.astype("datetime64[D]")).all())
    shown = np.datetime_as_string(array, unit="D" if whole else "auto")
    return text_column(("" if absent else str(text) for text, absent in zip(shown, missing, strict=True)), missing)


def _is_missing(cell: Any) -> bool:
    """Whether a value stands for one that is missing: `None`, NaN, and what data frames have instead."""
    if cell is None:
        return True
    if isinstance(cell, str | bytes):
        return False
    try:
        return bool(cell != cell)
    except (TypeError, ValueError):  # `pandas.NA`, which equals nothing and is not true or false either
        return type(cell).__name__ == "NAType"


def _has_sequences(array: Array) -> bool:
    return array.ndim == 1 and any(isinstance(cell, list | tuple | np.ndarray) for cell in array.tolist())


def _ragged(rows: list[Any], name: str, source: str) -> Column:
    steps = [None if _is_absent(row) else _steps(row, name, source) for row in rows]
    kinds = {(row.dtype == object, row.shape[1:]) for row in steps if row is not None and len(row)}
    if len(kinds) > 1:
        raise DataError(f"{source}: `{name}` has rows that differ in more than their length")
    return list_column(steps)


def _is_absent(row: Any) -> bool:
    """Whether a row of lists is missing."""
    return not isinstance(row, list | tuple | np.ndarray) and _is_missing(row)


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
    logical = array.dtype.kind == "b"
    if array.ndim == 1:
        array = array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
    elif logical:
        array = array.astype(np.uint8)
    return Column(array, _missing_rows(array), logical=logical)


def _missing_rows(array: Array) -> Mask:
    """Which rows have a NaN anywhere."""
    return rows_where(np.isnan(array)) if array.dtype.kind == "f" else np.zeros(len(array), np.bool_)


def rows_where(mask: Mask) -> Mask:
    """In which rows of a mask [rows, ...] anything is true."""
    return np.asarray(mask.any(axis=tuple(range(1, mask.ndim))), np.bool_)


# What a cell of numbers may be; `Decimal` and the numbers of NumPy among them.
_NUMBERS = (bool, int, float, Decimal, np.number, np.bool_)


def _object_column(cells: Sequence[Any], name: str, source: str) -> Column:
    missing = np.fromiter((_is_missing(cell) for cell in cells), np.bool_, len(cells))
    kept = [cell for cell, absent in zip(cells, missing, strict=True) if not absent]
    if all(isinstance(cell, str) for cell in kept):
        return text_column(["" if absent else str(c) for c, absent in zip(cells, missing, strict=True)], missing)
    if all(isinstance(cell, date) for cell in kept):
        return _dates(cells, missing)
    if not all(isinstance(cell, _NUMBERS) for cell in kept):
        odd = next(cell for cell in kept if not isinstance(cell, _NUMBERS))
        what = "mixes text and numbers" if isinstance(odd, str) else f"holds a {type(odd).__name__}"
        raise DataError(f"{source}: `{name}` {what}; a column is either text or numbers")
    found = _number_column(_as_numbers(kept, name, source), name, source)
    numbers = found.values
    values = np.zeros(len(cells), numbers.dtype) if numbers.dtype.kind == "i" else np.full(len(cells), np.nan)
    values[~missing] = numbers
    return Column(values, missing, logical=found.logical)


def _dates(cells: Sequence[Any], missing: Mask) -> Column:
    """Dates and times of Python as ISO text."""
    return text_column(("" if absent else c.isoformat() for c, absent in zip(cells, missing, strict=True)), missing)


def _as_numbers(cells: list[Any], name: str, source: str) -> Array:
    array = np.asarray([float(cell) if isinstance(cell, Decimal) else cell for cell in cells])
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


def category(cell: str) -> str:
    """Text as the name of a category: without blanks at its ends, its accents composed (Unicode NFC).

    So files in which they differ have the same categories.
    """
    cell = cell.strip()
    return cell if cell.isascii() else unicodedata.normalize("NFC", cell)


def as_categories(column: Column) -> Column:
    """The column with text as categories are called; blank text is missing, as empty cells of files are."""
    if not column.is_text:
        return column
    cells = ["" if absent else category(cell) for cell, absent in zip(column.values, column.missing, strict=True)]
    return text_column(cells, np.fromiter((not cell for cell in cells), np.bool_, len(cells)))


def categories(column: Column) -> tuple[list[str], Rows]:
    """The distinct values of a column by name, in sorted order, and each row's index (-1 where missing).

    Numbers are sorted as numbers, text as text. The column has one value per row.
    """
    column = as_categories(column)
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


def flat_category(table: Table, name: str, use: str) -> Column:
    """The column `name` of single values, its text as categories are called; raises `DataError`."""
    return as_categories(flat(table, name, use))


def numeric(table: Table, name: str, use: str) -> Column:
    """The column `name`, which must hold finite numbers; raises `DataError`.

    A column in which every value is missing may be taken as numbers, and so may text that writes numbers, such as
    `007`.
    """
    column = table.column(name)
    if column.ragged:
        raise DataError(f"{table.place(name)} has a sequence in each row; {use} needs rows of one shape")
    if column.is_text and column.missing.all():
        return Column(np.full(len(table), np.nan), column.missing)
    if column.is_text:
        numbers = as_numbers(column)
        if numbers is None:
            raise DataError(_text_message(table, name, column, use))
        return numbers
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
    example = str(column.values[np.argmax(odd)])[:40]
    cure = "set `encode: ids` for categories, or mend the column in `data.clean` or by the source's `missing`"
    if odd.sum() == 1 and table.first(odd) == 1 and len(table) > 1:
        cure = "where the first row below the header holds units, set the source's `units: true`; or else " + cure
    return (
        f"{table.place(name)} is text ({counted(int(odd.sum()), 'row')}, first `{example}` at row {table.first(odd)}), "
        f"{use} needs numbers; {comma_hint(example)[2:] or cure}"
    )


def is_number(cell: str) -> bool:
    """Whether a cell is a finite number as files write it: no `nan`, `inf` or `1_000`."""
    return parse_number(cell) is not None


class Notation(Struct):
    """How numbers are written: what stands before the decimals, and between thousands."""

    pattern: re.Pattern[str]
    decimal: str
    thousands: str

    def plain(self, cell: str) -> str | None:
        """A number as Python writes it; `None` for what is none."""
        cell = cell.strip()
        if self.thousands or self.decimal != ".":
            if not self.pattern.fullmatch(cell):
                return None
            cell = (cell.replace(self.thousands, "") if self.thousands else cell).replace(self.decimal, ".")
        return cell if is_number(cell) else None


def notation_of(decimal: str, thousands: str) -> Notation:
    """How numbers with these characters are written; raises `DataError` for such as cannot be told apart."""
    if (decimal, thousands) == (".", ""):
        return PLAIN
    if len(decimal) != 1 or len(thousands) > 1 or decimal == thousands or set(decimal + thousands) & set(_DIGITS):
        raise DataError(
            f"`decimal` and `thousands` are two different characters that are no digits, found `{decimal}` and "
            f"`{thousands}`"
        )
    return _notation(decimal, thousands)


def _notation(decimal: str, thousands: str) -> Notation:
    point = re.escape(decimal)
    whole = rf"[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+|[0-9]+" if thousands else "[0-9]+"
    pattern = rf"[+-]?(?:(?:{whole})(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?"
    return Notation(re.compile(pattern), decimal, thousands)


PLAIN = _notation(".", "")
_DIGITS = "0123456789+-"
_COMMA = re.compile(r"[+-]?[0-9.]*,[0-9]+|[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]*")


def comma_hint(cell: str) -> str:
    """How numbers with a decimal comma, or with commas between thousands, are read; empty for other text."""
    if not _COMMA.fullmatch(cell):
        return ""
    if "." in cell and cell.rfind(".") > cell.rfind(","):
        return '; the source\'s `thousands: ","`, or `as_number: {columns: …, thousands: ","}`, reads such numbers'
    dots = ', thousands: "."' if "." in cell else ""
    return (
        f'; the source\'s `decimal: ","{dots}`, or `as_number: {{columns: …, decimal: ","{dots}}}`, reads such numbers'
    )


def parse_number(cell: str) -> float | None:
    """The finite number a cell writes, or `None`."""
    if not cell.isascii() or "_" in cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


# Above this, float64 does not hold every whole number.
EXACT = 2**53
# Whole numbers with zeros before them: codes, such as postal ones.
CODE = re.compile(r"[+-]?0[0-9]+")


def as_numbers(column: Column) -> Column | None:
    """The numbers that a column of text writes, `None` where some cell writes none."""
    kept = [cell.strip() for cell, absent in zip(column.values, column.missing, strict=True) if not absent]
    numbers = written_numbers(kept) if kept else None
    if numbers is None:
        return None
    values: Array = (
        np.zeros(len(column.values), np.int64) if numbers.dtype.kind == "i" else np.full(len(column.values), np.nan)
    )
    values[~column.missing] = numbers
    return Column(values, column.missing)


def written_numbers(cells: Sequence[str]) -> Array | None:
    """Cells as float64, as int64 where float64 would round whole numbers; `None` if any is no finite number."""
    together = "".join(cells)
    if "_" in together or not together.isascii():
        return None
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    if not np.isfinite(values).all():
        return None
    if np.abs(values).max(initial=0.0) < EXACT:
        return values
    try:
        return np.fromiter(map(int, cells), np.int64, len(cells))
    except (ValueError, OverflowError):
        return values
