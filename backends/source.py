"""The writer of straight-line Python: names, lines, constants, and what may be forgotten when."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

import numpy as np

from ..compiler.ir import Array, Const, Dim, Input, Item, Origin, Shape, Value


class Names:
    """Identifiers that are unique, valid, and near to what they stand for."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.taken = {*reserved, *keyword.kwlist, *dir(builtins)}
        # The number that the next name of a kind is tried with: all below are taken.
        self._next: dict[str, int] = {}

    def make(self, hint: str) -> str:
        base = re.sub(r"\W", "_", hint, flags=re.ASCII) or "x"
        base = f"x{base}" if base[0].isdigit() else base
        name, n = base, self._next.get(base, 2)
        while name in self.taken:
            name, n = f"{base}_{n}", n + 1
        self._next[base] = n
        self.taken.add(name)
        return name


class Writer:
    """Collects the lines of a function body, and the constants that it reads."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.names = Names(reserved)
        self.lines: list[str] = []
        self.constants: dict[str, Array] = {}
        self.variables: dict[Value, str] = {}
        self.headings: dict[str, Origin] = {}
        self._origin: Origin | None = None
        # What is computed before the first call
        self.before: list[str] = []
        self._once: dict[str, str] = {}

    def line(self, text: str) -> None:
        self.lines.append(text)

    def once(self, text: str, hint: str, ahead: bool = False) -> str:
        """A variable for an expression that several lines take; one of constants may be computed `ahead` of the first
        call."""
        if text not in self._once:
            self._once[text] = self.names.make(hint)
            (self.before if ahead else self.lines).append(f"{self._once[text]} = {text}")
        return self._once[text]

    def heading(self, place: Origin | None) -> None:
        """A comment with the step that the next lines come from, when it changes.

        Block and file names are the author's own text: nothing in them may end the comment's line.
        """
        if place is None or place == self._origin:
            return
        self._origin = place
        where = f"  ({place.file.rsplit('/', 1)[-1]}:{place.line})" if place.line else ""
        text = "".join(c if c.isprintable() else "?" for c in f"{place.step}{where}")
        self.headings[f"# {text}"] = place
        self.lines.append(f"# {text}")

    def constant(self, array: Array, hint: str = "c") -> str:
        name = self.names.make(hint)
        self.constants[name] = array
        return name

    def argument(self, value: Value, literal: bool) -> str:
        """How a value is written as an argument; small constants as literals where that is enough."""
        if value in self.variables:
            return self.variables[value]
        assert isinstance(value.op, Const)
        array = value.op.value.array
        if array.ndim == 0:
            return literal_of(array) if literal else typed_literal(array)
        self.variables[value] = self.constant(array)
        return self.variables[value]


def literal_of(array: Array) -> str:
    """A number as Python writes it, in the fewest digits that give it back in its own type."""
    number = array.item()
    if isinstance(number, float) and not np.isfinite(number):
        return "np.nan" if number != number else "-np.inf" if number < 0 else "np.inf"
    if array.dtype == np.float32:
        return repr(float(str(array[()])))
    return repr(number)


def typed_literal(array: Array) -> str:
    name = "bool_" if array.dtype == np.bool_ else array.dtype.name
    return f"np.{name}({literal_of(array)})"


def dim_text(dim: Dim) -> str:
    return str(dim)


def shape_text(shape: Shape) -> str:
    """A shape as a tuple; named dims are variables."""
    return f"({', '.join(map(dim_text, shape))}{',' if len(shape) == 1 else ''})"


def hint_of(value: Value) -> str:
    """What to call a value's variable: its input's name, or that of its step."""
    if isinstance(value.op, Input):
        return value.op.name
    if isinstance(value.op, Item):
        return hint_of(value.inputs[0])
    return value.origin.step.rsplit(".", 1)[-1] if value.origin else "x"
