"""Sampled negatives: items that a user has not chosen, to rank below the one that was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from typing import Any, ClassVar

import numpy as np

from ....compiler.spec.kinds import NonNegative, Positive, Word
from ....compiler.spec.registry import ENCODERS
from ....compiler.structs import Struct
from ..table import Array, DataError, Rows
from .core import Derived, DerivedEncoder, Encoder, FieldError, Fitted, State

SEEN_BY = "seen_by_"
ROUNDS = 100


@ENCODERS.register
def negatives(*, sample: Word, count: Positive = 1, never: Word | None = None, power: NonNegative = 0.0) -> Encoder:
    """Ids [count] of a field drawn at random, anew for each batch: what a row does not have, to compare it with.

    The row's own id is never among them. A field with the key `sample` is of this encoding.

    sample: the field of ids to draw from.
    count: how many to draw for each row.
    never: `seen_by_user` leaves out whatever the training rows have beside the same `user` (any field of ids).
    power: 0 draws all ids alike, 1 as often as the training rows have them, 0.75 in between (Mikolov et al., 2013).
    Example: negative: {sample: item, count: 4, never: seen_by_user}
    """
    by = None if never is None else never.removeprefix(SEEN_BY)
    if by is not None and (by == never or not by.isidentifier()):
        raise FieldError(f"`never` is `{SEEN_BY}` and the name of a field, such as `seen_by_user`, found `{never}`")
    return Negatives(sample, count, by, power)


class Negatives(DerivedEncoder):
    sample: str
    count: int
    by: str | None
    power: float

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.sample,) if self.by is None else (self.sample, self.by)

    def derive(self, fields: Mapping[str, Fitted]) -> FittedNegatives:
        for name in self.needs:
            if fields[name].size is None or fields[name].padded is not None:
                raise DataError(f"negatives need fields with one id per row, and `{name}` is none: `encode: ids` is")
        size = fields[self.sample].size
        assert size is not None
        return FittedNegatives(self.sample, self.count, self.by, self.power, size)


class Seen(Struct):
    """Which items occur with each user in the training rows: `pairs` is user * items + item, ascending."""

    pairs: Rows
    items: int

    @classmethod
    def of(cls, users: Array, items: Array, count: int) -> Seen:
        return cls(np.unique(users * count + items), count)

    def has(self, users: Array, items: Array) -> Array:
        """Whether each item occurs with its user."""
        wanted = users * self.items + items
        places = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        return np.asarray(self.pairs[places] == wanted)

    def counts(self, users: Array) -> Array:
        """How many items occur with each user."""
        low, high = (np.searchsorted(self.pairs, edge * self.items) for edge in (users, users + 1))
        return np.asarray(high - low)

    def by(self, user: int) -> Array:
        """The items that occur with a user."""
        low, high = np.searchsorted(self.pairs, [user * self.items, (user + 1) * self.items])
        return self.pairs[low:high] - user * self.items


class FittedNegatives(Derived):
    """`total` items to draw from; `seen` and `chances` are known from training rows, and not saved."""

    encode: ClassVar[str] = "negatives"

    # Arrays have no equality that is true or false.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    sample: str
    count: int
    by: str | None
    power: float
    total: int
    seen: Seen | None = field(default=None, repr=False)
    chances: Array | None = field(default=None, repr=False)

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.sample,) if self.by is None else (self.sample, self.by)

    @property
    def size(self) -> int:
        return self.total

    @property
    def varies(self) -> bool:
        return True

    def knowing(self, train: Mapping[str, Array]) -> FittedNegatives:
        items = train[self.sample]
        # Without users, what is never drawn is each row's own item.
        seen = None if self.by is None else Seen.of(train[self.by], items, self.total)
        chances = None
        if self.power:
            weights = np.bincount(items, minlength=self.total).astype(np.float64) ** self.power
            chances = np.cumsum(weights) / weights.sum()
        found = replace(self, seen=seen, chances=chances)
        found._check_room(train)
        return found

    def _check_room(self, train: Mapping[str, Array]) -> None:
        """Every row has something left to draw."""
        if self.seen is None or self.by is None:
            if self.total < 2:
                raise DataError(f"the field `{self.sample}` has one id alone: there is nothing else to draw")
            return
        users = np.unique(train[self.by])
        full = users[self.seen.counts(users) >= self.total - 1]
        if len(full):
            raise DataError(
                f"{len(full)} of the ids of `{self.by}`, first {int(full[0])}, occur with all or all but one of the "
                f"{self.total} of `{self.sample}`: there is nothing left to draw for them"
            )

    def vary(self, name: str, arrays: Mapping[str, Array], rng: np.random.Generator) -> Array:
        own = np.repeat(arrays[self.sample], self.count)
        users = None if self.by is None else np.repeat(arrays[self.by], self.count)
        drawn = self._draw(rng, own.size)
        wrong = np.arange(own.size)
        for _ in range(ROUNDS):
            wrong = wrong[self._refused(drawn[wrong], own[wrong], None if users is None else users[wrong])]
            if not wrong.size:
                break
            drawn[wrong] = self._draw(rng, wrong.size)
        for i in wrong:
            drawn[i] = self._from_list(int(own[i]), None if users is None else int(users[i]), rng)
        return drawn.reshape(-1, self.count)

    def _draw(self, rng: np.random.Generator, count: int) -> Array:
        if self.chances is None:
            return np.asarray(rng.integers(0, self.total, count))
        found = np.searchsorted(self.chances, rng.random(count), side="right")
        return np.asarray(np.minimum(found, self.total - 1))

    def _refused(self, drawn: Array, own: Array, users: Array | None) -> Array:
        same: Array = drawn == own
        return same if users is None or self.seen is None else np.logical_or(same, self.seen.has(users, drawn))

    def _from_list(self, own: int, user: int | None, rng: np.random.Generator) -> int:
        """One of what is left, for a user who has seen nearly everything."""
        left = np.ones(self.total, np.bool_)
        left[own] = False
        if user is not None and self.seen is not None:
            left[self.seen.by(user)] = False
        return int(rng.choice(np.flatnonzero(left)))

    def arguments(self) -> State:
        known = asdict(replace(self, seen=None, chances=None))
        return {key: value for key, value in known.items() if key not in ("seen", "chances")}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedNegatives:
        return cls(**state)
