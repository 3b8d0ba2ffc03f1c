"""A spec against its data: what is refused before the first step, and what survives odd networks."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest
import trine
from trine.runtime.session import train
from trine.runtime.specs import open_spec

SPEC = """
spec: 1
name: people
data:
  source: csv:people.csv
  split: {train: 0.6, valid: 0.2, test: 0.2}
  fields:
    numbers: {columns: [age, hours], scale: standard}
    hours: {column: hours, scale: standard}
    income: {column: income, encode: ids}
model:
  inputs: {numbers: "float[2]"}
  layers:
    - linear: 8
    - relu
      ;OUTPUTS
train:
  loss: {cross_entropy: [logits, income]}
  optimizer: adam
  batch: 8
  epochs: 2
evaluate: {metrics: [accuracy]}
""".replace("\n      ;OUTPUTS", "\n    - linear: $income.size\n      as: logits")


def write_people(folder: Path, rows: int = 60, income: str = "high low") -> None:
    rng = random.Random(0)
    with (folder / "people.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "hours", "income"])
        for _ in range(rows):
            age = rng.randint(18, 70)
            writer.writerow([age, rng.randint(10, 60), income.split()[(age > 40) % len(income.split())]])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    write_people(tmp_path)
    path = tmp_path / "people.yaml"
    path.write_text(SPEC)
    return path


def test_as_many_outputs_as_classes(spec: Path) -> None:
    spec.write_text(SPEC.replace("$income.size", "5"))
    with pytest.raises(trine.DataError, match="`logits` has 5 outputs, the field `income` has 2 classes"):
        trine.train(spec)


def test_one_class_is_nothing_to_learn(spec: Path) -> None:
    write_people(spec.parent, income="high")
    with pytest.raises(trine.DataError, match="one value of `income` alone"):
        trine.train(spec)


@pytest.mark.parametrize("watcher", ["early_stopping={patience: 2}", "schedule=plateau"])
def test_what_is_watched_needs_validation_rows(spec: Path, watcher: str) -> None:
    overrides = ["data.split={train: 0.8, test: 0.2}", f"train.{watcher}"]
    with pytest.raises(trine.DataError, match="needs validation rows"):
        trine.train(spec, set=overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.early_stopping={monitor: valid/lss}", "did you mean `valid/loss`"),
        ("train.early_stopping={monitor: valid/auc}", "not computed"),
        (
            "train.schedule={plateau: {monitor: valid/lss}}",
            "(?s)the schedule `plateau` watches.*did you mean `valid/loss`",
        ),
        ("train.schedule={plateau: {monitor: train/loss}}", "not computed"),
        ("evaluate.metrics=[rmse]", "metric `rmse` is for values"),
    ],
)
def test_what_is_watched_is_computed(spec: Path, override: str, message: str) -> None:
    with pytest.raises(trine.SpecError, match=message):
        open_spec(spec, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.schedule={piecewise: {at: [1ep, 2ep], factors: [0.1]}}", "found 2 `at` and 1 `factors`"),
        ("train.optimizer={lion: {betas: [0.9]}}", "`betas` are two numbers, found 1"),
    ],
)
def test_arguments_that_contradict_each_other(spec: Path, override: str, message: str) -> None:
    with pytest.raises(trine.SpecError, match=message):
        open_spec(spec, [override])


def test_a_share_of_seconds_is_no_number_of_steps(spec: Path) -> None:
    spec.write_text(SPEC.replace("epochs: 2", "duration: 1sec\n  schedule: {cosine: {warmup: 5%}}"))
    with pytest.raises(trine.SpecError, match="needs the number of steps"):
        open_spec(spec)


def test_two_losses_on_one_target(spec: Path) -> None:
    text = SPEC.replace("$income.size\n      as: logits", "1\n      as: h").replace(
        "metrics: [accuracy]", "metrics: [mae]"
    )
    spec.write_text(
        text.replace("{cross_entropy: [logits, income]}", "[{mae: [h, hours]}, {mse: [h, hours], weight: 0.5}]")
    )
    metrics = trine.train(spec).metrics["test"]
    assert {"loss", "hours/mae", "hours/2/mae"} == set(metrics)
    assert metrics["hours/mae"] == metrics["hours/2/mae"]


def test_a_batch_whose_samples_weigh_nothing(spec: Path) -> None:
    spec.write_text(
        SPEC.replace("{cross_entropy: [logits, income]}", "{cross_entropy: {weights: [0, 1]}, from: [logits, income]}")
    )
    assert np.isfinite(trine.train(spec, set=["train.batch=1"]).metrics["train"]["loss"])


def test_a_metric_without_a_value_improves_nothing(spec: Path) -> None:
    """The area under the curve of a validation split with one class is not a number."""
    text = (
        SPEC.replace("encode: ids", "encode: binary")
        .replace("$income.size", "1")
        .replace("cross_entropy", "binary_cross_entropy")
    )
    spec.write_text(text.replace("metrics: [accuracy]", "metrics: [auc]"))
    overrides = [
        "data.split={train: 0.9, valid: 0.02, test: 0.08}",
        "train.early_stopping={monitor: valid/auc, patience: 50}",
    ]
    trained = trine.train(spec, set=overrides)
    assert np.isnan(trained.metrics["valid"]["auc"])


def test_the_probability_is_that_of_what_is_named(spec: Path) -> None:
    text = (
        SPEC.replace("encode: ids", "encode: binary")
        .replace("$income.size", "1")
        .replace("cross_entropy", "binary_cross_entropy")
    )
    spec.write_text(text)
    found = trine.train(spec, set=["train.epochs=5"]).model.predict({"age": [20, 65], "hours": [30, 30]})
    assert set(found["income"]) <= {"high", "low"}
    assert (found["income/probability"] >= 0.5).all()


def test_an_old_run_stays_until_nothing_can_go_wrong(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trine.train(spec, out=out)
    before = (out / "weights.safetensors").read_bytes()
    with pytest.raises(trine.BackendError):
        trine.train(spec, out=out, overwrite=True, backend="abacus")
    with pytest.raises(trine.DataError):
        trine.train(spec, out=out, overwrite=True, set=["data.fields.income.column=nope"])
    assert (out / "weights.safetensors").read_bytes() == before


def test_changed_data_are_noticed(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trine.train(spec, out=out)
    trine.evaluate(out)
    with (spec.parent / "people.csv").open("a") as file:
        file.write("30,40,high\n" * 20)
    with pytest.raises(trine.DataError, match="may have been trained on"):
        trine.evaluate(out)
    with pytest.raises(trine.DataError, match="begun with"):
        trine.train(spec, out=out, resume=True)


def test_the_split_to_look_at(spec: Path, tmp_path: Path) -> None:
    trine.train(spec, out=tmp_path / "run", set=["data.split={train: 0.8, valid: 0.2}"])
    assert list(trine.evaluate(tmp_path / "run")["splits"]) == ["valid"]
    with pytest.raises(trine.UsageError, match="there is `valid`, `train`"):
        trine.evaluate(tmp_path / "run", "test")


def test_dropout_over_an_axis_of_any_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "series.npz", x=rng.standard_normal((40, 6, 4)), y=rng.integers(0, 2, 40))
    path = tmp_path / "series.yaml"
    path.write_text("""
spec: 1
data:
  source: npz:series.npz
  fields: {x: {column: x}, y: {column: y, encode: ids}}
model:
  inputs: {x: "float[T <= 8, 4]"}
  layers:
    - conv: {filters: 3, kernel: 3}
    - dropout: 0.2
    - relu
    - mean: {over: T}
    - linear: $y.size
      as: logits
train: {loss: {cross_entropy: [logits, y]}, optimizer: adam, epochs: 1}
""")
    assert np.isfinite(train(open_spec(path)).metrics["train"]["loss"])
    with pytest.raises(trine.DataError, match="T is at most 5"):
        trine.train(path, set=['model.inputs.x="float[T <= 5, 4]"'])


def test_slices_of_what_is_not_there(spec: Path) -> None:
    with pytest.raises(trine.DataError, match="`nope`"):
        trine.train(spec, set=["evaluate.slices=[nope]"])
    with pytest.raises(trine.DataError, match="made of several"):
        trine.train(spec, set=["evaluate.slices=[numbers]"])
