"""Numbers, text, choices, and lists, mappings and unions of them."""

from __future__ import annotations

import math
from typing import Any

from ..diagnostics import Report, suggest
from ..expressions import Symbol
from ..source import Node, words
from .core import INVALID, Context, Kind, Range, Schema, expression_or


class IntKind(Kind):
    range: Range = Range()

    @property
    def words(self) -> str:
        return "a whole number" + self.range.words

    def accept(self, node: Node, context: Context) -> Any:
        value = node.data
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value not in self.range or abs(value) >= 2**63:
            return context.wrong(self, node)
        return value

    def schema(self) -> Schema:
        return {"type": "integer", **self.range.schema()}


class FloatKind(Kind):
    range: Range = Range()

    @property
    def words(self) -> str:
        return "a number" + self.range.words

    def accept(self, node: Node, context: Context) -> Any:
        value = node.data
        if isinstance(value, bool) or not isinstance(value, int | float):
            return context.wrong(self, node)
        return float(value) if math.isfinite(value) and value in self.range else context.wrong(self, node)

    def schema(self) -> Schema:
        return {"type": "number", **self.range.schema()}


class BoolKind(Kind):
    words = "true or false"

    def accept(self, node: Node, context: Context) -> Any:
        if isinstance(node.data, bool):
            return node.data
        meant = _SWITCHES.get(node.data.lower()) if isinstance(node.data, str) else None
        return context.wrong(self, node, f"write `{meant}`" if meant else None)

    def schema(self) -> Schema:
        return {"type": "boolean"}


_SWITCHES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


class NullKind(Kind):
    words = "nothing"

    def accept(self, node: Node, context: Context) -> Any:
        return None if node.data is None else context.wrong(self, node)

    def schema(self) -> Schema:
        return {"type": "null"}


class TextKind(Kind):
    words = "text"

    def accept(self, node: Node, context: Context) -> Any:
        return node.data if isinstance(node.data, str) else context.wrong(self, node)

    def schema(self) -> Schema:
        return {"type": "string"}


class Text(str):
    """A word, or a number taken as one: column names, category names."""


class WordKind(Kind):
    words = "a word or a number"

    def accept(self, node: Node, context: Context) -> Any:
        if isinstance(node.data, str | int | float) and not isinstance(node.data, bool):
            return str(node.data)
        return context.wrong(self, node)

    def schema(self) -> Schema:
        return {"type": ["string", "number"]}


class ScalarKind(Kind):
    words = "a number, text, true or false"

    def accept(self, node: Node, context: Context) -> Any:
        return context.wrong(self, node) if isinstance(node.data, list | dict) or node.data is None else node.data

    def schema(self) -> Schema:
        return {"type": ["string", "number", "boolean"]}


class ChoiceKind(Kind):
    options: tuple[Any, ...]

    @property
    def words(self) -> str:
        shown = [words(option) for option in self.options]
        return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"

    def accept(self, node: Node, context: Context) -> Any:
        for option in self.options:
            if type(option) is type(node.data) and option == node.data:
                return option
        known = [option for option in self.options if isinstance(option, str)]
        return context.wrong(self, node, suggest(node.data, known) if isinstance(node.data, str) else None)

    def schema(self) -> Schema:
        return {"enum": list(self.options)}


class SizeKind(Kind):
    """A positive number, or the name of a size that the data will define."""

    takes_sizes = True
    words = "a whole number of at least 1"

    def accept(self, node: Node, context: Context) -> Any:
        return node.data if isinstance(node.data, Symbol) else IntKind(Range(1)).accept(node, context)

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": 1}


class ListKind(Kind):
    item: Kind

    @property
    def words(self) -> str:
        return f"a list ({self.item.words} each)"

    def accept(self, node: Node, context: Context) -> Any:
        if not isinstance(node.data, list):
            return context.wrong(self, node)
        items = [self.item.read(item, context) for item in node.data]
        return INVALID if INVALID in items else items

    def schema(self) -> Schema:
        return {"type": "array", "items": expression_or(self.item.schema())}


class MapKind(Kind):
    value: Kind

    @property
    def words(self) -> str:
        return f"a mapping ({self.value.words} each)"

    def accept(self, node: Node, context: Context) -> Any:
        if not isinstance(node.data, dict):
            return context.wrong(self, node)
        values = {key: self.value.read(node.data[key], context.of(f"`{key}`")) for key in node.keys()}
        return INVALID if any(v is INVALID for v in values.values()) else values

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": expression_or(self.value.schema())}


class UnionKind(Kind):
    takes_sizes = True
    kinds: tuple[Kind, ...]

    @property
    def words(self) -> str:
        parts: list[str] = []
        for kind in self.kinds:
            if isinstance(kind, ChoiceKind):
                parts += [words(option) for option in kind.options]
            elif not isinstance(kind, NullKind):
                parts.append(kind.words)
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"

    def accept(self, node: Node, context: Context) -> Any:
        trials = []
        for kind in self.kinds:
            trial = Context(context.scope, Report(), context.owner, context.place)
            value = kind.read(node, trial)
            if value is not INVALID:
                return value
            trials.append(trial.report)
        deeper = [t for t in trials if any(d.span != node.span or d.code != "E203" for d in t.sorted())]
        if len(deeper) == 1:
            context.report.diagnostics.update(deeper[0].diagnostics)
            return INVALID
        helps = [label.text for t in trials for d in t.sorted() for label in d.labels if label.text]
        return context.wrong(self, node, next(iter(helps), None))

    def schema(self) -> Schema:
        return {"anyOf": [kind.schema() for kind in self.kinds]}


class NodeKind(Kind):
    """Taken as it stands, to be read later (steps, which bring their own scope)."""

    shape: str
    words: str = "a list of steps"

    def read(self, node: Node, context: Context) -> Any:
        return self.accept(node, context)

    def accept(self, node: Node, context: Context) -> Any:
        return node

    def schema(self) -> Schema:
        return {"$ref": f"#/definitions/{self.shape}"}
