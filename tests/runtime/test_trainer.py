"""Training: resuming, accumulation, stopping, what happens when it goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trine
from trine.backends.base import load
from trine.compiler.ir import DType
from trine.runtime import runs
from trine.runtime.checkpoints import checkpoints, load_tensors
from trine.runtime.runs import Run, RunExists
from trine.runtime.session import prepare, train
from trine.runtime.specs import open_spec
from trine.runtime.trainer import Trainer

SPEC = """
spec: 1
name: small
data:
  source: sklearn:wine
  split: {train: 0.6, valid: 0.2, test: 0.2, by: stratified, on: target}
  fields:
    x: {column: features, scale: standard}
    y: {column: target, encode: ids}
model:
  inputs: {x: "float[13]"}
  layers:
    - linear: 8
    - batch_norm
    - relu
    - dropout: 0.3
    - linear: $y.size
      as: logits
train:
  loss: {cross_entropy: [logits, y]}
  optimizer: {adamw: {lr: 1e-2}}
  schedule: {cosine: {warmup: 10%}}
  clip_norm: 1.0
  batch: 16
  epochs: 4
  evaluate_every: 3ba
  checkpoint: {every: 1ba, keep: 100}
  early_stopping: {patience: 3}
evaluate: {metrics: [accuracy]}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    return path


def without_times(run: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("stop", [1, 5, 8, 14])
def test_a_resumed_run_is_bit_identical(spec: Path, tmp_path: Path, stop: int, accumulate: int) -> None:
    """Stopped after any batch, also in the middle of an epoch or of an accumulation."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    opened = open_spec(spec, [f"train.accumulate={accumulate}"])
    train(opened, whole)
    train(opened, parts)
    for late in checkpoints(parts / "checkpoints"):
        if int(late.name.removeprefix("step-")) > stop:
            for file in late.iterdir():
                file.unlink()
            late.rmdir()
    (parts / "weights.safetensors").unlink()
    train(opened, parts, resume=True)
    assert (whole / "weights.safetensors").read_bytes() == (parts / "weights.safetensors").read_bytes()
    first, second = (checkpoints(run / "checkpoints")[-1] / "state.safetensors" for run in (whole, parts))
    assert first.read_bytes() == second.read_bytes()
    assert without_times(whole) == without_times(parts)


@pytest.mark.parametrize("stop", [6, 8, 11])
def test_a_run_that_follows_a_plateau_is_resumed_bit_by_bit(spec: Path, tmp_path: Path, stop: int) -> None:
    """Evaluations come every third batch: stopped as one lowers the rate, and between two of them."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    watch = "{plateau: {factor: 0.5, patience: 0, min_delta: 0.5}}"
    opened = open_spec(spec, [f"train.schedule={watch}", "train.early_stopping=null", "train.epochs=3"])
    train(opened, whole)
    rates = {row["lr"] for row in without_times(whole) if row["split"] == "train"}
    assert len(rates) > 2, "the rate should have been lowered"
    train(opened, parts)
    for late in checkpoints(parts / "checkpoints"):
        if int(late.name.removeprefix("step-")) > stop:
            shutil.rmtree(late)
    train(opened, parts, resume=True)
    first, second = (checkpoints(run / "checkpoints")[-1] / "state.safetensors" for run in (whole, parts))
    assert first.read_bytes() == second.read_bytes()
    assert without_times(whole) == without_times(parts)


def test_two_runs_are_equal_and_two_seeds_are_not(spec: Path, tmp_path: Path) -> None:
    results = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(open_spec(spec, [f"train.seed={seed}"]), tmp_path / name)
        results[name] = (tmp_path / name / "weights.safetensors").read_bytes()
    weights = {name: load_tensors(tmp_path / name / "weights.safetensors") for name in results}
    assert all(np.array_equal(weights["a"][k], weights["b"][k]) for k in weights["a"])
    assert any(not np.array_equal(weights["a"][k], weights["c"][k]) for k in weights["a"])


def test_accumulation_equals_one_large_batch(spec: Path) -> None:
    """In float64 the sums differ by rounding alone, so 1e-10 is far above what they may."""
    plain = ["train.clip_norm=1e9", "model.layers.1=identity", "model.layers.3=identity", "train.shuffle=false"]
    states = []
    for batch, accumulate in ((107, 1), (16, 7)):
        opened = open_spec(spec, [*plain, f"train.batch={batch}", f"train.accumulate={accumulate}", "train.epochs=3"])
        sized, dataset = prepare(opened)
        arrays = {name: part.arrays for name, part in dataset.splits.items()}
        widened = {
            s: {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in v.items()}
            for s, v in arrays.items()
        }
        trainer = Trainer(sized, widened, load("numpy"), dtype=DType.f64)
        trainer.fit()
        states.append(trainer.weights())
    for name in states[0]:
        np.testing.assert_allclose(states[0][name], states[1][name], rtol=1e-10, atol=1e-12)


def test_early_stopping_goes_back_to_the_best_weights(spec: Path, tmp_path: Path) -> None:
    result = train(open_spec(spec, ["train.epochs=60", "train.optimizer.adamw.lr=0.1"]), tmp_path / "run")
    rows = [row for row in without_times(tmp_path / "run") if row["split"] == "valid"]
    losses = [row["loss"] for row in rows]
    assert len(losses) < 60 * 7 / 3, "it should have stopped early"
    assert result.metrics["valid"]["loss"] == pytest.approx(min(losses), rel=1e-6)
    assert min(losses) < losses[-1]


def test_a_loss_that_is_no_number_stops_with_a_message(spec: Path, tmp_path: Path) -> None:
    bad = [
        "train.optimizer=sgd",
        "train.optimizer={sgd: {lr: 1e30}}",
        "train.clip_norm=1e30",
        "train.schedule=constant",
    ]
    with np.errstate(all="ignore"), pytest.raises(trine.TrainingError, match=r"at step \d+ \(epoch .*learning rate of"):
        train(open_spec(spec, bad), tmp_path / "run")
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_a_run_in_the_way_is_left_alone(spec: Path, tmp_path: Path) -> None:
    opened = open_spec(spec, ["train.epochs=1"])
    train(opened, tmp_path / "run")
    before = (tmp_path / "run" / "weights.safetensors").read_bytes()
    with pytest.raises(RunExists, match="--resume"):
        train(opened, tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(RunExists, match="left alone"):
        train(opened, tmp_path / "other", overwrite=True)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == before


def test_a_run_of_another_spec_is_not_resumed(spec: Path, tmp_path: Path) -> None:
    train(open_spec(spec, ["train.epochs=1"]), tmp_path / "run")
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(trine.ArtefactError, match="another spec"):
        train(open_spec(spec, ["train.epochs=1", "train.seed=7"]), tmp_path / "run", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == files


def test_a_finished_run_is_trained_longer(spec: Path, tmp_path: Path) -> None:
    """Two epochs and two more are the four of a run that was to have four: optimizer, order and dropout go on."""
    plain = ["train.schedule=constant", "train.early_stopping=null"]
    train(open_spec(spec, [*plain, "train.epochs=2"]), tmp_path / "run")
    train(open_spec(spec, [*plain, "train.epochs=4"]), tmp_path / "run", resume=True)
    train(open_spec(spec, [*plain, "train.epochs=4"]), tmp_path / "whole")
    found, whole = (load_tensors(tmp_path / name / "weights.safetensors") for name in ("run", "whole"))
    assert all(np.array_equal(found[name], whole[name]) for name in whole)
    assert without_times(tmp_path / "run")[-1] == without_times(tmp_path / "whole")[-1]
    assert trine.load(tmp_path / "run").spec.sections.train.epochs == 4
    assert trine.evaluate(tmp_path / "run")["splits"]["test"].keys() >= {"loss"}


def test_a_torn_checkpoint_is_passed_over(spec: Path, tmp_path: Path) -> None:
    opened = open_spec(spec)
    train(opened, tmp_path / "run")
    newest, older = checkpoints(tmp_path / "run" / "checkpoints")[-1:-3:-1]
    state = newest / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    checkpoint = Run(tmp_path / "run", prepare(opened)[0].hash).latest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.position.batches == int(older.name.removeprefix("step-"))


def test_a_checkpoint_that_cannot_be_written_ends_the_run(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(runs, "save_checkpoint", fail)
    with pytest.raises(OSError, match="no space left"):
        train(open_spec(spec), tmp_path / "run")
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_training_by_seconds(spec: Path) -> None:
    opened = open_spec(spec, ["train.schedule=constant", "x-epochs=1"])
    assert opened.sections.train is not None
    shorter = open_spec(spec, ["train.schedule=constant"], None)
    assert shorter.name == "small"
    text = SPEC.replace("epochs: 4", "duration: 0.2sec").replace(
        "schedule: {cosine: {warmup: 10%}}", "schedule: constant"
    )
    spec.write_text(text)
    began = time.perf_counter()
    result = train(open_spec(spec))
    assert time.perf_counter() - began < 20
    assert "test" in result.metrics


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(spec: Path, tmp_path: Path, number: int, code: int) -> None:
    text = SPEC.replace("epochs: 4", "epochs: 100000").replace("early_stopping: {patience: 3}", "accumulate: 1")
    spec.write_text(text.replace("every: 1ba, keep: 100", "every: 1000ep"))
    run = tmp_path / "run"
    script = "from trine.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "train", str(spec), "--out", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for _ in range(300):
        if (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size:
            break
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert b"--resume" in errors
    assert checkpoints(run / "checkpoints")
