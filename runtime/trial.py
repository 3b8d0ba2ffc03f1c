"""Trying a network in bfloat16 on training rows: what it gains, and how far it is from float32."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..backends.base import Executable, load
from ..backends.executable import sizes_of
from ..backends.machine import width
from ..backends.threads import owner
from ..compiler.ir import Array, Type, input_of
from ..compiler.passes import Decided, freeze
from ..compiler.passes.precision import in_bfloat16, narrow_kernels, precision, steps_of
from ..compiler.spec.reader import Spec
from ..compiler.spec.registry import Call
from ..compiler.structs import Struct
from .model import inference_model
from .specs import UsageError

# How many rows are tried, and how often each network is timed on them.
ROWS = 256
CALLS = 9
# A step is in bfloat16 if the network is slower by more than this share without it there.
GAIN = 0.01


class Tried(Struct):
    """What was decided, and the seconds of a call in float32 and of one as decided, on the rows that were tried.

    why: why no step is in bfloat16, where none is; or why nothing is gained by it, where it was asked for.
    """

    decided: Decided
    before: float
    after: float
    why: str = ""


NO_PRODUCTS = "no step has products"
NO_GAIN = "no step gains by bfloat16"
NO_KERNELS = "nothing is gained by bfloat16 on this machine, which computes it in float32 and rounds"
TOO_FAR = "any step in bfloat16 puts outputs further off than `precision` allows"


def decide(spec: Spec, weights: Mapping[str, Array], call: Call, arrays: Mapping[str, Array]) -> Tried:
    """Which steps of a network are in bfloat16, by what the pass `precision` is asked for; `arrays` are training rows.

    PyTorch is what is tried. Raises `UsageError` where all of it must be, and outputs differ by more than the bound.
    """
    trial = Trial(spec, weights, arrays)
    wanted, bound = str(call.args.get("to", "bf16")), float(call.args.get("bound", 0.01))
    with owner("torch", trial.threads):
        if not trial.steps:
            return trial.none(NO_PRODUCTS)
        own = trial.has_kernels
        if wanted == "auto":
            return trial.chosen(bound) if own else trial.none(NO_KERNELS)
        found = trial.tried(trial.steps)
        if not found.decided.error <= bound:
            raise UsageError(_too_far(found.decided, bound, trial.errors_without(trial.steps)), call.span)
    return found if own else replace(found, why=NO_KERNELS)


def _too_far(found: Decided, bound: float, without: Mapping[str, float]) -> str:
    worst = min(without, key=without.__getitem__)
    return (
        f"in bfloat16, outputs are up to {_percent(found.error)} of the largest from what they are in float32, on "
        f"{found.rows} training rows: `precision` allows {_percent(bound)}. `{worst}` errs the most: without it there "
        f"it would be {_percent(without[worst])}. `precision: {{to: auto, bound: {bound:g}}}` leaves out such steps"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


class Trial:
    """A network and rows to try it on, with some steps in bfloat16, on PyTorch."""

    def __init__(self, spec: Spec, weights: Mapping[str, Array], arrays: Mapping[str, Array]) -> None:
        self.model, _ = inference_model(spec, weights)
        names = [input_of(v).name for v in self.model.graph.by_role("data")]
        self.feeds = {name: arrays[name][:ROWS] for name in names}
        self.steps = tuple(steps_of(self.model.graph))
        self.backend = load("torch")
        self.threads = width(self.model.graph, sizes_of(self.types, self.feeds), "torch")
        self.plain = self._ready(())
        self.exact = self.plain(self.feeds)

    @property
    def types(self) -> dict[str, Type]:
        return {input_of(v).name: v.type for v in self.model.graph.by_role("data")}

    def _ready(self, steps: Collection[str]) -> Executable:
        """The network with these steps in bfloat16, compiled and run once."""
        model = precision(self.model, Decided(tuple(steps))) if steps else self.model
        executable = self.backend.compile(freeze(model), self.backend.state({}))
        executable(self.feeds)
        return executable

    @property
    def has_kernels(self) -> bool:
        """Whether PyTorch has products in bfloat16 on this machine."""
        return narrow_kernels(in_bfloat16(self.model.graph, self.steps), self.backend.native)

    def error(self, executable: Executable) -> float:
        """The largest difference of an output from float32, as a share of the largest of its numbers."""
        outputs = executable(self.feeds)
        return max([0.0, *(share_off(outputs[n], exact) for n, exact in self.exact.items() if exact.dtype.kind == "f")])

    def seconds(self, executables: Sequence[Executable]) -> list[float]:
        """The median time of a call of each, by turns: what disturbs one disturbs all."""
        times: list[list[float]] = [[] for _ in executables]
        for _ in range(CALLS):
            for own, executable in zip(times, executables, strict=True):
                begun = time.perf_counter()
                executable(self.feeds)
                own.append(time.perf_counter() - begun)
        return [statistics.median(own) for own in times]

    def errors_without(self, steps: Sequence[str]) -> dict[str, float]:
        """The error that is left when one of these steps is in float32, by step."""
        return {step: self.error(self._ready([s for s in steps if s != step])) for step in steps}

    def chosen(self, bound: float) -> Tried:
        """What the steps that gain by bfloat16 come to, without those that err the most where all err too much."""
        gaining = self.gaining()
        if not gaining:
            return self.none(NO_GAIN)
        steps = self.within(bound, gaining)
        if not steps:
            return self.none(TOO_FAR)
        found = self.tried(steps)
        return found if found.after < found.before else self.none(NO_GAIN)

    def gaining(self) -> list[str]:
        """The steps without which in bfloat16 the network is slower, each tried by itself."""
        whole = self._ready(self.steps)
        found = []
        for step in self.steps:
            before, without = self.seconds([whole, self._ready([s for s in self.steps if s != step])])
            if without > (1 + GAIN) * before:
                found.append(step)
        return found

    def within(self, bound: float, steps: Sequence[str]) -> tuple[str, ...]:
        """These steps, but for those that err the most where all together err too much."""
        kept = list(steps)
        if self.error(self._ready(kept)) <= bound:
            return tuple(kept)
        left = self.errors_without(kept)
        for step in sorted(kept, key=left.__getitem__):
            kept.remove(step)
            if self.error(self._ready(kept)) <= bound:
                break
        return tuple(kept)

    @property
    def rows(self) -> int:
        return len(next(iter(self.feeds.values())))

    def tried(self, steps: Sequence[str]) -> Tried:
        """What these steps in bfloat16 come to."""
        narrow = self._ready(steps)
        before, after = self.seconds([self.plain, narrow])
        return Tried(Decided(tuple(steps), self.error(narrow), self.rows), before, after)

    def none(self, why: str) -> Tried:
        """The network as it is, and why."""
        (before,) = self.seconds([self.plain])
        return Tried(Decided((), 0.0, self.rows), before, before, why)


def share_off(found: Array, exact: Array) -> float:
    """The largest difference as a share of the largest finite number; infinite where what is not finite differs."""
    finite = np.isfinite(exact)
    if not np.array_equal(finite, np.isfinite(found)) or not np.array_equal(
        found[~finite], exact[~finite], equal_nan=True
    ):
        return math.inf
    if not finite.any():
        return 0.0
    largest = max(float(np.abs(exact[finite]).max()), 1e-30)
    return float(np.abs(found[finite] - exact[finite]).max()) / largest
