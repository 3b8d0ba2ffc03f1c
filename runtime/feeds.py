"""What a step of training reads: the rows of its batch, drawn anew where they vary, and its random inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..backends.executable import sizes_of
from ..compiler.initialisers import Rekeyed, generator
from ..compiler.ir import Array, Graph, Shape, bind_dims, input_of
from .buckets import Buckets
from .data import Fitted


class Feeds:
    """Makes the inputs of a graph for a batch of rows.

    What is drawn depends on the seed and the number of the batch alone, so that any batch can be made at any time.
    """

    def __init__(
        self, graph: Graph, rows: Mapping[str, Array], seed: int, fields: Mapping[str, Fitted], buckets: Buckets | None
    ) -> None:
        """rows: all training rows, by field. fields: what they were made by; those that vary are drawn."""
        self.types = {input_of(v).name: v.type for v in graph.by_role("data")}
        self.random = [input_of(v) for v in graph.by_role("random")]
        self.rows, self.seed, self.buckets = rows, seed, buckets
        self.varying = {name: f for name, f in fields.items() if f.varies and name in self.types}
        self._shapes: dict[tuple[Shape, ...], list[tuple[int, ...]]] = {}
        self._generator = Rekeyed()

    def of(self, chosen: Array, batch: int) -> dict[str, Array]:
        """The inputs for some rows, as the batch of a number: `hyper` inputs are left out."""
        feeds = {name: gathered(self.rows[name], chosen) for name in self.types}
        if self.varying:
            feeds |= self._varied(feeds, chosen, batch)
        if self.buckets is not None:
            feeds = self.buckets.cut(feeds, chosen)
        return feeds | self._uniform(feeds, batch) if self.random else feeds

    def _varied(self, feeds: dict[str, Array], chosen: Array, batch: int) -> dict[str, Array]:
        """The fields that vary, drawn for the rows."""
        whole = feeds | {name: array[chosen] for name, array in self.rows.items() if name not in feeds}
        return {
            name: field.vary(name, whole, generator(self.seed, "field", name, batch))
            for name, field in self.varying.items()
        }

    def _uniform(self, feeds: Mapping[str, Array], batch: int) -> dict[str, Array]:
        """The random inputs: uniform on [0, 1), the same on every backend."""
        layout = tuple([feeds[name].shape for name in self.types])
        if layout not in self._shapes:
            sizes = sizes_of(self.types, feeds)
            self._shapes[layout] = [tuple(int(d) for d in bind_dims(v.t.shape, sizes)) for v in self.random]
        found = {}
        for declared, shape in zip(self.random, self._shapes[layout], strict=True):
            drawn = self._generator.keyed(self.seed, declared.name, batch).random(shape, np.float32)
            found[declared.name] = drawn.astype(declared.t.dtype.numpy, copy=False)
        return found


def gathered(rows: Array, chosen: Array) -> Array:
    """A copy of some rows.

    One batch at a time: of many that are gathered at once, most leave the cache before they are read.
    """
    # `take` needs half the time of indexing, but first copies all rows where they do not lie one after the other.
    return rows.take(chosen, axis=0) if rows.flags.c_contiguous else rows[chosen]
