"""Profiles by step, the machine's figures on disk, the choice of a backend."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import trine
from trine.backends import base, machine
from trine.backends.numpy import Program
from trine.backends.profiling import Clock
from trine.compiler.analysis import elementwise, peak_memory
from trine.compiler.ir import Origin
from trine.compiler.machine import default_machine
from trine.compiler.spec.reader import Spec, read_string
from trine.runtime import calibration, choice, session
from trine.runtime.bundles import read_bundle, write_bundle
from trine.runtime.checkpoints import ArtefactError
from trine.runtime.choice import Choice, choose
from trine.runtime.profile import check_sizes, lowered, profile, subject
from trine.runtime.profile_picture import picture
from trine.runtime.specs import UsageError

TEXT = """spec: 1
name: small
model:
  inputs: {x: "float[6]", word: "int[T <= 5]"}
  layers:
    - embedding: {rows: 40, dim: 8}
      from: word
    - maximum: {over: T}
      as: words
    - linear: 12
      from: x
    - tanh:
      as: features
    - concat: [words, features]
    - linear: 3
      as: logits
train:
  loss: {cross_entropy: [logits, label]}
  optimizer: {adamw: {lr: 1e-2}}
  batch: 8
"""
BACKENDS = ("numpy", "torch", "onnx")
TASKS = {False: "predicting", True: "training"}

number = {"type": "number", "minimum": 0}
count = {"type": "integer", "minimum": 0}
STEP = {
    "step": {"type": "string"},
    "file": {"type": "string"},
    "line": count,
    "seconds": {"type": ["number", "null"]},
    "flops": count,
    "bytes": count,
    "floor": number,
    "roofline": {"type": ["number", "null"]},
}


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


SCHEMA = closed(
    {
        "name": {"const": "small"},
        "task": {"enum": [*TASKS.values()]},
        "backend": {"enum": [*BACKENDS]},
        "threads": {"type": "integer", "minimum": 1},
        "sizes": {"const": {"N": 8, "T": 5}},
        "seconds": number,
        "calls": {"type": "integer", "minimum": 5},
        "outside": number,
        "machine": closed({"measured": {"type": "boolean"}, "about": {"type": "object"}}),
        "steps": {"type": "array", "minItems": 4, "items": closed(STEP)},
    }
)


@pytest.fixture
def spec() -> Spec:
    return read_string(TEXT, "small.yaml")


def weights(spec: Spec) -> dict[str, Any]:
    return session.initial_weights(spec)


@pytest.mark.parametrize("train", TASKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_time_has_a_line(spec: Spec, backend: str, train: bool) -> None:
    found = profile(spec, subject(spec, weights(spec), train), backend, TASKS[train], seconds=0.02)
    jsonschema.validate(json.loads(json.dumps(found.as_json())), SCHEMA)
    lines = TEXT.split("\n")
    timed = {step.step: step for step in found.steps if step.seconds is not None}
    for step in found.steps:
        assert step.file == "small.yaml" or step.step in ("word", "train.optimizer")
        assert not step.line or lines[step.line - 1].strip().startswith(("-", "loss:"))
    assert "linear:" in lines[timed["logits"].line - 1]
    assert {"logits", "linear_1", "train.loss"} | ({"train.optimizer"} if train else set()) <= timed.keys()
    assert timed["linear_1"].flops >= 8 * 12 * (2 * 6 + 1) * (2 if train else 1)
    assert all(step.seconds > 0 for step in timed.values() if step.flops)
    assert found.parts == pytest.approx(found.outside + sum(step.seconds for step in timed.values()))


def test_parts_add_up_to_the_calls() -> None:
    """Of calls, the middle half by length counts; of one step, what lies apart is put together."""
    clock, one, two = Clock(), Origin("one", "a.yaml", 3), Origin("two", "a.yaml", 4)
    clock.places += [one, two, one]
    ticks = np.cumsum([0.0, 1.0, 2.0, 3.0, 4.0])
    clock.calls = [list(ticks * factor) for factor in (9, 9, 9, 1, 2, 4, 50)]
    found = {part.place: part.seconds for part in clock.segments([11.0, 22.0, 44.0, 999.0])}
    assert found == {None: pytest.approx(1 * 3 + 1 * 3), one: pytest.approx(6 * 3), two: pytest.approx(3 * 3)}
    assert sum(found.values()) == pytest.approx((22 + 44) / 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_clock_changes_no_number(spec: Spec, backend: str) -> None:
    what, runner = subject(spec, weights(spec), False), base.load(backend)
    executable = runner.compile(what.graph, runner.state({}))
    watched = executable.specialise(what.sizes, clock := Clock())  # type: ignore[attr-defined]
    feeds = [what.feeds[name] for name in executable._fed]  # type: ignore[attr-defined]
    for name, array in executable(what.feeds).items():
        np.testing.assert_array_equal(watched(*feeds)[name], array)
    places, laps = clock.read() if clock.read else (clock.places, clock.laps())
    assert len(laps) == len(what.graph.outputs)
    assert all(len(parts) == len(places) for parts in laps)


def test_a_step_may_be_called_as_the_clock_is(spec: Spec) -> None:
    named = read_string(TEXT.replace("features", "tick"), "small.yaml")
    found = profile(named, subject(named, weights(named), False), "numpy", "predicting", seconds=0.01)
    assert "tick" in {step.step for step in found.steps}


def test_inputs_are_of_the_right_kind(spec: Spec) -> None:
    what = subject(spec, weights(spec), True, batch=50, sizes={"T": 3})
    assert what.feeds["word"].shape == (50, 3)
    assert what.feeds["word"].max() < 40
    assert what.feeds["label"].max() == 2
    assert 0 <= what.feeds["x"].min() < what.feeds["x"].max() < 1
    alone = read_string(TEXT.partition("train:")[0], "small.yaml")
    with pytest.raises(UsageError, match="no `train` section"):
        subject(alone, {}, True)


def test_a_picture_has_a_bar_for_each_step(spec: Spec) -> None:
    found = profile(spec, subject(spec, weights(spec), False), "numpy", "predicting", seconds=0.01)
    root = ET.fromstring(picture(found))
    texts = [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]
    steps = [step for step in found.steps if step.seconds is not None]
    assert all(f"{step.step}:{step.line}" in texts for step in steps if step.line)
    bars = [node for node in root.iter("{http://www.w3.org/2000/svg}rect") if node.get("height") == "16"]
    assert len(bars) == 2 * len(steps) + 1
    assert max(float(bar.get("width", "0")) for bar in bars) == pytest.approx(420, abs=1)


DEEP = """spec: 1
name: deep
model:
  inputs: {x: "float[6, 32]"}
  layers:
    - attention: {heads: 4}
    - layer_norm
    - flatten
    - linear: 96
    - gelu
    - dropout: 0.1
    - linear: 3
      as: logits
train:
  loss: {cross_entropy: [logits, label]}
  optimizer: {adamw: {lr: 1e-2}}
"""


@pytest.mark.parametrize("train", TASKS)
def test_planned_memory_is_that_of_the_arena(train: bool) -> None:
    """Within ten per cent, where all ops are such as NumPy writes into buffers it is given."""
    deep = read_string(DEEP, "deep.yaml")
    what = subject(deep, weights(deep), train, batch=64)
    graph = lowered(what, base.load("numpy"))
    assert peak_memory(graph, {}, over=elementwise) == pytest.approx(Program(graph).size, rel=0.1)


# -- the machine ---------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "_lent", {})
    machine._machine.cache_clear()
    yield tmp_path
    machine._machine.cache_clear()


def test_figures_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not machine.this_machine().measured
    monkeypatch.setattr(calibration, "NAMES", ("numpy",))
    monkeypatch.setattr(calibration, "BUDGET", 1e-4)
    monkeypatch.setattr(calibration, "SIDES", (16, 48))
    monkeypatch.setattr(calibration, "SETS", (48 << 10, 384 << 10))
    found = calibration.calibrate()
    machine.save(found)
    assert [path.parent for path in cache.rglob("*.json")] == [cache / "trine"]
    assert machine.this_machine() == found
    assert found.measured
    assert found.one.products[0][1] <= found.one.products[1][1]
    assert found.one.bandwidth[0][1] >= found.one.bandwidth[1][1]
    assert found.op["numpy"] < found.call["numpy"] < 1e-2
    assert machine.load(machine.cache_file(found.threads), found.threads + 1) is None


def test_figures_come_with_bundles_for_where_none_were_measured(cache: Path, tmp_path: Path) -> None:
    trine.train("zoo:tabular/wine", tmp_path / "run", set={"train.epochs": 1})
    found = replace(default_machine(machine.threads()), packed={"linear": 123.0}, about=machine.about())
    machine.save(found)
    bundle = trine.compile(tmp_path / "run", tmp_path / "model.trine")
    machine.cache_file(found.threads).unlink()
    machine._machine.cache_clear()
    assert not machine.this_machine().measured
    trine.load(bundle)
    assert machine.this_machine().packed["linear"] == 123.0
    again = trine.compile(bundle, tmp_path / "again.trine")
    assert again.read_bytes() == bundle.read_bytes()
    elsewhere = replace(found, about=found.about | {"processor": "another"}, packed={"linear": 5.0})
    machine.lend(elsewhere)
    assert machine.this_machine().packed["linear"] == 123.0

    members, manifest = read_bundle(bundle)
    data = json.loads(members["data.json"]) | {"machine": {"threads": "many"}}
    about = {key: manifest[key] for key in ("name", "trine", "spec_hash")}
    write_bundle(bundle, members | {"data.json": json.dumps(data).encode()}, about)
    with pytest.raises(ArtefactError, match="holds no figures of a machine"):
        trine.load(bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:40],
        lambda text: "[]",
        lambda text: text.replace('"torch": ', '"torch": -'),
        lambda text: text.replace('"packed": ', '"packed": 3, "other": '),
        lambda text: text.replace('"products"', '"product"'),
        lambda text: text.replace(f'"{np.__version__}"', '"1.0"'),
        lambda text: text.replace('"processor": "', '"processor": "another '),
    ],
)
def test_figures_that_do_not_hold_are_left(cache: Path, change: Any) -> None:
    supposed = default_machine(2)
    measured = type(supposed)(*[getattr(supposed, name) for name in supposed._names[:-1]], machine.about())
    path = machine.save(measured)
    assert machine.load(path, 2) == measured
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    assert machine.load(path, 2) is None


# -- auto ----------------------------------------------------------------------------------------


def test_the_fastest_backend_is_chosen(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "SECONDS", 0.03)
    what = subject(spec, weights(spec), False)
    found = choose(what)
    assert set(found.seconds) == set(BACKENDS)
    assert found.seconds[found.backend] == min(found.seconds.values())
    assert found.words.startswith(f"backend {found.backend}: numpy ")

    def alone(name: str) -> base.Backend:
        if name != "numpy":
            raise base.BackendError(name)
        return base.load(name)

    monkeypatch.setattr(choice, "load", alone)
    assert choose(what).seconds.keys() == {"numpy"}


def test_a_run_remembers_what_was_chosen_and_goes_on_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Choice("torch", {"numpy": 2.0, "torch": 1.0})
    monkeypatch.setattr(session, "choose_for_training", lambda *_: chosen)
    rng = np.random.default_rng(0)
    rows = {"a": rng.standard_normal(20), "b": rng.standard_normal(20)}
    data = {"train": rows, "test": rows}
    tiny = read_string(TINY, "tiny.yaml")
    first = session.train(tiny, tmp_path / "run", "auto", data=data)
    noted = json.loads((tmp_path / "run" / "env.json").read_text())
    assert (noted["backend"], noted["backend_seconds"], noted["threads"]) == ("torch", dict(chosen.seconds), 1)
    again = session.train(tiny, tmp_path / "run", resume=True, data=data)
    assert (first.model.backend.name, again.model.backend.name) == ("torch", "torch")


def test_a_run_on_whichever_is_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the data to the choice, nothing made up."""
    monkeypatch.setattr(choice, "SECONDS", 0.03)
    rows = {"a": np.arange(20.0), "b": np.arange(20.0)}
    session.train(read_string(TINY, "tiny.yaml"), tmp_path / "run", "auto", data={"train": rows, "test": rows})
    noted = json.loads((tmp_path / "run" / "env.json").read_text())
    assert noted["backend"] in noted["backend_seconds"].keys() <= set(BACKENDS)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"N": 3}, "--batch"), ({"TT": 3}, "has no dim `TT`"), ({"T": 6}, "T is 6, and an input has at most 5")],
)
def test_sizes_that_do_not_fit(spec: Spec, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_sizes(spec, sizes)


TINY = """
spec: 1
name: tiny
data:
  source: csv:rows.csv
  fields: {a: {column: a}, b: {column: b}}
model:
  inputs: {a: float}
  layers:
    - reshape: [1]
    - linear: 1
    - reshape: []
      as: y
train:
  loss: {mse: [y, b]}
  optimizer: {sgd: {lr: 0.1}}
  batch: 10
  epochs: 1
"""
