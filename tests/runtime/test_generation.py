"""Generation: a step with caches gives what the whole sequence gives; choices and searches are those they say."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trine
from trine.backends.base import load
from trine.compiler.generation import NotGenerative, decoder, step_model
from trine.compiler.passes import for_inference
from trine.compiler.spec.diagnostics import SpecError
from trine.compiler.spec.reader import Spec, read_string
from trine.runtime.data import DataError
from trine.runtime.generation import Generator, Sampling
from trine.runtime.model import LoadedModel, initial_weights

Array = Any
VOCABULARY, LIMIT = 7, 9

BODIES = {
    "rotary": "{attention: {heads: 2, causal: true, positions: rotary}}",
    "alibi": "{attention: {heads: 4, kv_heads: 2, causal: true, positions: alibi}}",
    "window": "{attention: {heads: 2, causal: true, window: 3}}",
    "learned": "positions, {residual: [rms_norm, {attention: {heads: 2, causal: true}}]}, layer_norm",
    "sinusoidal": "{positions: sinusoidal}, {attention: {heads: 2, causal: true}}",
    "shared": "{attention: {heads: 2, causal: true}, as: a}, relu, {attention: {heads: 2, causal: true}, share: a}",
    "shared lstm": "{lstm: 8, as: a}, {lstm: 8, share: a}",
    "repeated": "{residual: [rms_norm, {attention: {heads: 2, causal: true}}], repeat: 2}",
    "lstm": "{lstm: {units: 8, layers: 2}}",
    "gru": "{gru: 8}, gelu",
    "rnn": "{residual: [{rnn: 8}]}",
}
DECODER = """
spec: 1
model:
  inputs: {tokens: "int[T <= 9]"}
  layers: [{embedding: {rows: 7, dim: 8}}, BODY, {linear: 7, as: logits}]
train: {loss: {next_token: [logits, tokens]}, optimizer: sgd}
"""
ENCODER_DECODERS = {
    "attention": """
    - {embedding: {rows: 5, dim: 8}, from: source}
    - {attention: {heads: 2}, as: memory}
    - {embedding: {rows: 7, dim: 8}, from: tokens}
    - {attention: {heads: 2, causal: true}, as: asked}
    - {attention: {heads: 2}, from: [asked, memory]}
    - {linear: 7, as: logits}""",
    "recurrent": """
    - {embedding: {rows: 5, dim: 8}, from: source}
    - {gru: {units: 8, returns: last}, as: memory}
    - {embedding: {rows: 7, dim: 8}, from: tokens, as: given}
    - {gru: 8, from: [given, memory]}
    - {linear: 7, as: logits}""",
}
IMAGE = """
spec: 1
model:
  inputs: {image: "float[1, 6, 6]", tokens: "int[T <= 9]"}
  layers:
    - {conv: 4, from: image}
    - global_avg_pool
    - linear: 8
    - {reshape: [1, 8], as: memory}
    - {embedding: {rows: 7, dim: 8}, from: tokens}
    - {lstm: 8, as: asked}
    - {attention: 2, from: [asked, memory]}
    - {linear: 7, as: logits}
    - {gelu: {}, as: other}
  outputs: [other]
train: {loss: {next_token: [logits, tokens]}, optimizer: sgd}
"""
PAIR = """
spec: 1
model:
  inputs: {source: "int[S <= 6]", tokens: "int[T <= 9]"}
  layers: BODY
train: {loss: {next_token: [logits, tokens]}, optimizer: sgd}
"""


def spec_of(body: str, text: str = DECODER) -> Spec:
    return read_string(text.replace("BODY", body))


def model_of(spec: Spec, backend: str = "numpy") -> LoadedModel:
    weights = initial_weights(spec)
    # away from zero, so that every weight has a say
    rng = np.random.default_rng(0)
    return LoadedModel(
        spec, {n: a + rng.normal(0, 0.3, a.shape).astype(a.dtype) for n, a in weights.items()}, {}, None, load(backend)
    )


def whole(model: LoadedModel, feeds: dict[str, Array]) -> Array:
    """The logits of all steps at once, by the graph of the whole sequence."""
    from trine.compiler.build import build

    graph = build(model.spec).graph
    run = model.backend.compile(graph, model.backend.state(model.weights))
    return run(feeds)["logits"]


def stepwise(model: LoadedModel, tokens: Array, others: dict[str, Array]) -> Array:
    made = Generator(model)
    made.begin(others)
    return np.stack([made.step([token])[0] for token in tokens], 0)


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
@pytest.mark.parametrize("body", BODIES)
def test_steps_with_caches_give_what_the_whole_sequence_gives(body: str, backend: str) -> None:
    model = model_of(spec_of(BODIES[body]), backend)
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, LIMIT)
    expected = whole(model, {"tokens": tokens[None]})[0]
    # float32 sums in another order
    np.testing.assert_allclose(stepwise(model, tokens, {}), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
@pytest.mark.parametrize("body", ENCODER_DECODERS)
def test_encoders_run_once(body: str, backend: str) -> None:
    model = model_of(spec_of(ENCODER_DECODERS[body], PAIR), backend)
    rng = np.random.default_rng(1)
    tokens, source = rng.integers(0, VOCABULARY, LIMIT), np.array([[2, 4, 1, -1, -1]])
    expected = whole(model, {"tokens": tokens[None], "source": source})[0]
    np.testing.assert_allclose(stepwise(model, tokens, {"source": source}), expected, rtol=1e-5, atol=1e-5)
    made = decoder(model.spec)
    assert made.begin is not None
    assert not [v for v in made.step.inputs if v.op.name == "source"]
    assert not any(v.op.name.startswith("embedding_1") for v in made.step.inputs)


def test_an_image_of_one_channel_is_told() -> None:
    """One channel or one remembered step is no step of the text; the logits need not be an output of the spec."""
    model = model_of(read_string(IMAGE))
    rng = np.random.default_rng(1)
    tokens, image = rng.integers(0, VOCABULARY, LIMIT), rng.normal(size=(1, 1, 6, 6)).astype(np.float32)
    made = read_string(
        IMAGE.replace("outputs: [other]", "outputs: [logits]").replace("    - {gelu: {}, as: other}\n", "")
    )
    expected = whole(LoadedModel(made, model.weights, {}), {"tokens": tokens[None], "image": image})[0]
    np.testing.assert_allclose(stepwise(model, tokens, {"image": image}), expected, rtol=1e-5, atol=1e-5)


def test_what_mixes_steps_is_refused_wherever_time_stands() -> None:
    with pytest.raises(SpecError, match="takes all steps together"):
        decoder(spec_of("transpose, softmax, transpose"))


def test_beams_begin_like_one() -> None:
    made = Generator(model_of(spec_of(BODIES["gru"])), beams=2)
    assert len(made.search(list(range(7)) * 3, {}, 4, stop=None)) <= 4
    with pytest.raises(DataError, match="nothing to go on from"):
        made.search([], {}, 4, stop=None)


def test_the_same_tokens_on_every_backend() -> None:
    spec = spec_of(BODIES["rotary"])
    for sampling in (Sampling(), Sampling(temperature=1.0, top_k=5, top_p=0.9, seed=3)):
        found = []
        for backend in ("numpy", "torch", "onnx"):
            tokens = Generator(model_of(spec, backend)).tokens([1, 2], {}, sampling)
            found.append(list(itertools.islice(tokens, 30)))  # thrice what there is room for
        assert found[0] == found[1] == found[2]
    assert len(set(found[0])) > 1  # of the sampled ones


def test_sampling() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    draws = [Sampling(1.0, seed=1).choose(logits, i) for i in range(4000)]
    # 4000 draws: three standard deviations of a share are less than 0.024
    np.testing.assert_allclose(np.bincount(draws, minlength=4) / 4000, [0.5, 0.3, 0.15, 0.05], atol=0.024)
    assert {Sampling(1.0, top_k=2).choose(logits, i) for i in range(200)} == {0, 1}
    assert {Sampling(1.0, top_p=0.79).choose(logits, i) for i in range(200)} == {0, 1}
    assert {Sampling(1.0, top_p=0.81).choose(logits, i) for i in range(400)} == {0, 1, 2}
    assert Sampling().choose(logits[::-1], 0) == 3
    assert draws == [Sampling(1.0, seed=1).choose(logits, i) for i in range(4000)]


def test_beam_search_with_enough_beams_is_exhaustive() -> None:
    model = model_of(spec_of(BODIES["gru"]))
    beams, most = VOCABULARY**2, 3
    found = Generator(model, beams=beams).search([1], {}, most, stop=None)
    best, score = None, -np.inf
    for rest in itertools.product(range(VOCABULARY), repeat=most):
        logits = whole(model, {"tokens": np.array([[1, *rest]])})[0].astype(np.float64)
        chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        total = sum(chances[i, token] for i, token in enumerate(rest))
        if total > score:
            best, score = list(rest), total
    assert found == best


def test_beam_search_ends_at_stop() -> None:
    model = model_of(spec_of(BODIES["gru"]))
    greedy = Generator(model).tokens([1], {}, Sampling())
    stop = next(greedy)
    found = Generator(model, beams=3).search([1], {}, 6, stop=stop)
    assert stop not in found


def test_the_step_as_an_onnx_file(tmp_path: Path) -> None:
    import onnxruntime

    model = model_of(spec_of(BODIES["rotary"]))
    made = for_inference(step_model(model.spec, model.weights))[0]
    load("onnx").export(made, tmp_path / "step.onnx", {})
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx")
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (2, LIMIT))
    expected = whole(model, {"tokens": tokens})
    caches = {i.name: np.zeros((2, *i.shape[1:]), np.float32) for i in session.get_inputs() if "cache" in i.name}
    assert len(caches) == 2
    names = [o.name for o in session.get_outputs()]
    for t in range(LIMIT):
        feeds = {"tokens": tokens[:, t : t + 1], "position": np.asarray(t), **caches}
        found = dict(zip(names, session.run(None, feeds), strict=True))
        caches = {name: found[f"{name}'"] for name in caches}
        np.testing.assert_allclose(found["logits"][:, 0], expected[:, t], rtol=1e-5, atol=1e-5)


def test_what_cannot_be_generated() -> None:
    with pytest.raises(SpecError, match="takes all steps together"):
        decoder(spec_of("{conv: 8}"))
    with pytest.raises(SpecError, match="only causal attention"):
        decoder(spec_of("{attention: 2}"))
    with pytest.raises(SpecError, match="no end to begin at"):
        decoder(spec_of("{gru: {units: 4, bidirectional: true}}"))
    with pytest.raises(NotGenerative, match="no loss `next_token`"):
        decoder(spec_of("gelu", DECODER.replace("next_token", "cross_entropy")))
    with pytest.raises(NotGenerative, match="how long T may be"):
        decoder(spec_of("gelu", DECODER.replace("T <= 9", "T")))


def test_a_trained_model_goes_on_with_text(tmp_path: Path) -> None:
    text = "a quick brown fox jumps. " * 40
    (tmp_path / "text.txt").write_text(text)
    (tmp_path / "lm.yaml").write_text(
        "spec: 1\nname: lm\ndata:\n  source: text:text.txt\n  split: {train: 1.0}\n"
        "  fields: {tokens: {encode: characters, window: 24, stride: 5}}\n"
        "model:\n  inputs: {tokens: 'int[T <= 24]'}\n  layers:\n"
        "    - embedding: {rows: $tokens.size, dim: 16}\n    - gru: 32\n    - linear: $tokens.size\n      as: logits\n"
        "train:\n  loss: {next_token: [logits, tokens]}\n  optimizer: {adam: {lr: 0.01}}\n  epochs: 12\n"
        "evaluate: {metrics: [perplexity, bits_per_character]}\n"
    )
    trained = trine.train(tmp_path / "lm.yaml", tmp_path / "run")
    assert trained.metrics["train"]["perplexity"] == pytest.approx(np.exp(trained.metrics["train"]["loss"]), rel=1e-5)
    found = "".join(Generator(trine.load(tmp_path / "run")).text("a qu", {}, 46))
    assert found == "ick brown fox jumps. a quick brown fox jumps. "
