"""Recurrent layers: [N, T, features] in, a state per step out.

`Lstm`, `Gru` and `Rnn` are whole layers in one direction, which backends run by their own kernels. Each is a matrix
product over all steps followed by a *scan*, the part that goes step by step. Scans are what is differentiated: their
gradients are ops too, so that a backend may run both as loops. As a decomposition a scan is unrolled, which needs a
number of steps.

Where a mask [N, T] is given, a step that is not real leaves the state as it was: with padding at the end, the last
state is that of the last real step, and in reverse the scan begins at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import ClassVar, Literal, TypeVar

from ..ir import DType, Grads, Input, IRError, Op, Type, Value, constant, order
from .activations import Relu, Sigmoid
from .elementwise import Add, Cast, Tanh, Where, floating
from .linalg import Gather, Linear, LinearWeightGrad, ScatterAdd
from .reduce import Sum, sum_to
from .shape import BroadcastTo, Concat, Size, Split, reshape, swap_last, zeros_like

T = TypeVar("T")
STEPS = 1  # the axis of time


class Scan(Op):
    """A recurrence over time, given what the inputs add to each step: z [N, T, parts * units]."""

    reverse: bool = False

    parts: ClassVar[int] = 1
    states: ClassVar[int] = 1  # h, and for LSTM c
    weights: ClassVar[int] = 1  # recurrent weights, after z

    def type(self, z: Type, *rest: Type) -> tuple[Type, ...]:
        units = self._check(z, rest)
        each = floating(self.kind, z.with_shape((*z.shape[:2], units)))
        return (*(each for _ in range(self.states)), *self.saved(z, each))

    def saved(self, z: Type, each: Type) -> tuple[Type, ...]:
        """What else comes out, for the gradient: the types, given that of z and of a state."""
        return ()

    def decompose(self, z: Value, *rest: Value) -> tuple[Value, ...]:
        weights, states, mask = self.split(rest)
        zs, masks = steps(z), steps(mask) if mask is not None else None
        outputs: list[list[Value]] = []
        for t in self.order(len(zs)):
            new, saved = self.cell(zs[t], weights, states)
            if masks is not None:
                new = [Where()(masks[t], after, before) for after, before in zip(new, states, strict=True)]
            states = new
            outputs.append([*new, *saved])
        return tuple(joined(column, self.reverse) for column in zip(*outputs, strict=True))

    def cell(self, z: Value, weights: list[Value], states: list[Value]) -> tuple[list[Value], list[Value]]:
        """One step: the next states, and what is saved."""
        raise NotImplementedError

    def split(self, rest: Sequence[Value]) -> tuple[list[Value], list[Value], Value | None]:
        """Weights, first states and mask from what follows z."""
        end = self.weights + self.states
        return list(rest[: self.weights]), list(rest[self.weights : end]), rest[end] if len(rest) > end else None

    def order(self, count: int) -> Iterator[int]:
        return iter(range(count - 1, -1, -1) if self.reverse else range(count))

    def gradient(self) -> Op:
        """The op that computes this one's gradients."""
        raise NotImplementedError

    def vjp(self, g: tuple[Value | None, ...], y: Value, z: Value, *rest: Value) -> Grads:
        outputs = y.items()
        given = [
            part if part is not None else zeros_like(v) for part, v in zip(g[: self.states], outputs, strict=False)
        ]
        found = self.gradient()(*given, z, *rest, *outputs)
        return [*found.items(), *(None for _ in rest[self.weights + self.states :])]

    def flops(self, out: tuple[Type, ...], z: Type, *rest: Type) -> int:
        units = Type(rest[0].shape[1:]).numel()
        return 2 * z.numel() * units + 10 * z.numel()

    def _check(self, z: Type, rest: Sequence[Type]) -> int:
        """The number of units; raises `IRError` for inputs that do not fit each other."""
        end = self.weights + self.states
        if z.rank != 3 or not end <= len(rest) <= end + 1:
            raise IRError(f"{self.kind}: {z} is no sequence, or inputs are missing")
        recurrent, states = rest[0], rest[self.weights : end]
        units = recurrent.shape[-1]
        if not isinstance(units, int) or recurrent != z.with_shape((self.parts * units, units)):
            raise IRError(f"{self.kind}: recurrent weight {recurrent} is not [{self.parts} * units, units]")
        if z.shape[2] != self.parts * units:
            raise IRError(f"{self.kind}: {z} does not fit {units} units")
        for state in states:
            if state != z.with_shape((z.shape[0], units)):
                raise IRError(f"{self.kind}: the first state is {state}, expected {z.with_shape((z.shape[0], units))}")
        for mask in rest[end:]:
            if mask != Type(z.shape[:2], DType.boolean):
                raise IRError(f"{self.kind}: the mask is {mask}, expected {Type(z.shape[:2], DType.boolean)}")
        return units


class ScanGrad(Op):
    """The gradients of a scan in z, its weights and its first states.

    Reads the gradients of its states, then its inputs, then its outputs.
    """

    reverse: bool = False

    scan: ClassVar[type[Scan]]

    def of(self) -> Scan:
        return self.scan(self.reverse)

    def type(self, *inputs: Type) -> tuple[Type, ...]:
        scan = self.of()
        rest = inputs[scan.states :]
        return rest[: 1 + scan.weights + scan.states]

    def decompose(self, *inputs: Value) -> tuple[Value, ...]:
        """Reverse-mode differentiation of the unrolled scan."""
        scan = self.of()
        masked = any(v.dtype is DType.boolean for v in inputs)
        count = 1 + scan.weights + scan.states + masked
        given, read = inputs[: scan.states], inputs[scan.states : scan.states + count]
        return differentiated(scan.decompose, given, read)

    def flops(self, out: tuple[Type, ...], *inputs: Type) -> int:
        z, recurrent = inputs[self.of().states], inputs[self.of().states + 1]
        return 4 * z.numel() * Type(recurrent.shape[1:]).numel() + 20 * z.numel()


def differentiated(
    function: Callable[..., tuple[Value, ...]], given: Sequence[Value], read: Sequence[Value]
) -> tuple[Value, ...]:
    """The gradients of `function(*read)` in its floating-point inputs, from those `given` of its first outputs."""
    from ..autodiff import gradients  # which itself is written in ops
    from ..rewrite import mapped

    holes = [Input(f"in{i}", v.type)() for i, v in enumerate(read)]
    seeds = [Input(f"g{i}", v.type)() for i, v in enumerate(given)]
    total: Value | None = None
    for y, g in zip(function(*holes), seeds, strict=False):
        term = reshape(Sum(tuple(range(y.rank)))(y * g), ())
        total = term if total is None else total + term
    assert total is not None
    found = gradients(total, [hole for hole in holes if hole.dtype.floating])
    memo: dict[Value, Value | tuple[Value, ...]] = dict(zip([*holes, *seeds], [*read, *given], strict=True))
    for v in order(found):
        if v not in memo:
            memo[v] = v if isinstance(v.op, Input) else mapped(v, memo)
    return tuple(v for v in (memo[f] for f in found) if isinstance(v, Value))


def steps(x: Value) -> list[Value]:
    """[N, T, …] as T values [N, …]; a mask's as [N, 1]. Raises `IRError` where T has no size."""
    count = x.shape[STEPS]
    if isinstance(count, str):
        raise IRError(f"a recurrence can be unrolled only over a fixed number of steps: {count} has none yet")
    parts = Split(STEPS, (1,) * count)(x).items()
    return [reshape(part, (part.shape[0], *(part.shape[2:] or (1,)))) for part in parts]


def joined(parts: Sequence[Value], reverse: bool) -> Value:
    """The steps' values, made in the order of the scan, as one along time."""
    spread = [reshape(v, (v.shape[0], 1, *v.shape[1:])) for v in parts]
    return Concat(STEPS)(*(reversed(spread) if reverse else spread))


class LstmScan(Scan):
    """The recurrence of `Lstm`: (z, recurrent [4 units, units], h, c, mask) -> (h, c, gates after activation)."""

    parts = 4
    states = 2

    def saved(self, z: Type, each: Type) -> tuple[Type, ...]:
        return (z,)

    def cell(self, z: Value, weights: list[Value], states: list[Value]) -> tuple[list[Value], list[Value]]:
        h, c = states
        a = z + h @ swap_last(weights[0])
        i, f, g, o = Split(-1, (int(h.shape[1]),) * 4)(a).items()
        i, f, g, o = Sigmoid()(i), Sigmoid()(f), Tanh()(g), Sigmoid()(o)
        c = f * c + i * g
        return [o * Tanh()(c), c], [Concat(-1)(i, f, g, o)]

    def gradient(self) -> Op:
        return LstmScanGrad(self.reverse)


class LstmScanGrad(ScanGrad):
    """The gradients of `LstmScan`."""

    scan = LstmScan


class GruScan(Scan):
    """The recurrence of `Gru`: (z, recurrent [3 units, units], bias [units], h, mask) -> (h, gates, candidate).

    `gates` are those after activation; `candidate` is what the state adds to the third, before the reset gate.
    """

    parts = 3
    weights = 2

    def type(self, z: Type, *rest: Type) -> tuple[Type, ...]:
        if len(rest) > 1 and rest[1].shape != rest[0].shape[1:]:
            raise IRError(f"GruScan: the bias {rest[1]} does not fit {rest[0]}")
        return super().type(z, *rest)

    def saved(self, z: Type, each: Type) -> tuple[Type, ...]:
        return z, each

    def cell(self, z: Value, weights: list[Value], states: list[Value]) -> tuple[list[Value], list[Value]]:
        recurrent, bias = weights
        (h,) = states
        sizes = (int(h.shape[1]),) * 3
        zr, zu, zn = Split(-1, sizes)(z).items()
        hr, hu, hn = Split(-1, sizes)(h @ swap_last(recurrent)).items()
        r, u, candidate = Sigmoid()(zr + hr), Sigmoid()(zu + hu), hn + bias
        n = Tanh()(zn + r * candidate)
        return [n + u * (h - n)], [Concat(-1)(r, u, n), candidate]

    def gradient(self) -> Op:
        return GruScanGrad(self.reverse)


class GruScanGrad(ScanGrad):
    """The gradients of `GruScan`."""

    scan = GruScan


class PlainScan(Scan):
    """The recurrence of `Rnn`: (z, recurrent [units, units], h, mask) -> h."""

    bend: ClassVar[type[Op]]

    def cell(self, z: Value, weights: list[Value], states: list[Value]) -> tuple[list[Value], list[Value]]:
        return [self.bend()(z + states[0] @ swap_last(weights[0]))], []


class RnnScan(PlainScan):
    """The recurrence of `Rnn` with tanh: (z, recurrent [units, units], h, mask) -> h."""

    bend = Tanh

    def gradient(self) -> Op:
        return RnnScanGrad(self.reverse)


class RnnScanGrad(ScanGrad):
    """The gradients of `RnnScan`."""

    scan = RnnScan


class ReluScan(PlainScan):
    """The recurrence of `Rnn` with a rectifier: (z, recurrent [units, units], h, mask) -> h."""

    bend = Relu

    def gradient(self) -> Op:
        return ReluScanGrad(self.reverse)


class ReluScanGrad(ScanGrad):
    """The gradients of `ReluScan`."""

    scan = ReluScan


class Recurrent(Op):
    """A recurrent layer in one direction: (x, weight, …, first states, mask) -> (y, last states).

    y [N, T, units] is zero at steps that are not real.
    """

    reverse: bool = False

    biases: ClassVar[int] = 1  # after x, weight and recurrent weight

    def scan(self) -> Scan:
        raise NotImplementedError

    def forward(self, inputs: Sequence[T]) -> tuple[T, ...]:
        """Of what stands for this op's inputs, what stands for those of the layer: see `LstmGrad`."""
        return tuple(inputs)

    def type(self, x: Type, weight: Type, recurrent: Type, *rest: Type) -> tuple[Type, ...]:
        scan = self.scan()
        bias, others = rest[0], rest[1:]
        z = Linear().type(x, weight, bias)
        found = scan.type(z, recurrent, *others)
        last = others[self.biases - 1 : self.biases - 1 + scan.states]
        return (found[0], *last)

    def decompose(self, x: Value, weight: Value, recurrent: Value, *rest: Value) -> tuple[Value, ...]:
        scan = self.scan()
        z = Linear()(x, weight, rest[0])
        found = scan(z, recurrent, *rest[1:]).items()[: scan.states]
        _, _, mask = scan.split([recurrent, *rest[1:]])
        y = found[0]
        if mask is not None:
            y = y * Cast(y.dtype)(reshape(mask, (*mask.shape, 1)))
        return (y, *(last_step(state, self.reverse) for state in found))

    def flops(self, out: tuple[Type, ...], x: Type, weight: Type, *rest: Type) -> int:
        steps = x.with_shape(x.shape[:2]).numel()
        return 2 * steps * (weight.numel() + rest[0].numel()) + 10 * steps * Type(weight.shape[:1]).numel()


def last_step(state: Value, reverse: bool) -> Value:
    """The state [N, units] after the scan of [N, T, units]: that of the last step, or in reverse of the first."""
    return Gather(STEPS)(state, last_place(state, reverse))


def last_place(state: Value, reverse: bool) -> Value:
    """The number of the step that comes last."""
    return constant(0, DType.i64) if reverse else Size(state.shape[STEPS], DType.i64)() - 1


class Lstm(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997): (x, weight, recurrent, bias, h, c, mask) -> (y, h, c).

    Gates are in the order input, forget, cell, output, as in PyTorch.
    """

    def scan(self) -> Scan:
        return LstmScan(self.reverse)

    def vjp(self, g: tuple[Value | None, ...], y: Value, *inputs: Value) -> Grads:
        given = tuple(part is not None for part in g)
        found = LstmGrad(self.reverse, given)(*(part for part in g if part is not None), *inputs, *y.items())
        return [*found.items(), *(None for _ in inputs[len(found.types) :])]

    def gradient(self, v: Value) -> Value:
        """The gradient of a value of this op, for a backend to say whether it has a kernel for it."""
        y = v.items()
        return LstmGrad(self.reverse, (True, False, False))(y[0], *v.inputs, *y)


class LstmGrad(Op):
    """The gradients of `Lstm` in all its inputs but the mask, from those of its outputs, its inputs and its outputs.

    given: which of the outputs have a gradient; the others are no inputs.
    """

    reverse: bool = False
    given: tuple[bool, ...] = (True, True, True)

    def forward(self, inputs: Sequence[T]) -> tuple[T, ...]:
        """Of what stands for this op's inputs, what stands for those of the `Lstm`."""
        return tuple(inputs[sum(self.given) : -3])

    def type(self, *inputs: Type) -> tuple[Type, ...]:
        count = sum(self.given)
        forward = self.forward(inputs)
        found = Lstm(self.reverse).type(*forward)
        expected = (*(t for t, given in zip(found, self.given, strict=True) if given), *found)
        if (*inputs[:count], *inputs[-3:]) != expected:
            raise IRError(f"LstmGrad: {', '.join(map(str, inputs))} are no gradients, inputs and outputs of an LSTM")
        return tuple(forward[:6])

    def decompose(self, *inputs: Value) -> tuple[Value, ...]:
        parts = iter(inputs)
        gy, gh, gc = (next(parts) if given else None for given in self.given)
        x, weight, recurrent, bias, h, c, *mask = self.forward(inputs)
        z = Linear()(x, weight, bias)
        outputs = LstmScan(self.reverse)(z, recurrent, h, c, *mask).items()
        if gy is not None and mask:
            gy = gy * Cast(gy.dtype)(reshape(mask[0], (*mask[0].shape, 1)))
        steps = [part for part in (gy, self._last(gh, outputs[0])) if part is not None]
        cells = self._last(gc, outputs[1])
        gz, *rest = LstmScanGrad(self.reverse)(
            reduce(Add(), steps) if steps else zeros_like(outputs[0]),
            zeros_like(outputs[1]) if cells is None else cells,
            z, recurrent, h, c, *mask, *outputs,
        )  # fmt: skip
        grads = Linear()(gz, swap_last(weight)), LinearWeightGrad()(gz, x)
        return (*grads, rest[0], sum_to(gz, bias.shape), *rest[1:])

    def _last(self, g: Value | None, states: Value) -> Value | None:
        """The gradient of the last of all states as one of them all."""
        if g is None:
            return None
        return ScatterAdd(STEPS, (states.shape[STEPS],))(g, last_place(states, self.reverse))

    def flops(self, out: tuple[Type, ...], *inputs: Type) -> int:
        return 2 * Lstm(self.reverse).flops((), *self.forward(inputs))


class Gru(Recurrent):
    """A gated recurrent unit (Cho et al., 2014): (x, weight, recurrent, bias, recurrent bias, h, mask) -> (y, h).

    Gates are in the order reset, update, new; the reset gate applies after the recurrent product, as in PyTorch. The
    recurrent bias [units] is that of the third.
    """

    biases = 2

    def scan(self) -> Scan:
        return GruScan(self.reverse)


class Rnn(Recurrent):
    """A plain recurrent layer (Elman, 1990): (x, weight, recurrent, bias, h, mask) -> (y, h)."""

    activation: Literal["tanh", "relu"] = "tanh"

    def scan(self) -> Scan:
        return RnnScan(self.reverse) if self.activation == "tanh" else ReluScan(self.reverse)


def first_state(x: Value, units: int) -> Value:
    """Zeros [N, units]."""
    return BroadcastTo((x.shape[0], units))(constant(0.0, x.dtype))
