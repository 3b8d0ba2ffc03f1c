"""Schedules, against PyTorch over whole runs, and at their ends."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from trine.compiler.spec.kinds import argument_docs, params_of
from trine.compiler.spec.registry import SCHEDULES, Call
from trine.compiler.spec.sections import Time
from trine.runtime.schedules import Schedule, constant, cosine, linear, step

BUILT_IN = ("constant", "cosine", "linear", "step")


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


@pytest.mark.parametrize("make", [cosine, linear])
def test_ends(make: Any) -> None:
    found = factors(make(warmup=Time(10, "ba"), floor=0.05), 60)
    assert found[0] == pytest.approx(0.1)
    assert found[9] == found[10] == 1.0
    assert found[-1] == pytest.approx(0.05)
    assert make(floor=0.05).factor(1000, 60, 10) == pytest.approx(0.05)


@pytest.mark.parametrize("make", [constant, cosine, linear])
def test_short_runs(make: Any) -> None:
    assert factors(make(), 1) == [1.0]
    assert factors(make(warmup=Time(1, "%")), 5)[0] == 1.0
    assert factors(make(warmup=Time(8, "ba")), 4) == [0.125, 0.25, 0.375, 0.5]
    assert all(f > 0 for f in factors(make(warmup=Time(4, "ba")), 4))


def test_a_period_is_at_least_one_update() -> None:
    assert factors(step(every=Time(0.1, "ep"), gamma=0.5), 3, per_epoch=1) == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("make", [cosine, linear])
def test_unknown_length(make: Any) -> None:
    with pytest.raises(ValueError, match="needs the number of steps: use epochs or steps"):
        make().factor(0, None, 10)


def test_unknown_length_that_does_not_matter() -> None:
    assert factors(constant(warmup=Time(2, "ba")), None, count=3) == [0.5, 1.0, 1.0]
    assert factors(step(every=Time(1, "ep")), None, per_epoch=2, count=4) == pytest.approx([1, 1, 0.1, 0.1])
    with pytest.raises(ValueError, match="`warmup: 5%` needs the number of steps"):
        constant(warmup=Time(5, "%")).factor(0, None, 10)


@pytest.mark.parametrize("name", BUILT_IN)
def test_declared(name: str) -> None:
    entry = SCHEDULES[name]
    assert "Example: " in entry.doc
    assert all(p.name in argument_docs(entry.function.__doc__) for p in params_of(entry))
    given = {"every": Time(1, "ep")} if name == "step" else {}
    assert isinstance(Call(entry, given)(), Schedule)
