"""Fields of text in pieces of words, learnt from the training rows by the library `tokenizers`.

What is learnt is a list of pieces (and of merges). The library's tokenizer is made of it when it is needed; a saved one
is not loaded as it stands, but made anew of its pieces, so that nothing else in the file counts.
"""

from __future__ import annotations

import codecs
import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from ....compiler.spec.kinds import Positive, Word
from ....compiler.spec.registry import ENCODERS
from ..table import DataError
from .core import Encoder, FieldError, State
from .text import Layout, text_encoder
from .tokens import UNKNOWN, Text, Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTES = 256
INNER = "##"


@ENCODERS.register
def bpe(
    *,
    column: Word = "text",
    size: Positive = 8000,
    min_count: Positive = 2,
    window: Positive | None = None,
    stride: Positive | None = None,
    max_length: Positive | None = None,
    lower: bool = False,
    start: bool = False,
    end: bool = False,
) -> Encoder:
    """Pieces of words as ids [T], padded by -1, by byte pair encoding. `$name.size` is how many pieces there are.

    The pieces are the 256 bytes of UTF-8 and, one after the other, the most frequent pair of pieces in the words of
    training rows, made one (Sennrich et al., 2016; over bytes as by Radford et al., 2019). A word has the blank before
    it. No text is unknown, and ids go back to exactly their text. Needs `pip install 'trine[text]'`.

    column: the column of text.
    size: at most so many ids; fewer where training rows have no more pairs.
    min_count: how often a pair must occur to be made one.
    window: take all rows of a split as one running text, and cut it into pieces of this many ids.
    stride: how far one window starts after the other; as far as it is long where nothing is said.
    max_length: what is longer is cut off.
    lower: whether upper and lower case are one.
    start: whether each text begins with an id of its own, `(start)`.
    end: whether each text ends with an id of its own, `(end)`.
    Example: tokens: {encode: bpe, size: 4000, window: 128}
    """
    least = BYTES + start + end
    if size < least:
        raise FieldError(f"`bpe` argument `size` is {size}; the bytes and special ids are {least} already")
    layout = Layout(column, window, stride, max_length, lower)
    return text_encoder(layout, BytePairs, unknown=False, start=start, end=end, min_count=min_count, limit=size)


@ENCODERS.register
def wordpiece(
    *,
    column: Word = "text",
    size: Positive = 8000,
    min_count: Positive = 2,
    window: Positive | None = None,
    stride: Positive | None = None,
    max_length: Positive | None = None,
    lower: bool = True,
    start: bool = False,
    end: bool = False,
) -> Encoder:
    """Pieces of words as ids [T], padded by -1, by longest match. `$name.size` is how many pieces there are.

    Words and punctuation marks are cut, from their start, into the longest pieces there are; pieces inside a word begin
    with `##` (as by Devlin et al., 2019). Pieces are the characters of training rows and the most frequent pairs of
    pieces, made one after the other. A word with a character that is none of them is `(unknown)`, and so is one of more
    than 100 characters. Needs `pip install 'trine[text]'`.

    column: the column of text.
    size: at most so many ids; fewer where training rows have no more pairs.
    min_count: how often a character must occur to be a piece, and a pair to be made one.
    window: take all rows of a split as one running text, and cut it into pieces of this many ids.
    stride: how far one window starts after the other; as far as it is long where nothing is said.
    max_length: what is longer is cut off.
    lower: whether upper and lower case are one.
    start: whether each text begins with an id of its own, `(start)`.
    end: whether each text ends with an id of its own, `(end)`.
    Example: tokens: {column: message, encode: wordpiece, size: 4000, max_length: 128}
    """
    layout = Layout(column, window, stride, max_length, lower)
    return text_encoder(layout, WordPieces, unknown=True, start=start, end=end, min_count=min_count, limit=size)


def _library(unit: str) -> ModuleType:
    try:
        import tokenizers
    except ImportError:
        raise DataError(f"`encode: {unit}` needs the package `tokenizers`: pip install 'trine[text]'") from None
    return tokenizers


_SURROGATES = re.compile("[\ud800-\udfff]")


def _valid(text: Text) -> str:
    """Text that UTF-8 can hold: half of a surrogate pair, as JSON may have it, becomes the replacement character."""
    assert isinstance(text, str)
    return _SURROGATES.sub("\ufffd", text)


class Subwords(Tokens):
    """Pieces of words. Special ids are pieces that the library knows nothing special of."""

    @abstractmethod
    def build(self) -> Tokenizer:
        """The library's tokenizer."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self.build()

    def ids(self, text: Text) -> list[int]:
        return list(self.tokenizer.encode(_valid(text)).ids)

    def arguments(self) -> State:
        return {"tokenizer": self.tokenizer.to_str()}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> Self:
        try:
            made = cls.from_model(json.loads(state["tokenizer"])["model"])
            made.tokenizer  # noqa: B018 - whatever is wrong with it is told now
        except DataError:
            raise
        # The library raises plain `Exception`.
        except Exception as error:
            raise DataError(f"the saved tokenizer of `encode: {cls.unit}` cannot be read: {error!r}") from None
        return made

    @classmethod
    @abstractmethod
    def from_model(cls, model: Mapping[str, Any]) -> Self:
        """The pieces of the `model` part of a tokenizer's JSON; raises `ValueError` for what is none."""


def _pieces_of(model: Mapping[str, Any], needed: Iterable[str]) -> tuple[str, ...]:
    """The pieces of a model by id; raises `ValueError`."""
    vocabulary: dict[str, int] = model["vocab"]
    pieces = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
    if [vocabulary[piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError("the ids of its pieces are not the numbers from 0")
    lacking = [piece for piece in needed if piece not in vocabulary]
    if lacking:
        raise ValueError(f"it has no piece {lacking[0]!r}")
    return pieces


# ------------------------------------------------------------------------------------- byte pairs


class BytePairs(Subwords):
    """Pieces are bytes, each written as one printable character, and what merges made of them."""

    unit = "bpe"

    vocabulary: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    @classmethod
    def learn(cls, texts: Sequence[Text], special: Sequence[str], min_count: int, limit: int | None) -> Self | None:
        if not any(texts):
            return None
        library = _library(cls.unit)
        tokenizer = _with_bytes(library, library.models.BPE())
        trainer = library.trainers.BpeTrainer(
            vocab_size=limit,
            min_frequency=min_count,
            special_tokens=list(special),
            initial_alphabet=sorted(_byte_of()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(map(_valid, texts), trainer)
        return cls.from_model(json.loads(tokenizer.to_str())["model"])

    @classmethod
    def from_model(cls, model: Mapping[str, Any]) -> Self:
        pieces = _pieces_of(model, _byte_of())
        merges = tuple((str(left), str(right)) for left, right in model["merges"])
        return cls(pieces, merges)

    def build(self) -> Tokenizer:
        library = _library(self.unit)
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        return _with_bytes(library, library.models.BPE(ids, list(self.merges)))

    def joined(self, tokens: Iterable[str], continued: bool) -> Iterator[str]:
        byte_of = _byte_of()
        # A character's bytes may come in several pieces: it is held back until it is whole.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in tokens:
            if text := decoder.decode(bytes(byte_of[c] for c in token)):
                yield text
        if rest := decoder.decode(b"", final=True):
            yield rest


def _with_bytes(library: ModuleType, model: Any) -> Tokenizer:
    tokenizer: Tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


@cache
def _byte_of() -> dict[str, int]:
    """The byte that each character of a piece stands for.

    Printable characters of Latin-1 stand for themselves, and those from 256 on for the other bytes in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(BYTES) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(BYTES + i): byte for i, byte in enumerate(others)}


# ------------------------------------------------------------------------------------ word pieces


class WordPieces(Subwords):
    unit = "wordpiece"

    vocabulary: tuple[str, ...]

    @classmethod
    def learn(cls, texts: Sequence[Text], special: Sequence[str], min_count: int, limit: int | None) -> Self | None:
        library = _library(cls.unit)
        tokenizer = _with_words(library, library.models.WordPiece({UNKNOWN: 0}, unk_token=UNKNOWN))
        words = _words(tokenizer, texts)
        if not words:
            return None
        room = None if limit is None else max(limit - len(special), 0)
        alphabet = _alphabet(words, min_count, room)
        known = frozenset(alphabet)
        trainer = library.trainers.WordPieceTrainer(
            vocab_size=limit,
            min_frequency=min_count,
            # Left to itself, the trainer numbers the characters in an order that differs from run to run.
            special_tokens=[*special, *alphabet],
            show_progress=False,
        )
        # The trainer would leave other characters out of their words, and so make pairs that do not occur.
        spelled = (word for word in words if known.issuperset(word))
        tokenizer.train_from_iterator((" ".join([word] * words[word]) for word in spelled), trainer)
        return cls.from_model(json.loads(tokenizer.to_str())["model"])

    @classmethod
    def from_model(cls, model: Mapping[str, Any]) -> Self:
        return cls(_pieces_of(model, [UNKNOWN]))

    def build(self) -> Tokenizer:
        library = _library(self.unit)
        ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        return _with_words(library, library.models.WordPiece(ids, unk_token=UNKNOWN))

    def joined(self, tokens: Iterable[str], continued: bool) -> Iterator[str]:
        for token in tokens:
            # The mark `##` of a text is two pieces `#`.
            inner = token.startswith(INNER) and continued
            yield token.removeprefix(INNER) if inner else f" {token}" if continued else token
            continued = True


def _with_words(library: ModuleType, model: Any) -> Tokenizer:
    """Words are what blanks and punctuation marks part; a Chinese character is a word of its own."""
    tokenizer: Tokenizer = library.Tokenizer(model)
    tokenizer.normalizer = library.normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece(prefix=INNER, cleanup=False)
    return tokenizer


def _words(tokenizer: Tokenizer, texts: Iterable[Text]) -> Counter[str]:
    """How often each word occurs."""
    normalizer, cutter = tokenizer.normalizer, tokenizer.pre_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in cutter.pre_tokenize_str(normalizer.normalize_str(_valid(text))))
    return counts


def _alphabet(words: Mapping[str, int], min_count: int, room: int | None) -> list[str]:
    """The pieces of one character, of the most frequent ones that there is room for, in sorted order.

    A character that stands inside words has two: one at the start of a word, one inside.
    """
    counts: Counter[str] = Counter()
    inside: set[str] = set()
    for word, count in words.items():
        for character in word:
            counts[character] += count
        inside.update(word[1:])
    pieces: list[str] = []
    for character in sorted(counts, key=lambda c: (-counts[c], c)):
        own = [character, INNER + character] if character in inside else [character]
        if counts[character] < min_count or (room is not None and len(pieces) + len(own) > room):
            break
        pieces += own
    return sorted(pieces)
