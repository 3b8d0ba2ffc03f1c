"""What a backend is, and how one is loaded by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Protocol

from ..compiler.ir import Array, Graph, Value
from ..compiler.passes import Model
from ..compiler.structs import Struct
from . import pages, threads
from .profiling import Segment

NAMES = ("numpy", "torch", "onnx")


class State(Protocol):
    """Parameters, buffers and optimizer slots in a backend's own arrays, shared by executables."""

    def read(self) -> dict[str, Array]:
        """A copy of every array, as NumPy has them."""

    def write(self, arrays: Mapping[str, Array]) -> None:
        """Set arrays by name; raises `KeyError` for a name and `ValueError` for a shape it has not."""


class Executable(Protocol):
    """A graph that runs: feeds in, outputs out; what the graph updates changes in its state."""

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...

    def profile(self, feeds: Mapping[str, Array], seconds: float) -> list[Segment]:
        """What a call spends on each step of the spec, by calls that go on for about so many seconds together."""


class Measured(Struct):
    """Of `Machine`, what is a backend's own: `spread` where its threads are not those of NumPy, and `packed`."""

    spread: float | None = None
    packed: Mapping[str, float] = field(default_factory=dict)


class Backend(Protocol):
    """Turns graphs into something that runs, or into a file that does."""

    @property
    def name(self) -> str: ...

    @property
    def plans_memory(self) -> bool:
        """Whether a run keeps what `memory` says, and computes again what its graph does: no compiler in between."""

    def memory(self, graph: Graph) -> int:
        """The bytes of activations that a run of a lowered graph, of known sizes, keeps at most at one time."""

    def native(self, value: Value) -> bool:
        """Whether the backend runs this value's op as it is; otherwise it is decomposed."""

    def kernel(self, value: Value) -> str:
        """Which of several kernels is chosen for a value of known sizes; nothing where there is no choice."""

    def state(self, arrays: Mapping[str, Array]) -> State:
        """Take arrays in, copying them."""

    def compile(self, graph: Graph, state: State) -> Executable:
        """Make a graph run on `state`, which holds its parameters and buffers by name."""

    def export(self, model: Model, path: Path, notes: Mapping[str, str]) -> None:
        """Write the model as a file that runs without trine; `notes` go into its heading."""

    def source(self, model: Model) -> str:
        """What the model runs as, for people to read."""

    def measured(self, seconds: float, threads: int) -> Measured:
        """What this backend's own library makes of the machine, on one thread and on so many, by timing each kernel
        for about so long."""


class BackendError(RuntimeError):
    """A backend that does not exist, or whose packages are not installed."""


def first_line(error: BaseException) -> str:
    """The name of an error's type, and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def load(text: str) -> Backend:
    """The backend called `numpy`, `torch` or `onnx`, imported on demand.

    `torch:cuda` names a device, `torch:compile` has its programs compiled by `torch.compile`. Raises `BackendError`.
    """
    name, _, options = text.partition(":")
    if name not in NAMES:
        raise BackendError(f"there is no backend `{name}`: expected {' or '.join(f'`{n}`' for n in NAMES)}")
    if options and name != "torch":
        raise BackendError(
            f"the backend `{name}` has no `:{options}`: only `torch` has such, as `torch:cuda` or `torch:compile`"
        )
    try:
        module = importlib.import_module(f".{name}", __package__)
    except ImportError as error:
        raise BackendError(
            f"the backend `{name}` needs the package `{error.name}`: pip install 'trine[{name}]'"
        ) from error
    threads.loaded(name)
    pages.keep()
    backend: Backend = module.with_options(options) if options else module.BACKEND
    return backend
