"""PyTorch: straight-line source over `torch` and `aten`, forward and backward, without autograd."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...compiler.analysis import dying
from ...compiler.ir import Array, Const, Graph, Input, Item, Value, input_of, order
from ...compiler.ops import conv, elementwise, reduce, shape
from ...compiler.ops.optim import Adam, Sgd
from ...compiler.passes import Model
from ..base import BackendError
from ..executable import Run, Specialised, lower
from ..profiling import Clock
from ..source import Writer, hint_of
from . import export as exporting
from .emit import argument, native, write
from .kernels import FUNCTIONS

__all__ = ["BACKEND", "TorchBackend"]

# Ops whose result may be a view of their first input.
_VIEWS = (
    shape.Reshape, shape.Transpose, shape.BroadcastTo, shape.Slice, shape.Split, shape.Pad, elementwise.Cast,
    reduce.Sum, reduce.Mean, conv.Windows, Item,
)  # fmt: skip


def tensor_of(array: Array) -> torch.Tensor:
    """The array as a tensor, without a copy where torch can read it as it is."""
    plain = np.asarray(array, order="C")
    return torch.from_numpy(plain if plain.flags.writeable else plain.copy())


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

    def __init__(self, graph: Graph, state: TorchState) -> None:
        super().__init__(graph)
        self.state = state

    def specialise(self, sizes: Mapping[str, int], clock: Clock | None = None) -> Run:
        lowered = lower(self.graph, sizes, _kept, "torch")
        if not _fusible(lowered):
            lowered = lower(self.graph, sizes, native, "torch")
        return Program(lowered).load(self.state, clock)


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


def _kept(value: Value) -> bool:
    """Native ops, and the optimizer updates that have a fused kernel for all parameters at once."""
    return native(value) or isinstance(value.op, Adam | Sgd)


class Program:
    """A lowered graph of fixed sizes as the source of one function."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writer = Writer(reserved=("torch", "F", "math", "device", *FUNCTIONS))
        self.fed = [v for v in graph.inputs if input_of(v).role not in ("param", "buffer")]
        self.state = [v for v in graph.inputs if input_of(v).role in ("param", "buffer")]
        self.fused = [v for v in order(graph.roots) if isinstance(v.op, Adam | Sgd)]
        self.source = self._write()

    def _write(self) -> str:
        w = self.writer
        for v in (*self.fed, *self.state):
            w.variables[v] = w.names.make(input_of(v).name)
        fused = set(self.fused)
        values = [
            v
            for v in order(self.graph.roots)
            if not isinstance(v.op, Input | Const)
            and v not in fused
            and not (isinstance(v.op, Item) and v.inputs[0] in fused)
        ]
        known = set(values)
        dead = dying(values, [*self.graph.roots, *(x for v in self.fused for x in v.inputs)])
        for v in values:
            w.heading(v.origin)
            text = write(w, v)
            w.variables[v] = w.names.make(hint_of(v))
            w.line(f"{w.variables[v]} = {text}")
            gone = [w.variables[x] for x in dead[v] if x in known]
            if gone:
                w.line(f"del {', '.join(gone)}")
        outputs = ", ".join(f"{name!r}: {self._old(v)}" for name, v in self.graph.outputs.items())
        self._write_updates(fused)
        body = "\n    ".join([*w.lines, f"return {{{outputs}}}"])
        return f"def run({', '.join(w.variables[v] for v in self.fed)}):\n    {body}\n"

    def _write_updates(self, fused: set[Value]) -> None:
        """Copy new state over old, once nothing reads the old; then the fused optimizer kernels."""
        w = self.writer
        pairs = []
        for name, v in self.graph.updates.items():
            if isinstance(v.op, Item) and v.inputs[0] in fused:
                continue
            pairs.append((w.variables[self.graph.input(name)], self._old(v)))
        grads = {v: f"{self._old(v.inputs[1])}.contiguous()" for v in self.fused}  # the kernels take no strides
        for target, text in pairs:
            w.line(f"{target}.copy_({text})")
        groups: dict[tuple[object, ...], list[Value]] = {}
        for v in self.fused:
            groups.setdefault((v.op, v.inputs[0].dtype, *v.inputs[-2:]), []).append(v)
        for members in groups.values():
            self._write_fused(members, [grads[v] for v in members])

    def _old(self, v: Value) -> str:
        """A value's variable; that of a copy where it may be a view of state that is about to change."""
        text, base = argument(self.writer, v), v
        while isinstance(base.op, _VIEWS):
            base = base.inputs[0]
        if not isinstance(base.op, Input) or base.op.name not in self.graph.updates:
            return text
        copied = self.writer.names.make("old")
        self.writer.line(f"{copied} = {text}.clone()")
        return copied

    def _write_fused(self, members: list[Value], grads: list[str]) -> None:
        """One kernel call for all parameters that share an optimizer's settings."""
        w, op = self.writer, members[0].op
        count = len(members[0].inputs) - 2
        columns = [grads if i == 1 else [argument(w, v.inputs[i]) for v in members] for i in range(count)]
        lists = [f"[{', '.join(column)}]" for column in columns]
        lr, step = (argument(w, x) for x in members[0].inputs[-2:])
        if isinstance(op, Adam):
            kernel = "_fused_adamw_" if op.decoupled else "_fused_adam_"
            # The kernels count steps from one, in a tensor for each parameter.
            steps = w.names.make("steps")
            w.line(f"{steps} = [torch.full((), float({step}) + 1.0, device=device)] * {len(members)}")
            w.line(
                f"torch.ops.aten.{kernel}({', '.join(lists)}, [], {steps}, lr=float({lr}), beta1={op.beta1!r}, "
                f"beta2={op.beta2!r}, weight_decay={op.decay!r}, eps={op.eps!r}, amsgrad=False, maximize=False)"
            )
            return
        assert isinstance(op, Sgd)
        momenta = lists[2] if op.momentum else "[]"
        w.line(
            f"torch.ops.aten._fused_sgd_({lists[0]}, {lists[1]}, {momenta}, weight_decay={op.decay!r}, "
            f"momentum={op.momentum!r}, lr=float({lr}), dampening=0.0, nesterov={op.nesterov}, "
            "maximize=False, is_first_step=False)"
        )

    def load(self, state: TorchState, clock: Clock | None = None) -> Run:
        """The function, with its constants and state in place; arrays in, arrays out."""
        device = state.device
        namespace: dict[str, Any] = {"torch": torch, "F": F, "math": math, "device": device, **FUNCTIONS}
        for name, array in self.writer.constants.items():
            namespace[name] = torch.tensor(array, device=device)
        for v in self.state:
            namespace[self.writer.variables[v]] = state.tensors[input_of(v).name]
        if clock is not None and device.type == "cuda":
            clock.wait = torch.cuda.synchronize
        source = self.source if clock is None else clock.marked(self.source, self.writer.headings, namespace)
        # The source is our own: names are made by `Names`, everything else is a number or a table's text.
        exec(compile(source, f"<{self.graph.name} on torch>", "exec"), namespace)
        function = namespace["run"]

        def run(*arrays: Array) -> dict[str, Array]:
            with torch.no_grad():
                found = function(*(tensor_of(a).to(device) for a in arrays))
                return {name: tensor.cpu().numpy().copy() for name, tensor in found.items()}

        return run


class TorchBackend:
    """The PyTorch backend."""

    name = "torch"

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)

    def native(self, value: Value) -> bool:
        return _kept(value)

    def state(self, arrays: Mapping[str, Array]) -> TorchState:
        return TorchState(arrays, self.device)

    def compile(self, graph: Graph, state: Any) -> TorchExecutable:
        assert isinstance(state, TorchState)
        return TorchExecutable(graph, state)

    def export(self, model: Model, path: Path, notes: Mapping[str, str]) -> None:
        """Write an `nn.Module` that needs PyTorch and safetensors alone, its weights beside it."""
        exporting.export(model, path, notes)

    def source(self, model: Model) -> str:
        return Program(lower(model.graph, {}, _kept, "torch")).source


BACKEND = TorchBackend()


def on_device(device: str) -> TorchBackend:
    """The backend on a device such as `cuda`; raises `BackendError` where there is none."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"PyTorch finds no device `{device}` here: {str(error).splitlines()[0]}") from error
    return TorchBackend(device)
