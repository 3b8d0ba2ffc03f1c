"""Every layer and loss of a spec against PyTorch, in float64: values and gradients in all parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import trine.compiler.training  # noqa: F401 (registers layers, losses, optimizers)
from layer_samples import LAYER_CASES, SIZES, Torch, feeds_of, network
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
    ("next_token", "", "float[4, 3]", "class", lambda p, t: F.cross_entropy(p[:, :-1].mT, t[:, 1:])),
    (
        "cross_entropy", f"weights: {WEIGHTS}", "float[3]", "class",
        lambda p, t: F.cross_entropy(p, t, weight=torch.tensor(WEIGHTS, dtype=torch.float64)),
    ),
    ("focal", "", "float[3]", "class", lambda p, t: focal(p, t, 2.0).mean()),
    ("focal", "gamma: 0.5", "float[4, 3]", "class", lambda p, t: focal(p, t, 0.5).mean()),
    ("focal", "gamma: 0", "float[3]", "class", F.cross_entropy),
    ("binary_focal", "", "float[1]", "binary", lambda p, t: binary_focal(p[:, 0], t, 0.25, 2.0)),
    ("binary_focal", "{alpha: 0.7, gamma: 1.5}", "float[4]", "binary", lambda p, t: binary_focal(p, t, 0.7, 1.5)),
    ("binary_focal", "{alpha: null, gamma: 0}", "float[4]", "binary", F.binary_cross_entropy_with_logits),
    ("kl_divergence", "", "float[4]", "share", lambda p, t: F.kl_div(p.log_softmax(-1), t, reduction="batchmean")),
    ("kl_divergence", "", "float[2, 3]", "binary", lambda p, t: F.kl_div(p.log_softmax(-1), t, reduction="batchmean")),
    ("poisson", "", "float[1]", "float", lambda p, t: F.poisson_nll_loss(p[:, 0], t)),
    ("poisson", "", "float[4]", "float", F.poisson_nll_loss),
    ("triplet_in_batch", "", "float[4]", "class", lambda p, t: triplet_in_batch(p, t, 1.0)),
    ("triplet_in_batch", "0.2", "float[4]", "class", lambda p, t: triplet_in_batch(p, t, 0.2)),
]  # fmt: skip


def focal(logits: Any, label: Any, gamma: float) -> Any:
    each = F.cross_entropy(logits.movedim(-1, 1), label, reduction="none")
    return (1 - torch.exp(-each)) ** gamma * each


def binary_focal(logits: Any, target: Any, alpha: float, gamma: float) -> Any:
    """As torchvision's `sigmoid_focal_loss` computes it."""
    p = torch.sigmoid(logits)
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = 1 - (p * target + (1 - p) * (1 - target))
    return ((alpha * target + (1 - alpha) * (1 - target)) * each * wrong**gamma).mean()


def triplet_in_batch(embedding: Any, label: Any, margin: float) -> Any:
    """The triplets of each anchor's farthest of its class and nearest of another, by torch's own loss of triplets."""
    found = []
    for i, own in enumerate(label):
        away = F.pairwise_distance(embedding[i], embedding, eps=0.0).detach()
        same, other = label == own, label != own
        same[i] = False
        if same.any() and other.any():
            positive = embedding[away.masked_fill(~same, -1.0).argmax()]
            negative = embedding[away.masked_fill(~other, 1e9).argmin()]
            found.append(F.triplet_margin_loss(embedding[i], positive, negative, margin, eps=0.0))
    return torch.stack(found).mean()


# (loss, its arguments, the steps it reads, what the target is if there is one, torch's loss of steps and target)
VECTORS = ("float[4]", "float[4]")
STEP_CASES: list[tuple[str, str, tuple[str, ...], str, Callable[..., Any]]] = [
    ("bpr", "", ("float", "float"), "", lambda g, b: -F.logsigmoid(g - b).mean()),
    ("bpr", "", ("float[1]", "float[3]"), "", lambda g, b: -F.logsigmoid(g - b).mean()),
    ("bpr", "", ("float", "float[T]"), "", lambda g, b: -F.logsigmoid(g[:, None] - b).mean()),
    (
        "margin_ranking", "", ("float", "float"), "",
        lambda g, b: F.margin_ranking_loss(g, b, torch.ones_like(g)),
    ),
    (
        "margin_ranking", "0.5", ("float[1]", "float[3]"), "",
        lambda g, b: F.margin_ranking_loss(g.expand(b.shape), b, torch.ones_like(b), margin=0.5),
    ),
    ("triplet", "", (*VECTORS, "float[4]"), "", torch.nn.TripletMarginLoss()),
    ("triplet", "0.3", (*VECTORS, "float[4]"), "", torch.nn.TripletMarginLoss(margin=0.3)),
    ("contrastive", "3.0", VECTORS, "binary", lambda a, b, t: contrastive(a, b, t, 3.0)),
    ("contrastive", "", VECTORS, "binary", lambda a, b, t: contrastive(a, b, t, 1.0)),
    ("cosine_embedding", "", VECTORS, "sign", torch.nn.CosineEmbeddingLoss()),
    ("cosine_embedding", "0.2", VECTORS, "sign", torch.nn.CosineEmbeddingLoss(margin=0.2)),
    ("info_nce", "", VECTORS, "", lambda a, b: info_nce(a, b, 0.07)),
    ("info_nce", "{temperature: 0.5, symmetric: true}", VECTORS, "", lambda a, b: clip(a, b, 0.5)),
    ("info_nce", "{temperature: 2.0, normalize: false}", VECTORS, "", lambda a, b: info_nce(a, b, 2.0, False)),
    (
        "gaussian_kl", "", VECTORS, "",
        lambda m, v: torch.distributions.kl_divergence(
            torch.distributions.Normal(m, (v / 2).exp()), torch.distributions.Normal(0.0, 1.0)
        ).sum(-1).mean(),
    ),
    ("poisson", "log: false", ("positive[4]",), "float", lambda p, t: F.poisson_nll_loss(p, t, log_input=False)),
    ("gaussian_nll", "", ("float[1]", "positive[1]"), "float", lambda m, v, t: gaussian(m[:, 0], v[:, 0], t, 1e-6)),
    ("gaussian_nll", "{eps: 1.0}", ("float[4]", "positive[4]"), "float", lambda m, v, t: gaussian(m, v, t, 1.0)),
    ("ctc", "", ("float[7, 4]",), "spelling", lambda x, t: torch_ctc(x, t)),
    ("ctc", "", ("float[T, 4]",), "spelling", lambda x, t: torch_ctc(x, t)),
]  # fmt: skip


def contrastive(a: Any, b: Any, same: Any, margin: float) -> Any:
    d = F.pairwise_distance(a, b)
    return (same * d**2 / 2 + (1 - same) * F.relu(margin - d) ** 2 / 2).mean()


def info_nce(a: Any, b: Any, temperature: float, normalize: bool = True) -> Any:
    if normalize:
        a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    return F.cross_entropy(a @ b.mT / temperature, torch.arange(len(a)))


def clip(a: Any, b: Any, temperature: float) -> Any:
    return (info_nce(a, b, temperature) + info_nce(b, a, temperature)) / 2


def gaussian(mean: Any, variance: Any, target: Any, eps: float) -> Any:
    return F.gaussian_nll_loss(mean, target, variance, eps=eps)


def torch_ctc(logits: Any, label: Any) -> Any:
    """Torch's mean: of each row's loss divided by the length of its label."""
    frames, lengths = torch.full((len(label),), logits.shape[1]), (label > 0).sum(1)
    return F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), label.clamp(min=0), frames, lengths)


SPELLINGS = np.array([[1, 2, 3], [2, 2, -1], [3, 0, 0], [1, 3, 1], [-1, -1, -1]])


def target_of(kind: str, drawn: Array) -> Array:
    """A target of a kind, from numbers drawn from -2 to 2."""
    kinds = {
        "share": lambda: (drawn + 2) / 4,
        "binary": lambda: (drawn > 0).astype(np.float64),
        "sign": lambda: np.where(drawn > 0, 1.0, -1.0),
        "spelling": lambda: SPELLINGS,
    }
    return kinds[kind]() if kind in kinds else drawn


def test_every_loss_has_a_case() -> None:
    assert sorted(set(LOSSES) - {name for name, *_ in (*LOSS_CASES, *STEP_CASES)}) == []


@pytest.mark.parametrize(
    ("name", "arguments", "output", "kind", "theirs"), LOSS_CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(LOSS_CASES)]
)
def test_loss_against_torch(name: str, arguments: str, output: str, kind: str, theirs: Loss) -> None:
    loss = f"{{{name}: {written(arguments)}, from: [p, t]}}"
    steps = "[{identity: null, as: p}]".replace("identity: null", "identity: {}")
    graph = network(steps, f"x: '{output}'", loss)
    feeds = feeds_of(graph)
    feeds["t"] = target_of(kind, feeds["t"])
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


def written(arguments: str) -> str:
    """Arguments as a mapping, whole or without its braces, or the first alone."""
    return f"{{{arguments}}}" if not arguments or (":" in arguments and arguments[0] != "{") else arguments


@pytest.mark.parametrize(
    ("name", "arguments", "steps", "kind", "theirs"), STEP_CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(STEP_CASES)]
)
def test_loss_of_several_steps_against_torch(
    name: str, arguments: str, steps: tuple[str, ...], kind: str, theirs: Callable[..., Any]
) -> None:
    inputs = ", ".join(f"x{i}: '{step.replace('positive', 'float')}'" for i, step in enumerate(steps))
    layers = ", ".join(f"{{identity: {{}}, from: x{i}, as: p{i}}}" for i in range(len(steps)))
    read = [f"p{i}" for i in range(len(steps))] + (["t"] if kind else [])
    graph = network(f"[{layers}]", inputs, f"{{{name}: {written(arguments)}, from: [{', '.join(read)}]}}")
    graph = bind(graph, {"t_length": SPELLINGS.shape[1]})
    feeds = feeds_of(graph)
    names = [f"x{i}" for i in range(len(steps))]
    for i, step in enumerate(steps):
        if step.startswith("positive"):
            feeds[f"x{i}"] = np.abs(feeds[f"x{i}"]) + 0.01
    if kind:
        feeds["t"] = target_of(kind, feeds["t"])
    graph = bind(graph, SIZES)
    tensors = [torch.tensor(feeds[n], requires_grad=True) for n in names]
    expected = theirs(*tensors, *([torch.tensor(feeds["t"])] if kind else []))
    found = run(graph, feeds)
    np.testing.assert_allclose(found["loss"], expected.item(), **CLOSE)
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
