"""PyTorch: straight-line source over `torch` and `aten`, forward and backward, without autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...compiler.analysis import dying
from ...compiler.ir import Array, Const, Graph, Input, Item, Value, input_of, order
from ...compiler.ops.optim import Adam, Sgd
from ...compiler.passes import Model
from ..executable import Run, Specialised, lower
from ..source import Writer, hint_of
from . import kernels
from .emit import argument, native, write

__all__ = ["BACKEND", "TorchBackend"]

KERNELS: dict[str, Callable[..., Any]] = {
    name: getattr(kernels, name) for name in ("fold", "max_pool_grad", "batch_norm_train")
}


class TorchState:
    """Named tensors that updates write into."""

    def __init__(self, arrays: Mapping[str, Array], device: torch.device) -> None:
        self.device = device
        self.tensors = {name: torch.tensor(np.asarray(array), device=device) for name, array in arrays.items()}

    def read(self) -> dict[str, Array]:
        return {name: tensor.cpu().numpy().copy() for name, tensor in self.tensors.items()}

    def write(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if tuple(self.tensors[name].shape) != np.shape(array):
                raise ValueError(f"{name}: {tuple(self.tensors[name].shape)} cannot take {np.shape(array)}")
            self.tensors[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))


class TorchExecutable(Specialised):
    """A graph on PyTorch."""

    def __init__(self, graph: Graph, state: TorchState) -> None:
        super().__init__(graph)
        self.state = state

    def specialise(self, sizes: Mapping[str, int]) -> Run:
        lowered = lower(self.graph, sizes, _kept, "torch")
        if not _fusible(lowered):
            lowered = lower(self.graph, sizes, native, "torch")
        return Program(lowered).load(self.state)


def _fusible(graph: Graph) -> bool:
    """Whether optimizer updates do nothing but update state, so that kernels may do it in place."""
    updates = {(name, v) for name, v in graph.updates.items()}
    for v in order(graph.roots):
        if any(isinstance(x.op, Item) and isinstance(x.inputs[0].op, Adam | Sgd) for x in v.inputs):
            return False
        if isinstance(v.op, Adam | Sgd):
            state = [v.inputs[0], *v.inputs[2:-2]]
            if not all(isinstance(x.op, Input) and (x.op.name, Item(i)(v)) in updates for i, x in enumerate(state)):
                return False
    return True


def _kept(value: Value) -> bool:
    """Native ops, and the optimizer updates that have a fused kernel for all parameters at once."""
    return native(value) or isinstance(value.op, Adam | Sgd)


class Program:
    """A lowered graph of fixed sizes as the source of one function."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writer = Writer(reserved=("torch", "F", "math", "device", *KERNELS))
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
        self._write_updates(fused)
        outputs = ", ".join(f"{name!r}: {argument(w, v)}" for name, v in self.graph.outputs.items())
        body = "\n    ".join([*w.lines, f"return {{{outputs}}}"])
        return f"def run({', '.join(w.variables[v] for v in self.fed)}):\n    {body}\n"

    def _write_updates(self, fused: set[Value]) -> None:
        """Copy new state over old, once nothing reads the old; then the fused optimizer kernels."""
        w = self.writer
        pairs = []
        for name, v in self.graph.updates.items():
            if isinstance(v.op, Item) and v.inputs[0] in fused:
                continue
            text = argument(w, v)
            if isinstance(v.op, Input):
                copied = w.names.make("old")
                w.line(f"{copied} = {text}.clone()")
                text = copied
            pairs.append((w.variables[self.graph.input(name)], text))
        for target, text in pairs:
            w.line(f"{target}.copy_({text})")
        groups: dict[tuple[object, ...], list[Value]] = {}
        for v in self.fused:
            groups.setdefault((v.op, *v.inputs[-2:]), []).append(v)
        for members in groups.values():
            self._write_fused(members)

    def _write_fused(self, members: list[Value]) -> None:
        """One kernel call for all parameters that share an optimizer's settings."""
        w, op = self.writer, members[0].op
        columns = [[argument(w, v.inputs[i]) for v in members] for i in range(len(members[0].inputs) - 2)]
        lists = [f"[{', '.join(column)}]" for column in columns]
        lr, step = (argument(w, x) for x in members[0].inputs[-2:])
        if isinstance(op, Adam):
            kernel = "_fused_adamw_" if op.decoupled else "_fused_adam_"
            # The kernels count steps from one, in a tensor for each parameter.
            w.line(f"steps = [torch.full((), float({step}) + 1.0)] * {len(members)}")
            w.line(
                f"torch.ops.aten.{kernel}({', '.join(lists)}, [], steps, lr=float({lr}), beta1={op.beta1!r}, "
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

    def load(self, state: TorchState) -> Run:
        """The function, with its constants and state in place; arrays in, arrays out."""
        device = state.device
        namespace: dict[str, Any] = {"torch": torch, "F": F, "math": math, "device": device, **KERNELS}
        for name, array in self.writer.constants.items():
            namespace[name] = torch.tensor(array, device=device)
        for v in self.state:
            namespace[self.writer.variables[v]] = state.tensors[input_of(v).name]
        # The source is our own: names are made by `Names`, everything else is a number or a table's text.
        exec(compile(self.source, f"<{self.graph.name} on torch>", "exec"), namespace)
        function = namespace["run"]

        def run(*arrays: Array) -> dict[str, Array]:
            with torch.no_grad():
                found = function(
                    *(torch.from_numpy(np.ascontiguousarray(a).reshape(a.shape)).to(device) for a in arrays)
                )
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
        raise NotImplementedError

    def source(self, model: Model) -> str:
        return Program(lower(model.graph, {}, _kept, "torch")).source


BACKEND = TorchBackend()
