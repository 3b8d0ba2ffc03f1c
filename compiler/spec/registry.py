"""Registries: what may be named in a spec. One function each; its signature declares the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from .diagnostics import Span

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Entry:
    """A registered function. Its docstring gives the summary, the arguments and an example."""

    name: str
    function: Callable[..., Any]

    @property
    def doc(self) -> str:
        return inspect.cleandoc(self.function.__doc__ or "")

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, on one line."""
        return self.doc.split("\n\n")[0].replace("\n", " ")

    @cached_property  # each step of a spec asks
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        return tuple(inspect.signature(self.function).parameters.values())

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all parameters."""
        return frozenset(p.name for p in self.parameters)


@dataclass(frozen=True, eq=False)
class Call:
    """An entry with its arguments, and where they were given; `label` is what the result is called, if not by name."""

    entry: Entry
    args: Mapping[str, Any]
    spans: Mapping[str, Span] = field(default_factory=dict)
    span: Span | None = None
    label: str = ""

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def title(self) -> str:
        return self.label or self.name

    def __call__(self, *args: Any) -> Any:
        """Call the function: positional arguments are given here, the named ones by the spec."""
        reserved = self.entry.names
        named = {name if name in reserved else name + "_": value for name, value in self.args.items()}
        return self.entry.function(*args, **named)


class Registry(Mapping[str, Entry]):
    """Names to entries. Other packages add to it through the entry-point group `trine.<noun>s`."""

    def __init__(self, noun: str, article: str = "a") -> None:
        self.noun, self.article = noun, article
        self._entries: dict[str, Entry] = {}
        self._asked = False

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def register(self, function: F) -> F:
        """Add a function under its own name (a trailing underscore dropped)."""
        return self.named(function.__name__.rstrip("_"))(function)

    def named(self, name: str) -> Callable[[F], F]:
        def add(function: F) -> F:
            self._entries[name] = Entry(name, function)
            return function

        return add

    def find(self, name: str) -> Entry | None:
        """The entry called `name`; installed packages are asked only for a name not built in."""
        if name not in self._entries:
            self._ask_packages()
        return self._entries.get(str(name))

    def _ask_packages(self) -> None:
        if self._asked:
            return
        self._asked = True
        from importlib.metadata import entry_points  # slow to import, and asked for unknown names alone

        for point in entry_points(group=f"trine.{self.noun}s"):
            self._entries.setdefault(point.name, Entry(point.name, point.load()))

    def __getitem__(self, name: str) -> Entry:
        entry = self.find(name)
        if entry is None:
            raise KeyError(name)
        return entry

    def __iter__(self) -> Iterator[str]:
        self._ask_packages()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._ask_packages()
        return len(self._entries)


LAYERS = Registry("layer")
LOSSES = Registry("loss")
OPTIMIZERS = Registry("optimizer", "an")
SCHEDULES = Registry("schedule")
AVERAGES = Registry("average", "an")
PASSES = Registry("pass")
SOURCES = Registry("source")
CLEANERS = Registry("cleaning step")
SPLITS = Registry("split")
ENCODERS = Registry("encoding", "an")
AUGMENTATIONS = Registry("augmentation", "an")
METRICS = Registry("metric")

REGISTRIES = (
    LAYERS,
    LOSSES,
    OPTIMIZERS,
    SCHEDULES,
    AVERAGES,
    PASSES,
    SOURCES,
    CLEANERS,
    SPLITS,
    ENCODERS,
    AUGMENTATIONS,
    METRICS,
)
