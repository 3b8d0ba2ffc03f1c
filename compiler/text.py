"""Graphs as text: print one, parse it back to the same graph.

    graph mlp {
      image = Input(name="image", t="f32[N, 4]", role="data") : f32[N, 4]
      %0 = Linear() image weight : f32[N, 2]
      return logits = %0
    }

Attributes are JSON. Large constants are printed as base64, or left out (`elide=True`) for reading.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, cast

import numpy as np

from .ir import OPS, DType, Frozen, Graph, Init, Input, IRError, Op, Type, Value, input_of, order

_SHORT = 16


def write(graph: Graph, elide: bool = False) -> str:
    """The graph as text; with `elide`, constants of more than 16 numbers show their type only."""
    names: dict[Value, str] = {v: _quoted(input_of(v).name) for v in graph.inputs}
    lines = [f"graph {_quoted(graph.name)} {{"]
    values = [*graph.inputs, *(v for v in order(graph.roots) if v not in names)]
    for value in values:
        name = names.setdefault(value, f"%{len(names) - len(graph.inputs)}")
        operands = "".join(f" {names[v]}" for v in value.inputs)
        types = ", ".join(map(str, value.types))
        types = types if isinstance(value.type_, Type) else f"({types})"
        lines.append(f"  {name} = {value.op.kind}({_attributes(value.op, elide)}){operands} : {types}")
    lines += [f"  return {_quoted(key)} = {names[v]}" for key, v in graph.outputs.items()]
    lines += [f"  update {_quoted(key)} = {names[v]}" for key, v in graph.updates.items()]
    return "\n".join([*lines, "}"]) + "\n"


_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_ROOTS = ("return", "update")


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) and name not in _ROOTS else json.dumps(name)


def _attributes(op: Op, elide: bool) -> str:
    parts = []
    for f in fields(cast(Any, op)):
        value = getattr(op, f.name)
        if value != f.default:
            parts.append(f"{f.name}={json.dumps(_encode(value, elide))}")
    return ", ".join(parts)


def _encode(value: Any, elide: bool) -> Any:
    if isinstance(value, Frozen):
        array = value.array
        if array.size <= _SHORT:
            return [DType.of(array), list(array.shape), array.reshape(-1).tolist()]
        data = "…" if elide else base64.b64encode(array.tobytes()).decode()
        return [DType.of(array), list(array.shape), data]
    if isinstance(value, Type):
        return str(value)
    if isinstance(value, Init):
        return [value.name, dict(value.args)]
    if isinstance(value, tuple):
        return [_encode(item, elide) for item in value]
    return value


def parse(text: str) -> Graph:
    """Read what `write` wrote; raises `IRError` naming the line."""
    lines = _Lines(text)
    name = lines.header()
    inputs: list[Value] = []
    outputs: dict[str, Value] = {}
    updates: dict[str, Value] = {}
    known: dict[str, Value] = {}
    for line in lines:
        if line.word in _ROOTS:
            key = _plain(line.token())
            line.expect("=")
            (outputs if line.word == "return" else updates)[key] = line.known(known, line.token())
            continue
        line.expect("=")
        value = line.value(known)
        known[line.word] = value
        if isinstance(value.op, Input):
            inputs.append(value)
    return Graph(name, tuple(inputs), outputs, updates)


def _plain(token: str) -> str:
    """The name that a token, quoted or not, stands for."""
    return cast(str, json.loads(token)) if token.startswith('"') else token


class _Lines:
    """The lines between a graph's braces."""

    def __init__(self, text: str) -> None:
        self.rows = [row for row in text.splitlines() if row.strip()]

    def header(self) -> str:
        if len(self.rows) < 2 or not self.rows[0].startswith("graph ") or self.rows[-1] != "}":
            raise IRError("not the text of a graph")
        head = _Line(1, self.rows[0].removesuffix("{"))
        return _plain(head.token())

    def __iter__(self) -> Iterator[_Line]:
        return (_Line(number, row) for number, row in enumerate(self.rows[1:-1], start=2))


class _LineError(IRError):
    """A line that cannot be read."""


class _Line:
    """One line, read from left to right."""

    _token = re.compile(r'\s*("(?:[^"\\]|\\.)*"|%\d+|[A-Za-z_][\w./-]*|.)')

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text, self.at = number, text, 0
        self.word = self.token()

    def error(self, message: str) -> _LineError:
        return _LineError(f"line {self.number}: {message}: {self.text.strip()[:100]}")

    def token(self) -> str:
        match = self._token.match(self.text, self.at)
        if match is None:
            raise self.error("the line ends early")
        self.at = match.end()
        return match[1]

    def expect(self, token: str) -> None:
        if self.token() != token:
            raise self.error(f"expected `{token}`")

    def known(self, values: Mapping[str, Value], token: str) -> Value:
        if token not in values:
            raise self.error(f"there is no value {token}")
        return values[token]

    def value(self, known: Mapping[str, Value]) -> Value:
        """The value a line makes, of the types it says."""
        try:
            op = self.op()
            value = op(*[self.known(known, operand) for operand in self.operands()])
        except _LineError:
            raise
        except (ValueError, TypeError) as error:
            raise self.error(str(error)) from error
        if self.types() != value.types:
            raise self.error(f"the types are {', '.join(map(str, value.types))}")
        return value

    def op(self) -> Op:
        kind = self.token()
        if kind not in OPS:
            raise self.error(f"there is no op {kind}")
        self.expect("(")
        attributes: dict[str, Any] = {}
        token = self.token()
        while token != ")":
            if token == ",":
                token = self.token()
            self.expect("=")
            data, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
            attributes[token] = _decode(kind, token, data)
            token = self.token()
        return OPS[kind](**attributes)

    def operands(self) -> Iterator[str]:
        while (token := self.token()) != ":":
            yield token

    def types(self) -> tuple[Type, ...]:
        found = re.findall(r"\w+\[[^\]]*\]", self.text[self.at :])
        return tuple(Type.parse(text) for text in found)


def _decode(kind: str, name: str, data: Any) -> Any:
    if kind == "Const":
        dtype, shape, numbers = data
        numpy_dtype = DType(dtype).numpy
        if isinstance(numbers, str):
            return Frozen(np.frombuffer(base64.b64decode(numbers), numpy_dtype).reshape(shape))
        return Frozen(np.asarray(numbers, numpy_dtype).reshape(shape))
    if kind == "Input" and name == "t":
        return Type.parse(data)
    if kind == "Input" and name == "init":
        return data and Init(data[0], tuple(data[1].items()))
    if name in ("dtype", "to"):
        return DType(data)
    return _tuples(data)


def _tuples(data: Any) -> Any:
    return tuple(_tuples(item) for item in data) if isinstance(data, list) else data


def same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are the same but for where their values come from."""
    return write(a) == write(b)
