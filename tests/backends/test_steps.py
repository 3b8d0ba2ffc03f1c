"""Three training steps of every layer and of every loss: the same losses on the three backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import trine.runtime  # noqa: F401 (registers schedules and metrics)
from layer_samples import LAYER_CASES, feeds_of, learning, network
from loss_samples import LOSS_CASES, loss_graph
from trine.backends.base import load
from trine.compiler import text
from trine.compiler.initialisers import initialise
from trine.compiler.ir import Graph, Input, Op, input_of
from trine.compiler.passes import Model, for_training
from trine.compiler.rewrite import retype
from trine.compiler.spec.reader import read_string
from trine.compiler.training import train_step

Array = Any
torch.set_num_threads(1)

TRAIN = read_string(
    "spec: 1\nmodel: {inputs: {x: float}, layers: [identity]}\n"
    "train: {loss: {mse: [x, y]}, optimizer: {sgd: {lr: 0.05, momentum: 0.9}}}\n"
).sections.train


def losses(graph: Graph, feeds: dict[str, Array], backend: str) -> Array:
    """The losses of three steps of a float64 graph that reads what it trains as parameters."""
    assert TRAIN is not None
    step = for_training(Model(train_step(graph, TRAIN)))[0].graph
    assert text.same(text.parse(text.write(step)), step)
    state = {input_of(v).name: initialise(v, 0) for v in step.by_role("buffer")}
    state |= {input_of(v).name: feeds[input_of(v).name] for v in step.by_role("param")}
    made = load(backend)
    run = made.compile(step, made.state(state))
    fed = {name: array for name, array in feeds.items() if name not in state}
    return np.array([
        float(run({**fed, "lr": np.asarray(0.05), "step": np.asarray(float(i))})["loss"]) for i in range(3)
    ])  # fmt: skip


def check(graph: Graph, feeds: dict[str, Array]) -> None:
    expected = losses(graph, feeds, "numpy")
    assert np.isfinite(expected).all()
    for backend in ("torch", "onnx"):
        # float64: the same sums in another order, and exponentials of ONNX Runtime that are right to 1e-12
        np.testing.assert_allclose(losses(graph, feeds, backend), expected, rtol=1e-9, atol=1e-10, err_msg=backend)


@pytest.mark.parametrize(
    ("layers", "inputs"), [c[1:3] for c in LAYER_CASES], ids=[f"{c[0]}-{i}" for i, c in enumerate(LAYER_CASES)]
)
def test_layers(layers: str, inputs: str) -> None:
    graph = learning(network(layers, inputs))
    check(graph, feeds_of(graph, below=6))


@pytest.mark.parametrize(
    ("name", "arguments", "steps", "kind"),
    [c[:4] for c in LOSS_CASES],
    ids=[f"{c[0]}-{i}" for i, c in enumerate(LOSS_CASES)],
)
def test_losses(name: str, arguments: str, steps: tuple[str, ...], kind: str) -> None:
    graph, feeds = loss_graph(name, arguments, steps, kind)

    def change(op: Op) -> Op:
        return Input(op.name, op.t, "param") if isinstance(op, Input) and op.name.startswith("x") else op

    check(
        retype(graph, change),
        {n: np.where(np.isfinite(a), a, 0) if a.dtype.kind == "f" else a for n, a in feeds.items()},
    )
