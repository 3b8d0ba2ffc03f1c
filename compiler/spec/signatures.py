"""Inputs read like signatures: `float[1, 28, 28]`, `int[T <= 512]`, `int`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..ir import Dim, DType, Type
from ..structs import Struct
from .diagnostics import Report, suggest
from .expressions import Scope, Symbol
from .source import Key, Node

DTYPES = {"float": DType.f32, "int": DType.i64, "bool": DType.boolean}
BATCH = "N"
MAX_DIM = 2**31

# What graphs of training and generation read besides data.
RESERVED = ("lr", "step", "average", "position", "parents")

_SIGNATURE = re.compile(r"\s*(\w+)\s*(?:\[(.*)\])?\s*")
_BOUNDED = re.compile(r"([^\s<]+)\s*<=\s*(\S+)")


class Signature(Struct):
    """What an input is: its type with the batch axis first, and the bounds of its named dims."""

    type: Type
    bounds: tuple[tuple[str, int], ...]
    key: Key

    @property
    def names(self) -> list[str]:
        return [dim for dim in self.type.shape[1:] if isinstance(dim, str)]

    def exceeded(self, shape: Sequence[int]) -> str | None:
        """What an array of a shape has more of than a bound allows, in words; `None` where it is within bounds."""
        limits = dict(self.bounds)
        for dim, size in zip(self.type.shape, shape, strict=True):
            if isinstance(dim, str) and size > limits.get(dim, size):
                return f"{size} steps, {dim} is at most {limits[dim]}"
        return None


def spec_type(t: Type) -> str:
    """A type as the spec's author writes it: without the batch axis."""
    name = next((word for word, dtype in DTYPES.items() if dtype is t.dtype), t.dtype.value)
    shape = t.shape[1:] if t.shape[:1] == (BATCH,) else t.shape
    return f"{name}[{', '.join(map(str, shape))}]" if shape else name


def read_signature(key: Key, node: Node, scope: Scope, report: Report) -> Signature | None:
    """Read one input's signature; problems go to `report`."""
    match = _SIGNATURE.fullmatch(node.data) if isinstance(node.data, str) else None
    if match is None:
        report.error("E209", f"`{key}` expects a signature such as `float[1, 28, 28]`, found {node}", node.span)
        return None
    if match[1] not in DTYPES:
        known = ", ".join(f"`{word}`" for word in DTYPES)
        report.error(
            "E209",
            f"`{match[1]}` is no element type",
            node.span,
            help=suggest(match[1], DTYPES) or f"expected one of {known}",
        )
        return None
    if not key.isidentifier():
        report.error("E208", f"`{key}` cannot name an input: a name has letters, digits and underscores", key.span)
        return None
    if key in RESERVED:
        report.error(
            "E208", f"`{key}` cannot name an input: training and generation have numbers of that name", key.span
        )
        return None
    dims: list[Dim] = [BATCH]
    bounds: list[tuple[str, int]] = []
    for text in match[2].split(",") if match[2] and match[2].strip() else []:
        dim = _dim(text.strip(), node, scope, report, bounds)
        if dim is None:
            return None
        dims.append(dim)
    return Signature(Type(tuple(dims), DTYPES[match[1]]), tuple(bounds), key)


def _dim(text: str, node: Node, scope: Scope, report: Report, bounds: list[tuple[str, int]]) -> Dim | None:
    """One dim: a number, an expression, a name, or a name with a bound."""
    if (bounded := _BOUNDED.fullmatch(text)) and bounded[1].isidentifier():
        limit = _number(bounded[2], node, scope, report)
        if limit is None:
            return None
        bounds.append((bounded[1], limit))
        text = bounded[1]
    if text.isidentifier():
        if text == BATCH:
            report.error(
                "E209",
                f"`{BATCH}` is the batch axis, which is implied",
                node.span,
                help="leave it out, or choose another name",
            )
            return None
        return text
    return _number(text, node, scope, report)


def _number(text: str, node: Node, scope: Scope, report: Report) -> int | None:
    resolved = scope.resolve(Node(text, node.span), report)
    if resolved is None:
        return None
    value = resolved.data
    if isinstance(value, str) and not isinstance(value, Symbol) and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < MAX_DIM:
        report.error(
            "E209",
            f"`{text}` is no dim: expected a number of at least 1, a name, or `name <= number`",
            node.span,
        )
        return None
    return value
