"""Who is measured. Each has a module here, with a function for each task, imported in the contestant's own process.

`infer`, `train` and `decode` take a workload and give a function of no arguments that does it once: it returns the
logits, the loss, or the logits of every step. `fit` gives a function of a number of epochs; it returns the accuracy
afterwards, and is timed by what an epoch more takes.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..workloads import Workload

Step = Callable[..., Any]

ALL = frozenset({"infer", "train", "decode", "fit"})
IMAGES = frozenset({"cnn", "resnet18", "resnet20", "mobilenet"})
WITHOUT_BATCH_NORM = frozenset({"mlp", "cnn", "lstm", "gru", "bilstm", "encoder", "decoder"})
SMALL = frozenset({"mlp", "cnn", "tiny"})


@dataclass(frozen=True)
class Contestant:
    """A peer, or a backend of Trine's.

    module: where its functions are. options: what they are called with. needs: the packages without which it is
    absent. workloads: the networks it takes part in; all where nothing is said. tolerance: how far its results may be
    off, of the largest, where that is more than for others.
    """

    module: str
    tasks: frozenset[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    workloads: frozenset[str] | None = None
    tolerance: float = 0.0

    def takes_part(self, task: str, workload: Workload) -> bool:
        return task in self.tasks and (self.workloads is None or workload.name in self.workloads)

    def missing(self) -> str | None:
        """The first package that is not installed."""
        return next((name for name in self.needs if importlib.util.find_spec(name) is None), None)

    def make(self, task: str, workload: Workload) -> Step:
        module = importlib.import_module(f".{self.module}", __package__)
        step: Step = getattr(module, task)(workload, **self.options)
        return step


def threads() -> int:
    """How many threads a contestant may use."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def _torch(*tasks: str, workloads: frozenset[str] | None = None, **options: Any) -> Contestant:
    return Contestant("with_torch", frozenset(tasks), options, ("torch",), workloads)


BASE = "torch"
PEERS: dict[str, Contestant] = {
    BASE: _torch(*ALL),
    "torch-fused": _torch("train", "fit", fused=True),
    "torch-channels-last": _torch("infer", workloads=IMAGES, channels_last=True),
    "torch-fused-channels-last": _torch("train", workloads=IMAGES, fused=True, channels_last=True),
    "torch-compile": _torch("infer", "train", compiled=True),
    "ort": Contestant("exported", frozenset({"infer"}), {"runtime": "ort"}, ("torch", "onnx", "onnxruntime")),
    "openvino": Contestant("exported", frozenset({"infer"}), {"runtime": "openvino"}, ("torch", "onnx", "openvino")),
    "jax": Contestant("with_jax", frozenset({"infer", "train"}), needs=("jax",), workloads=WITHOUT_BATCH_NORM),
    "keras": Contestant("with_keras", frozenset({"infer", "train", "fit"}), needs=("keras", "jax"), workloads=SMALL),
    "lightning": Contestant("with_lightning", frozenset({"fit"}), needs=("torch", "lightning")),
    "scikit-learn": Contestant("with_sklearn", frozenset({"fit"}), needs=("sklearn",)),
    "numpy-by-hand": Contestant("by_hand", frozenset({"infer", "train"}), workloads=frozenset({"mlp"})),
}
BACKENDS: dict[str, Contestant] = {
    "trine-torch": Contestant("with_trine", ALL, {"backend": "torch"}, ("torch",)),
    "trine-torch-bf16": Contestant(
        "with_trine",
        frozenset({"infer", "train"}),
        {"backend": "torch", "precision": "bf16"},
        ("torch",),
        frozenset({"cnn", "resnet18", "resnet20", "encoder", "decoder"}),
        tolerance=1e-2,
    ),
    "trine-onnx": Contestant("with_trine", ALL, {"backend": "onnx"}, ("onnx", "onnxruntime")),
    "trine-numpy": Contestant("with_trine", ALL, {"backend": "numpy"}),
}
CONTESTANTS = PEERS | BACKENDS
