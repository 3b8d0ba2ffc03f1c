"""Where a network's time goes: a whole call, and each step of its spec, beside what the machine could do."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..backends.base import Backend, load
from ..backends.executable import lower
from ..backends.machine import this_machine
from ..backends.profiling import Segment, repeat
from ..backends.threads import owner
from ..compiler.analysis import id_bounds
from ..compiler.initialisers import generator
from ..compiler.ir import Array, Graph, Origin, Type, input_of
from ..compiler.machine import Machine, Priced, priced, threads_for
from ..compiler.passes import Decided, Model, for_training, freeze
from ..compiler.spec.diagnostics import hint
from ..compiler.spec.reader import Spec
from ..compiler.spec.signatures import BATCH
from ..compiler.structs import Struct
from ..compiler.training import training
from .memory import budgeted
from .model import inference_model
from .specs import UsageError
from .trainer import initial_state

# Steps of a sequence whose length nothing bounds.
LENGTH = 64
# Rows of a batch where the spec does not say.
ROWS = 32
# What is profiled.
TRAINING, PREDICTING = "training", "predicting"
# How long the whole call, and its parts, are looked at.
SECONDS = 0.5


class Subject(Struct):
    """What is timed: a graph, the state that it starts from, and made-up inputs."""

    graph: Graph
    state: Mapping[str, Array]
    feeds: Mapping[str, Array]
    sizes: Mapping[str, int]


def subject(
    spec: Spec,
    weights: Mapping[str, Array],
    train: bool,
    batch: int | None = None,
    sizes: Mapping[str, int] | None = None,
    decided: Decided | None = None,
) -> Subject:
    """A spec's graph that predicts, or its step of training, with inputs of so many rows.

    sizes: those of other named dims; else they are as the inputs are bounded. Raises `UsageError`.
    """
    if train and spec.sections.train is None:
        raise UsageError(f"`{spec.path}` has no `train` section: there is no step of training to look at")
    graph, state = _training(spec) if train else (_predicting(spec, weights, decided), {})
    known = {**(sizes or {}), BATCH: batch or default_batch(spec)}
    unknown = sorted(name for name in graph.names if "." in name)
    if unknown:
        raise UsageError(f"sizes that only the data define are unknown: {', '.join(unknown)}")
    known = {name: known.get(name) or _bound(spec, name) for name in sorted(graph.names)}
    return Subject(graph, state, made_up(spec, graph, known), known)


def check_sizes(spec: Spec, sizes: Mapping[str, int]) -> None:
    """Raise `UsageError` for sizes, asked for by name, of dims that there are not, or beyond what inputs allow."""
    known = frozenset[str]().union(*(signature.type.names for signature in spec.inputs.values())) - {BATCH}
    for name, size in sizes.items():
        if name == BATCH:
            raise UsageError(f"the size of {BATCH} is `--batch`")
        if name not in known:
            raise UsageError(f"`{spec.path}` has no dim `{name}` to size: {hint(name, known)}")
        limits = [limit for s in spec.inputs.values() for dim, limit in s.bounds if dim == name]
        if any(size > limit for limit in limits):
            raise UsageError(f"{name} is {size}, and an input has at most {min(limits)}")


def default_batch(spec: Spec) -> int:
    return spec.sections.train.batch if spec.sections.train else ROWS


def _training(spec: Spec) -> tuple[Graph, Mapping[str, Array]]:
    graphs = training(spec)
    step = graphs.step or graphs.gather
    assert step is not None and spec.sections.train is not None
    graph = for_training(Model(step))[0].graph
    return graph, initial_state([graph], spec.sections.train.seed)


def _predicting(spec: Spec, weights: Mapping[str, Array], decided: Decided | None) -> Graph:
    return freeze(inference_model(spec, weights, True, decided)[0])


def _bound(spec: Spec, dim: str) -> int:
    """The largest size that an input allows for a named dim."""
    bounds = [limit for signature in spec.inputs.values() for name, limit in signature.bounds if name == dim]
    return min(bounds, default=LENGTH)


def made_up(spec: Spec, graph: Graph, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Inputs of the right types: numbers from 0 to 1, ids that the graph has room for, hyper-parameters as at first."""
    rates = {"hyper": np.asarray(1e-3)}
    limits = id_bounds(graph)
    feeds: dict[str, Array] = {}
    for v in graph.by_role("data", "random", "hyper"):
        declared = input_of(v)
        t = declared.t.bind(sizes)
        if declared.role == "hyper":
            feeds[declared.name] = (rates["hyper"] if declared.name.startswith("lr") else np.zeros(())).astype(
                t.dtype.numpy
            )
            continue
        room = limits.get(declared.name) or spec.sizes.get(f"{declared.name}.size") or 2
        feeds[declared.name] = _drawn(declared.name, t, room)
    return feeds


def _drawn(name: str, t: Type, room: int) -> Array:
    rng = generator(0, "profile", name)
    shape = tuple(int(d) for d in t.shape)
    found = rng.random(shape, np.float32) if t.dtype.floating else rng.integers(0, room, shape)
    return found.astype(t.dtype.numpy)


class StepTime(Struct):
    """A step of a spec: the time it took, what it had to do, and the least time that the machine needs for that.

    `seconds` is `None` where a backend does the step's work within another's.
    """

    step: str
    file: str
    line: int
    seconds: float | None
    flops: int
    bytes: int
    floor: float

    @property
    def roofline(self) -> float | None:
        """The share of the machine's speed that was used; `None` where nothing was moved, or nothing is known."""
        return self.floor / self.seconds if self.seconds and self.floor else None


class Profile(Struct):
    """A call of a network in numbers. `outside` are the seconds that no step accounts for: checks, copies, the call."""

    name: str
    task: str
    backend: str
    threads: int
    sizes: Mapping[str, int]
    seconds: float
    calls: int
    steps: tuple[StepTime, ...]
    outside: float
    machine: Machine

    @property
    def parts(self) -> float:
        """The seconds of all parts together: near those of a call, which is timed by itself."""
        return self.outside + sum(step.seconds or 0.0 for step in self.steps)

    @property
    def total(self) -> StepTime:
        """All of the call as one step."""
        flops, size = sum(step.flops for step in self.steps), sum(step.bytes for step in self.steps)
        return StepTime(self.name, "", 0, self.seconds, flops, size, sum(step.floor for step in self.steps))

    def as_json(self) -> dict[str, Any]:
        """The profile for programs to read: all times in seconds."""
        return {
            "name": self.name,
            "task": self.task,
            "backend": self.backend,
            "threads": self.threads,
            "sizes": dict(self.sizes),
            "seconds": self.seconds,
            "calls": self.calls,
            "outside": self.outside,
            "machine": {"measured": self.machine.measured, "about": dict(self.machine.about)},
            "steps": [vars(step) | {"roofline": step.roofline} for step in self.steps],
        }


def profile(spec: Spec, what: Subject, backend: str, task: str, seconds: float = SECONDS) -> Profile:
    """Time a graph's whole call, and each step of its spec; raises `BackendError`."""
    runner, machine = load(backend), this_machine()
    train = spec.sections.train
    if task == TRAINING and train is not None and train.memory is not None:
        what = replace(what, graph=budgeted(what.graph, train, what.sizes, runner).graph)
    graph = lowered(what, runner)
    count = threads_for(graph, machine, runner.name)
    with owner(runner.name, count):
        executable = runner.compile(what.graph, runner.state(what.state))
        times = repeat(lambda: executable(what.feeds), seconds)
        segments = executable.profile(what.feeds, seconds)
    costs = priced(graph, machine, runner.name, count)
    if ":" in backend:
        # Of other devices than the processor nothing is known.
        costs = [replace(cost, floor=0.0) for cost in costs]
    steps = _steps(segments, costs)
    return Profile(
        name=spec.name,
        task=task,
        backend=backend,
        threads=count,
        sizes=what.sizes,
        seconds=statistics.median(times),
        calls=len(times),
        steps=steps,
        outside=sum(segment.seconds for segment in segments if segment.place is None),
        machine=machine,
    )


def lowered(what: Subject, backend: Backend) -> Graph:
    """The ops that a backend runs for a graph at these sizes."""
    return lower(what.graph, what.sizes, backend.native, backend.name)


def _steps(segments: list[Segment], costs: list[Priced]) -> tuple[StepTime, ...]:
    """Times and costs by step, in the order of running; what belongs to no step is left out."""
    places = [*(cost.place for cost in costs), *(segment.place for segment in segments)]
    lined = {place.step: place for place in places if place is not None and place.line}
    found: dict[Origin, StepTime] = {}

    def add(place: Origin, seconds: float | None, flops: int, size: int, floor: float) -> None:
        # What a step needs besides, such as the mean of a loss, has its name and no line.
        home = lined.get(place.step, place) if not place.line else place
        old = found.get(home) or StepTime(home.step, home.file, home.line, None, 0, 0, 0.0)
        both = old.seconds if seconds is None else seconds + (old.seconds or 0.0)
        found[home] = StepTime(
            home.step, home.file, home.line, both, old.flops + flops, old.bytes + size, old.floor + floor
        )

    for cost in costs:
        if cost.place is not None:
            add(cost.place, None, cost.flops, cost.bytes, cost.floor)
    for segment in segments:
        if segment.place is not None:
            add(segment.place, segment.seconds, 0, 0, 0.0)
    # What the loss makes of targets alone may run before the network.
    return tuple(sorted(found.values(), key=lambda step: step.step.startswith("train.")))
