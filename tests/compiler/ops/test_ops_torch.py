"""PyTorch as an outside oracle: values and gradients of every op it has a counterpart of, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiler_samples import ALL, IDS, Sample, leaf_ops
from trine.compiler.autodiff import grad
from trine.compiler.ir import DType, constant, evaluate
from trine.compiler.ops.conv import Conv
from trine.compiler.ops.reduce import Sum
from trine.compiler.ops.shape import reshape

torch = pytest.importorskip("torch")
F = torch.nn.functional

Array = Any
# The same sums of float64 numbers in another order.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}

CONV = (F.conv1d, F.conv2d, F.conv3d)
MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVG_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def padded(x: Any, pads: Any, value: float = 0.0) -> Any:
    """x padded as the op's `pads` say: torch counts axes from the last."""
    return F.pad(x, [p for pair in reversed(pads) for p in pair], value=value)


def conv(op: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    function = CONV[len(op.stride) - 1]
    return function(padded(x, op.pads), weight, bias, op.stride, 0, op.dilation, op.groups)


def conv_gradient(op: Any, position: int, g: Any, other: Any, shape: Any) -> Any:
    """The gradient that torch's own autograd finds, itself differentiable."""
    hole = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    y = conv(op, *((hole, other) if position == 0 else (other, hole)))
    return torch.autograd.grad(y, hole, g, create_graph=True)[0]


def conv_input_grad(op: Any, g: Any, weight: Any) -> Any:
    return conv_gradient(op, 0, g, weight, (g.shape[0], weight.shape[1] * op.groups, *op.size))


def conv_weight_grad(op: Any, g: Any, x: Any) -> Any:
    return conv_gradient(op, 1, g, x, (g.shape[1], x.shape[1] // op.groups, *op.size))


def max_pool(op: Any, x: Any) -> Any:
    return MAX_POOL[len(op.kernel) - 1](padded(x, op.pads, -np.inf), op.kernel, op.stride)


def avg_pool(op: Any, x: Any) -> Any:
    function = AVG_POOL[len(op.kernel) - 1]
    total = function(padded(x, op.pads), op.kernel, op.stride)
    if op.count_pads:
        return total
    return total / function(padded(torch.ones_like(x), op.pads), op.kernel, op.stride)


def max_pool_grad(op: Any, g: Any, x: Any, y: Any) -> Any:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(max_pool(op, x), x, g)[0]


def resize(op: Any, x: Any) -> Any:
    """torch wants two axes before those to resize; one that is missing is of size one."""
    wide = x if x.ndim == len(op.size) + 2 else x.unsqueeze(0)
    if op.mode == "nearest":
        return F.interpolate(wide, op.size, mode="nearest").reshape(*x.shape[: -len(op.size)], *op.size)
    mode = ("linear", "bilinear", "trilinear")[len(op.size) - 1]
    y = F.interpolate(wide, op.size, mode=mode, align_corners=False)
    return y.reshape(*x.shape[: -len(op.size)], *op.size)


def dropout(op: Any, x: Any, uniform: Any) -> Any:
    return x * (uniform >= op.rate) / (1 - op.rate)


def batch_norm(op: Any, x: Any, scale: Any, shift: Any, mean: Any, var: Any) -> Any:
    """`F.batch_norm` itself has no gradient in the statistics; test_layers.py compares with it."""
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    mean, var, scale, shift = (v.reshape(shape) for v in (mean, var, scale, shift))
    return (x - mean) / torch.sqrt(var + op.eps) * scale + shift


def batch_norm_train(op: Any, x: Any, scale: Any, shift: Any) -> Any:
    axes = [0, *range(2, x.ndim)]
    y = F.batch_norm(x, None, None, scale, shift, training=True, eps=op.eps)
    return y, x.mean(axes), x.var(axes, unbiased=False)


def cross_entropy(op: Any, logits: Any, label: Any) -> Any:
    flat = F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), label.reshape(-1), reduction="none", label_smoothing=op.smoothing
    )
    return flat.reshape(label.shape)


def binary_cross_entropy(op: Any, logit: Any, target: Any) -> Any:
    weight = torch.tensor(op.positive_weight, dtype=torch.float64)
    return F.binary_cross_entropy_with_logits(logit, target, reduction="none", pos_weight=weight)


def focal(op: Any, logits: Any, label: Any) -> Any:
    share = logits.softmax(-1).gather(-1, label[..., None])[..., 0]
    return -((1 - share) ** op.gamma) * torch.log(share)


def binary_focal(op: Any, logit: Any, target: Any) -> Any:
    share = torch.sigmoid(logit * (2 * target - 1))
    return -((1 - share) ** op.gamma) * torch.log(share)


def triplet_in_batch(op: Any, embedding: Any, label: Any) -> Any:
    """Row by row, over the distances of torch."""
    losses, weights = [], []
    for i, own in enumerate(label):
        others = torch.arange(len(label)) != i
        away = F.pairwise_distance(embedding[i], embedding, eps=0.0)
        positive, negative = away[(label == own) & others], away[label != own]
        there = len(positive) > 0 and len(negative) > 0
        losses.append(F.relu(positive.max() - negative.min() + op.margin) if there else embedding.new_zeros(()))
        weights.append(float(there))
    return torch.stack(losses), torch.tensor(weights, dtype=embedding.dtype)


def ctc(op: Any, logits: Any, label: Any) -> Any:
    frames, lengths = torch.full((len(label),), logits.shape[1]), (label > 0).sum(1)
    logs = logits.log_softmax(-1).transpose(0, 1)
    each = F.ctc_loss(logs, label.clamp(min=0), frames, lengths, reduction="none")
    return each / lengths.clamp(min=1)


def scatter_add(op: Any, g: Any, index: Any) -> Any:
    lead, tail = g.shape[: op.axis], g.shape[op.axis + index.ndim :]
    zeros = torch.zeros((*lead, op.size[0], *tail), dtype=g.dtype)
    return zeros.index_add(op.axis, index.reshape(-1), g.reshape(*lead, -1, *tail))


def gather(op: Any, x: Any, index: Any) -> Any:
    axis = op.axis % x.ndim
    flat = torch.index_select(x, axis, index.reshape(-1))
    return flat.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def gradient(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """The gradient in x that torch's own autograd finds, itself differentiable."""

    def counterpart(op: Any, g: Any, x: Any) -> Any:
        x = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(function(op)(x), x, g, create_graph=True)[0]

    return counterpart


def layer_norm_grad(op: Any, g: Any, x: Any, scale: Any) -> Any:
    shift = torch.zeros_like(scale, requires_grad=True)
    y = F.layer_norm(x, x.shape[-1:], scale, shift, op.eps)
    return torch.autograd.grad(y, (x, scale, shift), g, create_graph=True)


def _gelu(op: Any) -> Callable[[Any], Any]:
    return lambda x: F.gelu(x, approximate="tanh" if op.approximate else "none")


COUNTERPARTS: dict[str, Callable[..., Any]] = {
    **{k: lambda op, x, k=k: getattr(torch, k.lower())(x) for k in ("Neg", "Exp", "Expm1", "Log", "Log1p", "Sqrt", "Sin", "Cos", "Tanh", "Abs", "Sign", "Floor", "Erf")},  # noqa: E501
    "Add": lambda op, a, b: a + b,
    "Sub": lambda op, a, b: a - b,
    "Mul": lambda op, a, b: a * b,
    "Div": lambda op, a, b: a / b,
    "Pow": lambda op, a, b: a**b,
    "Maximum": lambda op, a, b: torch.maximum(a, b),
    "Minimum": lambda op, a, b: torch.minimum(a, b),
    "Less": lambda op, a, b: a < b,
    "Equal": lambda op, a, b: a == b,
    "And": lambda op, a, b: a & b,
    "Not": lambda op, a: ~a,
    "Where": lambda op, c, a, b: torch.where(c, a, b),
    "Reshape": lambda op, x: x.reshape(op.shape),
    "Transpose": lambda op, x: x.permute(op.axes),
    "BroadcastTo": lambda op, x: x.broadcast_to(op.shape),
    "Slice": lambda op, x: x[tuple(slice(None) if b is None else slice(*b) for b in op.bounds)],
    "Pad": lambda op, x: padded(x, op.pads, op.value) if op.pads else x,
    "Concat": lambda op, *xs: torch.cat(xs, op.axis),
    "Split": lambda op, x: x.split(op.sizes, op.axis),
    "Flip": lambda op, x: x.flip(op.axis),
    "Sum": lambda op, x: x.sum(op.axes, keepdim=True, dtype=x.dtype) if op.axes else x,
    "Mean": lambda op, x: x.mean(op.axes, keepdim=True) if op.axes else x,
    "Max": lambda op, x: x.max(op.axis, keepdim=True).values,
    "ArgMax": lambda op, x: x.argmax(op.axis, keepdim=True),
    "CumSum": lambda op, x: x.cumsum(op.axis),
    "Softmax": lambda op, x: x.softmax(op.axis),
    "LogSoftmax": lambda op, x: x.log_softmax(op.axis),
    "LogSumExp": lambda op, x: torch.logsumexp(x, op.axis, keepdim=True),
    "L2Normalize": lambda op, x: F.normalize(x, dim=op.axis, eps=op.eps),
    "MatMul": lambda op, a, b: a @ b,
    "Linear": lambda op, *xs: F.linear(*xs),
    "LinearWeightGrad": lambda op, g, x: g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1]),
    "Gather": gather,
    "ScatterAdd": scatter_add,
    "Conv": conv,
    "ConvInputGrad": conv_input_grad,
    "ConvWeightGrad": conv_weight_grad,
    "MaxPool": max_pool,
    "MaxPoolGrad": max_pool_grad,
    "AvgPool": avg_pool,
    "Resize": resize,
    "Relu": lambda op, x: F.relu(x),
    "LeakyRelu": lambda op, x: F.leaky_relu(x, op.slope),
    "Elu": lambda op, x: F.elu(x, op.alpha),
    "Selu": lambda op, x: F.selu(x),
    "Sigmoid": lambda op, x: torch.sigmoid(x),
    # torch's own divides by six in float32, even in float64
    "HardSigmoid": lambda op, x: torch.clamp(x / 6 + 0.5, 0.0, 1.0),
    "Silu": lambda op, x: F.silu(x),
    "HardSwish": lambda op, x: F.hardswish(x),
    "Gelu": lambda op, x: _gelu(op)(x),
    "ReluGrad": gradient(lambda op: F.relu),
    "SiluGrad": gradient(lambda op: F.silu),
    "GeluGrad": gradient(_gelu),
    "Softplus": lambda op, x: F.softplus(x, threshold=1000.0),
    "Mish": lambda op, x: x * torch.tanh(F.softplus(x, threshold=1000.0)),
    "SquaredError": lambda op, p, t: F.mse_loss(p, t, reduction="none"),
    "AbsoluteError": lambda op, p, t: F.l1_loss(p, t, reduction="none"),
    "HuberError": lambda op, p, t: F.huber_loss(p, t, reduction="none", delta=op.delta),
    "BinaryCrossEntropy": binary_cross_entropy,
    "CrossEntropy": cross_entropy,
    "Hinge": lambda op, x, t: torch.clamp(op.margin - x * t, min=0.0),
    "LogCosh": lambda op, p, t: torch.log(torch.cosh(p - t)),
    "QuantileError": lambda op, p, t: torch.maximum(op.quantile * (t - p), (op.quantile - 1) * (t - p)),
    "Focal": focal,
    "BinaryFocal": binary_focal,
    "PoissonError": lambda op, x, t: F.poisson_nll_loss(x, t, op.log, False, eps=op.eps, reduction="none"),
    "GaussianError": lambda op, m, v, t: F.gaussian_nll_loss(m, t, v, eps=op.eps, reduction="none"),
    "Divergence": lambda op, logs, t: F.kl_div(logs, t, reduction="none"),
    "TripletInBatch": triplet_in_batch,
    "Ctc": ctc,
    "BatchNorm": batch_norm,
    "BatchNormTrain": batch_norm_train,
    "LayerNorm": lambda op, x, scale, shift: F.layer_norm(x, x.shape[-1:], scale, shift, op.eps),
    "LayerNormGrad": layer_norm_grad,
    "GroupNorm": lambda op, x, *learned: F.group_norm(x, op.groups, *learned, eps=op.eps),
    "RmsNorm": lambda op, x, scale: F.rms_norm(x, x.shape[-1:], scale, op.eps),
    "GlobalNorm": lambda op, *x: torch.linalg.vector_norm(torch.cat([t.reshape(-1) for t in x])),
    "WriteSlice": lambda op, x, new, index: x.index_copy(op.axis, index.reshape(1), new),
    "Dropout": dropout,
    "After": lambda op, x, when: x,
    "Rounded": lambda op, x: x.to(torch.bfloat16).to(x.dtype),
    "Normal": lambda op, a, b: torch.sqrt(-2 * torch.log1p(-a)) * torch.cos(2 * torch.pi * b),
}  # fmt: skip

# Casts and constants, which torch has no say in; optimizers are compared in test_training.py;
# windows are compared through Conv and the pools, and gradients that are made of an output or of statistics through
# the op that they are the gradient of; fused ops through their parts. Recurrences, attention and positions are compared
# as layers, in test_layers.py.
WITHOUT = {
    "Cast", "Size", "Iota", "OneHot", "Windows", "Fold", "Sgd", "Adam", "RmsProp", "Adagrad",
    "NAdam", "RAdam", "Lion", "Lamb", "Adafactor",
    "AvgPoolGrad", "BatchNormGrad", "SoftmaxGrad", "LogSoftmaxGrad", "CtcGrad",
    "Lstm", "Gru", "Rnn", "LstmScan", "GruScan", "RnnScan", "ReluScan", "Attention", "AttentionWeights", "Rotary",
    "Sinusoids",
    "CachedAttention", "FusedConv", "FusedLinear",
    "LstmGrad", "LstmScanGrad", "GruScanGrad", "RnnScanGrad", "ReluScanGrad",
}  # fmt: skip

CASES = [(s, i) for s, i in zip(ALL, IDS, strict=True) if s.op.kind in COUNTERPARTS]


def test_every_op_has_a_counterpart_or_a_reason() -> None:
    assert set(leaf_ops()) - set(COUNTERPARTS) == WITHOUT


@pytest.mark.parametrize("sample", [s for s, _ in CASES], ids=[i for _, i in CASES])
def test_values_and_gradients_are_those_of_torch(sample: Sample) -> None:
    graph, feeds = sample.graph()
    tensors = [torch.tensor(array, requires_grad=array.dtype == np.float64) for array in feeds.values()]
    result = COUNTERPARTS[sample.op.kind](sample.op, *tensors)
    theirs = result if isinstance(result, tuple) else (result,)
    ours = evaluate(graph.outputs.values(), feeds)
    assert len(theirs) == len(ours)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == tuple(b.shape)
        np.testing.assert_allclose(a, b.detach().numpy(), **CLOSE)
    if sample.grad and sample.op.differentiable and all(v.dtype is DType.f64 for v in graph.outputs.values()):
        compare_gradients(sample, theirs, [t for t in tensors if t.requires_grad])


def compare_gradients(sample: Sample, theirs: tuple[Any, ...], tensors: list[Any]) -> None:
    """The gradients of the sum of all outputs, each times 1, 2, 3, … by position."""
    graph, feeds = sample.graph()
    ours, total = None, 0.0
    for value, tensor in zip(graph.outputs.values(), theirs, strict=True):
        ramp = np.arange(1.0, tensor.numel() + 1).reshape(tuple(tensor.shape))
        term = reshape(Sum(tuple(range(value.rank)))(value * constant(ramp)), ())
        ours = term if ours is None else ours + term
        total = total + (tensor * torch.tensor(ramp)).sum()
    assert ours is not None
    wanted = torch.autograd.grad(total, tensors, allow_unused=True)
    names = [name for name, array in feeds.items() if array.dtype == np.float64]
    derived = grad(graph.with_outputs({"loss": ours}), "loss", names)
    found = evaluate([derived.outputs[f"dloss/d{name}"] for name in names], feeds)
    for name, a, b in zip(names, found, wanted, strict=True):
        expected = np.zeros_like(a) if b is None else b.numpy()
        np.testing.assert_allclose(a, expected, rtol=1e-9, atol=1e-8, err_msg=name)  # the ramp reaches 100


def test_convolution_samples_cover_every_rank_and_setting() -> None:
    ops = [s.op for s in ALL if isinstance(s.op, Conv)]
    assert {len(op.stride) for op in ops} == {1, 2, 3}
    assert any(op.groups > 1 for op in ops)
    assert any(max(op.dilation) > 1 for op in ops)
    assert any(low != high for op in ops for low, high in op.pads)
