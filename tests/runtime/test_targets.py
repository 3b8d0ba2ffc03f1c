"""Targets that losses do not take, weights of classes, losses that weigh rows, and the last batch of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trine
from trine.runtime.progress import Silent
from trine.runtime.session import prepare, train
from trine.runtime.specs import open_spec
from trine.runtime.targets import class_weights

torch.set_num_threads(1)

SPEC = """
spec: 1
name: t
data:
  source: csv:d.csv
  split: {by: order, train: 0.7, valid: 0.3}
  fields:
    x: {columns: [a, b], scale: standard}
    y: {column: y}
    kind: {column: kind, encode: ids}
    w: {column: w}
model:
  inputs: {x: "float[2]"}
  layers:
    - linear: 1
      as: out
    - linear: 3
      from: x
      as: logits
  outputs: [out, logits]
train:
  loss: {mse: [out, y]}
  optimizer: {sgd: {lr: 0.1}}
  shuffle: false
  epochs: 1
"""
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A spec beside rows whose targets are the given ones, one after the other."""

    def made(targets: list[Any], text: str = SPEC, kinds: tuple[str, ...] = ("p", "q", "r"), rows: int = 60) -> Path:
        lines = [f"{i % 7},{i % 5},{targets[i % len(targets)]},{kinds[i % len(kinds)]},{i % 4}" for i in range(rows)]
        (tmp_path / "d.csv").write_text("\n".join(["a,b,y,kind,w", *lines]) + "\n")
        (tmp_path / "t.yaml").write_text(text)
        return tmp_path / "t.yaml"

    return made


@pytest.mark.parametrize(
    ("loss", "good", "bad", "part"),
    [
        ("binary_cross_entropy", [0, 0.3, 1], [1, 2], "takes numbers from 0 to 1, the field `y` has `2` in train rows"),
        ("binary_focal", [0, 1], [0, 0.5], "takes 0 and 1, the field `y` has `0.5`"),
        ("hinge", [-1, 1], [0, 1], "takes -1 and 1, the field `y` has `0`"),
        ("poisson", [0, 3], [-2, 3], "takes numbers of at least 0, the field `y` has `-2`"),
    ],
)
def test_numbers_that_a_loss_does_not_take(make: Make, loss: str, good: list[Any], bad: list[Any], part: str) -> None:
    trine.train(make(good), set={"train.loss": {loss: ["out", "y"]}})
    with pytest.raises(trine.DataError) as caught:
        trine.train(make(bad), set={"train.loss": {loss: ["out", "y"]}})
    assert part in str(caught.value)


CLASSES = {"train.loss": {"cross_entropy": ["logits", "kind"]}}


def test_a_missing_target_is_no_class(make: Make) -> None:
    with pytest.raises(trine.DataError, match=r"14 training rows lack `kind`.* `clean: \[\{drop_rows: \{missing: kind"):
        trine.train(make([1], kinds=("p", "q", "")), set=CLASSES)
    dropped = {**CLASSES, "data.clean": [{"drop_rows": {"missing": "kind"}}], "model.layers.1.linear": 2}
    assert trine.train(make([1], kinds=("p", "q", "")), set=dropped).model.fields["kind"].names == ["p", "q"]
    asked = {**CLASSES, "data.fields.kind.fill": "own"}
    assert trine.train(make([1], kinds=("p", "q", "")), set=asked).model.fields["kind"].names[-1] == "(missing)"


@pytest.mark.parametrize("given", [{"r": 5, "p": 0.5}, "balanced"])
@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
def test_weights_of_classes_are_those_of_pytorch(make: Make, tmp_path: Path, given: Any, backend: str) -> None:
    kinds = ("p", "p", "p", "q", "r")
    loss = {"cross_entropy": {"weights": given}, "from": ["logits", "kind"]}
    spec = make([1], kinds=kinds)
    run = trine.train(spec, tmp_path / "run", set={"train.loss": loss, "train.epochs": 3}, backend=backend)
    _, dataset = prepare(open_spec(spec))
    rows = dataset.splits["valid"].arrays
    counts = np.bincount(dataset.splits["train"].arrays["kind"])
    weights = np.array([0.5, 1, 5]) if given != "balanced" else counts.sum() / (3 * counts)
    model = run.model
    logits = rows["x"] @ model.weights["logits.weight"].T + model.weights["logits.bias"]
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(rows["kind"]), torch.tensor(weights, dtype=torch.float32)
    )
    # float32 sums of 18 rows
    assert run.metrics["valid"]["loss"] == pytest.approx(float(expected), rel=1e-5)
    # what was learnt of the data is part of the run
    assert trine.evaluate(tmp_path / "run")["splits"]["valid"]["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_weights_of_classes_that_are_not_there(make: Make) -> None:
    loss = {"cross_entropy": {"weights": {"s": 2}}, "from": ["logits", "kind"]}
    with pytest.raises(trine.DataError, match="names a class `s`"):
        trine.train(make([1]), set={"train.loss": loss})


WEIGHED = [{"mse": ["out", "y"], "sample_weight": "w"}, {"cross_entropy": ["logits", "kind"]}]


def test_the_loss_does_not_depend_on_the_batch(make: Make) -> None:
    """One of two losses weighs rows. Sums of float32 in other orders differ in the last digits."""
    spec = make([1, 2, 5])
    losses = [
        trine.train(spec, set={"train.loss": WEIGHED, "evaluate.batch": batch}).metrics["valid"]["loss"]
        for batch in (256, 9, 4, 1)
    ]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-6)
    large, small = (
        trine.train(spec, set={"train.loss": WEIGHED, "train.batch": batch, "train.accumulate": times}).model.weights
        for batch, times in ((42, 1), (7, 6))
    )
    for name, array in large.items():
        np.testing.assert_allclose(small[name], array, rtol=1e-5, atol=1e-7)


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.rates: list[float] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, batches: int, loss: float, lr: float) -> None:
        self.rates.append(lr)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_times_of_schedules_are_those_of_training(make: Make, accumulate: int) -> None:
    """42 rows, 14 batches an epoch: the last batch of each epoch has the rate of that epoch."""
    heard = Heard()
    schedule = {"step": {"every": "1ep", "gamma": 0.5}}
    changes = [f"train.accumulate={accumulate}", "train.batch=3", "train.epochs=4", f"train.schedule={schedule}"]
    train(open_spec(make([1, 2]), [c.replace("'", '"') for c in changes]), listener=heard)
    assert [heard.rates[14 * k - 1] for k in (1, 2, 3, 4)] == pytest.approx([0.1, 0.05, 0.025, 0.0125])


def test_the_rows_of_each_split_are_told(make: Make) -> None:
    heard = Heard()
    train(open_spec(make([1, 2])), listener=heard)
    assert "rows: train 42, valid 18" in heard.notes


NORMED = SPEC.replace("    - linear: 1\n", "    - linear: 4\n    - batch_norm\n    - linear: 1\n", 1)


def test_a_last_batch_of_one_row_joins_the_one_before(make: Make) -> None:
    """41 rows in batches of 8 leave one: without its own variance of 0, statistics are those of the data."""
    heard = Heard()
    spec = make([1, 2], NORMED, rows=59)  # 41 of them to train on
    found = train(open_spec(spec, ["train.batch=8", "train.epochs=2"]), listener=heard)
    assert any("it joins the batch before" in note for note in heard.notes)
    assert len(heard.rates) == 2 * 5
    assert found.model.weights["batch_norm_1.variance"].min() > 0
    with pytest.raises(trine.TrainingError, match="needs batches of several rows"):
        train(open_spec(spec, ["train.batch=1"]))


def test_frozen_batch_normalisation_keeps_its_statistics(make: Make) -> None:
    spec = make([1, 2], NORMED)
    frozen = {"train.groups": [{"match": "batch_norm_1.*", "freeze": True}], "train.epochs": 2}
    weights = trine.train(spec, set=frozen).model.weights
    assert (weights["batch_norm_1.mean"] == 0).all()
    assert (weights["batch_norm_1.variance"] == 1).all()
    free = trine.train(spec, set={"train.epochs": 2}).model.weights
    assert (free["batch_norm_1.variance"] != 1).any()


def test_a_number_that_never_has_a_value_cannot_be_watched(make: Make) -> None:
    text = SPEC.replace("y: {column: y}", "y: {column: y, encode: binary}")
    spec = make([1], text)
    lines = spec.with_name("d.csv").read_text().splitlines()
    mixed = [line.replace(",1,", ",0,", 1) if i in (3, 7, 9) else line for i, line in enumerate(lines)]
    spec.with_name("d.csv").write_text("\n".join(mixed) + "\n")  # the validation rows have one class
    watched = {
        "train.loss": {"binary_cross_entropy": ["out", "y"]}, "evaluate": {"metrics": ["auc"]}, "train.epochs": 9,
        "train.early_stopping": {"monitor": "valid/auc", "patience": 2},
    }  # fmt: skip
    with pytest.raises(trine.TrainingError, match="`valid/auc`, which had no value in any of 2 evaluations"):
        trine.train(spec, set=watched)


SEQUENCE = """
spec: 1
name: s
data:
  source: jsonl:d.jsonl
  split: {by: order, train: 0.7, valid: 0.3}
  fields:
    words: {column: words, encode: words}
    y: {column: y, encode: ids}
model:
  inputs: {words: "int[T <= 200]"}
  layers:
    - embedding: {rows: $words.size, dim: 3}
    - gru: {units: 4, returns: last}
    - linear: $y.size
      as: out
train: {loss: {cross_entropy: [out, y]}, optimizer: adam, epochs: 1}
"""


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
def test_long_sequences_train_and_odd_inputs_are_refused(tmp_path: Path, backend: str) -> None:
    """150 steps: beyond 128, what says shapes is larger than what ONNX Runtime is handed beside its model."""
    rows = [f'{{"words": "{"a b c " * (50 if i else 2)}", "y": "{"pq"[i % 2]}"}}' for i in range(20)]
    (tmp_path / "d.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "s.yaml").write_text(SEQUENCE)
    model = trine.train(tmp_path / "s.yaml", backend=backend).model
    assert model.predict_arrays({"words": [[1, 2, -1]]})["y"].shape == (1, 2)
    for words, part in (
        ([[1, -1, 2]], "padding \\(-1\\) before the end"), ([[1, 99]], "the id 99 in row 0"), ([[-2, 1]], "the id -2"),
        (np.zeros((2, 0), np.int64), "sequences of no steps"),
    ):  # fmt: skip
        with pytest.raises(trine.DataError, match=part):
            model.predict_arrays({"words": words})


def test_nan_is_no_input(make: Make) -> None:
    model = trine.train(make([1, 2])).model
    with pytest.raises(trine.DataError, match="has NaN in row 1"):
        model.predict_arrays({"x": [[0.0, 1.0], [np.nan, 1.0]]})


def test_balanced_weights_are_those_of_scikit_learn(make: Make) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    spec = make([1], kinds=("p", "p", "p", "q", "r"))
    loss = "{cross_entropy: {weights: balanced}, from: [logits, kind]}"
    opened = open_spec(spec, [f"train.loss={loss}"])
    sized, dataset = prepare(opened)
    from trine.compiler.build import build

    ids = dataset.splits["train"].arrays["kind"]
    (head,) = build(sized, "train").heads
    expected = compute_class_weight("balanced", classes=np.arange(3), y=ids)
    np.testing.assert_allclose(class_weights(head, dataset), expected, rtol=1e-6)
