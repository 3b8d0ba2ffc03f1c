"""ONNX Runtime: sessions, and state that stays in its own arrays from call to call."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, numpy_helper

from ...compiler.ir import Array, DType, Frozen, Graph, Input, Item, Origin, input_of
from ...compiler.ops.attention import CachedAttention
from ..executable import Run
from ..profiling import Clock
from ..threads import threads
from .emitter import ELEMENTS
from .model import output_names, skeleton
from .timing import node_times


class OnnxState:
    """Named `OrtValue`s. An update is written into a second set; then the two change places."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        plain = {name: np.array(a, order="C") for name, a in arrays.items()}
        self.dtypes = {name: a.dtype for name, a in plain.items()}
        self.values = {name: ort.OrtValue.ortvalue_from_numpy(a) for name, a in plain.items()}
        self._spare: dict[str, ort.OrtValue] = {}

    def read(self) -> dict[str, Array]:
        return {name: np.array(value.numpy()) for name, value in self.values.items()}

    def write(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if tuple(self.values[name].shape()) != np.shape(array):
                raise ValueError(f"{name}: {self.values[name].shape()} cannot take {np.shape(array)}")
            copied = np.array(array, self.dtypes[name], order="C")
            self.values[name] = ort.OrtValue.ortvalue_from_numpy(copied)

    def spare(self, name: str) -> ort.OrtValue:
        """Where the next value of `name` is written."""
        if name not in self._spare:
            shape = self.values[name].shape()
            self._spare[name] = ort.OrtValue.ortvalue_from_numpy(np.empty(shape, self.dtypes[name]))
        return self._spare[name]

    def swap(self, name: str) -> None:
        """Make what was written the value of `name`."""
        self.values[name], self._spare[name] = self._spare[name], self.values[name]


# How long a thread that waits for work spins before it sleeps: longer than the gaps between the nodes of a call. With
# ONNX Runtime's own, some fifty times as long, threads take whole time slices from each other where cores are shared.
SPIN_MICROSECONDS = 300


def session_of(graph: Graph, clock: Clock | None = None) -> tuple[ort.InferenceSession, list[Array]]:
    """A session on the CPU, which gives the same numbers each time, and arrays that must live as long as it.

    ONNX Runtime reads large constants where they are: they are neither serialised nor copied, and may be any size.
    With a clock, the session keeps the time of its nodes.
    """
    origins: dict[str, Origin] = {}
    model, arrays = skeleton(graph, {}, origins)
    large = {name: array for name, array in arrays.items() if array.nbytes > Frozen.LARGE}
    model.graph.initializer.extend(
        _elsewhere(name, array) if name in large else numpy_helper.from_array(array, name)
        for name, array in arrays.items()
    )
    options = ort.SessionOptions()
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.intra_op_num_threads = threads()
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS))
    options.add_external_initializers(list(large), [ort.OrtValue.ortvalue_from_numpy(a) for a in large.values()])
    folder = tempfile.TemporaryDirectory() if clock is not None else None
    if folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder.name) / "profile")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    if clock is not None and folder is not None:
        clock.read = partial(node_times, session, folder, origins)
    return session, list(large.values())


def _elsewhere(name: str, array: Array) -> TensorProto:
    """An initializer that is handed to the session beside the model."""
    proto = TensorProto(
        name=name, data_type=ELEMENTS[DType.of(array)], dims=array.shape, data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", "memory"), ("offset", "0"), ("length", str(array.nbytes))):
        proto.external_data.add(key=key, value=value)
    return proto


def runner(graph: Graph, state: OnnxState, clock: Clock | None = None) -> Run:
    """A prepared graph as a function of the arrays fed to it, in the order of its inputs."""
    return Stateful(graph, state, clock) if graph.by_role("param", "buffer") else stateless(graph, clock)


def stateless(graph: Graph, clock: Clock | None) -> Run:
    """A graph that reads nothing but what it is fed. What it returns is the caller's own."""
    session, constants = session_of(graph, clock)
    read = {i.name for i in session.get_inputs()}
    fed = [input_of(v).name for v in graph.inputs]
    unread = [name for name in fed if name not in read]
    names, made = list(graph.outputs), [o.name for o in session.get_outputs()]

    def run(*arrays: Array, kept: list[Array] = constants) -> dict[str, Array]:
        feeds = dict(zip(fed, arrays, strict=True))
        for name in unread:
            del feeds[name]
        return dict(zip(names, session.run(made, feeds), strict=True))

    return run


class Stateful:
    """A graph at given sizes whose state passes through IO binding, without copies.

    Two bindings take turns, as the two sets of values of the state do: then little has to be bound anew.
    """

    def __init__(self, graph: Graph, state: OnnxState, clock: Clock | None = None) -> None:
        self.session, self.constants = session_of(graph, clock)
        self.state = state
        read = {i.name for i in self.session.get_inputs()}
        names = {input_of(v).name: input_of(v).role in ("param", "buffer") for v in graph.inputs}
        self.fed = [name if name in read else None for name, held in names.items() if not held]
        self.held = [name for name, held in names.items() if held and name in read]
        made = output_names(graph)
        updated = list(zip(graph.updates, made[len(graph.outputs) :], strict=True))
        kept = in_place(graph)
        self.updates = [pair for pair in updated if pair[0] not in kept]
        self.kept = [pair for pair in updated if pair[0] in kept]
        self.bindings = [Binding(self.session) for _ in range(2 if graph.updates else 1)]
        # Outputs have a place of their own, from which they are copied.
        self.outputs: dict[str, Array] = {}
        for name, called, v in zip(graph.outputs, made, graph.outputs.values(), strict=False):
            place = np.empty([int(d) for d in v.shape], v.dtype.numpy)
            self.outputs[name] = place
            for binding in self.bindings:
                binding.output(called, ort.OrtValue.ortvalue_from_numpy(place))

    def __call__(self, *arrays: Array) -> dict[str, Array]:
        binding = self.bindings[0]
        self.bindings.reverse()
        for name, array in zip(self.fed, arrays, strict=True):
            if name is not None:
                binding.feed(name, array)
        for name in self.held:
            binding.input(name, self.state.values[name])
        for name, called in self.kept:
            binding.output(called, self.state.values[name])
        for name, called in self.updates:
            binding.output(called, self.state.spare(name))
        self.session.run_with_iobinding(binding.of)
        for name, _ in self.updates:
            self.state.swap(name)
        return {name: place.copy() for name, place in self.outputs.items()}


def in_place(graph: Graph) -> set[str]:
    """The state whose next value may be written over it: caches that one attention alone reads, and goes on with."""
    readers = Counter(x for v in graph.order() for x in v.inputs) + Counter(graph.roots)
    found = set()
    for name, new in graph.updates.items():
        source = new.inputs[0] if isinstance(new.op, Item) else new
        if isinstance(source.op, CachedAttention) and isinstance(new.op, Item):
            held = source.inputs[2 + new.op.index]
            found |= {name} if isinstance(held.op, Input) and held.op.name == name and readers[held] == 1 else set()
    return found


class Binding:
    """An IO binding that knows what is bound already."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.of = session.io_binding()
        self._bound: dict[str, ort.OrtValue] = {}

    def feed(self, name: str, array: Array) -> None:
        """Have an input read from an array, where it is."""
        self.of.bind_cpu_input(name, np.asarray(array, order="C"))

    def input(self, name: str, value: ort.OrtValue) -> None:
        if self._bound.get(name) is not value:
            self.of.bind_ortvalue_input(name, value)
            self._bound[name] = value

    def output(self, name: str, value: ort.OrtValue) -> None:
        if self._bound.get(name) is not value:
            self.of.bind_ortvalue_output(name, value)
            self._bound[name] = value
