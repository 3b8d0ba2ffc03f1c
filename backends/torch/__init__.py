"""PyTorch: straight-line source over `torch` and `aten`, forward and backward, without autograd."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...compiler.analysis import peak_memory
from ...compiler.ir import Array, Graph, Input, Item, Value, order
from ...compiler.ops.optim import Adam, Sgd
from ...compiler.passes import Model
from ..base import BackendError, Measured, first_line
from ..executable import Run, Specialised, lower
from ..machine import width
from ..profiling import Clock
from . import export as exporting
from .beside import beside
from .crossing import crossings, spread
from .emit import native
from .packed import has_bfloat16, kernel_of
from .program import Layouts, Program, tensor_of

__all__ = ["BACKEND", "TorchBackend"]


class TorchState:
    """Named tensors that updates write into."""

    def __init__(self, arrays: Mapping[str, Array], device: torch.device) -> None:
        self.device = device
        self.tensors = {name: tensor_of(np.array(a, order="C")).to(device) for name, a in arrays.items()}

    def read(self) -> dict[str, Array]:
        return {name: tensor.cpu().numpy().copy() for name, tensor in self.tensors.items()}

    def write(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if tuple(self.tensors[name].shape) != np.shape(array):
                raise ValueError(f"{name}: {tuple(self.tensors[name].shape)} cannot take {np.shape(array)}")
            self.tensors[name].copy_(tensor_of(np.asarray(array)))


class TorchExecutable(Specialised):
    """A graph on PyTorch."""

    def __init__(self, graph: Graph, state: TorchState, compiled: bool = False) -> None:
        super().__init__(graph)
        self.state, self.compiled = state, compiled
        self.layouts = Layouts(state.device)

    def specialise(self, sizes: Mapping[str, int], clock: Clock | None = None) -> Run:
        # The clock between steps is not for compilers, which move them.
        compiled = self.compiled and clock is None
        # What oneDNN fuses and lays out, compilers do in their own way; optimizers, too, they fuse with the rest.
        cpu = _has_onednn(self.state.device) and not compiled
        own = partial(native if compiled else _kept, cpu=cpu, bfloat16=_has_bfloat16(self.state.device))
        lowered = lower(self.graph, sizes, own, "torch")
        if not compiled and not _fusible(lowered):
            lowered = lower(self.graph, sizes, partial(native, **own.keywords), "torch")
        run = Program(lowered, cpu).load(self.state.tensors, self.state.device, self.layouts, clock, compiled)
        return on_threads(run, width(self.graph, sizes, "torch")) if self.state.device.type == "cpu" else run


def on_threads(run: Run, count: int) -> Run:
    """A program on at most so many of PyTorch's threads; afterwards there are as many as before.

    Threads that wait for each other cost more than small ops take.
    """

    def narrowed(*arrays: Array) -> dict[str, Array]:
        before = torch.get_num_threads()
        if before <= count:
            return run(*arrays)
        torch.set_num_threads(count)
        try:
            return run(*arrays)
        finally:
            torch.set_num_threads(before)

    return narrowed


def _has_onednn(device: torch.device) -> bool:
    """Whether a device's kernels include those of oneDNN, which not every build of PyTorch has."""
    return device.type == "cpu" and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _has_bfloat16(device: torch.device) -> bool:
    """Tell whether products in bfloat16 are a device's own: elsewhere they are float32's, rounded."""
    return has_bfloat16() if _has_onednn(device) else device.type != "cpu"


def _fusible(graph: Graph) -> bool:
    """Whether optimizer updates do nothing but update state, so that kernels may do it in place."""
    made = {(name, v) for name, v in graph.updates.items() if _is_new_state(v)}
    expected: set[tuple[str, Value]] = set()
    for v in order(graph.roots):
        if any(_is_new_state(x) for x in v.inputs):
            return False
        if isinstance(v.op, Adam | Sgd):
            state = [v.inputs[0], *v.inputs[2:-2]]
            expected |= {(x.op.name, Item(i)(v)) for i, x in enumerate(state) if isinstance(x.op, Input)}
            if len({x.op.name for x in state if isinstance(x.op, Input)}) < len(state):
                return False
    return made == expected and not any(map(_is_new_state, graph.outputs.values()))


def _is_new_state(v: Value) -> bool:
    return isinstance(v.op, Item) and isinstance(v.inputs[0].op, Adam | Sgd)


def _kept(value: Value, cpu: bool = True, bfloat16: bool = True) -> bool:
    """Native ops, and the optimizer updates that have a fused kernel for all parameters at once."""
    return native(value, cpu, bfloat16) or isinstance(value.op, Adam | Sgd)


class TorchBackend:
    """The PyTorch backend, on a device; `compiled` by `torch.compile`, where that gives the same numbers."""

    name = "torch"

    def __init__(self, device: str = "cpu", compiled: bool = False) -> None:
        self.device, self.compiled = torch.device(device), compiled

    @property
    def plans_memory(self) -> bool:
        return not self.compiled

    def memory(self, graph: Graph) -> int:
        return peak_memory(graph, {}, beside=beside if _has_onednn(self.device) else None)

    def native(self, value: Value) -> bool:
        return _kept(value, _has_onednn(self.device), _has_bfloat16(self.device))

    def kernel(self, value: Value) -> str:
        return kernel_of(value) if _has_onednn(self.device) and not self.compiled else ""

    def state(self, arrays: Mapping[str, Array]) -> TorchState:
        return TorchState(arrays, self.device)

    def compile(self, graph: Graph, state: Any) -> TorchExecutable:
        assert isinstance(state, TorchState)
        return TorchExecutable(graph, state, self.compiled)

    def export(self, model: Model, path: Path, notes: Mapping[str, str]) -> None:
        """Write an `nn.Module` that needs PyTorch and safetensors alone, its weights beside it."""
        exporting.export(model, path, notes)

    def source(self, model: Model) -> str:
        return Program(lower(model.graph, {}, _kept, "torch")).source

    def measured(self, seconds: float, threads: int) -> Measured:
        return Measured(spread(seconds, threads), crossings(seconds) if _has_onednn(self.device) else {})


BACKEND = TorchBackend()
COMPILE = "compile"


def with_options(options: str) -> TorchBackend:
    """The backend on a device such as `cuda`, with `compile`, or both; raises `BackendError` for no such device."""
    words = options.split(":")
    device = ":".join(word for word in words if word != COMPILE) or "cpu"
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"PyTorch finds no device `{device}` here: {first_line(error)}") from error
    return TorchBackend(device, COMPILE in words)
