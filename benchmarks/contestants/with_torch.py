"""PyTorch: modules written by hand, eager with its defaults or with its better settings, or compiled."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import fitting
from ..modules import Decoder, module_of
from ..workloads import Workload
from . import Step, threads

Data = Mapping[str, Tensor]


def infer(workload: Workload, channels_last: bool = False, compiled: bool = False) -> Step:
    module, x = _prepared(workload, channels_last).eval(), torch.tensor(workload.feeds()["x"])
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    run = _compiled(module) if compiled else module

    def once() -> Any:
        with torch.inference_mode():
            return run(x).numpy()

    return once


def train(workload: Workload, fused: bool = False, channels_last: bool = False, compiled: bool = False) -> Step:
    module = _prepared(workload, channels_last).train()
    feeds = cycle(_tensors(workload, channels_last))
    run = _compiled(module) if compiled else module
    optimizer = adamw(module, fused or compiled)

    def once() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(run, next(feeds))
        loss.backward()
        optimizer.step()
        return loss.item()

    return once


def decode(workload: Workload) -> Step:
    """Greedy, each token from the keys and values of those before it."""
    module, first = _prepared(workload).eval(), int(workload.feeds()["x"][0, 0])
    assert isinstance(module, Decoder)
    caches = module.caches()

    def once() -> Any:
        token, rows = first, []
        with torch.inference_mode():
            for position in range(fitting.DECODED):
                logits = module.step(token, caches, position)
                token = int(logits.argmax())
                rows.append(logits.numpy())
        return rows

    return once


def fit(workload: Workload, fused: bool = False) -> Callable[[int], float]:
    """The plain loop: batches cut from one shuffled array, and nothing but the loss looked at."""
    torch.set_num_threads(threads())
    rows = {name: torch.tensor(array) for name, array in fitting.rows("train").items()}
    valid = {name: torch.tensor(array) for name, array in fitting.rows("valid").items()}

    def once(epochs: int) -> float:
        torch.manual_seed(0)
        module = fitting_module()
        optimizer = adamw(module, fused)
        for _ in range(epochs):
            order = torch.randperm(len(rows["x"]))
            x, label = rows["x"][order], rows["label"][order]
            for start in range(0, len(x), workload.batch):
                stop = start + workload.batch
                optimizer.zero_grad(set_to_none=True)
                loss = F.cross_entropy(module(x[start:stop]), label[start:stop])
                loss.backward()
                optimizer.step()
                loss.item()
        with torch.inference_mode():
            return float((module(valid["x"]).argmax(1) == valid["label"]).float().mean())

    return once


def fitting_module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


def loss_of(module: Callable[[Tensor], Tensor], data: Data) -> Tensor:
    """Cross-entropy of the labels, or of each token after those before it."""
    x, logits = data["x"], module(data["x"])
    if "label" in data:
        return F.cross_entropy(logits, data["label"])
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), x[:, 1:].flatten())


def adamw(module: nn.Module, fused: bool) -> torch.optim.AdamW:
    """Decays what Trine decays: all matrices but the vectors of positions, and no biases or norms."""
    learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
    decayed = [p for name, p in learned.items() if p.ndim > 1 and name != "places"]
    rest = [p for name, p in learned.items() if p.ndim == 1 or name == "places"]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, fused=fused or None)


def _prepared(workload: Workload, channels_last: bool = False) -> nn.Module:
    torch.set_num_threads(threads())
    module = module_of(workload.name, workload.weights(), workload.params())
    if channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def _tensors(workload: Workload, channels_last: bool) -> Iterable[Data]:
    for feeds in workload.batches():
        data = {name: torch.tensor(array) for name, array in feeds.items()}
        if channels_last:
            data["x"] = data["x"].to(memory_format=torch.channels_last)
        yield data


def _compiled(module: nn.Module) -> Any:
    """Compiled by inductor: for inference with weights that are constants, which is its best."""
    from torch._inductor import config

    config.compile_threads = 1  # its helpers would go on beside what is measured
    config.freezing = not module.training
    return torch.compile(module)
