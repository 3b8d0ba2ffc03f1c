"""Every layer and loss of a spec against PyTorch, in float64: values and gradients in all parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trine.compiler.training  # noqa: F401 (registers layers, losses, optimizers)
from layer_samples import LAYER_CASES, Torch, feeds_of, network
from loss_samples import LOSS_CASES, WEIGHTS, focal, loss_graph
from trine.compiler.autodiff import grad
from trine.compiler.ir import DType, Graph, Input, IRError, Type, evaluate, input_of
from trine.compiler.ops.ctc import Ctc
from trine.compiler.rewrite import bind, legalize
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


def test_every_loss_has_a_case() -> None:
    assert sorted(set(LOSSES) - {name for name, *_ in LOSS_CASES}) == []


@pytest.mark.parametrize(
    ("name", "arguments", "steps", "kind", "theirs"), LOSS_CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(LOSS_CASES)]
)
def test_loss_against_torch(name: str, arguments: str, steps: tuple[str, ...], kind: str, theirs: Any) -> None:
    graph, feeds = loss_graph(name, arguments, steps, kind)
    names = [f"x{i}" for i in range(len(steps))]
    tensors = [torch.tensor(feeds[n], requires_grad=True) for n in names]
    expected = theirs(*tensors, *([torch.tensor(feeds["t"])] if kind else []))
    found = run(graph, feeds)
    np.testing.assert_allclose(found["loss"], expected.item(), **CLOSE)
    np.testing.assert_allclose(found["loss/total"] / found["loss/weight"], found["loss"], **CLOSE)
    derived = grad(graph, "loss", names)
    gradients = evaluate([derived.outputs[f"dloss/d{n}"] for n in names], feeds)
    for mine, wanted in zip(gradients, torch.autograd.grad(expected, tensors), strict=True):
        np.testing.assert_allclose(mine, wanted.numpy(), **CLOSE)


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy: {weights: [0.3, 2.0, 1.1]}", "focal"])
def test_sample_weights_are_what_the_mean_is_taken_by(name: str) -> None:
    call = name if ":" in name else f"{name}: {{}}"
    graph = network("[{identity: {}, as: p}]", "x: 'float[3]'", f"{{{call}, from: [p, t], sample_weight: w}}")
    feeds = feeds_of(graph)
    feeds["w"] = np.array([0.0, 2.0, 0.5, 1.0, 3.0])
    x, t, w = (torch.tensor(feeds[n]) for n in "xtw")
    each = F.cross_entropy(x, t, reduction="none") if "cross" in name else focal(x, t, 2.0)
    if "weights" in name:
        w = w * torch.tensor(WEIGHTS, dtype=torch.float64)[t]
    found = run(graph, feeds)
    np.testing.assert_allclose(found["loss"], ((w * each).sum() / w.sum()).item(), **CLOSE)
    np.testing.assert_allclose(found["loss/weight"], w.sum().item(), **CLOSE)


def test_rows_without_a_triplet_weigh_nothing() -> None:
    graph = network("[{identity: {}, as: p}]", "x: 'float[2]'", "{triplet_in_batch: [p, t]}")
    feeds = feeds_of(graph) | {"t": np.arange(5)}
    found = run(graph, feeds)
    assert (found["loss"], found["loss/weight"]) == (0.0, 0.0)
    (gradient,) = evaluate([grad(graph, "loss", ["x"]).outputs["dloss/dx"]], feeds)
    assert not gradient.any()


def test_a_label_that_does_not_fit_its_frames_has_an_infinite_loss() -> None:
    graph = network("[{identity: {}, as: p}]", "x: 'float[2, 4]'", "{ctc: [p, t]}")
    graph = bind(graph, {"t_length": 2})
    feeds = feeds_of(graph) | {"t": np.array([[1, 2], [2, 2], [1, -1], [3, 1], [-1, -1]])}
    assert run(graph, feeds)["loss"] == np.inf
    feeds["t"][1] = -1
    assert np.isfinite(run(graph, feeds)["loss"])


def test_ctc_needs_sizes_when_it_is_decomposed() -> None:
    logits, label = Input("x", Type(("N", "T", 4)))(), Input("t", Type(("N", 3), DType.i64))()
    loss = Ctc()(logits, label)
    assert loss.flops > 0  # of one frame
    with pytest.raises(IRError, match="the number of frames, T, has no fixed size"):
        legalize(Graph("g", (logits, label), {"loss": loss}), lambda v: not v.op.is_composite)


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
