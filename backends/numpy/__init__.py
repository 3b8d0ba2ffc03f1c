"""NumPy: straight-line source over `np.*`, in buffers laid out once by liveness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...compiler.analysis import Buffer, elementwise, last_uses, pack, peak_memory
from ...compiler.ir import Array, Const, Graph, Input, Item, Type, Value, input_of, order
from ...compiler.ops import kernels as primitive_kernels
from ...compiler.ops import linalg
from ...compiler.passes import Model
from .. import recurrent
from ..base import Measured
from ..executable import Run, Specialised, lower
from ..profiling import Clock
from ..source import Writer, hint_of
from ..standing import Standing
from . import kernels, layout, pooling, rows, sequences, together, updates
from .emit import EMIT, WORK, is_view, kernel_of, kind_of, native, write, written_over

__all__ = ["BACKEND", "NumpyBackend"]

KERNELS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name)
    for module in (primitive_kernels, kernels, pooling, rows, updates, recurrent, sequences)
    for name in vars(module)
    if callable(getattr(module, name)) and getattr(getattr(module, name), "__module__", "") == module.__name__
}


class NumpyState:
    """Named arrays that updates write into: an array stays the same object for good."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = together.side_by_side(arrays)

    def read(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in self.arrays.items()}

    def write(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if self.arrays[name].shape != np.shape(array):
                raise ValueError(f"{name}: {self.arrays[name].shape} cannot take {np.shape(array)}")
            np.copyto(self.arrays[name], array)


class NumpyExecutable(Specialised):
    """A graph on NumPy."""

    def __init__(self, graph: Graph, state: NumpyState) -> None:
        super().__init__(graph)
        self.state = state

    def source(self, sizes: Mapping[str, int]) -> str:
        """The Python source that runs at the given sizes."""
        return Program(self._lowered(sizes)).source

    def specialise(self, sizes: Mapping[str, int], clock: Clock | None = None) -> Run:
        function = Program(self._lowered(sizes)).load(self.state.arrays, clock)

        def run(*arrays: Array) -> dict[str, Array]:
            # Whoever reads the numbers judges them; the other backends do not warn either.
            with np.errstate(all="ignore"):
                return function(*arrays)

        return run

    def _lowered(self, sizes: Mapping[str, int]) -> Graph:
        return lower(self.graph, sizes, native, "numpy")


class Program:
    """A lowered graph of fixed sizes as the source of one function, and the buffers it writes into."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        values = [v for v in order(graph.roots) if not isinstance(v.op, Input | Const)]
        self.together = together.alike(graph, values, _base)
        self.values = _with_last(values, [v for group in self.together for v in group])
        self.writer = Writer(reserved=("np", "run", WORK, *KERNELS))
        self.last = last_uses([*graph.inputs, *self.values], graph.roots, _is_view)
        self.place = {v: i for i, v in enumerate([*graph.inputs, *self.values])}
        self.fed = [v for v in graph.inputs if input_of(v).role not in ("param", "buffer")]
        self.state = [v for v in graph.inputs if input_of(v).role in ("param", "buffer")]
        self.updates = [(v, graph.input(name)) for name, v in graph.updates.items()]
        self.in_place: dict[Value, Value] = {}
        self.groups: dict[str, list[Value]] = {}
        self.last_channels = layout.channels_last(self.values)
        self.offsets, self.size = self._plan()
        self.buffers: dict[str, tuple[int, Type, bool]] = {}
        self.standing = Standing()
        self.function = self._write()
        self.source = "\n".join([*self.writer.before, self.function])

    def _plan(self) -> tuple[dict[Value, int], int]:
        """Where in the arena each value goes. What leaves the function is not in the arena."""
        leaves = {_base(v) for v in self.graph.roots}
        self.over: dict[Value, Value] = {}
        owners: dict[Value, Buffer] = {}
        for v in self.values:
            if kind_of(v) not in ("ufunc", "into") or v in leaves or isinstance(v.type_, tuple):
                continue
            reused = self._reusable(v, owners)
            if reused is not None:
                self.over[v] = reused
                owner = self._owner(v)
                owners[owner] = Buffer(owners[owner].first, max(owners[owner].last, self.last[v]), owners[owner].size)
            else:
                owners[v] = Buffer(self.place[v], self.last[v], v.type.nbytes())
        own = owners.keys() - self.last_channels
        self.together = [[v for v in group if self._own_gradient(v) in own] for group in self.together]
        return _packed(owners, [[self._own_gradient(v) for v in group] for group in self.together])

    def _own_gradient(self, v: Value) -> Value:
        """The value whose buffer the gradient of an update has."""
        return self._owner(together.gradient(v))

    def _owner(self, v: Value) -> Value:
        while v in self.over:
            v = self.over[v]
        return v

    def _reusable(self, v: Value, owners: Mapping[Value, Buffer]) -> Value | None:
        """An input that dies here and whose buffer a ufunc may write over."""
        if kind_of(v) != "ufunc":
            return None
        for x in v.inputs[:1] if isinstance(v.op, linalg.WriteSlice) else v.inputs:
            mine = x in owners or x in self.over
            alike = x.type == v.type and (x in self.last_channels) == (v in self.last_channels)
            if mine and alike and self.last[x] == self.place[v]:
                return x
        return None

    def _write(self) -> str:
        w = self.writer
        for v in (*self.fed, *self.state):
            w.variables[v] = w.names.make(input_of(v).name)
        for v in self.state:
            self.standing.keep(v)
        grouped = {v for group in self.together for v in group}
        for v in self.values:
            if v in grouped or (isinstance(v.op, Item) and v.inputs[0] in grouped):
                continue
            if is_view(v) and self.standing.view(v):
                text = write(w, v, None)
                w.variables[v] = w.names.make(hint_of(v))
                w.before.append(f"{w.variables[v]} = {text}")
                continue
            w.heading(v.origin)
            target = self._target(v)
            if target in self.buffers and v not in self.last_channels:
                self.standing.keep(v)
            text = self._update(v) if kind_of(v) == "state" else write(w, v, target)
            w.variables[v] = target or w.names.make(hint_of(v))
            if text != w.variables[v]:
                w.line(f"{w.variables[v]} = {text}" if target is None else text)
        for group in self.together:
            self._write_together(group)
        self._copy_old_state()
        self._write_updates()
        arguments = ", ".join(w.variables[v] for v in self.fed)
        body = "\n    ".join([*w.lines, f"return {{{self._outputs()}}}"])
        return f"def run({arguments}):\n    {body}\n"

    def _update(self, v: Value) -> str:
        """An op that writes over what it updates: the state itself where nothing else needs it, otherwise copies."""
        w, changed = self.writer, written_over(v)
        items = {u.op.index: s for u, s in self.updates if isinstance(u.op, Item) and u.inputs[0] is v}
        owned = all(items.get(i) is x and self.last[x] <= self.place[v] for i, x in enumerate(changed))
        if owned and len(set(changed)) == len(changed):
            self.in_place[v] = changed[0]
            self.in_place |= {u: s for u, s in self.updates if isinstance(u.op, Item) and u.inputs[0] is v}
            return write(w, v, None)
        known = {x: w.variables.get(x) for x in changed}
        for x in changed:
            w.variables[x] = f"np.array({w.argument(x, literal=False)}, order='C')"
        text = write(w, v, None)
        w.variables.update({x: name for x, name in known.items() if name is not None})
        for x, name in known.items():
            if name is None:
                del w.variables[x]
        return text

    def _write_together(self, group: list[Value]) -> None:
        """One line for updates that are alike: a loop over those that do not lie side by side."""
        if not group:
            return
        w, members = self.writer, set(group)
        name, part = w.names.make("small"), w.names.make("part")
        self.groups[name] = group
        self.in_place |= {u: s for u, s in self.updates if isinstance(u.op, Item) and u.inputs[0] in members}
        settings = [w.argument(x, literal=True) for x in group[0].inputs[-2:]]
        w.heading(group[0].origin)
        w.line(f"for {part} in {name}:")
        w.line(f"    {EMIT[type(group[0].op)].write(w, group[0], [f'*{part}', *settings], None)}")

    def _target(self, v: Value) -> str | None:
        """The buffer a value is written into: the state it updates, a place in the arena, or none."""
        if isinstance(v.type_, tuple) or kind_of(v) not in ("ufunc", "into"):
            return None
        state = next((s for u, s in self.updates if u is v and self.last[s] <= self.place[v]), None)
        if state is not None and kind_of(v) == "ufunc":
            self.in_place[v] = state
            return self.writer.variables[state]
        owner = self._owner(v)
        if owner not in self.offsets:
            return None
        if v in self.over:
            return self.writer.variables[self.over[v]]
        name = self.writer.names.make(hint_of(v))
        self.buffers[name] = (self.offsets[owner], v.type, v in self.last_channels)
        return name

    def _write_updates(self) -> None:
        """Copy into the state what was not computed in place; what is itself state is copied first."""
        w = self.writer
        pairs = []
        for v, state in self.updates:
            if self.in_place.get(v) is state:
                continue
            text = w.argument(v, literal=False)
            if isinstance(_base(v).op, Input):
                copied = w.names.make("old")
                w.line(f"{copied} = np.array({text})")
                text = copied
            pairs.append((w.variables[state], text))
        for target, text in pairs:
            w.line(f"np.copyto({target}, {text})")

    def _copy_old_state(self) -> None:
        """Copy what the outputs show of state before it changes."""
        w = self.writer
        self.copies: dict[Value, str] = {}
        for v in self.graph.outputs.values():
            base = _base(v)
            if isinstance(base.op, Input) and base.op.name in self.graph.updates and v not in self.copies:
                self.copies[v] = w.names.make("old")
                w.line(f"{self.copies[v]} = np.array({w.variables[v]})")

    def _outputs(self) -> str:
        """What is returned: arrays of their own, not views of state, of what was fed, or of each other."""
        parts = []
        shown: set[Value] = set()
        for name, v in self.graph.outputs.items():
            if v in self.copies:
                parts.append(f"{name!r}: {self.copies[v]}")
                continue
            text = self.writer.argument(v, literal=False)
            base = _base(v)
            lent = isinstance(base.op, Input | Const) or base in self.in_place or base in shown
            shown.add(base)
            make = "array" if lent else "ascontiguousarray" if base in self.last_channels and v.rank else "asarray"
            parts.append(f"{name!r}: np.{make}({text})")
        return ", ".join(parts)

    def _constants(self) -> dict[str, Array]:
        """The constants by their variables, weights packed."""
        names = {v: self.writer.variables[v] for v in self.writer.variables if isinstance(v.op, Const)}
        named = {v: self.writer.constants[name] for v, name in names.items() if name in self.writer.constants}
        return self.writer.constants | {names[v]: a for v, a in layout.packed(named, self.values).items()}

    def _arrays(self, v: Value, state: Mapping[str, Array], namespace: Mapping[str, Any]) -> tuple[Array, ...]:
        """What an update reads and writes: the parameter, its gradient, its slots."""
        p, *slots = (state[input_of(x).name] for x in written_over(v))
        return (p, namespace[self.writer.variables[together.gradient(v)]], *slots)

    def load(self, state: Mapping[str, Array], clock: Clock | None = None) -> Callable[..., dict[str, Array]]:
        """The function, with its buffers, constants and state in place."""
        arena = np.zeros(max(self.size, 1), np.uint8)
        namespace: dict[str, Any] = {"np": np, WORK: {}, **KERNELS, **self._constants()}
        for name, (offset, t, channels_last) in self.buffers.items():
            namespace[name] = _shaped(arena[offset : offset + t.nbytes()].view(t.dtype.numpy), t, channels_last)
        for v in self.state:
            namespace[self.writer.variables[v]] = state[input_of(v).name]
        for name, group in self.groups.items():
            namespace[name] = together.joined(self._arrays(v, state, namespace) for v in group)
        source = self.function if clock is None else clock.marked(self.function, self.writer.headings, namespace)
        # The source is our own: names are made by `Names`, everything else is a number or a table's text.
        exec("\n".join(self.writer.before), namespace)
        exec(compile(source, f"<{self.graph.name} on numpy>", "exec"), namespace)
        function: Callable[..., dict[str, Array]] = namespace["run"]
        return function


def _with_last(values: list[Value], moved: list[Value]) -> list[Value]:
    """The values with some of them, and their items, at the end."""
    known = set(moved)
    rest = [v for v in values if v not in known and not (isinstance(v.op, Item) and v.inputs[0] in known)]
    return [*rest, *moved, *(v for v in values if isinstance(v.op, Item) and v.inputs[0] in known)]


def _packed(owners: Mapping[Value, Buffer], together: list[list[Value]]) -> tuple[dict[Value, int], int]:
    """Offsets for buffers, those of a list one after the other, and the size of all."""
    known = {v for unit in together for v in unit}
    units = [unit for unit in together if unit] + [[v] for v in owners if v not in known]
    parts = [[owners[v] for v in unit] for unit in units]
    around = [Buffer(min(b.first for b in p), max(b.last for b in p), sum(b.size for b in p)) for p in parts]
    starts, size = pack(around)
    offsets: dict[Value, int] = {}
    for unit, start in zip(units, starts, strict=True):
        for v in unit:
            offsets[v] = start
            start += owners[v].size
    return offsets, size


def _shaped(flat: Array, t: Type, channels_last: bool) -> Array:
    """A stretch of the arena as an array of a type."""
    shape = tuple(int(d) for d in t.shape)
    if not channels_last:
        return flat.reshape(shape)
    rank = len(shape)
    return flat.reshape(shape[0], *shape[2:], shape[1]).transpose(0, rank - 1, *range(1, rank - 1))


def _is_view(v: Value) -> bool:
    return not isinstance(v.op, Input | Const) and is_view(v)


def _base(v: Value) -> Value:
    """What a view shows."""
    while _is_view(v):
        v = v.inputs[0]
    return v


class NumpyBackend:
    """The NumPy backend."""

    name = "numpy"
    plans_memory = True

    def memory(self, graph: Graph) -> int:
        return peak_memory(graph, {}, over=elementwise)

    def native(self, value: Value) -> bool:
        return native(value)

    def kernel(self, value: Value) -> str:
        return kernel_of(value)

    def state(self, arrays: Mapping[str, Array]) -> NumpyState:
        return NumpyState(arrays)

    def compile(self, graph: Graph, state: Any) -> NumpyExecutable:
        assert isinstance(state, NumpyState)
        return NumpyExecutable(graph, state)

    def export(self, model: Model, path: Path, notes: Mapping[str, str]) -> None:
        from .export import export

        export(model, path, notes)

    def source(self, model: Model) -> str:
        from .export import module_source

        return module_source(model, {}, embed=False)

    def measured(self, seconds: float, threads: int) -> Measured:
        return Measured()


BACKEND = NumpyBackend()
