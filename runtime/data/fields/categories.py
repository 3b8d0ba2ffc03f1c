"""Fields of categories: ids by name, yes or no, and ids that are ids already."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal

import numpy as np

from ....compiler.spec.diagnostics import hint
from ....compiler.spec.kinds import Positive, Word
from ....compiler.spec.registry import ENCODERS
from ..table import (
    PAD,
    Array,
    Column,
    DataError,
    Rows,
    Table,
    by_step,
    categories,
    category,
    counted,
    flat,
    flat_category,
    listed,
    numeric,
    padded,
    parse_number,
    rows_where,
)
from .core import Encoder, Fitted, State

MISSING = "(missing)"
UNSEEN = "(unseen)"


@ENCODERS.register
def ids(
    *,
    column: Word,
    order: Literal["sorted", "frequency"] = "sorted",
    fill: Literal["own", "error", "most_frequent"] = "own",
    unseen: Literal["error", "own"] = "error",
    size: Positive | None = None,
) -> Encoder:
    """Categories as whole numbers from 0, one per row, or per step of sequences. `$name.size` is how many there are.

    Of a column of sequences they are ids [T], padded by -1, and cut as the other fields of the same steps are.

    column: the column of categories: text or numbers.
    Text is taken without blanks at its ends, with accents composed (Unicode NFC).

    order: whether ids follow the sorted categories, or how often they occur.
    fill: what a missing value is: a category of its own where training rows have one, an error,
      or the most frequent category.
    unseen: what a category is that training rows never have: an error, or the category `(unseen)`. So that this is
      learnt, one value in fifty of an input is taken for unseen in each batch of training.
    size: the number of ids to reserve, at least as many as there are categories.
    Example: job: {column: occupation, encode: ids}
    """
    return Ids(column, order, fill, unseen, size)


class Ids(Encoder):
    column: str
    order: str
    fill: str
    unseen: str
    reserved: int | None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def fit(self, table: Table) -> FittedIds:
        table, lengths = by_step(table, self.column)
        kind = flat(table, self.column, "a category").form
        column = flat_category(table, self.column, "a category")
        names, codes = categories(column)
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        if self.order == "frequency":
            ranked = np.argsort(-counts, kind="stable")
            names, counts = [names[i] for i in ranked], counts[ranked]
        if column.missing.any() and self.fill == "error":
            raise DataError(_missing_message(table, self.column, column))
        if not len(counts) and self.fill == "most_frequent":
            raise DataError(
                f"{table.place(self.column)} has no value in any training row, so that none is the most frequent"
            )
        absent = names[int(np.argmax(counts))] if self.fill == "most_frequent" else None
        if column.missing.any() and self.fill == "own":
            absent = MISSING
        added = [MISSING] * (absent == MISSING) + [UNSEEN] * (self.unseen == "own")
        names = names + [name for name in added if name not in names]
        if self.reserved is not None and self.reserved < len(names):
            raise DataError(
                f"{table.place(self.column)} has {counted(len(names), 'category', 'categories')} ({listed(names)}), "
                f"`size` leaves room for {self.reserved}; raise `size` or leave it out"
            )
        total = self.reserved or len(names)
        steps = lengths is not None
        return FittedIds(self.column, tuple(names), absent, self.unseen == "own", total, steps, kind=kind)


# How often a category is taken for one that was never seen, so that it is learnt what to make of such.
DROPPED = 0.02


def labels(names: Sequence[str], kind: str) -> list[Any]:
    """Categories as they are in the data: text, numbers or booleans; those that are none of these by name."""
    return [_label(name, kind) for name in names]


def _label(name: str, kind: str) -> Any:
    if kind == "boolean" and name in ("0", "1"):
        return name == "1"
    number = parse_number(name) if kind in ("number", "boolean") else None
    if number is None:
        return name
    return int(name) if name.lstrip("-").isdigit() else number


def _missing_message(table: Table, name: str, column: Column) -> str:
    return (
        f"{table.place(name)} has {counted(int(column.missing.sum()), 'missing value')}, first at row "
        f"{table.first(column.missing)}: drop the rows by `clean: [{{drop_rows: {{missing: {name}}}}}]`, "
        "or, where it is no target, set `fill: most_frequent`"
    )


class FittedIds(Fitted):
    """`absent` is the category of a missing value; `open` says whether unseen categories have one.

    `steps` says whether rows are sequences, and `most` how many of their steps are kept. `kind` is what the
    categories are in the data.
    """

    encode: ClassVar[str] = "ids"

    column: str
    categories: tuple[str, ...]
    absent: str | None
    open: bool
    total: int
    steps: bool = False
    most: int | None = None
    kind: str = "text"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def size(self) -> int:
        return self.total

    @property
    def names(self) -> list[str]:
        return [*self.categories, *(f"(reserved {i})" for i in range(len(self.categories), self.total))]

    @property
    def labels(self) -> list[Any]:
        return labels(self.names, self.kind)

    @property
    def varies(self) -> bool:
        return self.open

    def vary(self, name: str, arrays: Mapping[str, Array], rng: np.random.Generator) -> Array:
        ids = arrays[name]
        dropped = (rng.random(ids.shape) < DROPPED) & (ids != PAD)
        return np.where(dropped, self.categories.index(UNSEEN), ids)

    @property
    def padded(self) -> bool | None:
        return True if self.steps else None

    def cut(self, limit: int) -> FittedIds:
        return replace(self, most=limit)

    def transform(self, table: Table) -> Array:
        table, lengths = by_step(table, self.column)
        if (lengths is not None) != self.steps:
            one, other = ("a sequence", "a single value") if self.steps else ("a single value", "a sequence")
            raise DataError(f"{table.place(self.column)} has {other} in each row, the training rows had {one}")
        codes = self._codes(table)
        return codes if lengths is None else padded(codes, lengths, self.most, PAD)

    def _codes(self, table: Table) -> Array:
        """The id of each value of a column."""
        column = flat_category(table, self.column, "a category")
        index = {category(name): i for i, name in enumerate(self.categories)}
        absent = index[self.absent] if self.absent is not None else index[UNSEEN] if self.open else None
        if column.missing.any() and absent is None:
            raise DataError(_missing_message(table, self.column, column) + "; no training row has a missing value")
        cells, codes = categories(column)
        unknown = [cell for cell in cells if cell not in index]
        if unknown and not self.open:
            raise DataError(_unseen_message(table, self.column, unknown, cells, codes, self.categories))
        lookup = [index.get(cell, index.get(UNSEEN, -1)) for cell in cells]
        # The last entry is what the code -1 of a missing value finds.
        return np.asarray([*lookup, -1 if absent is None else absent], np.int64)[codes]

    def arguments(self) -> State:
        return {**asdict(self), "categories": list(self.categories)}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedIds:
        return cls(**{**state, "categories": tuple(state["categories"])})


def _unseen_message(
    table: Table, name: str, unknown: Sequence[str], cells: Sequence[str], codes: Rows, known: Sequence[str]
) -> str:
    """Which categories training rows never have, how often and where, and what to do about it."""
    index = {cell: i for i, cell in enumerate(cells)}
    shown = []
    for cell in unknown[:5]:
        mask = codes == index[cell]
        shown.append(f"`{cell}` ({counted(int(mask.sum()), 'row')}, first at row {table.first(mask)})")
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    cure = _near_cure(name, unknown, known)
    return (
        f"{table.place(name)} has {counted(len(unknown), 'category', 'categories')} that the training rows never have: "
        f"{', '.join(shown)}{more}; training has {listed(known)}. "
        + (cure or "Mend them in `data.clean`, or set `unseen: own` to give them a category of their own.")
    )


_ENDS = string.whitespace + ".,;:!?'\"*"


def _near_cure(name: str, unknown: Sequence[str], known: Sequence[str]) -> str | None:
    """The cleaning step that would make known categories of all unknown ones, if it is plain."""
    stripped = {cell: cell.strip(_ENDS) for cell in unknown}
    if all(s in known for s in stripped.values()):
        characters = "".join(
            sorted({c for cell, s in stripped.items() for c in _ends(cell, s)} - set(string.whitespace))
        )
        quoted = characters.replace("\\", "\\\\").replace('"', '\\"')
        step = f'strip: {{columns: {name}, characters: "{quoted}"}}'
        what = f"`{characters}`" if characters else "blanks"
        return f"Without {what} at their ends all of them are known: `clean: [{{{step}}}]`."
    folded = {cell.strip(_ENDS).casefold(): cell for cell in known}
    if all(s.casefold() in folded for s in stripped.values()):
        pairs = ", ".join(f'"{cell}": "{folded[s.casefold()]}"' for cell, s in list(stripped.items())[:5])
        step = f"replace: {{columns: {name}, values: {{{pairs}}}}}"
        return f"They differ from known ones in upper and lower case: `clean: [{{{step}}}]`."
    return None


def _ends(cell: str, inner: str) -> str:
    start = cell.find(inner)
    return cell[:start] + cell[start + len(inner) :]


@ENCODERS.register
def binary(*, column: Word, positive: Word | None = None) -> Encoder:
    """Two categories as float32, 0 or 1 per row.

    column: the column, which has two different values.
    positive: the value that becomes 1; where nothing is said, the larger number or the later in sorted order.
    Example: rich: {column: income, encode: binary, positive: ">50K"}
    """
    return Binary(column, positive)


class Binary(Encoder):
    column: str
    positive: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def fit(self, table: Table) -> FittedBinary:
        kind = flat(table, self.column, "`binary`").form
        column = flat_category(table, self.column, "`binary`")
        names, _ = categories(column)
        if column.missing.any():
            raise DataError(_binary_missing(table, self.column, column))
        if len(names) != 2:
            raise DataError(
                f"{table.place(self.column)} has {counted(len(names), 'value')} in the training rows "
                f"({listed(names)}), `binary` needs two; `encode: ids` takes any number of categories"
            )
        if self.positive is not None and category(self.positive) not in names:
            raise DataError(
                f"{table.place(self.column)} has no value `{self.positive}` to be `positive`: "
                f"{hint(self.positive, names)}"
            )
        one = category(self.positive) if self.positive is not None else names[1]
        zero = names[0] if one == names[1] else names[1]
        return FittedBinary(self.column, zero, one, kind)


def _binary_missing(table: Table, name: str, column: Column) -> str:
    return (
        f"{table.place(name)} has {counted(int(column.missing.sum()), 'missing value')}, first at row "
        f"{table.first(column.missing)}; `binary` has no place for them: "
        f"`clean: [{{drop_rows: {{missing: {name}}}}}]` drops those rows"
    )


class FittedBinary(Fitted):
    encode: ClassVar[str] = "binary"

    column: str
    zero: str
    one: str
    kind: str = "text"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def names(self) -> list[str]:
        return [self.zero, self.one]

    @property
    def labels(self) -> list[Any]:
        return labels(self.names, self.kind)

    def transform(self, table: Table) -> Array:
        column = flat_category(table, self.column, "`binary`")
        if column.missing.any():
            raise DataError(_binary_missing(table, self.column, column))
        cells, codes = categories(column)
        unknown = [cell for cell in cells if cell not in self.names]
        if unknown:
            raise DataError(
                _unseen_message(table, self.column, unknown, cells, codes, self.names).replace(
                    "Mend them in `data.clean`, or set `unseen: own` to give them a category of their own.",
                    "Mend them in `data.clean`.",
                )
            )
        return np.asarray([cell == self.one for cell in cells], np.float32)[codes]

    def arguments(self) -> State:
        return asdict(self)

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedBinary:
        return cls(**state)


@ENCODERS.register
def raw(*, column: Word) -> Encoder:
    """Whole numbers that are ids already, unchanged. `$name.size` is one more than the largest in training rows.

    column: the column.
    Example: user: {column: user_id, encode: raw}
    """
    return Raw(column)


class Raw(Encoder):
    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def fit(self, table: Table) -> FittedRaw:
        values = _whole(table, self.column)
        if not values.size:
            raise DataError(f"{table.place(self.column)} has no numbers in the training rows")
        largest = int(values.max())
        if largest >= MOST_IDS:
            raise DataError(
                f"{table.place(self.column)} has ids up to {largest}: `raw` would make room for as many of them, more "
                f"than {MOST_IDS}; `encode: ids` counts those that there are"
            )
        return FittedRaw(self.column, values.shape[1:], largest + 1)


# Of more ids no table of vectors has room: 2 ** 31 of one number each are eight gigabytes.
MOST_IDS = 2**31


def _whole(table: Table, name: str) -> Array:
    """The column as int64; raises `DataError` unless all of it is whole and 0 or above."""
    column = numeric(table, name, "`raw`")
    cure = "`encode: ids` makes ids of any values"
    if column.missing.any():
        raise DataError(
            f"{table.place(name)} has {counted(int(column.missing.sum()), 'missing value')}, "
            f"first at row {table.first(column.missing)}; {cure}"
        )
    odd = (column.values < 0) | (column.values >= 2**63) | (column.values != np.floor(column.values))
    if odd.any():
        rows = rows_where(odd)
        raise DataError(
            f"{table.place(name)} has {counted(int(rows.sum()), 'row')} with a number below 0 or not whole, "
            f"first {column.values[odd][0]:g} at row {table.first(rows)}; {cure}"
        )
    return column.values.astype(np.int64)


class FittedRaw(Fitted):
    encode: ClassVar[str] = "raw"

    column: str
    shape: tuple[int, ...]
    total: int

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def size(self) -> int:
        return self.total

    def transform(self, table: Table) -> Array:
        values = _whole(table, self.column)
        if values.shape[1:] != self.shape:
            raise DataError(
                f"{table.place(self.column)} has rows of shape {list(values.shape[1:])}, "
                f"the training rows had {list(self.shape)}"
            )
        high = rows_where(values >= self.total)
        if high.any():
            raise DataError(
                f"{table.place(self.column)} has {counted(int(high.sum()), 'row')} "
                f"with a number of {self.total} or above, first at row {table.first(high)}; "
                f"the largest in the training rows is {self.total - 1}"
            )
        return values

    def arguments(self) -> State:
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedRaw:
        return cls(**{**state, "shape": tuple(state["shape"])})
