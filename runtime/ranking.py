"""Ranking what might be chosen: the score of every item for each query, and the ranks of what was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..backends.base import Backend, Executable, State
from ..compiler.build import Network
from ..compiler.ir import Array, Graph, Value, input_of
from ..compiler.passes import Model, for_training
from ..compiler.rewrite import computed_before
from ..compiler.structs import Struct
from .data import DataError, Fitted
from .data.fields import FittedNegatives
from .data.fields.negatives import Seen
from .metrics import ranks_of

SCORE = "score"
# Pairs of a query and an item that are scored at a time.
PAIRS = 2**17


class Scorer(Struct):
    """Scores every item for each query.

    A query is what the score reads besides the item, and the user whose seen items are left out. All rows of one query
    are relevant to it together. What depends on items alone, or on queries alone, such as their vectors, is computed
    once for each.

    of_items, of_queries: what is computed so, if anything; pairs: the score, from these. queries: the inputs of a
    query. sampled: the field of negatives, which says what the items are, and of whom they were seen before.
    """

    of_items: Executable | None
    of_queries: Executable | None
    pairs: Executable
    queries: tuple[str, ...]
    sampled: FittedNegatives

    def ranks(self, arrays: Mapping[str, Array], before: Sequence[Mapping[str, Array]]) -> tuple[Array, Array]:
        """For each query the ranks of its rows' items, from 1, and which of these numbers count [queries, most].

        What the splits before have beside the same user is no candidate. Raises `DataError` for inputs that belong to
        the item, which are not known of all items.
        """
        self._check([arrays, *before])
        items, total = arrays[self.sampled.sample], self.sampled.total
        first, query = self._queries(arrays, len(items))
        users = arrays[self.sampled.by][first] if self.sampled.by else None
        seen = self._seen(before)
        of_items = self.of_items({self.sampled.sample: np.arange(total)}) if self.of_items else {}
        of_queries = self.of_queries({name: arrays[name][first] for name in self.queries}) if self.of_queries else {}
        ordered = np.argsort(query, kind="stable")
        starts = np.searchsorted(query[ordered], np.arange(len(first) + 1))
        size = min(max(1, PAIRS // total), len(first))
        parts = []
        for start in range(0, len(first), size):
            count = min(size, len(first) - start)
            own = ordered[starts[start] : starts[start + count]]
            relevant = np.zeros((count, total), np.bool_)
            relevant[query[own] - start, items[own]] = True
            candidates = np.ones_like(relevant)
            if users is not None and seen is not None:
                for row, user in zip(candidates, users[start : start + count], strict=True):
                    row[seen.by(int(user))] = False
            # A full chunk each time, so that one program fits all.
            rows = np.minimum(np.arange(start, start + size), len(first) - 1)
            scores = self._scores(of_items, {name: part[rows] for name, part in of_queries.items()}, size)
            parts.append(ranks_of(scores[:count], relevant, candidates))
        return _stacked(parts)

    def _check(self, splits: Sequence[Mapping[str, Array]]) -> None:
        """Raise `DataError` for an input of a query that every item has one value of: it is the item's own."""
        items = np.concatenate([part[self.sampled.sample] for part in splits])
        names, first, item = np.unique(items, return_index=True, return_inverse=True)
        for name in self.queries:
            values = np.concatenate([part[name] for part in splits]).reshape(len(items), -1)
            fixed = (values == values[first][item.reshape(-1)]).all()
            if name != self.sampled.by and fixed and len(items) > 2 * len(names) and (values != values[0]).any():
                raise DataError(
                    f"the score reads `{name}`, which each `{self.sampled.sample}` has one value of: what belongs to "
                    "an item is not known of every item that is ranked; leave it out, or let the network learn it by id"
                )

    def _scores(self, of_items: Mapping[str, Array], of_queries: Mapping[str, Array], count: int) -> Array:
        """The score of every item for some queries [queries, items]."""
        total = self.sampled.total
        feeds = {name: np.repeat(part, total, axis=0) for name, part in of_queries.items()}
        feeds |= {name: np.concatenate([part] * count) for name, part in of_items.items()}
        scores: Array = self.pairs(feeds)[SCORE]
        return scores.reshape(count, total)

    def _queries(self, arrays: Mapping[str, Array], count: int) -> tuple[Array, Array]:
        """A row of each query, and the query of each row."""
        by = {self.sampled.by} if self.sampled.by else set()
        names = sorted({*self.queries, *by})
        if not names:
            return np.zeros(1, np.int64), np.zeros(count, np.int64)
        keys = np.concatenate([arrays[name].reshape(count, -1) for name in names], axis=1)
        _, first, query = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return first, query.reshape(-1)

    def _seen(self, before: Sequence[Mapping[str, Array]]) -> Seen | None:
        if not before or self.sampled.by is None:
            return None
        users, items = (np.concatenate([part[n] for part in before]) for n in (self.sampled.by, self.sampled.sample))
        return Seen.of(users, items, self.sampled.total)


def _stacked(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Ranks of several parts, padded to the longest."""
    width = max(ranks.shape[1] for ranks, _ in parts)
    both = (
        [np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in arrays]
        for arrays in zip(*parts, strict=True)
    )
    ranks, counts = (np.concatenate(arrays) for arrays in both)
    return ranks, counts


def scorers(network: Network, backend: Backend, state: State, fields: Mapping[str, Fitted]) -> dict[str, Scorer]:
    """A scorer for each head that ranks, where a field of negatives says what there is to choose from."""
    found: dict[str, Scorer] = {}
    for head in network.heads:
        if head.ranks:
            scorer = _scorer(network.graph.outputs[f"prediction/{head.key}"], network.graph, backend, state, fields)
            found |= {} if scorer is None else {head.key: scorer}
    return found


def _scorer(score: Value, graph: Graph, backend: Backend, state: State, fields: Mapping[str, Fitted]) -> Scorer | None:
    whole = graph.with_outputs({SCORE: score}, {}).prune_inputs()
    read = [input_of(v).name for v in whole.by_role("data")]
    sampled = next((f for f in fields.values() if isinstance(f, FittedNegatives) and f.sample in read), None)
    if sampled is None:
        return None
    queries = tuple(name for name in read if name != sampled.sample)
    of_items, rest = computed_before(whole, [sampled.sample], "item/")
    of_queries, pairs = computed_before(rest, queries, "query/")
    parts = (of_items, of_queries, pairs)
    one, two, both = (backend.compile(for_training(Model(p))[0].graph, state) if p.outputs else None for p in parts)
    assert both is not None
    return Scorer(one, two, both, queries, sampled)
