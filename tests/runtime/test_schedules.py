"""Schedules, against PyTorch over whole runs, and at their ends."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict
from typing import Any

import pytest
from trine.compiler.spec.kinds import argument_docs, params_of
from trine.compiler.spec.registry import SCHEDULES, Call
from trine.compiler.spec.sections import Time
from trine.runtime.checkpoints import Position
from trine.runtime.schedules import (
    Schedule,
    constant,
    cosine,
    exponential,
    inverse_sqrt,
    linear,
    one_cycle,
    piecewise,
    plateau,
    polynomial,
    step,
    warmup_stable_decay,
)

BUILT_IN = ("constant", "cosine", "linear", "step")
NEEDED = {
    "step": {"every": Time(1, "ep")},
    "exponential": {"gamma": 0.9},
    "piecewise": {"at": [Time(1, "ep")], "factors": [0.1]},
}


def factors(schedule: Schedule, total: int | None, per_epoch: int = 10, count: int | None = None) -> list[float]:
    return [schedule.factor(i, total, per_epoch) for i in range(count or total or 0)]


class Reference:
    """A schedule of PyTorch, read over a whole run."""

    def __init__(self) -> None:
        torch = pytest.importorskip("torch")
        self.kinds = torch.optim.lr_scheduler
        self.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)

    def ramp(self, warm: int) -> Any:
        """1/w, 2/w, … 1, then 1."""
        return self.kinds.LinearLR(self.optimizer, 1 / warm, total_iters=warm - 1)

    def run(self, schedule: Any, total: int) -> list[float]:
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(total):
                found.append(self.optimizer.param_groups[0]["lr"])
                self.optimizer.step()
                schedule.step()
        return found


@pytest.mark.parametrize("total", [2, 7, 100])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine(total: int, floor: float) -> None:
    torch = Reference()
    expected = torch.run(torch.kinds.CosineAnnealingLR(torch.optimizer, total - 1, eta_min=floor), total)
    assert factors(cosine(floor=floor), total) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_linear(floor: float) -> None:
    torch = Reference()
    expected = torch.run(torch.kinds.LinearLR(torch.optimizer, 1.0, floor, total_iters=49), 50)
    assert factors(linear(floor=floor), 50) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("every", [Time(3, "ep"), Time(30, "ba")])
def test_step(every: Time) -> None:
    torch = Reference()
    expected = torch.run(torch.kinds.StepLR(torch.optimizer, 30, gamma=0.3), 100)
    assert factors(step(every=every, gamma=0.3), 100) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_polynomial(power: float) -> None:
    torch = Reference()
    expected = torch.run(torch.kinds.PolynomialLR(torch.optimizer, total_iters=49, power=power), 50)
    assert factors(polynomial(power=power), 50) == pytest.approx(expected, abs=1e-12)
    raised = [0.2 + 0.8 * factor for factor in expected]
    assert factors(polynomial(power=power, floor=0.2), 50) == pytest.approx(raised, abs=1e-12)


@pytest.mark.parametrize("every", [Time(1, "ep"), Time(10, "ba")])
def test_exponential(every: Time) -> None:
    """Ten updates with the tenth root of gamma are one with gamma."""
    torch = Reference()
    expected = torch.run(torch.kinds.ExponentialLR(torch.optimizer, 0.8**0.1), 50)
    found = factors(exponential(gamma=0.8, every=every), 50)
    assert found == pytest.approx(expected, abs=1e-12)
    assert found[::10] == pytest.approx([0.8**epoch for epoch in range(5)], abs=1e-12)


def test_inverse_sqrt() -> None:
    """Equation 3 of Vaswani et al. (2017), over its largest number; its steps count from one."""
    torch = Reference()

    def paper(at: int) -> float:
        return min((at + 1) ** -0.5, (at + 1) * 20**-1.5) / 20**-0.5

    expected = torch.run(torch.kinds.LambdaLR(torch.optimizer, paper), 100)
    assert factors(inverse_sqrt(warmup=Time(20, "ba")), 100) == pytest.approx(expected, abs=1e-12)
    assert factors(inverse_sqrt(), None, count=4) == pytest.approx([1, 2**-0.5, 3**-0.5, 0.5])


def test_piecewise() -> None:
    torch = Reference()
    expected = torch.run(torch.kinds.MultiStepLR(torch.optimizer, [30, 60, 75], gamma=0.3), 100)
    ours = piecewise(at=[Time(3, "ep"), Time(75, "ba"), Time(6, "ep")], factors=[0.3, 0.3, 0.3])
    assert factors(ours, 100) == pytest.approx(expected, abs=1e-12)
    uneven = piecewise(at=[Time(2, "ba"), Time(1, "ba")], factors=[0.5, 4.0])
    assert factors(uneven, None, count=4) == [1.0, 4.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="found 2 `at` and 1 `factors`"):
        piecewise(at=[Time(1, "ep"), Time(2, "ep")], factors=[0.1])


@pytest.mark.parametrize("total", [2, 10, 100])  # of 10 a tenth ends at the first update, of 2 before it
@pytest.mark.parametrize("options", [{}, {"pct_start": 0.6, "div_factor": 4.0, "final_div_factor": 100.0}])
def test_one_cycle(total: int, options: dict[str, float]) -> None:
    torch = Reference()
    cycle = torch.kinds.OneCycleLR(torch.optimizer, 1.0, total_steps=total, cycle_momentum=False, **options)
    assert factors(one_cycle(**options), total) == pytest.approx(torch.run(cycle, total), abs=1e-12)


def test_one_cycle_ends() -> None:
    found = factors(one_cycle(pct_start=0.5), 20)
    assert found[0] == pytest.approx(1 / 25) and found[-1] == pytest.approx(1 / 25e4)
    assert found[9] == 1.0 == max(found)
    assert factors(one_cycle(pct_start=0.1), 10)[0] == 1.0  # nothing is left to rise
    assert one_cycle().factor(1000, 20, 10) == pytest.approx(1 / 25e4)


@pytest.mark.parametrize("decay", [Time(30, "ba"), Time(3, "ep"), Time(30, "%")])
def test_warmup_stable_decay(decay: Time) -> None:
    torch = Reference()
    kinds, optimizer = torch.kinds, torch.optimizer
    parts = [torch.ramp(20), kinds.ConstantLR(optimizer, 1.0), kinds.LinearLR(optimizer, 1.0, 0.1, total_iters=30)]
    expected = torch.run(kinds.SequentialLR(optimizer, parts, milestones=[20, 69]), 100)
    ours = warmup_stable_decay(warmup=Time(20, "ba"), decay=decay, floor=0.1)
    assert factors(ours, 100) == pytest.approx(expected, abs=1e-9)


def test_a_decay_does_not_begin_before_the_warmup_ends() -> None:
    found = factors(warmup_stable_decay(warmup=Time(6, "ba"), decay=Time(90, "%")), 11)
    assert found == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 0.75, 0.5, 0.25, 0])


LOSSES = [3.0, 2.0, 2.1, 1.95, 2.2, 2.3, math.nan, 2.1, 1.5, 1.6, 1.7, 1.8, 1.45, 1.9, 1.9, 1.9, 1.9, 1.9, 1.9]


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("min_delta", [0.0, 0.1])
@pytest.mark.parametrize(("monitor", "mode", "sign"), [("valid/loss", "min", 1.0), ("valid/accuracy", "max", -1.0)])
def test_plateau(monitor: str, mode: str, sign: float, min_delta: float, patience: int) -> None:
    torch = Reference()
    theirs = torch.kinds.ReduceLROnPlateau(
        torch.optimizer, mode, 0.5, patience, threshold=min_delta, threshold_mode="abs", min_lr=0.1
    )
    ours = plateau(monitor=monitor, factor=0.5, patience=patience, min_delta=min_delta, floor=0.1)
    position = Position()
    scales = []
    for loss in LOSSES:
        theirs.step(sign * loss)
        ours.after_evaluation(position, sign * loss)
        position = Position(**asdict(position))  # nothing is kept elsewhere
        assert position.lr_scale == pytest.approx(torch.optimizer.param_groups[0]["lr"], abs=1e-15)
        scales.append(position.lr_scale)
    assert scales[0] == 1.0 > scales[-1]
    assert ours.monitor == monitor and factors(ours, None, count=3) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("warmup", [Time(20, "ba"), Time(2, "ep"), Time(20, "%")])
@pytest.mark.parametrize("name", BUILT_IN)
def test_warmup(name: str, warmup: Time) -> None:
    torch = Reference()
    kinds, optimizer = torch.kinds, torch.optimizer
    ramp = torch.ramp(20)
    if name == "step":
        schedule = kinds.ChainedScheduler([ramp, kinds.StepLR(optimizer, 30, gamma=0.3)])
        ours = step(every=Time(30, "ba"), gamma=0.3, warmup=warmup)
    else:
        after, ours = {
            "constant": (kinds.ConstantLR(optimizer, 1.0), constant(warmup=warmup)),
            "cosine": (kinds.CosineAnnealingLR(optimizer, 79), cosine(warmup=warmup)),
            "linear": (kinds.LinearLR(optimizer, 1.0, 0.0, total_iters=79), linear(warmup=warmup)),
        }[name]
        schedule = kinds.SequentialLR(optimizer, [ramp, after], milestones=[20])
    assert factors(ours, 100) == pytest.approx(torch.run(schedule, 100), abs=1e-9)


@pytest.mark.parametrize("make", [cosine, linear, polynomial, warmup_stable_decay])
def test_ends(make: Any) -> None:
    found = factors(make(warmup=Time(10, "ba"), floor=0.05), 60)
    assert found[0] == pytest.approx(0.1)
    assert found[9] == found[10] == 1.0
    assert found[-1] == pytest.approx(0.05)
    assert make(floor=0.05).factor(1000, 60, 10) == pytest.approx(0.05)


@pytest.mark.parametrize("make", [constant, cosine, linear, polynomial, inverse_sqrt, warmup_stable_decay, plateau])
def test_short_runs(make: Any) -> None:
    assert factors(make(), 1) == [1.0]
    assert factors(make(warmup=Time(1, "%")), 5)[0] == 1.0
    assert factors(make(warmup=Time(8, "ba")), 4) == [0.125, 0.25, 0.375, 0.5]
    assert all(f > 0 for f in factors(make(warmup=Time(4, "ba")), 4))


def test_a_period_is_at_least_one_update() -> None:
    assert factors(step(every=Time(0.1, "ep"), gamma=0.5), 3, per_epoch=1) == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("make", [cosine, linear, polynomial, one_cycle, warmup_stable_decay])
def test_unknown_length(make: Any) -> None:
    with pytest.raises(ValueError, match="needs the number of steps: use epochs or steps"):
        make().factor(0, None, 10)


def test_unknown_length_that_does_not_matter() -> None:
    assert factors(constant(warmup=Time(2, "ba")), None, count=3) == [0.5, 1.0, 1.0]
    assert factors(step(every=Time(1, "ep")), None, per_epoch=2, count=4) == pytest.approx([1, 1, 0.1, 0.1])
    with pytest.raises(ValueError, match="`warmup: 5%` needs the number of steps"):
        constant(warmup=Time(5, "%")).factor(0, None, 10)


@pytest.mark.parametrize("name", SCHEDULES)
def test_declared(name: str) -> None:
    entry = SCHEDULES[name]
    assert "Example: " in entry.doc
    assert all(p.name in argument_docs(entry.function.__doc__) for p in params_of(entry))
    assert isinstance(Call(entry, NEEDED.get(name, {}))(), Schedule)
