"""Writing files so that a crash leaves the old one or the new one, never half of either; and JSON that all can read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` under a temporary name, flush it to disk, and move it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a crash, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def json_text(data: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """Data as JSON (RFC 8259), which has no NaN and no infinity: they become null, and what it cannot hold text."""
    return json.dumps(
        _finite(data), indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False, default=_plain
    )


def _finite(data: Any) -> Any:
    """Data without numbers that are not finite."""
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data


def _plain(value: Any) -> Any:
    """What JSON has no form of: numbers and arrays of NumPy as Python's, all else as text."""
    return _finite(value.tolist()) if hasattr(value, "tolist") else str(value)
