"""The ONNX model of a lowered graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...compiler.ir import Array, Graph, Input, Origin, Type, input_of
from .emit import ATTENTION_OPSET, IR_VERSION, OPSET, write
from .emitter import ELEMENTS, Emitter


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


def model_proto(
    graph: Graph, weights: Mapping[str, Array] | None = None, notes: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """The ONNX model of a lowered graph. Parameters with weights are initializers, others inputs."""
    model, arrays = skeleton(graph, weights or {})
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    helper.set_model_props(model, dict(notes or {}))
    return model


def skeleton(
    graph: Graph, weights: Mapping[str, Array], origins: dict[str, Origin] | None = None
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The ONNX model without its initializers, and these by name. `origins` takes down where its nodes come from."""
    em = Emitter(graph)
    inputs = [v for v in graph.inputs if input_of(v).name not in weights]
    names = output_names(graph)
    em.names.taken |= {*names, *(input_of(v).name for v in graph.inputs)}
    for v in graph.inputs:
        em.written[v] = input_of(v).name
    for v in em.order:
        if isinstance(v.op, Input):
            continue
        before = len(em.nodes)
        write(em, v)
        if origins is not None and v.origin is not None:
            origins |= {node.name: v.origin for node in em.nodes[before:]}
    em.call([(em.written[v], name) for name, v in zip(names, graph.roots, strict=True)])
    nodes, constants = em.live(names)
    held = [name for v in graph.inputs if (name := input_of(v).name) in weights]
    proto = helper.make_graph(
        nodes,
        graph.name,
        [_declared(input_of(v).name, v.type) for v in inputs],
        [_declared(name, v.type) for name, v in zip(names, graph.roots, strict=True)],
    )
    opset = ATTENTION_OPSET if any(node.op_type == "Attention" for node in nodes) else OPSET
    domains = {"": opset} | {node.domain: 1 for node in nodes if node.domain}
    imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    model = helper.make_model(proto, opset_imports=imports, producer_name="trine")
    model.ir_version = IR_VERSION
    return model, {name: np.asarray(weights[name], order="C") for name in held} | constants


def _declared(name: str, t: Type) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, ELEMENTS[t.dtype], list(t.shape))
