"""One table of sample inputs per op, from which the tests of ops and of backends are derived.

Inputs are drawn by a generator seeded per sample, in float64. They keep away from kinks, where a
central difference means nothing; ties are given as arrays and tested by value only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trine.compiler.ir import OPS, DType, Graph, Input, IRError, Op, Type, Value, constant
from trine.compiler.ops import (
    activations,
    attention,
    conv,
    ctc,
    elementwise,
    fused,
    linalg,
    losses,
    norm,
    optim,
    random,
    recurrent,
    reduce,
    resize,
    shape,
)

Array = NDArray[Any]
Draw = Callable[[np.random.Generator], Array]


@dataclass(frozen=True)
class Sample:
    """An op and inputs for it. `grad`: how often it may be differentiated where the inputs lie."""

    op: Op
    inputs: tuple[Draw | Array, ...]
    grad: int = 2

    def arrays(self, seed: int = 0) -> list[Array]:
        rng = np.random.default_rng(seed)
        return [x if isinstance(x, np.ndarray) else x(rng) for x in self.inputs]

    def graph(self, dtype: DType = DType.f64) -> tuple[Graph, dict[str, Array]]:
        """The op as a graph with inputs x0, x1, … and outputs y0, y1, …, and what to feed it."""
        feeds = {f"x{i}": self._in(dtype, a) for i, a in enumerate(self.arrays())}
        holes = [Input(name, Type(a.shape, DType.of(a)))() for name, a in feeds.items()]
        return graph_of(self.op(*holes), holes), feeds

    def _in(self, dtype: DType, array: Array) -> Array:
        scalar = isinstance(self.op, optim.Update) and array.ndim == 0
        return array if scalar or array.dtype != np.float64 else array.astype(dtype.numpy)


def graph_of(value: Value, inputs: list[Value]) -> Graph:
    """A graph whose outputs y0, y1, … are those of one value."""
    outputs = [value] if isinstance(value.type_, Type) else value.items()
    return Graph("sample", tuple(inputs), {f"y{i}": v for i, v in enumerate(outputs)})


def f(*dims: int, low: float = -2.0, high: float = 2.0) -> Draw:
    """Floats, uniform."""
    return lambda rng: np.asarray(rng.uniform(low, high, dims))


def apart(*dims: int) -> Draw:
    """Floats that are 0.05 or more apart from each other and from zero, in random order."""
    count = int(np.prod(dims))
    return lambda rng: (rng.permutation(count).reshape(dims) - count // 2 + 0.5) * 0.1


def ints(*dims: int, below: int) -> Draw:
    return lambda rng: np.asarray(rng.integers(0, below, dims))


def bools(*dims: int) -> Draw:
    return lambda rng: np.asarray(rng.integers(0, 2, dims) == 1)


def s(op: Op, *inputs: Draw | Array, grad: int = 2) -> Sample:
    return Sample(op, inputs, grad)


def scalar(number: float) -> Array:
    return np.asarray(number, np.float64)


def _windowed(op: Callable[..., Op]) -> list[tuple[Op, tuple[int, ...], tuple[int, ...]]]:
    """Settings of pooling, with an input's shape and the output's."""
    return [
        (op((2,), (2,), ((0, 0),)), (2, 3, 6), (2, 3, 3)),
        (op((3,), (1,), ((1, 1),)), (1, 2, 5), (1, 2, 5)),
        (op((2, 2), (2, 2), ((0, 0), (0, 0))), (2, 3, 4, 5), (2, 3, 2, 2)),
        (op((3, 2), (2, 1), ((1, 1), (0, 1))), (1, 2, 5, 4), (1, 2, 3, 4)),
        (op((2, 1, 2), (1, 2, 2), ((1, 0), (0, 0), (0, 1))), (1, 2, 3, 3, 3), (1, 2, 3, 2, 2)),
    ]


# stride, pads, dilation, groups; the shapes of input and weight; the output's
CONVS: list[tuple[tuple[Any, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
    (((1,), ((0, 0),), (1,), 1), (2, 3, 7), (4, 3, 3), (2, 4, 5)),
    (((2,), ((2, 1),), (2,), 1), (2, 2, 8), (3, 2, 3), (2, 3, 4)),
    (((1, 1), ((1, 1), (1, 1)), (1, 1), 1), (2, 3, 4, 5), (2, 3, 3, 3), (2, 2, 4, 5)),
    (((2, 3), ((0, 1), (2, 0)), (1, 2), 2), (2, 4, 5, 7), (6, 2, 2, 3), (2, 6, 3, 2)),
    (((1, 2), ((1, 1), (0, 0)), (1, 1), 3), (2, 3, 4, 5), (3, 1, 3, 2), (2, 3, 4, 2)),
    (((2, 1), ((0, 0), (1, 1)), (1, 1), 2), (1, 2, 5, 3), (4, 1, 2, 3), (1, 4, 2, 3)),
    (((1, 1), ((0, 0), (0, 0)), (1, 1), 1), (2, 3, 3, 1), (2, 3, 1, 1), (2, 2, 3, 1)),
    (((1, 2, 1), ((0, 0), (1, 0), (1, 1)), (1, 1, 1), 1), (1, 2, 3, 4, 3), (2, 2, 2, 2, 3), (1, 2, 2, 2, 3)),
]  # fmt: skip


def _convs() -> Iterator[Sample]:
    for attributes, x, weight, y in CONVS:
        yield s(conv.Conv(*attributes), f(*x), f(*weight))
        yield s(conv.Conv(*attributes), f(*x), f(*weight), f(weight[0]))
        yield s(fused.FusedConv(*attributes), f(*x), f(*weight), f(weight[0]), f(*y))
        yield s(conv.ConvInputGrad(x[2:], *attributes), f(*y), f(*weight))
        yield s(conv.ConvWeightGrad(weight[2:], *attributes), f(*y), f(*x))


def _fused() -> Iterator[Sample]:
    for name in ("", *fused.EPILOGUES):
        yield s(fused.FusedLinear(name), f(2, 3), f(4, 3), f(4))
    yield s(fused.FusedLinear("silu"), f(2, 3), f(4, 3), f(4), f(2, 4))
    yield s(fused.FusedConv((2,), ((1, 0),), (1,), 1, "tanh"), f(2, 3, 5), f(4, 3, 2), f(4))
    yield s(fused.FusedConv((1,), ((1, 0),), (1,), 1, "relu"), f(2, 2, 4), f(3, 2, 2), f(3), grad=0)
    yield s(fused.FusedConv((1, 1), ((1, 1), (1, 1)), (1, 1)), f(1, 2, 3, 3), f(2, 2, 3, 3), f(2), f(1, 2, 3, 3))


def _pools() -> Iterator[Sample]:
    for op, x, y in _windowed(conv.MaxPool):
        yield s(op, apart(*x))
        pooled = apart(*x)(np.random.default_rng(3))
        yield s(conv.MaxPoolGrad(op.kernel, op.stride, op.pads), f(*y), pooled, op.eval(pooled), grad=0)
    yield s(conv.MaxPool((2, 2), (1, 1), ((1, 0), (0, 0))), np.ones((1, 1, 3, 3)), grad=0)
    for count in (True, False):
        for op, x, y in _windowed(lambda *a, count=count: conv.AvgPool(*a, count)):
            yield s(op, f(*x))
            yield s(conv.AvgPoolGrad(x[len(x) - len(op.kernel) :], op.kernel, op.stride, op.pads, count), f(*y))


def _resizes() -> Iterator[Sample]:
    for mode in resize.MODES:
        yield s(resize.Resize((6,), mode), f(2, 3, 3))
        yield s(resize.Resize((2,), mode), f(2, 5))
        yield s(resize.Resize((4, 9), mode), f(1, 2, 2, 3))
        yield s(resize.Resize((5, 3), mode), f(2, 1, 3, 4))
        yield s(resize.Resize((3, 4), mode), f(1, 2, 3, 1))
        yield s(resize.Resize((4, 2, 3), mode), f(1, 2, 2, 3, 3))


def _unary() -> Iterator[Sample]:
    functions = (elementwise.Neg, elementwise.Exp, elementwise.Sin, elementwise.Cos, elementwise.Tanh, elementwise.Erf)
    for op in (*functions, elementwise.Expm1):
        yield s(op(), f(3, 4))
        yield s(op(), f())
    yield s(elementwise.Erf(), np.array([-30.0, -5.0, -4.0, -0.46875, 0.0, 0.3, 0.46875, 3.9, 4.1, 6.0]))
    for op in (elementwise.Log, elementwise.Log1p, elementwise.Sqrt):
        yield s(op(), f(2, 3, low=0.3, high=4.0))
    for op in (elementwise.Abs, elementwise.Sign, elementwise.Floor):
        yield s(op(), apart(3, 5))
    yield s(elementwise.Abs(), np.array([-1.0, 0.0, 2.0]), grad=0)
    yield s(elementwise.Sign(), np.array([-1.0, 0.0, 2.0]), grad=0)


def _binary() -> Iterator[Sample]:
    shapes = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 1, 3), (2, 1))]
    for a, b in shapes:
        for op in (elementwise.Add, elementwise.Sub, elementwise.Mul):
            yield s(op(), f(*a), f(*b))
        yield s(elementwise.Div(), f(*a), f(*b, low=0.5, high=2.0))
        yield s(elementwise.Pow(), f(*a, low=0.5, high=2.0), f(*b))
        for op in (elementwise.Maximum, elementwise.Minimum):
            yield s(op(), apart(*a), lambda rng, b=b: apart(*b)(rng) + 0.02)
        for op in (elementwise.Less, elementwise.Equal):
            yield s(op(), f(*a), f(*b))
            yield s(op(), ints(*a, below=3), ints(*b, below=3))
        yield s(elementwise.And(), bools(*a), bools(*b))
        yield s(elementwise.Where(), bools(*a), f(*b), f(*a))
    yield s(elementwise.Where(), bools(3, 1), f(), f(3, 4))
    yield s(elementwise.Add(), ints(2, 3, below=9), ints(3, below=9))
    for op in (elementwise.Maximum, elementwise.Minimum):
        yield s(op(), np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]), grad=0)
    yield s(elementwise.Not(), bools(2, 3))
    yield s(elementwise.Cast(DType.f64), f(2, 3))
    yield s(elementwise.Cast(DType.i64), np.array([-1.7, 0.2, 3.9]))
    yield s(elementwise.Cast(DType.boolean), np.array([0.0, 0.5, -2.0]))
    yield s(elementwise.Cast(DType.f32), bools(4))
    yield s(elementwise.Cast(DType.u8), ints(4, below=200))
    yield s(elementwise.Rounded(DType.bf16), f(3, 5), grad=0)


def _shape() -> Iterator[Sample]:
    yield from (s(shape.Reshape(t), f(2, 3, 4)) for t in ((24,), (6, 4), (2, 1, 12), (4, 3, 2)))
    yield s(shape.Reshape(()), f(1, 1))
    yield s(shape.After(), f(2, 3), f(4))
    yield s(shape.Reshape((1, 1)), f())
    yield from (s(shape.Transpose(a), f(2, 3, 4)) for a in ((0, 1, 2), (2, 1, 0), (1, 2, 0)))
    yield s(shape.Transpose(()), f())
    yield from (s(shape.BroadcastTo((2, 3, 4)), f(*d)) for d in ((), (4,), (3, 1), (2, 1, 4), (2, 3, 4)))
    yield s(shape.Slice((None, (1, 3), (0, 1))), f(2, 4, 3))
    yield s(shape.Slice(((1, 1), None)), f(2, 3))
    yield s(shape.Slice(()), f())
    yield s(shape.Pad(((0, 1), (2, 0))), f(2, 3))
    yield s(shape.Pad(((1, 1), (0, 0)), 3.5), f(2, 3))
    yield s(shape.Pad(((0, 1),), float("-inf")), f(2), grad=0)
    yield s(shape.Pad(((2, 1),), 7.0), ints(3, below=5))
    yield s(shape.Pad(()), f())
    yield s(shape.Concat(0), f(2, 3), f(1, 3), f(3, 3))
    yield s(shape.Concat(-1), f(2, 3), f(2, 1))
    yield s(shape.Concat(1), f(2, 3))
    yield s(shape.Split(1, (1, 2, 3)), f(2, 6))
    yield s(shape.Split(-1, (4,)), f(2, 4))
    yield s(shape.Split(0, (2, 0, 1)), f(3, 2))
    yield from (s(shape.Flip(axis), f(3, 4)) for axis in (0, 1, -1))
    yield s(shape.Size(5))
    yield s(shape.Size(3, DType.f64))
    yield s(shape.Iota((4,), 0))
    yield s(shape.Iota((2, 3, 4), 1, DType.i32))
    yield s(shape.Iota((1, 4), -1, DType.f32))


def _reduce() -> Iterator[Sample]:
    for axes in ((), (0,), (1, 2), (-1,), (0, 1, 2)):
        yield s(reduce.Sum(axes), f(2, 3, 4))
        yield s(reduce.Mean(axes), f(2, 3, 4))
    yield s(reduce.Sum((0,)), ints(4, 2, below=9))
    yield s(reduce.Sum((1,)), lambda rng: rng.integers(0, 100, (2, 3)).astype(np.int32))
    yield s(reduce.Sum((0,)), lambda rng: rng.integers(0, 9, (3, 2)).astype(np.uint8))
    yield s(reduce.Sum((0,)), f(1, 3))
    for axis in (0, 1, -1):
        yield s(reduce.Max(axis), apart(3, 4, 2))
        yield s(reduce.ArgMax(axis), apart(3, 4, 2))
        yield s(reduce.CumSum(axis), f(3, 4, 2))
        yield s(reduce.Softmax(axis), f(3, 4, 2))
        yield s(reduce.LogSoftmax(axis), f(3, 4, 2))
        yield s(reduce.LogSumExp(axis), f(3, 4, 2))
        yield s(reduce.SoftmaxGrad(axis), f(3, 4, 2), f(3, 4, 2, low=0.1, high=0.9))
        yield s(reduce.LogSoftmaxGrad(axis), f(3, 4, 2), f(3, 4, 2, low=-2.0, high=-0.1))
        yield s(reduce.L2Normalize(axis), f(3, 4, 2, low=0.2))
    yield s(reduce.Max(1), np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]]), grad=0)
    yield s(reduce.ArgMax(1), np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]]), grad=0)
    yield s(reduce.Max(0), ints(4, 2, below=3))
    yield s(reduce.Softmax(), f(2, 1))
    yield s(reduce.Softmax(), np.array([[1000.0, 0.0, -1000.0]]), grad=0)
    yield s(reduce.LogSoftmax(), np.array([[1000.0, 0.0, -1000.0]]), grad=0)
    yield s(reduce.GlobalNorm(), f(3, 2), f(4), f())
    yield s(reduce.LogSumExp(), np.array([[1000.0, 0.0, -1000.0], [-1e30, -1e30, -1e30]]), grad=0)
    yield s(reduce.L2Normalize(-1, 0.5), np.zeros((2, 3)), grad=0)
    yield s(reduce.OneHot(4), ints(2, 3, below=4))
    yield s(reduce.OneHot(3, DType.f64), ints(5, below=3))
    yield s(reduce.OneHot(3), np.array([-1, 3, 1], np.int32))


def _linalg() -> Iterator[Sample]:
    yield s(linalg.MatMul(), f(2, 3), f(3, 4))
    yield s(linalg.MatMul(), f(2, 1, 2, 3), f(3, 3, 1))
    yield s(linalg.MatMul(), f(1, 1), f(1, 1))
    for lead in ((5,), (2, 3), (1,), ()):
        yield s(linalg.Linear(), f(*lead, 4), f(3, 4))
        yield s(linalg.Linear(), f(*lead, 4), f(3, 4), f(3))
    yield s(linalg.LinearWeightGrad(), f(5, 3), f(5, 4))
    yield s(linalg.LinearWeightGrad(), f(2, 5, 3), f(2, 5, 4))
    for axis, size in ((0, 5), (1, 3), (-1, 2)):
        yield s(linalg.Gather(axis), f(5, 3, 2), ints(4, 3, below=size))
    yield s(linalg.Gather(0), f(5, 3), np.array(2))
    yield s(linalg.WriteSlice(1), f(2, 3, 4), f(2, 1, 4), np.array(2))
    yield s(linalg.ScatterAdd(0, (5,)), f(2, 4, 3), ints(2, 4, below=5))
    yield s(linalg.ScatterAdd(1, (3,)), f(2, 4, 2), np.array([0, 2, 2, 0]))
    yield s(linalg.ScatterAdd(0, (4,)), f(3), np.array(1, np.int32))


def _windows() -> Iterator[Sample]:
    yield s(conv.Windows((2,), (1,), (2,)), f(2, 5))
    yield s(conv.Windows((3, 2), (2, 1), (1, 2)), f(2, 6, 4))
    yield s(conv.Windows((1, 2, 2), (1, 1, 2), (1, 1, 1)), f(2, 3, 4))
    yield s(conv.Fold((5,), (1,), (2,)), f(2, 3, 2))
    yield s(conv.Fold((6, 4), (2, 1), (1, 2)), f(2, 2, 2, 3, 2))


def _activations() -> Iterator[Sample]:
    a = activations
    kinked = (a.Relu(), a.LeakyRelu(), a.LeakyRelu(0.3), a.Elu(), a.Elu(0.5), a.Selu())
    for op in kinked:
        yield s(op, apart(3, 5))
        yield s(op, np.array([-40.0, 0.0, 40.0]), grad=0)
    for op in (a.HardSigmoid(), a.HardSwish()):
        yield s(op, f(3, 5))
        yield s(op, np.array([-40.0, -3.0, 0.0, 3.0, 40.0]), grad=0)
    for op in (a.Sigmoid(), a.Silu(), a.Gelu(), a.Gelu(True), a.Softplus(), a.Mish()):
        yield s(op, f(3, 5))
        yield s(op, np.array([-40.0, -1.0, 1.0, 40.0]))

    for op in (a.SiluGrad(), a.GeluGrad(), a.GeluGrad(True)):
        yield s(op, f(3, 5), f(3, 5))
    yield s(a.ReluGrad(), f(3, 5), apart(3, 5))
    yield s(a.ReluGrad(), f(3), np.array([-1.0, 0.0, 2.0]), grad=0)


def _losses() -> Iterator[Sample]:
    for dims in ((4,), (3, 2)):
        pair = f(*dims), f(*dims, low=3.0, high=5.0)
        for op in (losses.SquaredError(), losses.LogCosh(), losses.AbsoluteError()):
            yield s(op, *pair)
        yield from (s(losses.QuantileError(q), *pair) for q in (0.5, 0.9))
        yield from (s(losses.QuantileError(q), *reversed(pair)) for q in (0.5, 0.9))
        yield from (s(losses.HuberError(delta), *pair) for delta in (0.5, 20.0))
        yield from (s(losses.BinaryCrossEntropy(w), f(*dims), f(*dims, low=0.0, high=1.0)) for w in (1.0, 2.5))
        yield from (
            s(losses.Hinge(m), apart(*dims), np.sign(np.arange(np.prod(dims)) % 2 - 0.5).reshape(dims))
            for m in (1.0, 0.3)
        )
        for smoothing in (0.0, 0.1):
            yield s(losses.CrossEntropy(smoothing), f(*dims, 5), ints(*dims, below=5))
        for gamma in (0.0, 0.5, 2.0):
            yield s(losses.Focal(gamma), f(*dims, 5), ints(*dims, below=5))
            yield s(losses.BinaryFocal(gamma), f(*dims), f(*dims, low=0.0, high=1.0))
        yield s(losses.PoissonError(), *pair)
        yield s(losses.PoissonError(False), f(*dims, low=0.5), f(*dims, low=0.0))
        yield s(losses.GaussianError(), f(*dims), f(*dims, low=0.5), f(*dims))
        yield s(losses.Divergence(), f(*dims), f(*dims, low=0.1, high=1.0))
    yield s(losses.Divergence(), f(3), np.array([0.0, 1.0, 0.0]), grad=0)
    yield s(losses.GaussianError(0.1), f(3), np.array([0.0, 0.05, 0.5]), f(3), grad=0)
    for op in (losses.CrossEntropy(), losses.Focal(2.0), losses.Focal(0.0)):
        yield s(op, f(3, 1), ints(3, below=1))
    yield s(losses.Focal(0.5), np.array([[60.0, -60.0], [60.0, -60.0]]), np.array([0, 1]), grad=0)
    # two classes with several rows, one alone; and batches without a triplet
    yield s(losses.TripletInBatch(1.0), f(6, 3), np.array([0, 1, 0, 2, 1, 0]))
    yield s(losses.TripletInBatch(10.0), f(5, 2), np.array([4, 4, 4, 7, 7]))
    yield s(losses.TripletInBatch(), f(3, 2), np.array([1, 1, 1]), grad=0)
    yield s(losses.TripletInBatch(), f(3, 2), np.array([1, 2, 3]), grad=0)
    # whole, padded, empty labels; a class twice, which needs a blank between; more labels than a frame holds
    for frames, label in (
        (5, [[1, 2], [3, 3], [2, -1], [2, 0], [-1, -1]]),
        (3, [[1, 1, -1], [2, -1, -1]]),
        (1, [[1], [-1]]),
    ):
        logits, ids = f(len(label), frames, 4), np.array(label)
        yield s(ctc.Ctc(), logits, ids)
        yield s(ctc.CtcGrad(), f(len(label)), logits, ids, grad=1)
    yield s(ctc.Ctc(), f(2, 2, 3), np.array([[1, 1], [1, 2]]), grad=0)


def _norm() -> Iterator[Sample]:
    for dims in ((5, 3), (2, 3, 4), (2, 3, 2, 3)):
        c = dims[1]
        yield s(norm.BatchNorm(), f(*dims), f(c), f(c), f(c), f(c, low=0.5))
        yield s(norm.BatchNormTrain(1e-3), f(*dims), f(c), f(c))
        yield s(norm.BatchNormGrad(1e-3), f(*dims), f(*dims), f(c), f(c), f(c, low=0.5))
        yield s(norm.LayerNorm(), f(*dims), f(dims[-1]), f(dims[-1]))
        yield s(norm.LayerNormGrad(1e-3), f(*dims), f(*dims), f(dims[-1]))
        yield s(norm.RmsNorm(1e-3), f(*dims), f(dims[-1]))
        yield s(norm.Dropout(0.3), f(*dims), f(*dims, low=0.0, high=1.0))
    for groups, dims in ((2, (3, 4)), (3, (2, 6, 5)), (1, (2, 2, 3, 2)), (4, (2, 4, 2, 2, 2))):
        yield s(norm.GroupNorm(groups, 1e-3), f(*dims))
        yield s(norm.GroupNorm(groups), f(*dims), f(dims[1]), f(dims[1]))
    yield s(norm.Dropout(0.5), f(3), np.array([0.0, 0.5, 0.75]))


def lengths(rows: int, steps: int) -> Array:
    """A mask of rows of different lengths, padded at the end; the first is whole."""
    return np.arange(steps)[None, :] < steps - np.arange(rows)[:, None]


def _recurrent() -> Iterator[Sample]:
    r = recurrent
    n, t, size, units = 3, 4, 2, 3
    state, z = f(n, units), {k: f(n, t, k * units, low=-1.0, high=1.0) for k in (1, 3, 4)}
    weight = {k: f(k * units, units, low=-0.7, high=0.7) for k in (1, 3, 4)}
    for reverse in (False, True):
        for mask in ((), (lengths(n, t),)):
            one = weight[1], state, *mask
            scans = [
                (r.LstmScan(reverse), z[4], weight[4], state, state, *mask),
                (r.GruScan(reverse), z[3], weight[3], f(units), state, *mask),
                (r.RnnScan(reverse), z[1], *one),
            ]
            for scan, *inputs in scans:
                yield s(scan, *inputs, grad=0)
                yield _scan_gradient(scan, *inputs)
            x, inner = f(n, t, size), {k: f(k * units, size) for k in (1, 3, 4)}
            yield s(r.Lstm(reverse), x, inner[4], weight[4], f(4 * units), state, state, *mask, grad=1)
            forward = x, inner[4], weight[4], f(4 * units), state, state, *mask
            yield s(r.LstmGrad(reverse), f(n, t, units), state, state, *forward, f(n, t, units), state, state, grad=0)
            yield s(r.LstmGrad(reverse, (False, False, True)), state, *forward, f(n, t, units), state, state, grad=0)
            yield s(r.Gru(reverse), x, inner[3], weight[3], f(3 * units), f(units), state, *mask, grad=1)
            yield s(r.Rnn(reverse), x, inner[1], weight[1], f(units), state, *mask, grad=1)
    # kept above the kink
    up = f(n, t, units, low=0.5, high=1.0), f(units, units, low=0.1, high=0.4), f(n, units, low=0.1, high=1.0)
    yield s(r.ReluScan(), *up, lengths(n, t), grad=0)
    yield _scan_gradient(r.ReluScan(True), *up)
    yield s(
        r.Rnn(False, "relu"), f(n, t, size, low=0.1), f(units, size, low=0.1), up[1], f(units, low=0.1), up[2], grad=1
    )


def _scan_gradient(scan: Any, *inputs: Draw | Array) -> Sample:
    """The gradients of a scan, whose outputs are among its inputs."""
    rng = np.random.default_rng(5)
    arrays = [x if isinstance(x, np.ndarray) else x(rng) for x in inputs]
    outputs = scan.eval(*arrays)
    given = [rng.uniform(-1, 1, outputs[0].shape) for _ in range(scan.states)]
    return s(scan.gradient(), *given, *arrays, *outputs, grad=0)


def _attention() -> Iterator[Sample]:
    a = attention
    q, kv = f(2, 4, 3, 6), f(2, 4, 3, 6)
    seen, bias = lengths(2, 3).reshape(2, 1, 1, 3), f(1, 4, 3, 3)
    for causal in (False, True):
        for window in (None, 2):
            for extras in ((), (seen,), (bias,), (seen, bias)):
                yield s(a.Attention(0.4, causal, window), q, kv, kv, *extras, grad=1)
                yield s(a.AttentionWeights(0.4, causal, window), q, kv, *extras, grad=1)
    yield s(a.Attention(1.0), f(1, 4, 2, 4), f(1, 2, 5, 4), f(1, 2, 5, 3), grad=1)
    yield s(a.Attention(1.0, True), f(1, 6, 3, 2), f(1, 2, 3, 2), f(1, 2, 3, 2), grad=1)
    step = f(2, 1, 12), f(2, 1, 6), f(2, 1, 4), f(2, 2, 5, 3), f(2, 2, 5, 2)
    for at, window, extras in ((0, None, ()), (2, None, ()), (4, 2, (f(1, 4, 1, 5),))):
        yield s(a.CachedAttention(0.4, window), *step, np.asarray(at), *extras, grad=1)
    even = f(2, 1, 32), f(2, 1, 16), f(2, 1, 16), f(2, 2, 5, 8), f(2, 2, 5, 8)
    yield s(a.CachedAttention(0.4), *even, np.asarray(3), grad=0)
    yield s(a.Rotary(), f(2, 3, 4, 6), np.arange(4.0))
    yield s(a.Rotary(100.0), f(3, 2), np.arange(3.0) + 5)
    yield s(a.Sinusoids(6), np.arange(4.0))
    yield s(random.Normal(), f(3, 4, low=0.05, high=0.95), f(3, 4, low=0.0, high=1.0))


def _optim() -> Iterator[Sample]:
    ops: list[optim.Update] = [
        optim.Sgd(), optim.Sgd(0.9), optim.Sgd(0.9, True, 0.1), optim.Adam(), optim.Adam(decay=0.1),
        optim.Adam(0.8, 0.99, 1e-6, 0.1, True), optim.RmsProp(), optim.RmsProp(0.9, 1e-6, 0.5, False, 0.1),
        optim.Adagrad(), optim.Adagrad(0.1, 1e-6, 0.1), optim.NAdam(), optim.NAdam(0.8, 0.99, 1e-6, 0.1, 0.1),
        optim.NAdam(decay=0.1, decoupled=True), optim.RAdam(), optim.RAdam(0.8, 0.5, 1e-6, 0.1),
        optim.RAdam(0.8, 0.9, 1e-6, 0.1, True), optim.Lion(), optim.Lion(0.8, 0.9, 0.1), optim.Lamb(),
        optim.Lamb(0.8, 0.99, 1e-3, 0.1), optim.Adafactor(), optim.Adafactor(-0.5, 1e-3, 0.1, 2.0, 0.1),
    ]  # fmt: skip
    for op in ops:
        yield _update(op, (3, 2), 4.0)
    yield _update(optim.RAdam(), (3, 2), 8.0)  # rectified from the sixth step on
    for shape_ in ((4,), (2, 3, 2, 2)):
        yield _update(optim.Adafactor(), shape_, 0.0)
    nothing = np.zeros((2, 2))
    yield s(optim.Lamb(), nothing, f(2, 2), nothing, nothing, scalar(0.1), scalar(0.0))
    yield s(optim.Lamb(), f(2, 2), nothing, nothing, nothing, scalar(0.1), scalar(0.0))
    yield s(optim.Adafactor(), nothing, nothing, nothing[:, :1], nothing[:1], scalar(0.1), scalar(0.0))
    for op in (optim.RmsProp(centered=True), optim.RmsProp(0.9, 1e-8, 0.5, True)):
        rest = [f(3, 2, low=-0.2, high=0.2) for _ in [*op.slots(Type((3, 2)))][1:]]
        yield s(op, f(3, 2), f(3, 2), f(3, 2, low=0.5), *rest, scalar(0.1), scalar(0.0))


def _update(op: optim.Update, dims: tuple[int, ...], step: float) -> Sample:
    """A parameter of a shape, its gradient, and slots above zero, as all but means are."""
    slots = [_slot(t) for t in op.slots(Type(dims)).values()]
    return s(op, f(*dims), f(*dims), *slots, scalar(0.1), scalar(step))


def _slot(t: Type) -> Draw | Array:
    return f(*(int(d) for d in t.shape), low=0.1) if t.rank else scalar(0.7)


def _all() -> Iterator[Sample]:
    for family in (
        _unary,
        _binary,
        _shape,
        _reduce,
        _linalg,
        _windows,
        _convs,
        _fused,
        _pools,
        _resizes,
        _activations,
        _losses,
        _norm,
        _recurrent,
        _attention,
        _optim,
    ):
        yield from family()


SAMPLES: dict[str, list[Sample]] = {}
for _sample in _all():
    SAMPLES.setdefault(_sample.op.kind, []).append(_sample)

ALL = [sample for samples in SAMPLES.values() for sample in samples]
IDS = [f"{sample.op.kind}-{i}" for samples in SAMPLES.values() for i, sample in enumerate(samples)]

TRIVIAL = {"Input", "Const", "Item"}


def leaf_ops() -> dict[str, type[Op]]:
    """The ops that graphs are made of: not the classes that others are derived from."""
    return {name: op for name, op in OPS.items() if not op.__subclasses__() and name not in TRIVIAL}


class Maze:
    """A random graph of smooth ops and changes of shape, drawn from a seed.

    Inputs `a`, `b` are data, `s`, `t` state of one type, updated; outputs are some of the values
    on the way, and `loss`, a scalar that depends on all that nothing else reads.
    """

    MAX = 200

    def __init__(self, seed: int, steps: int = 14) -> None:
        self.rng = np.random.default_rng(seed)
        state = self.shape()
        shapes = {"a": self.shape(), "b": self.shape(), "s": state, "t": state}
        self.inputs = {
            name: Input(name, Type(dims, DType.f64), "buffer" if name in "st" else "data")()
            for name, dims in shapes.items()
        }
        self.pool = list(self.inputs.values())
        while len(self.pool) < steps + 4:
            made = self.step(self.pick())
            if made.type.numel() <= self.MAX and made not in self.pool:
                self.pool.append(made)
        self.graph = self.finish()

    def shape(self) -> tuple[int, ...]:
        return tuple(int(d) for d in self.rng.integers(1, 4, self.rng.integers(1, 4)))

    def pick(self) -> Value:
        return self.pool[self.rng.integers(len(self.pool))]

    def choose(self, options: list[Any]) -> Any:
        return options[self.rng.integers(len(options))]

    def step(self, x: Value) -> Value:
        return self.choose([self.unary, self.binary, self.binary, self.move, self.move, self.reduction, self.idle])(x)

    def unary(self, x: Value) -> Value:
        a, e = activations, elementwise
        op = self.choose([e.Tanh(), a.Sigmoid(), e.Sin(), e.Cos(), a.Softplus(), a.Gelu(), a.Silu(), e.Erf(), e.Neg()])
        return self.choose([op(x), elementwise.Exp()(elementwise.Tanh()(x))])

    def binary(self, x: Value) -> Value:
        fitting = [v for v in self.pool if _fits(x, v)]
        y = self.choose(fitting)
        return self.choose([x + y, x - y, x * y * 0.5, x / (elementwise.Sin()(y) + 2.5), x + -y, 0.5 - y * x])

    def move(self, x: Value) -> Value:
        axis = int(self.rng.integers(x.rank)) if x.rank else 0
        size = int(x.shape[axis]) if x.rank else 1
        moves: list[Callable[[], Value]] = [
            lambda: shape.Reshape((x.type.numel(),))(x),
            lambda: shape.Reshape((1, *x.shape))(x),
            lambda: shape.BroadcastTo((2, *x.shape))(x),
        ]
        if x.rank:
            order = tuple(int(i) for i in self.rng.permutation(x.rank))
            bounds = [None] * x.rank
            moves += [
                lambda: shape.Transpose(order)(x),
                lambda: shape.Transpose(order)(shape.Transpose(order)(x)),
                lambda: shape.Flip(axis)(x),
                lambda: shape.Concat(axis)(x, elementwise.Tanh()(x), x),
                lambda: shape.Slice((*bounds[:axis], (0, max(1, size - 1)), *bounds[axis + 1 :]))(x),
                lambda: shape.Pad((*((0, 0),) * axis, (1, 2), *((0, 0),) * (x.rank - axis - 1)), 0.3)(x),
                lambda: shape.Split(axis, (1, size - 1))(x).items()[0],
                lambda: reduce.CumSum(axis)(x),
                lambda: linalg.Gather(axis)(x, constant(np.array([0, size - 1, 0]))),
            ]
        return self.choose(moves)()

    def reduction(self, x: Value) -> Value:
        if not x.rank:
            return elementwise.Sin()(x)
        axis = int(self.rng.integers(x.rank))
        op = self.choose([reduce.Sum((axis,)), reduce.Mean((axis,)), reduce.Softmax(axis), reduce.LogSoftmax(axis)])
        weight = constant(self.rng.uniform(-1, 1, (2, int(x.shape[-1]))))
        return self.choose([op(x), op(x), linalg.Linear()(x, weight), norm.LayerNorm(0.1)(x, *self.rows(x))])

    def rows(self, x: Value) -> tuple[Value, Value]:
        width = int(x.shape[-1])
        return constant(self.rng.uniform(0.5, 1.5, width)), constant(self.rng.uniform(-1, 1, width))

    def idle(self, x: Value) -> Value:
        """What `simplify` may take away, on top of something it may not."""
        y = elementwise.Sin()(x)
        return self.choose([y + 0.0, y * 1.0, y / 1.0, elementwise.Neg()(-y), elementwise.Cast(DType.f64)(y), y + y, x])

    def finish(self) -> Graph:
        read = {v for value in self.pool for v in value.inputs}
        sinks = [v for v in self.pool if v not in read]
        total = constant(0.0, DType.f64)
        for v in sinks:
            total = total + shape.reshape(reduce.Sum(tuple(range(v.rank)))(elementwise.Sin()(v)), ())
        outputs = {f"y{i}": self.pick() for i in range(3)}
        state = self.inputs["s"].type
        fitting = [v for v in self.pool if v.type == state]
        new = {name: self.choose([*fitting, self.inputs["s"], self.inputs["t"] * 0.5]) for name in "st"}
        return Graph(f"maze {len(self.pool)}", tuple(self.inputs.values()), {**outputs, "loss": total}, new)

    def feeds(self, seed: int = 0) -> dict[str, Array]:
        rng = np.random.default_rng(seed)
        return {name: np.asarray(rng.uniform(-1, 1, v.shape)) for name, v in self.inputs.items()}


def _fits(a: Value, b: Value) -> bool:
    try:
        return elementwise.Add().type(a.type, b.type).numel() <= Maze.MAX
    except IRError:
        return False
