"""Every layer and loss of a spec against PyTorch, in float64: values and gradients in all parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import trine.compiler.training  # noqa: F401 (registers layers, losses, optimizers)
from layer_samples import LAYER_CASES, Torch, feeds_of, network
from trine.compiler.autodiff import grad
from trine.compiler.ir import Graph, evaluate, input_of
from trine.compiler.spec.registry import LAYERS, LOSSES

torch = pytest.importorskip("torch")
F = torch.nn.functional

Array = Any
# The same float64 arithmetic in another order, and some hundred operations deep.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def run(graph: Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    results = evaluate(graph.roots, feeds)
    return dict(zip((*graph.outputs, *(f"next {n}" for n in graph.updates)), results, strict=True))


def test_every_layer_has_a_case() -> None:
    assert sorted(set(LAYERS) - {name for name, *_ in LAYER_CASES}) == []


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("layers", "inputs", "theirs"), [c[1:] for c in LAYER_CASES], ids=[f"{c[0]}-{i}" for i, c in enumerate(LAYER_CASES)]
)
def test_layer_against_torch(layers: str, inputs: str, theirs: Torch) -> None:
    graph = network(layers, inputs)
    feeds = feeds_of(graph, below=6)
    tensors = {name: torch.tensor(array, requires_grad=array.dtype == np.float64) for name, array in feeds.items()}
    expected = theirs(tensors, tensors["x"])
    (output,) = graph.outputs.values()
    (found,) = evaluate([output], feeds)
    np.testing.assert_allclose(found, expected.detach().numpy(), **CLOSE)
    compare_gradients(graph, feeds, tensors, expected)


def compare_gradients(graph: Graph, feeds: dict[str, Array], tensors: dict[str, Any], expected: Any) -> None:
    """The gradients of the sum of all outputs' squares: it depends on every output differently."""
    from trine.compiler.ops.reduce import Sum
    from trine.compiler.ops.shape import reshape

    (output,) = graph.outputs.values()
    loss = reshape(Sum(tuple(range(output.rank)))(output * output * output), ())
    wrt = [
        name for name, t in tensors.items() if t.requires_grad and input_of(graph.input(name)).role in ("param", "data")
    ]
    wanted = torch.autograd.grad((expected**3).sum(), [tensors[name] for name in wrt], allow_unused=True)
    derived = grad(graph.with_outputs({"loss": loss}, {}), "loss", wrt)
    found = evaluate([derived.outputs[f"dloss/d{name}"] for name in wrt], feeds)
    for name, a, b in zip(wrt, found, wanted, strict=True):
        assert b is not None, name
        # cubes of numbers up to ten, added up: 1e3 times the rounding of the values
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-8, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("momentum", [0.1, 0.4])
@pytest.mark.parametrize("inputs", ["x: 'float[3]'", "x: 'float[3, 4, 2]'", "x: 'float[T, 3]'"])
def test_batch_norm_keeps_the_statistics_of_torch(inputs: str, momentum: float) -> None:
    train, infer = (network(f"[batch_norm: {momentum}]", inputs, mode=mode) for mode in ("train", "infer"))
    feeds = feeds_of(train)
    module = torch.nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
    with torch.no_grad():
        for theirs, ours in (
            (module.weight, "scale"),
            (module.bias, "shift"),
            (module.running_mean, "mean"),
            (module.running_var, "variance"),
        ):
            theirs.copy_(torch.tensor(feeds[f"batch_norm_1.{ours}"]))
    turn = (lambda x: x.mT) if "T" in inputs else (lambda x: x.reshape(len(x), 3, -1))
    for step in range(4):
        feeds["x"] = feeds_of(train, seed=step)["x"] * (step + 1)
        module(turn(torch.tensor(feeds["x"])))
        results = run(train, feeds)
        feeds |= {name.removeprefix("next "): a for name, a in results.items() if name.startswith("next ")}
    np.testing.assert_allclose(feeds["batch_norm_1.mean"], module.running_mean.numpy(), **CLOSE)
    np.testing.assert_allclose(feeds["batch_norm_1.variance"], module.running_var.numpy(), **CLOSE)
    module.eval()
    expected = module(turn(torch.tensor(feeds["x"]))).detach()
    expected = expected.mT.numpy() if "T" in inputs else expected.reshape(feeds["x"].shape).numpy()
    (found,) = evaluate(infer.outputs.values(), feeds)
    np.testing.assert_allclose(found, expected, **CLOSE)
    assert not infer.updates


@pytest.mark.parametrize("name", ["dropout", "spatial_dropout", "stochastic_depth"])
def test_dropout_does_nothing_in_inference(name: str) -> None:
    graph = network(f"[{name}: 0.5]", "x: 'float[3, 2, 2]'", mode="infer")
    assert list(graph.outputs.values()) == [graph.input("x")]


def test_whole_channels_and_samples_are_dropped() -> None:
    for layer, shape in (("spatial_dropout", ("N", 4, 1, 1)), ("stochastic_depth", ("N", 1, 1, 1))):
        graph = network(f"[{layer}: 0.5]", "x: 'float[4, 3, 2]'")
        assert graph.input(f"{layer}_1.uniform").shape == shape


@pytest.mark.parametrize("layer", ["group_norm: 2", "instance_norm"])
def test_scale_and_shift_of_groups_are_not_decayed(layer: str) -> None:
    graph = network(f"[{layer}]", "x: 'float[4, 3, 2]'")
    assert [(v.shape, input_of(v).decay) for v in graph.by_role("param")] == [((4,), False)] * 2


# (loss, its arguments, the network's output, torch's loss of logits and targets, what the target is)
Loss = Callable[[Any, Any], Any]
WEIGHTS = [0.3, 2.0, 1.1]
LOSS_CASES: list[tuple[str, str, str, str, Loss]] = [
    ("mse", "", "float[1]", "float", lambda p, t: F.mse_loss(p[:, 0], t)),
    ("mse", "", "float[4]", "float", F.mse_loss),
    ("mae", "", "float[4]", "float", F.l1_loss),
    ("huber", "", "float[4]", "float", F.huber_loss),
    ("huber", "delta: 0.5", "float[4]", "float", lambda p, t: F.huber_loss(p, t, delta=0.5)),
    ("log_cosh", "", "float[4]", "float", lambda p, t: torch.log(torch.cosh(p - t)).mean()),
    ("quantile", "q: 0.9", "float[4]", "float", lambda p, t: torch.maximum(0.9 * (t - p), -0.1 * (t - p)).mean()),
    ("hinge", "", "float[1]", "float", lambda p, t: torch.clamp(1 - p[:, 0] * t, min=0).mean()),
    ("hinge", "margin: 0.5", "float[4]", "float", lambda p, t: torch.clamp(0.5 - p * t, min=0).mean()),
    ("binary_cross_entropy", "", "float[1]", "share", lambda p, t: F.binary_cross_entropy_with_logits(p[:, 0], t)),
    ("binary_cross_entropy", "", "float[4]", "share", F.binary_cross_entropy_with_logits),
    (
        "binary_cross_entropy", "positive_weight: 3.0", "float[4]", "share",
        lambda p, t: F.binary_cross_entropy_with_logits(p, t, pos_weight=torch.tensor(3.0, dtype=torch.float64)),
    ),
    ("cross_entropy", "", "float[3]", "class", F.cross_entropy),
    ("cross_entropy", "smoothing: 0.2", "float[3]", "class", lambda p, t: F.cross_entropy(p, t, label_smoothing=0.2)),
    ("cross_entropy", "", "float[4, 3]", "class", lambda p, t: F.cross_entropy(p.mT, t)),
    (
        "cross_entropy", f"weights: {WEIGHTS}", "float[3]", "class",
        lambda p, t: F.cross_entropy(p, t, weight=torch.tensor(WEIGHTS, dtype=torch.float64)),
    ),
]  # fmt: skip


def test_every_loss_has_a_case() -> None:
    assert sorted(set(LOSSES) - {name for name, *_ in LOSS_CASES}) == []


@pytest.mark.parametrize(
    ("name", "arguments", "output", "kind", "theirs"), LOSS_CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(LOSS_CASES)]
)
def test_loss_against_torch(name: str, arguments: str, output: str, kind: str, theirs: Loss) -> None:
    loss = f"{{{name}: {{{arguments}}}, from: [p, t]}}"
    steps = "[{identity: null, as: p}]".replace("identity: null", "identity: {}")
    graph = network(steps, f"x: '{output}'", loss)
    feeds = feeds_of(graph)
    if kind == "share":
        feeds["t"] = (feeds["t"] + 2) / 4
    prediction, target = (
        torch.tensor(feeds[name], requires_grad=feeds[name].dtype == np.float64) for name in ("x", "t")
    )
    expected = theirs(prediction, target)
    found = run(graph, feeds)
    np.testing.assert_allclose(found["loss"], expected.item(), **CLOSE)
    np.testing.assert_allclose(found["loss/total"] / found["loss/weight"], found["loss"], **CLOSE)
    derived = grad(graph, "loss", ["x"])
    (gradient,) = evaluate([derived.outputs["dloss/dx"]], feeds)
    np.testing.assert_allclose(gradient, torch.autograd.grad(expected, prediction)[0].numpy(), **CLOSE)


def test_several_losses_are_added_by_weight() -> None:
    losses = "[{mse: [p, t], weight: 0.5}, {mae: [p, u]}]"
    graph = network("[{identity: {}, as: p}]", "x: 'float[4]'", losses)
    feeds = feeds_of(graph)
    x, t, u = (torch.tensor(feeds[name]) for name in "xtu")
    np.testing.assert_allclose(run(graph, feeds)["loss"], (0.5 * F.mse_loss(x, t) + F.l1_loss(x, u)).item(), **CLOSE)


@pytest.mark.parametrize(("shape", "inputs"), [((5, 3), "float[3]"), ((5, 3, 4, 2), "float[3, 4, 2]")])
def test_shared_weights_are_one_parameter(shape: tuple[int, ...], inputs: str) -> None:
    width = shape[-1]
    layers = f"[{{linear: {width}, as: a}}, {{linear: {width}, share: a}}]"
    graph = network(layers, f"x: '{inputs}'")
    feeds = feeds_of(graph)
    weight, bias = (torch.tensor(feeds[f"a.{n}"], requires_grad=True) for n in ("weight", "bias"))
    expected = F.linear(F.linear(torch.tensor(feeds["x"]), weight, bias), weight, bias)
    (found,) = evaluate(graph.outputs.values(), feeds)
    np.testing.assert_allclose(found, expected.detach().numpy(), **CLOSE)
    compare_gradients(graph, feeds, {"a.weight": weight, "a.bias": bias}, expected)
