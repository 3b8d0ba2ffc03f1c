"""The networks as one writes them by hand for PyTorch, with Trine's weights."""

# PyTorch does not say what calling a module gives.
# mypy: disable-error-code="no-any-return,no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .workloads import Arrays, blocks

Layer = TypeVar("Layer", bound=nn.Module)


class Weights:
    """Trine's arrays, as the layers of PyTorch that hold them."""

    def __init__(self, arrays: Arrays, params: Mapping[str, Any]) -> None:
        self.arrays = {name: torch.tensor(array) for name, array in arrays.items()}
        self.params = params

    def linear(self, *names: str, bias: bool = True) -> nn.Linear:
        """The linear layers of these names as one."""
        weight = torch.cat([self.arrays[f"{name}.weight"] for name in names])
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias)
        held = {"bias": torch.cat([self.arrays[f"{name}.bias"] for name in names])} if bias else {}
        return _filled(layer, weight=weight, **held)

    def conv(self, name: str, stride: int = 1, padding: int = 1) -> nn.Conv2d:
        weight, bias = self.arrays[f"{name}.weight"], self.arrays.get(f"{name}.bias")
        groups = weight.shape[0] if weight.shape[1] == 1 and "depthwise" in name else 1
        sizes = weight.shape[1] * groups, weight.shape[0], weight.shape[2]
        layer = nn.Conv2d(*sizes, stride, padding, groups=groups, bias=bias is not None)
        return _filled(layer, weight=weight, **({} if bias is None else {"bias": bias}))

    def batch_norm(self, name: str) -> nn.BatchNorm2d:
        scale, shift, mean, variance = (
            self.arrays[f"{name}.{part}"] for part in ("scale", "shift", "mean", "variance")
        )
        layer = nn.BatchNorm2d(len(scale))
        return _filled(layer, weight=scale, bias=shift, running_mean=mean, running_var=variance)

    def layer_norm(self, name: str) -> nn.LayerNorm:
        scale, shift = self.arrays[f"{name}.scale"], self.arrays[f"{name}.shift"]
        return _filled(nn.LayerNorm(len(scale)), weight=scale, bias=shift)

    def recurrent(self, kind: type[nn.LSTM] | type[nn.GRU], name: str) -> nn.LSTM | nn.GRU:
        """PyTorch has two biases that add up; the second is zero and stays so, where Trine has one."""
        units, depth = self.params["units"], self.params["depth"]
        both = f"{name}.layer_1.reverse.weight" in self.arrays
        layer = kind(self.params["features"], units, depth, batch_first=True, bidirectional=both)
        with torch.no_grad():
            for i in range(depth):
                for end, direction in (("", ""), ("_reverse", ".reverse")) if both else (("", ""),):
                    self._recurrent(layer, f"l{i}{end}", f"{name}.layer_{i + 1}{direction}")
        return layer

    def _recurrent(self, layer: nn.LSTM | nn.GRU, theirs: str, ours: str) -> None:
        second = getattr(layer, f"bias_hh_{theirs}")
        getattr(layer, f"weight_ih_{theirs}").copy_(self.arrays[f"{ours}.weight"])
        getattr(layer, f"weight_hh_{theirs}").copy_(self.arrays[f"{ours}.recurrent"])
        getattr(layer, f"bias_ih_{theirs}").copy_(self.arrays[f"{ours}.bias"])
        second.zero_()
        inner = self.arrays.get(f"{ours}.recurrent_bias")
        if inner is None:
            second.requires_grad_(False)
        else:
            second[-len(inner) :] = inner


def _filled(layer: Layer, **tensors: Tensor) -> Layer:
    # Counters of batches are in no spec: not all that a layer holds is given.
    layer.load_state_dict(tensors, strict=False)
    return layer


# -- images --------------------------------------------------------------------------------------


def mlp(w: Weights) -> nn.Module:
    return nn.Sequential(w.linear("a"), nn.ReLU(), w.linear("b"), nn.ReLU(), w.linear("logits"))


def cnn(w: Weights) -> nn.Module:
    first = [w.conv("a"), nn.ReLU(), nn.MaxPool2d(2), w.conv("b"), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, nn.Flatten(), w.linear("c"), nn.ReLU(), w.linear("logits"))


class Basic(nn.Module):
    """Two convolutions with a way around them; one that changes the number of channels halves the image."""

    def __init__(self, w: Weights, name: str) -> None:
        super().__init__()
        inner = f"{name}.residual_1"
        self.shortcut: nn.Module = nn.Identity()
        stride = 1
        if f"{inner}.projection.weight" in w.arrays:
            stride = 2
            projection = f"{inner}.projection"
            self.shortcut = nn.Sequential(w.conv(projection, stride, 0), w.batch_norm(projection))
        first = [w.conv(f"{inner}.conv_1", stride), w.batch_norm(f"{inner}.batch_norm_1"), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*first, w.conv(f"{inner}.conv_2"), w.batch_norm(f"{inner}.batch_norm_2"))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


def _headed(w: Weights, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), w.linear("logits"))


def resnet18(w: Weights) -> nn.Module:
    stem = [w.conv("conv_1", 2, 3), w.batch_norm("batch_norm_1"), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    return _headed(w, *stem, *(Basic(w, name) for name in blocks(w.arrays, "basic")))


def resnet20(w: Weights) -> nn.Module:
    stem = [w.conv("conv_1"), w.batch_norm("batch_norm_1"), nn.ReLU(inplace=True)]
    return _headed(w, *stem, *(Basic(w, name) for name in blocks(w.arrays, "basic")))


# The pairs of MobileNet that halve the image.
HALVING = {"pair_2", "pair_4", "pair_6", "pair_8"}


def mobilenet(w: Weights) -> nn.Module:
    layers: list[nn.Module] = [w.conv("conv_1", 2), w.batch_norm("batch_norm_1"), nn.ReLU(inplace=True)]
    for name in blocks(w.arrays, "pair"):
        layers += [
            w.conv(f"{name}.depthwise_conv_1", 2 if name in HALVING else 1),
            w.batch_norm(f"{name}.batch_norm_1"),
        ]
        layers += [nn.ReLU(inplace=True), w.conv(f"{name}.conv_1", padding=0), w.batch_norm(f"{name}.batch_norm_2")]
        layers.append(nn.ReLU(inplace=True))
    return _headed(w, *layers)


# -- sequences -----------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """Recurrent layers, and a linear one on their last states."""

    def __init__(self, w: Weights, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.states = w.recurrent(kind, "states")
        self.logits = w.linear("logits")

    def forward(self, x: Tensor) -> Tensor:
        states = self.states(x)[1]
        last = states[0] if isinstance(states, tuple) else states
        return self.logits(torch.cat([last[-2], last[-1]], -1) if self.states.bidirectional else last[-1])


class Attention(nn.Module):
    """Queries, keys and values by one product, then PyTorch's own kernel."""

    def __init__(self, w: Weights, name: str, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = w.params["heads"], causal
        self.project = w.linear(f"{name}.query", f"{name}.key", f"{name}.value")
        self.output = w.linear(f"{name}.output")

    def projected(self, x: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values, each [N, heads, T, features]."""
        n, t, dim = x.shape
        return self.project(x).view(n, t, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.projected(x)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.output(y.transpose(1, 2).reshape(x.shape))

    def step(self, x: Tensor, cache: Tensor, position: int) -> Tensor:
        """One step [N, 1, dim]; its key and value go into the cache [2, N, heads, T, features]."""
        q, k, v = self.projected(x)
        cache[0, :, :, position], cache[1, :, :, position] = k[:, :, 0], v[:, :, 0]
        y = F.scaled_dot_product_attention(q, *cache[:, :, :, : position + 1])
        return self.output(y.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """Attention and two linear layers, each after a norm and with a way around it."""

    def __init__(self, w: Weights, name: str, causal: bool) -> None:
        super().__init__()
        self.norm1 = w.layer_norm(f"{name}.residual_1.layer_norm_1")
        self.attention = Attention(w, f"{name}.residual_1.attention_1", causal)
        second = f"{name}.residual_2"
        inner = [w.linear(f"{second}.linear_1"), nn.GELU(), w.linear(f"{second}.linear_2")]
        self.rest = nn.Sequential(w.layer_norm(f"{second}.layer_norm_1"), *inner)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.rest(x)

    def step(self, x: Tensor, cache: Tensor, position: int) -> Tensor:
        x = x + self.attention.step(self.norm1(x), cache, position)
        return x + self.rest(x)


class Encoder(nn.Module):
    def __init__(self, w: Weights) -> None:
        super().__init__()
        layers = [Block(w, name, causal=False) for name in blocks(w.arrays, "encoder")]
        self.blocks = nn.Sequential(*layers, w.layer_norm("layer_norm_1"))
        self.logits = w.linear("logits")

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.blocks(x).mean(1))


class Decoder(nn.Module):
    def __init__(self, w: Weights) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(w.arrays["table.weight"], freeze=False)
        self.places = nn.Parameter(w.arrays["places.weight"])
        self.layers = [Block(w, name, causal=True) for name in blocks(w.arrays, "decoder")]
        self.blocks = nn.Sequential(*self.layers)
        self.norm, self.logits = w.layer_norm("layer_norm_1"), w.linear("logits", bias=False)
        self.heads = w.params["heads"]

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.norm(self.blocks(self.table(x) + self.places[: x.shape[1]])))

    def caches(self) -> Tensor:
        """Empty caches of all layers, for one sequence."""
        length, dim = self.places.shape
        return torch.zeros(len(self.layers), 2, 1, self.heads, length, dim // self.heads)

    def step(self, token: int, caches: Tensor, position: int) -> Tensor:
        """The logits [tokens] after one more token."""
        y = (self.table.weight[token] + self.places[position]).view(1, 1, -1)
        for block, cache in zip(self.layers, caches, strict=True):
            y = block.step(y, cache, position)
        return self.logits(self.norm(y))[0, 0]


MODULES: dict[str, Callable[[Weights], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "mobilenet": mobilenet,
    "lstm": lambda w: Recurrent(w, nn.LSTM),
    "gru": lambda w: Recurrent(w, nn.GRU),
    "bilstm": lambda w: Recurrent(w, nn.LSTM),
    "encoder": Encoder,
    "decoder": Decoder,
}


def module_of(name: str, weights: Arrays, params: Mapping[str, Any]) -> nn.Module:
    """The network of a spec, with its weights; `params` are the spec's sizes."""
    return MODULES[name](Weights(weights, params))
