"""What is judged besides classes and numbers: ranks by scores, spelled and generated texts, entities, horizons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trine.runtime.data.fields as f
from trine.backends.base import load
from trine.compiler.spec.diagnostics import SpecError
from trine.compiler.spec.reader import read_string
from trine.runtime.data import DataError, from_arrays
from trine.runtime.evaluation import spelled
from trine.runtime.generation import Generator, Sampling
from trine.runtime.session import evaluate, prepare, train
from trine.runtime.specs import check_spec, open_spec
from trine.runtime.trainer import Trainer

RANKING = """
spec: 1
name: ranking
data:
  source: csv:none.csv
  split: {by: last, of: user, order: t}
  fields:
    user: {column: u, encode: ids}
    item: {column: i, encode: ids, unseen: own}
    negative: {sample: item, count: 3, never: seen_by_user}
model:
  inputs: {user: int, item: int, negative: "int[3]"}
  blocks:
    tower:
      params: {rows: int}
      layers: [{embedding: {rows: $rows, dim: 4}}, {linear: 6}, tanh, {linear: 4}]
  layers:
    - {tower: {rows: $user.size}, from: user, as: u}
    - {tower: {rows: $item.size}, from: item, as: v}
    - {tower: {rows: $item.size}, from: negative, share: v, as: w}
    - {dot: [u, v], as: good}
    - {dot: [u, w], as: bad}
  outputs: [good]
train: {loss: {bpr: [good, bad]}, optimizer: {adamw: {lr: 1e-2}}, epochs: 2, batch: 64}
evaluate: {metrics: [hit_rate@5, ndcg@5, mrr]}
"""


def choices() -> dict[str, dict[str, list[int]]]:
    rng = np.random.default_rng(0)
    pairs = {(int(u), int((u % 5 + rng.integers(0, 12)) % 30)) for u in rng.integers(0, 25, 700)}
    users, items = zip(*sorted(pairs), strict=True)
    return {"train": {"u": list(users), "i": list(items), "t": rng.permutation(len(users)).tolist()}}


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
def test_ranks_are_those_of_every_pair_scored_alone(backend: str) -> None:
    spec = read_string(RANKING)
    check_spec(spec)
    found = train(spec, backend=backend, data=choices())
    _, dataset = prepare(spec, choices())
    model = found.model
    assert list(model.inputs) == ["user", "item"], "to predict, no negatives are needed"
    rows = {name: part.arrays for name, part in dataset.splits.items()}
    ranks = []
    for user, item in zip(rows["test"]["user"], rows["test"]["item"], strict=True):
        seen = {
            int(i)
            for n in ("train", "valid")
            for u, i in zip(rows[n]["user"], rows[n]["item"], strict=True)
            if u == user
        }
        items = [i for i in range(dataset.sizes["item.size"]) if i not in seen]
        scores = model.predict_arrays({"user": np.full(len(items), user), "item": np.asarray(items)})["good"]
        ranks.append(1 + int((scores > scores[items.index(item)]).sum()))
    metrics = found.metrics["test"]
    assert metrics["hit_rate@5"] == pytest.approx(np.mean(np.asarray(ranks) <= 5))
    assert metrics["mrr"] == pytest.approx(np.mean(1 / np.asarray(ranks)), rel=1e-6)


@pytest.mark.parametrize("backend", ["numpy", "onnx"])
def test_a_score_of_items_alone_is_ranked_for_each_user(backend: str) -> None:
    text = (
        RANKING[: RANKING.index("  blocks:")]
        + """
  layers:
    - {embedding: {rows: $item.size, dim: 1}, from: item, as: bias}
    - {embedding: {rows: $item.size, dim: 1}, from: negative, share: bias, as: other}
    - {reshape: [1], from: bias, as: good}
    - {reshape: [3], from: other, as: bad}
  outputs: [good]
"""
        + RANKING[RANKING.index("train: {loss") :]
    )
    text = text.replace("inputs: {user: int, item: int", "inputs: {item: int")
    found = train(read_string(text), backend=backend, data=choices())
    _, dataset = prepare(read_string(text), choices())
    rows = {name: part.arrays for name, part in dataset.splits.items()}
    bias = found.model.predict_arrays({"item": np.arange(dataset.sizes["item.size"])})["good"].reshape(-1)
    hits = []
    for user, item in zip(rows["test"]["user"], rows["test"]["item"], strict=True):
        scores = bias.copy()
        for split in ("train", "valid"):
            scores[rows[split]["item"][rows[split]["user"] == user]] = -np.inf
        hits.append((scores > bias[item]).sum() < 5)
    assert found.metrics["test"]["hit_rate@5"] == pytest.approx(np.mean(hits))


def test_what_belongs_to_an_item_is_not_ranked_by() -> None:
    text = (
        RANKING.replace("inputs: {user: int,", "inputs: {genre: 'float[1]', user: int,")
        .replace("    user: {column: u, encode: ids}", "    genre: {columns: [g]}\n    user: {column: u, encode: ids}")
        .replace(
            "    - {dot: [u, v], as: good}",
            "    - {linear: 4, from: genre, as: g}\n    - {add: [u, g], as: ug}\n    - {dot: [ug, v], as: good}",
        )
    )
    data = choices()["train"]
    with pytest.raises(DataError, match="each `item` has one value of"):
        train(read_string(text), data={"train": {**data, "g": [i % 3 for i in data["i"]]}})


def test_texts_that_cannot_be_generated_are_told_before_training(tmp_path: Path) -> None:
    data = {"train": words(40, 0), "test": words(9, 1)}
    for old, new, part in (
        (", start: true, end: true", "", "beginning and end"),
        ("int[T <= 10]", "int[T]", "how long T may be"),
    ):
        with pytest.raises(DataError, match=part):
            train(read_string(TRANSLATION.replace(old, new)), tmp_path / "run", data=data)
        assert not (tmp_path / "run").exists()


def test_words_are_compared_as_the_vocabulary_writes_them() -> None:
    """A comma stands apart in what is generated, and so it does in what is expected."""
    table = from_arrays({"text": ["Yes, it's here.", "No!"]})
    field = f.words(start=True, end=True).fit(table)
    ids = field.transform(table)
    assert [field.tokens.written(text) for text in field.layout.texts(table, type(field.tokens))] == [
        field.text(row) for row in ids
    ]


def test_rankings_need_to_know_what_there_is_to_rank() -> None:
    text = RANKING.replace("{sample: item, count: 3, never: seen_by_user}", "{column: n}")
    with pytest.raises(SpecError, match=r"`hit_rate` ranks by scores.*`\{sample: item\}`"):
        check_spec(read_string(text))


def test_a_saved_ranking_is_evaluated_as_it_was(tmp_path: Path) -> None:
    data = choices()["train"]
    lines = ["u,i,t", *(f"{u},{i},{t}" for u, i, t in zip(data["u"], data["i"], data["t"], strict=True))]
    (tmp_path / "choices.csv").write_text("\n".join(lines))
    (tmp_path / "ranking.yaml").write_text(RANKING.replace("none.csv", "choices.csv"))
    found = train(open_spec(tmp_path / "ranking.yaml"), tmp_path / "run")
    again = evaluate(tmp_path / "run")
    for name, value in found.metrics["test"].items():
        assert again["splits"]["test"][name] == pytest.approx(value, rel=1e-6)
    low, high = again["intervals"]["test"]["hit_rate@5"]
    assert low <= found.metrics["test"]["hit_rate@5"] <= high


TRANSLATION = """
spec: 1
name: backwards
data:
  source: csv:none.csv
  fields:
    source: {column: word, encode: characters}
    target: {column: reversed, encode: characters, start: true, end: true}
model:
  inputs: {source: "int[S <= 8]", target: "int[T <= 10]"}
  layers:
    - {embedding: {rows: $source.size, dim: 24}, from: source}
    - {gru: {units: 24, returns: last}, as: memory}
    - {embedding: {rows: $target.size, dim: 24}, from: target, as: given}
    - {gru: 24, from: [given, memory]}
    - {linear: $target.size, as: logits}
train: {loss: {next_token: [logits, target]}, optimizer: {adamw: {lr: 1e-2}}, epochs: 6, batch: 32}
evaluate: {metrics: [accuracy, character_error_rate, exact_match], batch: 16}
"""


def words(count: int, seed: int) -> dict[str, list[str]]:
    rng = np.random.default_rng(seed)
    found = ["".join(rng.choice(list("abcd"), rng.integers(1, 5))) for _ in range(count)]
    return {"word": found, "reversed": [w[::-1] for w in found]}


def test_texts_are_generated_for_all_rows_at_once() -> None:
    data = {"train": words(400, 0), "test": words(45, 1)}
    found = train(read_string(TRANSLATION), data=data)
    metrics = found.metrics["test"]
    generator = Generator(found.model)
    texts = ["".join(generator.text("", {"word": word}, 10, Sampling())) for word in data["test"]["word"]]
    exact = np.mean([a == b for a, b in zip(texts, data["test"]["reversed"], strict=True)])
    assert metrics["exact_match"] == pytest.approx(exact)
    assert exact > 0.2, "it has learnt something, so that this could be wrong"
    assert "exact_match" not in found.metrics["train"], "texts are generated for one split, at the end"


def test_a_language_model_alone_is_not_judged_by_texts() -> None:
    text = """
spec: 1
model: {inputs: {x: "int[T <= 8]"}, layers: [{embedding: {rows: 5, dim: 4}}, {gru: 4}, {linear: 5, as: y}]}
train: {loss: {next_token: [y, x]}, optimizer: sgd}
evaluate: {metrics: [bleu]}
"""
    with pytest.raises(SpecError, match=r"`bleu` compares texts.*no other input"):
        check_spec(read_string(text))


def test_frames_spell() -> None:
    frames = np.zeros((2, 7, 4))
    for row, classes in enumerate([[0, 1, 1, 0, 1, 3, 3], [2, 0, 0, 2, 2, 0, 0]]):
        frames[row, np.arange(7), classes] = 1.0
    assert spelled(frames, None).tolist() == ["1 1 3", "2 2"]


CTC = """
spec: 1
name: spelling
data:
  source: csv:none.csv
  fields:
    frames: {column: frames}
    text: {column: text, encode: characters, blank: true}
model:
  inputs: {frames: "float[9, 4]"}
  layers: [{linear: 16}, tanh, {linear: $text.size, as: logits}]
train: {loss: {ctc: [logits, text]}, optimizer: {adamw: {lr: 3e-2}}, epochs: 25, batch: 20}
evaluate: {metrics: [character_error_rate, exact_match]}
"""


def test_ctc_is_judged_and_predicts_text() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc"), rng.integers(1, 4))) for _ in range(120)]
    frames = rng.normal(0, 0.1, (120, 9, 4))
    for row, text in enumerate(texts):
        for i, letter in enumerate(text):
            frames[row, 3 * i : 3 * i + 2, "abc".index(letter) + 1] += 1.0
    data = {"frames": frames, "text": texts}
    found = train(read_string(CTC), data={"train": data, "test": data})
    assert found.metrics["test"]["exact_match"] > 0.9
    assert found.metrics["test"]["character_error_rate"] < 0.05
    predicted = found.model.predict({"frames": frames})["text"]
    assert np.mean(predicted == np.asarray(texts, object)) == pytest.approx(found.metrics["test"]["exact_match"])


def test_entities_are_judged_by_their_names() -> None:
    tagger = """
spec: 1
name: tags
data:
  source: csv:none.csv
  fields: {words: {column: words, encode: words, max_length: 5}, tags: {column: tags, encode: ids}}
model:
  inputs: {words: "int[T <= 5]"}
  layers:
    - embedding: {rows: $words.size, dim: 8}
    - gru: {units: 8, bidirectional: true}
    - {linear: $tags.size, as: y}
train: {loss: {cross_entropy: [y, tags]}, optimizer: {adamw: {lr: 3e-2}}, epochs: 12, batch: 10}
evaluate: {metrics: [accuracy, span_f1]}
"""
    rng = np.random.default_rng(0)
    kinds = {"in": "O", "anna": "B-PER", "smith": "I-PER", "paris": "B-LOC"}
    rows = [[str(w) for w in rng.choice(list(kinds), rng.integers(1, 8))] for _ in range(80)]
    data = {"words": rows, "tags": [[kinds[w] for w in row] for row in rows]}
    found = train(read_string(tagger), data={"train": data, "test": data})
    assert found.metrics["test"]["span_f1"] > 0.95
    predicted = found.model.predict({"words": [["anna", "smith", "in", "paris"], ["in"]]})["tags"]
    assert [len(row) for row in predicted] == [4, 1]


def test_errors_by_step_ahead_are_in_the_units_of_the_data() -> None:
    text = """
spec: 1
name: ahead
data:
  source: csv:none.csv
  split: {by: order, train: 0.6, test: 0.4}
  fields:
    past: {encode: series, column: x, past: 4, scale: standard}
    next: {encode: series, column: x, future: 3, scale: standard}
model: {inputs: {past: "float[4]"}, layers: [{linear: 3, as: y}]}
train: {loss: {mse: [y, next]}, optimizer: {sgd: {lr: 1e-6}}, steps: 1}
evaluate: {metrics: [mae, mae@1, mae@3]}
"""
    series = np.sin(np.arange(200) / 7) * 50 + 300
    found = train(read_string(text), data={"train": {"x": series}})
    rows = series[120:]
    predicted = found.model.predict({"x": rows})["next"][:74]
    for ahead in (1, 3):
        truth = np.lib.stride_tricks.sliding_window_view(rows, 7)[:, 3 + ahead]
        expected = np.abs(predicted[:, ahead - 1] - truth).mean()
        assert found.metrics["test"][f"mae@{ahead}"] == pytest.approx(expected, rel=1e-5)


def test_a_short_metric_is_the_long_one() -> None:
    spec = read_string(RANKING.replace("[hit_rate@5, ndcg@5, mrr]", "[hit_rate@5, {hit_rate: 5}, hit_rate]"))
    calls = spec.sections.evaluate.metrics
    assert [(c.title, c.args["k"]) for c in calls] == [("hit_rate@5", 5), ("hit_rate", 5), ("hit_rate", 10)]
    with pytest.raises(SpecError, match="hit_rate"):
        check_spec(read_string(RANKING.replace("hit_rate@5", "hit_rate@none")))


def test_media_are_predicted_from_files(tmp_path: Path) -> None:
    """A bundle takes image files and recordings as the training data had them."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, value in (("dark", 40), ("light", 200)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(rng.normal(value, 20, (9, 7, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{i}.png")
    (tmp_path / "look.yaml").write_text("""
spec: 1
name: look
data:
  source: images:pictures
  options: {size: [6, 6], mode: gray}
  split: {by: stratified, on: label}
  fields:
    image: {column: image, scale: standard, augment: [flip, {crop: {pad: 1}}]}
    label: {column: label, encode: ids}
model: {inputs: {image: "float[1, 6, 6]"}, layers: [flatten, {linear: 2, as: y}]}
train: {loss: {cross_entropy: [y, label]}, optimizer: {adamw: {lr: 1e-2}}, epochs: 20, batch: 6}
""")
    train(open_spec(tmp_path / "look.yaml"), tmp_path / "run")
    from trine.runtime.compiling import compile_source
    from trine.runtime.prediction import predict

    compile_source(tmp_path / "run", tmp_path / "look.trine")
    assert predict(tmp_path / "look.trine", tmp_path / "pictures" / "light" / "3.png", None)["label"].tolist() == [
        "light"
    ]
    whole = predict(tmp_path / "look.trine", tmp_path / "pictures", None)["label"]
    assert whole.tolist() == ["dark"] * 12 + ["light"] * 12


def test_recordings_are_predicted_from_files(tmp_path: Path) -> None:
    import soundfile

    rng = np.random.default_rng(0)
    (tmp_path / "tones").mkdir()
    for i in range(24):
        pitch = 300 if i % 2 else 1200
        sound = 0.5 * np.sin(2 * np.pi * pitch * np.arange(800 + 40 * i) / 8000) + rng.normal(0, 0.02, 800 + 40 * i)
        soundfile.write(tmp_path / "tones" / f"{'low' if i % 2 else 'high'}_{i}.wav", sound, 8000)
    (tmp_path / "listen.yaml").write_text("""
spec: 1
name: listen
data:
  source: audio:tones
  options: {names: "{pitch}_{index}"}
  split: {by: values, on: index, test: [0, 1, 2, 3]}
  fields:
    sound: {column: audio, encode: spectrogram, rate: 8000, seconds: 0.2, mels: 12}
    pitch: {column: pitch, encode: ids}
model: {inputs: {sound: "float[1, 12, 18]"}, layers: [flatten, {linear: 2, as: y}]}
train: {loss: {cross_entropy: [y, pitch]}, optimizer: {adamw: {lr: 1e-2}}, epochs: 10, batch: 6}
evaluate: {metrics: [accuracy]}
""")
    found = train(open_spec(tmp_path / "listen.yaml"), tmp_path / "run")
    assert found.metrics["test"]["accuracy"] == 1.0
    from trine.runtime.prediction import predict

    assert predict(tmp_path / "run", tmp_path / "tones" / "high_0.wav", None)["pitch"].tolist() == ["high"]


AUGMENTED = """
spec: 1
name: augmented
data:
  source: csv:none.csv
  fields:
    x: {column: x, augment: [flip, {crop: {pad: 2}}, {erase: {size: 2}}, {noise: {std: 0.1}}, brightness]}
    y: {column: y, encode: ids}
model: {inputs: {x: "float[1, 6, 6]"}, layers: [flatten, {linear: 2, as: z}]}
train: {loss: {cross_entropy: [z, y]}, optimizer: sgd, batch: 8, epochs: 2}
"""


def test_augmented_batches_depend_on_their_number_alone() -> None:
    """So that a run that is resumed goes on as it would have."""
    rng = np.random.default_rng(0)
    data = {"train": {"x": rng.normal(0, 1, (40, 1, 6, 6)), "y": (np.arange(40) % 2).tolist()}}
    spec, dataset = prepare(read_string(AUGMENTED), data)
    arrays = {name: part.arrays for name, part in dataset.splits.items()}
    one, other = (Trainer(spec, arrays, load("numpy"), fields=dataset.fields) for _ in range(2))
    batches = [one._feeds(i)["x"] for i in range(8)]
    assert np.array_equal(other._feeds(6)["x"], batches[6])
    rows = one._batches(1)[1]
    assert not np.array_equal(batches[6], arrays["train"]["x"][rows]), "they are changed"
    assert np.array_equal(one.evaluator.run(arrays["train"]).targets["y"], arrays["train"]["y"]), "evaluation is not"
