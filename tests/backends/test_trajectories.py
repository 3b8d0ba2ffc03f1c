"""A hundred steps on the PyTorch backend against modules, layers and optimizers as one writes them by hand.

In float64 both do the same arithmetic in another order; a hundred steps of it stay within 1e-9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import trine.runtime  # noqa: F401 (registers schedules and metrics)
from layer_samples import LAYER_CASES, Torch, feeds_of, learning, network
from torch import nn
from trine.backends.base import load
from trine.compiler.initialisers import initialise
from trine.compiler.ir import DType, input_of
from trine.compiler.spec.reader import read_string
from trine.compiler.training import train_step, training

Array = Any
STEPS = 100

OPTIMIZERS: dict[str, tuple[str, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": ("{sgd: {lr: 0.05}}", lambda p: torch.optim.SGD(p, lr=0.05)),
    "nesterov": (
        "{sgd: {lr: 0.02, momentum: 0.9, nesterov: true, weight_decay: 0.01}}",
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    ),
    "adam": ("{adam: {lr: 1e-3, weight_decay: 0.01}}", lambda p: torch.optim.Adam(p, lr=1e-3)),
    "adamw": ("{adamw: {lr: 1e-3, weight_decay: 0.01}}", lambda p: torch.optim.AdamW(p, lr=1e-3)),
    "rmsprop": (
        "{rmsprop: {lr: 1e-3, centered: true, momentum: 0.5, weight_decay: 0.01}}",
        lambda p: torch.optim.RMSprop(p, lr=1e-3, centered=True, momentum=0.5),
    ),
    # A bias before batch normalisation has rounding for a gradient, which their defaults for eps would magnify.
    "adagrad": (
        "{adagrad: {lr: 1e-2, eps: 1e-6, weight_decay: 0.01}}",
        lambda p: torch.optim.Adagrad(p, lr=1e-2, eps=1e-6),
    ),
    "nadam": ("{nadam: {lr: 1e-3, weight_decay: 0.01}}", lambda p: torch.optim.NAdam(p, lr=1e-3)),
    "radam": ("{radam: {lr: 1e-3, weight_decay: 0.01}}", lambda p: torch.optim.RAdam(p, lr=1e-3)),
    "adafactor": (
        "{adafactor: {lr: 1e-2, eps1: 1e-6, weight_decay: 0.01}}",
        lambda p: torch.optim.Adafactor(p, lr=1e-2, eps=(1e-6, 1e-3)),
    ),
}


class Mlp(nn.Module):
    """layers: linear, layer_norm, gelu, linear, silu, residual linear, linear"""

    spec = """
    - linear: 8
      as: a
    - layer_norm:
      as: n
    - gelu
    - residual: [{linear: 8, as: b}, silu]
      as: r
    - linear: 3
      as: logits
"""
    shape = (6,)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n, self.b, self.logits = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.names = {"a": self.a, "n": self.n, "r.b": self.b, "logits": self.logits}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.gelu(self.n(self.a(x)))
        return self.logits(h + F.silu(self.b(h)))


class Cnn(nn.Module):
    """layers: conv (strides, groups), batch_norm, relu, max_pool, avg_pool, linear"""

    spec = """
    - conv: {filters: 4, kernel: 3}
      as: a
    - batch_norm:
      as: n
    - relu
    - max_pool: 2
    - conv: {filters: 6, kernel: 3, stride: 2, padding: 1, groups: 2}
      as: b
    - elu
    - avg_pool: 2
    - flatten
    - linear: 3
      as: logits
"""
    shape = (2, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.logits = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Linear(6, 3)
        self.names = {"a": self.a, "n": self.n, "b": self.b, "logits": self.logits}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.max_pool2d(F.relu(self.n(self.a(x))), 2)
        return self.logits(F.avg_pool2d(F.elu(self.b(h)), 2).flatten(1))


class Sequence(nn.Module):
    """layers: conv over a sequence, rms_norm, tanh, mean, linear"""

    spec = """
    - conv: {filters: 5, kernel: 3, dilation: 2, padding: 2}
      as: a
    - rms_norm:
      as: n
    - tanh
    - mean: {over: 1}
    - leaky_relu: 0.1
    - linear: 3
      as: logits
"""
    shape = (7, 4)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv1d(4, 5, 3, padding=2, dilation=2), nn.RMSNorm(5, eps=1e-6)
        self.logits = nn.Linear(5, 3)
        self.names = {"a": self.a, "n": self.n, "logits": self.logits}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.n(self.a(x.transpose(1, 2)).transpose(1, 2)))
        return self.logits(F.leaky_relu(h.mean(1), 0.1))


OURS = {"weight": "weight", "bias": "bias"}
NORMS = {"weight": "scale", "bias": "shift", "running_mean": "mean", "running_var": "variance"}


def pairs(module: Any) -> dict[str, torch.Tensor]:
    """The tensors of a module by their names in the spec."""
    found = {}
    for path, part in module.names.items():
        own = NORMS if isinstance(part, nn.LayerNorm | nn.BatchNorm2d | nn.RMSNorm) else OURS
        for theirs, ours in own.items():
            tensor = getattr(part, theirs, None)
            if tensor is not None:
                found[f"{path}.{ours}"] = tensor
    return found


@pytest.fixture
def wide() -> Iterator[None]:
    """torch keeps NAdam's product of momenta in the default dtype, whatever that of the parameters is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", [Mlp, Cnn, Sequence], ids=lambda c: c.__name__)
def test_a_hundred_steps_agree(net: Any, optimizer: str) -> None:
    torch.set_num_threads(1)
    text, make = OPTIMIZERS[optimizer]
    signature = f"float{list(net.shape)}"
    spec = read_string(
        f'spec: 1\nmodel:\n  inputs: {{x: "{signature}"}}\n  layers:{net.spec}'
        "train:\n  loss: {cross_entropy: {smoothing: 0.1}, from: [logits, y]}\n  clip_norm: 1.0\n"
        f"  optimizer: {text}\n"
    )
    graph = training(spec, DType.f64).step
    assert graph is not None
    state = {input_of(v).name: initialise(v, 0) for v in graph.by_role("param", "buffer")}
    backend = load("torch")
    held = backend.state(state)
    run = backend.compile(graph, held)

    module = net().double()
    tensors = pairs(module)
    assert set(tensors) == {n for n in state if "/" not in n}
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.tensor(state[name]))
    decayed = [p for n, p in tensors.items() if n.endswith(".weight")]
    rest = [p for n, p in tensors.items() if isinstance(p, nn.Parameter) and not n.endswith(".weight")]
    theirs = make(
        [{"params": decayed, "weight_decay": 0.01 if "decay" in text else 0.0}, {"params": rest, "weight_decay": 0.0}]
    )

    rng = np.random.default_rng(0)
    for step in range(STEPS):
        x, y = rng.standard_normal((5, *net.shape)), rng.integers(0, 3, 5)
        ours = run({"x": x, "y": y, "lr": np.asarray(theirs.defaults["lr"]), "step": np.asarray(float(step))})
        theirs.zero_grad()
        loss = F.cross_entropy(module(torch.tensor(x)), torch.tensor(y), label_smoothing=0.1)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        theirs.step()
        assert float(ours["loss"]) == pytest.approx(loss.item(), rel=1e-9)
        assert float(ours["grad_norm"]) == pytest.approx(norm.item(), rel=1e-8)
    now = held.read()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(now[name], tensor.detach().numpy(), rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("layers", "inputs", "theirs"), [c[1:] for c in LAYER_CASES], ids=[f"{c[0]}-{i}" for i, c in enumerate(LAYER_CASES)]
)
def test_a_hundred_steps_of_every_layer(layers: str, inputs: str, theirs: Torch) -> None:
    """AdamW on a layer's weights and on what it reads, towards numbers drawn at random."""
    torch.set_num_threads(1)
    spec = read_string(
        "spec: 1\nmodel: {inputs: {x: float}, layers: [identity]}\n"
        "train: {loss: {mse: [x, y]}, optimizer: {adamw: {lr: 1e-2, weight_decay: 0.0}}}\n"
    )
    assert spec.sections.train is not None
    graph = learning(network(layers, inputs))
    step = train_step(graph, spec.sections.train)
    first = feeds_of(graph, below=6)
    learned = [input_of(v).name for v in graph.by_role("param")]
    random = [input_of(v).name for v in graph.by_role("random")]
    state = {input_of(v).name: initialise(v, 0) for v in step.by_role("buffer")} | {n: first[n] for n in learned}
    backend = load("torch")
    held = backend.state(state)
    run = backend.compile(step, held)

    tensors = {n: torch.tensor(a, requires_grad=n in learned) for n, a in first.items()}
    optimizer = torch.optim.AdamW([tensors[n] for n in learned], lr=1e-2, weight_decay=0.0)
    fed = {n: a for n, a in first.items() if n not in state}
    rng = np.random.default_rng(0)
    for count in range(STEPS):
        fed |= {n: rng.uniform(0, 1, first[n].shape) for n in random}
        ours = run({**fed, "lr": np.asarray(1e-2), "step": np.asarray(float(count))})
        tensors |= {n: torch.tensor(fed[n]) for n in random}
        optimizer.zero_grad()
        expected = F.mse_loss(theirs(tensors, tensors["x"]), tensors["target"])
        expected.backward()
        optimizer.step()
        assert float(ours["loss"]) == pytest.approx(expected.item(), rel=1e-9)
    now = held.read()
    for name in learned:
        np.testing.assert_allclose(now[name], tensors[name].detach().numpy(), rtol=1e-9, atol=1e-9, err_msg=name)
