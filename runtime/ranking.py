"""Ranking what might be chosen: the score of every item for each query, and the ranks of what was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..backends.base import Backend, Executable, State
from ..compiler.build import Head, Network
from ..compiler.ir import Array, Graph, input_of
from ..compiler.passes import Model, for_training
from .data import Fitted
from .data.fields import FittedNegatives
from .data.fields.negatives import Seen
from .metrics import ranks_of

# Pairs of a query and an item that are scored at a time.
PAIRS = 2**17


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores every item for each query.

    A query is what the score reads besides the item: a user, and perhaps more. All rows of one query are relevant to
    it together. sampled: the field of negatives, which says what the items are, and of whom they were seen before.
    """

    run: Executable
    output: str
    queries: tuple[str, ...]
    sampled: FittedNegatives

    def ranks(self, arrays: Mapping[str, Array], before: Sequence[Mapping[str, Array]]) -> tuple[Array, Array]:
        """For each query the ranks of its rows' items, from 1, and which of these numbers count [queries, most].

        What the splits before have beside the same user is no candidate.
        """
        items, total = arrays[self.sampled.sample], self.sampled.total
        first, query = self._queries(arrays, len(items))
        users = arrays[self.sampled.by][first] if self.sampled.by else None
        seen = self._seen(before)
        size = max(1, PAIRS // total)
        parts = []
        for start in range(0, len(first), size):
            chosen = np.arange(start, min(start + size, len(first)))
            relevant = np.zeros((len(chosen), total), np.bool_)
            own = (query >= start) & (query < start + size)
            relevant[query[own] - start, items[own]] = True
            candidates = np.ones_like(relevant)
            if users is not None and seen is not None:
                for row, user in zip(candidates, users[chosen], strict=True):
                    row[seen.by(int(user))] = False
            # A full chunk each time, so that one program fits all.
            rows = first[np.minimum(np.arange(start, start + min(size, len(first))), len(first) - 1)]
            parts.append(ranks_of(self._scores(arrays, rows)[: len(chosen)], relevant, candidates))
        return _stacked(parts)

    def _queries(self, arrays: Mapping[str, Array], count: int) -> tuple[Array, Array]:
        """A row of each query, and the query of each row."""
        if not self.queries:
            return np.zeros(1, np.int64), np.zeros(count, np.int64)
        keys = np.concatenate([arrays[name].reshape(count, -1) for name in self.queries], axis=1)
        _, first, query = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return first, query.reshape(-1)

    def _seen(self, before: Sequence[Mapping[str, Array]]) -> Seen | None:
        if not before or self.sampled.by is None:
            return None
        users, items = (np.concatenate([part[n] for part in before]) for n in (self.sampled.by, self.sampled.sample))
        return Seen.of(users, items, self.sampled.total)

    def _scores(self, arrays: Mapping[str, Array], rows: Array) -> Array:
        """The score of every item for the queries of some rows [rows, items]."""
        total = self.sampled.total
        feeds = {name: np.repeat(arrays[name][rows], total, axis=0) for name in self.queries}
        feeds[self.sampled.sample] = np.tile(np.arange(total), len(rows))
        scores: Array = self.run(feeds)[self.output]
        return scores.reshape(len(rows), total)


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
        if not head.ranks:
            continue
        graph = _score(network.graph, head)
        read = [input_of(v).name for v in graph.by_role("data")]
        sampled = next((f for f in fields.values() if isinstance(f, FittedNegatives) and f.sample in read), None)
        if sampled is None:
            continue
        model, _ = for_training(Model(graph))
        queries = tuple(name for name in read if name != sampled.sample)
        found[head.key] = Scorer(backend.compile(model.graph, state), head.key, queries, sampled)
    return found


def _score(graph: Graph, head: Head) -> Graph:
    """The graph of a head's score alone."""
    return graph.with_outputs({head.key: graph.outputs[f"prediction/{head.key}"]}, {}).prune_inputs()
