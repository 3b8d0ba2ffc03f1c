"""Losses of several steps, and weighted samples, from the data to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trine
from trine.runtime.prediction import predict
from trine.runtime.progress import Silent
from trine.runtime.session import evaluate

HEAD = "spec: 1\nname: small\ndata:\n  source: npz:rows.npz\n  split: {train: 0.6, valid: 0.2, test: 0.2}\n  fields:\n"
TRAIN = "  optimizer: {sgd: {lr: 0.1}}\n  batch: 10\n  steps: 4\n  shuffle: false\n"

TWO_TOWER = """
    user: {column: user, encode: raw}
    item: {column: item, encode: raw}
    negative: {column: negative, encode: raw}
model:
  inputs: {user: int, item: int, negative: "int[4]"}
  blocks:
    tower:
      params: {rows: int}
      layers:
        - embedding: {rows: $rows, dim: 6}
        - linear: 6
        - l2_normalize
  layers:
    - tower: {rows: 12}
      from: user
      as: user_vec
    - tower: {rows: 9}
      from: item
      as: item_vec
    - tower: {rows: 9}
      from: negative
      share: item_vec
      as: negative_vec
    - dot: [user_vec, item_vec]
      as: good
    - dot: [user_vec, negative_vec]
      as: bad
  outputs: [user_vec, item_vec, good]
train:
  loss: LOSS
"""

VECTORS = """
    left: {columns: [a, b, c]}
    person: {column: person, encode: ids}
    weight: {column: weight}
model:
  inputs: {left: "float[3]"}
  layers:
    - linear: 4
      as: embedding
    - linear: 4
      from: left
      as: other
    - linear: $person.size
      from: embedding
      as: logits
  outputs: [embedding, other, logits]
train:
  loss: LOSS
"""

SPELLING = """
    frames: {column: frames}
    word: {column: word, encode: raw}
model:
  inputs: {frames: "float[T, 3]"}
  layers:
    - linear: 5
      as: logits
train:
  loss: LOSS
"""


def columns(rows: int = 60) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    word = rng.integers(1, 5, (rows, 3))
    word[::2, 2] = 0
    word[::6, 1] = 0
    return {
        "user": rng.integers(0, 12, rows),
        "item": rng.integers(0, 9, rows),
        "negative": rng.integers(0, 9, (rows, 4)),
        **{name: rng.normal(size=rows) for name in "abc"},
        "person": rng.integers(0, 4, rows),
        "weight": rng.uniform(0.5, 2.0, rows),
        "frames": rng.normal(size=(rows, 8, 3)),
        "word": word,
    }


def written(folder: Path, model: str, loss: str, more: str = "", **changed: Any) -> Path:
    np.savez(folder / "rows.npz", **(columns() | changed))
    path = folder / "small.yaml"
    path.write_text(HEAD + model.replace("LOSS", loss).lstrip("\n") + TRAIN + more)
    return path


class Losses(Silent):
    def __init__(self) -> None:
        self.found: list[float] = []

    def step(self, batches: int, loss: float, lr: float) -> None:
        self.found.append(loss)


def losses(path: Path, backend: str) -> list[float]:
    """The losses of four batches, and that of the test split after them."""
    from trine.runtime.session import train
    from trine.runtime.specs import open_spec

    listener = Losses()
    trained = train(open_spec(path), backend=backend, listener=listener)
    return [*listener.found, trained.metrics["test"]["loss"]]


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (TWO_TOWER, "{bpr: [good, bad]}"),
        (VECTORS, "{info_nce: {symmetric: true}, from: [embedding, other]}"),
        (VECTORS, "{triplet_in_batch: [embedding, person]}"),
        (SPELLING, "{ctc: [logits, word]}"),
        (VECTORS, "[{cross_entropy: [logits, person], sample_weight: weight}, {info_nce: [embedding, other]}]"),
    ],
    ids=["bpr", "info_nce", "triplet_in_batch", "ctc", "two losses"],
)
def test_training_is_the_same_on_every_backend(model: str, loss: str, tmp_path: Path) -> None:
    # 60 rows, of which 36 train: batches of 10 are followed by one of 6, and 12 are evaluated by themselves
    more = "evaluate: {batch: 7}\n"
    path = written(tmp_path, model, loss, more)
    first = losses(path, "numpy")
    assert len(first) == 5
    assert first[0] != first[1] and np.isfinite(first).all()
    for backend in ("torch", "onnx"):
        # four steps of float32, which has seven digits
        np.testing.assert_allclose(losses(path, backend), first, rtol=1e-5, err_msg=backend)


def test_a_loss_that_predicts_nothing_reports_itself_and_predicts_the_outputs(tmp_path: Path) -> None:
    path = written(tmp_path, TWO_TOWER, "{bpr: [good, bad]}")
    run = tmp_path / "run"
    trained = trine.train(path, run)
    assert [set(values) for values in trained.metrics.values()] == [{"loss"}] * 3
    found = trained.model.predict(columns(5))
    assert {name: array.shape for name, array in found.items()} == {
        "user_vec": (5, 6),
        "item_vec": (5, 6),
        "good": (5,),
    }
    np.testing.assert_allclose(found["good"], (found["user_vec"] * found["item_vec"]).sum(-1), atol=1e-6)  # float32
    summary = evaluate(run, "test")
    assert summary["splits"]["test"] == {"loss": pytest.approx(trained.metrics["test"]["loss"])}
    assert "loss" in (run / "report" / "report.md").read_text()
    assert predict(run, None, "test").keys() == found.keys()


def test_predictions_beside_a_loss_that_makes_none(tmp_path: Path) -> None:
    loss = "[{triplet_in_batch: [embedding, person]}, {cross_entropy: [logits, person]}]"
    trained = trine.train(written(tmp_path, VECTORS, loss, "evaluate: {metrics: [accuracy], slices: [person]}\n"))
    assert set(trained.metrics["test"]) == {"loss", "person/accuracy"}
    found = trained.model.predict(columns(5))
    assert set(found) == {"embedding", "other", "logits", "person", "person/probability"}
    np.testing.assert_array_equal(found["person"], found["logits"].argmax(-1))


def test_a_metric_needs_a_loss_that_predicts(tmp_path: Path) -> None:
    path = written(tmp_path, TWO_TOWER, "{bpr: [good, bad]}", "evaluate: {metrics: [rmse]}\n")
    with pytest.raises(trine.SpecError, match="metric `rmse` is for values, the loss `bpr` gives scores to rank by"):
        trine.train(path)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("{bpr: [good]}", r"`bpr` reads 2 steps, this names 1.*write `\{bpr: \[good, bad\]\}`"),
        ("triplet", r"`triplet` reads 3 steps, this names none.*\[anchor, positive, negative\]"),
        ("{contrastive: [good, bad]}", "`contrastive` reads 2 steps and a field of the data, this names 2"),
        ("{bpr: [good, item_id]}", "there is no step or input `item_id`"),
        ("{bpr: [bad, good]}", r"the good scores are float\[4\], expected one number per row"),
        ("{info_nce: [user_vec, bad]}", r"expected vectors of one size, found float\[6\] and float\[4\]"),
        ("{bpr: [good, bad], sample_weight: wieght}", "there is no field, step or input `wieght`"),
        ("{bpr: [good, bad], sample_weight: 2}", "`sample_weight` expects the name of a field"),
        ("{bpr: [good, bad], sample_weight: user}", "`user` is int, expected float"),
    ],
)
def test_what_a_loss_reads_is_checked(loss: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(trine.SpecError, match=f"(?s){message}"):
        trine.train(written(tmp_path, TWO_TOWER, loss))


def test_sample_weights_are_fields_without_negative_numbers(tmp_path: Path) -> None:
    loss = "{cross_entropy: [logits, person], sample_weight: weight}"
    weight = columns()["weight"]
    weight[-1] = -0.5
    with pytest.raises(trine.DataError, match=r"`weight` weights samples and is -0\.5 in a row of its"):
        trine.train(written(tmp_path, VECTORS, loss, weight=weight))
    ints = "{info_nce: [embedding, other], sample_weight: person}"
    with pytest.raises(trine.DataError, match="what the loss reads, `person`, is float, the field `person` is int"):
        trine.train(written(tmp_path, VECTORS, ints))


@pytest.mark.parametrize("loss", ["{focal: [logits, person]}", "{ctc: [logits, word]}"])
def test_ids_have_room_among_the_outputs(loss: str, tmp_path: Path) -> None:
    model = SPELLING.replace("linear: 5", "linear: 4") if "ctc" in loss else VECTORS
    changed = {} if "ctc" in loss else {"person": np.where(np.arange(60) % 2, 7, 0)}
    model = model.replace("encode: ids", "encode: raw").replace("linear: $person.size", "linear: 4")
    with pytest.raises(trine.DataError, match=r"4 outputs, the field `person` has 8 classes|has ids up to 4"):
        trine.train(written(tmp_path, model, loss, **changed))
