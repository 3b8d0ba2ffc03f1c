"""Encoders: what a field is made of. Fitted on training rows, they turn any table into an array."""

from __future__ import annotations

import string
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ...compiler.spec.diagnostics import hint
from ...compiler.spec.kinds import Positive, Word
from ...compiler.spec.registry import ENCODERS
from .table import Array, Column, DataError, Rows, Table, categories, counted, flat, listed, numeric, rows_where

CHUNK = 4096
MISSING = "(missing)"
UNSEEN = "(unseen)"

State = dict[str, Any]
Scale = Literal["none", "unit", "standard", "minmax"]


class FieldError(ValueError):
    """Arguments of an encoder that do not go together."""


class Encoder(ABC):
    """A declared field, before it has seen data."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""

    @abstractmethod
    def fit(self, table: Table) -> Fitted:
        """Learn from training rows; raises `DataError`."""


class Fitted(ABC):
    """A field that has seen the training rows.

    Subclasses name themselves by `encode`; `restore` finds them by it.
    """

    encode: ClassVar[str] = ""
    kinds: ClassVar[dict[str, type[Fitted]]] = {}

    def __init_subclass__(cls) -> None:
        if cls.encode:
            Fitted.kinds[cls.encode] = cls

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""

    @property
    def size(self) -> int | None:
        """How many ids there are, for fields of ids."""
        return None

    @property
    def names(self) -> list[str] | None:
        """What each id stands for, for fields of categories."""
        return None

    @abstractmethod
    def transform(self, table: Table) -> Array:
        """The array of any rows, its first axis the rows; raises `DataError`."""

    def inverse(self, array: Array) -> Array:
        """Numbers of this field back in the units of the data; ids stay as they are."""
        return array

    @abstractmethod
    def arguments(self) -> State:
        """What `from_arguments` makes the same field of; JSON can hold it."""

    @classmethod
    @abstractmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> Fitted:
        """The inverse of `arguments`."""

    def state(self) -> State:
        """Everything that was learnt, for JSON."""
        return {"encode": self.encode, **self.arguments()}


def restore(state: Mapping[str, Any]) -> Fitted:
    """The field that `state` describes; raises `DataError` where it describes none."""
    encode = str(state.get("encode"))
    ENCODERS.find(encode)
    if encode not in Fitted.kinds:
        raise DataError(f"the saved field has an unknown encoding `{encode}`: {hint(encode, Fitted.kinds)}")
    try:
        return Fitted.kinds[encode].from_arguments({k: v for k, v in state.items() if k != "encode"})
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the saved field of encoding `{encode}` cannot be read: {error!r}") from None


# ---------------------------------------------------------------------------------------- numbers


@ENCODERS.register
def numbers(
    *,
    column: Word | None = None,
    columns: list[Word] | None = None,
    scale: Scale = "none",
    fill: Literal["error", "mean", "median", "zero"] | float = "error",
) -> Encoder:
    """Numbers as float32: `column` gives one per row (or an array per row), `columns` a vector.

    `unit` divides by the largest magnitude, `standard` subtracts the mean and divides by the
    standard deviation, `minmax` maps the range to 0..1. Each column is scaled by itself; arrays
    [channels, H, W] by channel under `standard`; other arrays as a whole.

    column: the column.
    columns: the columns, instead of one.
    scale: how numbers are scaled, by what the training rows hold.
    fill: what stands for a missing number, the mean and median being those of the training rows.
    Example: numbers: {columns: [age, hours], scale: standard, fill: median}
    """
    if (column is None) == (columns is None):
        raise FieldError("`numbers` needs either `column` or `columns`")
    if columns is not None and not columns:
        raise FieldError("`numbers` argument `columns` names no column")
    if columns is not None and len(set(columns)) < len(columns):
        twice = next(name for name, count in Counter(columns).items() if count > 1)
        raise FieldError(f"`numbers` argument `columns` names `{twice}` twice")
    if isinstance(fill, float) and not np.isfinite(fill):
        raise FieldError("`numbers` argument `fill` is a finite number")
    return Numbers(tuple(columns or [str(column)]), columns is not None, scale, fill)


@dataclass(frozen=True)
class Numbers(Encoder):
    """`vector` says whether the array has an axis of columns."""

    names: tuple[str, ...]
    vector: bool
    scale: Scale
    fill: str | float

    @property
    def columns(self) -> tuple[str, ...]:
        return self.names

    def fit(self, table: Table) -> FittedNumbers:
        found = [self._column(table, name) for name in self.names]
        shape = found[0].shape
        if shape:
            kept = found[0].values[~found[0].missing] if found[0].missing.any() else found[0].values
            shift, divisor = _array_scale(kept, self.scale)
            return FittedNumbers(self.names, self.vector, shape, shift, divisor, None)
        fills = (
            None if self.fill == "error" else [self._fill(table, n, c) for n, c in zip(self.names, found, strict=True)]
        )
        pairs = [_array_scale(c.values[~c.missing], self.scale) for c in found]
        shift, divisor = (np.asarray([float(pair[i]) for pair in pairs]) for i in (0, 1))
        return FittedNumbers(self.names, self.vector, (), shift, divisor, fills)

    def _column(self, table: Table, name: str) -> Column:
        column = numeric(table, name, f"`{name}` as numbers")
        if self.vector and column.shape:
            raise DataError(
                f"{table.place(name)} has an array {list(column.shape)} in each row; "
                f"`columns` takes single numbers: give it by `column: {name}`"
            )
        return column

    def _fill(self, table: Table, name: str, column: Column) -> float:
        if isinstance(self.fill, float | int):
            return float(self.fill)
        if self.fill == "zero":
            return 0.0
        kept = column.values[~column.missing]
        if not len(kept):
            raise DataError(
                f"{table.place(name)} has no value in any training row, so that it has no {self.fill} to fill with"
            )
        return float(np.mean(kept) if self.fill == "mean" else np.median(kept))


def _chunks(values: Array) -> Iterator[Array]:
    """The values as float64, a few rows at a time."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK].astype(np.float64)


def _array_scale(values: Array, scale: str) -> tuple[Array, Array]:
    """What to subtract and what to divide by; both broadcast against one row.

    The features of vectors are scaled each by itself, as columns are.
    """
    zero, one = np.zeros(()), np.ones(())
    if scale == "none" or not values.size:
        return zero, one
    if scale == "standard":
        return _standard(values)
    axis = 0 if values.ndim == 2 else None
    low, high = (np.asarray(each(axis), np.float64) for each in (values.min, values.max))
    if scale == "unit":
        return zero, _or_one(np.maximum(np.abs(low), np.abs(high)))
    return low, _or_one(high - low)


def _standard(values: Array) -> tuple[Array, Array]:
    """Mean and standard deviation: per feature of vectors, per channel of [channels, H, W], else over all."""
    apart = values.ndim in (2, 4)
    axes = tuple(i for i in range(values.ndim) if not (apart and i == 1))
    count = values.size / (values.shape[1] if apart else 1)
    mean = sum((chunk.sum(axes, keepdims=True) for chunk in _chunks(values)), np.zeros(())) / count
    squares = sum((np.square(chunk - mean).sum(axes, keepdims=True) for chunk in _chunks(values)), np.zeros(()))
    std = np.sqrt(squares / count)
    # Rounding leaves a constant column a tiny deviation, which must not be blown up.
    std = np.where(std <= 1e-12 * np.abs(mean), 0.0, std)
    shape = mean.shape[1:] if apart else ()
    return mean.reshape(shape), _or_one(std.reshape(shape))


def _or_one(divisor: Array) -> Array:
    return np.where(divisor > 0, divisor, 1.0)


@dataclass(frozen=True, eq=False)
class FittedNumbers(Fitted):
    """(x - shift) / divisor, missing values filled before."""

    encode: ClassVar[str] = "numbers"

    column_names: tuple[str, ...]
    vector: bool
    shape: tuple[int, ...]
    shift: Array
    divisor: Array
    fills: list[float] | None

    @property
    def columns(self) -> tuple[str, ...]:
        return self.column_names

    def transform(self, table: Table) -> Array:
        if self.shape or not self.vector:
            return self._scaled(table, self._values(table, 0), self.shift, self.divisor)
        matrix = np.stack([self._values(table, i) for i in range(len(self.columns))], axis=1)
        return self._scaled(table, matrix, self.shift, self.divisor)

    def inverse(self, array: Array) -> Array:
        return array.astype(np.float64) * self.divisor + self.shift

    def _values(self, table: Table, i: int) -> Array:
        """The numbers of one column, missing ones filled."""
        name = self.columns[i]
        column = numeric(table, name, f"`{name}` as numbers")
        if column.shape != self.shape:
            raise DataError(
                f"{table.place(name)} has rows of shape {list(column.shape)}, the training rows had {list(self.shape)}"
            )
        if not column.missing.any():
            return column.values
        if self.fills is None:
            cure = (
                ""
                if self.shape
                else ": set `fill: median`, `mean`, `zero` or a number, or drop the rows by `clean: [drop_rows: …]`"
            )
            raise DataError(
                f"{table.place(name)} has {counted(int(column.missing.sum()), 'missing value')}, "
                f"first at row {table.first(column.missing)}{cure}"
            )
        return np.where(column.missing, self.fills[i], column.values)

    def _scaled(self, table: Table, values: Array, shift: Array, divisor: Array) -> Array:
        """As float32, computed in float64 a few rows at a time."""
        out = np.empty(values.shape, np.float32)
        with np.errstate(over="ignore"):
            for start in range(0, len(values), CHUNK):
                stop = start + CHUNK
                out[start:stop] = (values[start:stop].astype(np.float64) - shift) / divisor
        if not np.isfinite(out).all():
            row = rows_where(~np.isfinite(out))
            raise DataError(
                f"{table.source}: row {table.first(row)} has a number too large for float32 in {listed(self.columns)}"
            )
        return out

    def arguments(self) -> State:
        return {
            "columns": list(self.column_names),
            "vector": self.vector,
            "shape": list(self.shape),
            "shift": self.shift.tolist(),
            "divisor": self.divisor.tolist(),
            "fill": self.fills,
        }

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedNumbers:
        shift, divisor = (np.asarray(state[key], np.float64) for key in ("shift", "divisor"))
        return cls(tuple(state["columns"]), bool(state["vector"]), tuple(state["shape"]), shift, divisor, state["fill"])


# ------------------------------------------------------------------------------------- categories


@ENCODERS.register
def ids(
    *,
    column: Word,
    order: Literal["sorted", "frequency"] = "sorted",
    fill: Literal["own", "error", "most_frequent"] = "own",
    unseen: Literal["error", "own"] = "error",
    size: Positive | None = None,
) -> Encoder:
    """Categories as whole numbers from 0, one per row. `$name.size` is how many there are.

    column: the column of categories: text or numbers.
    order: whether ids follow the sorted categories, or how often they occur.
    fill: what a missing value is: a category of its own where training rows have one, an error,
      or the most frequent category.
    unseen: what a category is that training rows never have: an error, or the category `(unseen)`.
    size: the number of ids to reserve, at least as many as there are categories.
    Example: job: {column: occupation, encode: ids}
    """
    return Ids(column, order, fill, unseen, size)


@dataclass(frozen=True)
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
        column = flat(table, self.column, "a category")
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
        return FittedIds(self.column, tuple(names), absent, self.unseen == "own", self.reserved or len(names))


def _missing_message(table: Table, name: str, column: Column) -> str:
    return (
        f"{table.place(name)} has {counted(int(column.missing.sum()), 'missing value')}, first at row "
        f"{table.first(column.missing)}: set `fill: most_frequent`, "
        f"or drop the rows by `clean: [{{drop_rows: {{missing: {name}}}}}]`"
    )


@dataclass(frozen=True)
class FittedIds(Fitted):
    """`absent` is the category of a missing value; `open` says whether unseen categories have one."""

    encode: ClassVar[str] = "ids"

    column: str
    categories: tuple[str, ...]
    absent: str | None
    open: bool
    total: int

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def size(self) -> int:
        return self.total

    @property
    def names(self) -> list[str]:
        return list(self.categories)

    def transform(self, table: Table) -> Array:
        column = flat(table, self.column, "a category")
        index = {name: i for i, name in enumerate(self.categories)}
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


@dataclass(frozen=True)
class Binary(Encoder):
    column: str
    positive: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def fit(self, table: Table) -> FittedBinary:
        column = flat(table, self.column, "`binary`")
        names, _ = categories(column)
        if column.missing.any():
            raise DataError(_binary_missing(table, self.column, column))
        if len(names) != 2:
            raise DataError(
                f"{table.place(self.column)} has {counted(len(names), 'value')} in the training rows "
                f"({listed(names)}), `binary` needs two; `encode: ids` takes any number of categories"
            )
        if self.positive is not None and self.positive not in names:
            raise DataError(
                f"{table.place(self.column)} has no value `{self.positive}` to be `positive`: "
                f"{hint(self.positive, names)}"
            )
        one = self.positive or names[1]
        zero = names[0] if one == names[1] else names[1]
        return FittedBinary(self.column, zero, one)


def _binary_missing(table: Table, name: str, column: Column) -> str:
    return (
        f"{table.place(name)} has {counted(int(column.missing.sum()), 'missing value')}, first at row "
        f"{table.first(column.missing)}; `binary` has no place for them: "
        f"`clean: [{{drop_rows: {{missing: {name}}}}}]` drops those rows"
    )


@dataclass(frozen=True)
class FittedBinary(Fitted):
    encode: ClassVar[str] = "binary"

    column: str
    zero: str
    one: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def names(self) -> list[str]:
        return [self.zero, self.one]

    def transform(self, table: Table) -> Array:
        column = flat(table, self.column, "`binary`")
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


@dataclass(frozen=True)
class Raw(Encoder):
    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def fit(self, table: Table) -> FittedRaw:
        values = _whole(table, self.column)
        if not values.size:
            raise DataError(f"{table.place(self.column)} has no numbers in the training rows")
        return FittedRaw(self.column, values.shape[1:], int(values.max()) + 1)


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


@dataclass(frozen=True)
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
