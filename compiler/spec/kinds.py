"""What a value in a spec may be: one class per kind, made from Python annotations.

A kind reads a node into a value, describes itself in words, and gives its JSON Schema. Signatures
and section classes are the only place where arguments are declared; everything else follows.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, Literal, Union

from ..structs import Struct
from .diagnostics import Report, Span, hint, nearest, suggest
from .expressions import Scope, Symbol
from .registry import Call, Entry, Registry
from .source import Key, Node, scalar, words

Schema = dict[str, Any]


class Invalid:
    """What reading gives after it has reported an error."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID = Invalid()


class Context(Struct):
    """Where a value is being read: the names in scope, the report, and whose argument it is."""

    scope: Scope
    report: Report
    owner: str = "the spec"
    place: Span | None = None

    def of(self, owner: str, place: Span | None = None) -> Context:
        return Context(self.scope, self.report, owner, place)

    def wrong(self, kind: Kind, node: Node, help: str | None = None) -> Invalid:
        bare = _without_quotes(node)
        found = str(node) if bare is None else f"the text {node}"
        fits = bare is not None and kind.accept(bare, Context(self.scope, Report())) is not INVALID
        advice = help or ("write it without quotes" if fits else None)
        self.report.error("E203", f"{self.owner} expects {kind.words}, found {found}", node.span, help=advice)
        return INVALID


def _without_quotes(node: Node) -> Node | None:
    """What a text would be without its quotes, where that is no text."""
    if not isinstance(node.data, str) or not node.data or len(node.data) > 40:
        return None
    value = scalar(node.data)
    return None if isinstance(value, str) else Node(value, node.span)


class Kind(Struct, ABC):
    """A kind of value."""

    @property
    @abstractmethod
    def words(self) -> str:
        """The kind in words, as a message says it: `a whole number above 0`."""

    @abstractmethod
    def accept(self, node: Node, context: Context) -> Any:
        """The value of a node without expressions, or `INVALID` after reporting why not."""

    @abstractmethod
    def schema(self) -> Schema:
        """The JSON Schema of the values this kind accepts."""

    def read(self, node: Node, context: Context) -> Any:
        """The value of a node, its expression resolved, or `INVALID` after reporting why not."""
        resolved = context.scope.resolve(node, context.report)
        if resolved is None:
            return INVALID
        if isinstance(resolved.data, Symbol) and not isinstance(self, SizeKind | UnionKind):
            message = f"{context.owner} must be known before the data are read, `${resolved.data}` is not"
            context.report.error("E207", message, node.span)
            return INVALID
        return self.accept(resolved, context)


class Range(Struct):
    """Bounds of a number, for use in `Annotated`."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        if self.low is not None and (value < self.low or (self.open_low and value == self.low)):
            return False
        return self.high is None or not (value > self.high or (self.open_high and value == self.high))

    @property
    def words(self) -> str:
        if self.low is not None and self.high is not None and not (self.open_low or self.open_high):
            return f" from {self.low:g} to {self.high:g}"
        low = self.low is not None and (f"above {self.low:g}" if self.open_low else f"of at least {self.low:g}")
        high = self.high is not None and (f"below {self.high:g}" if self.open_high else f"of at most {self.high:g}")
        return "".join(f" {part}" for part in (low, low and high and "and", high) if part)

    def schema(self) -> Schema:
        names = (
            "exclusiveMinimum" if self.open_low else "minimum",
            "exclusiveMaximum" if self.open_high else "maximum",
        )
        return {name: value for name, value in zip(names, (self.low, self.high), strict=True) if value is not None}


Positive = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
PositiveFloat = Annotated[float, Range(0, open_low=True)]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1, open_high=True)]
Fraction = Annotated[float, Range(0, 1)]


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


class Param(Struct):
    """One argument: its kind, its default (`...` where it must be given) and what it means."""

    name: str
    kind: Kind
    default: Any
    doc: str = ""

    @property
    def required(self) -> bool:
        return self.default is ...


class SectionKind(Kind):
    """A mapping with a fixed set of keys: a frozen dataclass."""

    cls: type

    @property
    def words(self) -> str:
        return f"a mapping with {', '.join(f'`{p.name}`' for p in self.params[:4])}" + (
            ", …" if len(self.params) > 4 else ""
        )

    @property
    def params(self) -> list[Param]:
        return section_params(self.cls)

    def accept(self, node: Node, context: Context) -> Any:
        if not isinstance(node.data, dict):
            return context.wrong(self, node)
        values, spans = read_arguments(self.params, node, context, extras=True)
        if values is None:
            return INVALID
        return with_spans(self.cls(**values), spans, node.span)

    def schema(self) -> Schema:
        return arguments_schema(self.params, self.cls.__doc__, extras=True)


def with_spans(section: Any, spans: Mapping[str, Span], span: Span) -> Any:
    """Remember on a section where its values were given; what is absent is a default."""
    object.__setattr__(section, "spans", dict(spans))
    object.__setattr__(section, "span", span)
    return section


class CallKind(Kind):
    """A name from a registry with its arguments: `adamw` or `{adamw: {lr: 1e-3}}`.

    Where calls may be `short`, `hit_rate@10` is `{hit_rate: 10}`, and called so.
    """

    registry: Registry
    short: bool = False

    @property
    def words(self) -> str:
        return f"{self.registry.article} {self.registry.noun}, as `name` or `{{name: arguments}}`"

    def accept(self, node: Node, context: Context) -> Any:
        if isinstance(node.data, str) and self.short and "@" in node.data:
            name, _, argument = node.data.partition("@")
            if scalar(argument) is None:
                return context.wrong(self, node)
            call = self.call(Key(name, node.span), Node(scalar(argument), node.span), context)
            return replace(call, label=str(node.data)) if isinstance(call, Call) else call
        if isinstance(node.data, str):
            return self.call(Key(node.data, node.span), Node({}, node.span), context)
        if isinstance(node.data, dict) and len(node.data) == 1:
            key = next(node.keys())
            return self.call(key, node.data[key], context)
        return context.wrong(self, node)

    def call(self, name: Key, arguments: Node, context: Context) -> Any:
        entry = lookup(self.registry, name, context.report)
        return INVALID if entry is None else read_call(entry, name, arguments, context)

    def schema(self) -> Schema:
        return {"$ref": f"#/definitions/{self.registry.noun}"}


class TaggedKind(Kind):
    """A mapping whose key `tag` names an entry of a registry; its other keys are the arguments.

    Without that key it is `default`, or what is `implied` by a key that only one entry has.
    """

    registry: Registry
    tag: str
    default: str
    implied: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        return "a mapping"

    def accept(self, node: Node, context: Context) -> Any:
        if not isinstance(node.data, dict):
            return context.wrong(self, node)
        tag = node.data.get(self.tag)
        implied = (entry for key, entry in self.implied.items() if key in node.data)
        name = Key(next(implied, self.default), node.span)
        if tag is not None:
            text = WordKind().read(tag, context.of(f"`{self.tag}`"))
            if text is INVALID:
                return INVALID
            name = Key(text, tag.span)
        entry = lookup(self.registry, name, context.report)
        if entry is None:
            return INVALID
        rest = Node({key: node.data[key] for key in node.keys() if key != self.tag}, node.span)
        return read_call(entry, name, rest, context)

    def schema(self) -> Schema:
        options = []
        for entry in self.registry.values():
            schema = arguments_schema(params_of(entry), entry.summary)
            tag: Schema = {"const": entry.name}
            schema["properties"] = {self.tag: tag, **schema["properties"]}
            if entry.name not in (self.default, *self.implied.values()):
                schema["required"] = [self.tag, *schema.get("required", [])]
            options.append(schema)
        return {"anyOf": options}


class Of(Struct):
    """Marks an annotation as a call into a registry, for use in `Annotated[Call, Of(registry)]`."""

    registry: Registry
    tag: str | None = None
    default: str = ""
    short: bool = False


class As(Struct):
    """Marks an annotation with the kind to use for it."""

    kind: Kind


Size = Annotated[int, As(SizeKind())]
Word = Annotated[str, As(WordKind())]
Scalar = Annotated[Any, As(ScalarKind())]
Steps = Annotated[Node, As(NodeKind("steps"))]


def kind_of(annotation: Any) -> Kind:
    """The kind that an annotation declares."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        for extra in args[1:]:
            if isinstance(extra, As):
                return extra.kind
            if isinstance(extra, Of):
                return (
                    TaggedKind(extra.registry, extra.tag, extra.default)
                    if extra.tag
                    else CallKind(extra.registry, extra.short)
                )
            if isinstance(extra, Range):
                return IntKind(extra) if args[0] is int else FloatKind(extra)
        return kind_of(args[0])
    if origin is Literal:
        return ChoiceKind(args)
    if origin in (Union, types.UnionType):
        return UnionKind(tuple(kind_of(arg) for arg in args))
    if origin is list:
        return ListKind(kind_of(args[0]))
    if origin is dict:
        return MapKind(kind_of(args[1]))
    simple: dict[Any, Kind] = {
        int: IntKind(), float: FloatKind(), bool: BoolKind(), str: TextKind(), type(None): NullKind(),
    }  # fmt: skip
    if annotation in simple:
        return simple[annotation]
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return SectionKind(annotation)
    raise TypeError(f"no kind of spec value for the annotation {annotation!r}")


_caches: dict[str, dict[Any, list[Param]]] = {"section": {}, "entry": {}}


def section_params(cls: type) -> list[Param]:
    """The keys of a section class."""
    cache = _caches["section"]
    if cls not in cache:
        hints = typing.get_type_hints(cls, include_extras=True)
        docs = argument_docs(cls.__doc__)
        cache[cls] = [
            Param(f.name, kind_of(hints[f.name]), _default_of(f), docs.get(f.name, "")) for f in dataclasses.fields(cls)
        ]
    return cache[cls]


def _default_of(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return ... if f.default is dataclasses.MISSING else f.default


def params_of(entry: Entry) -> list[Param]:
    """The arguments of a registered function: its keyword-only parameters."""
    cache = _caches["entry"]
    if entry not in cache:
        hints = typing.get_type_hints(entry.function, include_extras=True)
        docs = argument_docs(entry.function.__doc__)
        cache[entry] = [
            Param(
                p.name.rstrip("_"),
                kind_of(hints[p.name]),
                ... if p.default is p.empty else p.default,
                docs.get(p.name.rstrip("_"), ""),
            )
            for p in entry.parameters
            if p.kind is p.KEYWORD_ONLY
        ]
    return cache[entry]


_ARGUMENT = re.compile(r"^ {0,8}(\w+): (\S.*)$")


def argument_docs(doc: str | None) -> dict[str, str]:
    """The `name: meaning` lines of a docstring; more indented lines continue one."""
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(doc or "").splitlines():
        if match := _ARGUMENT.match(line):
            name = match[1]
            found[name] = match[2]
        elif name and line.startswith("  ") and line.strip():
            found[name] += " " + line.strip()
        else:
            name = ""
    return found


def lookup(registry: Registry, name: Key, report: Report) -> Entry | None:
    """The entry called `name`, or `None` after reporting that there is none."""
    entry = registry.find(name)
    if entry is None:
        report.error("E211", f"there is no {registry.noun} `{name}`", name.span, help=hint(name, registry))
    return entry


def read_call(entry: Entry, name: Key, arguments: Node, context: Context) -> Any:
    """Arguments given as a mapping, or the first of them alone."""
    params = params_of(entry)
    node = arguments
    if node.data is None:
        node = Node({}, name.span)
    if not isinstance(node.data, dict):
        if not params:
            context.report.error("E212", f"`{name}` takes no arguments, found {node}", node.span)
            return INVALID
        node = Node({Key(params[0].name, node.span): arguments}, node.span)
    values, spans = read_arguments(params, Node(node.data, name.span), context.of(f"`{name}`"))
    return INVALID if values is None else Call(entry, values, spans, name.span)


def read_arguments(
    params: list[Param], node: Node, context: Context, extras: bool = False
) -> tuple[dict[str, Any] | None, dict[str, Span]]:
    """The values of named arguments, defaults filled in, and where they were given.

    All problems are reported; the values are `None` if there were any. With `extras`, keys that
    start with `x-` are allowed and left alone.
    """
    assert isinstance(node.data, dict)
    known = {p.name: p for p in params}
    values: dict[str, Any] = {p.name: p.default for p in params if not p.required}
    spans: dict[str, Span] = {}
    valid = True
    given = {str(key) for key in node.data}
    missing = {p.name for p in params if p.required} - given
    for key in node.keys():
        if context.report.full:
            return None, spans
        if extras and key.startswith("x-"):
            continue
        if key not in known:
            noun = "key" if extras else "argument"
            context.report.error("E214", f"{context.owner} has no {noun} `{key}`", key.span, help=hint(key, known))
            missing.discard(nearest(key, known.keys() - given) or "")
            valid = False
            continue
        owner = f"{context.owner} {'key' if extras else 'argument'} `{key}`" if not extras else f"`{key}`"
        value = known[key].kind.read(node.data[key], context.of(owner, key.span))
        valid = valid and value is not INVALID
        values[str(key)] = value
        spans[str(key)] = node.data[key].span
    for p in params:
        if p.name in missing:
            place = (context.place if extras else None) or node.span
            context.report.error("E213", f"{context.owner} needs `{p.name}`: {p.kind.words}", place, help=p.doc or None)
            valid = False
    ordered = {p.name: values[p.name] for p in params if p.name in values}
    return (ordered if valid else None), spans


def expression_or(schema: Schema) -> Schema:
    """A schema that also allows an expression in the value's place."""
    if schema.get("type") == "object" or "$ref" in schema or schema.get("type") == "string":
        return schema
    return {"anyOf": [schema, {"$ref": "#/definitions/expression"}]}


def arguments_schema(params: list[Param], doc: str | None, extras: bool = False) -> Schema:
    properties: dict[str, Schema] = {}
    for p in params:
        schema = expression_or(p.kind.schema())
        properties[p.name] = {**schema, **({"description": p.doc} if p.doc and "$ref" not in schema else {})}
    out: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if extras:
        out["patternProperties"] = {"^x-": {}}
    if doc:
        out["description"] = inspect.cleandoc(doc).split("\n\n")[0].replace("\n", " ")
    required = [p.name for p in params if p.required]
    return {**out, "required": required} if required else out
