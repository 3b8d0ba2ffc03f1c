"""What layers are written with: the builder, the errors they raise, what losses return."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from ..initialisers import INITIALISERS
from ..ir import Array, Dim, Init, Input, Shape, Type, Value, constant
from ..ops.elementwise import Cast, Where
from ..ops.shape import BroadcastTo, Iota, reshape
from ..spec.kinds import Of
from ..spec.registry import LAYERS, LOSSES, Call, Entry
from ..spec.signatures import spec_type
from ..spec.source import Node
from ..structs import Struct

F = TypeVar("F", bound=Callable[..., object])

layer = LAYERS.register
loss = LOSSES.register
Initialiser = Of(INITIALISERS)


class LayerError(ValueError):
    """A layer cannot do what a step asks. `argument` names the argument that is to blame, if one is."""

    def __init__(self, message: str, argument: str | None = None, help: str | None = None) -> None:
        super().__init__(message)
        self.argument, self.help = argument, help


# No array is larger: a tebibyte.
MOST_BYTES = 2**40


class Poisoned(Exception):
    """An input is missing because of an error that was already reported."""


class Decoding(Struct):
    """That a sequence is read step by step, each step seeing what the steps before it left behind.

    position: the step, a whole number from zero, as a value. dim: the name of the sequence's axis, which is one long.
    limit: for how many steps there is room.
    """

    position: Value
    dim: str
    limit: int

    def distances(self) -> Value:
        """How many steps each remembered step lies before this one, [1, 1, 1, limit]."""
        return reshape(self.position, (1, 1, 1, 1)) - Iota((1, 1, 1, self.limit), 3)()


@dataclass
class Builder:
    """Makes the parameters, buffers and random inputs of steps, named by the steps' paths.

    `masks` says for each named dim of padded sequences which steps are real: booleans [N, dim]; `limits` how large a
    named dim may be. Where `decoding` is set, the graph of one step of a sequence is made. `frozen` says of which
    parameters training never changes anything.
    """

    training: bool
    frozen: Callable[[str], bool] = lambda name: False
    inputs: dict[str, Value] = field(default_factory=dict)
    masks: dict[str, Value] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    decoding: Decoding | None = None
    updates: dict[str, Value] = field(default_factory=dict)
    path: str = ""
    shared: bool = False
    borrowed: int = 0
    walk: Callable[[Node, Value | None], Value] | None = None

    def parameter(self, name: str, shape: Shape, init: Init, decay: bool = True) -> Value:
        """A learned array `<step>.<name>`; a step that shares another's weights gets that one's."""
        return self._declare(f"{self.path}.{name}", Type(shape), "param", init, decay)

    def is_frozen(self, *names: str) -> bool:
        """Tell whether training leaves all these parameters of the step as they are."""
        return all(self.frozen(f"{self.path}.{name}") for name in names)

    def buffer(self, name: str, shape: Shape, init: Init) -> Value:
        """An array of state `<step>.<name>` that is not learned: its latest value in this graph."""
        full = f"{self.path}.{name}"
        declared = self._declare(full, Type(shape), "buffer", init, False)
        return self.updates.get(full, declared)

    def class_weights(self, label: str, shape: Shape) -> tuple[str, Value]:
        """State for how much each class of a field counts, which the data say: what it is called, and its value."""
        full = self._free(f"{label}.class_weights")
        self.inputs[full] = Input(full, Type(shape), "buffer", Init("constant", (("value", 1.0),)))()
        return full, self.inputs[full]

    def remembered(self, name: str, shape: Shape) -> tuple[str, Value]:
        """State that this step leaves to itself at the next position, zeros at first: what it is called, and its value.

        Steps that share weights have states of their own. `remember` sets what it becomes.
        """
        full = self._free(f"{self.path}.{name}")
        self.inputs[full] = Input(full, Type(shape), "buffer", Init("zeros"))()
        return full, self.inputs[full]

    def remember(self, full: str, value: Value) -> None:
        """Set what the state called `full` becomes."""
        self.updates[full] = value

    def update(self, name: str, value: Value) -> None:
        """Set what the buffer `<step>.<name>` becomes."""
        self.updates[f"{self.path}.{name}"] = value

    def random(self, shape: Shape) -> Value:
        """Numbers uniform on [0, 1), fresh in each step."""
        full = self._free(f"{self.path}.uniform")
        self.inputs[full] = Input(full, Type(shape), "random")()
        return self.inputs[full]

    def _free(self, name: str) -> str:
        """The name, or with the first number behind it that no input has."""
        full, count = name, 1
        while full in self.inputs:
            count += 1
            full = f"{name}_{count}"
        return full

    def mask(self, x: Value, axis: int = 1) -> Value | None:
        """Which numbers of x are real along an axis of padded steps, as booleans that broadcast against x.

        `None` where the axis is not padded. Padding is known by the axis's name, so that it travels with a sequence
        through all layers that keep the axis.
        """
        found = self.masks.get(str(x.shape[axis]))
        if found is None:
            return None
        return reshape(found, tuple(d if i in (0, axis) else 1 for i, d in enumerate(x.shape)))

    def stepping(self, x: Value) -> bool:
        """Whether x is a step of the sequence that is read step by step."""
        return self.decoding is not None and x.rank > 1 and x.shape[1] == self.decoding.dim

    def limit(self, dim: Dim) -> int | None:
        """How large a dim may be, where that is known."""
        if isinstance(dim, int):
            return dim
        return self.limits.get(dim, self.decoding.limit if self.decoding and dim == self.decoding.dim else None)

    def steps_of(self, x: Value) -> Value:
        """The numbers of the steps of a sequence [N, T, …], from zero: [T] of whole numbers."""
        if self.stepping(x) and self.decoding is not None:
            return BroadcastTo((self.decoding.dim,))(reshape(self.decoding.position, (1,)))
        return Iota((x.shape[1],), 0)()

    def positions(self, x: Value) -> Value:
        """`steps_of` as numbers of x's element type."""
        return Cast(x.dtype)(self.steps_of(x))

    def across_steps(self, x: Value, axis: int = 1) -> None:
        """Called by layers that take the steps of a sequence together; raises `LayerError` where there is one alone."""
        if self.decoding is not None and x.shape[axis] == self.decoding.dim:
            raise LayerError("this layer takes all steps together: a network with it cannot go on step by step")

    def steps(self, node: Node, x: Value) -> Value:
        """The value of a nested list of steps applied to x."""
        assert self.walk is not None
        return self.walk(node, x)

    def _declare(self, name: str, t: Type, role: Literal["param", "buffer"], init: Init, decay: bool) -> Value:
        known = self.inputs.get(name)
        if known is None:
            if self.shared:
                owner, _, own = name.rpartition(".")
                raise LayerError(f"`{owner}` has no `{own}` to share")
            if free := sorted(dim for dim in t.names if "." not in dim):
                raise LayerError(
                    f"`{name}` would be {spec_type(t)}, and {free[0]} differs from batch to batch: a weight needs a "
                    "number, which the input's signature can give"
                )
            if not t.names and t.nbytes() > MOST_BYTES:
                raise LayerError(
                    f"`{name}` would be {spec_type(t)}, of {t.nbytes() / MOST_BYTES:.6g} TiB, more than memory holds"
                )
            self.inputs[name] = Input(name, t, role, init, decay)()
            return self.inputs[name]
        if not self.shared:
            raise LayerError(f"two steps are called `{self.path}`", help="give one of them another name by `as`")
        if known.type != t:
            raise LayerError(f"the shared `{name}` is {spec_type(known.type)}, this step needs {spec_type(t)}")
        self.borrowed += 1
        return known


def masked(b: Builder, x: Value, axis: int = 1, fill: float = 0.0) -> Value:
    """x with `fill` at the steps of an axis that are padding, for a layer that takes steps together."""
    need_floats(x)
    b.across_steps(x, axis)
    mask = b.mask(x, axis)
    return x if mask is None else Where()(mask, x, constant(fill, x.dtype))


def initial(init: Call | None, default: str, **args: float) -> Init:
    """The initialiser a step asks for, or a layer's default."""
    if init is None:
        return Init(default, tuple(args.items()))
    return Init(init.name, tuple((k, float(v)) for k, v in init.args.items()))


def features(x: Value, axis: int = -1) -> int | str:
    """The size of an axis that a layer's weights are made for."""
    if x.rank < 2:
        raise LayerError(
            f"the input is {spec_type(x.type)}: it has no axis of features",
            help="an `embedding` turns ids into features",
        )
    return x.shape[axis]


def need_floats(x: Value) -> None:
    if not x.dtype.floating:
        raise LayerError(
            f"the input is {spec_type(x.type)}, expected floating-point numbers",
            help="an `embedding` turns ids into features",
        )


class Loss(Struct):
    """What a loss function returns.

    values: one number per sample, [N]; weights: how much each sample counts, [N], or equally.
    prediction: what a user of the model wants to see. task: what kind of numbers those are; `ranking` for a
    score of a row, which is to be above others; `text` for the classes of frames that spell the target; `nothing`
    for a loss that predicts nothing.
    target: what the prediction is compared with, where that is not the field itself.
    class_weights: the state that says how much each class counts, and what the spec says of it.
    """

    values: Value
    prediction: Value | None = None
    task: Literal["classes", "labels", "values", "ranking", "text", "nothing"] = "nothing"
    weights: Value | None = None
    target: Value | None = None
    class_weights: tuple[str, Mapping[str, float] | str] | None = None


@dataclass
class Target:
    """What a loss compares with: a field of the data, or a value of the network."""

    name: str
    known: Value | None
    builder: Builder

    def of(self, t: Type) -> Value:
        """The target as a value of type `t`; raises `LayerError` where it is another."""
        if self.known is None:
            self.known = self.builder.inputs.setdefault(self.name, Input(self.name, t)())
        if self.known.type != t:
            raise LayerError(f"`{self.name}` is {spec_type(self.known.type)}, expected {spec_type(t)}")
        return self.known


class Takes(Struct):
    """The numbers that a loss takes for its target; as `Annotated[Target, Takes(0, 1)]`."""

    low: float | None = None
    high: float | None = None
    only: tuple[float, ...] = ()

    def odd(self, numbers: Array) -> Array:
        """Mark the numbers that it does not take."""
        if self.only:
            return ~np.isin(numbers, self.only)
        below = numbers < self.low if self.low is not None else np.zeros(numbers.shape, np.bool_)
        return below | (numbers > self.high) if self.high is not None else below

    def __str__(self) -> str:
        if self.only:
            return " and ".join(f"{number:g}" for number in self.only)
        return (
            f"numbers from {self.low:g} to {self.high:g}"
            if self.high is not None
            else f"numbers of at least {self.low:g}"
        )


def takes_of(entry: Entry) -> Takes | None:
    """The numbers that a loss takes for its target, where not all are fine."""
    hints = typing.get_type_hints(entry.function, include_extras=True).values()
    return next((each for hint in hints for each in typing.get_args(hint)[1:] if isinstance(each, Takes)), None)


def reads_of(entry: Entry) -> dict[str, bool]:
    """What a loss reads, by name and in order: whether each is a field of the data; else it is a step."""
    hints = typing.get_type_hints(entry.function)
    positional = [p for p in entry.parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return {p.name: hints.get(p.name) is Target for p in positional[1:]}


def words_of(reads: Mapping[str, bool]) -> str:
    """What a loss reads, in words: `a step and a field of the data`."""
    fields = sum(reads.values())
    steps = len(reads) - fields
    parts = [f"{steps} steps" if steps > 1 else "a step"] if steps else []
    parts += [f"{fields} fields of the data" if fields > 1 else "a field of the data"] if fields else []
    return " and ".join(parts)
