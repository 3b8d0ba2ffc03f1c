"""Fields of time series: windows of rows that follow each other."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from ....compiler.spec.kinds import Positive, Word
from ....compiler.spec.registry import ENCODERS
from ....compiler.structs import Struct
from ..table import Array, DataError, Rows, Table, categories, counted, flat
from ..times import moments
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
    order: Word | None = None,
    format: str | None = None,
    scale: Scale = "none",
    fill: Literal["error", "mean", "median", "zero"] | float = "error",
) -> Encoder:
    """Windows of a time series, one for each row that has all of them: float32 [steps], or [steps, columns].

    `past: 48` is a row and the 47 before it, `future: 12` the 12 after it; both together are all 60. Fields of one
    spec are windows around the same rows. Rows are put in the order of a column of times where there is one; where
    there is none, they are taken to be in it. Windows lie within a split, whose rows must follow each other:
    `split: {by: time, on: date}`, or `{by: order}` of rows in the order of time. What scaling needs is learnt from the
    training rows.

    column: the column, for one number a step.
    columns: the columns, for a vector a step.
    past: how many rows up to this one, itself included.
    future: how many rows after this one.
    of: the column that says which series a row is of, where there are several: one below the other, where no column
      says their order.
    order: the column of times that rows are put in the order of; that of `split: {by: time}`, if there is one.
    format: how its dates are written, where not as the split `time` reads them.
    scale: how numbers are scaled, as `numbers` does it.
    fill: what stands for a missing number, as in `numbers`.
    Example: history: {encode: series, columns: [load, temperature], past: 48, scale: standard}
    """
    if past is None and future is None:
        raise FieldError("`series` needs `past`, `future` or both")
    inner = numbers(column=column, columns=columns, scale=scale, fill=fill)
    assert isinstance(inner, Numbers)
    return Series(inner, past or 0, future or 0, of, None if order is None else Order(order, format))


class Order(Struct):
    """A column of times, how its dates are written, and whether rows may lack it."""

    column: str
    form: str | None = None
    optional: bool = False


class Series(Encoder):
    numbers: Numbers
    past: int
    future: int
    of: str | None
    order: Order | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return self.numbers.columns

    @property
    def beside(self) -> tuple[str, ...]:
        order = () if self.order is None else (self.order.column,)
        return (*(() if self.of is None else (self.of,)), *order)

    def fit(self, table: Table) -> FittedSeries:
        found = self.numbers.fit(table)
        if found.shape:
            raise DataError(f"{table.place(self.columns[0])} has an array in each row; a series has single numbers")
        return FittedSeries(found, self.past, self.future, self.of, self.order)


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
    order: Order | None = None

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
        order = {} if self.order is None else {"order": vars(self.order)}
        return {"numbers": self.numbers.arguments(), "past": self.past, "future": self.future, "of": self.of, **order}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedSeries:
        numbers, order = FittedNumbers.from_arguments(state["numbers"]), state.get("order")
        return cls(numbers, state["past"], state["future"], state["of"], Order(**order) if order else None)


def in_order(fields: Iterable[Encoder | Fitted], table: Table) -> Table:
    """The rows in the order of time that fields of series ask for, those of each series together.

    Raises `DataError` for times that cannot be read, and for a series with two rows of one time. Warns of gaps, which
    windows go across.
    """
    series = [field for field in fields if isinstance(field, Series | FittedSeries)]
    orders = {field.order for field in series if field.order is not None}
    if not orders:
        return table
    if len(orders) > 1:
        raise DataError("the fields of series differ in `order`: all of a spec's are windows of the same rows")
    order, of = orders.pop(), next(field.of for field in series)
    if order.optional and order.column not in table.names:
        told = f"{table.source} has no column `{order.column}`: its rows are taken to be in the order of time"
        warnings.warn(told, stacklevel=2)
        return table
    times = moments(table, order.column, "the order of a series", order.form)
    codes = np.zeros(len(table), np.int64)
    if of is not None:
        _, codes = categories(flat(table, of, "the name of a series"))
    sorted_rows = np.lexsort((times, codes))
    found = replace(table.take(sorted_rows), order=np.arange(len(table)))
    _check_steps(found, order.column, times[sorted_rows], np.diff(codes[sorted_rows]) == 0)
    return found


def _check_steps(table: Table, name: str, times: Array, alike: Array) -> None:
    """Raise `DataError` for two rows of one time in a series, and warn of steps that are longer than most."""
    steps = np.diff(times)
    twice = alike & (steps == 0)
    if twice.any():
        rows = sorted(int(row) for row in table.rows[np.argmax(twice) :][:2])
        raise DataError(
            f"{table.place(name)} has {counted(int(twice.sum()), 'time')} twice in one series, first in the rows "
            f"{rows[0]} and {rows[1]}: `of` names the series of a row where there are several, `clean: "
            "[drop_duplicates]` drops rows that are the same"
        )
    known = steps[alike]
    if not len(known):
        return
    # Months and years have days more or less.
    gaps = alike & (steps > 1.5 * np.median(known))
    if gaps.any():
        row = int(table.rows[np.argmax(gaps)])
        warnings.warn(
            f"{table.place(name)}: {counted(int(gaps.sum()), 'step')} of {len(known)} between rows that follow each "
            f"other {'is' if gaps.sum() == 1 else 'are'} longer than most, first after row {row}: windows go across",
            stacklevel=2,
        )


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
    places = table.rows if table.order is None else table.order
    gaps = (np.diff(places) != 1) & ~changes
    if gaps.any():
        row = int(table.rows[np.argmax(gaps)])
        raise DataError(
            f"{table.source}: after row {row} rows are missing in a split, and windows need rows that follow each "
            "other: `split: {by: time, on: …}` cuts them so by a column of times, and `by: order` where the rows are "
            "in the order of time; `fill` fills what is missing"
        )
    return np.concatenate([[0], np.cumsum(changes)])
