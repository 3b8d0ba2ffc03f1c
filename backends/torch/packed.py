"""Products with constant weights: the weights are laid out once, as the kernels of oneDNN and BLAS read them.

Both are asked through PyTorch, by the operators that its own compiler calls for frozen networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from ...compiler.ir import Const, Dim, DType, Value
from ...compiler.ops.conv import Conv
from ...compiler.ops.fused import FusedConv, FusedLinear, conv_of, is_depthwise, is_zero
from ...compiler.ops.linalg import Linear
from ...compiler.ops.recurrent import Lstm, LstmGrad
from ..machine import this_machine
from ..source import Writer

# The element types that oneDNN has products of.
PACKED = (DType.f32, DType.bf16)

# What oneDNN calls the activations, and which form of them.
_ONEDNN = {
    "": ("none", ""), "relu": ("relu", ""), "gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""), "sigmoid": ("sigmoid", ""), "tanh": ("tanh", ""), "hard_swish": ("hardswish", ""),
    "hard_sigmoid": ("hardsigmoid", ""),
}  # fmt: skip
# What `_addmm_activation` does after a product.
_ADDMM = {"relu": "", "gelu": ", use_gelu=True"}


Packed = Tensor | list[Tensor]
# Lays weights out for a kernel; equal ones give equal results.
Pack = Callable[..., Packed]


# An LSTM, by its inputs and whether it runs in reverse.
Trained = tuple[tuple[Value, ...], bool]


def trained_by(v: Value) -> Trained:
    """The LSTM that a value is, or that it is the gradient of."""
    if isinstance(v.op, LstmGrad):
        return v.op.forward(v.inputs), v.op.reverse
    assert isinstance(v.op, Lstm)
    return v.inputs, v.op.reverse


class Packing(Writer):
    """A writer that also collects how constants are laid out before the first run."""

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        super().__init__(reserved)
        self.packs: dict[str, tuple[tuple[Value, ...], object, Pack]] = {}
        # LSTMs whose gradients follow: what they leave behind for these, and how many there are
        self.trained: dict[Trained, str] = {}
        self.gradients: Counter[Trained] = Counter()
        # Tensors that kernels look at but do not read
        self.blanks: dict[tuple[tuple[int, ...], DType, bool], str] = {}
        self._known: dict[tuple[tuple[Value, ...], object], str] = {}

    def blank(self, shape: tuple[int, ...], dtype: DType) -> str:
        """The name of a tensor without content, for what a kernel's result is to be like: with channels innermost."""
        key = (shape, dtype, len(shape) == 4)
        if key not in self.blanks:
            self.blanks[key] = self.names.make("blank")
        return self.blanks[key]

    def packed(self, weights: tuple[Value, ...], pack: Pack, key: object, hint: str = "packed") -> str:
        """The name of constants laid out by `pack`, which `key` tells from others."""
        if (weights, key) not in self._known:
            name = self._known[weights, key] = self.names.make(hint)
            self.packs[name] = (weights, key, pack)
        return self._known[weights, key]


def turned(weight: Tensor) -> Tensor:
    """A matrix turned: BLAS reads either, and goes through one in the order of its rows as through a stream."""
    return weight.t().contiguous()


def channels_last(weight: Tensor) -> Tensor:
    """A kernel's weights with channels innermost; convolutions then leave their results so, too.

    A copy even where there is one channel alone, which lies either way, but says by its strides which is meant.
    """
    return torch.empty_like(weight, memory_format=torch.channels_last).copy_(weight)


def _conv_pack(weight: Tensor, op: Conv, shape: Sequence[int]) -> Tensor:
    pads = [low for low, _ in op.pads]
    reorder = torch.ops.mkldnn._reorder_convolution_weight
    packed: Tensor = reorder(weight, pads, list(op.stride), list(op.dilation), op.groups, list(shape))
    return packed


def _linear_pack(weight: Tensor, rows: int) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return packed


def symmetric(pads: Sequence[tuple[int, int]]) -> bool:
    """Whether each axis is padded alike on both sides, as PyTorch's own convolutions and pools take it."""
    return all(low == high for low, high in pads)


@cache
def has_bfloat16() -> bool:
    """Try one product of each kind in bfloat16: oneDNN has them or not, which no list of processors tells.

    A processor may lack the instructions, a build the kernels, and `ONEDNN_MAX_CPU_ISA` may forbid them.
    """
    mkldnn, dtype = torch.ops.mkldnn, torch.bfloat16
    x, matrix = torch.zeros(2, 16, dtype=dtype), torch.zeros(16, 16, dtype=dtype)
    image, kernel = torch.zeros(1, 16, 4, 4, dtype=dtype), torch.zeros(16, 16, 3, 3, dtype=dtype)
    window = [1, 1], [1, 1], [1, 1], 1
    try:
        packed = mkldnn._reorder_linear_weight(matrix, 2)
        mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        packed = mkldnn._reorder_convolution_weight(kernel, *window, [1, 16, 4, 4])
        mkldnn._convolution_pointwise(image, packed, None, *window, "none", [], "")
    except (RuntimeError, AttributeError):  # what oneDNN refuses, and a build without it
        return False
    return True


def packs_conv(v: Value) -> bool:
    """Whether a convolution is worth oneDNN's own layout: two axes of space, constant weights, enough to do."""
    op = conv_of(v)
    x, weight = v.inputs[:2]
    if not isinstance(weight.op, Const) or v.dtype not in PACKED or weight.rank != 4:
        return False
    if not symmetric(op.pads) or any(t.names for t in (x.type, v.type)):
        return False
    # Without a layout of its own, one channel at a time has its weights turned in each call.
    return is_depthwise(v) or _pays("conv", v, weight.type.numel() // int(weight.shape[0]))


def conv(w: Packing, v: Value, a: Sequence[str]) -> str:
    """A convolution with what follows it, by one call of oneDNN."""
    op, (x, weight, *_) = conv_of(v), v.inputs
    pack = partial(_conv_pack, op=op, shape=[int(d) for d in x.shape])
    packed = w.packed((weight,), pack, op)
    bias = a[2] if len(a) > 2 and not is_zero(v.inputs[2]) else "None"
    window = f"{[low for low, _ in op.pads]!r}, {list(op.stride)!r}, {list(op.dilation)!r}, {op.groups}"
    activation = v.op.activation if isinstance(v.op, FusedConv) else ""
    name, form = _ONEDNN[activation]
    if len(a) > 3:
        after = f"{name!r}, [], {form!r}" if activation else "None, [], None"
        return (
            f"torch.ops.mkldnn._convolution_pointwise.binary({a[0]}, {a[3]}, {packed}, {bias}, {window}, "
            f"'add', None, {after})"
        )
    return f"torch.ops.mkldnn._convolution_pointwise({a[0]}, {packed}, {bias}, {window}, {name!r}, [], {form!r})"


def fuses_conv(v: Value) -> bool:
    """Whether oneDNN does what follows a convolution in the same pass: after an addition, relu alone."""
    assert isinstance(v.op, FusedConv)
    return packs_conv(v) and (len(v.inputs) < 4 or v.op.activation in ("", "relu"))


def packs_linear(v: Value) -> bool:
    """Whether a linear layer is worth oneDNN's own layout."""
    x, weight = v.inputs[:2]
    if not isinstance(weight.op, Const) or v.dtype not in PACKED or v.type.names or x.rank < 2:
        return False
    return _pays("linear", v, int(weight.shape[1]))


def _pays(kind: str, v: Value, depth: int) -> bool:
    """Whether a product, each of its results a sum of so many, is worth a layout of its own.

    A call of oneDNN costs a few microseconds more than one of BLAS, and a copy of the input into its own layout. In
    bfloat16 there is no other.
    """
    return v.dtype is DType.bf16 or 2 * v.type.numel() * depth >= this_machine().packed[kind]


def _adds_activation(v: Value) -> bool:
    assert isinstance(v.op, FusedLinear)
    plain = v.rank == 2 and len(v.inputs) == 3 and isinstance(v.inputs[1].op, Const)
    return plain and v.op.activation in _ADDMM and not v.type.names


def fuses_linear(v: Value) -> bool:
    """Whether what follows a linear layer is done in the same call."""
    assert isinstance(v.op, FusedLinear)
    if packs_linear(v):
        return len(v.inputs) < 4 or not v.op.activation
    return _adds_activation(v)


def linear(w: Packing, v: Value, a: Sequence[str]) -> str:
    """A linear layer with constant weights, with what follows it."""
    weight = v.inputs[1]
    bias = a[2] if len(a) > 2 else None
    activation = v.op.activation if isinstance(v.op, FusedLinear) else ""
    if packs_linear(v):
        rows = v.type.numel() // int(weight.shape[0])
        packed = w.packed((weight,), partial(_linear_pack, rows=rows), "linear")
        name, form = _ONEDNN[activation]
        if len(a) > 3:
            return f"torch.ops.mkldnn._linear_pointwise.binary({a[0]}, {a[3]}, {packed}, {bias}, 'add')"
        return f"torch.ops.mkldnn._linear_pointwise({a[0]}, {packed}, {bias}, {name!r}, [], {form!r})"
    plain = w.packed((weight,), turned, "turned", "turned")
    if activation:
        return f"torch._addmm_activation({bias}, {a[0]}, {plain}{_ADDMM[activation]})"
    return f"torch.addmm({bias}, {a[0]}, {plain})" if bias else f"torch.mm({a[0]}, {plain})"


def by_onednn(v: Value, depth: Dim) -> bool:
    """Whether a product of matrices that change is oneDNN's: it is where the BLAS of PyTorch is slow."""
    return v.dtype is DType.f32 and not v.type.names and isinstance(depth, int) and _pays("product", v, depth)


def product(x: str, weight: str, bias: str | None = None) -> str:
    """x weightᵀ + bias, by oneDNN."""
    return f"torch.ops.mkldnn._linear_pointwise({x}, {weight}, {bias}, 'none', [], '')"


def _lstm_pack(weight: Tensor, recurrent: Tensor, size: Sequence[int], reverse: bool) -> list[Tensor]:
    reorder = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight
    packed: list[Tensor] = reorder(weight, recurrent, recurrent.shape[1], reverse, True, False, list(size))
    return packed


def packs_lstm(v: Value) -> bool:
    """Whether an LSTM is oneDNN's, by weights in its layout: they do not change, and rows have no padding."""
    x, weight, recurrent, bias = v.inputs[:4]
    constant = all(isinstance(w.op, Const) for w in (weight, recurrent, bias))
    plain = len(v.inputs) == 6 and x.dtype is DType.f32 and not x.type.names and 0 not in x.shape
    return constant and plain


def lstm(w: Packing, v: Value, a: Sequence[str]) -> str:
    """An LSTM by a kernel of oneDNN, its weights laid out before."""
    assert isinstance(v.op, Lstm)
    x, weight, recurrent, bias = v.inputs[:4]
    rows, steps, features = map(int, x.shape)
    pack = partial(_lstm_pack, size=(steps, rows, features), reverse=v.op.reverse)
    packed = w.packed((weight, recurrent), pack, ("lstm", v.op.reverse))
    none = w.packed((bias,), torch.zeros_like, "zeros", "zeros")
    return f"lstm_packed({a[0]}, {packed}, ({a[3]}, {none}), {a[4]}, {a[5]}, {v.op.reverse})"


PACKED_KERNEL = "oneDNN, packed"


def kernel_of(v: Value) -> str:
    """Whose kernel runs a product, and whether its weights are laid out for it."""
    if isinstance(v.op, Conv | FusedConv):
        return PACKED_KERNEL if packs_conv(v) else "oneDNN"
    if isinstance(v.op, Lstm):
        return PACKED_KERNEL if packs_lstm(v) else "oneDNN"
    if not isinstance(v.op, Linear | FusedLinear):
        return ""
    if packs_linear(v):
        return PACKED_KERNEL
    plain = isinstance(v.inputs[1].op, Const) or not by_onednn(v, v.inputs[1].shape[1])
    return "BLAS" if plain else "oneDNN"


def is_plain(v: Value) -> bool:
    """Whether a linear layer multiplies a matrix by constant weights."""
    return isinstance(v.op, Linear) and v.rank == 2 and isinstance(v.inputs[1].op, Const)
