"""From a file to a `Spec`: overrides, `use`, params, sections. Steps are read when the graph is built."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..structs import Struct
from .diagnostics import Report, Span, SpecError, hint
from .expressions import Lost, Scope, Symbol
from .kinds import INVALID, Context, Kind, SectionKind, UnionKind, params_of, read_arguments, section_params, with_spans
from .registry import SOURCES
from .sections import Data, Model, Sections, Source
from .signatures import Signature, read_signature
from .source import Key, Node, NoSuchPlace, from_plain, read_file, read_text, scalar, with_key
from .steps import USE

MAX_USES = 100


class Spec(Struct):
    """A spec that was read: its sections, the node tree they came from, and the names in scope.

    `sizes` are the sizes that the data define and that are known (`digit.size`); those that are
    not yet known stand in `scope` as symbols.
    """

    sections: Sections
    root: Node
    path: Path
    report: Report
    scope: Scope
    inputs: Mapping[str, Signature]
    sizes: Mapping[str, int]

    @property
    def name(self) -> str:
        return self.sections.name

    @property
    def folder(self) -> Path:
        """What paths in the spec are relative to."""
        return self.path.parent

    @property
    def hash(self) -> str:
        """A digest of everything the spec says, places and comments aside."""
        text = json.dumps(self.root.plain, sort_keys=True, allow_nan=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def unknown_sizes(self) -> list[str]:
        return [name for name, value in self.scope.values.items() if isinstance(value, Symbol) and "." in name]

    def with_sizes(self, sizes: Mapping[str, int]) -> Spec:
        """The same spec with sizes that the data define."""
        return interpret(self.root, self.path, Report(dict(self.report.sources)), sizes)


def read(
    path: str | Path,
    overrides: Iterable[str] = (),
    sizes: Mapping[str, int] | None = None,
    label: str | None = None,
) -> Spec:
    """Read a spec file. `overrides` are `a.b=value` texts; `label` is what messages call the file.

    Raises `SpecError` where nothing can be made of the file. Other problems gather in the spec's
    `report`, to be told together with those of its steps: see `build`.
    """
    report = Report()
    node = read_file(Path(path), report, label=label)
    return _finish(node, Path(path), report, overrides, sizes)


def read_string(
    text: str,
    path: str | Path = "spec.yaml",
    overrides: Iterable[str] = (),
    sizes: Mapping[str, int] | None = None,
    label: str | None = None,
) -> Spec:
    """Read a spec from text, as if it stood in the file `path`; `label` is what messages call it."""
    report = Report()
    node = read_text(text, label or str(path), report)
    return _finish(node, Path(path), report, overrides, sizes)


def _finish(
    node: Node | None, path: Path, report: Report, overrides: Iterable[str], sizes: Mapping[str, int] | None
) -> Spec:
    if node is None:
        raise SpecError(report)
    for text in overrides:
        node = override(node, text, report)
    node = _expand_uses(node, path, report)
    return interpret(node, path, report, sizes or {})


def interpret(node: Node, path: Path, report: Report, sizes: Mapping[str, int]) -> Spec:
    """The spec that a node tree means; problems gather in its report."""
    if not isinstance(node.data, dict):
        report.error("E104", f"a spec is a mapping of sections, found {node}", node.span)
        raise SpecError(report)
    if "spec" not in node.data and "model" not in node.data:
        keys = ", ".join(f"`{key}`" for key in list(node.data)[:4])
        report.error(
            "E104",
            f"this is not a spec: it has neither `spec: 1` nor a `model`, only {keys or 'nothing'}",
            node.span,
        )
        raise SpecError(report)
    node = _without_lost_sections(node)
    params = _read_params(node.get("params"), report)
    inputs = _read_inputs(node, Scope(params), report)
    symbols = {f"{name}.size": sizes.get(f"{name}.size", Symbol(f"{name}.size")) for name in _field_names(node)}
    dims = {dim: Symbol(dim) for signature in inputs.values() for dim in signature.names}
    scope = Scope({**dims, **symbols, **params})
    values, spans = read_arguments(section_params(Sections), node, Context(scope, report, "a spec"), extras=True)
    if values is None:
        values = _readable(node, scope)
    sections = Sections(**values)
    object.__setattr__(sections, "spans", spans)
    _check_lengths(sections, report)
    return Spec(sections, node, path, report, scope, inputs, dict(sizes))


def _without_lost_sections(node: Node) -> Node:
    """The spec without the sections that could not be brought in from other files, to say nothing untrue of them."""
    assert isinstance(node.data, dict)
    return replace(node, data={k: v for k, v in node.data.items() if k == "model" or v.get(USE) is None})


def _readable(node: Node, scope: Scope) -> dict[str, Any]:
    """The sections that can be read although others cannot: their steps are checked all the same."""
    values: dict[str, Any] = {"model": Model(Node({}, node.span), Node(None, node.span))}
    for param in section_params(Sections):
        if found := node.get(param.name):
            value = param.kind.read(found, Context(scope, Report()))
            value = _salvaged(param.kind, found, scope) if value is INVALID else value
            if value is not INVALID:
                values[param.name] = value
    return {"spec": 1, **values}


def _salvaged(kind: Kind, node: Node, scope: Scope) -> Any:
    """What can be read of a section that has errors; what cannot is its default or `None`."""
    options = kind.kinds if isinstance(kind, UnionKind) else (kind,)
    section = next((k for k in options if isinstance(k, SectionKind)), None)
    if section is None or not isinstance(node.data, dict):
        return INVALID
    values: dict[str, Any] = {}
    for param in section.params:
        found = node.get(param.name)
        value = INVALID if found is None else param.kind.read(found, Context(scope, Report()))
        values[param.name] = (None if param.required else param.default) if value is INVALID else value
    if section.cls is Data:
        return _salvaged_data(values, node)
    spans = {str(key): node.data[key].span for key in node.keys()}
    return with_spans(section.cls(**values), spans, node.span)


def _salvaged_data(values: dict[str, Any], node: Node) -> Any:
    """Data whose fields can be checked although its source is unknown: one without options stands for it."""
    simple = [name for name, entry in SOURCES.items() if not any(p.required for p in params_of(entry))]
    if values["fields"] is None or not simple:
        return INVALID
    if values["source"] is None:
        values |= {"source": Source(simple[0], "", node.span), "options": None}
    return with_spans(Data(**values), {}, node.span)


def _check_lengths(sections: Sections, report: Report) -> None:
    train = sections.train
    if train is None:
        return
    lengths = ("epochs", "steps", "duration")
    given = [name for name in lengths if name in train.spans and getattr(train, name) is not None]
    if len(given) > 1:
        report.error(
            "E204",
            f"`{given[0]}` and `{given[1]}` both say how long to train",
            train.spans[given[1]],
            help="keep one of them",
        )
    if train.buckets and train.buckets != sorted(set(train.buckets)):
        message = f"`buckets` expects lengths in ascending order, found {train.buckets}"
        report.error("E203", message, train.spans["buckets"])
    monitor = train.early_stopping
    if monitor and not monitor.monitor.startswith("valid/"):
        span = monitor.spans.get("monitor") or train.spans["early_stopping"]
        report.error(
            "E203",
            f"`monitor` expects a number of the validation split such as `valid/loss`, found `{monitor.monitor}`",
            span,
        )


def _field_names(node: Node) -> list[str]:
    data = node.get("data")
    fields = data.get("fields") if data else None
    return list(fields.data) if fields and isinstance(fields.data, dict) else []


def _read_params(node: Node | None, report: Report) -> dict[str, Any]:
    """The values of `params`; each may use those above it."""
    values: dict[str, Any] = {}
    if node is None or node.data is None:
        return values
    if not isinstance(node.data, dict):
        report.error("E203", f"`params` expects a mapping of names to values, found {node}", node.span)
        return values
    for key in node.keys():
        value = _read_param(key, node.data[key], Scope(values), report)
        values[str(key)] = Lost(key) if value is None else value.plain
    return values


def _read_param(key: Key, node: Node, scope: Scope, report: Report) -> Node | None:
    """The value of one param, or `None` after reporting why there is none."""
    if not key.isidentifier():
        message = f"`{key}` cannot be used as `$…`: a name has letters, digits and underscores"
        report.error("E208", message, key.span)
        return None
    value = scope.resolve(node, report)
    if value is not None and (isinstance(value.data, dict) or value.data is None):
        message = f"`{key}` expects a number, text, true, false or a list, found {value}"
        report.error("E203", message, value.span)
        return None
    return value


def _read_inputs(node: Node, scope: Scope, report: Report) -> dict[str, Signature]:
    model = node.get("model")
    inputs = model.get("inputs") if model else None
    found: dict[str, Signature] = {}
    if inputs is None:
        return found
    if not isinstance(inputs.data, dict) or not inputs.data:
        report.error("E203", f"`inputs` expects a mapping of names to signatures, found {inputs}", inputs.span)
        return found
    for key in inputs.keys():
        signature = read_signature(key, inputs.data[key], scope, report)
        if signature is not None:
            found[str(key)] = signature
    return found


def override(root: Node, text: str, report: Report, flag: str = "--set") -> Node:
    """Apply one `a.b=value` that `flag` gives; the value is YAML, written as it would be in the file."""
    path, equals, value_text = text.partition("=")
    span = Span(f"{flag} {text}", 0, 0, 0)
    if not equals or not path or any(not part for part in path.split(".")):
        report.error("E110", f"`{flag}` takes `a.b=value`, found `{text}`", span)
        return root
    try:
        simple = scalar(value_text)
    except ValueError:
        simple = value_text
    value = from_plain(simple, span)
    if value_text[:1] in ("[", "{", '"', "'"):
        inner = Report()
        node = read_text(value_text, span.file, inner)
        if node is None or inner:
            report.error("E110", f"`{flag} {path}=…`: the value is not YAML", span)
            return root
        value = from_plain(node.plain, span)
    try:
        return with_key(root, path.split("."), value, span)
    except NoSuchPlace as error:
        outer = ".".join(path.split(".")[: -len(error.rest)]) or "the spec"
        report.error("E110", f"`{flag} {path}=…`: `{outer}` {error}; it has no `{error.rest[0]}`", span)
        return root


def _expand_uses(root: Node, path: Path, report: Report) -> Node:
    """Replace `use: file.yaml` in sections and in `blocks` by what those files hold."""
    if not isinstance(root.data, dict):
        return root
    uses = _Uses(report)
    data: dict[str, Node] = {key: uses.expand(root.data[key], str(key), (path,)) for key in root.keys()}
    model = data.get("model")
    if model is not None and isinstance(model.data, dict) and "blocks" in model.data:
        blocks = uses.expand(model.data["blocks"], "blocks", (path,))
        data["model"] = replace(model, data={k: blocks if k == "blocks" else model.data[k] for k in model.keys()})
    return replace(root, data=data)


@dataclass
class _Uses:
    """Reads the files that a spec uses."""

    report: Report
    count: int = 0

    def expand(self, node: Node, section: str, chain: tuple[Path, ...]) -> Node:
        """A section with what it uses in it; `use` stays where it cannot be followed."""
        use = node.get(USE)
        if use is None or not isinstance(node.data, dict):
            return node
        own: dict[str, Node] = {key: node.data[key] for key in node.keys() if key != USE}
        taken: dict[str, Node] = {}
        for name in use.data if isinstance(use.data, list) else [use]:
            found = self.section(name, section, chain)
            taken |= {USE: use} if found is None else found
        return replace(node, data={**{key: value for key, value in taken.items() if key not in own}, **own})

    def section(self, name: Node, section: str, chain: tuple[Path, ...]) -> Mapping[str, Node] | None:
        """The keys of one section of another file, or `None` after reporting why there are none."""
        path = self.path(name, chain)
        if path is None:
            return None
        root = read_file(path, self.report, name.span)
        if root is None:
            return None
        found = root.get(section) or (root.get("model") or root).get(section)
        if found is None or not isinstance(found.data, dict):
            keys = list(root.data) if isinstance(root.data, dict) else []
            help = hint(section, keys) if keys else None
            self.report.error("E111", f"`{path}` has no `{section}` to use", name.span, help=help)
            return None
        expanded = self.expand(found, section, (*chain, path))
        return {key: expanded.data[key] for key in expanded.keys()} if isinstance(expanded.data, dict) else {}

    def path(self, name: Node, chain: tuple[Path, ...]) -> Path | None:
        if not isinstance(name.data, str) or not name.data.endswith((".yaml", ".yml")) or Path(name.data).is_absolute():
            message = f"`use` names a `.yaml` file by its path from this one, found {name}"
            self.report.error("E111", message, name.span)
            return None
        path = chain[-1].parent / name.data
        places = [_resolved(known) for known in chain]
        if _resolved(path) in places:
            ring = [*chain[places.index(_resolved(path)) :], path]
            self.report.error("E111", f"files use each other: {' -> '.join(f'`{p}`' for p in ring)}", name.span)
            return None
        self.count += 1
        if self.count > MAX_USES:
            self.report.error("E111", f"the spec uses files more than {MAX_USES} times", name.span)
            return None
        return path


def _resolved(path: Path) -> str:
    """A path by which two names of one file are known as such."""
    return os.path.normpath(Path.cwd() / path)
