"""Whoever is measured: each makes a function of no arguments that does one inference or one training step.

It returns the logits (inference) or the loss (training) for the check against PyTorch.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np

from .workloads import Arrays, Workload

Step = Callable[[], Any]


def trine(backend: str) -> Callable[[Workload, str], Step]:
    def make(workload: Workload, task: str) -> Step:
        from trine.backends.base import load
        from trine.compiler.build import build
        from trine.compiler.ir import input_of
        from trine.compiler.passes import Model, for_inference, for_training, freeze
        from trine.compiler.training import training

        runner, feeds, weights = load(backend), workload.feeds(), workload.weights()
        if task == "train":
            step = training(workload.spec()).step
            assert step is not None
            graph = for_training(Model(step))[0].graph
            run = runner.compile(graph, runner.state(weights))
            hyper = {"lr": np.asarray(1e-3), "step": np.asarray(0.0)}

            def once() -> Any:
                loss = run({**feeds, **hyper})["loss"]
                hyper["step"] = hyper["step"] + 1.0
                return loss

            return once
        graph = build(workload.spec()).graph
        names = {input_of(v).name for v in graph.by_role("param", "buffer")}
        model, _ = for_inference(Model(graph, {n: weights[n] for n in names}))
        infer = runner.compile(freeze(model), runner.state({}))
        x = {"x": feeds["x"]}
        return lambda: infer(x)["logits"]

    return make


def torch_module(workload: Workload) -> Any:
    """The network as one would write it by hand, with the workload's weights."""
    import torch
    from torch import nn

    torch.set_num_threads(2)
    w = {name: torch.tensor(array) for name, array in workload.weights().items() if "/" not in name}

    def linear(name: str) -> nn.Linear:
        layer = nn.Linear(w[f"{name}.weight"].shape[1], w[f"{name}.weight"].shape[0])
        layer.load_state_dict({"weight": w[f"{name}.weight"], "bias": w[f"{name}.bias"]})
        return layer

    def conv(name: str) -> nn.Conv2d:
        layer = nn.Conv2d(w[f"{name}.weight"].shape[1], w[f"{name}.weight"].shape[0], 3, padding=1)
        layer.load_state_dict({"weight": w[f"{name}.weight"], "bias": w[f"{name}.bias"]})
        return layer

    if workload.name == "mlp":
        return nn.Sequential(linear("a"), nn.ReLU(), linear("b"), nn.ReLU(), linear("logits"))
    first = [conv("a"), nn.ReLU(), nn.MaxPool2d(2), conv("b"), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, nn.Flatten(), linear("c"), nn.ReLU(), linear("logits"))


def torch_eager(fused: bool) -> Callable[[Workload, str], Step]:
    def make(workload: Workload, task: str) -> Step:
        import torch
        import torch.nn.functional as F

        module, feeds = torch_module(workload), workload.feeds()
        x, label = torch.tensor(feeds["x"]), torch.tensor(feeds["label"])
        if task == "infer":
            module.eval()

            def infer() -> Any:
                with torch.inference_mode():
                    return module(x).numpy()

            return infer
        decayed = [p for p in module.parameters() if p.ndim > 1]
        rest = [p for p in module.parameters() if p.ndim == 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=fused or None)

        def once() -> Any:
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(module(x), label)
            loss.backward()
            optimizer.step()
            return loss.item()

        return once

    return make


def ort_exported(workload: Workload, task: str) -> Step:
    """ONNX Runtime on the file that PyTorch's own exporter writes."""
    import onnxruntime
    import torch

    module, x = torch_module(workload).eval(), workload.feeds()["x"]
    file = io.BytesIO()
    torch.onnx.export(module, (torch.tensor(x),), file, input_names=["x"], output_names=["logits"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def numpy_by_hand(workload: Workload, task: str) -> Step:
    """What one writes in NumPy for an MLP without thinking about speed."""
    w: Arrays = workload.weights()
    feeds = workload.feeds()
    x, label = feeds["x"], feeds["label"]
    names = ("a", "b", "logits")

    def forward() -> list[Any]:
        values = [x]
        for name in names:
            z = values[-1] @ w[f"{name}.weight"].T + w[f"{name}.bias"]
            values.append(z if name == "logits" else np.maximum(z, 0))
        return values

    if task == "infer":
        return lambda: forward()[-1]
    m = {k: np.zeros_like(v) for k, v in w.items() if "/" not in k}
    v = {k: np.zeros_like(a) for k, a in m.items()}
    time = [0]

    def once() -> Any:
        values = forward()
        z = values[-1] - values[-1].max(1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        rows = np.arange(len(label))
        loss = -np.log(p[rows, label]).mean()
        g = p.copy()
        g[rows, label] -= 1
        g /= len(label)
        time[0] += 1
        for i in reversed(range(len(names))):
            grads = {f"{names[i]}.weight": g.T @ values[i], f"{names[i]}.bias": g.sum(0)}
            g = (g @ w[f"{names[i]}.weight"]) * (values[i] > 0)
            for key, d in grads.items():
                _adamw(w, m, v, key, d, time[0])
        return loss

    return once


def _adamw(w: Arrays, m: Arrays, v: Arrays, key: str, g: Any, t: int) -> None:
    if key.endswith("weight"):
        w[key] = w[key] * np.float32(1 - 1e-3 * 0.01)
    m[key] = 0.9 * m[key] + 0.1 * g
    v[key] = 0.999 * v[key] + 0.001 * g * g
    step = np.float32(1e-3 / (1 - 0.9**t)) * m[key] / (np.sqrt(v[key]) / np.float32(np.sqrt(1 - 0.999**t)) + 1e-8)
    w[key] = w[key] - step


CONTESTANTS: dict[str, Callable[[Workload, str], Step]] = {
    "torch": torch_eager(fused=False),
    "torch-fused": torch_eager(fused=True),
    "ort": ort_exported,
    "numpy-by-hand": numpy_by_hand,
    "trine-numpy": trine("numpy"),
    "trine-torch": trine("torch"),
    "trine-onnx": trine("onnx"),
}
BASE = "torch"


def takes_part(name: str, workload: Workload, task: str) -> bool:
    if name == "numpy-by-hand":
        return workload.name == "mlp"
    return not (name == "ort" and task == "train") and not (name == "torch-fused" and task == "infer")
