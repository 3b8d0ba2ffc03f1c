"""What a kind is: it reads a node into a value, describes itself in words, and gives its JSON Schema."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

from ...structs import Struct
from ..diagnostics import Report, Span
from ..expressions import Scope, Symbol
from ..source import Node, scalar

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

    # Whether a size that only the data will define is a value too.
    takes_sizes: ClassVar[bool] = False

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
        if isinstance(resolved.data, Symbol) and not self.takes_sizes:
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


def expression_or(schema: Schema) -> Schema:
    """A schema that also allows an expression in the value's place."""
    if schema.get("type") == "object" or "$ref" in schema or schema.get("type") == "string":
        return schema
    return {"anyOf": [schema, {"$ref": "#/definitions/expression"}]}
