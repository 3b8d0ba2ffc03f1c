"""The networks that are measured, as specs, and the inputs they are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trine.compiler.initialisers import initialise
from trine.compiler.ir import input_of
from trine.compiler.spec.reader import Spec, read_string
from trine.compiler.training import training
from trine.runtime import schedules

assert schedules

Arrays = dict[str, NDArray[Any]]

TRAIN = """
train:
  loss: {cross_entropy: [logits, label]}
  optimizer: {adamw: {lr: 1e-3, weight_decay: 0.01}}
"""

MLP = """
spec: 1
name: mlp
model:
  inputs: {x: "float[784]"}
  layers:
    - linear: 512
      as: a
    - relu
    - linear: 256
      as: b
    - relu
    - linear: 10
      as: logits
"""

CNN = """
spec: 1
name: cnn
model:
  inputs: {x: "float[1, 28, 28]"}
  layers:
    - conv: {filters: 32, kernel: 3}
      as: a
    - relu
    - max_pool: 2
    - conv: {filters: 64, kernel: 3}
      as: b
    - relu
    - max_pool: 2
    - flatten
    - linear: 128
      as: c
    - relu
    - linear: 10
      as: logits
"""


@dataclass(frozen=True)
class Workload:
    """A network at one batch size."""

    name: str
    text: str
    shape: tuple[int, ...]
    batch: int

    def spec(self) -> Spec:
        return read_string(self.text + TRAIN, f"{self.name}.yaml")

    def feeds(self) -> Arrays:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, *self.shape)).astype(np.float32)
        return {"x": x, "label": rng.integers(0, 10, self.batch)}

    def weights(self) -> Arrays:
        """All state of training, as it starts."""
        graph = training(self.spec()).step
        assert graph is not None
        return {input_of(v).name: initialise(v, 0) for v in graph.by_role("param", "buffer")}


def workloads() -> dict[str, Workload]:
    made = [Workload("mlp", MLP, (784,), b) for b in (1, 32, 256)]
    made += [Workload("cnn", CNN, (1, 28, 28), b) for b in (1, 32, 128)]
    return {f"{w.name}-b{w.batch}": w for w in made}
