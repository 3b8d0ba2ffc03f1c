"""Weights out of ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ...compiler.ir import Array


def read_initializers(path: Path) -> dict[str, Array]:
    """The arrays of numbers that an ONNX file holds by name; raises `ValueError` and `TypeError`.

    Data in other files are refused: a path in a file may lead anywhere.
    """
    try:
        model = onnx.load_model(path, load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # protobuf's own kinds of errors are no part of its interface
        raise ValueError(f"it is not a protocol buffer of a model: {error}") from error
    found: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ValueError(f"`{tensor.name}` lies in another file: only weights inside the file are read")
        array = np.array(numpy_helper.to_array(tensor))
        if array.dtype.kind in "biuf":
            found[tensor.name] = array
    return found
