"""Fields of text: characters, words or pieces of words as ids, one row per text, or windows of the running text.

Rows of different lengths are padded at the end by -1: networks know from it which steps are real.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np

from ....compiler.spec.kinds import Positive, Word
from ....compiler.spec.registry import ENCODERS
from ....compiler.structs import Struct
from ..table import PAD, Array, Column, DataError, Table, counted, flat, listed, padded
from .core import Encoder, FieldError, Fitted, State
from .tokens import BLANK, END, PARTS, START, UNKNOWN, Characters, Text, Tokens, UnseenToken


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
    blank: bool = False,
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
    blank: whether the id 0 is kept free, as the loss `ctc` needs it.
    Example: tokens: {encode: characters, window: 64}
    """
    layout = Layout(column, window, stride, max_length, lower)
    return text_encoder(layout, Characters, unknown=unknown, start=start, end=end, blank=blank)


@ENCODERS.register
def words(
    *,
    column: Word = "text",
    window: Positive | None = None,
    stride: Positive | None = None,
    max_length: Positive | None = None,
    lower: bool | None = None,
    start: bool = False,
    end: bool = False,
    min_count: Positive = 1,
    size: Positive | None = None,
    part: Literal["whole", "shape", "beginning", "ending"] = "whole",
) -> Encoder:
    """Words and punctuation marks as ids [T], padded by -1. `$name.size` is how many different ones there are.

    Words that the training rows have too seldom become `(unknown)`.

    column: the column of text; where its rows are lists of words already, each of these is one token.
    window: take all rows of a split as one running text, and cut it into pieces of this many words.
    stride: how far one window starts after the other; as far as it is long where nothing is said.
    max_length: what is longer is cut off.
    lower: whether upper and lower case are one; they are, but for shapes, where nothing is said.
    start: whether each text begins with an id of its own, `(start)`.
    end: whether each text ends with an id of its own, `(end)`.
    min_count: how often a word must occur.
    size: at most so many ids; the most frequent words have them.
    part: what is taken of each word: its `shape` (`Xx` for `London`, `x-d` for `f-16`), its `beginning` or its `ending`
      of three characters say something of words that training rows never have.
    Example: tokens: {column: message, encode: words, min_count: 2, max_length: 128}
    """
    layout = Layout(column, window, stride, max_length, part != "shape" if lower is None else lower)
    return text_encoder(layout, PARTS[part], unknown=True, start=start, end=end, min_count=min_count, limit=size)


class Layout(Struct):
    """Which text is read, and how its ids are laid out in rows."""

    column: str
    window: int | None
    stride: int | None
    max_length: int | None
    lower: bool

    def texts(self, table: Table, kind: type[Tokens]) -> Iterator[Text]:
        """The text of each row, or its words; a missing one is empty. Rows of a running text end with a line break."""
        column = table.column(self.column)
        if column.ragged:
            yield from self._lists(table, column, kind)
            return
        flat(table, self.column, "text")
        if not column.is_text and not column.missing.all():
            raise DataError(
                f"{table.place(self.column)} holds numbers, expected text: the source's option `text` keeps them so"
            )
        ending = "" if self.window is None else "\n"
        for cell, absent in zip(column.values, column.missing, strict=True):
            yield self.cased("" if absent else str(cell)) + ending

    def _lists(self, table: Table, column: Column, kind: type[Tokens]) -> Iterator[list[str]]:
        place = table.place(self.column)
        rows = [[] if absent else row for row, absent in zip(column.values, column.missing, strict=True)]
        numbers = np.asarray([len(row) > 0 and row.dtype != object for row in rows], np.bool_)
        if numbers.any():
            raise DataError(
                f"{place} has a sequence of numbers in a row, first at row {table.first(numbers)}; "
                f"`encode: {kind.unit}` needs text"
            )
        if not kind.takes_lists:
            takers = [
                f"encode: {unit}" for unit, other in Tokens.kinds.items() if other.takes_lists and unit in ENCODERS
            ]
            raise DataError(
                f"{place} has a list of words in each row, `encode: {kind.unit}` takes one text per row; "
                f"{listed(takers)} takes lists of words"
            )
        for row in rows:
            yield [self.cased(word) for word in row]

    def cased(self, text: str) -> str:
        return text.lower() if self.lower else text


def text_encoder(
    layout: Layout,
    kind: type[Tokens],
    *,
    unknown: bool,
    start: bool,
    end: bool,
    blank: bool = False,
    min_count: int = 1,
    limit: int | None = None,
) -> TextEncoder:
    """The encoder of a text's tokens; raises `FieldError` for arguments that do not go together."""
    if layout.stride is not None and layout.window is None:
        raise FieldError("`stride` is the distance between windows: give `window` too")
    if layout.window is not None and (layout.max_length or start or end):
        raise FieldError("`window` cuts a running text: `max_length`, `start` and `end` are for separate texts")
    special = [BLANK] * blank + [UNKNOWN] * unknown + [START] * start + [END] * end
    return TextEncoder(layout, kind, tuple(special), min_count, limit)


class TextEncoder(Encoder):
    layout: Layout
    kind: type[Tokens]
    special: tuple[str, ...]
    min_count: int
    limit: int | None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.layout.column,)

    def fit(self, table: Table) -> FittedText:
        texts = list(self.layout.texts(table, self.kind))
        tokens = self.kind.learn(texts, self.special, self.min_count, self.limit)
        if tokens is None:
            raise DataError(f"{table.place(self.layout.column)} has no {self.kind.unit} in any training row")
        return FittedText(self.layout, tokens)


class FittedText(Fitted):
    """Text of a layout, by a vocabulary."""

    encode: ClassVar[str] = "text"

    layout: Layout
    tokens: Tokens

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.layout.column,)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self.tokens.vocabulary

    @property
    def size(self) -> int:
        return len(self.vocabulary)

    @property
    def names(self) -> list[str]:
        return list(self.vocabulary)

    @property
    def padded(self) -> bool:
        return self.layout.window is None

    @property
    def end(self) -> int | None:
        """The id that ends a text, where there is one."""
        return self.tokens.special.get(END)

    @property
    def limit(self) -> int | None:
        return self.layout.max_length

    def cut(self, limit: int) -> FittedText:
        return replace(self, layout=replace(self.layout, max_length=limit))

    def transform(self, table: Table) -> Array:
        rows = [self._row(text, table) for text in self.layout.texts(table, type(self.tokens))]
        if self.layout.window is not None:
            return self._windows(np.concatenate([np.zeros(0, np.int64), *rows]), self.layout.window, table)
        return padded(
            np.concatenate([np.zeros(0, np.int64), *rows]), np.fromiter(map(len, rows), np.int64, len(rows)), None, PAD
        )

    def _windows(self, ids: Array, window: int, table: Table) -> Array:
        """Pieces of the running text. They share memory."""
        if len(ids) < window:
            raise DataError(
                f"{table.place(self.layout.column)} has {counted(len(ids), 'token')} in a split, "
                f"fewer than one window of {window}"
            )
        return np.lib.stride_tricks.sliding_window_view(ids, window)[:: self.layout.stride or window]

    def ids(self, text: str, whole: bool = True) -> Array:
        """The ids of a text, between its start and end (the end only if `whole`); raises `DataError`."""
        return self._row(self.layout.cased(text), None, whole)

    def _row(self, text: Text, table: Table | None, whole: bool = True) -> Array:
        try:
            found = self.tokens.ids(text)
        except UnseenToken as error:
            where = table.place(self.layout.column) if table is not None else "the text"
            raise DataError(
                f"{where} has `{error}`, which the training rows never have; `unknown: true` allows it"
            ) from None
        special = self.tokens.special
        around = (START in special) + (END in special)
        if self.layout.max_length is not None:
            found = found[: max(self.layout.max_length - around, 0)]
        first = [special[START]] if START in special else []
        last = [special[END]] if END in special and whole else []
        return np.asarray([*first, *found, *last], np.int64)

    def text(self, ids: Iterable[int]) -> str:
        """The text of ids, up to an `(end)`; padding and `(start)` are left out."""
        return "".join(self.pieces(ids))

    def pieces(self, ids: Iterable[int], continued: bool = False) -> Iterator[str]:
        """The same in pieces, each as soon as its ids are there; `continued` says that other text stands before."""
        return self.tokens.joined(self._plain(ids), continued)

    def _plain(self, ids: Iterable[int]) -> Iterator[str]:
        """The tokens of ids, up to an `(end)`, without padding and `(start)`."""
        start, end = self.tokens.special.get(START), self.end
        for i in map(int, ids):
            if i == end:
                return
            if i >= 0 and i != start:
                yield self.vocabulary[i]

    def arguments(self) -> State:
        return {"unit": self.tokens.unit, **asdict(self.layout), **self.tokens.arguments()}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedText:
        layout = Layout(**{field.name: state[field.name] for field in fields(Layout)})
        return cls(layout, Tokens.kinds[state["unit"]].from_arguments(state))
