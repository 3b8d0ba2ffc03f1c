"""Blocks of all contestants in turn, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contestants import CONTESTANTS
from .results import Row
from .worker import Block, Entrant, work
from .workloads import Workload

# How far results may be from PyTorch's, of the largest. Float32 sums in another order: a larger difference is another
# result. Losses come after updates that begin as signs of gradients, which rounding can turn, and batch norms over a
# few rows make much of that: two settings of torch differ by 2 % in MobileNet. Accuracies of `fit` are those of other
# first weights and another order of the rows.
TOLERANCE = {"infer": 1e-3, "decode": 1e-3, "train": 5e-2, "fit": 0.2}
# A block in which others took more of a core than this is repeated, so many times at most.
DISTURBED, REPEATS = 0.15, 3
ENDED = "its process ended"


class Running:
    """A contestant's process."""

    def __init__(self, entrant: Entrant, task: str, workload: Workload) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (entrant, task, workload, theirs)
        self.process: SpawnProcess = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()  # so that its end is seen, should it die

    def first(self) -> NDArray[np.float64] | str:
        """Its first results, or what went wrong."""
        try:
            found: NDArray[np.float64] | str = self.pipe.recv()
        except EOFError:
            return ENDED
        return found

    def block(self) -> tuple[float, bool]:
        """Seconds of a call, and whether others disturbed it however often it was repeated; may raise `OSError`."""
        found: list[Block] = []
        while len(found) <= REPEATS:
            try:
                self.pipe.send(True)
                found.append(self.pipe.recv())
            except EOFError:
                raise OSError(ENDED) from None
            if found[-1].others <= DISTURBED:
                return found[-1].seconds, False
        best = min(found, key=lambda block: block.others)
        return best.seconds, True

    def stop(self) -> None:
        with suppress(OSError):
            self.pipe.send(False)
        self.process.join(5)
        if self.process.is_alive():
            self.process.terminate()


def measure(task: str, workload: Workload, entrants: Sequence[Entrant], rounds: int) -> dict[str, Row]:
    """The rows of a cell. The first entrant's results are those the others are held to."""
    absent = {e.name: CONTESTANTS[e.contestant].missing() for e in entrants}
    rows = {name: Row(problem=f"absent: needs `{package}`") for name, package in absent.items() if package}
    running = {e.name: Running(e, task, workload) for e in entrants if e.name not in rows}
    try:
        tolerances = {e.name: max(TOLERANCE[task], CONTESTANTS[e.contestant].tolerance) for e in entrants}
        rows |= _measured(tolerances, running, rounds)
    finally:
        for process in running.values():
            process.stop()
    return {e.name: rows[e.name] for e in entrants}


def _measured(tolerances: Mapping[str, float], running: dict[str, Running], rounds: int) -> dict[str, Row]:
    first = {name: process.first() for name, process in running.items()}
    rows = {name: Row(problem=found) for name, found in first.items() if isinstance(found, str)}
    sound = {name: found for name, found in first.items() if not isinstance(found, str)}
    truth = next(iter(sound.values()), None)
    off = {name: deviation(found, truth) for name, found in sound.items()}
    for name, amount in off.items():
        if not amount <= tolerances[name]:
            rows[name] = Row(deviation=amount, problem=f"its results are off by {amount:.1e}")
    names = [name for name in off if name not in rows]
    blocks: dict[str, list[tuple[float, bool]]] = {name: [] for name in names}
    rng = random.Random(0)
    for _ in range(rounds):
        for name in rng.sample(names, len(names)):
            if name not in rows:
                try:
                    blocks[name].append(running[name].block())
                except OSError:
                    rows[name] = Row(problem=ENDED)
    for name in names:
        if name in rows:
            continue
        seconds, disturbed = zip(*blocks[name], strict=True)
        rows[name] = Row(seconds, sum(disturbed), off[name])
    return rows


def deviation(found: NDArray[np.float64], truth: Any) -> float:
    """The largest difference, of the largest number; infinite where shapes differ."""
    if found.shape != truth.shape:
        return float("inf")
    return float(np.abs(found - truth).max() / max(float(np.abs(truth).max()), 1e-9))
