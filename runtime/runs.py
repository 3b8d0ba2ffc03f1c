"""A run: a folder that a person can read.

runs/<name>/
  spec.yaml          the spec as it was given
  resolved.yaml      with overrides applied and other files taken in
  data.json          what was fitted on the training rows, and the sizes that the data define
  env.json           versions, machine, backend
  metrics.jsonl      losses and metrics as training went
  checkpoints/       to resume from
  weights.safetensors   the result
  evaluation.json    metrics on every split
  report/            the same for people, with pictures
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..compiler.ir import Array
from ..compiler.spec.reader import Spec
from ..compiler.spec.source import scalar
from ..compiler.structs import Struct
from ..files import json_text, sync_folder, write_atomically
from .checkpoints import (
    POSITION,
    ArtefactError,
    Checkpoint,
    checkpoints,
    load_checkpoint,
    load_json,
    load_tensors,
    save_checkpoint,
    save_json,
    save_tensors,
)

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

SPEC, RESOLVED, DATA, ENV, METRICS = "spec.yaml", "resolved.yaml", "data.json", "env.json", "metrics.jsonl"
# Where `data.json` says what the columns of the training rows were.
COLUMNS = "columns"
CHECKPOINTS, WEIGHTS, EVALUATION, REPORT = "checkpoints", "weights.safetensors", "evaluation.json", "report"


class RunExists(Exception):
    """A folder is in the way of a new run (exit code 2)."""


class Run(Struct):
    """A run's folder, and the hash of the spec it belongs to."""

    path: Path
    spec_hash: str

    @classmethod
    def create(
        cls,
        path: Path,
        spec: Spec,
        overwrite: bool,
        about: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Run:
        """Make the folder, whole from the first moment that it is there; raises `RunExists`.

        Where one is there it must be asked for to `overwrite` it, and it must be a run's that nobody trains. `about` is
        noted beside versions and machine, such as the backend; `data` is what was learnt of the data.
        """
        draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
        draft.mkdir(parents=True)
        try:
            _describe(draft, spec)
            save_json(draft / ENV, environment() | dict(about or {}))
            save_json(draft / DATA, {"spec_hash": spec.hash, **(data or {})})
            old = _make_way(path, overwrite) if path.exists() else None
            draft.rename(path)
            if old is not None:
                shutil.rmtree(old)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            if path.exists() and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise RunExists(f"`{path}` was made by another training in this moment") from None
            raise
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync_folder(path.parent)
        return cls(path, spec.hash)

    def describe(self, spec: Spec, data: Mapping[str, Any]) -> None:
        """Say anew which spec the run has, and what was learnt of its data."""
        save_json(self.path / DATA, {"spec_hash": self.spec_hash, **data})
        _describe(self.path, spec)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from training into the folder; raises `RunExists` where somebody does."""
        with hold(self.path):
            marker = self.path / TRAINER
            write_atomically(marker, f"{os.getpid()}\n".encode())
            try:
                yield
            finally:
                marker.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a training left that was killed while it wrote: files and folders under temporary names."""
        for found in (*self.path.rglob(".*"), *self.path.parent.glob(f".{self.path.name}.*")):
            if not _DRAFT.fullmatch(found.name):
                continue
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: Path) -> Run:
        """The run in a folder; raises `ArtefactError` if there is none."""
        if not (path / RESOLVED).is_file():
            raise ArtefactError(f"`{path}` is not the folder of a run: it has no `{RESOLVED}`")
        return cls(path, "")

    def read(self, name: str) -> bytes:
        """The bytes of one of the run's files; raises `ArtefactError`."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise ArtefactError(f"`{self.path / name}` cannot be read: {error.strerror}") from error

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        with (self.path / METRICS).open("ab") as file:
            file.write(f"{json_text(row)}\n".encode())

    def metrics(self) -> list[dict[str, Any]]:
        """The rows logged so far; a torn last line is left out."""
        rows = []
        path = self.path / METRICS
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def truncate_metrics(self, step: int) -> None:
        """Forget the rows after a step, which a resumed run will log again."""
        kept = [row for row in self.metrics() if row["step"] <= step]
        write_atomically(self.path / METRICS, "".join(json_text(row) + "\n" for row in kept).encode())

    def save_checkpoint(self, checkpoint: Checkpoint, keep: int) -> None:
        save_checkpoint(self.path / CHECKPOINTS, checkpoint, self.spec_hash, keep)

    def adopt(self, spec_hash: str) -> None:
        """Take the checkpoints of a spec for the run's own."""
        for path in checkpoints(self.path / CHECKPOINTS):
            about = load_json(path / POSITION)
            if about.get("spec_hash") == spec_hash:
                save_json(path / POSITION, {**about, "spec_hash": self.spec_hash})

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that can be read; `None` where there is none."""
        errors = []
        for path in reversed(checkpoints(self.path / CHECKPOINTS)):
            try:
                return load_checkpoint(path, self.spec_hash)
            except ArtefactError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return None

    def save_weights(self, weights: Mapping[str, Array]) -> None:
        save_tensors(self.path / WEIGHTS, weights, {"spec_hash": self.spec_hash, "trine": trine_version()})

    def weights(self) -> dict[str, Array]:
        """The trained weights; raises `ArtefactError` for a run that has not finished."""
        if not (self.path / WEIGHTS).exists():
            raise ArtefactError(
                f"`{self.path}` has no `{WEIGHTS}`: training has not finished; `trine train … --resume` goes on"
            )
        return load_tensors(self.path / WEIGHTS)


def about_data(
    fields: Mapping[str, Any], sizes: Mapping[str, int], fingerprint: str, folder: str, columns: Mapping[str, Any]
) -> dict[str, Any]:
    """What `data.json` tells: fitted fields, sizes, a digest, where paths are relative to, what the columns are."""
    return {
        "folder": folder,
        "sizes": dict(sizes),
        "fingerprint": fingerprint,
        "fields": dict(fields),
        COLUMNS: dict(columns),
    }


# Who trains into a folder, as long as it is trained into.
TRAINER = "training.pid"
# Temporary names: a name with sixteen digits behind it, and the folders that checkpoints are written in.
_DRAFT = re.compile(r"\..+\.[0-9a-f]{16}|\.partial-.*")


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Lock a folder for one training, until that ends however it ends; raises `RunExists` where another holds it.

    Where the system or the disk has no such locks, there is none.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunExists(f"`{folder}` is being trained by {_trainer(folder)}: `--out` goes elsewhere") from None
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def _trainer(folder: Path) -> str:
    try:
        return f"the process {int((folder / TRAINER).read_text())}"
    except (OSError, ValueError):
        return "another process"


def _make_way(path: Path, overwrite: bool) -> Path:
    """Move an old run aside where that is asked for; where it is then. Raises `RunExists`."""
    if not path.is_dir():
        raise RunExists(f"`{path}` is a file: choose another folder with `--out`")
    with hold(path):
        if not overwrite:
            raise RunExists(
                f"`{path}` exists: `--resume` goes on with it, `--overwrite` starts anew, `--out` goes elsewhere"
            )
        if any(path.iterdir()) and not (path / RESOLVED).exists():
            raise RunExists(f"`{path}` is not the folder of a run: it is left alone; choose another with `--out`")
        old = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
        return path.rename(old)


def _describe(folder: Path, spec: Spec) -> None:
    """The spec, as it was given and resolved."""
    source = "\n".join(spec.report.sources.get(spec.root.span.file, [])) + "\n"
    write_atomically(folder / SPEC, source.encode())
    write_atomically(folder / RESOLVED, resolved_text(spec).encode())


def resolved_text(spec: Spec) -> str:
    """The spec as YAML, with overrides applied and other files taken in."""
    return yaml.dump(spec.root.plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.2 would read as something else."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = None if scalar(text) == text and isinstance(scalar(text), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    return {
        "trine": trine_version(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def trine_version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and asked when something is saved

    try:
        return version("trine")
    except PackageNotFoundError:
        return "unknown"
