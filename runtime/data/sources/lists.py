"""Columns of lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..table import Array, Column, ragged_column, rows_where


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
