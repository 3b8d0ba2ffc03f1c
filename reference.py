"""The reference, made from the code: what may be written in a spec, and what its errors mean."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from .backends.base import NAMES
from .compiler import ops
from .compiler.initialisers import INITIALISERS
from .compiler.ir import OPS, Op
from .compiler.layers.core import reads_of, words_of
from .compiler.spec.codes import CODES
from .compiler.spec.codes import page as code_page
from .compiler.spec.diagnostics import hint
from .compiler.spec.kinds import Param, argument_docs, params_of, section_params
from .compiler.spec.registry import REGISTRIES, Call, Entry, Registry
from .compiler.spec.sections import Checkpoint, Data, EarlyStopping, Evaluate, Model, Sections, Train
from .compiler.spec.steps import arity
from .runtime import specs

assert ops and specs  # importing them fills the registries

ALL = (*REGISTRIES, INITIALISERS)
SECTIONS: dict[str, type] = {
    "spec": Sections,
    "data": Data,
    "model": Model,
    "train": Train,
    "train.early_stopping": EarlyStopping,
    "train.checkpoint": Checkpoint,
    "evaluate": Evaluate,
}
HEADING = "<!-- Made by `trine docs --write docs/reference`: do not edit by hand. -->\n\n"


def plural(registry: Registry) -> str:
    return registry.noun + ("es" if registry.noun.endswith("s") else "s")


def index() -> str:
    """What there is to look up."""
    parts = ["`trine docs <name>` explains each of these.\n"]
    parts += [f"**{plural(registry)}**: {', '.join(registry)}\n" for registry in ALL]
    parts.append(f"**sections**: {', '.join(SECTIONS)}\n")
    parts.append(f"**zoo**: {', '.join(specs.zoo())}\n")
    parts.append(f"**error codes**: {', '.join(CODES)}\n")
    parts.append(f"**ops**: {', '.join(sorted(OPS))}")
    return "\n".join(parts)


def lookup(topic: str) -> str:
    """The page of a topic; raises `UsageError` with a suggestion where there is none."""
    found: list[str] = []
    if topic.upper() in CODES:
        found.append(code_page(topic.upper()))
    if topic in SECTIONS:
        found.append(_section(topic))
    found += [_entry(registry, registry[topic]) for registry in ALL if topic in registry]
    if topic in OPS:
        found.append(_op(OPS[topic]))
    if topic == "zoo":
        found.append("\n".join(f"- `zoo:{name}`: {_first_comment(path)}" for name, path in specs.zoo().items()))
    if not found:
        known = [*(name for registry in ALL for name in registry), *SECTIONS, *OPS, *CODES, "zoo"]
        raise specs.UsageError(f"there is nothing called `{topic}`: {hint(topic, known)}")
    return "\n\n".join(found)


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix("#").strip() for line in lines if line.startswith("#")), "")


def pages() -> dict[str, str]:
    """The reference pages by file name."""
    made = {f"{plural(r).replace(' ', '-')}.md": _registry_page(r) for r in ALL}
    made["sections.md"] = _page("Sections of a spec", (_section(name) for name in SECTIONS))
    made["errors.md"] = _page("Error codes", (code_page(code) for code in CODES))
    made["ops.md"] = _page("Ops of the graph", _op_families())
    made["support.md"] = _page("Support", [_support()])
    made["README.md"] = _page("Reference", [_contents(sorted(made))])
    return made


def _contents(names: Iterable[str]) -> str:
    return "\n".join(f"- [{name.removesuffix('.md').replace('-', ' ')}]({name})" for name in names)


def _page(title: str, parts: Iterable[str]) -> str:
    return HEADING + f"# {title}\n\n" + "\n\n".join(part.strip() for part in parts) + "\n"


def _registry_page(registry: Registry) -> str:
    return _page(plural(registry).capitalize(), (_entry(registry, registry[name]) for name in registry))


def _entry(registry: Registry, entry: Entry) -> str:
    """A registered function: what it is, what it takes, how it is written."""
    params = params_of(entry)
    parts = [f"## `{entry.name}` ({registry.noun})", _prose(entry.doc)]
    if registry.noun == "layer":
        parts.append(f"Inputs: {_inputs(entry)}.")
    if registry.noun == "loss":
        read = reads_of(entry)
        parts.append(f"Reads {words_of(read)}: {', '.join(f'`{name}`' for name in read)}.")
    if params:
        parts.append(_arguments(params))
    example = re.search(r"^Example: (.+)$", entry.doc, re.M)
    if example:
        parts.append(f"```yaml\n{_yaml_example(registry, example[1])}\n```")
    return "\n\n".join(parts)


def _yaml_example(registry: Registry, text: str) -> str:
    return f"- {text}" if registry.noun in ("layer", "metric", "cleaning step", "pass") else text


def _inputs(entry: Entry) -> str:
    low, high = arity(entry)
    if high is None:
        return f"{low} or more"
    return str(low) if low == high else f"{low} to {high}"


def _prose(doc: str) -> str:
    """A docstring without its lines on arguments and its example."""
    named = set(argument_docs(doc))
    kept, skipping = [], False
    for line in doc.splitlines():
        head = line.split(":", 1)[0]
        skipping = head in named or head == "Example" or (skipping and line.startswith("  "))
        if not skipping:
            kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _arguments(params: list[Param]) -> str:
    rows = ["| argument | takes | default | meaning |", "|---|---|---|---|"]
    rows += [f"| `{p.name}` | {_cell(p.kind.words)} | {_default(p)} | {_cell(p.doc)} |" for p in params]
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _default(p: Param) -> str:
    if p.required:
        return "required"
    if isinstance(p.default, bool):
        return f"`{str(p.default).lower()}`"
    if p.default is None or p.default == []:
        return "none"
    if isinstance(p.default, Call):
        return f"`{p.default.name}`"
    return f"`{p.default}`" if isinstance(p.default, int | float | str) or hasattr(p.default, "unit") else "see below"


def _section(name: str) -> str:
    cls = SECTIONS[name]
    doc = inspect.cleandoc(cls.__doc__ or "")
    return f"## `{name}` (section)\n\n{_prose(doc)}\n\n{_arguments(section_params(cls))}"


def _op_families() -> Iterable[str]:
    """The ops by the file they stand in."""
    families: dict[str, list[type[Op]]] = {}
    for cls in OPS.values():
        families.setdefault(cls.__module__.rsplit(".", 1)[-1], []).append(cls)
    for family in sorted(families):
        members = [cls for cls in families[family] if not cls.__subclasses__()]
        yield f"## {family}\n\n" + "\n".join(_op_row(cls) for cls in members)


def _support() -> str:
    """Each op against what defines it and which backends emit it as it is; the rest they see decomposed."""
    tables = {name: import_module(f".backends.{name}.emit", __package__).EMIT for name in NAMES}
    columns = ["op", "eval", "decompose", "vjp", *NAMES]
    rows = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name in sorted(OPS):
        cls = OPS[name]
        if cls.__subclasses__() or name in ("Const", "Input", "Item"):
            continue
        composite = cls.decompose is not Op.decompose
        marks = [not composite or cls.eval is not Op.eval, composite, cls.vjp is not Op.vjp]
        marks += [cls in tables[backend] for backend in NAMES]
        rows.append(f"| `{name}` | {' | '.join('yes' if mark else '' for mark in marks)} |")
    note = (
        "What a backend does not emit is decomposed until it does; `trine plan --backend onnx` shows it for a spec. "
        "An op without `vjp` is differentiated through its decomposition, or has no gradient."
    )
    return f"{note}\n\n" + "\n".join(rows)


def _op_row(cls: type[Op]) -> str:
    first = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return f"- `{cls.__name__}` ({_op_kind(cls)}): {first}"


def _op_kind(cls: type[Op]) -> str:
    kind = "composite" if cls.decompose is not Op.decompose else "primitive"
    if not cls.differentiable:
        return f"{kind}, no gradient"
    return kind if cls.vjp is not Op.vjp else f"{kind}, gradient through its decomposition"


def _op(cls: type[Op]) -> str:
    return f"## `{cls.__name__}` (op, {_op_kind(cls)})\n\n{inspect.cleandoc(cls.__doc__ or '')}"
