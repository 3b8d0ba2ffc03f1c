"""One table of sample uses per layer, each with what PyTorch makes of it; the tests of layers are derived from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import trine.compiler.training  # noqa: F401 (registers layers, losses, optimizers)
from trine.compiler.build import build
from trine.compiler.initialisers import initialise
from trine.compiler.ir import DType, Graph, Input, Op, constant, input_of
from trine.compiler.ops.losses import SquaredError
from trine.compiler.ops.reduce import Mean
from trine.compiler.ops.shape import reshape
from trine.compiler.rewrite import bind, retype, with_precision
from trine.compiler.spec.reader import read_string

torch = pytest.importorskip("torch")
F = torch.nn.functional

Array = Any
SIZES = {"N": 5, "T": 7}


def network(layers: str, inputs: str, loss: str = "", mode: str = "train") -> Graph:
    """The float64 graph of a small spec."""
    train = f"train: {{loss: {loss}, optimizer: sgd}}\n" if loss else ""
    spec = read_string(f"spec: 1\nmodel:\n  inputs: {{{inputs}}}\n  layers: {layers}\n{train}")
    return with_precision(build(spec, mode).graph, DType.f64)  # type: ignore[arg-type]


def feeds_of(graph: Graph, seed: int = 0, below: int = 3) -> dict[str, Array]:
    """Arrays for every input: parameters away from their neutral first values."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for v in graph.inputs:
        op = input_of(v)
        shape = tuple(SIZES[d] if isinstance(d, str) else d for d in v.shape)
        if op.role in ("param", "buffer"):
            feeds[op.name] = initialise(v, seed) + rng.uniform(0.1, 0.5, shape)
        elif op.role == "random":
            feeds[op.name] = rng.uniform(0, 1, shape)
        elif v.dtype.floating:
            feeds[op.name] = rng.uniform(-2, 2, shape)
        else:
            feeds[op.name] = rng.integers(0, below, shape)
    return feeds


def learning(graph: Graph) -> Graph:
    """The graph with what it reads as parameters: layers without weights have something to train."""

    def change(op: Op) -> Op:
        learned = isinstance(op, Input) and op.role == "data" and op.t.dtype.floating
        return Input(op.name, op.t, "param") if learned else op

    changed = retype(bind(graph, SIZES), change)
    (output,) = changed.outputs.values()
    target = Input("target", output.type)()
    error = SquaredError()(output, target)
    loss = reshape(Mean(tuple(range(error.rank)))(error), ())
    outputs = {"loss": loss, "loss/total": loss, "loss/weight": constant(1.0, loss.dtype)}
    return Graph(changed.name, (*changed.inputs, target), outputs, changed.updates)


# (layers, inputs, what torch makes of it): `w` are the parameters, buffers and random numbers by name.
Torch = Callable[[dict[str, Any], Any], Any]
LAYER_CASES: list[tuple[str, str, str, Torch]] = []


def case(name: str, layers: str, inputs: str) -> Callable[[Torch], Torch]:
    def add(function: Torch) -> Torch:
        LAYER_CASES.append((name, layers, inputs, function))
        return function

    return add


case("linear", "[linear: 4]", "x: 'float[3]'")(lambda w, x: F.linear(x, w["linear_1.weight"], w["linear_1.bias"]))
case("linear", "[linear: {units: 4, bias: false}]", "x: 'float[T, 3]'")(lambda w, x: F.linear(x, w["linear_1.weight"]))
case("embedding", "[embedding: {rows: 6, dim: 4}]", "x: 'int[T]'")(lambda w, x: F.embedding(x, w["embedding_1.weight"]))


def conv(function: Any, **options: Any) -> Torch:
    return lambda w, x: function(x, w["conv_1.weight"], w.get("conv_1.bias"), **options)


case("conv", "[conv: {filters: 4}]", "x: 'float[3, 5, 6]'")(conv(F.conv2d, padding=1))
case("conv", "[conv: {filters: 4, kernel: [3, 2], stride: [2, 1], padding: [1, 0], bias: false}]", "x: 'float[2, 5, 6]'")(  # noqa: E501
    conv(F.conv2d, stride=(2, 1), padding=(1, 0))
)  # fmt: skip
case("conv", "[conv: {filters: 4, groups: 2, dilation: 2, padding: valid}]", "x: 'float[2, 7, 6]'")(
    conv(F.conv2d, groups=2, dilation=2)
)
case("conv", "[conv: {filters: 2, kernel: 2, padding: same}]", "x: 'float[2, 4, 4]'")(conv(F.conv2d, padding="same"))
case("conv", "[conv: {filters: 2, kernel: 4, padding: same, dilation: 3}]", "x: 'float[2, 9, 4]'")(
    conv(F.conv2d, padding="same", dilation=3)
)
case("conv", "[conv: {filters: 3, kernel: 2, stride: 2, padding: 1}]", "x: 'float[2, 4, 3, 5]'")(
    conv(F.conv3d, stride=2, padding=1)
)
case("conv", "[conv: {filters: 3}]", "x: 'float[T, 4]'")(
    lambda w, x: F.conv1d(x.mT, w["conv_1.weight"], w["conv_1.bias"], padding=1).mT
)
case("conv", "[conv: {filters: 4, groups: 2, stride: 3, padding: 2}]", "x: 'float[8, 2]'")(
    lambda w, x: F.conv1d(x.mT, w["conv_1.weight"], w["conv_1.bias"], stride=3, padding=2, groups=2).mT
)
case("conv", "[conv: {filters: 2, kernel: [4, 2], padding: same_lower}]", "x: 'float[2, 5, 4]'")(
    lambda w, x: conv(F.conv2d)(w, F.pad(x, (1, 0, 2, 1)))
)
case("conv", "[conv: {filters: 2, padding: [[1, 2], [0, 1]], stride: 2}]", "x: 'float[2, 5, 4]'")(
    lambda w, x: conv(F.conv2d, stride=2)(w, F.pad(x, (0, 1, 1, 2)))
)
case("conv", "[conv: {filters: 2, padding: [2, [0, 1]]}]", "x: 'float[2, 5, 4]'")(
    lambda w, x: conv(F.conv2d)(w, F.pad(x, (0, 1, 2, 2)))
)
case("conv", "[conv: {filters: 2, padding: causal, dilation: 2}]", "x: 'float[T, 4]'")(
    lambda w, x: conv(F.conv1d, dilation=2)(w, F.pad(x.mT, (4, 0))).mT
)
case("conv", "[conv: {filters: 2, kernel: 2, padding: [[2, 0]]}]", "x: 'float[6, 4]'")(
    lambda w, x: conv(F.conv1d)(w, F.pad(x.mT, (2, 0))).mT
)
case("depthwise_conv", "[depthwise_conv: {kernel: [3, 2], stride: [2, 1], dilation: [1, 2]}]", "x: 'float[3, 5, 6]'")(
    lambda w, x: F.conv2d(
        F.pad(x, (1, 1, 1, 1)), w["depthwise_conv_1.weight"], w["depthwise_conv_1.bias"], (2, 1), 0, (1, 2), 3
    )
)
case("depthwise_conv", "[depthwise_conv: {multiplier: 2, bias: false, padding: causal}]", "x: 'float[T, 3]'")(
    lambda w, x: F.conv1d(F.pad(x.mT, (2, 0)), w["depthwise_conv_1.weight"], groups=3).mT
)


def separable(function: Any, groups: int, **options: Any) -> Torch:
    def layers(w: dict[str, Any], x: Any) -> Any:
        z = function(x, w["separable_conv_1.depthwise.weight"], groups=groups, **options)
        return function(z, w["separable_conv_1.pointwise.weight"], w.get("separable_conv_1.bias"))

    return layers


case("separable_conv", "[separable_conv: {filters: 4, stride: 2, multiplier: 2}]", "x: 'float[3, 5, 4]'")(
    separable(F.conv2d, 3, stride=2, padding=1)
)
case("separable_conv", "[separable_conv: {filters: 2, kernel: 2, bias: false, padding: valid}]", "x: 'float[2, 3, 4, 2]'")(  # noqa: E501
    separable(F.conv3d, 2)
)  # fmt: skip
case("max_pool", "[max_pool: {kernel: 3, stride: 2, padding: [[0, 1], [1, 0]]}]", "x: 'float[2, 5, 6]'")(
    lambda w, x: F.max_pool2d(F.pad(x, (1, 0, 0, 1), value=-torch.inf), 3, 2)
)
case("avg_pool", "[avg_pool: {kernel: 3, stride: 1, padding: causal, count_padding: true}]", "x: 'float[T, 2]'")(
    lambda w, x: F.avg_pool1d(F.pad(x.mT, (2, 0)), 3, 1).mT
)


def transposed(function: Any, **options: Any) -> Torch:
    return lambda w, x: function(x, w["transposed_conv_1.weight"], w.get("transposed_conv_1.bias"), **options)


case("transposed_conv", "[transposed_conv: {filters: 4, kernel: 4, stride: 2}]", "x: 'float[3, 3, 2]'")(
    transposed(F.conv_transpose2d, stride=2, padding=1)
)
case("transposed_conv", "[transposed_conv: {filters: 3, kernel: 3, stride: 2}]", "x: 'float[2, 3, 2]'")(
    lambda w, x: transposed(F.conv_transpose2d, stride=2)(w, x)[..., :-1, :-1]
)
case("transposed_conv", "[transposed_conv: {filters: 3, kernel: 2, stride: 3, bias: false}]", "x: 'float[2, 3, 2]'")(
    transposed(F.conv_transpose2d, stride=3, output_padding=1)
)
case(
    "transposed_conv",
    "[transposed_conv: {filters: 4, kernel: [3, 2], stride: [2, 3], padding: [1, 0], output_padding: [1, 2],"
    " groups: 2}]",
    "x: 'float[2, 3, 2]'",
)(transposed(F.conv_transpose2d, stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2))
case(
    "transposed_conv", "[transposed_conv: {filters: 3, kernel: 2, stride: 2, padding: valid}]", "x: 'float[2, 3, 2, 2]'"
)(transposed(F.conv_transpose3d, stride=2))
case("transposed_conv", "[transposed_conv: {filters: 3}]", "x: 'float[T, 4]'")(
    lambda w, x: transposed(F.conv_transpose1d, padding=1)(w, x.mT).mT
)
case("max_pool", "[max_pool: 2]", "x: 'float[2, 5, 6]'")(lambda w, x: F.max_pool2d(x, 2))
case("max_pool", "[max_pool: {kernel: 3, stride: 2, padding: 1}]", "x: 'float[2, 5, 6]'")(
    lambda w, x: F.max_pool2d(x, 3, 2, 1)
)
case("max_pool", "[max_pool: {kernel: 3, stride: 1, padding: same}]", "x: 'float[9, 2]'")(
    lambda w, x: F.max_pool1d(x.mT, 3, 1, 1).mT
)
case("max_pool", "[max_pool: {kernel: 2}]", "x: 'float[2, 4, 3, 5]'")(lambda w, x: F.max_pool3d(x, 2))
case("avg_pool", "[avg_pool: 2]", "x: 'float[2, 5, 6]'")(lambda w, x: F.avg_pool2d(x, 2))
for count, word in ((True, "true"), (False, "false")):
    case("avg_pool", f"[avg_pool: {{kernel: 3, stride: 2, padding: 1, count_padding: {word}}}]", "x: 'float[2, 5, 6]'")(
        lambda w, x, count=count: F.avg_pool2d(x, 3, 2, 1, count_include_pad=count)
    )
    case("avg_pool", f"[avg_pool: {{kernel: 3, stride: 1, padding: same, count_padding: {word}}}]", "x: 'float[9, 2]'")(
        lambda w, x, count=count: F.avg_pool1d(x.mT, 3, 1, 1, count_include_pad=count).mT
    )
case("avg_pool", "[avg_pool: 2]", "x: 'float[2, 4, 3, 5]'")(lambda w, x: F.avg_pool3d(x, 2))
case("global_avg_pool", "[global_avg_pool]", "x: 'float[2, 5, 6]'")(lambda w, x: x.mean((2, 3)))
case("global_avg_pool", "[global_avg_pool]", "x: 'float[T, 6]'")(lambda w, x: x.mean(1))
case("global_max_pool", "[global_max_pool]", "x: 'float[2, 5, 6]'")(lambda w, x: F.adaptive_max_pool2d(x, 1)[..., 0, 0])
case("global_max_pool", "[global_max_pool]", "x: 'float[T, 6]'")(lambda w, x: x.amax(1))
ADAPTIVE = (
    # size, inputs, the pool's rank: sizes that divide, that do not, and that grow
    ("2", "float[2, 4, 6]", 2), ("3", "float[2, 5, 7]", 2), ("[2, 4]", "float[2, 4, 6]", 2),
    ("[7, 1]", "float[2, 3, 5]", 2), ("3", "float[7, 2]", 1), ("[2, 3, 2]", "float[1, 3, 4, 2]", 3),
)  # fmt: skip


def adaptive(function: Any, size: Any) -> Torch:
    return lambda w, x: function(x.mT, size).mT if x.ndim == 3 else function(x, size)


for size, signature, rank in ADAPTIVE:
    for kind in ("avg", "max"):
        function = getattr(F, f"adaptive_{kind}_pool{rank}d")
        name = f"adaptive_{kind}_pool"
        case(name, f"[{name}: {{size: {size}}}]", f"x: '{signature}'")(adaptive(function, json.loads(size)))
case("resize", "[resize: 2]", "x: 'float[2, 3, 4]'")(lambda w, x: F.interpolate(x, scale_factor=2))
case("resize", "[resize: {size: [5, 2]}]", "x: 'float[2, 3, 4]'")(lambda w, x: F.interpolate(x, (5, 2)))
case("resize", "[resize: {scale: [1.5, 0.7], mode: bilinear}]", "x: 'float[2, 3, 4]'")(
    lambda w, x: F.interpolate(x, (4, 2), mode="bilinear")
)
case("resize", "[resize: {scale: 2.5, mode: linear}]", "x: 'float[4, 3]'")(
    lambda w, x: F.interpolate(x.mT, 10, mode="linear").mT
)
case("resize", "[resize: {size: 3, mode: linear}]", "x: 'float[1, 2, 3, 4]'")(
    lambda w, x: F.interpolate(x, (3, 3, 3), mode="trilinear")
)
case("upsample", "[upsample: 2]", "x: 'float[2, 3, 4]'")(lambda w, x: F.interpolate(x, scale_factor=2))
case("upsample", "[upsample: 3]", "x: 'float[4, 2]'")(lambda w, x: x.repeat_interleave(3, 1))
case("upsample", "[upsample: {scale: [2, 3], mode: bilinear}]", "x: 'float[2, 3, 4]'")(
    lambda w, x: F.interpolate(x, scale_factor=(2, 3), mode="bilinear")
)


def batch_norm(w: dict[str, Any], x: Any) -> Any:
    return F.batch_norm(x, None, None, w["batch_norm_1.scale"], w["batch_norm_1.shift"], True)


case("batch_norm", "[batch_norm]", "x: 'float[3]'")(batch_norm)
case("batch_norm", "[batch_norm]", "x: 'float[3, 4, 2]'")(batch_norm)
case("batch_norm", "[batch_norm]", "x: 'float[3, 2, 2, 2]'")(batch_norm)
case("batch_norm", "[batch_norm]", "x: 'float[T, 3]'")(lambda w, x: batch_norm(w, x.mT).mT)
case("layer_norm", "[layer_norm]", "x: 'float[4, 6]'")(
    lambda w, x: F.layer_norm(x, (6,), w["layer_norm_1.scale"], w["layer_norm_1.shift"])
)
case("rms_norm", "[rms_norm]", "x: 'float[4, 6]'")(lambda w, x: F.rms_norm(x, (6,), w["rms_norm_1.scale"], 1e-6))


def group_norm(groups: int) -> Torch:
    return lambda w, x: F.group_norm(x, groups, w["group_norm_1.scale"], w["group_norm_1.shift"])


def instance_norm(w: dict[str, Any], x: Any, eps: float = 1e-5) -> Any:
    learned = w.get("instance_norm_1.scale"), w.get("instance_norm_1.shift")
    return F.instance_norm(x, None, None, *learned, eps=eps)


case("group_norm", "[group_norm: 2]", "x: 'float[6]'")(group_norm(2))
case("group_norm", "[group_norm: 3]", "x: 'float[6, 3, 2]'")(group_norm(3))
case("group_norm", "[group_norm: 2]", "x: 'float[4, 2, 2, 2]'")(group_norm(2))
case("group_norm", "[group_norm: 2]", "x: 'float[T, 4]'")(lambda w, x: group_norm(2)(w, x.mT).mT)
case("instance_norm", "[instance_norm]", "x: 'float[3, 4, 2]'")(instance_norm)
case("instance_norm", "[instance_norm: {eps: 1e-3, affine: false}]", "x: 'float[3, 4, 2]'")(
    lambda w, x: instance_norm(w, x, 1e-3)
)
case("instance_norm", "[instance_norm]", "x: 'float[T, 3]'")(lambda w, x: instance_norm(w, x.mT).mT)
case("spatial_dropout", "[spatial_dropout: 0.3]", "x: 'float[4, 3, 2]'")(
    lambda w, x: x * (w["spatial_dropout_1.uniform"] >= 0.3) / 0.7
)
case("spatial_dropout", "[spatial_dropout: 0.3]", "x: 'float[T, 4]'")(
    lambda w, x: x * (w["spatial_dropout_1.uniform"] >= 0.3).mT / 0.7
)
case("stochastic_depth", "[stochastic_depth: 0.4]", "x: 'float[3, 2]'")(
    lambda w, x: x * (w["stochastic_depth_1.uniform"] >= 0.4) / 0.6
)
case("stochastic_depth", "[residual: [tanh, {stochastic_depth: 0.4}]]", "x: 'float[3]'")(
    lambda w, x: x + torch.tanh(x) * (w["residual_1.stochastic_depth_1.uniform"] >= 0.4) / 0.6
)
case("dropout", "[dropout: 0.3]", "x: 'float[4, 6]'")(lambda w, x: x * (w["dropout_1.uniform"] >= 0.3) / 0.7)
for name, function in {
    "relu": F.relu, "leaky_relu": F.leaky_relu, "elu": F.elu, "selu": F.selu, "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1), "tanh": torch.tanh, "silu": F.silu,
    "hard_swish": F.hardswish, "gelu": F.gelu, "softplus": F.softplus, "mish": F.mish,
    "softmax": lambda x: x.softmax(-1), "log_softmax": lambda x: x.log_softmax(-1),
}.items():  # fmt: skip
    case(name, f"[{name}]", "x: 'float[4, 6]'")(lambda w, x, function=function: function(x))
case("leaky_relu", "[leaky_relu: 0.2]", "x: 'float[6]'")(lambda w, x: F.leaky_relu(x, 0.2))
case("elu", "[elu: 0.5]", "x: 'float[6]'")(lambda w, x: F.elu(x, 0.5))
case("gelu", "[gelu: {approximate: true}]", "x: 'float[6]'")(lambda w, x: F.gelu(x, approximate="tanh"))
case("flatten", "[flatten]", "x: 'float[2, 3, 4]'")(lambda w, x: x.flatten(1))
case("reshape", "[reshape: [4, -1]]", "x: 'float[2, 6]'")(lambda w, x: x.reshape(-1, 4, 3))
case("transpose", "[transpose]", "x: 'float[2, 3, 4]'")(lambda w, x: x.permute(0, 3, 2, 1))
case("transpose", "[transpose: [2, 1]]", "x: 'float[T, 3]'")(lambda w, x: x.mT)
case("l2_normalize", "[l2_normalize]", "x: 'float[3, 4]'")(lambda w, x: F.normalize(x, dim=-1))
case("identity", "[identity]", "x: 'float[3]'")(lambda w, x: x)
case("mean", "[mean]", "x: 'float[T, 3]'")(lambda w, x: x.mean(1))
case("mean", "[mean: {over: 2}]", "x: 'float[2, 3]'")(lambda w, x: x.mean(2))
case("maximum", "[maximum: {over: 2}]", "x: 'float[2, 3]'")(lambda w, x: x.amax(2))
case("slice", "[slice: {start: 1}]", "x: 'float[4, 3]'")(lambda w, x: x[:, 1:])
case("slice", "[slice: {start: -3, stop: -1, over: 2}]", "x: 'float[2, 5]'")(lambda w, x: x[:, :, 2:4])
case("take", "[take]", "x: 'float[4, 3]'")(lambda w, x: x[:, 0])
case("take", "[take: {at: -1, over: T}]", "x: 'float[T, 3]'")(lambda w, x: x[:, -1])
case("take", "[take: {at: 1, over: T}]", "x: 'float[T, 3]'")(lambda w, x: x[:, 1])
TWO = "x: 'float[3]', y: 'float[3]'"
case("add", "[add: [x, y]]", TWO)(lambda w, x: x + w["y"])
case("multiply", "[multiply: [x, y, x]]", TWO)(lambda w, x: x * w["y"] * x)
case("subtract", "[subtract: [x, y]]", TWO)(lambda w, x: x - w["y"])
case("concat", "[concat: [x, y]]", TWO)(lambda w, x: torch.cat([x, w["y"]], -1))
case("concat", "[{concat: {axis: 1}, from: [x, y]}]", "x: 'float[2, 3]', y: 'float[1, 3]'")(
    lambda w, x: torch.cat([x, w["y"]], 1)
)
case("dot", "[dot: [x, y]]", TWO)(lambda w, x: (x * w["y"]).sum(-1))
case("dot", "[dot: [x, y]]", "x: 'float[3]', y: 'float[4, 3]'")(lambda w, x: torch.einsum("nd,nkd->nk", x, w["y"]))
case("residual", "[residual: [{linear: 3}, tanh]]", "x: 'float[3]'")(
    lambda w, x: x + torch.tanh(F.linear(x, w["residual_1.linear_1.weight"], w["residual_1.linear_1.bias"]))
)


@case("residual", "[residual: {layers: [{linear: 4}], shortcut: project}]", "x: 'float[3]'")
def _(w: dict[str, Any], x: Any) -> Any:
    shortcut = F.linear(x, w["residual_1.projection.weight"])
    if "residual_1.projection.scale" in w:
        scale, shift = w["residual_1.projection.scale"], w["residual_1.projection.shift"]
        shortcut = F.batch_norm(shortcut, None, None, scale, shift, True)
    return shortcut + F.linear(x, w["residual_1.linear_1.weight"], w["residual_1.linear_1.bias"])


@case("residual", "[residual: {layers: [{conv: {filters: 4, stride: 2}}], shortcut: project}]", "x: 'float[3, 5, 6]'")
def _(w: dict[str, Any], x: Any) -> Any:
    p = "residual_1.projection"
    shortcut = F.conv2d(x, w[f"{p}.weight"], stride=2)
    shortcut = F.batch_norm(shortcut, None, None, w[f"{p}.scale"], w[f"{p}.shift"], True)
    inner = F.conv2d(x, w["residual_1.conv_1.weight"], w["residual_1.conv_1.bias"], stride=2, padding=1)
    return shortcut + inner


def flat_weights(w: dict[str, Any], step: str, layers: int = 1, ways: int = 1) -> list[Any]:
    """A recurrent layer's parameters in the order of torch's functions, which have two biases."""
    flat = []
    for k in range(layers):
        for end in ("", ".reverse")[:ways]:
            name = f"{step}.layer_{k + 1}{end}"
            bias = w[f"{name}.bias"]
            inner = torch.zeros_like(bias)
            if f"{name}.recurrent_bias" in w:
                new = w[f"{name}.recurrent_bias"]
                inner = torch.cat([inner[: 2 * len(new)], new])
            flat += [w[f"{name}.weight"], w[f"{name}.recurrent"], bias, inner]
    return flat


def zeros(x: Any, units: int, count: int = 1) -> Any:
    return x.new_zeros(count, len(x), units)


def lstm(w: dict[str, Any], x: Any, units: int, layers: int = 1, ways: int = 1) -> Any:
    first = zeros(x, units, layers * ways)
    flat = flat_weights(w, "lstm_1", layers, ways)
    return torch.lstm(x, [first, first], flat, True, layers, 0.0, False, ways == 2, True)


def gru(w: dict[str, Any], x: Any, units: int, layers: int = 1, ways: int = 1) -> Any:
    flat = flat_weights(w, "gru_1", layers, ways)
    return torch.gru(x, zeros(x, units, layers * ways), flat, True, layers, 0.0, False, ways == 2, True)


STEPS = "x: 'float[T, 3]'"
case("lstm", "[lstm: 4]", STEPS)(lambda w, x: lstm(w, x, 4)[0])
case("lstm", "[lstm: {units: 2, layers: 2, bidirectional: true}]", STEPS)(lambda w, x: lstm(w, x, 2, 2, 2)[0])
case("lstm", "[lstm: {units: 2, bidirectional: true, returns: last}]", "x: 'float[4, 3]'")(
    lambda w, x: lstm(w, x, 2, 1, 2)[1].transpose(0, 1).flatten(1)
)
case("lstm", "[{lstm: {units: 2, returns: cell}, from: [x, h, c]}]", f"{STEPS}, h: 'float[2]', c: 'float[2]'")(
    lambda w, x: torch.lstm(
        x, [w["h"][None], w["c"][None]], flat_weights(w, "lstm_1"), True, 1, 0.0, False, False, True
    )[2][0]
)


@case("lstm", "[lstm: {units: 2, layers: 2, dropout: 0.4}]", STEPS)
def _(w: dict[str, Any], x: Any) -> Any:
    flat = flat_weights(w, "lstm_1", 2)
    first = [zeros(x, 2)] * 2
    y = torch.lstm(x, first, flat[:4], True, 1, 0.0, False, False, True)[0]
    y = y * (w["lstm_1.uniform"] >= 0.4) / 0.6
    return torch.lstm(y, first, flat[4:], True, 1, 0.0, False, False, True)[0]


case("gru", "[gru: 4]", STEPS)(lambda w, x: gru(w, x, 4)[0])
case("gru", "[gru: {units: 2, layers: 2, bidirectional: true}]", STEPS)(lambda w, x: gru(w, x, 2, 2, 2)[0])
case("gru", "[{gru: {units: 2, layers: 2, returns: last}, from: [x, h]}]", f"{STEPS}, h: 'float[2, 2]'")(
    lambda w, x: torch.gru(
        x, w["h"].transpose(0, 1).contiguous(), flat_weights(w, "gru_1", 2), True, 2, 0.0, False, False, True
    )[1][-1]
)
case("rnn", "[rnn: 4]", STEPS)(
    lambda w, x: torch.rnn_tanh(x, zeros(x, 4), flat_weights(w, "rnn_1"), True, 1, 0.0, False, False, True)[0]
)
case("rnn", "[rnn: {units: 2, activation: relu, bidirectional: true}]", "x: 'float[5, 3]'")(
    lambda w, x: torch.rnn_relu(x, zeros(x, 2, 2), flat_weights(w, "rnn_1", 1, 2), True, 1, 0.0, False, True, True)[0]
)


def multi_head(w: dict[str, Any], x: Any, context: Any, heads: int, mask: Any = None) -> Any:
    """`torch.nn.MultiheadAttention`'s own function."""
    p = {part: w[f"attention_1.{part}.weight"] for part in ("query", "key", "value", "output")}
    bias = {part: w.get(f"attention_1.{part}.bias") for part in p}
    inner = None if bias["query"] is None else torch.cat([bias["query"], bias["key"], bias["value"]])
    y, _ = F.multi_head_attention_forward(
        x.transpose(0, 1), context.transpose(0, 1), context.transpose(0, 1), x.shape[-1], heads,
        torch.cat([p["query"], p["key"], p["value"]]), inner, None, None, False, 0.0, p["output"], bias["output"],
        training=False, need_weights=False, attn_mask=mask,
    )  # fmt: skip
    return y.transpose(0, 1)


def hidden(x: Any, window: int | None = None) -> Any:
    """True where a step does not see another."""
    distance = torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])
    return (distance < 0) | (distance >= (window or x.shape[1]))


WIDE = "x: 'float[T, 4]'"
case("attention", "[attention: 2]", WIDE)(lambda w, x: multi_head(w, x, x, 2))
case("attention", "[attention: {heads: 2, bias: false}]", "x: 'float[5, 4]'")(lambda w, x: multi_head(w, x, x, 2))
case("attention", "[attention: {heads: 1, causal: true}]", WIDE)(lambda w, x: multi_head(w, x, x, 1, hidden(x)))
case("attention", "[attention: {heads: 2, causal: true, window: 3}]", WIDE)(
    lambda w, x: multi_head(w, x, x, 2, hidden(x, 3))
)
case("attention", "[{attention: 2, from: [x, y]}]", f"{WIDE}, y: 'float[5, 4]'")(
    lambda w, x: multi_head(w, x, w["y"], 2)
)


def projected(w: dict[str, Any], x: Any, name: str, heads: int) -> Any:
    y = F.linear(x, w[f"attention_1.{name}.weight"], w[f"attention_1.{name}.bias"])
    return y.unflatten(-1, (heads, -1)).transpose(1, 2)


def output(w: dict[str, Any], y: Any) -> Any:
    return F.linear(y.transpose(1, 2).flatten(2), w["attention_1.output.weight"], w["attention_1.output.bias"])


@case("attention", "[attention: {heads: 4, kv_heads: 2, head_dim: 3, causal: true}]", WIDE)
def _(w: dict[str, Any], x: Any) -> Any:
    q, k, v = (projected(w, x, name, n) for name, n in (("query", 4), ("key", 2), ("value", 2)))
    return output(w, F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))


def turned(x: Any) -> Any:
    """The rotation of RoFormer as complex numbers."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(x.shape[-2], dtype=torch.float64)[:, None] * rates
    pairs = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], -1)


@case("attention", "[attention: {heads: 2, causal: true, positions: rotary}]", "x: 'float[T, 8]'")
def _(w: dict[str, Any], x: Any) -> Any:
    q, k, v = (projected(w, x, name, 2) for name in ("query", "key", "value"))
    return output(w, F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True))


@case("attention", "[attention: {heads: 2, positions: alibi}]", WIDE)
def _(w: dict[str, Any], x: Any) -> Any:
    q, k, v = (projected(w, x, name, 2) for name in ("query", "key", "value"))
    distance = (torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])).abs()
    bias = -distance * torch.tensor([2.0**-4, 2.0**-8], dtype=torch.float64)[:, None, None]
    return output(w, F.scaled_dot_product_attention(q, k, v, attn_mask=bias))


@case("attention", "[attention: {heads: 2, dropout: 0.3}]", "x: 'float[3, 4]'")
def _(w: dict[str, Any], x: Any) -> Any:
    q, k, v = (projected(w, x, name, 2) for name in ("query", "key", "value"))
    weights = (q @ k.mT / 2**0.5).softmax(-1) * (w["attention_1.uniform"] >= 0.3) / 0.7
    return output(w, weights @ v)


case("positions", "[positions: {length: 9}]", WIDE)(lambda w, x: x + w["positions_1.weight"][: x.shape[1]])
case("positions", "[positions]", "x: 'float[T <= 8, 4]'")(lambda w, x: x + w["positions_1.weight"][: x.shape[1]])


@case("positions", "[positions: sinusoidal]", WIDE)
def _(w: dict[str, Any], x: Any) -> Any:
    angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.01], dtype=torch.float64)
    return x + torch.cat([angles.sin(), angles.cos()], -1)


case("patch_embedding", "[patch_embedding: {dim: 5, size: 2}]", "x: 'float[3, 4, 6]'")(
    lambda w, x: F.conv2d(x, w["patch_embedding_1.weight"], w["patch_embedding_1.bias"], 2).flatten(2).mT
)
case("class_token", "[class_token]", "x: 'float[3, 4]'")(
    lambda w, x: torch.cat([w["class_token_1.weight"].expand(len(x), 1, 4), x], 1)
)


@case("gaussian", "[gaussian: [x, y]]", TWO)
def _(w: dict[str, Any], x: Any) -> Any:
    noise = torch.sqrt(-2 * torch.log1p(-w["gaussian_1.uniform"])) * torch.cos(2 * torch.pi * w["gaussian_1.uniform_2"])
    return x + torch.exp(w["y"] / 2) * noise
