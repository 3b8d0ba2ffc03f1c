"""Sections, and calls into registries with their arguments, as classes and signatures declare them."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, Literal, Union

from ...structs import Struct
from ..diagnostics import Report, Span, hint, nearest
from ..registry import Call, Entry, Registry
from ..source import Key, Node, scalar
from .core import INVALID, Context, Kind, Range, Schema, expression_or
from .values import (
    BoolKind,
    ChoiceKind,
    FloatKind,
    IntKind,
    ListKind,
    MapKind,
    NodeKind,
    NullKind,
    ScalarKind,
    SizeKind,
    TextKind,
    UnionKind,
    WordKind,
)


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
