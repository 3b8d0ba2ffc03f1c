"""The intermediate representation: `Type`, `Op`, `Value`, `Graph`.

A `Value` is an op applied to values. Values are immutable and hash-consed, so structurally equal
values that come from the same step are one object. Building a value runs the type rule of its op:
ill-typed graphs cannot exist.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, fields
from functools import cached_property
from typing import Any, ClassVar, Literal, cast
from weakref import ref

import numpy as np

from .origins import LOSS as LOSS

# What values are made of is part of what this module offers.
from .origins import Origin as Origin
from .origins import current
from .origins import origin as origin
from .structs import Struct
from .types import Array as Array
from .types import Dim as Dim
from .types import DType as DType
from .types import IRError as IRError
from .types import Shape as Shape
from .types import Type as Type
from .types import agree as agree
from .types import bind_dims as bind_dims
from .types import measure as measure

OPS: dict[str, type[Op]] = {}

Types = Type | tuple[Type, ...]
Grads = Sequence["Value | None"]


class Op(Struct):
    """An operation. Its fields are its attributes.

    A *primitive* defines `eval`, its meaning in NumPy. A *composite* defines `decompose`, its
    meaning in other ops. `vjp` is optional for composites: without it they are differentiated
    through their decomposition. Subclasses register themselves in `OPS` by class name.
    """

    differentiable: ClassVar[bool] = True

    _hash: ClassVar[int]  # of each op, once it was asked for

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        OPS[cls.__name__] = cls

    # Each op states its own arity: `*args: Any, **kwargs: Any` lets a subclass name its inputs.

    def type(self, *args: Any, **kwargs: Any) -> Types:
        """Check the input types and infer the output type(s); raises `IRError`."""
        raise NotImplementedError(f"{self.kind} lacks a type rule")

    def eval(self, *args: Any, **kwargs: Any) -> Array | tuple[Array, ...]:
        """The meaning in plain NumPy. For a composite: that of its decomposition."""
        types = [Type(array.shape, DType.of(array)) for array in args]
        holes = [Input(f"x{i}", t)() for i, t in enumerate(types)]
        feeds = {f"x{i}": array for i, array in enumerate(args)}
        results = evaluate(as_values(self.decompose(*holes)), feeds)
        return results[0] if isinstance(self.type(*types), Type) else tuple(results)

    def decompose(self, *args: Any, **kwargs: Any) -> Value | tuple[Value, ...]:
        """The meaning in other ops."""
        raise NotImplementedError(f"{self.kind} is a primitive")

    def vjp(self, *args: Any, **kwargs: Any) -> Grads:
        """Called with (g, y, *inputs): the inputs' gradients from the output's g; `None` for none.

        `y` is the value itself. For several outputs `g` is a tuple, with `None` where an output
        has no gradient. A gradient may have the shape of a broadcast input: autodiff sums it back.
        """
        raise NotImplementedError(f"{self.kind} has no gradient of its own")

    def flops(self, *args: Any, **kwargs: Any) -> int:
        """Called with the types (output, *inputs): floating-point operations; named dims count as one."""
        if not self.is_composite:
            return 0
        holes = [Input(f"x{i}", t)() for i, t in enumerate(args[1:])]
        return sum(v.flops for v in order(as_values(self.decompose(*holes))))

    @property
    def is_composite(self) -> bool:
        return self.__class__.decompose is not Op.decompose

    @property
    def has_vjp(self) -> bool:
        return self.__class__.vjp is not Op.vjp

    @property
    def kind(self) -> str:
        """The op's own name."""
        return self.__class__.__name__

    def __hash__(self) -> int:
        """That of its fields, computed once: every value looks its op up."""
        try:
            return self._hash
        except AttributeError:
            self.__dict__["_hash"] = super().__hash__()
            return self._hash

    def __call__(self, *inputs: Value) -> Value:
        return Value.of(self, inputs)


class Value:
    """An op applied to values. Use `Op.__call__` to make one."""

    __slots__ = ("__weakref__", "inputs", "op", "origin", "type_")
    # `match` on values reads like the tree it matches: Value(Mul(), (x, y)).
    __match_args__ = ("op", "inputs")

    op: Op
    inputs: tuple[Value, ...]
    type_: Types
    origin: Origin | None

    _interned: ClassVar[dict[_Key, _Ref]] = {}

    @classmethod
    def of(cls, op: Op, inputs: tuple[Value, ...]) -> Value:
        return cls.at(current(), op, inputs)

    @classmethod
    def at(cls, place: Origin | None, op: Op, inputs: tuple[Value, ...], types: Types | None = None) -> Value:
        """The value asked for by `place`; its types are inferred where they are not known."""
        key = (op, inputs, place)
        entry = cls._interned.get(key)
        known = None if entry is None else entry()
        if known is not None:
            return known
        return cls._new(key, op.type(*[v.type for v in inputs]) if types is None else types)

    @classmethod
    def _new(cls, key: _Key, types: Types) -> Value:
        value = object.__new__(cls)
        put = object.__setattr__  # its own refuses
        op, inputs, place = key
        put(value, "op", op)
        put(value, "inputs", inputs)
        put(value, "origin", place)
        put(value, "type_", types)
        entry = _Ref(value, _forget)
        entry.key = key
        first = cls._interned.setdefault(key, entry)()
        if first is not None:  # the value itself, or that of a thread that was quicker
            return first
        cls._interned[key] = entry
        return value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a value cannot change: {name}")

    @property
    def type(self) -> Type:
        if not isinstance(self.type_, Type):
            raise IRError(f"{self.op.kind} has {len(self.type_)} outputs: take one by Item")
        return self.type_

    @property
    def types(self) -> tuple[Type, ...]:
        return (self.type_,) if isinstance(self.type_, Type) else self.type_

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    @property
    def flops(self) -> int:
        return self.op.flops(self.type_, *(v.type_ for v in self.inputs))

    def items(self) -> tuple[Value, ...]:
        """The outputs of a multi-output value, each as a value of its own."""
        return tuple(Item(i)(self) for i in range(len(self.types)))

    def __iter__(self) -> Iterator[Value]:
        return iter(self.items())

    def _binary(self, name: str, other: Value | float, swap: bool = False) -> Value:
        operand = other if isinstance(other, Value) else constant(other, self.dtype)
        return OPS[name]()(*((operand, self) if swap else (self, operand)))

    def __add__(self, other: Value | float) -> Value:
        return self._binary("Add", other)

    def __radd__(self, other: float) -> Value:
        return self._binary("Add", other, swap=True)

    def __sub__(self, other: Value | float) -> Value:
        return self._binary("Sub", other)

    def __rsub__(self, other: float) -> Value:
        return self._binary("Sub", other, swap=True)

    def __mul__(self, other: Value | float) -> Value:
        return self._binary("Mul", other)

    def __rmul__(self, other: float) -> Value:
        return self._binary("Mul", other, swap=True)

    def __truediv__(self, other: Value | float) -> Value:
        return self._binary("Div", other)

    def __rtruediv__(self, other: float) -> Value:
        return self._binary("Div", other, swap=True)

    def __pow__(self, other: Value | float) -> Value:
        return self._binary("Pow", other)

    def __rpow__(self, other: float) -> Value:
        return self._binary("Pow", other, swap=True)

    def __matmul__(self, other: Value) -> Value:
        return self._binary("MatMul", other)

    def __neg__(self) -> Value:
        return OPS["Neg"]()(self)

    def __repr__(self) -> str:
        return f"<{self.op.kind}: {', '.join(map(str, self.types))}>"


class _Ref(ref[Value]):
    """A weak reference to a value, with what it is known by."""

    __slots__ = ("key",)

    key: _Key


_Key = tuple[Op, tuple[Value, ...], Origin | None]


def _forget(entry: _Ref) -> None:
    """Called when a value is gone: so is its place in the table, unless another has taken it."""
    if Value._interned.get(entry.key) is entry:
        del Value._interned[entry.key]


class Item(Op):
    """Output number `index` of a multi-output value."""

    index: int

    def __call__(self, *inputs: Value) -> Value:
        (source,) = inputs
        if not 0 <= self.index < len(source.types):
            raise IRError(f"Item: output {self.index} of a value that has {len(source.types)}")
        return Value.at(source.origin, self, inputs, source.types[self.index])


class Frozen:
    """An immutable array that can be an attribute: small ones compare by value, large by identity."""

    __slots__ = ("_key", "array")

    LARGE = 1024

    def __init__(self, array: Array) -> None:
        self.array = np.array(array, order="C")
        self.array.flags.writeable = False
        small = self.array.nbytes <= self.LARGE
        self._key: object = (self.array.tobytes(), self.array.dtype.str, self.array.shape) if small else id(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Frozen({self.array.dtype}{list(self.array.shape)})"


class Const(Op):
    """An array known at compile time."""

    value: Frozen

    def type(self) -> Type:
        return Type(self.value.array.shape, DType.of(self.value.array))

    def eval(self) -> Array:
        return self.value.array

    def vjp(self, g: Value, y: Value) -> Grads:
        return []


def constant(value: float | Array, dtype: DType | None = None) -> Value:
    """A `Const` value; `dtype` defaults to that of the array."""
    array = np.asarray(value)
    return Const(Frozen(array.astype(dtype.numpy) if dtype else array))()


def scalar_of(value: Value) -> float | None:
    """The number a value is known to be everywhere, or `None`."""
    if not isinstance(value.op, Const):
        return None
    array = value.op.value.array
    return array.item() if array.size == 1 else None


class Init(Struct):
    """How a parameter starts: an initialiser's name and its arguments, by name."""

    name: str
    args: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v:g}' for k, v in self.args)})"


Role = Literal["data", "param", "buffer", "random", "hyper"]


class Input(Op):
    """What a graph reads: data, a parameter, a buffer, random numbers or a hyper-parameter.

    `decay` says whether weight decay applies; `random` inputs are uniform on [0, 1).
    """

    name: str
    t: Type
    role: Role = "data"
    init: Init | None = None
    decay: bool = False

    def type(self) -> Type:
        return self.t

    def vjp(self, g: Value, y: Value) -> Grads:
        return []


def input_of(value: Value) -> Input:
    """The `Input` op of a graph's input."""
    if not isinstance(value.op, Input):
        raise IRError(f"{value!r} is not an input")
    return value.op


def as_values(result: Value | Iterable[Value]) -> tuple[Value, ...]:
    return (result,) if isinstance(result, Value) else tuple(result)


def order(roots: Iterable[Value], known: Container[Value] = ()) -> list[Value]:
    """Every value the roots need, inputs before users, each once; not beyond those in `known`."""
    done: dict[Value, None] = {}
    stack = list(roots)[::-1]
    while stack:
        value = stack[-1]
        if value in done or value in known:
            stack.pop()
            continue
        waiting = [v for v in value.inputs if v not in done and v not in known]
        if waiting:
            stack += waiting[::-1]
        else:
            done[stack.pop()] = None
    return list(done)


class Graph(Struct):
    """Named outputs, and the next value of each input that has state, as functions of inputs."""

    name: str
    inputs: tuple[Value, ...]
    outputs: Mapping[str, Value]
    updates: Mapping[str, Value] = field(default_factory=dict)

    @property
    def roots(self) -> tuple[Value, ...]:
        return (*self.outputs.values(), *self.updates.values())

    def order(self) -> list[Value]:
        """Every value that outputs and updates need, inputs before users."""
        return list(self._ordered)

    @cached_property  # passes ask again and again
    def _ordered(self) -> tuple[Value, ...]:
        return tuple(order(self.roots))

    def input(self, name: str) -> Value:
        return self._named[name]

    @cached_property
    def _named(self) -> dict[str, Value]:
        return {input_of(v).name: v for v in reversed(self.inputs)}

    def by_role(self, *roles: Role) -> list[Value]:
        return [v for v in self.inputs if input_of(v).role in roles]

    @property
    def names(self) -> frozenset[str]:
        """The named dims in use."""
        return frozenset().union(*(v.type.names for v in self.inputs))

    def with_outputs(self, outputs: Mapping[str, Value], updates: Mapping[str, Value] | None = None) -> Graph:
        return Graph(self.name, self.inputs, outputs, self.updates if updates is None else updates)

    def prune_inputs(self, keep: Container[str] = ()) -> Graph:
        """Without the inputs that nothing reads, but for those named in `keep` and state that is updated."""
        used = set(self.order())
        inputs = tuple(v for v in self.inputs if v in used or (n := input_of(v).name) in keep or n in self.updates)
        return Graph(self.name, inputs, self.outputs, self.updates)

    def verify(self) -> None:
        """Check what construction cannot: declared inputs, unique names, types of updates."""
        declared = {input_of(v).name: v for v in self.inputs}
        if len(declared) != len(self.inputs):
            raise IRError(f"graph {self.name}: two inputs share a name")
        for value in self.order():
            if isinstance(value.op, Input) and declared.get(value.op.name) is not value:
                raise IRError(f"graph {self.name}: reads {value.op.name}, which is not its input")
        for name, value in self.updates.items():
            if name not in declared:
                raise IRError(f"graph {self.name}: updates {name}, which is not its input")
            if value.type != declared[name].type:
                raise IRError(
                    f"graph {self.name}: the update of {name} is {value.type}, the input is {declared[name].type}"
                )


def evaluate(roots: Iterable[Value], feeds: Mapping[str, Array]) -> list[Array]:
    """Run values by the `eval` of their ops: the reference every backend is held to.

    Named dims take their size from the feeds. Slow and plain on purpose.
    """
    roots = list(roots)
    sizes: dict[str, int] = {}
    values = order(roots)
    for v in values:
        if isinstance(v.op, Input):
            agree(sizes, v.op.name, measure(v.op.name, v.op.t, np.shape(feeds[v.op.name])))
    results: dict[Value, Any] = {}
    for v in values:
        op = bind_op(v.op, sizes) if sizes else v.op
        if isinstance(op, Input):
            results[v] = np.asarray(feeds[op.name])
        elif isinstance(op, Item):
            results[v] = results[v.inputs[0]][op.index]
        else:
            results[v] = op.eval(*(results[i] for i in v.inputs))
    return [results[root] for root in roots]


def bind_op(op: Op, sizes: Mapping[str, int]) -> Op:
    """The op with named dims in its attributes replaced by numbers."""
    changes = {}
    for f in fields(cast(Any, op)):
        old = getattr(op, f.name)
        new = _bind_attribute(f.name, old, sizes)
        if new is not old and new != old:
            changes[f.name] = new
    if not changes:
        return op
    return type(op)(**({f.name: getattr(op, f.name) for f in fields(cast(Any, op))} | changes))


def _bind_attribute(name: str, value: Any, sizes: Mapping[str, int]) -> Any:
    if isinstance(value, Type):
        return value.bind(sizes)
    if name in ("shape", "size") and isinstance(value, tuple):
        return bind_dims(value, sizes)
    if name == "dim" and isinstance(value, str):
        return sizes.get(value, value)
    return value
