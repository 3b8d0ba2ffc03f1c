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

from ...compiler.ir import Array, DType, Frozen, Graph, Input, Item, Origin, Type, input_of
from ...compiler.ops.attention import CachedAttention
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
    large = {name: array for name, array in arrays.items() if array.nbytes > Frozen.LARGE and not may_be_shape(array)}
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


def may_be_shape(array: Array) -> bool:
    """Tell whether a constant may say shapes or lengths: ONNX Runtime reads those in the model itself."""
    return array.ndim == 1 and array.dtype == np.int64


def _elsewhere(name: str, array: Array) -> TensorProto:
    """An initializer that is handed to the session beside the model."""
    proto = TensorProto(
        name=name, data_type=ELEMENTS[DType.of(array)], dims=array.shape, data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", "memory"), ("offset", "0"), ("length", str(array.nbytes))):
        proto.external_data.add(key=key, value=value)
    return proto


# Outputs of no more bytes are copied from a place of their own; others are written into fresh arrays.
SMALL = 1 << 16


class Prepared:
    """A graph as a session. Of sizes that are not said, it is one for all."""

    def __init__(self, graph: Graph, clock: Clock | None = None) -> None:
        self.graph = graph
        self.session, self._constants = session_of(graph, clock)
        self.read = {i.name for i in self.session.get_inputs()}


class Bound:
    """A prepared graph at given sizes, as a function of the arrays fed to it, in the order of its inputs.

    Inputs, outputs and state pass through IO binding. Where there is state, two bindings take turns, as the two sets of
    its values do: then little has to be bound anew. What it returns is the caller's own.
    """

    def __init__(self, prepared: Prepared, state: OnnxState, sizes: Mapping[str, int]) -> None:
        graph = prepared.graph
        self.prepared, self.state = prepared, state
        names = {input_of(v).name: input_of(v).role in ("param", "buffer") for v in graph.inputs}
        self.fed = [name if name in prepared.read else None for name, held in names.items() if not held]
        self.held = [name for name, held in names.items() if held and name in prepared.read]
        made = output_names(graph)
        updated = list(zip(graph.updates, made[len(graph.outputs) :], strict=True))
        kept = in_place(graph)
        self.updates = [pair for pair in updated if pair[0] not in kept]
        self.kept = [pair for pair in updated if pair[0] in kept]
        self.bindings = [Binding(prepared.session) for _ in range(2 if graph.updates else 1)]
        types = {name: v.type.bind(sizes) for name, v in graph.outputs.items()}
        called = dict(zip(types, made, strict=False))
        self.places = {name: _empty(t) if t.nbytes() <= SMALL else None for name, t in types.items()}
        self.large = [(name, called[name], types[name]) for name, place in self.places.items() if place is None]
        for name, place in self.places.items():
            for binding in self.bindings if place is not None else ():
                binding.output(called[name], ort.OrtValue.ortvalue_from_numpy(place))

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
        fresh = {}
        for name, called, t in self.large:
            fresh[name] = _empty(t)
            binding.output(called, ort.OrtValue.ortvalue_from_numpy(fresh[name]))
        self.prepared.session.run_with_iobinding(binding.of)
        for name, _ in self.updates:
            self.state.swap(name)
        return {name: fresh[name] if place is None else place.copy() for name, place in self.places.items()}


def _empty(t: Type) -> Array:
    return np.empty([int(d) for d in t.shape], t.dtype.numpy)


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
