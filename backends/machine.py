"""The figures of this machine: as measured and kept by `trine bench --calibrate`, or what is supposed of it."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler.ir import Graph
from ..compiler.machine import CALL, OP, PACKED, SPREAD, Curve, Machine, Rates, default_machine, threads_for
from ..compiler.rewrite import bind
from ..files import write_atomically
from .threads import threads

LIBRARIES = ("numpy", "torch", "onnxruntime")


def this_machine() -> Machine:
    """The figures that were measured on this machine for the threads that are used, or those supposed."""
    return _machine(threads())


def width(graph: Graph, sizes: Mapping[str, int], backend: str) -> int:
    """On how many threads a graph should run at given sizes: see `threads_for`."""
    return 1 if threads() == 1 else threads_for(bind(graph, sizes), this_machine(), backend)


# Figures that came with models.
_lent: dict[int, Machine] = {}


def lend(machine: Machine) -> None:
    """Figures from elsewhere, for where none were measured: those of another machine with the same processor.

    What was decided by them there is so decided the same here.
    """
    if _holds(machine):
        _lent[machine.threads] = machine
        _machine.cache_clear()


@functools.cache
def _machine(count: int) -> Machine:
    other = _lent.get(count) or _supposed(count)
    try:
        return load(cache_file(count), count) or other
    except RuntimeError:  # a user without a folder
        return other


# Where the BLAS of PyTorch, Intel's, uses half of what vectors of 512 bits can do, and oneDNN all of it.
PACKED_ON_AMD = {"conv": 2.4e6, "linear": 1e6, "product": 4e6}


def _supposed(count: int) -> Machine:
    """A machine that was not measured, as far as its system describes it."""
    found = default_machine(count)
    wide = "AMD" in processor() and re.search(r"\bavx512f\b", _described()) is not None
    return replace(found, packed=PACKED_ON_AMD) if wide else found


def cache_file(count: int) -> Path:
    """Where the figures of this processor on so many threads are kept, in the user's folder for such things."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    digest = hashlib.sha256(f"{processor()}\n{count}".encode()).hexdigest()
    return Path(base) / "trine" / f"machine-{digest[:16]}.json"


def processor() -> str:
    """The processor's model, as the system calls it."""
    found = re.search(r"^(?:model name|Processor)\s*:\s*(.+)$", _described(), re.M)
    return found[1].strip() if found else platform.processor() or platform.machine()


@functools.cache
def _described() -> str:
    """What Linux tells of the first processor."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return ""


def about() -> dict[str, str]:
    """What figures hold for: the processor, and the versions of the libraries that are installed."""
    from importlib.metadata import PackageNotFoundError, version  # most commands need none

    versions = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {"processor": processor(), **versions}


def save(machine: Machine) -> Path:
    """Keep measured figures; the file."""
    path = cache_file(machine.threads)
    write_atomically(path, (json.dumps(as_json(machine), indent=1) + "\n").encode())
    _machine.cache_clear()
    return path


def load(path: Path, count: int) -> Machine | None:
    """The figures in a file; `None` where there are none, or none that hold for this processor and these versions."""
    try:
        machine = from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return machine if machine.threads == count and _holds(machine) else None


def _holds(machine: Machine) -> bool:
    """Whether figures were measured, on this processor and with these versions."""
    return machine.measured and all(machine.about.get(k, version) == version for k, version in about().items())


def as_json(machine: Machine) -> dict[str, Any]:
    return {
        "about": dict(machine.about),
        "threads": machine.threads,
        "one": vars(machine.one),
        "all": vars(machine.all),
        "op": dict(machine.op),
        "call": dict(machine.call),
        "spread": dict(machine.spread),
        "packed": dict(machine.packed),
    }


def from_json(data: Mapping[str, Any]) -> Machine:
    """Read what `as_json` made; raises `KeyError`, `TypeError` or `ValueError` for anything else."""
    return Machine(
        int(data["threads"]),
        _rates(data["one"]),
        _rates(data["all"]),
        OP | {str(k): _positive(v) for k, v in data["op"].items()},
        CALL | {str(k): _positive(v) for k, v in data["call"].items()},
        SPREAD | {str(k): _positive(v) for k, v in data["spread"].items()},
        PACKED | {str(k): _positive(v) for k, v in data["packed"].items()},
        {str(k): str(v) for k, v in data["about"].items()},
    )


def _rates(data: Mapping[str, Any]) -> Rates:
    return Rates(_curve(data["products"]), _curve(data["bandwidth"]), _positive(data["functions"]))


def _curve(points: Sequence[Sequence[float]]) -> Curve:
    found = tuple((_positive(size), _positive(rate)) for size, rate in points)
    if not found or not np.all(np.diff([size for size, _ in found]) > 0):
        raise ValueError("sizes do not rise")
    return found


def _positive(value: object) -> float:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{value!r} is no time and no rate")
    return float(value)
