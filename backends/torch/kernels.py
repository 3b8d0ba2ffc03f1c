"""PyTorch functions for the few ops that need more than one call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import recurrent

Ints = tuple[int, ...]


def fold(g: Tensor, size: Ints, stride: Ints, dilation: Ints) -> Tensor:
    """Add each window back in its place: [..., *O, *K] -> [..., *size]."""
    rank = len(size)
    lead, out, kernel = g.shape[: -2 * rank], g.shape[-2 * rank : -rank], g.shape[-rank:]
    x = g.new_zeros((*lead, *size))
    tap: Any
    for tap in itertools.product(*(range(k) for k in kernel)):
        place: Any = tuple(
            slice(o * d, o * d + t * (n - 1) + 1, t) for o, d, t, n in zip(tap, dilation, stride, out, strict=True)
        )
        x[(..., *place)] += g[(..., *tap)]
    return x


def max_pool_grad(g: Tensor, x: Tensor, kernel: Ints, stride: Ints, pads: tuple[Ints, ...]) -> Tensor:
    """The gradient of max pooling in its input, at ties to the first of a window."""
    rank = len(kernel)
    flat = [n for low, high in reversed(pads) for n in (low, high)]
    padded = F.pad(x, flat, value=-torch.inf) if any(flat) else x
    inside: Any = tuple(slice(low, low + s) for s, (low, _) in zip(x.shape[-rank:], pads, strict=True))
    if rank == 1:
        none = ((0, 0), (0, 0))
        wide = max_pool_grad(g.unsqueeze(2), padded.unsqueeze(2), (1, *kernel), (1, *stride), none)
        return wide.squeeze(2)[(..., *inside)]
    aten = torch.ops.aten
    pool, back = (
        (aten.max_pool2d_with_indices, aten.max_pool2d_with_indices_backward)
        if rank == 2
        else (aten.max_pool3d_with_indices, aten.max_pool3d_with_indices_backward)
    )
    _, indices = pool(padded, kernel, stride)
    grad: Tensor = back(g, padded, kernel, stride, [0] * rank, [1] * rank, False, indices)
    return grad[(..., *inside)]


def batch_norm_train(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation by the batch's statistics: (y, mean, biased variance)."""
    y, mean, inverse = torch.ops.aten.native_batch_norm(x, scale, shift, None, None, True, 0.0, eps)
    return y, mean, inverse.pow(-2.0) - eps


def batch_norm_grad(
    g: Tensor, x: Tensor, scale: Tensor, mean: Tensor, var: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `batch_norm_train` in its input, scale and shift."""
    inverse = torch.rsqrt(var + eps)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        g, x, scale, None, None, mean, inverse, True, eps, [True, True, True]
    )
    return found


def layer_norm_grad(g: Tensor, x: Tensor, scale: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of layer normalisation in its input, scale and shift."""
    var, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
        g, x, x.shape[-1:], mean, torch.rsqrt(var + eps), scale, torch.zeros_like(scale), [True, True, True]
    )
    return found


_HALF, _ROOT = torch.tensor(0.5), torch.tensor(0.5**0.5)


def gelu(x: Tensor) -> Tensor:
    """x Φ(x), of float32."""
    half = torch.mul(x, _HALF)
    return half.addcmul_(half, torch.mul(x, _ROOT).erf_())


# From so many numbers on, a vector's product with itself, by all threads, is faster than its norm, by one.
LONG = 1 << 17


def global_norm(*tensors: Tensor) -> Tensor:
    """The Euclidean norm of all numbers of several tensors together."""
    long = [x.view(-1) for x in tensors if x.numel() >= LONG and x.is_contiguous()]
    short = [x for x in tensors if x.numel() < LONG or not x.is_contiguous()]
    norms: tuple[Tensor, ...] = torch._foreach_norm(short) if short else ()
    total: Tensor = torch.linalg.vector_norm(torch.stack([*norms, *(torch.dot(x, x).sqrt_() for x in long)]))
    return total


def like(x: Tensor, other: Tensor) -> Tensor:
    """x laid out in memory as `other` is: kernels that update in place know no strides."""
    return x if x.stride() == other.stride() else torch.empty_like(other).copy_(x)


def lstm(
    x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor, h: Tensor, c: Tensor, mask: Tensor | None, reverse: bool
) -> tuple[Tensor, ...]:
    """An LSTM in one direction: (states of all steps, last state, last cell)."""
    weights = [weight, recurrent, bias, torch.zeros_like(bias)]
    if mask is not None:
        return packed(torch.lstm, weights, x, [h, c], mask, reverse)
    x = x.flip(1) if reverse else x
    y, h, c = torch.lstm(x, [h[None], c[None]], weights, True, 1, 0.0, False, False, True)
    return y.flip(1) if reverse else y, h[0], c[0]


def lstm_packed(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], h: Tensor, c: Tensor, reverse: bool
) -> tuple[Tensor, ...]:
    """`lstm` of oneDNN, with weights in its layout."""
    x = x.transpose(0, 1).contiguous()
    y, h, c, _ = torch.ops.aten.mkldnn_rnn_layer(x, *weights, *biases, h, c, reverse, [], *_layer(h), False, False)
    return y.transpose(0, 1), h, c


def lstm_train(
    x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor, h: Tensor, c: Tensor, reverse: bool
) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, ...]]]:
    """`lstm`, and what `lstm_grad` needs of it, in a list, to be taken out by the last that does."""
    x = x.transpose(0, 1).contiguous()
    weights = weight, recurrent, bias, torch.zeros_like(bias)
    # oneDNN leaves its workspace behind only where PyTorch thinks of gradients.
    with torch.inference_mode(False), torch.enable_grad():
        y, hn, cn, space = torch.ops.aten.mkldnn_rnn_layer(x, *weights, h, c, reverse, [], *_layer(h), False, True)
    return (y.transpose(0, 1), hn, cn), [(x, y, hn, cn, space)]


def lstm_grad(
    gy: Tensor | None, gh: Tensor | None, gc: Tensor | None, saved: tuple[Tensor, ...],
    x: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor, h: Tensor, c: Tensor, reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients of `lstm` in the input, the weights, the bias and the first states."""
    x, y, hn, cn, space = saved
    weights = weight, recurrent, bias, torch.zeros_like(bias)
    gy = torch.zeros_like(y) if gy is None else gy.transpose(0, 1).contiguous()
    mode, units, layers, biases, both = _layer(h)
    gx, gw, gr, gb, _, gh0, gc0 = torch.ops.aten.mkldnn_rnn_layer_backward(
        x, *weights, h, c, y, hn, cn, gy, gh, gc, reverse, mode, units, layers, biases, True, both, [], False, space
    )
    return gx.transpose(0, 1), gw, gr, gb, gh0, gc0


def _layer(h: Tensor) -> tuple[int, int, int, bool, bool]:
    """What PyTorch calls one layer of an LSTM: its mode, units, layers, whether it has biases and two directions."""
    return 2, h.shape[1], 1, True, False


def gru(
    x: Tensor,
    weight: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    new: Tensor,
    h: Tensor,
    mask: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """A GRU in one direction: (states of all steps, last state)."""
    inner = torch.cat([torch.zeros_like(bias[: 2 * len(new)]), new])
    return rnn(x, weight, recurrent, bias, h, mask, reverse, torch.gru, inner)


def rnn(
    x: Tensor,
    weight: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    h: Tensor,
    mask: Tensor | None,
    reverse: bool,
    function: Callable[..., Any],
    inner: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """A recurrent layer with one state, in one direction: (states of all steps, last state)."""
    weights = [weight, recurrent, bias, torch.zeros_like(bias) if inner is None else inner]
    if mask is not None:
        return packed(function, weights, x, [h], mask, reverse)
    x = x.flip(1) if reverse else x
    y, h = function(x, h[None], weights, True, 1, 0.0, False, False, True)
    return y.flip(1) if reverse else y, h[0]


def packed(
    function: Callable[..., Any], weights: list[Tensor], x: Tensor, first: list[Tensor], mask: Tensor, reverse: bool
) -> tuple[Tensor, ...]:
    """A recurrent layer over rows that are padded at their ends: (states of all steps, last states)."""
    tools = torch.nn.utils.rnn
    lengths = mask.sum(1)
    x = turned(x, lengths) if reverse else x
    rows = tools.pack_padded_sequence(x, lengths.clamp(min=1).cpu(), True, False)
    states = [state[rows.sorted_indices][None] for state in first]
    held = states if len(states) > 1 else states[0]
    y, *last = function(rows.data, rows.batch_sizes, held, weights, True, 1, 0.0, False, False)
    rows = tools.PackedSequence(y, rows.batch_sizes, rows.sorted_indices, rows.unsorted_indices)
    y = tools.pad_packed_sequence(rows, True, 0.0, x.shape[1])[0] * mask[:, :, None]
    some = lengths[:, None] > 0  # a row without steps keeps its first state
    last = [torch.where(some, state[0][rows.unsorted_indices], old) for state, old in zip(last, first, strict=True)]
    return turned(y, lengths) if reverse else y, *last


def turned(x: Tensor, lengths: Tensor) -> Tensor:
    """Each row's own steps in reverse order, its padding where it is."""
    steps = torch.arange(x.shape[1], device=x.device)
    index = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return x.gather(1, index[:, :, None].expand(x.shape))


# What generated source may call.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f.__name__: f for f in (fold, max_pool_grad, batch_norm_train, batch_norm_grad, layer_norm_grad)},
    **{f.__name__: f for f in (global_norm, like, gelu)},
    **{f.__name__: f for f in (lstm, lstm_packed, lstm_train, lstm_grad, gru, rnn, packed, turned)},
    **{name: getattr(recurrent, name) for name in recurrent.NAMES},
}
