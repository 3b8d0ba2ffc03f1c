"""What runs in a contestant's process."""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from . import fitting
from .contestants import CONTESTANTS, Step, threads
from .machine import Watch
from .workloads import Workload

# A block lasts about this long; its figure is its median call.
BLOCK_SECONDS = 0.3
LEAST_CALLS = 3
# So many losses are compared: those after the first tell whether gradients and updates are right.
LOSSES = 4


@dataclass(frozen=True)
class Entrant:
    """A contestant in a measurement; `tree` is where Trine is, if not where it is installed."""

    name: str
    contestant: str
    tree: str | None = None


@dataclass(frozen=True)
class Block:
    """Seconds of a call, and what share of a core others took meanwhile."""

    seconds: float
    others: float


def work(entrant: Entrant, task: str, workload: Workload, pipe: Connection) -> None:
    """Prepare, send the first results or what went wrong, then run a block whenever asked."""
    _keep_to_cores(threads())
    try:
        if entrant.tree is not None:
            _use(entrant.tree)
        step = CONTESTANTS[entrant.contestant].make(task, workload)
        pipe.send(first_results(task, step))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    run = fit_block if task == "fit" else block
    while pipe.recv():
        watch = Watch()
        seconds = run(step)
        pipe.send(Block(seconds, watch.share()))


def _keep_to_cores(count: int) -> None:
    """Not every pool of threads can be told how many there shall be: none gets more cores than that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])


def _use(tree: str) -> None:
    """Make `trine` that of another folder; raises `ImportError` where it is too late for that."""
    sys.path.insert(0, tree)
    import trine

    if not str(trine.__file__).startswith(tree):
        raise ImportError(f"trine is that of {trine.__file__}: run the benchmarks as `python -m benchmarks`")


def first_results(task: str, step: Step) -> NDArray[np.float64]:
    """What is compared with PyTorch."""
    if task == "fit":
        return np.asarray(step(1 + fitting.MORE_EPOCHS), np.float64)
    if task == "train":
        return np.asarray([step() for _ in range(LOSSES)], np.float64)
    return np.asarray(step(), np.float64)


def block(step: Step) -> float:
    """The median of calls one after the other; one before them warms the caches up again."""
    step()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < LEAST_CALLS or time.perf_counter() - began < BLOCK_SECONDS:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def fit_block(step: Step) -> float:
    """Seconds of one step of `fit`: what more epochs take, so that what is done once does not count."""
    times = []
    for epochs in (1, 1 + fitting.MORE_EPOCHS):
        start = time.perf_counter()
        step(epochs)
        times.append(time.perf_counter() - start)
    return (times[1] - times[0]) / (fitting.MORE_EPOCHS * fitting.STEPS)
