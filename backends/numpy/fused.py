"""What this backend does in one go: a convolution and what follows it while its tiles are in cache, sums of squares."""

from __future__ import annotations

from ...compiler.ir import Const, Graph, IRError, Op, Type, Value, constant, scalar_of
from ...compiler.ops.conv import Conv, Ints, Pads
from ...compiler.ops.elementwise import Add, Maximum, Mul, floating
from ...compiler.ops.reduce import Sum
from ...compiler.rewrite import Uses, rewrite, rule


class ConvThen(Op):
    """`Conv` with or without a bias, then an array added, then, with `relu`, nothing below zero left.

    Inputs are x, the weight, the bias where it is `biased`, and the array that is added, if there is one.
    """

    stride: Ints
    pads: Pads
    dilation: Ints
    groups: int
    biased: bool
    relu: bool

    @property
    def conv(self) -> Conv:
        return Conv(self.stride, self.pads, self.dilation, self.groups)

    def type(self, x: Type, weight: Type, *rest: Type) -> Type:
        if not self.biased <= len(rest) <= self.biased + 1:
            raise IRError(f"ConvThen: {2 + len(rest)} inputs do not fit")
        y = self.conv.type(x, weight, *rest[: self.biased])
        if any(plus != y for plus in rest[self.biased :]):
            raise IRError(f"ConvThen: {rest[-1]} cannot be added to {y}")
        return y

    def decompose(self, x: Value, weight: Value, *rest: Value) -> Value:
        y = self.conv(x, weight, *rest[: self.biased])
        for plus in rest[self.biased :]:
            y = y + plus
        return Maximum()(y, constant(0.0, y.dtype)) if self.relu else y

    def flops(self, out: Type, x: Type, weight: Type, *rest: Type) -> int:
        return self.conv.flops(out, x, weight) + out.numel() * (len(rest) + self.relu)


class SquareSum(Op):
    """The sum of the squares of all numbers, in an array of one number and of their rank."""

    def type(self, x: Type) -> Type:
        return floating("SquareSum", x).with_shape(1 for _ in x.shape)

    def decompose(self, x: Value) -> Value:
        return Sum(tuple(range(x.rank)))(x * x)


@rule(Sum)
def sum_of_squares(v: Value, uses: Uses) -> Value | None:
    """sum(x * x) over all axes, without the products"""
    match v.inputs[0]:
        case Value(Mul(), (x, y)) as product if x is y and uses(product) == 1 and x.dtype.floating:
            axes = {a % x.rank for a in v.op.axes} if isinstance(v.op, Sum) else set()
            return SquareSum()(x) if len(axes) == x.rank > 0 else None
    return None


@rule(Add)
def add_into_conv(v: Value, uses: Uses) -> Value | None:
    """conv(x, w, b) + y -> ConvThen(x, w, b, y)"""
    for y, plus in (v.inputs, v.inputs[::-1]):
        match y:
            case Value(Conv() as op, inputs) if uses(y) == 1 and plus.type == y.type:
                biased = len(inputs) == 3
                return ConvThen(op.stride, op.pads, op.dilation, op.groups, biased, relu=False)(*inputs, plus)
    return None


@rule(Maximum)
def relu_into_conv(v: Value, uses: Uses) -> Value | None:
    """maximum(conv(x, w, b), 0) -> ConvThen(x, w, b), likewise where something was added"""
    y, low = v.inputs
    if not isinstance(low.op, Const) or scalar_of(low) != 0.0 or uses(y) != 1 or y.type != v.type:
        return None
    match y:
        case Value(Conv() as op, inputs):
            return ConvThen(op.stride, op.pads, op.dilation, op.groups, len(inputs) == 3, relu=True)(*inputs)
        case Value(ConvThen(relu=False) as op, inputs):
            return ConvThen(op.stride, op.pads, op.dilation, op.groups, op.biased, relu=True)(*inputs)
    return None


def fuse(graph: Graph) -> Graph:
    """The graph with what follows its convolutions made part of them, and sums of squares as such."""
    return rewrite(graph, [add_into_conv, relu_into_conv, sum_of_squares])
