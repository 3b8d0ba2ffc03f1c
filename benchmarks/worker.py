"""What runs in a contestant's process."""

from __future__ import annotations

import statistics
import time
from multiprocessing.connection import Connection

import numpy as np

from .contestants import CONTESTANTS
from .workloads import Workload

# A block lasts about this long; its figure is its median call.
BLOCK_SECONDS = 0.3


def work(name: str, workload: Workload, task: str, pipe: Connection) -> None:
    """A contestant's process: prepare, show the first result, then run blocks when asked."""
    try:
        step = CONTESTANTS[name](workload, task)
        first = np.asarray(step(), np.float64)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(first)
    while pipe.recv():
        times = []
        began = time.perf_counter()
        while not times or time.perf_counter() - began < BLOCK_SECONDS:
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        pipe.send(statistics.median(times))
