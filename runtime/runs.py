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

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..compiler.ir import Array
from ..compiler.spec.reader import Spec
from ..compiler.spec.source import scalar
from ..compiler.structs import Struct
from ..files import json_text, write_atomically
from .checkpoints import (
    ArtefactError,
    Checkpoint,
    checkpoints,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_json,
    save_tensors,
)

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
    def create(cls, path: Path, spec: Spec, overwrite: bool, about: Mapping[str, Any] | None = None) -> Run:
        """Make the folder; raises `RunExists` where one is there and `overwrite` is not asked for.

        `about` is noted beside versions and machine, such as the backend.
        """
        if path.exists():
            if not overwrite:
                raise RunExists(
                    f"`{path}` exists: `--resume` goes on with it, `--overwrite` starts anew, `--out` goes elsewhere"
                )
            if any(path.iterdir()) and not (path / RESOLVED).exists():
                raise RunExists(f"`{path}` is not the folder of a run: it is left alone; choose another with `--out`")
            shutil.rmtree(path)
        path.mkdir(parents=True)
        run = cls(path, spec.hash)
        source = "\n".join(spec.report.sources.get(spec.root.span.file, [])) + "\n"
        write_atomically(path / SPEC, source.encode())
        write_atomically(path / RESOLVED, resolved_text(spec).encode())
        save_json(path / ENV, environment() | dict(about or {}))
        return run

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

    def save_data(
        self,
        fields: Mapping[str, Any],
        sizes: Mapping[str, int],
        fingerprint: str,
        folder: Path,
        columns: Mapping[str, Any],
    ) -> None:
        """Keep what was learnt of the data: fitted fields, sizes, and what the columns are."""
        about = {
            "spec_hash": self.spec_hash,
            "folder": os.path.relpath(folder, self.path),
            "sizes": dict(sizes),
            "fingerprint": fingerprint,
            "fields": dict(fields),
            COLUMNS: dict(columns),
        }
        save_json(self.path / DATA, about)

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
