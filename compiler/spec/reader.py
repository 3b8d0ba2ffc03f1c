"""From a file to a `Spec`: overrides, `use`, params, sections. Steps are read when the graph is built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .diagnostics import Report, Span, SpecError, hint
from .expressions import Scope, Symbol
from .kinds import INVALID, Context, read_arguments, section_params
from .sections import Sections
from .signatures import Signature, read_signature
from .source import Node, from_plain, read_file, read_text, scalar, with_key

MAX_USES = 32


@dataclass(frozen=True)
class Spec:
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


def read(path: str | Path, overrides: Iterable[str] = (), sizes: Mapping[str, int] | None = None) -> Spec:
    """Read a spec file. `overrides` are `a.b=value` texts.

    Raises `SpecError` where nothing can be made of the file. Other problems gather in the spec's
    `report`, to be told together with those of its steps: see `build.check`.
    """
    report = Report()
    node = read_file(Path(path), report)
    return _finish(node, Path(path), report, overrides, sizes)


def read_string(
    text: str,
    path: str | Path = "spec.yaml",
    overrides: Iterable[str] = (),
    sizes: Mapping[str, int] | None = None,
) -> Spec:
    """Read a spec from text, as if it stood in the file `path`."""
    report = Report()
    node = read_text(text, str(path), report)
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
    params = _read_params(node.get("params"), report)
    inputs = _read_inputs(node, Scope(params), report)
    symbols = {f"{name}.size": sizes.get(f"{name}.size", Symbol(f"{name}.size")) for name in _field_names(node)}
    dims = {dim: Symbol(dim) for signature in inputs.values() for dim in signature.names}
    scope = Scope({**dims, **symbols, **params})
    values, spans = read_arguments(section_params(Sections), node, Context(scope, report, "a spec"), extras=True)
    if values is None:
        values = _readable(node, scope)
    if "model" not in values:
        raise SpecError(report)
    sections = Sections(**values)
    object.__setattr__(sections, "spans", spans)
    _check_lengths(sections, report)
    return Spec(sections, node, path, report, scope, inputs, dict(sizes))


def _readable(node: Node, scope: Scope) -> dict[str, Any]:
    """The sections that can be read although others cannot: their steps are checked all the same."""
    values = {}
    for param in section_params(Sections):
        if found := node.get(param.name):
            value = param.kind.read(found, Context(scope, Report()))
            if value is not INVALID:
                values[param.name] = value
    return {"spec": 1, **values}


def _check_lengths(sections: Sections, report: Report) -> None:
    train = sections.train
    if train is None:
        return
    given = [name for name in ("epochs", "steps", "duration") if name in train.spans]
    if len(given) > 1:
        report.error(
            "E204",
            f"`{given[0]}` and `{given[1]}` both say how long to train",
            train.spans[given[1]],
            help="keep one of them",
        )
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
        if not key.isidentifier():
            report.error(
                "E208",
                f"`{key}` cannot be used as `$…`: a name has letters, digits and underscores",
                key.span,
            )
            continue
        value = Scope(values).resolve(node.data[key], report)
        if value is None:
            continue
        if isinstance(value.data, dict) or value.data is None:
            report.error("E203", f"`{key}` expects a number, text, true, false or a list, found {value}", value.span)
            continue
        values[str(key)] = value.plain
    return values


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


def override(root: Node, text: str, report: Report) -> Node:
    """Apply one `a.b=value`; the value is YAML, written as it would be in the file."""
    path, equals, value_text = text.partition("=")
    span = Span(f"--set {text}", 0, 0, 0)
    if not equals or not path or any(not part for part in path.split(".")):
        report.error("E110", f"`--set` takes `a.b=value`, found `{text}`", span)
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
            report.error("E110", f"`--set {path}=…`: the value is not YAML", span)
            return root
        value = from_plain(node.plain, span)
    try:
        return with_key(root, path.split("."), value, span)
    except KeyError as error:
        report.error("E110", f"`--set {path}=…`: there is nothing to set under `{error.args[0]}`", span)
        return root


def _expand_uses(root: Node, path: Path, report: Report) -> Node:
    """Replace `use: file.yaml` in sections and in `blocks` by what those files hold."""
    if not isinstance(root.data, dict):
        return root
    data = {key: _used(root.data[key], str(key), path.parent, report, 0) for key in root.keys()}
    model = data.get("model")
    if isinstance(model, Node) and isinstance(model.data, dict) and "blocks" in model.data:
        blocks = _used(model.data["blocks"], "blocks", path.parent, report, 0)
        data["model"] = replace(model, data={k: blocks if k == "blocks" else model.data[k] for k in model.keys()})
    return replace(root, data=data)


def _used(node: Node, section: str, folder: Path, report: Report, depth: int) -> Node:
    use = node.get("use")
    if use is None or not isinstance(node.data, dict):
        return node
    own: dict[str, Node] = {key: node.data[key] for key in node.keys() if key != "use"}
    taken: dict[str, Node] = {}
    for name in use.data if isinstance(use.data, list) else [use]:
        taken |= _section_of(name, section, folder, report, depth)
    taken = {key: value for key, value in taken.items() if key not in own}
    return replace(node, data={**taken, **own})


def _section_of(name: Node, section: str, folder: Path, report: Report, depth: int) -> dict[str, Node]:
    """The keys of one section of another file."""
    if not isinstance(name.data, str) or not name.data.endswith((".yaml", ".yml")) or Path(name.data).is_absolute():
        report.error("E111", f"`use` names a `.yaml` file by its path from this one, found {name}", name.span)
        return {}
    if depth >= MAX_USES:
        report.error(
            "E111",
            f"files use each other more than {MAX_USES} deep",
            name.span,
            help="do two of them use each other?",
        )
        return {}
    path = folder / name.data
    root = read_file(path, report, name.span)
    found = root.get(section) if root else None
    if root is not None and (found is None or not isinstance(found.data, dict)):
        keys = list(root.data) if isinstance(root.data, dict) else []
        report.error(
            "E111",
            f"`{path}` has no `{section}` to use",
            name.span,
            help=hint(section, keys) if keys else None,
        )
    if found is None or not isinstance(found.data, dict):
        return {}
    expanded = _used(found, section, path.parent, report, depth + 1)
    return {key: expanded.data[key] for key in expanded.keys()} if isinstance(expanded.data, dict) else {}
