"""`$name` and `$(2 * width)`: pure arithmetic over named values, parsed and never executed."""

from __future__ import annotations

import ast
import math
import operator
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from dataclasses import field

from ..structs import Struct
from .diagnostics import Report, hint
from .source import Node, from_plain, words

MAX_LENGTH = 200
MAX_SIZE = 10**12
ALLOWED = "only numbers, names, + - * / // % ** and min, max, round, ceil, floor, sqrt are arithmetic"

_SIGNS = frozenset(".+-*/%(),")
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min, "max": max, "round": round, "ceil": math.ceil, "floor": math.floor, "sqrt": math.sqrt,
}  # fmt: skip


class Symbol(str):
    """A size that only the data define, before they are at hand: it acts as a named dim."""


class Lost(Symbol):
    """Stands for a value that could not be read: the error was reported where the value is given."""


Number = int | float
Scalar = None | bool | Number | str


class Scope(Struct):
    """The names an expression may use, and what they stand for."""

    values: Mapping[str, Scalar] = field(default_factory=dict)

    def extended(self, values: Mapping[str, Scalar]) -> Scope:
        return Scope({**self.values, **values})

    def resolve(self, node: Node, report: Report) -> Node | None:
        """The node with its expression, if it is one, replaced by its value; `None` after an error."""
        text = node.data
        if not isinstance(text, str) or not text.startswith("$"):
            return node
        if text.startswith("$$"):
            return Node(text[1:], node.span)
        try:
            return from_plain(self.evaluate(text), node.span)
        except _Lost:
            return None
        except _Unknown as error:
            help = hint(error.name, self.values) if self.values else f"`params: {{{error.name}: …}}` defines it"
            report.error("E205", f"`{error.name}` is not defined here", node.span, help=help)
        except _Bad as error:
            shown = text if len(text) <= 60 else text[:59] + "…"
            report.error("E206", f"`{shown}`: {error}", node.span)
        return None

    def evaluate(self, text: str) -> Scalar:
        if _is_name(text[1:]):
            return self.lookup(text[1:])
        if not (text.startswith("$(") and text.endswith(")")):
            raise _Bad("an expression is `$name` or `$(arithmetic)`; a text that starts with a dollar is written `$$…`")
        if len(text) > MAX_LENGTH:
            raise _Bad(f"an expression has at most {MAX_LENGTH} characters")
        return self.arithmetic(_parse(text[2:-1].strip()))

    def lookup(self, name: str) -> Scalar:
        if name not in self.values:
            # Python's parser, which reads arithmetic, writes some letters otherwise (Unicode NFKC).
            alike = [known for known in self.values if unicodedata.normalize("NFKC", known) == name]
            if not alike:
                raise _Unknown(name)
            name = alike[0]
        if isinstance(value := self.values[name], Lost):
            raise _Lost
        return value

    def arithmetic(self, tree: ast.expr) -> Scalar:
        match tree:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return _bounded(value)
            case ast.Name(id=name):
                return self.lookup(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                return self.lookup(f"{name}.{attribute}")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.number(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.number(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _apply(op, self.number(left), self.number(right))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                return _call(name, [self.number(arg) for arg in args])
        raise _Bad(ALLOWED)

    def number(self, tree: ast.expr) -> Number:
        value = self.arithmetic(tree)
        if isinstance(value, Symbol):
            raise _Bad(f"`{value}` is known only once the data are read")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Bad(f"{words(value)} is not a number")
        return value


class _Unknown(Exception):
    def __init__(self, name: str) -> None:
        self.name = name


class _Bad(Exception):
    pass


class _Lost(Exception):
    pass


def _is_name(text: str) -> bool:
    """Tell whether a text is a name, in any script, such as `класс.size`; the name of a parameter may have dashes."""
    first, *rest = text.split(".")
    return first.replace("-", "_").isidentifier() and first[:1] != "-" and all(part.isidentifier() for part in rest)


def _parse(text: str) -> ast.expr:
    """The tree of an expression; nothing in it is ever executed."""
    if not all(c in _SIGNS or c.isspace() or f"a{c}".isidentifier() for c in text):
        raise _Bad(ALLOWED)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _Bad("this is not arithmetic") from error


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and abs(value) > MAX_SIZE:
        raise _Bad(f"numbers are at most {MAX_SIZE:.0e}")
    return value


def _apply(op: ast.operator, left: Number, right: Number) -> Number:
    """Arithmetic in which a division without remainder stays whole."""
    if isinstance(op, ast.Pow) and (abs(right) > 64 or abs(left) > MAX_SIZE):
        raise _Bad("the power is too large")
    try:
        if isinstance(op, ast.Div) and isinstance(left, int) and isinstance(right, int) and left % right == 0:
            return left // right
        result = _OPERATORS[type(op)](left, right)
    except ZeroDivisionError:
        raise _Bad("division by zero") from None
    except OverflowError:
        raise _Bad("the result is too large") from None
    if isinstance(result, complex):
        raise _Bad("the result is not a real number")
    return _bounded(result)


def _call(name: str, args: list[Number]) -> Number:
    try:
        return _bounded(_FUNCTIONS[name](*args))
    except TypeError:
        raise _Bad(f"`{name}` does not take {len(args)} numbers") from None
    except ValueError:
        raise _Bad("the result is not a real number") from None
    except OverflowError:
        raise _Bad("the result is too large") from None
