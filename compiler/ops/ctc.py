"""Connectionist temporal classification: the loss of sequences that are shorter than their frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir import Grads, IRError, Op, Type, Value, constant
from ..structs import Struct
from .elementwise import And, Cast, Equal, Exp, Less, Maximum, Not, Where, floating
from .losses import LOWEST
from .reduce import LogSoftmax, LogSumExp, OneHot, Softmax, Sum, drop
from .shape import Concat, Iota, Pad, Slice, reshape, swap_last, zeros_like


def _check(logits: Type, label: Type) -> Type:
    if logits.rank != 3 or label.rank != 2 or logits.shape[0] != label.shape[0]:
        raise IRError(f"ctc: expected logits [N, T, C] and labels [N, L], got {logits} and {label}")
    if label.dtype.value not in ("i32", "i64"):
        raise IRError(f"ctc: labels are {label}, expected whole numbers")
    return floating("ctc", logits)


class _Frames(Op):
    """An op that is decomposed frame by frame, and so only when it is known how many there are."""

    def flops(self, *types: Type) -> int:
        return super().flops(*(t.bind({d: 1 for d in t.shape if isinstance(d, str)}) for t in types))


class Ctc(_Frames):
    """-log of the probability that frames spell a label, per length of the label (Graves et al., 2006).

    Logits [N, T, C] of classes for each frame, 0 being the blank, and labels [N, L], padded with -1 or 0
    at their ends -> [N]. All T frames count. A label that needs more frames than there are has an
    infinite loss. An empty one counts as one of length 1. T, C and L need sizes when it is decomposed.

    The forward algorithm in logarithms: with blanks put before, between and after a label's classes,
    each frame stays where the frame before was, goes on by one, or by two over a blank between two
    different classes.
    """

    def type(self, logits: Type, label: Type) -> Type:
        return _check(logits, label).with_shape(logits.shape[:1])

    def decompose(self, logits: Value, label: Value) -> Value:
        lattice = _lattice(logits, label)
        log = _likelihood(_forward(lattice)[-1], lattice)
        infinite = constant(math.inf, logits.dtype)
        return drop(Where()(_possible(log), -log / lattice.length, infinite), 1)

    def vjp(self, g: Value, y: Value, logits: Value, label: Value) -> Grads:
        return [CtcGrad()(g, logits, label), None]


class CtcGrad(_Frames):
    """The gradient of `Ctc` in its logits, from that of its output: zero where the loss is infinite.

    A frame's shares of the classes, less how likely each is to be spelt at that frame by those paths
    that spell the label, by the forward and backward algorithms.
    """

    def type(self, g: Type, logits: Type, label: Type) -> Type:
        if g != _check(logits, label).with_shape(logits.shape[:1]):
            raise IRError(f"CtcGrad: the gradient {g} does not fit logits {logits}")
        return logits

    def decompose(self, g: Value, logits: Value, label: Value) -> Value:
        lattice = _lattice(logits, label)
        before = _forward(lattice)
        log = _likelihood(before[-1], lattice)
        spelt = [Exp()(a + b - log) for a, b in zip(before, _backward(lattice), strict=True)]
        frames = Concat(1)(*(reshape(each, (each.shape[0], 1, each.shape[1])) for each in spelt))
        factor = Where()(_possible(log), reshape(g, log.shape) / lattice.length, constant(0.0, g.dtype))
        return (Softmax(-1)(logits) - frames @ lattice.hot) * reshape(factor, (*factor.shape, 1))


class _Lattice(Struct):
    """The states of labels, S = 2L + 1: a label's classes with blanks before, between and after.

    hot: the class of each state, one-hot, [N, S, C]. emitted: the log-probability of each state's class
    at each frame, T times [N, S]. skips: the states that the one two before may go to, [N, S].
    starts, ends: where a path may begin [1, S], and end [N, S]. length: of the label, at least 1, [N, 1].
    """

    hot: Value
    emitted: Sequence[Value]
    skips: Value
    starts: Value
    ends: Value
    length: Value


def _lattice(logits: Value, label: Value) -> _Lattice:
    (n, frames), length = logits.shape[:2], label.shape[1]
    for dim, what in ((frames, "frames"), (logits.shape[2], "classes"), (length, "a label's classes")):
        if isinstance(dim, str):
            raise IRError(f"ctc: the number of {what}, {dim}, has no fixed size")
    column = reshape(label, (*label.shape, 1))
    pairs = reshape(Concat(2)(zeros_like(column), column), (n, 2 * int(length)))
    states = Pad(((0, 0), (0, 1)))(pairs)
    place = Iota((1, states.shape[1]), 1, label.dtype)()
    hot = OneHot(int(logits.shape[2]), logits.dtype)(states)
    emitted = LogSoftmax(-1)(logits) @ swap_last(hot)
    return _Lattice(
        hot,
        [drop(Slice((None, (t, t + 1), None))(emitted), 1) for t in range(int(frames))],
        And()(Not()(_is(states, 0)), Not()(Equal()(states, _moved(states, 2, 0.0)))),
        _below(place, 2),
        _ends(label, place),
        Maximum()(Cast(logits.dtype)(_lengths(label)), constant(1.0, logits.dtype)),
    )


def _is(x: Value, number: int) -> Value:
    return Equal()(x, constant(number, x.dtype))


def _below(x: Value, number: int) -> Value:
    return Less()(x, constant(number, x.dtype))


def _lengths(label: Value) -> Value:
    """How many classes each label has: [N, 1]."""
    return Sum((1,))(Cast(label.dtype)(Not()(_below(label, 1))))


def _ends(label: Value, place: Value) -> Value:
    """The states of a label's last class and of the blank after it."""
    left = _lengths(label) * constant(2, label.dtype) - place
    return And()(Not()(_below(left, 0)), _below(left, 2))


def _forward(lattice: _Lattice) -> list[Value]:
    """For each frame, the log-probability of the beginnings of paths that end in each state there: [N, S]."""
    lowest = constant(LOWEST, lattice.hot.dtype)
    found = [Where()(lattice.starts, lattice.emitted[0], lowest)]
    for emitted in lattice.emitted[1:]:
        now = found[-1]
        over = Where()(lattice.skips, _moved(now, 2, LOWEST), lowest)
        found.append(_any(now, _moved(now, 1, LOWEST), over) + emitted)
    return found


def _backward(lattice: _Lattice) -> list[Value]:
    """For each frame, the log-probability of all that paths emit after it, from each state there: [N, S]."""
    lowest = constant(LOWEST, lattice.hot.dtype)
    found = [Where()(lattice.ends, constant(0.0, lowest.dtype), lowest)]
    for emitted in reversed(lattice.emitted[1:]):
        now = found[-1] + emitted
        over = _moved(Where()(lattice.skips, now, lowest), -2, LOWEST)
        found.append(_any(now, _moved(now, -1, LOWEST), over))
    return found[::-1]


def _likelihood(last: Value, lattice: _Lattice) -> Value:
    """The logarithm of the probability of all paths that spell the label: [N, 1]."""
    return LogSumExp(-1)(Where()(lattice.ends, last, constant(LOWEST, last.dtype)))


def _possible(log: Value) -> Value:
    return Less()(constant(LOWEST / 2, log.dtype), log)


def _any(*logs: Value) -> Value:
    """The logarithm of the sum of what each is the logarithm of."""
    return drop(LogSumExp(-1)(Concat(2)(*(reshape(x, (*x.shape, 1)) for x in logs))), -1)


def _moved(x: Value, by: int, fill: float) -> Value:
    """Columns moved to the right by `by`, or to the left, with `fill` where none comes from."""
    width, far = int(x.shape[1]), abs(by)
    padded = Pad(((0, 0), (far, 0) if by > 0 else (0, far)), fill)(x)
    return Slice((None, (0, width) if by > 0 else (far, far + width)))(padded)
