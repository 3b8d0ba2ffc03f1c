"""Products with what is done to each of their results: kernels do both in one pass over the output."""

from __future__ import annotations

from ..ir import Const, IRError, Op, Type, Value
from .activations import Gelu, HardSigmoid, HardSwish, Relu, Sigmoid, Silu
from .conv import Conv, Ints, Pads
from .elementwise import Tanh
from .linalg import Linear

# The activations that kernels apply to their results, by name.
EPILOGUES: dict[str, Op] = {
    "relu": Relu(), "gelu": Gelu(), "gelu_tanh": Gelu(True), "silu": Silu(), "sigmoid": Sigmoid(), "tanh": Tanh(),
    "hard_swish": HardSwish(), "hard_sigmoid": HardSigmoid(),
}  # fmt: skip
NAMES = {op: name for name, op in EPILOGUES.items()}


def _finished(activation: str, y: Value, more: tuple[Value, ...]) -> Value:
    """A product's results with the addend, if there is one, and the activation."""
    for addend in more:
        y = y + addend
    return EPILOGUES[activation](y) if activation else y


def _checked(name: str, activation: str, out: Type, more: tuple[Type, ...]) -> Type:
    if activation and activation not in EPILOGUES:
        raise IRError(f"{name}: no kernel applies `{activation}`")
    if len(more) > 1 or any(addend != out for addend in more):
        raise IRError(f"{name}: expected at most one addend {out}, got {', '.join(map(str, more))}")
    return out


def is_zero(bias: Value) -> bool:
    """Whether a bias stands for none."""
    return isinstance(bias.op, Const) and not bias.op.value.array.any()


class FusedConv(Op):
    """activation(conv(x, weight) + bias [+ addend]); the addend has the shape of the output."""

    stride: Ints
    pads: Pads
    dilation: Ints
    groups: int = 1
    activation: str = ""

    @property
    def conv(self) -> Conv:
        return Conv(self.stride, self.pads, self.dilation, self.groups)

    def type(self, x: Type, weight: Type, bias: Type, *more: Type) -> Type:
        return _checked(self.kind, self.activation, self.conv.type(x, weight, bias), more)

    def decompose(self, x: Value, weight: Value, bias: Value, *more: Value) -> Value:
        return _finished(self.activation, self.conv(x, weight, bias), more)


def conv_of(v: Value) -> Conv:
    """The convolution in a value that is one, with or without what follows it."""
    assert isinstance(v.op, Conv | FusedConv)
    return v.op if isinstance(v.op, Conv) else v.op.conv


def is_depthwise(v: Value) -> bool:
    """Whether each filter of a convolution sees a channel of its own."""
    groups = conv_of(v).groups
    return groups > 1 and (groups, 1) == v.inputs[1].shape[:2]


class FusedLinear(Op):
    """activation(x weightᵀ + bias [+ addend]); the addend has the shape of the output."""

    activation: str = ""

    def type(self, x: Type, weight: Type, bias: Type, *more: Type) -> Type:
        return _checked(self.kind, self.activation, Linear().type(x, weight, bias), more)

    def decompose(self, x: Value, weight: Value, bias: Value, *more: Value) -> Value:
        return _finished(self.activation, Linear()(x, weight, bias), more)
