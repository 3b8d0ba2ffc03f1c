"""ONNX: a `ModelProto` that ONNX Runtime runs. A training step is a graph like any other."""

from __future__ import annotations

import glob
import hashlib
import os
import tempfile
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import onnx

from ...compiler.analysis import peak_memory
from ...compiler.ir import Array, Frozen, Graph, IRError, Value
from ...compiler.ops.recurrent import Recurrent
from ...compiler.passes import Model
from ...compiler.rewrite import legalize
from ...files import write_atomically
from ..base import Measured
from ..executable import Run, Specialised, lower
from ..profiling import Clock
from .emit import native, native_here
from .model import model_proto
from .prepare import prepare
from .running import Bound, OnnxState, Prepared, in_place

__all__ = ["BACKEND", "OnnxBackend", "model_proto"]

# A protocol buffer holds less than 2 GiB: with more bytes of weights, they are in a file of their own.
EXTERNAL_ABOVE = (2 << 30) - (64 << 20)


# Layers that may be told how many steps of each row are real, and what is said of files in which they are.
_BY_LENGTHS = ("LSTM", "GRU", "RNN")
_PADDING = (
    "rows are padded at their ends by -1, and recurrent nodes read sequence_lens: OpenVINO and the reference evaluator "
    "of ONNX ignore it, and need rows without padding"
)


class OnnxExecutable(Specialised):
    """A graph on ONNX Runtime: one session for all sizes where the graph has no state, else one for each."""

    def __init__(self, graph: Graph, state: OnnxState) -> None:
        super().__init__(graph)
        self.state = state
        self._native = partial(native_here, kept=in_place(graph))

    def specialise(self, sizes: Mapping[str, int], clock: Clock | None = None) -> Run:
        prepared = self._general if clock is None else None
        return Bound(prepared or self._prepared(sizes, clock), self.state, sizes)

    @cached_property
    def _general(self) -> Prepared | None:
        """The session for all sizes; `None` where there is state, or where some op asks for numbers."""
        if self.graph.by_role("param", "buffer"):
            return None
        try:
            return self._prepared({})
        except ValueError:
            return None

    def _prepared(self, sizes: Mapping[str, int], clock: Clock | None = None) -> Prepared:
        if 0 in sizes.values() and any(isinstance(v.op, Recurrent) for v in self.graph.order()):
            # ONNX Runtime would end the process.
            raise IRError("recurrent layers need sequences of at least one step, and at least one row")
        return Prepared(prepare(lower(self.graph, sizes, self._native, "onnx")), clock)


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
        for tensor in proto.graph.initializer:
            shape = tensor.data_type == onnx.TensorProto.INT64 and len(tensor.dims) == 1
            if len(tensor.raw_data) > Frozen.LARGE and not shape:
                onnx.external_data_helper.set_external_data(tensor, data)
        onnx.save_model(proto, draft)
        onnx.checker.check_model(str(draft), full_check=True)
        with (draft.parent / data).open("rb") as file:
            os.fsync(file.fileno())
        (draft.parent / data).replace(path.parent / data)
        write_atomically(path, draft.read_bytes())
    for old in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 16}.data"):
        if old.name != data:
            old.unlink()


class OnnxBackend:
    """The ONNX backend."""

    name = "onnx"
    plans_memory = False  # ONNX Runtime does, and computes nothing twice

    def memory(self, graph: Graph) -> int:
        return peak_memory(graph, {})

    def native(self, value: Value) -> bool:
        return native_here(value)

    def kernel(self, value: Value) -> str:
        return ""  # ONNX Runtime chooses

    def state(self, arrays: Mapping[str, Array]) -> OnnxState:
        return OnnxState(arrays)

    def compile(self, graph: Graph, state: Any) -> OnnxExecutable:
        assert isinstance(state, OnnxState)
        return OnnxExecutable(graph, state)

    def export(self, model: Model, path: Path, notes: Mapping[str, str]) -> None:
        """Write a checked ONNX file, its weights inside, or beside it where they are too large for one file."""
        graph = prepare(legalize(model.graph, native, "onnx"))
        proto = model_proto(graph, model.weights, notes)
        if any(node.op_type in _BY_LENGTHS and len(node.input) > 4 and node.input[4] for node in proto.graph.node):
            proto.metadata_props.add(key="padding", value=_PADDING)
        if sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > EXTERNAL_ABOVE:
            write_with_data_beside(proto, path)
            return
        onnx.checker.check_model(proto, full_check=True)
        write_atomically(path, proto.SerializeToString(deterministic=True))

    def source(self, model: Model) -> str:
        graph = prepare(legalize(model.graph, native, "onnx"))
        return str(onnx.printer.to_text(model_proto(graph, model.weights)))

    def measured(self, seconds: float, threads: int) -> Measured:
        return Measured()


BACKEND = OnnxBackend()
