"""ONNX: a `ModelProto` that ONNX Runtime runs. A training step is a graph like any other."""

from __future__ import annotations

import glob
import hashlib
import os
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from ...compiler.ir import Array, Graph, Input, Origin, Type, Value, input_of, order
from ...compiler.passes import Model
from ...compiler.rewrite import legalize
from ...files import write_atomically
from ..executable import Run, Specialised, lower
from ..profiling import Clock
from .emit import ELEMENTS, IR_VERSION, OPSET, Emitter, native
from .prepare import prepare
from .timing import node_times

__all__ = ["BACKEND", "OnnxBackend"]

# A protocol buffer holds less than 2 GiB: with more bytes of weights, they are in a file of their own.
EXTERNAL_ABOVE = (2 << 30) - (64 << 20)


class OnnxState:
    """Named `OrtValue`s: an update puts a new one in the place of the old."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        plain = {name: np.array(a, order="C") for name, a in arrays.items()}
        self.dtypes = {name: a.dtype for name, a in plain.items()}
        self.values = {name: ort.OrtValue.ortvalue_from_numpy(a) for name, a in plain.items()}

    def read(self) -> dict[str, Array]:
        return {name: np.array(value.numpy()) for name, value in self.values.items()}

    def write(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if tuple(self.values[name].shape()) != np.shape(array):
                raise ValueError(f"{name}: {self.values[name].shape()} cannot take {np.shape(array)}")
            copied = np.array(array, self.dtypes[name], order="C")
            self.values[name] = ort.OrtValue.ortvalue_from_numpy(copied)


class OnnxExecutable(Specialised):
    """A graph on ONNX Runtime; its state passes through IO binding, without copies."""

    def __init__(self, graph: Graph, state: OnnxState) -> None:
        super().__init__(graph)
        self.state = state

    def specialise(self, sizes: Mapping[str, int], clock: Clock | None = None) -> Run:
        graph = prepare(lower(self.graph, sizes, native, "onnx"))
        origins: dict[str, Origin] = {}
        session = session_of(model_proto(graph, origins=origins), clock, origins)
        fed = [input_of(v).name for v in graph.inputs if input_of(v).role not in ("param", "buffer")]
        read = {i.name for i in session.get_inputs()}
        made = [o.name for o in session.get_outputs()]
        state = [input_of(v).name for v in graph.inputs if input_of(v).role in ("param", "buffer")]
        held = self.state.values

        def run(*arrays: Array) -> dict[str, Array]:
            binding = session.io_binding()
            for name, array in zip(fed, arrays, strict=True):
                if name in read:
                    binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.array(array, order="C")))
            for name in state:
                if name in read:
                    binding.bind_ortvalue_input(name, held[name])
            for name in made:
                binding.bind_output(name, "cpu")
            session.run_with_iobinding(binding)
            found = binding.get_outputs()
            for name, value in zip(graph.updates, found[len(graph.outputs) :], strict=True):
                held[name] = value
            return {name: np.array(value.numpy()) for name, value in zip(graph.outputs, found, strict=False)}

        return run


def output_names(graph: Graph) -> list[str]:
    """What outputs, then updates, are called in a model, where every name is given once.

    An output has its own name, followed by `_output` if an input has that name; the next value of state `w` is `w'`.
    """
    taken = {input_of(v).name for v in graph.inputs}
    names = []
    for name, mark in (*((n, "") for n in graph.outputs), *((n, "'") for n in graph.updates)):
        free = name + mark
        while free in taken:
            free += mark or "_output"
        taken.add(free)
        names.append(free)
    return names


def session_of(
    proto: onnx.ModelProto, clock: Clock | None = None, origins: Mapping[str, Origin] | None = None
) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU, which gives the same numbers each time.

    With a clock, the session keeps the time of its nodes, whose origins are known by their names.
    """
    options = ort.SessionOptions()
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    if clock is None:
        return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    folder = tempfile.TemporaryDirectory()
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(folder.name) / "profile")
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    clock.read = partial(node_times, session, folder, origins or {})
    return session


def model_proto(
    graph: Graph,
    weights: Mapping[str, Array] | None = None,
    notes: Mapping[str, str] | None = None,
    origins: dict[str, Origin] | None = None,
) -> onnx.ModelProto:
    """The ONNX model of a lowered graph. Parameters with weights are initializers, others inputs.

    `origins` takes down where each node comes from, by its name.
    """
    weights = weights or {}
    em = Emitter(graph)
    inputs = [v for v in graph.inputs if input_of(v).name not in weights]
    names = output_names(graph)
    em.names.taken |= {*names, *(input_of(v).name for v in graph.inputs)}
    for v in graph.inputs:
        em.written[v] = input_of(v).name
    for v in order(graph.roots):
        if not isinstance(v.op, Input):
            em.write(v)
    if origins is not None:
        origins |= em.origins
    outputs = list(zip(names, graph.roots, strict=True))
    for name, v in outputs:
        em.nodes.append(helper.make_node("Identity", [em.written[v]], [name], name=f"{name} (output)"))
    held = [name for v in graph.inputs if (name := input_of(v).name) in weights]
    initializers = [numpy_helper.from_array(np.array(weights[name], order="C"), name) for name in held]
    proto = helper.make_graph(
        em.nodes,
        graph.name,
        [_declared(input_of(v).name, v.type) for v in inputs],
        [_declared(name, v.type) for name, v in outputs],
        [*initializers, *em.initializers],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="trine")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(notes or {}))
    return model


def write_with_data_beside(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model whose weights are in a second file, `<name>.<hash>.data`, which has to stay beside it.

    The second file is named by what it holds and moved into place first: whenever this is interrupted, the model at
    `path` is the old one with the old weights or the new one with the new. Weights that no model reads any more are
    removed at the end.
    """
    digest = hashlib.sha256()
    for tensor in proto.graph.initializer:
        digest.update(tensor.raw_data)
    data = f"{path.name}.{digest.hexdigest()[:16]}.data"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        draft = Path(folder) / path.name
        onnx.save_model(proto, draft, save_as_external_data=True, location=data, size_threshold=1024)
        onnx.checker.check_model(str(draft), full_check=True)
        with (draft.parent / data).open("rb") as file:
            os.fsync(file.fileno())
        (draft.parent / data).replace(path.parent / data)
        write_atomically(path, draft.read_bytes())
    for old in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 16}.data"):
        if old.name != data:
            old.unlink()


def _declared(name: str, t: Type) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, ELEMENTS[t.dtype], list(t.shape))


class OnnxBackend:
    """The ONNX backend."""

    name = "onnx"

    def native(self, value: Value) -> bool:
        return native(value)

    def state(self, arrays: Mapping[str, Array]) -> OnnxState:
        return OnnxState(arrays)

    def compile(self, graph: Graph, state: Any) -> OnnxExecutable:
        assert isinstance(state, OnnxState)
        return OnnxExecutable(graph, state)

    def export(self, model: Model, path: Path, notes: Mapping[str, str]) -> None:
        """Write a checked ONNX file, its weights inside, or beside it where they are too large for one file."""
        graph = prepare(legalize(model.graph, native, "onnx"))
        proto = model_proto(graph, model.weights, notes)
        if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > EXTERNAL_ABOVE:
            write_with_data_beside(proto, path)
            return
        onnx.checker.check_model(proto, full_check=True)
        write_atomically(path, proto.SerializeToString(deterministic=True))

    def source(self, model: Model) -> str:
        graph = prepare(legalize(model.graph, native, "onnx"))
        return str(onnx.printer.to_text(model_proto(graph, model.weights)))


BACKEND = OnnxBackend()
