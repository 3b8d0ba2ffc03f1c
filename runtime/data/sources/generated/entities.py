"""Sentences with the names in them tagged, for the recognition of entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ...table import Table, make_table, ragged_column
from .core import draws, row_count, source_of

# `{ANY}` is a person, an organisation or a place; `{*}` is a remark or nothing.
TEMPLATES = tuple(
    line.split()
    for line in """
{PER} {*} moved from {LOC} to {LOC} in {MONTH} .
{ORG} {*} opened an office in {LOC} on {DAY} .
{LOC} {*} was flooded in {MONTH} .
{PER} {*} was born in {LOC} .
{ORG} {*} was founded in {LOC} .
{PER} {*} left on {DAY} .
{LOC} {*} elected {PER} on {DAY} .
{ORG} {*} hired {PER} in {MONTH} .
{PER} {*} sued {ORG} .
{ORG} {*} sued {PER} .
{PER} will {*} join {ORG} in {MONTH} .
shares of {ORG} fell after {PER} left the board .
the new {THING} by {ORG} may {*} arrive in {MONTH} .
the {THING} {*} was shown to {PER} , {PER} and {PER} .
it may rain in {LOC} , {LOC} and {LOC} on {DAY} .
she ate an apple and an orange on the way to {LOC} .
the march through {LOC} was led by {PER} .
we hope that {ORG} will {*} grant the money to {PER} .
{PER} , who works for {ORG} , bought a {THING} .
a rose grew on the bank of the river near {LOC} .
the target that {ORG} set is a mark of one million .
reading the bill took {PER} until {DAY} .
after a bath {PER} {*} put a shell on the table .
sales of the {THING} doubled , said {PER} of {ORG} .
nice weather is {*} expected in {LOC} on {DAY} .
in {MONTH} {ORG} sold its {THING} business to {ORG} .
dear {PER} , your {THING} from {ORG} will come on {DAY} .
the bill may rise , but {PER} will hope for the best .
they will march from {LOC} to {LOC} if {ORG} may be sued .
what do you know about {ANY} ?
{ANY} {*} was in the news on {DAY} .
few had heard of {ANY} before {MONTH} .
""".strip().splitlines()
)
REMARKS = tuple(
    line.split()
    for line in """
again
, as many hope ,
, it may seem ,
quite suddenly
, to grant them their due ,
, as some reading this will know ,
, by all means ,
without a mark of fear
""".strip().splitlines()
)
# Words that the templates also have as verbs, nouns and adjectives, or that name more than one kind of thing.
AMBIGUOUS = {
    "PER": ["Will", "May", "Rose", "Grant", "Hope", "Mark", "Bill"],
    "ORG": ["Apple", "Orange", "Target", "Shell", "Mark", "Rose"],
    "LOC": ["Reading", "Bath", "Nice", "March", "Hope", "Orange"],
}
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
KINDS_OF_FIRM = ["Group", "Labs", "Motors", "Bank", "Foods"]
KINDS_OF_PLACE = ["New", "Lake", "Port"]
ENDINGS = {
    "PER": ["a", "o", "en", "as"],
    "ORG": ["ex", "on", "is", "ax"],
    "LOC": ["ville", "ton", "berg", "stad"],
}
ONSETS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "br", "dr", "gl", "kr", "pl", "st", "tr"]
CODAS = ["", "", "n", "r", "l", "s", "k"]

T = TypeVar("T")


def entities(rows: int | None, seed: int) -> Table:
    """Sentences from 32 templates (`tokens`), and the entities in them (`tags`).

    Tags are B- and I- of PER, ORG, LOC and DATE, or O. Names are made of random syllables, so that
    most names of a test split are in no other; half of them have an ending of their kind, such as
    `ville`. Persons have one name or two; organisations have a name alone, a name with a word such as
    `Labs`, or are the bank or university of a place; places may start with a word such as `New`. A
    quarter of all names (of persons, the first) are a word that is something else elsewhere: `May`,
    `Will`, `Apple`, `Reading`. Dates are months, years, weekdays and days of a month. Products are named
    like organisations and are no entities. Remarks may stand between a name and what tells its kind, and
    in three templates any kind may stand. Sentences start with a capital; one in ten is in small letters
    throughout; and of the words of four letters and more three per cent have two letters swapped.
    """
    rows = row_count("entities", rows, default=3_000, most=100_000)
    writer = _Writer(draws(seed, "entities"))
    sentences = [writer.sentence() for _ in range(rows)]
    columns = {
        "tokens": ragged_column([np.array([word for word, _ in s], object) for s in sentences]),
        "tags": ragged_column([np.array([tag for _, tag in s], object) for s in sentences]),
    }
    return make_table(columns, source_of("entities"))


class _Writer:
    """Writes sentences at random."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.slots = {
            "{PER}": ("PER", self.person),
            "{ORG}": ("ORG", self.organisation),
            "{LOC}": ("LOC", self.place),
            "{DAY}": ("DATE", self.day),
            "{MONTH}": ("DATE", self.month),
        }

    def sentence(self) -> list[tuple[str, str]]:
        """The tokens of a sentence and their tags."""
        pairs = [pair for part in self.pick(TEMPLATES) for pair in self.tokens(part)]
        first, tag = pairs[0]
        pairs[0] = first[:1].upper() + first[1:], tag
        if self.chance(0.1):
            pairs = [(word.lower(), tag) for word, tag in pairs]
        return [(self.typed(word), tag) for word, tag in pairs]

    def tokens(self, part: str) -> list[tuple[str, str]]:
        """What stands for one part of a template."""
        if part == "{*}":
            return [(word, "O") for word in self.pick(REMARKS)] if self.chance(0.5) else []
        if part == "{THING}":
            return [(self.name("ORG"), "O"), (str(self.rng.integers(2, 10) * 100), "O")]
        if part == "{ANY}":
            return self.tokens(self.pick(("{PER}", "{ORG}", "{LOC}")))
        if part not in self.slots:
            return [(part, "O")]
        kind, make = self.slots[part]
        return [(word, f"{'I' if i else 'B'}-{kind}") for i, word in enumerate(make())]

    def person(self) -> list[str]:
        first = self.pick(AMBIGUOUS["PER"]) if self.chance(0.25) else self.name("PER")
        return [first, self.name("PER")] if self.chance(0.5) else [first]

    def organisation(self) -> list[str]:
        if self.chance(0.25):
            return [self.pick(AMBIGUOUS["ORG"])]
        if self.chance(0.15):
            return [self.pick(("Bank", "University")), "of", *self.place()]
        return [self.name("ORG"), self.pick(KINDS_OF_FIRM)] if self.chance(0.5) else [self.name("ORG")]

    def place(self) -> list[str]:
        if self.chance(0.25):
            return [self.pick(AMBIGUOUS["LOC"])]
        return [self.pick(KINDS_OF_PLACE), self.name("LOC")] if self.chance(0.2) else [self.name("LOC")]

    def day(self) -> list[str]:
        if self.chance(0.4):
            return [self.pick(WEEKDAYS)]
        number = str(self.rng.integers(1, 29))
        return [number, self.pick(MONTHS), self.year()] if self.chance(0.4) else [self.pick(MONTHS), number]

    def month(self) -> list[str]:
        if self.chance(0.3):
            return [self.year()]
        return [self.pick(MONTHS), self.year()] if self.chance(0.4) else [self.pick(MONTHS)]

    def year(self) -> str:
        return str(self.rng.integers(1990, 2030))

    def name(self, kind: str) -> str:
        """One to three syllables with a capital, and in half of the names an ending of the kind."""
        ending = self.pick(ENDINGS[kind]) if self.chance(0.5) else ""
        count = (1 if ending else 2) + int(self.chance(0.4))
        syllables = (self.pick(ONSETS) + self.pick("aeiou") + self.pick(CODAS) for _ in range(count))
        return ("".join(syllables) + ending).capitalize()

    def typed(self, word: str) -> str:
        """The word, rarely with two neighbouring letters swapped."""
        if len(word) < 4 or not word.isalpha() or not self.chance(0.03):
            return word
        i = int(self.rng.integers(1, len(word) - 1))
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.random() * len(options))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)
