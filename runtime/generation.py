"""Generating sequences token by token: greedy, sampled, or by beam search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ..backends.base import Executable, State
from ..compiler.generation import PARENTS, POSITION, Decoder, decoder
from ..compiler.initialisers import generator
from ..compiler.ir import Array, Graph, bind_dims, input_of
from ..compiler.passes import Model, for_inference, freeze
from ..compiler.rewrite import bind
from ..compiler.spec.diagnostics import hint
from ..compiler.spec.signatures import BATCH
from ..compiler.structs import Struct
from .data import DataError, from_arrays, transform
from .data.fields import FittedText
from .evaluation import rows_of
from .model import LoadedModel


class Sampling(Struct):
    """How the next token is chosen.

    temperature: what logits are divided by; 0 takes the most probable token always.
    top_k: choose among so many most probable ones. top_p: among the fewest that have this probability together
    (Holtzman et al., 2019). seed: what choices are drawn from.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def choose(self, logits: Array, count: int) -> int:
        """The token after `count` others."""
        if self.temperature == 0.0:
            return int(logits.argmax())
        scores = logits.astype(np.float64) / self.temperature
        order = np.argsort(-scores, kind="stable")[: self.top_k]
        weights = np.exp(scores[order] - scores[order[0]])
        weights /= weights.sum()
        if self.top_p is not None:
            enough = int(np.searchsorted(np.cumsum(weights), self.top_p)) + 1
            order, weights = order[:enough], weights[:enough] / weights[:enough].sum()
        drawn = generator(self.seed, "generate", count).random()
        return int(order[min(int(np.searchsorted(np.cumsum(weights), drawn, side="right")), len(order) - 1)])


GREEDY = Sampling()


class Generator:
    """A trained model that goes on with sequences. Made once; each call of `tokens` begins a new sequence."""

    def __init__(self, model: LoadedModel, length: int | None = None, beams: int = 1) -> None:
        """`length` bounds the sequence where the spec does not. Raises `NotGenerative` and `SpecError`."""
        self.model, self.beams = model, beams
        self.decoder: Decoder = decoder(model.spec, length, reorder=beams > 1)
        field = model.fields.get(self.decoder.name)
        self.field = field if isinstance(field, FittedText) else None
        self._programs: dict[tuple[tuple[str, int], ...], tuple[State, Executable | None, Executable]] = {}

    # -- sequences of ids ---------------------------------------------------------------------

    def begin(self, others: Mapping[str, Array]) -> None:
        """Start a sequence for each row of `others`, the network's other inputs [rows, …]; one where there are none."""
        rows = {name: np.repeat(array, self.beams, axis=0) for name, array in others.items()}
        sizes = {BATCH: rows_of(rows) or self.beams}
        for name, array in rows.items():
            pairs = zip(self.model.inputs[name].shape, array.shape, strict=True)
            sizes |= {dim: count for dim, count in pairs if isinstance(dim, str)}
        self.state, begin, self._step = self._program(sizes)
        if begin is not None:
            begin(rows)
        self.position = 0

    def step(self, tokens: Sequence[int], parents: Sequence[int] | None = None) -> Array:
        """The logits [rows, tokens] after one more token in each row."""
        feeds: dict[str, Array] = {
            self.decoder.name: np.asarray(tokens, np.int64)[:, None],
            POSITION: np.asarray(self.position, np.int64),
        }
        if self.beams > 1:
            feeds[PARENTS] = np.asarray(parents if parents is not None else range(self.beams), np.int64)
        self.position += 1
        logits: Array = self._step(feeds)[self.decoder.output][:, 0]
        return logits

    def _program(self, sizes: Mapping[str, int]) -> tuple[State, Executable | None, Executable]:
        """The graphs compiled for some sizes, and their state with empty caches."""
        key = tuple(sorted(sizes.items()))
        if key not in self._programs:
            backend = self.model.backend
            step = self._optimised(self.decoder.step, sizes)
            begin = self._optimised(self.decoder.begin, sizes) if self.decoder.begin else None
            arrays: dict[str, Array] = {}
            for cache in self.decoder.caches():
                shape = tuple(int(d) for d in bind_dims(cache.shape, sizes))
                arrays[input_of(cache).name] = np.zeros(shape, cache.dtype.numpy)
            state = backend.state(arrays)
            compiled = backend.compile(freeze(begin), state) if begin else None
            self._programs[key] = state, compiled, backend.compile(freeze(step), state)
        return self._programs[key]

    def _optimised(self, graph: Graph, sizes: Mapping[str, int]) -> Model:
        bound = bind(graph, sizes)
        names = {input_of(v).name for v in bound.by_role("param", "buffer")}
        held = {name: array for name, array in self.model.weights.items() if name in names}
        return for_inference(Model(bound, held))[0]

    def tokens(
        self, prompt: Sequence[int], others: Mapping[str, Array], sampling: Sampling, stop: int | None = None
    ) -> Iterator[int]:
        """Ids that go on with a prompt, without end or until `stop`.

        Where the sequence gets longer than there is room for, its last half is read again and generation goes on.
        """
        self.begin(others)
        known = list(prompt)
        logits = self._read(known[-self.decoder.limit :])[0]
        count = 0
        while True:
            token = sampling.choose(logits, count)
            if token == stop:
                return
            yield token
            known.append(token)
            count += 1
            if self.position < self.decoder.limit:
                logits = self.step([token])[0]
                continue
            known = known[-max(self.decoder.limit // 2, 1) :]
            self.begin(others)
            logits = self._read(known)[0]

    def greedy(self, prompt: Sequence[int], others: Mapping[str, Array], stop: int | None) -> list[list[int]]:
        """What most probably follows a prompt for each row of `others`, token by token, all rows at once.

        Until `stop`, or as long as there is room.
        """
        self.begin(others)
        count = rows_of(others) or 1
        found: list[list[int]] = [[] for _ in range(count)]
        live = np.ones(count, np.bool_)
        for token in prompt:
            logits = self.step([token] * count)
        while True:
            best = logits.argmax(-1)
            live &= best != stop
            for i in np.flatnonzero(live):
                found[i].append(int(best[i]))
            if not live.any() or self.position >= self.decoder.limit:
                return found
            logits = self.step(best.tolist())

    def _read(self, prompt: Sequence[int]) -> Array:
        """The logits [beams, tokens] after a prompt."""
        found: Array | None = None
        for token in prompt:
            found = self.step([token] * self.beams)
        if found is None:
            raise DataError("there is nothing to go on from: give a prompt of at least one token")
        return found

    def search(
        self, prompt: Sequence[int], others: Mapping[str, Array], most: int, stop: int | None, alpha: float = 1.0
    ) -> list[int]:
        """The most probable continuation found by beam search, of at most `most` tokens.

        Continuations are compared by their log probability divided by length ** alpha (Wu et al., 2016).
        """
        self.begin(others)
        scores = np.full(self.beams, -np.inf)
        scores[0] = 0.0
        rows: list[list[int]] = [[] for _ in range(self.beams)]
        done: list[tuple[float, list[int]]] = []
        logits = self._read(prompt[-self.decoder.limit :])
        for _ in range(most):
            chances = scores[:, None] + _log_softmax(logits)
            best = np.argsort(-chances, axis=None, kind="stable")[: 2 * self.beams]
            kept: list[tuple[float, int, int]] = []
            for place in best:
                parent, token = divmod(int(place), chances.shape[1])
                score = float(chances[parent, token])
                if token == stop:
                    done.append((score / (len(rows[parent]) + 1) ** alpha, rows[parent]))
                elif len(kept) < self.beams:
                    kept.append((score, parent, token))
            rows = [[*rows[parent], token] for _, parent, token in kept]
            scores = np.array([score for score, _, _ in kept])
            if len(done) >= self.beams or self.position >= self.decoder.limit:
                break
            logits = self.step([token for *_, token in kept], [parent for _, parent, _ in kept])
        done += [(score / max(len(row), 1) ** alpha, row) for score, row in zip(scores, rows, strict=True)]
        return max(done, key=lambda pair: pair[0])[1]

    # -- text ---------------------------------------------------------------------------------

    def text(self, prompt: str, row: Mapping[str, Any], count: int, sampling: Sampling = GREEDY) -> Iterator[str]:
        """What follows a prompt, in pieces as they are found; `row` are the columns of the other inputs."""
        if self.field is None:
            raise DataError(f"`{self.decoder.name}` is no field of text: use `tokens`")
        ids = self.field.ids(prompt, whole=False)
        others = {name: t for name, t in self.model.inputs.items() if name != self.decoder.name}
        known = {column for name in others for column in self.model.fields[name].columns}
        for name in row:
            if name not in known:
                help = hint(name, known) if known else "it has no other inputs"
                raise DataError(f"no other input of the network reads the column `{name}`: {help}")
        columns = {name: [value] for name, value in row.items()}
        arrays = transform(self.model.fields, from_arrays(columns), others) if others else {}
        stop = self.field.end
        if self.beams > 1:
            found = iter(self.search(list(ids), arrays, count, stop))
        else:
            found = islice(self.tokens(list(ids), arrays, sampling, stop), count)
        yield from self.field.pieces(found, continued=bool(prompt))


def _log_softmax(x: Array) -> Array:
    shifted = x.astype(np.float64) - x.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
