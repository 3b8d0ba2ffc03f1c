"""Every verb as a user runs it: what it prints, what it leaves, how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

COMMANDS = ("init", "check", "fmt", "show", "plan", "bench", "schema", "docs", "compile", "train", "eval", "predict")


def trine(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", "from trine.cli import main; main()", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def ok(*args: object, cwd: Path | None = None) -> str:
    done = trine(*args, cwd=cwd)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "wine"
    ok("train", "zoo:tabular/wine", "--set", "train.epochs=8", "--out", folder, "--quiet")
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name: str) -> None:
    text = ok(name, "--help")
    assert "Example:" in text
    assert f"trine {name}" in text.split("Example:")[1]


def test_check(tmp_path: Path) -> None:
    assert ok("check", "zoo:vision/digits-cnn", "zoo:vision/digits-mlp").count(": ok") == 2
    bad = tmp_path / "bad.yaml"
    bad.write_text("spec: 1\nmodel:\n  inputs: {x: 'float[4]'}\n  layers:\n    - lineer: 3\n    - relu: {slope: 1}\n")
    done = trine("check", "bad.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "error[E210]: there is no layer or block `lineer`" in done.stderr
    assert "--> bad.yaml:5:7" in done.stderr
    assert "did you mean `linear`?" in done.stderr
    assert "2 errors" in done.stderr
    found = json.loads(trine("check", "bad.yaml", "--json", cwd=tmp_path).stdout)
    assert [d["code"] for d in found["diagnostics"]] == ["E210", "E214"]
    assert found["diagnostics"][0]["line"] == 5


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["check", "nothing.yaml"], 2, "cannot read `nothing.yaml`"),
        (["train", "zoo:vision/digits-mpl"], 2, "did you mean `vision/digits-mlp`?"),
        (["train", "zoo:tabular/wine", "--backend", "abacus"], 2, "there is no backend `abacus`"),
        (["train", "zoo:tabular/wine", "--backend", "torch:quantum"], 2, "no device `quantum`"),
        (["train", "zoo:tabular/wine", "--backend", "numpy:cuda"], 2, "only `torch` has such"),
        (["train", "zoo:tabular/wine", "--backend", "onnx:compile"], 2, "the backend `onnx` has no `:compile`"),
        (["train", "zoo:tabular/wine", "--backend", "torch:meta"], 2, "no device `meta`"),
        (["train", "zoo:tabular/wine", "--set", "data.source=csv:none.csv"], 3, "none.csv"),
        (["check", "zoo:tabular/wine", "--set", "train.batch=none"], 2, "a whole number of at least 1"),
        (["check", "zoo:tabular/wine", "--set", "train.memory=0.0001KB"], 2, "an amount of memory such as `512MB`"),
        (["check", "zoo:tabular/wine", "--set", "nonsense"], 2, "a.b=value"),
        (["eval", "."], 5, "not the folder of a run"),
        (["compile", "zoo:tabular/wine", "-o", "model.exe"], 2, "`.py`"),
        (["docs", "convv"], 2, "did you mean `conv`?"),
        (["frobnicate"], 2, "No such command"),
        (["bench"], 2, "name a SPEC"),
        (["bench", "zoo:tabular/wine", "--size", "T=long"], 2, "`T=long` is not NAME=N"),
        (["train", "zoo:tabular/wine", "--threads", "0"], 2, "0 is not in the range"),
    ],
)
def test_mistakes_get_a_message_and_an_exit_code(args: list[str], code: int, text: str, tmp_path: Path) -> None:
    done = trine(*args, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_init_writes_a_spec_that_checks(tmp_path: Path) -> None:
    ok("init", "mine.yaml", cwd=tmp_path)
    assert ok("check", "mine.yaml", cwd=tmp_path) == "mine.yaml: ok\n"
    again = trine("init", "mine.yaml", cwd=tmp_path)
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_fmt_keeps_comments_and_meaning(tmp_path: Path) -> None:
    layers = "      layers:\n      - linear:   3\n\n\n\n      - relu\n"
    messy = "spec:   1   # the version\nmodel:\n      inputs: {x:   'float[4]'}\n" + layers
    path = tmp_path / "messy.yaml"
    path.write_text(messy)
    assert trine("fmt", "--check", path).returncode == 2
    ok("fmt", path)
    assert path.read_text() == (
        "spec: 1     # the version\nmodel:\n  inputs: {x: 'float[4]'}\n  layers:\n    - linear: 3\n\n    - relu\n"
    )
    assert ok("fmt", "--check", path) == ""


def test_show_tells_where_values_come_from(tmp_path: Path) -> None:
    ok("init", "wine.yaml", cwd=tmp_path)
    data = json.loads(ok("show", "wine.yaml", "--set", "train.batch=64", "--json", cwd=tmp_path))
    sources = {s["path"]: (s["value"], s["source"]) for s in data["settings"]}
    assert sources["train.batch"] == (64, "--set")
    assert sources["train.accumulate"] == (1, "default")
    assert sources["train.optimizer.adamw.lr"][1].startswith("wine.yaml:")
    assert "logits" in [s["step"] for s in data["steps"]]
    text = ok("show", "zoo:tabular/wine", "--stage", "graph")
    assert text.startswith("graph wine {")
    assert "def predict(measurements):" in ok("show", "zoo:tabular/wine", "--stage", "source")
    assert "Adam(" in ok("show", "zoo:tabular/wine", "--stage", "train")


def test_what_show_shows_can_be_set(tmp_path: Path) -> None:
    ok("init", "wine.yaml", cwd=tmp_path)
    path = tmp_path / "wine.yaml"
    path.write_text(path.read_text().replace("{adamw: {lr: 5e-3, weight_decay: 0.05}}", "adamw"))
    for name, value in (("train.optimizer.adamw.lr", 0.25), ("data.split.valid", 0.25), ("evaluate.batch", 64)):
        changed = {"data.split.valid": ["--set", "data.split.train=0.55"]}.get(name, [])
        data = json.loads(ok("show", "wine.yaml", "--set", f"{name}={value}", *changed, "--json", cwd=tmp_path))
        assert {s["path"]: (s["value"], s["source"]) for s in data["settings"]}[name] == (value, "--set")


def test_plan_counts(tmp_path: Path) -> None:
    rows = json.loads(ok("plan", "zoo:vision/digits-mlp", "--json"))["steps"]
    assert {r["step"]: r["parameters"] for r in rows if r["parameters"]} == {"linear_1": 64 * 128 + 128, "logits": 1290}
    assert sum(r["flops"] for r in rows if r["layer"] == "linear") == 2 * 64 * 128 + 128 + 2 * 128 * 10 + 10
    assert "oneDNN" in ok("plan", "zoo:vision/digits-cnn", "--costs", "--backend", "torch")
    assert "product of windows" in ok("plan", "zoo:vision/digits-cnn", "--costs")
    text = ok("plan", "zoo:vision/digits-cnn")
    assert "fold_batch_norm" in text
    assert "memory:" in text
    assert "digit.size" in ok("plan", "zoo:vision/digits-mlp", "--no-data")


def test_eval_and_predict(run: Path, tmp_path: Path) -> None:
    summary = json.loads(ok("eval", run, "--json"))
    low, high = summary["intervals"]["test"]["accuracy"]
    assert low <= summary["splits"]["test"]["accuracy"] <= high
    assert np.sum(summary["confusion"]) == summary["rows"]["test"]
    rows = json.loads(ok("predict", run, "--json"))
    right = np.mean([row["cultivar"] == row["cultivar (true)"] for row in rows])
    assert right == pytest.approx(summary["splits"]["test"]["accuracy"])
    ok("predict", run, "--output", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().startswith("cultivar (true),cultivar,cultivar/probability\n")
    missing = trine("eval", run, "--split", "tset")
    assert missing.returncode == 2
    assert "`test`" in missing.stderr


def test_predict_reads_rows_from_files(run: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_wine

    features = load_wine().data[:4]
    np.savez(tmp_path / "rows.npz", features=features)
    (tmp_path / "rows.json").write_text(json.dumps([{"features": row.tolist()} for row in features]))
    from_npz = json.loads(ok("predict", run, "--input", tmp_path / "rows.npz", "--json"))
    from_json = json.loads(ok("predict", run, "--input", tmp_path / "rows.json", "--json"))
    assert from_npz == from_json
    assert len(from_npz) == 4
    np.savez(tmp_path / "wrong.npz", measures=features)
    done = trine("predict", run, "--input", tmp_path / "wrong.npz")
    assert done.returncode == 3
    assert "`features`" in done.stderr


def test_compile_writes_a_file_that_needs_numpy_alone(run: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_wine

    ok("compile", run, "-o", tmp_path / "wine.py")
    again = tmp_path / "again.py"
    ok("compile", run, "-o", again)
    assert again.read_bytes() == (tmp_path / "wine.py").read_bytes()
    raw = load_wine().data
    fields = json.loads((run / "data.json").read_text())["fields"]["measurements"]
    scaled = ((raw - np.array(fields["shift"])) / np.array(fields["divisor"])).astype(np.float32)
    np.savez(tmp_path / "in.npz", measurements=scaled)
    code = (
        "import runpy, sys; sys.modules['trine'] = None; sys.argv = ['wine.py', 'in.npz', 'out.npz']; "
        "runpy.run_path('wine.py', run_name='__main__')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    ours = np.load(tmp_path / "out.npz")["logits"].argmax(1)
    named = [row["cultivar"] for row in json.loads(ok("predict", run, "--input", _rows(tmp_path, raw), "--json"))]
    names = json.loads((run / "evaluation.json").read_text())["classes"]
    assert [names[i] for i in ours] == named


def _rows(folder: Path, raw: np.ndarray) -> Path:
    np.savez(folder / "all.npz", features=raw)
    return folder / "all.npz"


def test_a_run_can_be_read(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {
        "spec.yaml",
        "resolved.yaml",
        "data.json",
        "env.json",
        "metrics.jsonl",
        "checkpoints",
        "weights.safetensors",
        "evaluation.json",
        "report",
    } <= names
    assert (run / "report" / "curves.png").stat().st_size > 10_000
    assert "# wine" in (run / "report" / "report.md").read_text()


@pytest.mark.parametrize("name", ["weights.safetensors", "data.json", "resolved.yaml"])
def test_a_corrupt_run_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / name).write_bytes((broken / name).read_bytes()[:40])
    done = trine("eval", broken)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert "fault of trine" not in done.stderr


def test_schema_is_json() -> None:
    assert json.loads(ok("schema"))["$schema"].startswith("http://json-schema.org/draft-07")


def test_plain_lines_in_a_pipe(tmp_path: Path) -> None:
    text = ok("train", "zoo:tabular/wine", "--set", "train.epochs=2", "--out", tmp_path / "run")
    lines = text.splitlines()
    assert lines[0] == "training wine, 14 steps"
    assert sum("valid" in line and "loss" in line for line in lines) == 2
    assert "\x1b" not in text
