"""ONNX: a `ModelProto` that ONNX Runtime runs. A training step is a graph like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from ...compiler.ir import Array, Graph, Input, Type, Value, input_of, order
from ...compiler.passes import Model
from ...compiler.rewrite import legalize
from ...files import write_atomically
from ..executable import Run, Specialised, lower
from .emit import ELEMENTS, IR_VERSION, OPSET, Emitter, native, prepare

__all__ = ["BACKEND", "OnnxBackend"]


class OnnxState:
    """Named `OrtValue`s: an update puts a new one in the place of the old."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.values = {name: ort.OrtValue.ortvalue_from_numpy(np.array(a, order="C")) for name, a in arrays.items()}

    def read(self) -> dict[str, Array]:
        return {name: np.array(value.numpy()) for name, value in self.values.items()}

    def write(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if tuple(self.values[name].shape()) != np.shape(array):
                raise ValueError(f"{name}: {self.values[name].shape()} cannot take {np.shape(array)}")
            self.values[name] = ort.OrtValue.ortvalue_from_numpy(np.array(array, order="C"))


class OnnxExecutable(Specialised):
    """A graph on ONNX Runtime; its state passes through IO binding, without copies."""

    def __init__(self, graph: Graph, state: OnnxState) -> None:
        super().__init__(graph)
        self.state = state

    def specialise(self, sizes: Mapping[str, int]) -> Run:
        graph = prepare(lower(self.graph, sizes, native, "onnx"))
        session = session_of(model_proto(graph))
        fed = [input_of(v).name for v in graph.inputs if input_of(v).role not in ("param", "buffer")]
        read = {i.name for i in session.get_inputs()}
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
            for name in (*graph.outputs, *(updated(name) for name in graph.updates)):
                binding.bind_output(name, "cpu")
            session.run_with_iobinding(binding)
            found = binding.get_outputs()
            for name, value in zip(graph.updates, found[len(graph.outputs) :], strict=True):
                held[name] = value
            return {name: np.array(value.numpy()) for name, value in zip(graph.outputs, found, strict=False)}

        return run


def updated(name: str) -> str:
    """What the next value of an input is called among a model's outputs."""
    return f"{name}'"


def session_of(proto: onnx.ModelProto) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU, which gives the same numbers each time."""
    options = ort.SessionOptions()
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def model_proto(
    graph: Graph, weights: Mapping[str, Array] | None = None, notes: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """The ONNX model of a lowered graph. Parameters with weights are initializers, others inputs."""
    weights = weights or {}
    em = Emitter(graph)
    inputs = [v for v in graph.inputs if input_of(v).name not in weights]
    em.names.taken |= {*graph.outputs, *(updated(n) for n in graph.updates), *(input_of(v).name for v in graph.inputs)}
    for v in graph.inputs:
        em.written[v] = input_of(v).name
    for v in order(graph.roots):
        if not isinstance(v.op, Input):
            em.write(v)
    outputs = {**graph.outputs, **{updated(name): v for name, v in graph.updates.items()}}
    for name, v in outputs.items():
        em.nodes.append(helper.make_node("Identity", [em.written[v]], [name], name=f"{name} (output)"))
    held = [name for v in graph.inputs if (name := input_of(v).name) in weights]
    initializers = [numpy_helper.from_array(np.array(weights[name], order="C"), name) for name in held]
    proto = helper.make_graph(
        em.nodes,
        graph.name,
        [_declared(input_of(v).name, v.type) for v in inputs],
        [_declared(name, v.type) for name, v in outputs.items()],
        [*initializers, *em.initializers],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="trine")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(notes or {}))
    return model


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
        """Write a checked ONNX file, its weights inside."""
        graph = prepare(legalize(model.graph, native, "onnx"))
        proto = model_proto(graph, model.weights, notes)
        onnx.checker.check_model(proto, full_check=True)
        write_atomically(path, proto.SerializeToString(deterministic=True))

    def source(self, model: Model) -> str:
        graph = prepare(legalize(model.graph, native, "onnx"))
        return str(onnx.printer.to_text(model_proto(graph, model.weights)))


BACKEND = OnnxBackend()
