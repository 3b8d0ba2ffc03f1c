"""Recurrent layers. Sequences are [T, features]; padded steps leave the state as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..ir import DType, Init, Value, constant
from ..ops import recurrent as ops
from ..ops.elementwise import Equal, Where
from ..ops.linalg import Gather
from ..ops.norm import Dropout
from ..ops.shape import Concat, reshape
from ..spec.kinds import Positive, Share
from ..spec.signatures import spec_type
from .core import Builder, LayerError, layer, need_floats

Returns = Literal["sequence", "last"]

# One direction of one layer: its input, the start of its parameters' names, its first states, whether it runs in
# reverse; its output and its last states.
Direction = Callable[[Value, str, list[Value], bool], tuple[Value, ...]]


@layer
def lstm(
    b: Builder,
    x: Value,
    h: Value | None = None,
    c: Value | None = None,
    *,
    units: Positive,
    layers: Positive = 1,
    bidirectional: bool = False,
    dropout: Share = 0.0,
    returns: Literal["sequence", "last", "cell"] = "sequence",
) -> Value:
    """Long short-term memory (Hochreiter & Schmidhuber, 1997): [T, features] becomes [T, units].

    Inputs after the first are the first state and cell: [units], or [layers * directions, units]; zeros where nothing
    is said. Parameters of each layer k: `layer_k.weight` [4 units, features], `layer_k.recurrent` [4 units, units],
    `layer_k.bias` [4 units], gates in the order input, forget, cell, output; those of the reverse direction are in
    `layer_k.reverse`. Both directions together give 2 * units.

    units: the size of the state.
    layers: how many layers are stacked.
    bidirectional: whether each layer also reads the sequence from its end, as a second half of its output.
    dropout: the share of numbers zeroed between layers, in training.
    returns: the output of every step, or the state of the last layer after the last real step: `last` the output,
        `cell` the cell. The reverse direction begins at the last real step and ends at the first.
    Example: lstm: {units: 64, bidirectional: true}
    """

    def direction(x: Value, name: str, first: list[Value], reverse: bool) -> tuple[Value, ...]:
        weights = _weights(b, name, x, units, 4)
        return ops.Lstm(reverse)(x, *weights, *first, *_mask(b, x)).items()

    y, states = _stack(b, x, [h, c], units, layers, bidirectional, dropout, direction)
    return y if returns == "sequence" else states[0 if returns == "last" else 1]


@layer
def gru(
    b: Builder,
    x: Value,
    h: Value | None = None,
    *,
    units: Positive,
    layers: Positive = 1,
    bidirectional: bool = False,
    dropout: Share = 0.0,
    returns: Returns = "sequence",
) -> Value:
    """Gated recurrent units (Cho et al., 2014): [T, features] becomes [T, units].

    A second input is the first state: [units], or [layers * directions, units]; zeros where nothing is said.
    Parameters of each layer k: `layer_k.weight` [3 units, features], `layer_k.recurrent` [3 units, units],
    `layer_k.bias` [3 units], gates in the order reset, update, new, and `layer_k.recurrent_bias` [units], which is
    added before the reset gate applies; those of the reverse direction are in `layer_k.reverse`.

    units: the size of the state.
    layers: how many layers are stacked.
    bidirectional: whether each layer also reads the sequence from its end, as a second half of its output.
    dropout: the share of numbers zeroed between layers, in training.
    returns: the output of every step, or that of the last layer after the last real step.
    Example: gru: {units: 64, returns: last}
    """

    def direction(x: Value, name: str, first: list[Value], reverse: bool) -> tuple[Value, ...]:
        weights = _weights(b, name, x, units, 3)
        inner = b.parameter(f"{name}.recurrent_bias", (units,), _init(units), decay=False)
        return ops.Gru(reverse)(x, *weights, inner, *first, *_mask(b, x)).items()

    y, states = _stack(b, x, [h], units, layers, bidirectional, dropout, direction)
    return y if returns == "sequence" else states[0]


@layer
def rnn(
    b: Builder,
    x: Value,
    h: Value | None = None,
    *,
    units: Positive,
    activation: Literal["tanh", "relu"] = "tanh",
    layers: Positive = 1,
    bidirectional: bool = False,
    dropout: Share = 0.0,
    returns: Returns = "sequence",
) -> Value:
    """A plain recurrent layer (Elman, 1990): [T, features] becomes [T, units].

    A second input is the first state: [units], or [layers * directions, units]; zeros where nothing is said.
    Parameters of each layer k: `layer_k.weight` [units, features], `layer_k.recurrent` [units, units] and
    `layer_k.bias` [units]; those of the reverse direction are in `layer_k.reverse`.

    units: the size of the state.
    activation: what the sum of input and state goes through.
    layers: how many layers are stacked.
    bidirectional: whether each layer also reads the sequence from its end, as a second half of its output.
    dropout: the share of numbers zeroed between layers, in training.
    returns: the output of every step, or that of the last layer after the last real step.
    Example: rnn: 32
    """

    def direction(x: Value, name: str, first: list[Value], reverse: bool) -> tuple[Value, ...]:
        weights = _weights(b, name, x, units, 1)
        return ops.Rnn(reverse, activation)(x, *weights, *first, *_mask(b, x)).items()

    y, states = _stack(b, x, [h], units, layers, bidirectional, dropout, direction)
    return y if returns == "sequence" else states[0]


def _stack(
    b: Builder,
    x: Value,
    given: list[Value | None],
    units: int,
    layers: int,
    bidirectional: bool,
    dropout: float,
    direction: Direction,
) -> tuple[Value, list[Value]]:
    """Layers on top of each other: the last one's output, and its last states."""
    need_floats(x)
    if x.rank != 3:
        raise LayerError(f"the input is {spec_type(x.type)}, expected a sequence [T, features]")
    ways = (False, True) if bidirectional else (False,)
    if dropout and layers == 1:
        raise LayerError(
            "`dropout` is between layers, and there is one", argument="dropout", help="a `dropout` step does it"
        )
    if b.stepping(x) and bidirectional:
        raise LayerError("a sequence that is read step by step has no end to begin at", argument="bidirectional")
    firsts = [_first_states(state, x, units, layers * len(ways)) for state in given]
    last: list[Value] = []
    for k in range(layers):
        if k and dropout and b.training:
            x = Dropout(dropout)(x, b.random(x.shape))
        made = []
        for i, reverse in enumerate(ways):
            name = f"layer_{k + 1}{'.reverse' if reverse else ''}"
            first = [each[k * len(ways) + i] for each in firsts]
            made.append(
                _stepwise(b, x, name, first, direction) if b.stepping(x) else direction(x, name, first, reverse)
            )
        columns = list(zip(*made, strict=True))
        x, *last = (Concat(-1)(*column) if bidirectional else column[0] for column in columns)
    return x, last


def _stepwise(b: Builder, x: Value, name: str, first: list[Value], direction: Direction) -> tuple[Value, ...]:
    """One step of a sequence: it begins with the states that the step before it ended with."""
    assert b.decoding is not None
    beginning = Equal()(b.decoding.position, constant(0, DType.i64))
    held = [b.remembered(f"{name}.state_{i + 1}", state.shape) for i, state in enumerate(first)]
    begun = [Where()(beginning, state, old) for state, (_, old) in zip(first, held, strict=True)]
    found = direction(x, name, begun, False)
    for (full, _), state in zip(held, found[1:], strict=True):
        b.remember(full, state)
    return found


def _first_states(given: Value | None, x: Value, units: int, count: int) -> list[Value]:
    """The first state of each layer and direction, in that order."""
    if given is None:
        return [ops.first_state(x, units)] * count
    wanted = (x.shape[0], units) if count == 1 else (x.shape[0], count, units)
    if given.shape == (x.shape[0], count, units) and given.dtype is x.dtype:
        return [Gather(1)(given, constant(i, DType.i64)) for i in range(count)]
    if given.shape != wanted or given.dtype is not x.dtype:
        raise LayerError(f"the first state is {spec_type(given.type)}, expected {spec_type(x.type.with_shape(wanted))}")
    return [given]


def _weights(b: Builder, name: str, x: Value, units: int, parts: int) -> tuple[Value, Value, Value]:
    """Weight, recurrent weight and bias; uniform between -1/sqrt(units) and 1/sqrt(units), as in PyTorch."""
    init = _init(units)
    return (
        b.parameter(f"{name}.weight", (parts * units, x.shape[2]), init),
        b.parameter(f"{name}.recurrent", (parts * units, units), init),
        b.parameter(f"{name}.bias", (parts * units,), init, decay=False),
    )


def _init(units: int) -> Init:
    return Init("uniform", (("limit", units**-0.5),))


def _mask(b: Builder, x: Value) -> list[Value]:
    """The mask [N, T] of padded steps, where there is one."""
    mask = b.mask(x)
    return [] if mask is None else [reshape(mask, x.shape[:2])]
