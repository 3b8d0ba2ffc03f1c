"""Nodes and constants of an ONNX graph, collected while values are written in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto

from ...compiler.ir import Array, Dim, DType, Frozen, Graph, Item, Value
from ..source import Names

ELEMENTS = {
    DType.f64: TensorProto.DOUBLE, DType.f32: TensorProto.FLOAT, DType.f16: TensorProto.FLOAT16,
    DType.i64: TensorProto.INT64, DType.i32: TensorProto.INT32, DType.i8: TensorProto.INT8,
    DType.u8: TensorProto.UINT8, DType.boolean: TensorProto.BOOL, DType.bf16: TensorProto.BFLOAT16,
}  # fmt: skip

# What attributes of nodes are made of.
Attribute = int | float | str | Sequence[int] | Sequence[str]

# How a value is written: the name of its output, or the names of its outputs.
Write = Callable[["Emitter", Value, Sequence[str]], "str | list[str]"]


class Emitter:
    """Collects nodes and initializers while values are written in order."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order = graph.order()
        self._read = {(v.inputs[0], v.op.index) for v in self.order if isinstance(v.op, Item)}
        self.names = Names()
        self.nodes: list[NodeProto] = []
        self._makers: dict[str, NodeProto] = {}
        self.initializers: dict[str, Array] = {}
        self.written: dict[Value, str] = {}
        self.outputs: dict[Value, list[str]] = {}
        self._small: dict[tuple[str, bytes, tuple[int, ...]], str] = {}
        # By identity; the array is kept, so that no other gets its address.
        self._large: dict[int, tuple[Array, str]] = {}
        self._sizes: dict[str, str] = {}
        self._shapes: dict[tuple[Dim, ...], str] = {}

    def is_read(self, v: Value, index: int) -> bool:
        """Whether anything reads an output of a value of several."""
        return (v, index) in self._read

    def node(self, kind: str, inputs: Iterable[str], hint: str = "", **attributes: Attribute) -> str:
        """Add a node with one output; its name."""
        return self.node_of_several(kind, inputs, hint, 1, **attributes)[0]

    def node_of_several(
        self, kind: str, inputs: Iterable[str], hint: str, outputs: int, **attributes: Attribute
    ) -> list[str]:
        """Add a node with several outputs; their names. An operator outside of the standard is `domain::Kind`."""
        made = [self.names.make(hint or kind.rpartition(":")[2].lower()) for _ in range(outputs)]
        self.add(kind, list(inputs), made, attributes)
        return made

    def add(
        self, kind: str, inputs: list[str], made: list[str], attributes: Mapping[str, Attribute] | None = None
    ) -> None:
        """Add a node whose outputs have names already."""
        domain, _, operator = kind.rpartition("::")
        parts = [attribute(name, value) for name, value in sorted((attributes or {}).items())]
        node = NodeProto(op_type=operator, input=inputs, output=made, name=made[0], domain=domain, attribute=parts)
        self.nodes.append(node)
        self._makers |= dict.fromkeys(made, node)

    def second_output(self, first: str) -> str:
        """The name of the second output of a node that has been added, by that of its first."""
        node = self._makers[first]
        if len(node.output) == 1:
            node.output.append(self.names.make(first))
        return str(node.output[1])

    def call(self, names: Sequence[tuple[str, str]]) -> None:
        """Give what was written names of its own, a second one by `Identity`, as also inputs and constants."""
        new: dict[str, str] = {}
        copies: list[tuple[str, str]] = []
        for old, name in names:
            if old in self._makers and old not in new:
                new[old] = name
            else:
                copies.append((old, name))
        for node in self.nodes:
            for places in (node.input, node.output):
                for i, old in enumerate(places):
                    if old in new:
                        places[i] = new[old]
        for old, name in copies:
            self.add("Identity", [new.get(old, old)], [name])

    def live(self, names: Iterable[str]) -> tuple[list[NodeProto], dict[str, Array]]:
        """The nodes and initializers that what is called `names` is made of."""
        read = set(names)
        kept = []
        for node in reversed(self.nodes):
            if not read.isdisjoint(node.output):
                read.update(node.input)
                kept.append(node)
        return kept[::-1], {name: array for name, array in self.initializers.items() if name in read}

    def constant(self, array: Array, hint: str = "c") -> str:
        """The name of an initializer; equal small arrays share one, and so does one large array with itself."""
        if array.nbytes > Frozen.LARGE:
            if id(array) not in self._large:
                self._large[id(array)] = array, self.initializer(array, hint)
            return self._large[id(array)][1]
        key = (array.dtype.str, array.tobytes(), array.shape)
        if key not in self._small:
            self._small[key] = self.initializer(array, hint)
        return self._small[key]

    def initializer(self, array: Array, hint: str) -> str:
        """The name of a new initializer."""
        name = self.names.make(hint)
        self.initializers[name] = np.asarray(array, order="C")
        return name

    def integers(self, numbers: Iterable[int]) -> str:
        return self.constant(np.asarray(list(numbers), np.int64), "shape")

    def size(self, dim: str) -> str:
        """The size of a named dim, as a tensor [1] of int64: read off an input that has it."""
        if dim not in self._sizes:
            source = next(v for v in self.graph.inputs if dim in v.type.shape)
            axis = source.type.shape.index(dim)
            self._sizes[dim] = self.node("Shape", [self.written[source]], dim, start=axis, end=axis + 1)
        return self._sizes[dim]

    def shape(self, dims: Sequence[Dim]) -> str:
        """A shape as a tensor of int64, named dims worked out when it runs."""
        if not any(isinstance(d, str) for d in dims):
            return self.integers(cast(Sequence[int], dims))
        key = tuple(dims)
        if key not in self._shapes:
            parts = [self.size(d) if isinstance(d, str) else self.integers([d]) for d in dims]
            self._shapes[key] = self.node("Concat", parts, "shape", axis=0)
        return self._shapes[key]

    def open_shape(self, dims: Sequence[Dim]) -> str:
        """A shape for `Reshape`, which finds the size of one named dim by itself."""
        if sum(isinstance(d, str) for d in dims) > 1 or 0 in dims:
            return self.shape(dims)
        return self.integers(-1 if isinstance(d, str) else d for d in dims)


def attribute(name: str, value: Attribute) -> AttributeProto:
    """An attribute of a node: a number, a text, or several of them."""
    if isinstance(value, str):
        return AttributeProto(name=name, type=AttributeProto.STRING, s=value.encode())
    if isinstance(value, float):
        return AttributeProto(name=name, type=AttributeProto.FLOAT, f=value)
    if isinstance(value, int):
        return AttributeProto(name=name, type=AttributeProto.INT, i=value)
    if value and isinstance(value[0], str):
        texts = [text.encode() for text in cast(Sequence[str], value)]
        return AttributeProto(name=name, type=AttributeProto.STRINGS, strings=texts)
    return AttributeProto(name=name, type=AttributeProto.INTS, ints=cast(Sequence[int], value))
