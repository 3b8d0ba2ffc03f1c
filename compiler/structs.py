"""`Struct`: immutable values with named fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, cast, dataclass_transform


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Struct:
    """Base of what would be `@dataclass(frozen=True)`: subclasses annotate their fields, as they would there.

    A frozen dataclass has its methods written as source and compiled, a millisecond for each class and a quarter of
    the time it takes to start. Here the methods are written once and look the fields up, which makes each value a
    little slower: the few classes with values by the thousand (`Span`, `Node`, `Type`, `Origin`) are dataclasses. The
    functions of `dataclasses` (`fields`, `replace`, `asdict`) work on both.
    """

    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    _factories: ClassVar[dict[str, Callable[[], Any]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__annotations__" not in cls.__dict__:
            return  # the fields are those of its base
        # Where there is no docstring, `dataclass` would write the signature, which takes longer than all else.
        cls.__doc__ = cls.__doc__ or cls.__name__
        dataclasses.dataclass(init=False, repr=False, eq=False)(cls)  # collects the fields and generates nothing
        declared = dataclasses.fields(cast(Any, cls))
        cls._names = tuple(f.name for f in declared)
        cls._defaults = {f.name: f.default for f in declared if f.default is not dataclasses.MISSING}
        cls._factories = {f.name: f.default_factory for f in declared if f.default_factory is not dataclasses.MISSING}

    def __init__(self, *args: Any, **named: Any) -> None:
        if len(args) == len(self._names) and not named:  # the usual case, and the quick one
            self.__dict__.update(zip(self._names, args, strict=True))
        else:
            self._set_fields(args, named)
        self.__post_init__()

    def _set_fields(self, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Set the fields that are given, and the others to their defaults."""
        given = dict(zip(self._names, args, strict=False), **named)
        if len(given) != len(args) + len(named) or not given.keys() <= set(self._names):
            raise TypeError(self._wrong(args, named))
        state = self.__dict__  # `__setattr__` refuses
        for name in self._names:
            if name in given:
                state[name] = given[name]
            elif name in self._defaults:
                state[name] = self._defaults[name]
            elif name in self._factories:
                state[name] = self._factories[name]()
            else:
                raise TypeError(f"{self.__class__.__name__}: `{name}` is missing")

    def __post_init__(self) -> None:
        """Check the fields."""

    def _wrong(self, args: tuple[Any, ...], named: dict[str, Any]) -> str:
        """Why arguments do not fit the fields."""
        name, names = self.__class__.__name__, self._names
        if len(args) > len(names):
            return f"{name}: {len(args)} arguments for {len(names)} fields"
        unknown = [key for key in named if key not in names]
        if unknown:
            return f"{name} has no field `{unknown[0]}`"
        twice = [key for key in names[: len(args)] if key in named]
        return f"{name}: `{twice[0]}` is given twice"

    def _values(self) -> tuple[Any, ...]:
        """The fields' values, in order. Not all of `__dict__`, which may hold notes such as where a value was given."""
        return tuple(map(self.__dict__.__getitem__, self._names))

    def __setattr__(self, name: str, value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.__class__, self._values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._names, self._values(), strict=True))
        return f"{self.__class__.__qualname__}({shown})"
