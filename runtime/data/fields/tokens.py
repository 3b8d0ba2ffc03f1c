"""Vocabularies: how text becomes ids, and ids text again."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import groupby
from typing import Any, ClassVar, Self
from unicodedata import category

from ....compiler.structs import Struct
from .core import State

BLANK, UNKNOWN, START, END = SPECIAL = ("(blank)", "(unknown)", "(start)", "(end)")

Text = str | list[str]
"""The text of one row; or its words, where a column holds lists of them."""


class UnseenToken(LookupError):
    """A token that training rows never have, where the vocabulary has no `(unknown)`."""


class Tokens(Struct, ABC):
    """A vocabulary and the way into it and out of it.

    Special ids come first; no text becomes one, however it is spelled, but for `(unknown)`. Subclasses name themselves
    by `unit`; `Tokens.kinds` finds them by it.
    """

    unit: ClassVar[str] = ""
    kinds: ClassVar[dict[str, type[Tokens]]] = {}
    takes_lists: ClassVar[bool] = False

    vocabulary: tuple[str, ...]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.unit:
            Tokens.kinds[cls.unit] = cls

    @cached_property
    def special(self) -> dict[str, int]:
        """The ids of the special tokens that there are."""
        return {token: i for i, token in enumerate(self.vocabulary[: len(SPECIAL)]) if token in SPECIAL}

    @classmethod
    @abstractmethod
    def learn(cls, texts: Sequence[Text], special: Sequence[str], min_count: int, limit: int | None) -> Self | None:
        """The vocabulary of training rows, of at most `limit` ids; `None` where the texts hold nothing."""

    @abstractmethod
    def ids(self, text: Text) -> list[int]:
        """The ids of a text; raises `UnseenToken`."""

    def written(self, text: Text) -> str:
        """A text as `joined` writes one, to compare the two; what the vocabulary lacks stands as it is."""
        return text if isinstance(text, str) else " ".join(text)

    @abstractmethod
    def joined(self, tokens: Iterable[str], continued: bool) -> Iterator[str]:
        """The text of tokens, in pieces as they come; `continued` says that other text stands before."""

    @abstractmethod
    def arguments(self) -> State:
        """What `from_arguments` makes the same vocabulary of; JSON can hold it."""

    @classmethod
    @abstractmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `arguments`."""


class Listed(Tokens):
    """Tokens that stand in the text as they stand in the vocabulary, in sorted order."""

    vocabulary: tuple[str, ...]

    @classmethod
    @abstractmethod
    def cut(cls, text: Text) -> Sequence[str]:
        """The tokens of a text."""

    @classmethod
    def learn(cls, texts: Sequence[Text], special: Sequence[str], min_count: int, limit: int | None) -> Self | None:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cls.cut(text))
        if not counts:
            return None
        kept = sorted(token for token, count in counts.items() if count >= min_count and token not in SPECIAL)
        if limit is not None:
            room = max(limit - len(special), 0)
            kept = sorted(sorted(kept, key=lambda token: (-counts[token], token))[:room])
        return cls((*special, *kept))

    @cached_property
    def _index(self) -> dict[str, int]:
        """The id of each token that text may have."""
        return {token: i for i, token in enumerate(self.vocabulary) if token not in SPECIAL}

    def written(self, text: Text) -> str:
        return "".join(self.joined(self.cut(text), continued=False))

    def ids(self, text: Text) -> list[int]:
        index, unknown = self._index, self.special.get(UNKNOWN)
        found: list[int] = []
        for token in self.cut(text):
            i = index.get(token, unknown)
            if i is None:
                raise UnseenToken(token)
            found.append(i)
        return found

    def arguments(self) -> State:
        return {"vocabulary": list(self.vocabulary)}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> Self:
        return cls(tuple(state["vocabulary"]))


class Characters(Listed):
    unit = "characters"

    @classmethod
    def cut(cls, text: Text) -> Sequence[str]:
        return text

    def joined(self, tokens: Iterable[str], continued: bool) -> Iterator[str]:
        yield from tokens


_ASCII = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@cache
def _words() -> re.Pattern[str]:
    """Words of any script: signs that combine with letters, such as vowel signs and accents, are of the word.

    These are the Unicode categories M, of which `\\w` knows nothing. Joiners between letters are of the word, too.
    """
    planes = (*range(0x20000), *range(0xE0100, 0xE01F0))  # no other has any
    letter = r"[\w" + "".join(chr(code) for code in planes if category(chr(code)).startswith("M")) + "]"
    return re.compile(rf"{letter}+(?:['’\u200c\u200d]{letter}+)*|[^\w\s]")


class Words(Listed):
    unit = "words"
    takes_lists = True

    @classmethod
    def cut(cls, text: Text) -> Sequence[str]:
        if not isinstance(text, str):
            return text
        return (_ASCII if text.isascii() else _words()).findall(text)

    def joined(self, tokens: Iterable[str], continued: bool) -> Iterator[str]:
        for token in tokens:
            yield f" {token}" if continued else token
            continued = True


class Shapes(Words):
    """How words are written: `Xx` for `London`, `x-d` for `f-16`. Letters and digits that follow each other are one."""

    unit = "shapes"

    @classmethod
    def cut(cls, text: Text) -> Sequence[str]:
        return [_shape(word) for word in super().cut(text)]


class Beginnings(Words):
    """The first three characters of words."""

    unit = "beginnings"

    @classmethod
    def cut(cls, text: Text) -> Sequence[str]:
        return [word[:3] for word in super().cut(text)]


class Endings(Words):
    """The last three characters of words."""

    unit = "endings"

    @classmethod
    def cut(cls, text: Text) -> Sequence[str]:
        return [word[-3:] for word in super().cut(text)]


def _shape(word: str) -> str:
    kinds = ("X" if c.isupper() else "x" if c.isalpha() else "d" if c.isdigit() else c for c in word)
    return "".join(kind for kind, _ in groupby(kinds))


# What may be taken of words.
PARTS: dict[str, type[Words]] = {"whole": Words, "shape": Shapes, "beginning": Beginnings, "ending": Endings}
