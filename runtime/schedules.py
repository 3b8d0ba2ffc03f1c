"""Schedules: how the learning rate changes while a network is trained.

A schedule gives a multiple of the base learning rate for each update, counted from zero. It may
begin with a warm-up: w updates with 1/w, 2/w, … 1 of what it would be otherwise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from ..compiler.spec.kinds import Fraction, PositiveFloat
from ..compiler.spec.registry import SCHEDULES
from ..compiler.spec.sections import Every, Time, Warmup


@dataclass(frozen=True)
class Schedule(ABC):
    """A multiple of the base learning rate for each update."""

    warmup: Time | None

    def factor(self, step: int, total: int | None, per_epoch: int) -> float:
        """The multiple at an update.

        step: the update, from zero.
        total: how many updates there will be; `None` where time alone ends the training.
        per_epoch: how many updates an epoch has.
        """
        warm = 0 if self.warmup is None else _steps(self.warmup, total, per_epoch, "warmup")
        shape = self.shape(step, warm, total, per_epoch)
        return shape * (step + 1) / warm if step < warm else shape

    @abstractmethod
    def shape(self, step: int, warm: int, total: int | None, per_epoch: int) -> float:
        """The multiple without the warm-up's share. `warm` is how many updates that takes."""


def _steps(time: Time, total: int | None, per_epoch: int, name: str) -> int:
    if time.unit == "%" and total is None:
        raise ValueError(f"`{name}: {time}` {_UNKNOWN}")
    return time.steps(per_epoch, total or 0)


_UNKNOWN = "needs the number of steps: use epochs or steps, not seconds, to say how long to train"


def _progress(step: int, warm: int, total: int | None, name: str) -> float:
    """How far an update is from the end of the warm-up (0) to the last update (1)."""
    if total is None:
        raise ValueError(f"the schedule `{name}` {_UNKNOWN}")
    return min(max((step - warm) / max(total - 1 - warm, 1), 0.0), 1.0)


@dataclass(frozen=True)
class Constant(Schedule):
    """1 throughout."""

    def shape(self, step: int, warm: int, total: int | None, per_epoch: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Step(Schedule):
    """gamma to the power of how many periods have passed since the start."""

    every: Time
    gamma: float

    def shape(self, step: int, warm: int, total: int | None, per_epoch: int) -> float:
        return self.gamma ** (step // max(_steps(self.every, total, per_epoch, "every"), 1))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a wave from 1 down to the floor."""

    floor: float

    def shape(self, step: int, warm: int, total: int | None, per_epoch: int) -> float:
        wave = (1 + math.cos(math.pi * _progress(step, warm, total, "cosine"))) / 2
        return self.floor + (1 - self.floor) * wave


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from 1 down to the floor."""

    floor: float

    def shape(self, step: int, warm: int, total: int | None, per_epoch: int) -> float:
        return 1 - (1 - self.floor) * _progress(step, warm, total, "linear")


@SCHEDULES.register
def constant(*, warmup: Warmup | None = None) -> Schedule:
    """The same learning rate throughout.

    warmup: how long the rate rises from almost nothing first (Goyal et al., 2017).
    Example: {constant: {warmup: 500ba}}
    """
    return Constant(warmup)


@SCHEDULES.register
def step(*, every: Every, gamma: PositiveFloat = 0.1, warmup: Warmup | None = None) -> Schedule:
    """The learning rate times gamma after every so many epochs or batches, counted from the start.

    every: how long the rate stays the same.
    gamma: the factor.
    warmup: how long the rate rises from almost nothing first (Goyal et al., 2017).
    Example: {step: {every: 30ep, gamma: 0.1}}
    """
    return Step(warmup, every, gamma)


@SCHEDULES.register
def cosine(*, warmup: Warmup | None = None, floor: Fraction = 0.0) -> Schedule:
    """Half a cosine wave, from the base learning rate down to the floor (Loshchilov & Hutter, 2017).

    warmup: how long the rate rises from almost nothing first (Goyal et al., 2017).
    floor: what is left at the last update, as a share of the base learning rate.
    Example: {cosine: {warmup: 5%, floor: 0.01}}
    """
    return Cosine(warmup, floor)


@SCHEDULES.register
def linear(*, warmup: Warmup | None = None, floor: Fraction = 0.0) -> Schedule:
    """A straight line from the base learning rate down to the floor.

    warmup: how long the rate rises from almost nothing first (Goyal et al., 2017).
    floor: what is left at the last update, as a share of the base learning rate.
    Example: {linear: {warmup: 5%}}
    """
    return Linear(warmup, floor)
