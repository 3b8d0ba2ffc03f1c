"""Where the time of a call goes: a program whose clock is read between the steps of the spec."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..compiler.ir import Origin
from ..compiler.structs import Struct
from .threads import on

# Calls before those that count: caches fill, libraries choose kernels.
WARM_UP = 3


class Segment(Struct):
    """The seconds that a call spends on what one step of the spec asked for.

    Those without a place go to no step: to checks and copies of what goes in and out, and to the call itself.
    """

    place: Origin | None
    seconds: float


# The places of a program's parts, and for each call the seconds of each part.
Laps = tuple[list[Origin | None], list[list[float]]]


class Clock:
    """Reads the time between the steps of a program."""

    def __init__(self) -> None:
        self.places: list[Origin | None] = [None]
        self.calls: list[list[float]] = []
        # Waits for work that was only begun, as on a GPU.
        self.wait: Callable[[], None] | None = None
        # Where a library keeps the time itself: gives the places of its parts, and for each call their times.
        self.read: Callable[[], Laps] | None = None

    def marked(self, source: str, headings: Mapping[str, Origin], namespace: dict[str, Any]) -> str:
        """A straight-line `def run` with a tick where it begins, at each of its headings, and where it ends.

        The function that ticks goes into `namespace`, by a name that the source does not have.
        """
        name = "tick"
        while name in source:
            name += "_"
        namespace[name] = self.tick
        first, *lines = source.split("\n")
        found = [first, f"    {name}(True)"]
        for line in lines:
            text = line[4:]
            if line.startswith("    # ") and text in headings:
                self.places.append(headings[text])
                found.append(f"    {name}()")
            elif text.startswith("return "):
                found.append(f"    {name}()")
            found.append(line)
        return "\n".join(found)

    def tick(self, begin: bool = False) -> None:
        if self.wait is not None:
            self.wait()
        if begin:
            self.calls.append([])
        self.calls[-1].append(time.perf_counter())

    def segments(self, times: Sequence[float]) -> list[Segment]:
        """What calls that took so long spent on each step: means over the middle half of the calls."""
        places, laps = self.read() if self.read is not None else (self.places, self.laps())
        whole = [[*parts, max(time - sum(parts), 0.0)] for time, parts in zip(times, laps[WARM_UP:], strict=True)]
        columns = zip(*middle(whole, times), strict=True)
        return together(list(zip([*places, None], map(statistics.fmean, columns), strict=True)))

    def laps(self) -> list[list[float]]:
        """For each call, the seconds between its ticks."""
        return [[b - a for a, b in itertools.pairwise(call)] for call in self.calls]


def middle(calls: Sequence[list[float]], times: Sequence[float]) -> list[list[float]]:
    """The calls that took neither the shortest quarter of the times nor the longest."""
    ranked = sorted(range(len(times)), key=times.__getitem__)
    quarter = len(ranked) // 4
    return [calls[i] for i in ranked[quarter : len(ranked) - quarter]]


def together(parts: Sequence[tuple[Origin | None, float]]) -> list[Segment]:
    """One segment for each place, in order of first appearance."""
    totals: dict[Origin | None, float] = {}
    for place, seconds in parts:
        totals[place] = totals.get(place, 0.0) + seconds
    return [Segment(place, seconds) for place, seconds in totals.items()]


def repeat(call: Callable[[], object], seconds: float, least: int = 5, most: int = 2000) -> list[float]:
    """How long calls took that went on for about so many seconds together, after a few that do not count."""
    for _ in range(WARM_UP):
        call()
    found: list[float] = []
    begun = time.perf_counter()
    while len(found) < least or (time.perf_counter() - begun < seconds and len(found) < most):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


Timed = Callable[[Callable[[], object]], float]
# What threads must gain, and how often they are tried.
GAIN, SWEEPS = 1.1, 3


def gains_from(
    calls: Sequence[Callable[[], object]], backend: str, threads: int, alone: Timed, together: Timed
) -> float:
    """The time on one thread from which more make calls faster, by more than a little; each is longer than the last.

    It is between two that were tried, and the least that was found: what disturbs it hides a gain, and makes none.
    """
    return min(_sweep(calls, backend, threads, alone, together) for _ in range(SWEEPS))


def _sweep(calls: Sequence[Callable[[], object]], backend: str, threads: int, alone: Timed, together: Timed) -> float:
    times: list[float] = []
    for call in reversed(calls):
        with on(backend, 1):
            times.append(alone(call))
        with on(backend, threads):
            if times[-1] < GAIN * together(call):
                break
    return statistics.geometric_mean(times[-2:])
