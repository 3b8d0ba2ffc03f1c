"""Other runtimes on the file that PyTorch's own exporter writes."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch

from ..modules import module_of
from ..workloads import Workload
from . import Step, threads


def infer(workload: Workload, runtime: str) -> Step:
    x = workload.feeds()["x"]
    return (_ort if runtime == "ort" else _openvino)(_file(workload, x), x)


def _file(workload: Workload, x: Any) -> bytes:
    torch.set_num_threads(threads())
    module, file = module_of(workload.name, workload.weights(), workload.params()).eval(), io.BytesIO()
    # The exporter without dynamo: it is several times faster, and its files are no slower.
    torch.onnx.export(
        module,
        (torch.tensor(x),),
        file,  # type: ignore[arg-type]
        input_names=["x"],
        output_names=["logits"],
        dynamo=False,
    )
    return file.getvalue()


def _ort(file: bytes, x: Any) -> Step:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def _openvino(file: bytes, x: Any) -> Step:
    import openvino

    # Where it can, it computes in bfloat16 unless it is told not to.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads(), "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()
    return lambda: np.array(request.infer({"x": x})["logits"])
