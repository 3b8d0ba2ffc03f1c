"""Training graphs: 50 steps against torch.optim, clipping, accumulation, in float64 on NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from trine.backends.numpy import BACKEND
from trine.compiler.initialisers import initialise
from trine.compiler.ir import DType, Graph, evaluate, input_of
from trine.compiler.spec.reader import read_string
from trine.compiler.training import Training, training

torch = pytest.importorskip("torch")
F = torch.nn.functional

Array = Any
STEPS = 50
# Rounding of float64 carried through 50 steps of a well-conditioned problem.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def prepared(optimizer: str, extra: str = "", layers: str = "{linear: 8}, tanh, {linear: 3, as: p}") -> Training:
    text = f"""
spec: 1
model:
  inputs: {{x: 'float[4]'}}
  layers: [{layers}]
train: {{loss: {{cross_entropy: [p, t]}}, optimizer: {optimizer}{extra}}}
"""
    return training(read_string(text), DType.f64)


def first_state(*graphs: Graph | None) -> dict[str, Array]:
    state = {}
    for graph in graphs:
        for v in graph.by_role("param", "buffer") if graph else ():
            state[input_of(v).name] = initialise(v, 3)
            assert state[input_of(v).name].shape == v.shape
    return state


def batch(step: int, rows: int = 6) -> dict[str, Array]:
    rng = np.random.default_rng(step)
    return {"x": rng.uniform(-2, 2, (rows, 4)), "t": rng.integers(0, 3, rows)}


def hyper(step: int, lr: float) -> dict[str, Array]:
    return {"lr": np.asarray(lr), "step": np.asarray(float(step))}


def rate(step: int) -> float:
    """A schedule: the rate must be read anew each step."""
    return 0.05 / (1 + 0.1 * step)


class Twin:
    """The same network in torch, decay only on weights."""

    def __init__(self, state: dict[str, Array], optimizer: Callable[..., Any], decay: float, **options: Any) -> None:
        names = ["linear_1.weight", "linear_1.bias", "p.weight", "p.bias"]
        self.w = {name: torch.tensor(state[name], requires_grad=True) for name in names}
        weights, biases = ([self.w[n] for n in names if n.endswith(end)] for end in ("weight", "bias"))
        groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
        self.optimizer = optimizer(groups, lr=1.0, **options)

    def loss(self, data: dict[str, Array]) -> Any:
        h = torch.tanh(F.linear(torch.tensor(data["x"]), self.w["linear_1.weight"], self.w["linear_1.bias"]))
        return F.cross_entropy(F.linear(h, self.w["p.weight"], self.w["p.bias"]), torch.tensor(data["t"]))

    def step(self, data: dict[str, Array], lr: float, clip: float | None = None) -> tuple[float, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        loss = self.loss(data)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(self.w.values()), clip if clip is not None else float("inf"))
        self.optimizer.step()
        return loss.item(), norm.item()


class Lion(torch.optim.Optimizer):  # type: ignore[misc]
    """Algorithm 2 of Chen et al. (2023)."""

    def __init__(self, groups: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                c = torch.sign(beta1 * m + (1 - beta1) * p.grad)
                p -= group["lr"] * (c + group["weight_decay"] * p)
                m.copy_(beta2 * m + (1 - beta2) * p.grad)


class Lamb(torch.optim.Optimizer):  # type: ignore[misc]
    """Algorithm 2 of You et al. (2019), where the norm is scaled by the identity; zeros give a ratio of one."""

    def __init__(self, groups: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                held = self.state[p]
                held["t"] = t = held.get("t", 0) + 1
                held["m"] = m = beta1 * held.get("m", 0.0) + (1 - beta1) * p.grad
                held["v"] = v = beta2 * held.get("v", 0.0) + (1 - beta2) * p.grad**2
                r = (m / (1 - beta1**t)) / (torch.sqrt(v / (1 - beta2**t)) + group["eps"])
                u = r + group["weight_decay"] * p
                weight, length = float(torch.linalg.vector_norm(p)), float(torch.linalg.vector_norm(u))
                p -= group["lr"] * (weight / length if weight and length else 1.0) * u


OPTIMIZERS: list[tuple[str, Any, float, dict[str, Any]]] = [
    ("sgd", "SGD", 0.0, {}),
    ("{sgd: {momentum: 0.9}}", "SGD", 0.0, {"momentum": 0.9}),
    ("{sgd: {momentum: 0.9, nesterov: true, weight_decay: 0.1}}", "SGD", 0.1, {"momentum": 0.9, "nesterov": True}),
    ("{sgd: {weight_decay: 0.3}}", "SGD", 0.3, {}),
    ("adam", "Adam", 0.0, {}),
    ("{adam: {betas: [0.8, 0.95], eps: 1e-3, weight_decay: 0.1}}", "Adam", 0.1, {"betas": (0.8, 0.95), "eps": 1e-3}),
    ("adamw", "AdamW", 0.01, {}),
    ("{adamw: {betas: [0.7, 0.9], weight_decay: 0.5}}", "AdamW", 0.5, {"betas": (0.7, 0.9)}),
    ("rmsprop", "RMSprop", 0.0, {}),
    ("{rmsprop: {alpha: 0.9, centered: true, eps: 1e-4}}", "RMSprop", 0.0, {"alpha": 0.9, "centered": True, "eps": 1e-4}),  # noqa: E501
    ("{rmsprop: {momentum: 0.5, weight_decay: 0.1}}", "RMSprop", 0.1, {"momentum": 0.5}),
    ("{rmsprop: {momentum: 0.5, centered: true}}", "RMSprop", 0.0, {"momentum": 0.5, "centered": True}),
    ("adagrad", "Adagrad", 0.0, {}),
    ("{adagrad: {lr_decay: 0.1, eps: 1e-3, weight_decay: 0.1}}", "Adagrad", 0.1, {"lr_decay": 0.1, "eps": 1e-3}),
    ("nadam", "NAdam", 0.0, {}),
    ("{nadam: {betas: [0.8, 0.95], momentum_decay: 0.5, eps: 1e-3, weight_decay: 0.1}}", "NAdam", 0.1, {"betas": (0.8, 0.95), "momentum_decay": 0.5, "eps": 1e-3}),  # noqa: E501
    ("{nadam: {betas: [0.0, 0.9], weight_decay: 0.5, decoupled: true}}", "NAdam", 0.5, {"betas": (0.0, 0.9), "decoupled_weight_decay": True}),  # noqa: E501
    ("radam", "RAdam", 0.0, {}),
    ("{radam: {betas: [0.8, 0.9], eps: 1e-3, weight_decay: 0.1}}", "RAdam", 0.1, {"betas": (0.8, 0.9), "eps": 1e-3}),
    ("{radam: {betas: [0.8, 0.5], weight_decay: 0.5, decoupled: true}}", "RAdam", 0.5, {"betas": (0.8, 0.5), "decoupled_weight_decay": True}),  # noqa: E501
    ("lion", Lion, 0.0, {}),
    ("{lion: {betas: [0.8, 0.9], weight_decay: 0.5}}", Lion, 0.5, {"betas": (0.8, 0.9)}),
    ("lamb", Lamb, 0.01, {}),
    ("{lamb: {betas: [0.7, 0.9], eps: 1e-3, weight_decay: 0.5}}", Lamb, 0.5, {"betas": (0.7, 0.9), "eps": 1e-3}),
    ("{adafactor: {eps2: 0.02}}", "Adafactor", 0.0, {"eps": (None, 0.02)}),
    ("{adafactor: {beta2_decay: -0.5, eps1: 1e-3, eps2: 0.1, clip_threshold: 1.5, weight_decay: 0.5}}", "Adafactor", 0.5, {"beta2_decay": -0.5, "eps": (1e-3, 0.1), "d": 1.5}),  # noqa: E501
]  # fmt: skip


@pytest.fixture
def wide() -> Iterator[None]:
    """torch keeps NAdam's product of momenta in the default dtype, whatever that of the parameters is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(("ours", "theirs", "decay", "options"), OPTIMIZERS, ids=[o[0] for o in OPTIMIZERS])
def test_trajectory_is_that_of_torch(ours: str, theirs: Any, decay: float, options: dict[str, Any]) -> None:
    graph = prepared(ours).step
    assert graph is not None
    start = first_state(graph)
    state = BACKEND.state(start)
    run = BACKEND.compile(graph, state)
    twin = Twin(start, getattr(torch.optim, theirs) if isinstance(theirs, str) else theirs, decay, **options)
    for step in range(STEPS):
        found = run(batch(step) | hyper(step, rate(step)))
        loss, norm = twin.step(batch(step), rate(step))
        np.testing.assert_allclose(found["loss"], loss, **CLOSE)
        np.testing.assert_allclose(found["grad_norm"], norm, **CLOSE)
    after = state.read()
    for name, tensor in twin.w.items():
        np.testing.assert_allclose(after[name], tensor.detach().numpy(), **CLOSE, err_msg=name)
        assert np.abs(after[name] - start[name]).max() > 1e-3


def test_the_step_on_numpy_is_the_step_by_evaluation() -> None:
    graph = prepared("{adamw: {weight_decay: 0.1}}", ", clip_norm: 0.5").step
    assert graph is not None
    arrays = first_state(graph)
    state = BACKEND.state(arrays)
    run = BACKEND.compile(graph, state)
    for step in range(5):
        feeds = batch(step) | hyper(step, 0.1)
        new = dict(zip(graph.updates, evaluate(graph.updates.values(), arrays | feeds), strict=True))
        run(feeds)
        arrays |= new
        for name, array in state.read().items():
            np.testing.assert_allclose(array, arrays[name], rtol=1e-11, atol=1e-13, err_msg=name)  # rounding only


@pytest.mark.parametrize("clip", [0.05, 0.4, 100.0])
def test_clipping_is_that_of_torch(clip: float) -> None:
    graph = prepared("sgd", f", clip_norm: {clip}").step
    assert graph is not None
    start = first_state(graph)
    state = BACKEND.state(start)
    run = BACKEND.compile(graph, state)
    twin = Twin(start, torch.optim.SGD, 0.0)
    for step in range(10):
        found = run(batch(step) | hyper(step, 0.5))
        _, norm = twin.step(batch(step), 0.5, clip)
        np.testing.assert_allclose(found["grad_norm"], norm, **CLOSE)
    for name, tensor in twin.w.items():
        np.testing.assert_allclose(state.read()[name], tensor.detach().numpy(), **CLOSE)


@pytest.mark.parametrize("weights", ["", ", weights: [0.3, 2.0, 1.1]"])
@pytest.mark.parametrize("clip", ["", ", clip_norm: 0.3"])
def test_accumulation_over_uneven_batches_is_one_large_batch(clip: str, weights: str) -> None:
    loss = f"{{cross_entropy: {{smoothing: 0.0{weights}}}, from: [p, t]}}"
    text = f"""
spec: 1
model: {{inputs: {{x: 'float[4]'}}, layers: [{{linear: 8}}, tanh, {{linear: 3, as: p}}]}}
train: {{loss: {loss}, optimizer: {{sgd: {{momentum: 0.9}}}}{clip}}}
"""
    large = training(read_string(text), DType.f64).step
    small = training(read_string(text.replace("optimizer", "accumulate: 3, optimizer")), DType.f64)
    assert large is not None
    assert small.step is None and small.gather is not None and small.apply is not None
    arrays = first_state(small.gather, small.apply)
    one, many = BACKEND.state(first_state(large)), BACKEND.state(arrays)
    step = BACKEND.compile(large, one)
    gather, apply = BACKEND.compile(small.gather, many), BACKEND.compile(small.apply, many)
    for at in range(3):
        data = batch(at, rows=10)
        whole = step(data | hyper(at, 0.5))
        parts = [
            gather({name: a[rows] for name, a in data.items()}) for rows in (slice(0, 4), slice(4, 8), slice(8, 10))
        ]
        norm = apply(hyper(at, 0.5))["grad_norm"]
        total = sum(p["loss/total"] for p in parts) / sum(p["loss/weight"] for p in parts)
        np.testing.assert_allclose(total, whole["loss"], rtol=1e-12)
        np.testing.assert_allclose(norm, whole["grad_norm"], rtol=1e-12)
    for name, array in one.read().items():
        # 1e-12 of the largest: sums in another order; small numbers are differences of larger ones
        np.testing.assert_allclose(many.read()[name], array, rtol=1e-12, atol=1e-12 * np.abs(array).max(), err_msg=name)
    for name in ("loss/accumulated", "p.weight/gradient"):
        np.testing.assert_array_equal(many.read()[name], 0.0)


def test_batch_norm_statistics_are_updated_by_the_step() -> None:
    graph = prepared("sgd", layers="{linear: 8}, batch_norm, {linear: 3, as: p}").step
    assert graph is not None
    start = first_state(graph)
    state = BACKEND.state(start)
    BACKEND.compile(graph, state)(batch(0) | hyper(0, 0.1))
    hidden = batch(0)["x"] @ start["linear_1.weight"].T + start["linear_1.bias"]
    np.testing.assert_allclose(state.read()["batch_norm_1.mean"], 0.1 * hidden.mean(0), **CLOSE)
    expected = 0.9 + 0.1 * hidden.var(0, ddof=1)
    np.testing.assert_allclose(state.read()["batch_norm_1.variance"], expected, **CLOSE)


def test_float32_training_stays_near_float64() -> None:
    """Adam in float32 keeps its bias corrections: `step` and `lr` are float64 scalars."""
    text = "{adam: {lr: 0.01}}"
    wide = prepared(text).step
    assert wide is not None
    spec = "spec: 1\nmodel: {inputs: {x: 'float[4]'}, layers: [{linear: 8}, tanh, {linear: 3, as: p}]}\n"
    narrow = training(read_string(spec + f"train: {{loss: {{cross_entropy: [p, t]}}, optimizer: {text}}}")).step
    assert narrow is not None
    states = [
        BACKEND.state(first_state(wide)),
        BACKEND.state({n: a.astype(np.float32) for n, a in first_state(narrow).items()}),
    ]
    runs = [BACKEND.compile(graph, state) for graph, state in zip((wide, narrow), states, strict=True)]
    for step in range(20):
        data = batch(step)
        runs[0](data | hyper(100_000 + step, 0.01))
        runs[1](data | {"x": data["x"].astype(np.float32)} | hyper(100_000 + step, 0.01))
    for name, array in states[0].read().items():
        assert states[1].read()[name].dtype == np.float32
        # 7 digits, times the condition of 20 steps
        np.testing.assert_allclose(states[1].read()[name], array, rtol=1e-3, atol=1e-4, err_msg=name)
