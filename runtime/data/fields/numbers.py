"""Fields of numbers: scaled and filled by what the training rows hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from ....compiler.spec.kinds import Of, Word
from ....compiler.spec.registry import AUGMENTATIONS, ENCODERS, Call
from ..augmentation import augmented
from ..cleaning import INVERSES, undone
from ..table import Array, Column, DataError, Table, counted, listed, numeric, rows_where
from .core import Encoder, FieldError, Fitted, State

CHUNK = 4096

Scale = Literal["none", "unit", "standard", "minmax"]


@ENCODERS.register
def numbers(
    *,
    column: Word | None = None,
    columns: list[Word] | None = None,
    scale: Scale = "none",
    fill: Literal["error", "mean", "median", "zero"] | float = "error",
    augment: list[Annotated[Call, Of(AUGMENTATIONS)]] | None = None,
) -> Encoder:
    """Numbers as float32: `column` gives one per row (or an array per row), `columns` a vector.

    `unit` divides by the largest magnitude, `standard` subtracts the mean and divides by the
    standard deviation, `minmax` maps the range to 0..1. Each column is scaled by itself, and so is each
    feature of a vector; arrays [channels, H, W] by channel under `standard`; other arrays as a whole.

    column: the column.
    columns: the columns, instead of one.
    scale: how numbers are scaled, by what the training rows hold.
    fill: what stands for a missing number, the mean and median being those of the training rows.
    augment: how images are changed at random in training, as `[flip, {crop: {pad: 2}}]`; validation, tests and
      predictions see them as they are.
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
    if augment and column is None:
        raise FieldError("`augment` changes images: it needs a `column` of them")
    return Numbers(tuple(columns or [str(column)]), columns is not None, scale, fill, tuple(augment or ()))


class Numbers(Encoder):
    """`vector` says whether the array has an axis of columns."""

    names: tuple[str, ...]
    vector: bool
    scale: Scale
    fill: str | float
    augment: tuple[Call, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return self.names

    def fit(self, table: Table) -> FittedNumbers:
        found = [self._column(table, name) for name in self.names]
        shape = found[0].shape
        if self.augment and len(shape) not in (2, 3):
            raise DataError(f"{table.place(self.names[0])} has {list(shape)} in each row; `augment` changes images")
        if shape:
            kept = found[0].values[~found[0].missing] if found[0].missing.any() else found[0].values
            shift, divisor = _array_scale(kept, self.scale)
            return FittedNumbers(self.names, self.vector, shape, shift, divisor, None, self.augment)
        fills = (
            None if self.fill == "error" else [self._fill(table, n, c) for n, c in zip(self.names, found, strict=True)]
        )
        with np.errstate(over="ignore", invalid="ignore"):
            pairs = [_array_scale(c.values[~c.missing], self.scale) for c in found]
        for name, pair in zip(self.names, pairs, strict=True):
            if not np.isfinite(pair).all():
                raise DataError(
                    f"{table.place(name)} has numbers too large to be scaled by `{self.scale}`; mend them in "
                    "`data.clean`, as by `clip` or `log`"
                )
        shift, divisor = (np.asarray([float(pair[i]) for pair in pairs]) for i in (0, 1))
        mended = tuple(column.mended for column in found)
        return FittedNumbers(self.names, self.vector, (), shift, divisor, fills, (), mended)

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
        return standard(values)
    axis = 0 if values.ndim == 2 else None
    low, high = (np.asarray(each(axis), np.float64) for each in (values.min, values.max))
    if scale == "unit":
        return zero, _or_one(np.maximum(np.abs(low), np.abs(high)))
    return low, _or_one(high - low)


def standard(values: Array) -> tuple[Array, Array]:
    """Mean and standard deviation, 1 where nothing varies.

    Vectors have them per feature, arrays [channels, H, W] per channel, others over all.
    """
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


class FittedNumbers(Fitted):
    """(x - shift) / divisor, missing values filled before.

    mended: the steps of `clean` to be undone in predictions of each column.
    """

    encode: ClassVar[str] = "numbers"

    # Arrays have no equality that is true or false.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    column_names: tuple[str, ...]
    vector: bool
    shape: tuple[int, ...]
    shift: Array
    divisor: Array
    fills: list[float] | None
    augment: tuple[Call, ...] = ()
    mended: tuple[tuple[str, ...], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return self.column_names

    def transform(self, table: Table) -> Array:
        if self.shape or not self.vector:
            return self._scaled(table, self._filled(table, 0), self.shift, self.divisor)
        matrix = np.stack([self._filled(table, i) for i in range(len(self.columns))], axis=1)
        return self._scaled(table, matrix, self.shift, self.divisor)

    def inverse(self, array: Array) -> Array:
        values = array.astype(np.float64) * self.divisor + self.shift
        if not any(self.mended):
            return values
        if not self.vector:
            return undone(self.mended[0], values)
        columns = [undone(steps, values[..., i]) for i, steps in enumerate(self.mended)]
        return np.stack(columns, axis=-1)

    @property
    def varies(self) -> bool:
        return bool(self.augment)

    def vary(self, name: str, arrays: Mapping[str, Array], rng: np.random.Generator) -> Array:
        return augmented(arrays[name], self.augment, rng)

    def _filled(self, table: Table, i: int) -> Array:
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
        } | ({"mended": [list(steps) for steps in self.mended]} if any(self.mended) else {})

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedNumbers:
        shift, divisor = (np.asarray(state[key], np.float64) for key in ("shift", "divisor"))
        names, vector, shape = tuple(state["columns"]), bool(state["vector"]), tuple(state["shape"])
        mended = tuple(tuple(map(str, steps)) for steps in state.get("mended", ()))
        if unknown := {step for steps in mended for step in steps} - INVERSES.keys():
            raise ValueError(f"no step `{min(unknown)}` is undone")
        return cls(names, vector, shape, shift, divisor, state["fill"], (), mended)
