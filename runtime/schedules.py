"""Schedules: how the learning rate changes while a network is trained.

A schedule gives a multiple of the base learning rate for each update, counted from zero. Its times are those of
training (epochs, batches, shares of it), also where several batches make an update. It may begin with a warm-up: w
updates with 1/w, 2/w, … 1 of what it would be otherwise. One that follows evaluations keeps what it needs in the
position of training, so that a resumed run goes on the same.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated

from ..compiler.spec.kinds import Fraction, Natural, NonNegative, PositiveFloat, Range, Share
from ..compiler.spec.registry import SCHEDULES
from ..compiler.spec.sections import Every, Time, Warmup
from ..compiler.structs import Struct
from .metrics import direction

if TYPE_CHECKING:
    from .checkpoints import Position

Shrinking = Annotated[float, Range(0, 1, open_low=True, open_high=True)]
AtLeastOne = Annotated[float, Range(1)]
EPOCH, TENTH = Time(1, "ep"), Time(10, "%")


class Pace(Struct):
    """How many batches there are in all (if that is known) and in an epoch, and how many of them make an update."""

    total: int | None
    per_epoch: int
    accumulate: int = 1

    @property
    def updates(self) -> int | None:
        """How many updates there are in all."""
        return None if self.total is None else -(-self.total // self.accumulate)

    def updates_in(self, time: Time) -> float:
        """An amount of training in updates, which may end within one."""
        if time.unit == "%":
            return time.steps(self.per_epoch, self.updates or 0)
        batches = time.steps(self.per_epoch, self.total or 0)
        return batches if self.accumulate == 1 else batches / self.accumulate


class Schedule(Struct, ABC):
    """A multiple of the base learning rate for each update."""

    warmup: Time | None

    def factor(self, step: int, total: int | None, per_epoch: int, accumulate: int = 1) -> float:
        """The multiple at an update.

        step: the update, from zero.
        total: how many batches there will be; `None` where time alone ends the training.
        per_epoch: how many batches an epoch has.
        accumulate: how many batches make an update.
        """
        pace = Pace(total, per_epoch, accumulate)
        warm = 0 if self.warmup is None else _steps(self.warmup, pace, "warmup")
        shape = self.shape(step, warm, pace)
        return shape * min((step + 1) / warm, 1.0) if step < warm else shape

    @property
    def monitor(self) -> str | None:
        """The number of the validation split that the schedule follows, such as `valid/loss`."""
        return None

    def after_evaluation(self, position: Position, value: float) -> None:
        """Set `position.lr_scale`, which multiplies all further rates, by what `monitor` has come to."""
        return  # most schedules follow time alone

    @abstractmethod
    def shape(self, step: int, warm: float, pace: Pace) -> float:
        """The multiple without the warm-up's share. `warm` is how many updates that takes."""


def _steps(time: Time, pace: Pace, name: str) -> float:
    if time.unit == "%" and pace.total is None:
        raise ValueError(f"`{name}: {time}` {_UNKNOWN}")
    return pace.updates_in(time)


_UNKNOWN = "needs the number of steps: use epochs or steps, not seconds, to say how long to train"


def _progress(step: int, warm: float, pace: Pace, name: str) -> float:
    """How far an update is from the end of the warm-up (0) to the last update (1)."""
    total = pace.updates
    if total is None:
        raise ValueError(f"the schedule `{name}` {_UNKNOWN}")
    return min(max((step - warm) / max(total - 1 - warm, 1), 0.0), 1.0)


class Constant(Schedule):
    """1 throughout."""

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        return 1.0


class Step(Schedule):
    """gamma to the power of how many periods have passed since the start."""

    every: Time
    gamma: float

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        return float(self.gamma ** (step // max(_steps(self.every, pace, "every"), 1)))


class Cosine(Schedule):
    """Half a wave from 1 down to the floor."""

    floor: float

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        wave = (1 + math.cos(math.pi * _progress(step, warm, pace, "cosine"))) / 2
        return self.floor + (1 - self.floor) * wave


class Linear(Schedule):
    """A straight line from 1 down to the floor."""

    floor: float

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        return 1 - (1 - self.floor) * _progress(step, warm, pace, "linear")


class Polynomial(Schedule):
    """What is left of the training, to a power, from 1 down to the floor."""

    power: float
    floor: float

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        left = 1 - _progress(step, warm, pace, "polynomial")
        return self.floor + (1 - self.floor) * math.pow(left, self.power)


class Exponential(Schedule):
    """gamma to the power of how many periods, whole and in part, have passed since the start."""

    gamma: float
    every: Time

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        return math.pow(self.gamma, step / max(_steps(self.every, pace, "every"), 1))


class InverseSqrt(Schedule):
    """1 up to the end of the warm-up, then one over the root of the number of batches."""

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        peak = max(warm, 1)
        return math.sqrt(peak / max(step + 1, peak))


class Piecewise(Schedule):
    """The product of the factors whose times have come."""

    at: tuple[Time, ...]
    factors: tuple[float, ...]

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        starts = [_steps(time, pace, "at") for time in self.at]
        return math.prod(factor for start, factor in zip(starts, self.factors, strict=True) if step >= start)


class OneCycle(Schedule):
    """Half a cosine wave up to 1, then one down to almost nothing."""

    pct_start: float
    div_factor: float
    final_div_factor: float

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        total = pace.updates
        if total is None:
            raise ValueError(f"the schedule `one_cycle` {_UNKNOWN}")
        step, last, peak = min(step, total - 1), total - 1, self.pct_start * total - 1
        first = 1 / self.div_factor
        if peak > 0 and step <= peak:
            return _wave(first, 1.0, step / peak)
        return _wave(1.0, first / self.final_div_factor, (step - peak) / (last - peak))


def _wave(start: float, end: float, progress: float) -> float:
    """Half a cosine wave from one number (progress 0) to another (progress 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


class WarmupStableDecay(Schedule):
    """1, then a straight line down to the floor over the last updates."""

    decay: Time
    floor: float

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        total = pace.updates
        start = warm if total is None else max(warm, total - 1 - _steps(self.decay, pace, "decay"))
        return 1 - (1 - self.floor) * _progress(step, start, pace, "warmup_stable_decay")


class Plateau(Schedule):
    """1 times a factor for each time that a number has not improved for a while, down to the floor."""

    watched: str
    cut: float
    patience: int
    min_delta: float
    floor: float

    @property
    def monitor(self) -> str:
        return self.watched

    def shape(self, step: int, warm: float, pace: Pace) -> float:
        return 1.0

    def after_evaluation(self, position: Position, value: float) -> None:
        if self._improves(value, position.lr_best):
            position.lr_best, position.lr_stale = value, 0
            return
        position.lr_stale += 1
        if position.lr_stale > self.patience:
            position.lr_scale, position.lr_stale = max(position.lr_scale * self.cut, self.floor), 0

    def _improves(self, value: float, best: float | None) -> bool:
        """Whether a number beats the best so far; one that is not finite improves nothing."""
        if not math.isfinite(value):
            return False
        sign = 1.0 if direction(self.watched) == "min" else -1.0
        return best is None or sign * value < sign * best - self.min_delta


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


@SCHEDULES.register
def polynomial(*, power: PositiveFloat = 1.0, floor: Fraction = 0.0, warmup: Warmup | None = None) -> Schedule:
    """What is left of the training, to a power: from the base learning rate down to the floor.

    power: 1 is a straight line; more falls early, less falls late.
    floor: what is left at the last update, as a share of the base learning rate.
    warmup: how long the rate rises from almost nothing first (Goyal et al., 2017).
    Example: {polynomial: {power: 2.0, floor: 0.01}}
    """
    return Polynomial(warmup, power, floor)


@SCHEDULES.register
def exponential(*, gamma: Shrinking, every: Every = EPOCH, warmup: Warmup | None = None) -> Schedule:
    """The learning rate times gamma over every so many epochs or batches, falling with each update.

    gamma: the factor.
    every: over how long the rate falls by it.
    warmup: how long the rate rises from almost nothing first (Goyal et al., 2017).
    Example: {exponential: {gamma: 0.95}}
    """
    return Exponential(warmup, gamma, every)


@SCHEDULES.register
def inverse_sqrt(*, warmup: Warmup | None = None) -> Schedule:
    """One over the root of the number of updates (Vaswani et al., 2017).

    warmup: how long the rate rises to the base learning rate first; after n times as long it is
        that over the root of n.
    Example: {inverse_sqrt: {warmup: 4000ba}}
    """
    return InverseSqrt(warmup)


@SCHEDULES.register
def piecewise(*, at: list[Every], factors: list[PositiveFloat], warmup: Warmup | None = None) -> Schedule:
    """The same learning rate between given times, and at each of them times a factor.

    at: the times, counted from the start.
    factors: what the rate is multiplied by at each, on top of the factors before.
    warmup: how long the rate rises from almost nothing first (Goyal et al., 2017).
    Example: {piecewise: {at: [30ep, 60ep], factors: [0.1, 0.5]}}
    """
    if len(at) != len(factors):
        raise ValueError(f"`piecewise` needs a factor for each time, found {len(at)} `at` and {len(factors)} `factors`")
    return Piecewise(warmup, tuple(at), tuple(factors))


@SCHEDULES.register
def one_cycle(*, pct_start: Share = 0.3, div_factor: AtLeastOne = 25.0, final_div_factor: AtLeastOne = 1e4) -> Schedule:
    """Half a cosine wave up to the base learning rate, then one down to almost nothing (Smith & Topin, 2018).

    pct_start: the share of the batches in which the rate rises.
    div_factor: by what the base learning rate is divided at the first batch.
    final_div_factor: by what that of the first batch is divided at the last.
    Example: {one_cycle: {pct_start: 0.3}}
    """
    return OneCycle(None, pct_start, div_factor, final_div_factor)


@SCHEDULES.register
def warmup_stable_decay(*, decay: Warmup = TENTH, floor: Fraction = 0.0, warmup: Warmup | None = None) -> Schedule:
    """The base learning rate until a straight line takes it down at the end (Hu et al., 2024).

    decay: how long the rate falls; what neither the warm-up nor this takes has the base rate.
    floor: what is left at the last update, as a share of the base learning rate.
    warmup: how long the rate rises from almost nothing first (Goyal et al., 2017).
    Example: {warmup_stable_decay: {warmup: 2%, decay: 10%}}
    """
    return WarmupStableDecay(warmup, decay, floor)


@SCHEDULES.register
def plateau(
    *,
    monitor: str = "valid/loss",
    factor: Shrinking = 0.1,
    patience: Natural = 10,
    min_delta: NonNegative = 0.0,
    floor: Fraction = 0.0,
    warmup: Warmup | None = None,
) -> Schedule:
    """The learning rate times a factor whenever a number of the validation split has not improved for a while.

    monitor: the number to watch, such as `valid/loss` or `valid/accuracy`.
    factor: what the rate is multiplied by.
    patience: how many evaluations in a row may pass without improvement; one more lowers the rate.
    min_delta: by how much a number must be better to count as better.
    floor: what is left at least, as a share of the base learning rate.
    warmup: how long the rate rises from almost nothing first (Goyal et al., 2017).
    Example: {plateau: {factor: 0.5, patience: 3}}
    """
    return Plateau(warmup, monitor, factor, patience, min_delta, floor)
