"""Fields of text: characters or words as ids, one row per text, or cut into windows of the running text.

Rows of different lengths are padded at the end by -1: networks know from it which steps are real.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ....compiler.spec.kinds import Positive, Word
from ....compiler.spec.registry import ENCODERS
from ..table import Array, Column, DataError, Table, counted, flat
from .core import Encoder, FieldError, Fitted, State

PAD = -1
UNKNOWN, START, END = "(unknown)", "(start)", "(end)"


@ENCODERS.register
def characters(
    *,
    column: Word = "text",
    window: Positive | None = None,
    stride: Positive | None = None,
    max_length: Positive | None = None,
    lower: bool = False,
    start: bool = False,
    end: bool = False,
    unknown: bool = False,
) -> Encoder:
    """Characters as ids [T], padded by -1. `$name.size` is how many different ones the training rows have.

    column: the column of text.
    window: take all rows of a split as one running text, and cut it into pieces of this many characters.
    stride: how far one window starts after the other; as far as it is long where nothing is said.
    max_length: what is longer is cut off.
    lower: whether upper and lower case are one.
    start: whether each text begins with an id of its own, `(start)`.
    end: whether each text ends with an id of its own, `(end)`.
    unknown: whether characters that training rows never have become `(unknown)`; otherwise they are an error.
    Example: tokens: {encode: characters, window: 64}
    """
    return TextEncoder("characters", column, window, stride, max_length, lower, start, end, unknown, 1, None)


@ENCODERS.register
def words(
    *,
    column: Word = "text",
    window: Positive | None = None,
    stride: Positive | None = None,
    max_length: Positive | None = None,
    lower: bool = True,
    start: bool = False,
    end: bool = False,
    min_count: Positive = 1,
    size: Positive | None = None,
) -> Encoder:
    """Words and punctuation marks as ids [T], padded by -1. `$name.size` is how many different ones there are.

    Words that the training rows have too seldom become `(unknown)`.

    column: the column of text.
    window: take all rows of a split as one running text, and cut it into pieces of this many words.
    stride: how far one window starts after the other; as far as it is long where nothing is said.
    max_length: what is longer is cut off.
    lower: whether upper and lower case are one.
    start: whether each text begins with an id of its own, `(start)`.
    end: whether each text ends with an id of its own, `(end)`.
    min_count: how often a word must occur.
    size: at most so many ids; the most frequent words have them.
    Example: tokens: {column: message, encode: words, min_count: 2, max_length: 128}
    """
    return TextEncoder("words", column, window, stride, max_length, lower, start, end, True, min_count, size)


_WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def tokens_of(unit: str, text: str) -> Sequence[str]:
    """The characters or words of a text."""
    return text if unit == "characters" else _WORDS.findall(text)


@dataclass(frozen=True)
class TextEncoder(Encoder):
    unit: str
    column: str
    window: int | None
    stride: int | None
    max_length: int | None
    lower: bool
    start: bool
    end: bool
    unknown: bool
    min_count: int
    limit: int | None

    def __post_init__(self) -> None:
        if self.stride is not None and self.window is None:
            raise FieldError("`stride` is the distance between windows: give `window` too")
        if self.window is not None and (self.max_length or self.start or self.end):
            raise FieldError("`window` cuts a running text: `max_length`, `start` and `end` are for separate texts")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def fit(self, table: Table) -> FittedText:
        counts: Counter[str] = Counter()
        for text in texts(table, self.column, self.lower):
            counts.update(tokens_of(self.unit, text))
        if self.window is not None and self.unit == "characters":
            counts["\n"] += 1
        if not counts:
            raise DataError(f"{table.place(self.column)} has no {self.unit} in any training row")
        special = [UNKNOWN] * self.unknown + [START] * self.start + [END] * self.end
        kept = sorted(token for token, count in counts.items() if count >= self.min_count)
        if self.limit is not None:
            room = max(self.limit - len(special), 0)
            kept = sorted(sorted(kept, key=lambda token: (-counts[token], token))[:room])
        return FittedText(
            self.unit, self.column, self.window, self.stride or self.window, self.max_length, self.lower,
            (*special, *kept),
        )  # fmt: skip


def texts(table: Table, name: str, lower: bool) -> Iterable[str]:
    """The texts of a column; a missing one is empty."""
    column: Column = flat(table, name, "text")
    if not column.is_text and not column.missing.all():
        raise DataError(f"{table.place(name)} holds numbers, expected text: the source's option `text` keeps them so")
    for cell, absent in zip(column.values, column.missing, strict=True):
        text = "" if absent else str(cell)
        yield text.lower() if lower else text


@dataclass(frozen=True)
class FittedText(Fitted):
    """A vocabulary: special ids first, then tokens in sorted order."""

    encode: ClassVar[str] = "text"

    unit: str
    column: str
    window: int | None
    stride: int | None
    max_length: int | None
    lower: bool
    vocabulary: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def size(self) -> int:
        return len(self.vocabulary)

    @property
    def names(self) -> list[str]:
        return list(self.vocabulary)

    @property
    def padded(self) -> bool:
        return self.window is None

    @property
    def limit(self) -> int | None:
        return self.max_length

    def cut(self, limit: int) -> FittedText:
        return replace(self, max_length=limit)

    def transform(self, table: Table) -> Array:
        if self.window is not None:
            return self._windows(table)
        rows = [self.ids(text, table) for text in texts(table, self.column, self.lower)]
        width = max([1, *map(len, rows)])
        out = np.full((len(rows), width), PAD, np.int64)
        for row, ids in zip(out, rows, strict=True):
            row[: len(ids)] = ids
        return out

    def _windows(self, table: Table) -> Array:
        """Pieces of the running text, in which each row ends with a line break. They share memory."""
        assert self.window is not None and self.stride is not None
        joined = "".join(text + "\n" for text in texts(table, self.column, self.lower))
        ids = self.ids(joined, table)
        if len(ids) < self.window:
            raise DataError(
                f"{table.place(self.column)} has {counted(len(ids), 'token')} in a split, fewer than one window of "
                f"{self.window}"
            )
        return np.lib.stride_tricks.sliding_window_view(ids, self.window)[:: self.stride]

    def ids(self, text: str, table: Table | None = None, whole: bool = True) -> Array:
        """The ids of a text, between its start and end (the end only if `whole`); raises `DataError`."""
        index = self._index
        text = text.lower() if self.lower else text
        found = [index.get(token, -1) for token in tokens_of(self.unit, text)]
        if UNKNOWN in index:
            found = [index[UNKNOWN] if i < 0 else i for i in found]
        elif -1 in found:
            token = tokens_of(self.unit, text)[found.index(-1)]
            where = table.place(self.column) if table is not None else "the text"
            raise DataError(f"{where} has `{token}`, which the training rows never have; `unknown: true` allows it")
        around = (START in index) + (END in index)
        if self.max_length is not None:
            found = found[: max(self.max_length - around, 0)]
        first = [index[START]] if START in index else []
        last = [index[END]] if END in index and whole else []
        return np.asarray([*first, *found, *last], np.int64)

    @cached_property
    def _index(self) -> dict[str, int]:
        """The id of each token; every row asks for it."""
        return {token: i for i, token in enumerate(self.vocabulary)}

    def text(self, ids: Iterable[int]) -> str:
        """The text of ids, up to an `(end)`; padding and `(start)` are left out."""
        tokens: list[str] = []
        for i in ids:
            token = self.vocabulary[int(i)] if int(i) >= 0 else START
            if token == END:
                break
            if token != START:
                tokens.append(token)
        return ("" if self.unit == "characters" else " ").join(tokens)

    def arguments(self) -> State:
        return {**asdict(self), "vocabulary": list(self.vocabulary)}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedText:
        return cls(**{**state, "vocabulary": tuple(state["vocabulary"])})
