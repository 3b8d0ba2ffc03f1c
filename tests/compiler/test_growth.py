"""The work of the compiler grows in proportion to the network: calls are counted, nothing is timed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType

import numpy as np
import pytest
from trine.backends.executable import lower
from trine.backends.numpy.emit import native
from trine.compiler import text
from trine.compiler.build import build
from trine.compiler.ir import input_of
from trine.compiler.ops.shape import numbers
from trine.compiler.passes import Model, for_inference, for_training
from trine.compiler.spec.reader import read_string
from trine.compiler.training import training

NETWORK = """
spec: 1
name: deep
model:
  inputs:
    x: float[8]
  {body}
train:
  loss: {{cross_entropy: [out, y]}}
  optimizer: adamw
  epochs: 1
"""


def chain(layers: int) -> str:
    """A list of layers, each with weights of its own, some of which batch normalisation is folded into."""
    steps = ["- linear: 8", "- batch_norm", "- relu"] * (layers // 3)
    return NETWORK.format(body="\n    ".join(["layers:", *steps, "- linear: 3\n      as: out"]))


def tower(layers: int) -> str:
    """A block applied again and again, which decomposes to many ops."""
    block = "blocks: {unit: {layers: [{residual: [layer_norm, {linear: 8}, gelu]}]}}"
    return NETWORK.format(body=f"{block}\n  layers: [{{unit: {{}}, repeat: {layers // 3}}}, {{linear: 3, as: out}}]")


def calls(work: Callable[[], object]) -> int:
    """How many functions are called, Python's own among them."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.collect()
    gc.disable()  # what it takes away, and when, is chance
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def work_of(source: str) -> dict[str, int]:
    """The calls that each stage takes, from text to what a backend runs."""
    spec = read_string(source)
    graph, step = build(spec).graph, training(spec).step
    assert step is not None
    held = {input_of(v).name: np.ones(numbers(v.shape), np.float32) for v in graph.by_role("param", "buffer")}
    return {
        "read": calls(lambda: read_string(source)),
        "build": calls(lambda: build(spec)),
        "differentiate": calls(lambda: training(spec)),
        "passes": calls(lambda: for_inference(Model(graph, held), spec)),
        "passes of a step": calls(lambda: for_training(Model(step))),
        "lower": calls(lambda: lower(step, {"N": 4}, native, "numpy")),
        "write": calls(lambda: text.write(step)),
    }


@pytest.mark.parametrize("network", [chain, tower])
def test_twice_the_network_is_twice_the_work(network: Callable[[int], str]) -> None:
    work_of(network(3))  # what is done once is done
    small, middle, large = (work_of(network(layers)) for layers in (6, 12, 24))
    for stage in small:
        first, second = middle[stage] - small[stage], large[stage] - middle[stage]
        # 6 layers more, then 12: twice the calls, but for a few that depend on how hashes fall
        assert second <= 2.01 * first, f"{stage}: {small[stage]}, {middle[stage]}, {large[stage]}"
