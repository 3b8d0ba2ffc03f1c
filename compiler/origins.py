"""Where values come from."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Where a value was asked for: the step's path in the spec, and its place in the file."""

    step: str
    file: str = ""
    line: int = 0


# The step that losses come from. No step of a network can be called so.
LOSS = "train.loss"

_current: ContextVar[Origin | None] = ContextVar("origin", default=None)


class origin:
    """Values built inside are marked with `place`. A class: a generator is slow to enter and to leave."""

    __slots__ = ("place", "token")

    def __init__(self, place: Origin | None) -> None:
        self.place = place

    def __enter__(self) -> None:
        self.token = _current.set(self.place)

    def __exit__(self, *_: object) -> None:
        _current.reset(self.token)


def current() -> Origin | None:
    """What asks for the values that are being built."""
    return _current.get()
