"""`python -m benchmarks [--workload mlp-b32,cnn-b32] [--task infer,train] [--rounds 7]`"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import statistics
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from .contestants import BASE, CONTESTANTS, takes_part
from .worker import work
from .workloads import Workload, workloads

# Float32 sums in another order: larger differences are another result.
TOLERANCE = 1e-3


def measure(workload: Workload, task: str, names: list[str], rounds: int) -> dict[str, dict[str, Any]]:
    """The median seconds and the paired ratio to PyTorch of each contestant that gives its results."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for name in names:
        mine, theirs = context.Pipe()
        process = context.Process(target=work, args=(name, workload, task, theirs), daemon=True)
        process.start()
        processes.append(process)
        pipes[name] = mine
    first = {name: pipe.recv() for name, pipe in pipes.items()}
    found: dict[str, dict[str, Any]] = {n: {"error": r} for n, r in first.items() if isinstance(r, str)}
    ready = [name for name in names if name not in found]
    for name in ready:
        off = float(np.abs(first[name] - first[BASE]).max() / max(np.abs(first[BASE]).max(), 1e-9))
        found[name] = {"deviation": off} if off <= TOLERANCE else {"error": f"its result is off by {off:.1e}"}
    running = [name for name in ready if "error" not in found[name]]
    blocks: dict[str, list[float]] = {name: [] for name in running}
    rng = random.Random(0)
    for _ in range(rounds):
        for name in rng.sample(running, len(running)):
            pipes[name].send(True)
            blocks[name].append(pipes[name].recv())
    for name in running:
        ratios = [base / own for base, own in zip(blocks[BASE], blocks[name], strict=True)]
        found[name] |= {
            "seconds": statistics.median(blocks[name]),
            "ratio": statistics.median(ratios),
            "blocks": blocks[name],
        }
    for name, pipe in pipes.items():
        if name in running:
            pipe.send(False)
    for process in processes:
        process.join(5)
    return found


def machine() -> dict[str, Any]:
    packages = {}
    for name in ("trine", "numpy", "torch", "onnxruntime"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return {"platform": platform.platform(), "cpus": os.cpu_count(), "threads": 2, "packages": packages}


def main() -> None:
    known = workloads()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--workload", default=",".join(known), help="of " + ", ".join(known))
    parser.add_argument("--task", default="infer,train")
    parser.add_argument("--against", default=",".join(CONTESTANTS), help="of " + ", ".join(CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write all figures to a file")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    asked = {BASE, *options.against.split(",")}
    results: dict[str, Any] = {}
    for task in options.task.split(","):
        for key in options.workload.split(","):
            names = [n for n in CONTESTANTS if n in asked and takes_part(n, known[key], task)]
            results[f"{task} {key}"] = measure(known[key], task, names, options.rounds)
            show(f"{task} {key}", results[f"{task} {key}"])
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1), encoding="utf-8")


def show(title: str, found: dict[str, dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left", box=None)
    for column in ("contestant", "median", "× torch", "deviation"):
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for name, row in found.items():
        if "error" in row:
            table.add_row(name, "–", "–", row["error"][:60])
        else:
            table.add_row(name, f"{1e6 * row['seconds']:,.0f} µs", f"{row['ratio']:.2f}", f"{row['deviation']:.0e}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
