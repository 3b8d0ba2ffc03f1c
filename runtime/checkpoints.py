"""Tensors and training state on disk: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ..compiler.ir import Array
from ..compiler.structs import Struct
from ..files import json_text, sync_folder, write_atomically


class ArtefactError(Exception):
    """A file that is missing, corrupt, or not what it claims to be (exit code 5)."""


def save_tensors(path: Path, arrays: Mapping[str, Array], about: Mapping[str, str] | None = None) -> None:
    """Write arrays to a safetensors file, atomically."""
    write_atomically(path, tensors(arrays, about))


def tensors(arrays: Mapping[str, Array], about: Mapping[str, str] | None = None) -> bytes:
    """Arrays as the bytes of a safetensors file; the same arrays always give the same bytes."""
    contiguous = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in sorted(arrays.items())}
    # The format keeps metadata in no order: one key, so that there is only one.
    metadata = {"about": json.dumps(dict(about), sort_keys=True)} if about else None
    return save(contiguous, metadata=metadata)


def load_tensors(path: Path) -> dict[str, Array]:
    """Read a safetensors file; raises `ArtefactError`."""
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise ArtefactError(f"`{path}` cannot be read as safetensors: {error}") from error


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises `ArtefactError`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"`{path}` cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ArtefactError(f"`{path}` holds no JSON object")
    return data


def save_json(path: Path, data: Mapping[str, Any]) -> None:
    write_atomically(path, (json_text(data, indent=2) + "\n").encode())


@dataclass
class Position:
    """Where training stands. With the seed, all else follows: order, dropout, learning rate.

    `lr_scale`, `lr_best` and `lr_stale` belong to a schedule that follows evaluations: what they have
    left of the learning rate, the best so far, and how many in a row were no better. `train_total` and `train_weight`
    are the sums of the loss since it was last logged, `train_more` those of its further parts.
    """

    batches: int = 0
    updates: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    lr_scale: float = 1.0
    lr_best: float | None = None
    lr_stale: int = 0
    train_total: float = 0.0
    train_weight: float = 0.0
    train_more: list[list[float]] = field(default_factory=list)
    done: bool = False


class Checkpoint(Struct):
    """Everything needed to go on as if nothing had happened."""

    position: Position
    state: dict[str, Array]
    best: dict[str, Array] = field(default_factory=dict)


STATE, BEST, POSITION = "state.safetensors", "best.safetensors", "position.json"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, spec_hash: str, keep: int) -> Path:
    """Write `step-<n>` under `folder`: a folder under a temporary name, then renamed into place.

    Afterwards at most `keep` checkpoints remain. The position is written last: a folder without it
    is not a checkpoint.
    """
    import tempfile  # brings in random numbers and hashes, and most commands write nothing

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{checkpoint.position.batches:08d}"
    partial = Path(tempfile.mkdtemp(dir=folder, prefix=".partial-"))
    try:
        save_tensors(partial / STATE, checkpoint.state)
        if checkpoint.best:
            save_tensors(partial / BEST, checkpoint.best)
        save_json(partial / POSITION, {**asdict(checkpoint.position), "spec_hash": spec_hash})
        if target.exists():
            shutil.rmtree(target)
        os.rename(partial, target)  # noqa: PTH104 (a folder onto a free name)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(folder)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


class Saver:
    """Saves in a thread of its own: training goes on while the disk takes its time. One checkpoint after the other."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[object] | None = None

    def save(self, write: Callable[[Checkpoint], object], checkpoint: Checkpoint) -> None:
        """Begin to write what nobody else changes any more, once the last one is written."""
        self.wait()
        self._pending = self._thread.submit(write, checkpoint)

    def wait(self) -> None:
        """Until all is written; raises what writing raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{POSITION}"))


def load_checkpoint(path: Path, spec_hash: str) -> Checkpoint:
    """Read a checkpoint; raises `ArtefactError` if it is corrupt or belongs to another spec."""
    about = load_json(path / POSITION)
    if about.pop("spec_hash", None) != spec_hash:
        raise ArtefactError(f"`{path}` was made by another spec: start anew with `--overwrite`, or undo the change")
    try:
        position = Position(**about)
    except TypeError as error:
        raise ArtefactError(f"`{path / POSITION}` is not the position of a run: {error}") from error
    best = load_tensors(path / BEST) if (path / BEST).exists() else {}
    return Checkpoint(position, load_tensors(path / STATE), best)
