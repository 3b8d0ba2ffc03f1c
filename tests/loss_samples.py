"""One table of sample uses per loss, each with PyTorch's own; the tests of losses are derived from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from layer_samples import SIZES, feeds_of, network
from trine.compiler.ir import Graph
from trine.compiler.rewrite import bind

torch = pytest.importorskip("torch")
F = torch.nn.functional

Array = Any

Loss = Callable[..., Any]

# The loss, its arguments, the step or steps that it reads, what the target is if there is one, torch's loss of them.
WEIGHTS = [0.3, 2.0, 1.1]
_ONE: list[tuple[str, str, str, str, Loss]] = [
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


VECTORS = ("float[4]", "float[4]")
_SEVERAL: list[tuple[str, str, tuple[str, ...], str, Loss]] = [
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


def written(arguments: str) -> str:
    """Arguments as a mapping, whole or without its braces, or the first alone."""
    return f"{{{arguments}}}" if not arguments or (":" in arguments and arguments[0] != "{") else arguments


LOSS_CASES = [*((name, args, (step,), kind, theirs) for name, args, step, kind, theirs in _ONE), *_SEVERAL]


def loss_graph(name: str, arguments: str, steps: tuple[str, ...], kind: str) -> tuple[Graph, dict[str, Array]]:
    """The loss of steps x0, x1, … and target t as a float64 graph of fixed sizes, and what to feed it."""
    inputs = ", ".join(f"x{i}: '{step.replace('positive', 'float')}'" for i, step in enumerate(steps))
    layers = ", ".join(f"{{identity: {{}}, from: x{i}, as: p{i}}}" for i in range(len(steps)))
    read = [f"p{i}" for i in range(len(steps))] + (["t"] if kind else [])
    graph = network(f"[{layers}]", inputs, f"{{{name}: {written(arguments)}, from: [{', '.join(read)}]}}")
    graph = bind(graph, {"t_length": SPELLINGS.shape[1], **SIZES})
    feeds = feeds_of(graph)
    for i, step in enumerate(steps):
        if step.startswith("positive"):
            feeds[f"x{i}"] = np.abs(feeds[f"x{i}"]) + 0.01
    if kind:
        feeds["t"] = target_of(kind, feeds["t"])
    return graph, feeds
