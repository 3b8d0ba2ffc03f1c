"""Files of separated values."""

from __future__ import annotations

import csv as csv_format
import io
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from ....compiler.spec.diagnostics import hint
from ....compiler.spec.kinds import Word
from ....compiler.spec.registry import SOURCES
from ..table import Array, Column, DataError, Mask, Table, counted, make_table, text_column
from .files import decode, read_file

MAX_CELL = 10_000_000
EXACT = 2**53


@SOURCES.register
def csv(
    target: str,
    folder: Path,
    *,
    header: list[Word] | bool = True,
    delimiter: str = ",",
    missing: Word | list[Word] = "",
    text: list[Word] | None = None,
    quote: str = '"',
    encoding: str = "utf-8",
) -> Table:
    """Rows of a file of separated values, which may be compressed or in an archive (`rows.zip/rows.csv`).

    Blanks around cells are dropped and blank lines skipped. A column in which every cell that is
    not missing is a finite number holds numbers, any other holds text.

    header: whether the first row names the columns; or their names, where the file has none;
      without names they are called 0, 1, and so on.
    delimiter: the character between cells.
    missing: what stands for a missing value, as an empty cell always does.
    text: columns to keep as text although they look like numbers, such as postal codes.
    quote: the character around cells that contain the delimiter; empty where there is none.
    encoding: how the file writes characters.
    Example: source: csv:people.csv
    """
    if len(delimiter) != 1 or len(quote) > 1 or delimiter == quote or {delimiter, quote} & {"\n", "\r"}:
        raise DataError(
            f"`delimiter` and `quote` are two different single characters, found `{delimiter}` and `{quote}`"
        )
    path = folder / target
    content = decode(read_file(path), encoding, path.name)
    lines, places = _cells(content, delimiter, quote, path.name)
    names, lines, places = _names(header, lines, places, path.name)
    _check_lengths(lines, places, names, path.name, header is True)
    markers = {"", *([missing] if isinstance(missing, str) else missing)}
    columns = zip(*lines, strict=True) if lines else [()] * len(names)
    as_text = _known(text or [], names, path.name)
    return make_table(
        {n: guessed_column(c, markers, n in as_text) for n, c in zip(names, columns, strict=True)}, path.name
    )


def _cells(content: str, delimiter: str, quote: str, file: str) -> tuple[list[list[str]], list[int]]:
    """The stripped cells of all lines that are not blank, and the number of the line each row ends on."""
    style: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv_format.QUOTE_NONE}
    skip = delimiter != " "
    rows, places = [], []
    previous = csv_format.field_size_limit(MAX_CELL)
    reader = csv_format.reader(
        io.StringIO(content, newline=""), delimiter=delimiter, skipinitialspace=skip, strict=True, **style
    )
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append([cell.strip() for cell in row])
                places.append(reader.line_num)
    except csv_format.Error as error:
        line = places[-1] + 1 if places else 1
        raise DataError(
            f"{file}: in the row that starts at line {line}: {error}; is a quote not closed, or `quote` not `{quote}`?"
        ) from None
    finally:
        csv_format.field_size_limit(previous)
    return rows, places


def _names(
    header: list[str] | bool, lines: list[list[str]], places: list[int], file: str
) -> tuple[list[str], list[list[str]], list[int]]:
    """The columns' names, and the rows that are data."""
    if not lines:
        raise DataError(f"{file} is empty: it has no rows")
    if header is True:
        names = [name or str(i) for i, name in enumerate(lines[0])]
        lines, places = lines[1:], places[1:]
    else:
        names = header if isinstance(header, list) else [str(i) for i in range(len(lines[0]))]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        spots = [i + 1 for i, name in enumerate(names) if name == twice[0]]
        where = " and ".join(map(str, spots))
        raise DataError(
            f"{file} has the column name `{twice[0]}` {len(spots)} times (columns {where}); names must differ: "
            "mend the first row, or give names by `header: [...]`"
        )
    if not lines:
        raise DataError(f"{file} has a header and no rows below it; where the first row is data, set `header: false`")
    return names, lines, places


def _check_lengths(lines: list[list[str]], places: list[int], names: list[str], file: str, named: bool) -> None:
    """Raise `DataError` for the first row with too many or too few cells."""
    for number, (row, place) in enumerate(zip(lines, places, strict=True), 1):
        if len(row) != len(names):
            origin = "the header" if named else "`header`"
            count = sum(len(row) != len(names) for row in lines)
            others = f"; the same holds for {counted(count - 1, 'more row')}" if count > 1 else ""
            raise DataError(
                f"{file}: row {number} (line {place}) has {counted(len(row), 'cell')}, "
                f"{origin} has {counted(len(names), 'column')}{others}; is `delimiter` right?"
            )


def _known(columns: list[str], names: list[str], file: str) -> set[str]:
    for name in columns:
        if name not in names:
            raise DataError(f"`text` names a column `{name}`, which {file} does not have: {hint(name, names)}")
    return set(columns)


def guessed_column(cells: Sequence[str], markers: Set[str] = frozenset(), as_text: bool = False) -> Column:
    """A column of numbers if all cells that are not missing are numbers, else of text."""
    missing: Mask = np.fromiter((cell in markers for cell in cells), np.bool_, len(cells))
    kept = [cell for cell in cells if cell not in markers]
    numbers = None if as_text or not kept else _numbers(kept)
    if numbers is None:
        return text_column(("" if cell in markers else cell for cell in cells), missing)
    values: Array = np.zeros(len(cells), np.int64) if numbers.dtype.kind == "i" else np.full(len(cells), np.nan)
    values[~missing] = numbers
    return Column(values, missing)


def _numbers(cells: list[str]) -> Array | None:
    """The cells as float64, as int64 where float64 would round whole numbers; `None` if they are text."""
    together = "".join(cells)
    if "_" in together or not together.isascii():
        return None
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    if not np.isfinite(values).all():
        return None
    if np.abs(values).max() < EXACT:
        return values
    try:
        return np.fromiter(map(int, cells), np.int64, len(cells))
    except (ValueError, OverflowError):
        return values
