"""How the time and memory of a training step grow with depth, width, batch and length, beside its arithmetic."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from .contestants import CONTESTANTS
from .worker import block
from .workloads import Workload

# Series of encoders: what is set to each value, and the values. The others are as in `MIDDLE`.
SERIES: dict[str, tuple[int, ...]] = {
    "depth": (1, 2, 4, 8, 16),
    "width": (64, 128, 256, 512),
    "batch": (1, 2, 4, 8, 16, 32),
    "length": (16, 32, 64, 128, 256, 512),
}
MIDDLE = {"depth": 2, "width": 128, "batch": 4, "length": 64}


@dataclass(frozen=True)
class Point:
    """One encoder of a series: its value, the arithmetic of a training step, what the step takes.

    bytes: by how much the process grew at its largest; `None` where there is no `/proc`.
    """

    series: str
    value: int
    flops: int
    seconds: float
    bytes: int | None


def sized(series: str, value: int) -> Workload:
    """The encoder at a place of a series."""
    size = MIDDLE | {series: value}
    width = size["width"]
    sizes = {"depth": size["depth"], "length": size["length"], "dim": width, "hidden": 4 * width, "heads": width // 32}
    return Workload("encoder", size["batch"], tuple(f"params.{name}={n}" for name, n in sizes.items()))


def measure(contestant: str, series: str) -> list[Point]:
    """Each place in a process of its own."""
    context = multiprocessing.get_context("spawn")
    found = []
    for value in SERIES[series]:
        mine, theirs = context.Pipe()
        process = context.Process(target=_work, args=(contestant, series, value, theirs), daemon=True)
        process.start()
        theirs.close()
        found.append(mine.recv())
        process.join()
    return found


def _work(contestant: str, series: str, value: int, pipe: Connection) -> None:
    workload = sized(series, value)
    arithmetic = flops(workload)
    # What is loaded once, and the rows, are not the step's.
    CONTESTANTS[contestant].make("train", sized("width", SERIES["width"][0]))()
    workload.batches()
    before = _memory("VmRSS")
    step = CONTESTANTS[contestant].make("train", workload)
    seconds = min(block(step) for _ in range(3))
    peak = _memory("VmHWM")
    grown = None if peak is None or before is None else peak - before
    pipe.send(Point(series, value, arithmetic, seconds, grown))


def flops(workload: Workload) -> int:
    """The arithmetic of a training step."""
    from trine.compiler.analysis import summary
    from trine.compiler.rewrite import bind
    from trine.compiler.training import training

    step = training(workload.spec()).step
    assert step is not None
    return summary(bind(step, {"N": workload.batch})).flops


def _memory(key: str) -> int | None:
    """Bytes of this process: `VmRSS`, as it is; `VmHWM`, at its largest."""
    path = Path("/proc/self/status")
    found = re.search(rf"^{key}:\s*(\d+) kB", path.read_text(), re.M) if path.exists() else None
    return int(found[1]) * 1024 if found else None


def exponents(points: Sequence[Point]) -> tuple[float, float | None]:
    """With which power of the arithmetic time and memory grow: the slopes of lines through their logarithms."""
    arithmetic = np.log([p.flops for p in points])
    time = np.polyfit(arithmetic, np.log([p.seconds for p in points]), 1)[0]
    if any(not p.bytes for p in points):
        return float(time), None
    return float(time), float(np.polyfit(arithmetic, np.log([p.bytes or 1 for p in points]), 1)[0])


def plain(points: Sequence[Point]) -> list[dict[str, Any]]:
    return [asdict(point) for point in points]


def restored(rows: Sequence[dict[str, Any]]) -> list[Point]:
    return [Point(**row) for row in rows]


def draw(points: Sequence[Point], path: Path) -> bool:
    """A picture of time and memory against arithmetic; whether matplotlib is there to draw it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(9, 4), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for series in dict.fromkeys(p.series for p in points):
        own = [p for p in points if p.series == series]
        arithmetic = [p.flops for p in own]
        time.loglog(arithmetic, [p.seconds for p in own], marker="o", label=series)
        if all(p.bytes for p in own):
            memory.loglog(arithmetic, [(p.bytes or 0) / 2**20 for p in own], marker="o", label=series)
    time.set(xlabel="FLOPs of a training step", ylabel="seconds")
    memory.set(xlabel="FLOPs of a training step", ylabel="MiB at the peak")
    time.legend()
    figure.savefig(path)
    return True
