"""Fields of time series: windows of rows that follow each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from ....compiler.spec.kinds import Positive, Word
from ....compiler.spec.registry import ENCODERS
from ..table import Array, DataError, Rows, Table, categories, counted, flat
from .core import Encoder, FieldError, Fitted, State
from .numbers import FittedNumbers, Numbers, Scale, numbers


@ENCODERS.register
def series(
    *,
    column: Word | None = None,
    columns: list[Word] | None = None,
    past: Positive | None = None,
    future: Positive | None = None,
    of: Word | None = None,
    scale: Scale = "none",
    fill: Literal["error", "mean", "median", "zero"] | float = "error",
) -> Encoder:
    """Windows of a time series, one for each row that has all of them: float32 [steps], or [steps, columns].

    `past: 48` is a row and the 47 before it, `future: 12` the 12 after it; both together are all 60. Fields of one
    spec are windows around the same rows. Windows lie within a split, whose rows must follow each other:
    `split: {by: order}` or `{by: time}`. What scaling needs is learnt from the training rows.

    column: the column, for one number a step.
    columns: the columns, for a vector a step.
    past: how many rows up to this one, itself included.
    future: how many rows after this one.
    of: the column that says which series a row is of, where there are several, one below the other.
    scale: how numbers are scaled, as `numbers` does it.
    fill: what stands for a missing number, as in `numbers`.
    Example: history: {encode: series, columns: [load, temperature], past: 48, scale: standard}
    """
    if past is None and future is None:
        raise FieldError("`series` needs `past`, `future` or both")
    inner = numbers(column=column, columns=columns, scale=scale, fill=fill)
    assert isinstance(inner, Numbers)
    return Series(inner, past or 0, future or 0, of)


class Series(Encoder):
    numbers: Numbers
    past: int
    future: int
    of: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        return self.numbers.columns

    @property
    def beside(self) -> tuple[str, ...]:
        return () if self.of is None else (self.of,)

    def fit(self, table: Table) -> FittedSeries:
        found = self.numbers.fit(table)
        if found.shape:
            raise DataError(f"{table.place(self.columns[0])} has an array in each row; a series has single numbers")
        return FittedSeries(found, self.past, self.future, self.of)


class FittedSeries(Fitted):
    """Numbers, of `past` rows up to a row and `future` rows after it."""

    encode: ClassVar[str] = "series"

    # Arrays have no equality that is true or false.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    numbers: FittedNumbers
    past: int
    future: int
    of: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        return self.numbers.columns

    @property
    def span(self) -> tuple[int, int]:
        """The first row of a window and the last, from the row it belongs to."""
        return (1 - self.past if self.past else 1), self.future

    def transform(self, table: Table) -> Array:
        return self.windows(table, anchors([self], table))

    def windows(self, table: Table, rows: Rows) -> Array:
        """The windows of some rows; without gaps between these they share memory."""
        values = self.numbers.transform(table)
        first, last = self.span
        views = np.lib.stride_tricks.sliding_window_view(values, last - first + 1, axis=0)
        found = np.moveaxis(views, -1, 1)
        begin = rows + first
        whole = len(begin) == begin[-1] - begin[0] + 1
        return found[begin[0] : begin[-1] + 1] if whole else found[begin]

    def inverse(self, array: Array) -> Array:
        return self.numbers.inverse(array)

    def arguments(self) -> State:
        return {"numbers": self.numbers.arguments(), "past": self.past, "future": self.future, "of": self.of}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedSeries:
        return cls(FittedNumbers.from_arguments(state["numbers"]), state["past"], state["future"], state["of"])


def anchors(fields: list[FittedSeries], table: Table) -> Rows:
    """The rows around which all fields have their windows; raises `DataError` where there is none."""
    first, last = min(f.span[0] for f in fields), max(f.span[1] for f in fields)
    names = {f.of for f in fields}
    if len(names) > 1:
        raise DataError("the fields of series differ in `of`: all of a spec's are windows of the same rows")
    series = _series_of(table, names.pop())
    before, after = max(0, -first), max(0, last)
    candidates = np.arange(before, len(table) - after)
    found: Rows = candidates[series[candidates - before] == series[candidates + after]]
    if not len(found):
        raise DataError(
            f"{table.source} has {counted(len(table), 'row')} in a split: windows need {before + after + 1} of one "
            "series that follow each other"
        )
    return found


def _series_of(table: Table, of: str | None) -> Rows:
    """A number for each row's series, ascending; raises `DataError` unless each series' rows follow each other."""
    if of is None:
        codes = np.zeros(len(table), np.int64)
    else:
        codes = categories(flat(table, of, "the name of a series"))[1]
    changes = np.diff(codes) != 0
    if len(table) and changes.sum() + 1 > len(np.unique(codes)):
        raise DataError(f"{table.place(of or '')}: the rows of a series must stand one below the other")
    gaps = (np.diff(table.rows) != 1) & ~changes
    if gaps.any():
        row = int(table.rows[np.argmax(gaps)])
        raise DataError(
            f"{table.source}: after row {row} rows are missing in a split, and windows need rows that follow each "
            "other: `split: {by: order}` cuts them so, and `fill` fills what is missing"
        )
    return np.concatenate([[0], np.cumsum(changes)])
