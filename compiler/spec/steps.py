"""Steps and blocks as they are written, before any layer is called."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from ..structs import Struct
from .diagnostics import Report, Span, hint, nearest, suggest
from .kinds import (
    BoolKind,
    FloatKind,
    IntKind,
    Kind,
    NodeKind,
    Param,
    ScalarKind,
    SizeKind,
    TextKind,
    params_of,
)
from .registry import LAYERS, LOSSES, Entry, Registry
from .source import Key, Node

USE = "use"  # stands in a mapping as long as what it names could not be read
SIBLINGS = ("from", "as", "repeat", "share")


class Step(Struct):
    """A layer's name with its arguments, and the keys beside it.

    A step is `broken` where something in it could not be read: it keeps its place and its name, so
    that no step after it is misread, and is not applied.
    """

    layer: Key
    arguments: Node
    span: Span
    inputs: tuple[Key, ...] | None = None
    name: Key | None = None
    repeat: Node | None = None
    share: Key | None = None
    extras: dict[str, Node] | None = None
    broken: bool = False

    @cached_property  # asked for more than once
    def reads(self) -> frozenset[str]:
        """The names the step reads, those of the steps nested in it included."""
        names = {str(name) for name in self.inputs or ()}
        if self.share:
            names.add(str(self.share))
        return frozenset(names.union(*map(_read_within, nested(self))))


class Block(Struct):
    """A reusable list of steps: its parameters, the names of its inputs, its steps.

    Its steps are `None` where the block could not be read.
    """

    name: Key
    params: tuple[Param, ...]
    inputs: tuple[Key, ...]
    layers: Node | None


def parse_steps(node: Node, report: Report, registry: Registry = LAYERS) -> list[Step]:
    """The steps of a list; what cannot be read is reported."""
    if not isinstance(node.data, list):
        report.error("E201", f"steps are a list, found {node}", node.span, help="write each step after a `-`")
        return []
    if not node.data:
        report.error("E201", "the list of steps is empty", node.span)
    return [parse_step(item, report, registry) for item in node.data]


def parse_step(node: Node, report: Report, registry: Registry = LAYERS, extras: tuple[str, ...] = ()) -> Step:
    """One step: `relu`, `linear: 128`, `{conv: {…}, from: x, as: y}`."""
    if isinstance(node.data, str):
        return Step(Key(node.data, node.span), Node({}, node.span), node.span)
    if not isinstance(node.data, dict):
        what = f"{registry.article} {registry.noun}'s name with its arguments"
        report.error("E201", f"a {_place(registry)} is {what}, found {node}", node.span)
        return Step(Key("", node.span), Node({}, node.span), node.span, broken=True)
    beside = (*(("from",) if registry is LOSSES else SIBLINGS), *extras)
    keys = [key for key in node.keys() if key not in beside]
    key = _layer_key(node, keys, beside, report, registry)
    inputs = _inputs(node.data.get("from"), report)
    broken = key is None or (inputs is None and "from" in node.data)
    key = key or Key("", node.span)
    arguments = node.data.get(key, Node({}, node.span))
    if inputs is None and takes_names(registry.find(key), arguments):
        inputs, arguments = _inputs(arguments, report), Node({}, arguments.span)
    return Step(
        key,
        arguments,
        key.span,
        inputs,
        _name(node.data.get("as"), "as", report) if "as" in beside else None,
        node.data.get("repeat"),
        _name(node.data.get("share"), "share", report) if "share" in beside else None,
        {name: node.data[name] for name in extras if name in node.data},
        broken,
    )


def _place(registry: Registry) -> str:
    return "loss" if registry is LOSSES else "step"


def _layer_key(node: Node, keys: list[Key], beside: tuple[str, ...], report: Report, registry: Registry) -> Key | None:
    """The key that names the layer. Other keys are reported; `None` where it is not clear which it is."""
    if not keys:
        help = f"write `- {registry.noun}: arguments`"
        report.error("E201", f"this {_place(registry)} names no {registry.noun}", node.span, help=help)
        return None
    known = [key for key in keys if registry.find(key) is not None]
    if len(known) > 1:
        listed = ", ".join(f"`{key}`" for key in known)
        message = f"a {_place(registry)} has one {registry.noun}, this one has {listed}"
        report.error("E201", message, known[1].span, help="start each with a `-` of its own")
        return None
    first = known[0] if known else next((key for key in keys if nearest(key, beside) is None), keys[0])
    for odd in (key for key in keys if key is not first):
        report.error(
            "E214", f"a {_place(registry)} has no key `{odd}`", odd.span, help=_key_help(odd, first, beside, registry)
        )
    return first


def _key_help(odd: Key, layer: Key, beside: tuple[str, ...], registry: Registry) -> str:
    """What to do with a key that does not stand beside a layer."""
    entry = registry.find(layer)
    if entry is not None and odd in {p.name for p in params_of(entry)}:
        return f"it is an argument of `{layer}`: `{layer}: {{{odd}: …}}`"
    listed = ", ".join(f"`{key}`" for key in beside)
    return suggest(odd, beside) or f"beside {registry.article} {registry.noun} stand {listed}"


def takes_names(entry: Entry | None, arguments: Node) -> bool:
    """Whether a list given as arguments is the list of inputs, as in `concat: [a, b]`."""
    if entry is None or not isinstance(arguments.data, list):
        return False
    _, high = arity(entry)
    return (high is None or high > 1) and all(isinstance(item.data, str) for item in arguments.data)


@functools.cache
def arity(entry: Entry) -> tuple[int, int | None]:
    """How many inputs a layer takes, at least and at most (`None`: any number)."""
    positional = [p for p in entry.parameters if p.kind is p.POSITIONAL_OR_KEYWORD or p.kind is p.POSITIONAL_ONLY][1:]
    required = sum(1 for p in positional if p.default is p.empty)
    if any(p.kind is p.VAR_POSITIONAL for p in entry.parameters):
        return max(required, 1), None
    return required, len(positional)


def _inputs(node: Node | None, report: Report) -> tuple[Key, ...] | None:
    if node is None:
        return None
    items = node.data if isinstance(node.data, list) else [node]
    if not items or not all(isinstance(item.data, str) for item in items):
        report.error("E203", f"`from` expects the name of a step, or a list of names, found {node}", node.span)
        return None
    return tuple(Key(str(item.data), item.span) for item in items)


def _name(node: Node | None, what: str, report: Report) -> Key | None:
    if node is None:
        return None
    if not isinstance(node.data, str) or not node.data.isidentifier():
        report.error("E208", f"`{what}` expects a name of letters, digits and underscores, found {node}", node.span)
        return None
    return Key(node.data, node.span)


@functools.cache
def _nested_names(entry: Entry) -> tuple[str, ...]:
    """The arguments of a layer that are lists of steps."""
    return tuple(p.name for p in params_of(entry) if isinstance(p.kind, NodeKind))


def nested(step: Step, registry: Registry = LAYERS) -> Iterator[Node]:
    """The lists of steps among a step's arguments."""
    entry = registry.find(step.layer)
    if entry is None:
        return
    names = _nested_names(entry)
    if isinstance(step.arguments.data, dict):
        yield from (step.arguments.data[n] for n in names if n in step.arguments.data)
    elif names and params_of(entry)[0].name == names[0]:
        yield step.arguments


_known_reads: WeakKeyDictionary[Node, frozenset[str]] = WeakKeyDictionary()  # a block's are asked for at each use


def _read_within(node: Node) -> frozenset[str]:
    """The names that a list of steps reads from outside."""
    known = _known_reads.get(node)
    if known is None:
        inner = parse_steps(node, Report())
        own = {str(s.name) for s in inner if s.name}
        known = _known_reads[node] = frozenset().union(*(each.reads - own for each in inner))
    return known


def parse_blocks(node: Node | None, report: Report) -> dict[str, Block]:
    """The blocks of a `blocks` mapping; what cannot be read is reported."""
    blocks: dict[str, Block] = {}
    if node is None or node.data is None:
        return blocks
    if not isinstance(node.data, dict):
        report.error("E203", f"`blocks` expects a mapping of names to blocks, found {node}", node.span)
        return blocks
    for key in node.keys():
        if key == USE:
            continue
        if key in LAYERS:
            report.error(
                "E221",
                f"the block `{key}` hides the layer of that name",
                key.span,
                help="choose another name",
            )
            continue
        blocks[str(key)] = _block(key, node.data[key], report)
    return blocks


def _block(key: Key, node: Node, report: Report) -> Block:
    known = ("params", "inputs", "layers")
    if not isinstance(node.data, dict):
        report.error("E203", f"the block `{key}` expects a mapping with `params` and `layers`, found {node}", node.span)
        return Block(key, (), (), None)
    for name in node.keys():
        if name not in known:
            report.error("E214", f"a block has no key `{name}`", name.span, help=hint(name, known))
    if "layers" not in node.data:
        report.error("E213", f"the block `{key}` needs `layers`: a list of steps", key.span)
    inputs = _inputs(node.data.get("inputs"), report) or ()
    params = _block_params(node.data.get("params"), report)
    return Block(key, params, inputs, node.data.get("layers"))


_TYPES: dict[str, Kind] = {
    "int": SizeKind(), "float": FloatKind(), "bool": BoolKind(), "text": TextKind(), "any": ScalarKind(),
}  # fmt: skip


_MEANT = {
    "integer": "int", "number": "float", "boolean": "bool", "str": "text", "string": "text", "size": "int",
}  # fmt: skip


def _block_params(node: Node | None, report: Report) -> tuple[Param, ...]:
    """Parameters of a block: `filters: int` must be given, `stride: 1` has a default."""
    if node is None or node.data is None:
        return ()
    if not isinstance(node.data, dict):
        report.error("E203", f"`params` expects a mapping of names to types or defaults, found {node}", node.span)
        return ()
    params = []
    for key in node.keys():
        value = node.data[key]
        if isinstance(value.data, str) and value.data in _TYPES:
            params.append(Param(str(key), _TYPES[value.data], ...))
        elif isinstance(value.data, str) and value.data in _MEANT:
            message = f"the parameter `{key}` has no type `{value.data}`"
            report.error("E203", message, value.span, help=f"did you mean `{_MEANT[value.data]}`?")
        elif isinstance(value.data, list | dict) or value.data is None:
            message = f"the parameter `{key}` expects a type or a default, found {value}"
            report.error("E203", message, value.span, help=f"types are {', '.join(f'`{t}`' for t in _TYPES)}")
        else:
            params.append(Param(str(key), _kind_of_default(value.data), value.data))
    return tuple(params)


def _kind_of_default(value: Any) -> Kind:
    if isinstance(value, str) and value.startswith("$"):
        return ScalarKind()
    kinds: dict[type, Kind] = {bool: BoolKind(), int: IntKind(), float: FloatKind()}
    return kinds.get(type(value), TextKind())
