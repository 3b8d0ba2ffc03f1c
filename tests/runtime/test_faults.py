"""A run that is stopped at any single file operation: it can be resumed, or was never begun, and leaves nothing behind.

What stops it: a kill, a kill in the middle of a write, a full disk, a disk that errs. A kill is tried at each operation
on NumPy, the others and other backends, which write files alike, at each fifth; each in a process of its own.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trine
from trine.runtime.checkpoints import ArtefactError

SPEC = """
spec: 1
name: small
data:
  source: csv:d.csv
  split: {by: order, train: 0.6, valid: 0.2, test: 0.2}
  fields:
    x: {columns: [a, b], scale: standard}
    y: {column: y, encode: ids}
model:
  inputs: {x: "float[2]"}
  layers:
    - linear: $y.size
      as: out
train:
  loss: {cross_entropy: [out, y]}
  optimizer: adam
  batch: 8
  epochs: 2
  checkpoint: {every: 1ep, keep: 1}
  early_stopping: {monitor: valid/loss, patience: 5}
evaluate: {metrics: [accuracy]}
"""
KILL, TEAR = "kill", "tear"
STOPS = [KILL, TEAR, "ENOSPC", "EIO"]
OPERATIONS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "remove")


class Faults:
    """Counts file operations in a folder, and stops the process at one of them."""

    def __init__(self, folder: Path, at: int, stop: str) -> None:
        self.folder, self.at, self.stop, self.count = str(folder), at, stop, 0

    def install(self) -> None:
        for name in OPERATIONS:
            setattr(os, name, self._counting(getattr(os, name), name))
        real = io.open

        def opened(file: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
            stream = real(file, mode, *args, **named)
            if self._ours(file) and set(mode) & set("wxa+"):
                self.strike()
                return Stream(stream, self)
            return stream

        builtins.open = io.open = opened  # type: ignore[assignment]

    def _ours(self, place: object) -> bool:
        return isinstance(place, int) or str(place).startswith(self.folder)

    def _counting(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(place: Any, *args: Any, **named: Any) -> Any:
            if self._ours(place) or "dir_fd" in named:
                self.strike()
            return real(place, *args, **named)

        return counted

    def strike(self, tear: Callable[[], object] = lambda: None) -> None:
        self.count += 1
        if self.count != self.at:
            return
        if self.stop in (KILL, TEAR):
            tear() if self.stop == TEAR else None
            os._exit(9)
        raise OSError(getattr(errno, self.stop), os.strerror(getattr(errno, self.stop)))


class Stream:
    """A file that is written to."""

    def __init__(self, stream: Any, faults: Faults) -> None:
        self._stream, self._faults = stream, faults

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._stream.write(data[: len(data) // 2])
            self._stream.flush()

        self._faults.strike(half)
        return self._stream.write(data)

    def __enter__(self) -> Stream:
        self._stream.__enter__()
        return self

    def __exit__(self, *why: Any) -> Any:
        return self._stream.__exit__(*why)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def apart(work: Callable[[], object]) -> int:
    """Do something in a process of its own; the exit code: 0, 9 if it was killed, 3 for an error of the system."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        code = int(work() or 0)
    except OSError:
        code = 3
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def trained(spec: Path, run: Path, backend: str, resume: bool = False) -> None:
    trine.train(spec, run, backend=backend, resume=resume)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    rows = [f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    (tmp_path / "small.yaml").write_text(SPEC)
    return tmp_path / "small.yaml"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes of their own")
@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_run_survives_a_stop_at_any_file_operation(spec: Path, tmp_path: Path, backend: str, stop: str) -> None:
    home = tmp_path / "runs"
    home.mkdir()
    run = home / "run"

    def whole(at: int) -> int:
        faults = Faults(home, at, stop)
        faults.install()
        trained(spec, run, backend)
        (tmp_path / "count").write_text(str(faults.count))
        return 0

    assert apart(lambda: whole(0)) == 0
    count = int((tmp_path / "count").read_text())
    assert count > 40
    expected = (run / "weights.safetensors").read_bytes()
    for at in range(1, count + 1, 1 if backend == "numpy" and stop == KILL else 5):
        shutil.rmtree(run)
        code = apart(lambda at=at: whole(at))
        assert code in (0, 3, 9), at
        assert apart(lambda: trained(spec, run, backend, resume=run.exists())) == 0, at
        left = sorted(p.relative_to(home).as_posix() for p in home.rglob("*") if p.name.startswith("."))
        drafts = [name for name in left if not name.startswith(".run.")]
        assert not drafts, (at, drafts)
        assert (run / "weights.safetensors").read_bytes() == expected, at
        model = trine.load(run)
        assert len(model.predict({"a": [1], "b": [2]})["y"]) == 1
        for draft in home.glob(".run.*"):  # of a run that was never begun
            shutil.rmtree(draft)


def test_a_folder_that_is_trained_into_is_left_alone(spec: Path, tmp_path: Path) -> None:
    from trine.runtime.runs import RunExists, hold

    run = tmp_path / "run"
    trine.train(spec, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with hold(run):
        (run / "training.pid").write_text("4321")
        for how in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(RunExists, match="is being trained by the process 4321"):
                trine.train(spec, run, **how)
        (run / "training.pid").unlink()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    trine.train(spec, run, overwrite=True)
    assert not (run / "training.pid").exists()


def test_what_a_killed_training_left_is_swept(spec: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trine.train(spec, run)
    litter = [
        run / ".metrics.jsonl.0123456789abcdef",
        run / "checkpoints" / ".partial-x",
        tmp_path / ".run.0123456789abcdef",
    ]
    litter[0].write_text("x")
    for folder in litter[1:]:
        folder.mkdir()
    (run / ".kept").write_text("the author's own")
    trine.train(spec, run, resume=True)
    assert not any(path.exists() for path in litter)
    assert (run / ".kept").exists()


def test_a_folder_without_a_run_is_not_resumed(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ArtefactError, match="is not the folder of a run"):
        trine.train(spec, tmp_path / "run", resume=True)
