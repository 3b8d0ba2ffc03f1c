"""Buckets of lengths: batches of rows that are about equally long, cut to what they need.

Padding costs as much as data. With buckets, the rows of a batch come from one bucket, and what all of them have as
padding is cut off; few lengths mean few programs to compile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..compiler.ir import Array, Type


class Buckets:
    """The buckets of some training rows."""

    def __init__(self, types: Mapping[str, Type], rows: Mapping[str, Array], bounds: Sequence[int]) -> None:
        """types: what training reads, by name: an axis of ids that has a name has a length of its own in each row.

        bounds: the greatest length in each bucket but the last, ascending.
        """
        self.axes = {name: t.shape[1] for name, t in types.items() if _is_sequence(t)}
        self.bounds = np.asarray(bounds)
        self.reach: dict[str, Array] = {}
        for name, dim in self.axes.items():
            if rows[name].dtype.kind == "i":
                found = _lengths(rows[name])
                self.reach[str(dim)] = np.maximum(self.reach.get(str(dim), found), found)
        self.whole = {str(dim): rows[name].shape[1] for name, dim in self.axes.items()}
        self.keys = [np.searchsorted(self.bounds, lengths) for lengths in self.reach.values()]

    def batches(self, order: Array, size: int, rng: np.random.Generator | None, alone: bool = True) -> list[Array]:
        """The rows of each batch of an epoch whose rows have an order: as many batches as without buckets.

        The batches are in an order drawn from `rng`, or by length. `alone`: see `cut_to_batches`.
        """
        places = np.lexsort([key[order] for key in self.keys]) if self.keys else np.arange(len(order))
        sorted_rows = order[places]
        found = cut_to_batches(sorted_rows, size, alone)
        return found if rng is None else [found[i] for i in rng.permutation(len(found))]

    def cut(self, feeds: Mapping[str, Array], rows: Array) -> dict[str, Array]:
        """The arrays of some rows without what is padding in all of them, up to the bound of their bucket."""
        lengths = {dim: self._needed(dim, int(reach[rows].max())) for dim, reach in self.reach.items()}
        return {name: self._cut(array, self.axes.get(name), lengths) for name, array in feeds.items()}

    def _needed(self, dim: str, longest: int) -> int:
        bucket = int(np.searchsorted(self.bounds, longest))
        whole = int(self.whole[dim])
        return min(int(self.bounds[bucket]), whole) if bucket < len(self.bounds) else whole

    def _cut(self, array: Array, dim: int | str | None, lengths: Mapping[str, int]) -> Array:
        return array if dim is None or str(dim) not in lengths else array[:, : lengths[str(dim)]]


def cut_to_batches(order: Array, size: int, alone: bool = True) -> list[Array]:
    """Rows in batches of a size, the last with what is left; a single row joins the batch before if not `alone`."""
    count = number_of_batches(len(order), size, alone)
    return [order[i * size : (i + 1) * size if i + 1 < count else None] for i in range(count)]


def number_of_batches(rows: int, size: int, alone: bool = True) -> int:
    """How many batches of a size there are."""
    joined = not alone and rows > size and rows % size == 1
    return rows // size if joined else -(-rows // size)


def _is_sequence(t: Type) -> bool:
    return t.rank >= 2 and isinstance(t.shape[1], str)


def _lengths(ids: Array) -> Array:
    """Up to which step each row has ids that are no padding."""
    real: Array = np.asarray((ids >= 0).reshape(len(ids), ids.shape[1], -1).any(axis=2))
    last: Array = ids.shape[1] - real[:, ::-1].argmax(axis=1)
    return np.where(real[:, 0], last, 0)
