"""YAML 1.2 core with a place for every value.

Read from parser events, so that nothing is lost and nothing is built that the spec language does
not have: no tags, no duplicate keys, no unbounded aliases, depth or size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from .diagnostics import LINE_BREAK, Report, Span

MAX_BYTES = 200_000
MAX_DEPTH = 50
MAX_NODES = 20_000
MAX_NUMBER = 40

Plain = None | bool | int | float | str | list[Any] | dict[str, Any]


class Key(str):
    """A mapping's key, with its place."""

    span: Span

    def __new__(cls, text: str, span: Span) -> Key:
        key = super().__new__(cls, text)
        key.span = span
        return key


@dataclass(frozen=True, eq=False)
class Node:
    """A YAML value with its place. `data` is a scalar, a list of nodes, or a dict of keys to nodes."""

    data: bool | int | float | str | list[Node] | dict[str, Node] | None
    span: Span

    @property
    def plain(self) -> Plain:
        """The value without places."""
        if isinstance(self.data, list):
            return [item.plain for item in self.data]
        if isinstance(self.data, dict):
            return {str(key): item.plain for key, item in self.data.items()}
        return self.data

    def keys(self) -> Iterator[Key]:
        """A mapping's keys with their places."""
        assert isinstance(self.data, dict)
        for key in self.data:
            yield key if isinstance(key, Key) else Key(key, self.span)

    def get(self, key: str) -> Node | None:
        return self.data.get(key) if isinstance(self.data, dict) else None

    def __str__(self) -> str:
        return words(self.plain)


def words(value: object) -> str:
    """A value as a message shows it, shortened where it is long."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f"`{value}`" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…`"


_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_WORDS: dict[str, bool | float | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".nan": math.nan, ".NaN": math.nan, ".NAN": math.nan,
}  # fmt: skip


def scalar(text: str) -> bool | int | float | str | None:
    """What a plain scalar means under the YAML 1.2 core schema; raises `ValueError` if too long."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > MAX_NUMBER:
            raise ValueError(text)
        digits = text.lower()
        return int(digits, 16) if "x" in digits else int(digits, 8) if "o" in digits else int(text)
    if _FLOAT.fullmatch(text):
        if len(text) > MAX_NUMBER:
            raise ValueError(text)
        return float(text)
    if match := _INFINITE.fullmatch(text):
        return -math.inf if match[1] == "-" else math.inf
    return text


def read_file(path: Path, report: Report, asked: Span | None = None, label: str | None = None) -> Node | None:
    """Read a YAML file; problems go to `report`, at `asked` where the file cannot be read at all.

    `label` is what messages call the file; its path where nothing is said.
    """
    place = asked or Span(str(path), 0, 0, 0)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            report.error("E103", f"`{path}` is {size} bytes long; a spec has at most {MAX_BYTES}", place)
            return None
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        report.error("E101", f"cannot read `{path}`: {error.strerror or error}", place)
        return None
    except UnicodeDecodeError as error:
        _not_text(path, error, report, asked)
        return None
    except ValueError as error:
        report.error("E101", f"cannot read `{path}`: {error}", place)
        return None
    return read_text(text, label or str(path), report)


def _not_text(path: Path, error: UnicodeDecodeError, report: Report, asked: Span | None) -> None:
    """Report the first byte of a file that is not UTF-8, where it stands."""
    before = error.object[: error.start].decode("utf-8-sig")
    lines = LINE_BREAK.split(before)
    report.add_source(str(path), error.object.decode("utf-8-sig", errors="replace"))
    span = asked or Span(str(path), len(lines), len(lines[-1]) + 1, 1)
    report.error("E101", f"`{path}` is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}", span)


def read_text(text: str, file: str, report: Report) -> Node | None:
    """Read YAML text; problems go to `report`, and `None` comes back where nothing can be made of it."""
    report.add_source(file, text)
    if len(text) > MAX_BYTES:
        report.error(
            "E103",
            f"the text is {len(text)} characters long; a spec has at most {MAX_BYTES}",
            Span(file, 1, 1, 1),
        )
        return None
    try:
        return _read_quickly(text, file, report) or _read_with_care(text, file, report)
    except _Stop:
        return None


# What PyYAML and libyaml take for different things, or see in different places: tabs, question marks, tags, rare ends
# of lines, marks of bytes' order and of documents, values left out within brackets, comments that touch a `|` or `>`.
_READ_DIFFERENTLY = re.compile(r"[\t?!\ufeff\x85\u2028\u2029]|^(---|\.\.\.)|[:,]\s*[],}]|[|>][-+\d]*#", re.MULTILINE)


def _read_quickly(text: str, file: str, report: Report) -> Node | None:
    """What libyaml, which is ten times as fast as PyYAML's own parser, makes of a text in which it finds no fault.

    `None` where there may be one, for PyYAML to say where and what it is. Raises `_Stop` at a limit.
    """
    if not yaml.__with_libyaml__ or _READ_DIFFERENTLY.search(text):
        return None
    found = Report()
    try:
        node = _Reader(file, found).document(yaml.parse(text, Loader=yaml.CSafeLoader))
    except _Stop:
        report.diagnostics |= found.diagnostics
        raise
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return None if found else node


def _read_with_care(text: str, file: str, report: Report) -> Node | None:
    reader = _Reader(file, report)
    try:
        return reader.document(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        reader.syntax_error(error)
    except yaml.YAMLError as error:
        lines = LINE_BREAK.split(text[: getattr(error, "position", 0)])
        character = getattr(error, "character", 0)
        message = f"the character U+{character:04X} has no place in YAML" if isinstance(character, int) else str(error)
        report.error("E102", message, Span(file, len(lines), len(lines[-1]) + 1, 1))
    except (ValueError, RecursionError) as error:
        report.error("E102", f"this is not YAML: {error}", Span(file, 1, 1, 1))
    return None


class _Stop(Exception):
    """A limit was reached: the rest of the file is not read."""


class _Reader:
    def __init__(self, file: str, report: Report) -> None:
        self.file, self.report = file, report
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.count = 0

    def document(self, events: Iterator[Any]) -> Node | None:
        self.events = events
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self.report.error("E104", "a spec is one YAML document, found a second", self.span(event))
                    return root
                root = self.node(next(events), 0)
        if root is None:
            self.report.error(
                "E104",
                "the file is empty",
                Span(self.file, 1, 1, 1),
                help="`trine init` writes a spec to start from",
            )
        return root

    def span(self, event: Any) -> Span:
        start, end = event.start_mark, event.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return Span(self.file, start.line + 1, start.column + 1, max(width, 1))

    def stop(self, code: str, message: str, span: Span) -> _Stop:
        self.report.error(code, message, span)
        return _Stop()

    def node(self, event: Any, depth: int) -> Node:
        span = self.span(event)
        if depth > MAX_DEPTH:
            raise self.stop("E103", f"values are nested more than {MAX_DEPTH} deep", span)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, span)
        before = self.count
        self.spend(1, span)
        if event.tag is not None and not (event.tag == "!" and isinstance(event, yaml.ScalarEvent)):
            self.report.error(
                "E105",
                f"tags such as `{event.tag.replace('tag:yaml.org,2002:', '!!')}` have no place in a spec",
                span,
                help="write the value itself",
            )
        if isinstance(event, yaml.ScalarEvent):
            node = self.scalar(event, span)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(span, depth)
        else:
            node = self.mapping(span, depth)
        if event.anchor:
            self.anchors[event.anchor] = (node, self.count - before)
        return node

    def spend(self, nodes: int, span: Span) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            raise self.stop(
                "E103",
                f"the file has more than {MAX_NODES} values, aliases counted where they are used",
                span,
            )

    def alias(self, event: Any, span: Span) -> Node:
        if event.anchor not in self.anchors:
            raise self.stop("E102", f"there is no anchor `&{event.anchor}` before this alias", span)
        node, size = self.anchors[event.anchor]
        self.spend(size, span)
        return node

    def scalar(self, event: Any, span: Span) -> Node:
        if event.style or not event.implicit[0]:
            return Node(self.text(event, span), span)
        try:
            return Node(scalar(event.value), span)
        except ValueError:
            self.report.error(
                "E103",
                f"a number of {len(event.value)} digits",
                span,
                help=f"numbers have at most {MAX_NUMBER}",
            )
            return Node(0, span)

    def text(self, event: Any, span: Span) -> str:
        """A quoted text. JSON writes characters beyond 16 bits as two halves, which belong together."""
        text: str = event.value
        if not any("\ud800" <= c <= "\udfff" for c in text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.report.error("E102", "half of a character stands alone in this text", span)
            return ""

    def sequence(self, span: Span, depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, depth + 1))
        return Node(items, span)

    def mapping(self, span: Span, depth: int) -> Node:
        pairs: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key_span = self.span(event)
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if isinstance(key.data, list | dict):
                self.report.error("E106", "a key is a word or a number, found " + str(key), key_span)
            elif key.data == "<<" and not getattr(event, "style", None):
                self.merge(value, merged)
            else:
                self.add(pairs, self.key_text(key, event), key_span, value)
        return Node(pairs | {k: v for k, v in merged.items() if k not in pairs}, span)

    @staticmethod
    def key_text(key: Node, event: Any) -> str:
        """A key as it is written: `1` and `true` are words here."""
        if isinstance(key.data, str):
            return key.data
        return str(event.value) if isinstance(event, yaml.ScalarEvent) else str(key.plain)

    def add(self, pairs: dict[str, Node], text: str, span: Span, value: Node) -> None:
        if text not in pairs:
            pairs[Key(text, span)] = value
            return
        first = next(key for key in pairs if key == text)
        where = first.span.place if isinstance(first, Key) else ""
        self.report.error("E107", f"the key `{text}` is given twice", span, help=f"it was first given at {where}")

    def merge(self, value: Node, merged: dict[str, Node]) -> None:
        for source in value.data if isinstance(value.data, list) else [value]:
            if not isinstance(source.data, dict):
                self.report.error("E106", f"`<<` merges mappings, found {source}", source.span)
                continue
            self.spend(len(source.data), source.span)
            for key in source.keys():
                merged.setdefault(key, source.data[key])

    def syntax_error(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or "it cannot be read").replace("\n", " ")
        if "end of stream" in problem or "stream end" in problem:
            mark, problem = error.context_mark or mark, "a bracket or quote that opens is never closed"
        span = Span(self.file, mark.line + 1, mark.column + 1, 1) if mark else Span(self.file, 1, 1, 1)
        lines = self.report.sources[self.file]
        while span.line > 1 and not "".join(lines[span.line - 1 : span.line]).strip():
            above = "".join(lines[span.line - 2 : span.line - 1]).rstrip()
            span = Span(self.file, span.line - 1, max(len(above), 1), 1)
        found = next(((text, help) for part, text, help in _PROBLEMS if part in problem), (problem, None))
        self.report.error("E102", f"this is not YAML: {found[0]}", span, help=found[1])


# What PyYAML says, what a person would say, and what to do.
_PROBLEMS: list[tuple[str, str, str | None]] = [
    ("mapping values are not", "a `:` cannot stand here", "a layer with keys beside it ends in a colon: `- relu:`"),
    ("found character '\\t'", "a tab cannot stand here", "indent with spaces"),
    (
        "expected <block end>",
        "this does not line up with what is above",
        "the items of a list begin in one column, and so do the keys of a mapping",
    ),
    ("sequence entries are not", "a list cannot begin here", "write it on the next line, or as `[a, b]`"),
    ("could not find expected ':'", "a `:` is missing after this key", None),
]


class NoSuchPlace(Exception):
    """A path leads into something that is no mapping. `rest` is what is left of the path."""

    def __init__(self, rest: list[str], reason: str) -> None:
        super().__init__(reason)
        self.rest = rest


def from_plain(value: Plain, span: Span) -> Node:
    """A node tree of plain data, all at one place."""
    if isinstance(value, list):
        return Node([from_plain(item, span) for item in value], span)
    if isinstance(value, dict):
        return Node({Key(str(key), span): from_plain(item, span) for key, item in value.items()}, span)
    return Node(value, span)


def with_key(node: Node, path: list[str], value: Node, key_span: Span) -> Node:
    """`node` with the value at `path` replaced or added; raises `NoSuchPlace` where there is none.

    A name that stands alone takes arguments under itself: `adam` becomes `{adam: {lr: …}}`.
    """
    if not path:
        return value
    data = {} if node.data is None else node.data
    if data == path[0] and len(path) > 1:
        data = {Key(path[0], node.span): Node(None, node.span)}
    if isinstance(data, list) and path[0].isdigit() and int(path[0]) < len(data):
        index = int(path[0])
        return replace(node, data=[*data[:index], with_key(data[index], path[1:], value, key_span), *data[index + 1 :]])
    if isinstance(data, list):
        raise NoSuchPlace(path, f"has {len(data)} item{'s' if len(data) != 1 else ''}, counted from 0")
    if not isinstance(data, dict):
        raise NoSuchPlace(path, f"is {words(data)}")
    inner = data.get(path[0], Node(None, key_span))
    known = next((key for key in data if key == path[0]), Key(path[0], key_span))
    return replace(node, data={**data, known: with_key(inner, path[1:], value, key_span)})
