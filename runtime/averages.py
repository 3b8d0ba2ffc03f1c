"""Averages of the weights over steps: what is evaluated and kept instead of the latest.

After each update an average moves towards the weights by a share: avg += (weights - avg) * share.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated

from ..compiler.spec.kinds import Range
from ..compiler.spec.registry import AVERAGES
from ..compiler.spec.sections import Every, Time, Warmup
from ..compiler.structs import Struct
from .schedules import Pace

Decay = Annotated[float, Range(0, 1, open_high=True)]


class Average(Struct, ABC):
    """How far the average moves towards the weights after each update."""

    @abstractmethod
    def share(self, step: int, total: int | None, per_epoch: int, accumulate: int = 1) -> float:
        """The share after an update, counted from zero; the other arguments are those of `Schedule.factor`."""


class Ema(Average):
    """An exponential moving average, which begins as a plain one so that it owes nothing to its start."""

    decay: float

    def share(self, step: int, total: int | None, per_epoch: int, accumulate: int = 1) -> float:
        return 1.0 - min(self.decay, step / (step + 1))


class Swa(Average):
    """The mean of the weights at regular times after a start."""

    start: Time
    every: Time

    def share(self, step: int, total: int | None, per_epoch: int, accumulate: int = 1) -> float:
        if self.start.unit == "%" and total is None:
            raise ValueError(
                "`start` as a share needs the number of steps: use epochs or steps to say how long to train"
            )
        pace = Pace(total, per_epoch, accumulate)
        begin, period = pace.updates_in(self.start), max(pace.updates_in(self.every), 1)
        if step < begin:
            return 1.0
        taken, before = (math.floor((end - begin) / period) + 1 if end >= begin else 0 for end in (step, step - 1))
        return 0.0 if taken == before else 1.0 / taken


@AVERAGES.register
def ema(*, decay: Decay = 0.999) -> Average:
    """An exponential moving average of the weights (Polyak & Juditsky, 1992).

    decay: how much of the average is carried on in each step; less in the first steps, whose mean it begins as.
    Example: {ema: 0.999}
    """
    return Ema(decay)


@AVERAGES.register
def swa(*, start: Warmup = Time(75, "%"), every: Every = Time(1, "ep")) -> Average:  # noqa: B008
    """Stochastic weight averaging (Izmailov et al., 2018): the mean of the weights at regular times.

    start: when the first is taken; until then the latest weights are used.
    every: how often one is taken.
    Example: {swa: {start: 75%, every: 1ep}}
    """
    return Swa(start, every)
