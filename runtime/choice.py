"""`auto`: the backend that runs a network's own graph in the least time, found by trying each that is installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..backends.base import NAMES, load
from ..backends.executable import sizes_of
from ..backends.machine import width
from ..backends.threads import owner
from ..compiler.ir import Array
from ..compiler.spec.reader import Spec
from ..compiler.structs import Struct
from .artefacts import open_artefact
from .profile import Subject, default_batch, subject

AUTO = "auto"
# For all backends together, compiling and loading left out.
SECONDS = 2.0
CALLS = 50


class Choice(Struct):
    """A backend, and the seconds of a call on each that ran."""

    backend: str
    seconds: Mapping[str, float]

    @property
    def words(self) -> str:
        figures = ", ".join(f"{name} {1000 * seconds:.3g} ms" for name, seconds in self.seconds.items())
        return f"backend {self.backend}: {figures}"


def choose(what: Subject) -> Choice:
    """Time a few calls on every backend that is installed and can run the graph."""
    found = {name: seconds for name in NAMES if (seconds := _seconds(name, what)) is not None}
    return Choice(min(found, key=found.__getitem__), found)


def _seconds(name: str, what: Subject) -> float | None:
    """The shortest of a few calls; `None` where the backend is not there or cannot run this."""
    try:
        backend = load(name)
        with owner(name, width(what.graph, what.sizes, name)):
            executable = backend.compile(what.graph, backend.state(what.state))
            executable(what.feeds)
            return _shortest(lambda: executable(what.feeds), SECONDS / len(NAMES))
    except Exception:
        # Of libraries that fail in ways of their own; NumPy can run every graph, and its faults are ours.
        if name == "numpy":
            raise
        return None


def _shortest(call: Callable[[], object], seconds: float) -> float:
    begun = time.perf_counter()
    found: list[float] = []
    while not found or (time.perf_counter() - begun < seconds and len(found) < CALLS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def for_training(spec: Spec, arrays: Mapping[str, Array]) -> Choice:
    """The backend for training a spec on rows such as these: it is tried on a batch of their size."""
    lengths = sizes_of({name: signature.type for name, signature in spec.inputs.items()}, arrays)
    return choose(subject(spec, {}, True, default_batch(spec), lengths))


def for_artefact(path: str | Path) -> Choice:
    """The backend for predicting with a trained model, in batches as it is evaluated."""
    found = open_artefact(path)
    batch = found.spec.sections.evaluate.batch
    return choose(subject(found.spec, found.weights, False, batch, decided=found.decided))


def backend_for(path: str | Path, backend: str) -> str:
    """The backend to run a trained model on: the one that is named, or for `auto` the fastest."""
    return for_artefact(path).backend if backend == AUTO else backend
