"""PyTorch's own modules as the oracle of layers with generated arguments: values and gradients in what they read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_samples import feeds_of, network
from torch import nn
from trine.compiler.autodiff import grad
from trine.compiler.ir import Graph, evaluate
from trine.compiler.ops.reduce import Sum
from trine.compiler.ops.shape import reshape

Array = Any
few = settings(max_examples=25, deadline=None, derandomize=True)


def compare(graph: Graph, feeds: dict[str, Array], module: nn.Module, call: Any) -> None:
    """Values, and the gradient in x of the sum of their cubes."""
    x = torch.tensor(feeds["x"], requires_grad=True)
    expected = call(module, x)
    (output,) = graph.outputs.values()
    (found,) = evaluate([output], feeds)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-9, atol=1e-9)
    loss = reshape(Sum(tuple(range(output.rank)))(output * output * output), ())
    derived = grad(graph.with_outputs({"loss": loss}, {}), "loss", ["x"])
    (gradient,) = evaluate([derived.outputs["dloss/dx"]], feeds)
    (wanted,) = torch.autograd.grad((expected**3).sum(), [x])
    # cubes of sums of some hundred products
    np.testing.assert_allclose(gradient, wanted.numpy(), rtol=1e-7, atol=1e-7)


def fill(module: nn.Module, values: dict[str, Array]) -> nn.Module:
    """The module in float64 with some of its parameters set, the rest zero."""
    module = module.double().eval()
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(torch.tensor(values[name]) if name in values else torch.zeros_like(p))
    return module


@few
@given(st.sampled_from(["lstm", "gru", "rnn"]), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.integers(1, 4))
def test_recurrent(kind: str, layers: int, units: int, bidirectional: bool, width: int) -> None:
    options = f"units: {units}, layers: {layers}, bidirectional: {str(bidirectional).lower()}"
    graph = network(f"[{kind}: {{{options}}}]", f"x: 'float[T, {width}]'")
    feeds = feeds_of(graph)
    values: dict[str, Array] = {}
    for k in range(layers):
        for ours, theirs in (("", ""), (".reverse", "_reverse"))[: 1 + bidirectional]:
            name = f"{kind}_1.layer_{k + 1}{ours}"
            values[f"weight_ih_l{k}{theirs}"] = feeds[f"{name}.weight"]
            values[f"weight_hh_l{k}{theirs}"] = feeds[f"{name}.recurrent"]
            values[f"bias_ih_l{k}{theirs}"] = feeds[f"{name}.bias"]
            if kind == "gru":
                inner = np.concatenate([np.zeros(2 * units), feeds[f"{name}.recurrent_bias"]])
                values[f"bias_hh_l{k}{theirs}"] = inner
    made = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind]
    module = made(width, units, layers, batch_first=True, bidirectional=bidirectional)
    compare(graph, feeds, fill(module, values), lambda m, x: m(x)[0])


@few
@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.booleans())
def test_attention(heads: int, size: int, causal: bool, bias: bool) -> None:
    width = heads * size
    options = f"heads: {heads}, causal: {str(causal).lower()}, bias: {str(bias).lower()}"
    graph = network(f"[attention: {{{options}}}]", f"x: 'float[T, {width}]'")
    feeds = feeds_of(graph)
    parts = ("query", "key", "value")
    values = {
        "in_proj_weight": np.concatenate([feeds[f"attention_1.{part}.weight"] for part in parts]),
        "out_proj.weight": feeds["attention_1.output.weight"],
    }
    if bias:
        values["in_proj_bias"] = np.concatenate([feeds[f"attention_1.{part}.bias"] for part in parts])
        values["out_proj.bias"] = feeds["attention_1.output.bias"]
    module = fill(nn.MultiheadAttention(width, heads, bias=bias, batch_first=True), values).train()
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64) if causal else None
    compare(graph, feeds, module, lambda m, x: m(x, x, x, need_weights=False, attn_mask=mask)[0])


@few
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.booleans(), st.booleans())
def test_transformer_encoder_layer(heads: int, size: int, inner: int, first: bool, causal: bool) -> None:
    width = heads * size
    attention = f"{{attention: {{heads: {heads}, causal: {str(causal).lower()}}}, as: a}}"
    feed = f"{{linear: {inner}, as: f}}, gelu, {{linear: {width}, as: g}}"
    before = f"[{{residual: [{{layer_norm: {{}}, as: n}}, {attention}], as: r}}, {{residual: [{{layer_norm: {{}}, as: n}}, {feed}], as: s}}]"  # noqa: E501
    after = f"[{{residual: [{attention}], as: r}}, {{layer_norm: {{}}, as: n}}, {{residual: [{feed}], as: s}}, {{layer_norm: {{}}, as: m}}]"  # noqa: E501
    graph = network(before if first else after, f"x: 'float[T, {width}]'")
    feeds = feeds_of(graph)
    norms = ("r.n", "s.n") if first else ("n", "m")
    values = {
        "self_attn.in_proj_weight": np.concatenate([feeds[f"r.a.{p}.weight"] for p in ("query", "key", "value")]),
        "self_attn.in_proj_bias": np.concatenate([feeds[f"r.a.{p}.bias"] for p in ("query", "key", "value")]),
        "self_attn.out_proj.weight": feeds["r.a.output.weight"],
        "self_attn.out_proj.bias": feeds["r.a.output.bias"],
        **{f"linear{i}.{end}": feeds[f"s.{n}.{end}"] for i, n in ((1, "f"), (2, "g")) for end in ("weight", "bias")},
        **{f"norm{i + 1}.weight": feeds[f"{n}.scale"] for i, n in enumerate(norms)},
        **{f"norm{i + 1}.bias": feeds[f"{n}.shift"] for i, n in enumerate(norms)},
    }
    made = nn.TransformerEncoderLayer(width, heads, inner, 0.0, "gelu", batch_first=True, norm_first=first)
    module = fill(made, values).train()
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64) if causal else None
    compare(graph, feeds, module, lambda m, x: m(x, src_mask=mask))


@few
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_convolution(
    rank: int, kernel: int, stride: int, dilation: int, padding: int, groups: int, bias: bool, transposed: bool
) -> None:
    size = ", ".join(["6"] * rank)
    inputs = f"x: 'float[{size}, 4]'" if rank == 1 else f"x: 'float[4, {size}]'"
    options = f"filters: 6, kernel: {kernel}, stride: {stride}, groups: {groups}, bias: {str(bias).lower()}"
    padding = min(padding, kernel - 1)
    if transposed:
        layer, dilation = "transposed_conv", 1
        made = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    else:
        layer, options = "conv", f"{options}, dilation: {dilation}"
        made = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    graph = network(f"[{layer}: {{{options}, padding: {padding}}}]", inputs)
    feeds = feeds_of(graph)
    values = {end: feeds[f"{layer}_1.{end}"] for end in ("weight", "bias") if f"{layer}_1.{end}" in feeds}
    module = fill(made(4, 6, kernel, stride, padding, dilation=dilation, groups=groups, bias=bias), values)
    compare(graph, feeds, module, lambda m, x: m(x.mT).mT if rank == 1 else m(x))
