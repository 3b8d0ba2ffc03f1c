"""Files of separated values."""

from __future__ import annotations

import csv as csv_format
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ....compiler.spec.diagnostics import hint
from ....compiler.spec.kinds import Range, Word
from ....compiler.spec.registry import SOURCES
from ....compiler.structs import Struct
from ..table import (
    CODE,
    PLAIN,
    Column,
    DataError,
    Mask,
    Notation,
    Table,
    as_numbers,
    counted,
    make_table,
    notation_of,
    text_column,
)
from .files import decode, read_file

MAX_CELL = 10_000_000


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
    decimal: str = ".",
    thousands: str = "",
    comment: str = "",
    skip: Annotated[int, Range(0)] = 0,
    units: bool = False,
) -> Table:
    """Rows of a file of separated values, which may be compressed or in an archive (`rows.zip/rows.csv`).

    Blanks around cells are dropped and blank lines skipped. A column in which every cell that is
    not missing is a finite number holds numbers, any other holds text: so do codes, whole numbers with zeros before
    them such as `01`.

    header: whether the first row names the columns; or their names, where the file has none;
      without names they are called 0, 1, and so on.
    delimiter: the character between cells.
    missing: what stands for a missing value, as an empty cell always does.
    text: columns to keep as text although they look like numbers, such as postal codes.
    quote: the character around cells that contain the delimiter; empty where there is none.
    encoding: how the file writes characters.
    decimal: the character before the decimals of numbers, such as a comma.
    thousands: the character between thousands, if there is one.
    comment: what lines begin with that are no rows, such as `#`.
    skip: how many lines there are before the first row or the header.
    units: whether the first row below the header says what the columns are measured in, and is no row of data.
    Example: source: csv:people.csv
    """
    layout = Layout(header, delimiter, quote, encoding, comment, skip, units)
    return _separated(folder / target, layout, missing, notation_of(decimal, thousands), text or [], True)


def as_text(path: Path, options: Mapping[str, Any]) -> Table:
    """The rows of a file by the options of `csv`; of the columns to keep as text, those that it has."""
    given = {p.name: p.default for p in SOURCES["csv"].parameters if p.kind is p.KEYWORD_ONLY} | dict(options)
    layout = Layout(**{name: given[name] for name in Layout.__annotations__})
    notation = notation_of(given["decimal"], given["thousands"])
    return _separated(path, layout, given["missing"], notation, given["text"] or [], False)


class Layout(Struct):
    """How a file of separated values is laid out; see `csv`."""

    header: list[str] | bool
    delimiter: str
    quote: str
    encoding: str
    comment: str
    skip: int
    units: bool

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or len(self.quote) > 1 or self.delimiter == self.quote or {
            self.delimiter, self.quote
        } & {"\n", "\r"}:  # fmt: skip
            raise DataError(
                "`delimiter` and `quote` are two different single characters, found "
                f"`{self.delimiter}` and `{self.quote}`"
            )


def _separated(
    path: Path, layout: Layout, missing: str | list[str], notation: Notation, text: Collection[str], all_there: bool
) -> Table:
    """The rows of a file; raises `DataError`, where `all_there` also for a column of `text` that it does not have."""
    content = decode(read_file(path), layout.encoding, path.name)
    lines, places = _cells(content, layout, path.name)
    names, lines, places = _names(layout, lines, places, path.name)
    _check_lengths(lines, places, names, path.name, layout)
    markers = {"", *([missing] if isinstance(missing, str) else missing)}
    columns = zip(*lines, strict=True) if lines else [()] * len(names)
    as_text = _known(text, names, path.name) if all_there else set(text)
    return make_table(
        {n: guessed_column(c, markers, n in as_text, notation) for n, c in zip(names, columns, strict=True)}, path.name
    )


def _cells(content: str, layout: Layout, file: str) -> tuple[list[list[str]], list[int]]:
    """The stripped cells of all lines that are not blank, and the number of the line each row ends on."""
    style: dict[str, Any] = {"quotechar": layout.quote} if layout.quote else {"quoting": csv_format.QUOTE_NONE}
    blanks = layout.delimiter != " "
    rows, places = [], []
    previous = csv_format.field_size_limit(MAX_CELL)
    left_out, source = _without(content, layout)
    reader = csv_format.reader(source, delimiter=layout.delimiter, skipinitialspace=blanks, strict=True, **style)
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append([cell.strip() for cell in row])
                places.append(left_out(reader.line_num))
    except csv_format.Error as error:
        line = places[-1] + 1 if places else 1
        raise DataError(
            f"{file}: in the row that starts at line {line}: {error}; is a quote not closed, or `quote` not "
            f"`{layout.quote}`?"
        ) from None
    finally:
        csv_format.field_size_limit(previous)
    return rows, places


def _without(content: str, layout: Layout) -> tuple[Callable[[int], int], Iterable[str]]:
    """The lines without those to skip and comments, and the number in the file of each that is left."""
    lines = io.StringIO(content, newline="")
    if not layout.skip and not layout.comment:
        return lambda number: number, lines
    kept = [
        (number, line)
        for number, line in enumerate(lines, 1)
        if number > layout.skip and not (layout.comment and line.lstrip().startswith(layout.comment))
    ]
    return lambda number: kept[number - 1][0], [line for _, line in kept]


def _names(
    layout: Layout, lines: list[list[str]], places: list[int], file: str
) -> tuple[list[str], list[list[str]], list[int]]:
    """The columns' names, and the rows that are data."""
    header = layout.header
    if not lines:
        raise DataError(f"{file} is empty: it has no rows")
    if header is True:
        names = [name or str(i) for i, name in enumerate(lines[0])]
        lines, places = lines[1:], places[1:]
    else:
        names = header if isinstance(header, list) else [str(i) for i in range(len(lines[0]))]
    if layout.units:
        lines, places = lines[1:], places[1:]
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


def _check_lengths(lines: list[list[str]], places: list[int], names: list[str], file: str, layout: Layout) -> None:
    """Raise `DataError` for the first row with too many or too few cells."""
    for number, (row, place) in enumerate(zip(lines, places, strict=True), 1):
        if len(row) != len(names):
            origin = "the header" if layout.header is True else "`header`"
            count = sum(len(row) != len(names) for row in lines)
            others = f"; the same holds for {counted(count - 1, 'more row')}" if count > 1 else ""
            raise DataError(
                f"{file}: row {number} (line {place}) has {counted(len(row), 'cell')}, "
                f"{origin} has {counted(len(names), 'column')}{others}; {_doubt(names, place, layout, row)}"
            )


def _doubt(names: list[str], place: int, layout: Layout, row: list[str]) -> str:
    """What may be wrong where rows have other cells than the header: lines above it, comments, the delimiter."""
    for mark in ("#", "%", "//", ";"):
        if not layout.comment and layout.delimiter != mark and (names[0].startswith(mark) or row[0].startswith(mark)):
            where = "the first line" if names[0].startswith(mark) else f"line {place}"
            return f'{where} looks like a comment: set the source\'s `comment: "{mark}"`'
    if layout.header is True and not layout.skip and len(row) > len(names):
        return "is `delimiter` right, or are there lines above the header, which `skip: 1` leaves out?"
    return "is `delimiter` right?"


def _known(columns: Collection[str], names: list[str], file: str) -> set[str]:
    for name in columns:
        if name not in names:
            raise DataError(f"`text` names a column `{name}`, which {file} does not have: {hint(name, names)}")
    return set(columns)


def guessed_column(
    cells: Sequence[str], markers: Set[str] = frozenset(), as_text: bool = False, notation: Notation = PLAIN
) -> Column:
    """A column of numbers if all cells that are not missing are numbers and none is a code, else of text."""
    missing: Mask = np.fromiter((cell in markers for cell in cells), np.bool_, len(cells))
    text = text_column(("" if cell in markers else cell for cell in cells), missing)
    if as_text or any(CODE.fullmatch(cell) for cell in cells if cell[:1] in "0+-" and cell not in markers):
        return text
    return as_numbers(text if notation is PLAIN else _plain(text, notation)) or text


def _plain(text: Column, notation: Notation) -> Column:
    """Numbers as Python writes them; what is none is no number in Python either."""
    cells = [notation.plain(cell) for cell in text.values]
    return text_column(("?" if cell is None else cell for cell in cells), text.missing)
