"""Making what the next step reads while a step runs."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

# Steps that are timed each way, after some in which programs are compiled.
TRIAL, WARM_UP = 8, 2
# From how many seconds to make an item a thread is tried: handing it over takes some 50 µs.
LEAST_SECONDS = 2e-4
# Which share of a step's time has to be saved.
LEAST_GAIN = 0.05


class Ahead(Generic[T]):
    """Items by number, each made by a thread while the one before is in use, where that is faster.

    Whether it is depends on the machine, and on what else uses its cores: the first steps are timed without the thread
    and, if making an item takes long enough to matter, some more with it. The items are the same either way.
    """

    def __init__(self, make: Callable[[int], T]) -> None:
        """`make` is only ever called by one thread at a time."""
        self._make = make
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[T]] | None = None
        self._undecided = _cores() > 1
        self._asked = 0.0
        self._making: list[float] = []
        self._alone: list[float] = []
        self._beside: list[float] = []

    def __call__(self, number: int) -> T:
        """The item of a number: the one after the last, or any other."""
        if self._undecided:
            self._time_step()
        item = self._take(number)
        if self._thread is not None:
            self._next = number + 1, self._thread.submit(self._make, number + 1)
        return item

    def close(self) -> None:
        """End the thread, if there is one."""
        thread, self._thread, self._next = self._thread, None, None
        if thread is not None:
            thread.shutdown(cancel_futures=True)

    def _take(self, number: int) -> T:
        pending, self._next = self._next, None
        if pending is not None:
            if pending[0] == number:
                return pending[1].result()
            pending[1].exception()  # made for nothing: another number was asked for
        began = time.perf_counter()
        item = self._make(number)
        if self._undecided:
            self._making.append(time.perf_counter() - began)
        return item

    def _time_step(self) -> None:
        """Note how long the last step took, and decide when enough are known."""
        now = time.perf_counter()
        steps = self._alone if self._thread is None else self._beside
        steps.append(now - self._asked)
        self._asked = now
        if len(steps) < TRIAL + WARM_UP:
            return
        alone, making = (statistics.median(times[WARM_UP:]) for times in (self._alone, self._making))
        if self._thread is None:
            self._undecided = making > max(LEAST_SECONDS, LEAST_GAIN * alone)
            self._thread = ThreadPoolExecutor(1, "batch") if self._undecided else None
            return
        self._undecided = False
        if statistics.median(self._beside[WARM_UP:]) > (1 - LEAST_GAIN) * alone:
            self.close()


def _cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
