"""NumPy's kernels on arrays of more than one tile, against PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from trine.backends.numpy import BACKEND
from trine.backends.numpy.kernels import product
from trine.backends.numpy.rows import channel_sum, erf_of, gelu, layer_norm, softmax
from trine.compiler.ir import DType, Graph, Input, Type, Value
from trine.compiler.ops.activations import Relu
from trine.compiler.ops.conv import Conv, ConvInputGrad, ConvWeightGrad, MaxPool, MaxPoolGrad
from trine.compiler.ops.optim import Adam, Sgd
from trine.compiler.passes import Model, freeze

Array = Any
torch.set_num_threads(1)  # thread pools of two libraries in one process wait for each other

# x, the weight, stride, padding, groups: more than one tile of images or of rows, and the kernels that are chosen.
CONVS = {
    "bands of one image": ((2, 32, 40, 37), (48, 32, 3, 3), 1, 1, 1),
    "several images": ((70, 16, 9, 8), (8, 16, 3, 3), 1, 1, 1),
    "one channel": ((40, 1, 28, 28), (8, 1, 3, 3), 1, 1, 1),
    "strides": ((3, 24, 40, 41), (16, 24, 5, 3), 2, 2, 1),
    "pixels alone": ((3, 48, 40, 30), (32, 48, 1, 1), 1, 0, 1),
    "few pixels": ((1, 64, 6, 6), (160, 64, 1, 1), 1, 0, 1),
    "every other pixel": ((3, 48, 41, 30), (32, 48, 1, 1), 2, 0, 1),
    "groups": ((2, 32, 40, 37), (48, 8, 3, 3), 1, 1, 4),
    "each channel": ((2, 64, 33, 40), (64, 1, 3, 3), 1, 1, 64),
    "each channel with strides": ((2, 64, 33, 40), (64, 1, 3, 3), 2, 1, 64),
    "a long row": ((2, 64, 1500), (8, 64, 3), 1, 1, 1),
    "a long row of each channel": ((2, 144, 700), (144, 1, 3), 1, 1, 144),
}


def close(found: Array, expected: Array) -> None:
    """Equal to the digits that float64 sums of some thousand numbers in another order have in common."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


def hole(name: str, array: Array) -> Value:
    return Input(name, Type(array.shape, DType.of(array)))()


@pytest.mark.parametrize("kind", CONVS)
def test_convolutions(kind: str) -> None:
    shape, weights, stride, pad, groups = CONVS[kind]
    rng = np.random.default_rng(0)
    x, w, b = (torch.tensor(rng.normal(size=s), requires_grad=True) for s in (shape, weights, weights[:1]))
    rank = len(shape) - 2
    y = (F.conv1d if rank == 1 else F.conv2d)(x, w, b, stride, pad, groups=groups)
    plus, g = torch.tensor(rng.normal(size=tuple(y.shape))), torch.tensor(rng.normal(size=tuple(y.shape)))
    then = F.relu(y + plus)
    dx, dw = torch.autograd.grad(y, (x, w), g)

    settings = ((stride,) * rank, ((pad, pad),) * rank, (1,) * rank, groups)
    feeds = {k: t.detach().numpy() for k, t in {"x": x, "w": w, "b": b, "plus": plus, "g": g}.items()}
    h = {name: hole(name, array) for name, array in feeds.items()}
    conv = Conv(*settings)(h["x"], h["w"], h["b"])
    outputs = {
        "y": Conv(*settings)(h["x"], h["w"], h["b"]) * 1.0,
        "then": Relu()(conv + h["plus"]),
        "dx": ConvInputGrad(shape[2:], *settings)(h["g"], h["w"]),
        "dw": ConvWeightGrad(weights[2:], *settings)(h["g"], h["x"]),
    }
    found = BACKEND.compile(Graph("g", tuple(h.values()), outputs), BACKEND.state({}))(feeds)
    for name, expected in (("y", y), ("then", then), ("dx", dx), ("dw", dw)):
        close(found[name], expected.detach().numpy())


def test_weights_that_are_constants() -> None:
    """Weights packed for the product, between two layers whose numbers have channels last."""
    rng = np.random.default_rng(0)
    x, w, v = rng.normal(size=(2, 3, 12, 10)), rng.normal(size=(8, 3, 3, 3)), rng.normal(size=(5, 8, 3, 3))
    same = ((1, 1), ((1, 1), (1, 1)), (1, 1))
    one, two = Input("w", Type(w.shape, DType.f64), "param")(), Input("v", Type(v.shape, DType.f64), "param")()
    a = hole("x", x)
    y = Conv(*same)(MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)))(Relu()(Conv(*same)(a, one))), two)
    graph = freeze(Model(Graph("g", (a, one, two), {"y": y}), {"w": w, "v": v}))
    found = BACKEND.compile(graph, BACKEND.state({}))({"x": x})["y"]
    middle = F.max_pool2d(F.relu(F.conv2d(torch.tensor(x), torch.tensor(w), padding=1)), 2)
    close(found, F.conv2d(middle, torch.tensor(v), padding=1).numpy())
    assert found.flags.c_contiguous


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0)])
def test_pooling_with_ties(kernel: int, stride: int, pad: int) -> None:
    """PyTorch's gradient goes to the first of equals too; whole numbers make many of them."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.integers(0, 3, (9, 32, 24, 18)).astype(np.float64), requires_grad=True)
    y = F.max_pool2d(x, kernel, stride, pad)
    g = torch.tensor(rng.normal(size=tuple(y.shape)))
    (dx,) = torch.autograd.grad(y, x, g)
    settings = ((kernel,) * 2, (stride,) * 2, ((pad, pad),) * 2)
    feeds = {"x": x.detach().numpy(), "g": g.numpy(), "y": y.detach().numpy()}
    h = {name: hole(name, array) for name, array in feeds.items()}
    outputs = {"y": MaxPool(*settings)(h["x"]) * 1.0, "dx": MaxPoolGrad(*settings)(h["g"], h["x"], h["y"]) * 1.0}
    found = BACKEND.compile(Graph("g", tuple(h.values()), outputs), BACKEND.state({}))(feeds)
    close(found["y"], y.detach().numpy())
    close(found["dx"], dx.numpy())


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_parameters_that_are_updated_together(name: str) -> None:
    """Small ones of two kinds and one of several blocks, against PyTorch's optimizers, three steps long."""
    shapes = {"a": (3, 4), "b": (4,), "c": (5, 3), "d": (3,), "large": (300, 301)}
    rng = np.random.default_rng(0)
    start = {n: rng.normal(size=s) for n, s in shapes.items()}
    slopes = {n: rng.normal(size=s) for n, s in shapes.items()}
    op: Adam | Sgd = {
        "adamw": Adam(decay=0.1, decoupled=True), "adam": Adam(decay=0.1), "sgd": Sgd(0.9, True, 0.1),
    }[name]  # fmt: skip
    lr, step = (Input(n, Type((), DType.f64), "hyper")() for n in ("lr", "step"))
    inputs, updates, state = [lr, step], {}, dict(start)
    for n, array in start.items():
        p = Input(n, Type(array.shape, DType.f64), "param")()
        slots = {f"{n}/{slot}": t for slot, t in op.slots(p.type).items()}
        held = [Input(slot, t, "buffer")() for slot, t in slots.items()]
        state |= {slot: np.zeros(array.shape) for slot in slots}
        gradient = p * p * hole(f"{n}.slope", array)
        inputs += [p, *held, gradient.inputs[1]]
        updates |= dict(zip((n, *slots), op(p, gradient, *held, lr, step).items(), strict=True))
    arrays = BACKEND.state(state)
    run = BACKEND.compile(Graph("g", tuple(inputs), {}, updates), arrays)

    tensors = {n: torch.tensor(a, requires_grad=True) for n, a in start.items()}
    classes: dict[str, Any] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    more = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    optimizer = classes[name](tensors.values(), lr=0.01, weight_decay=0.1, **more)
    for i in range(3):
        run({f"{n}.slope": a for n, a in slopes.items()} | {"lr": np.asarray(0.01), "step": np.asarray(float(i))})
        for n, t in tensors.items():
            t.grad = t.detach() ** 2 * torch.tensor(slopes[n])
        optimizer.step()
    for n, t in tensors.items():
        close(arrays.arrays[n], t.detach().numpy())


def test_functions_of_float32() -> None:
    """To what float32 leaves of their terms: a few units in the last place of the largest."""
    rng = np.random.default_rng(0)
    x = rng.normal(scale=3, size=(70, 500)).astype(np.float32)
    t = torch.tensor(x, dtype=torch.float64)
    scale, shift = rng.normal(size=(2, 500)).astype(np.float32)
    norm = F.layer_norm(t, (500,), torch.tensor(scale).double(), torch.tensor(shift).double(), 1e-5)
    for found, expected in (
        (erf_of(x), torch.erf(t)),
        (gelu(x, False), F.gelu(t)),
        (gelu(x, True), F.gelu(t, approximate="tanh")),
        (softmax(x, -1), torch.softmax(t, -1)),
        (softmax(x, 0), torch.softmax(t, 0)),
        (layer_norm(x, scale, shift, 1e-5), norm),
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=6e-7 * max(1.0, float(expected.abs().max())))
    ends = erf_of(np.array([-math.inf, 0.0, 9.0, math.nan], np.float32))
    np.testing.assert_allclose(ends, [-1.0, 0.0, 1.0, math.nan], atol=5e-7)


def test_products_of_few_rows_and_sums_over_channels() -> None:
    rng = np.random.default_rng(0)
    for m in (1, 2, 40, 70):
        x, w, out = rng.normal(size=(m, 30)), rng.normal(size=(150, 30)), np.empty((m, 150))
        close(product(x, w, out, {}), np.einsum("mk,nk->mn", x, w))
    a = rng.normal(size=(3, 4, 5, 6))
    for x in (a, np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)):
        close(channel_sum(x), a.sum((0, 2, 3), keepdims=True))
