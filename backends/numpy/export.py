"""One readable file that needs NumPy alone: the kernels a model uses, the model, its weights."""

from __future__ import annotations

import base64
import inspect
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...compiler.analysis import dying, id_bounds, id_lows
from ...compiler.ir import Array, Const, Graph, Input, Item, Type, Value, input_of, order
from ...compiler.ops.recurrent import Recurrent
from ...compiler.passes import Model
from ...compiler.rewrite import bind, legalize
from ...compiler.spec.diagnostics import visible
from ...files import write_atomically
from .. import recurrent
from ..source import Writer, hint_of
from . import KERNELS
from .emit import EMIT, kind_of, native, write

ORDER = (
    "erf", "windows", "fold", "scatter_add", "scratch", "channels_last", "like", "padded", "tile_of", "tiles",
    "gathered", "product", "conv", "convolve", "depthwise", "endings", "row_of", "finish", "conv_input_grad",
    "fold_taps", "conv_weight_grad", "correlate", "depthwise_weight_grad", "max_pool", "window_sum", "slide",
    "join_along", "max_pool_grad", "to_first", "pieces", "erf_of", "gelu", "softmax", "layer_norm", "global_norm",
    "relu_grad", "channel_sum", "write_slice", *recurrent.NAMES,
)  # fmt: skip

RESERVED = (
    "np", "base64", "io", "math", "sys", "predict", "check", "weights", "main", "w", "INPUTS", "WEIGHTS", *ORDER,
)  # fmt: skip


def export(model: Model, path: Path, notes: Mapping[str, str]) -> None:
    """Write the model as a Python file with a function `predict`, atomically."""
    write_atomically(path, module_source(model, notes).encode())


def module_source(model: Model, notes: Mapping[str, str], embed: bool = True) -> str:
    """The text of the file; without `embed`, the function alone."""
    writer = Writer(reserved=RESERVED)
    graph = _with_safe_dims(legalize(model.graph, _exportable, "numpy"), writer)
    body = _body(graph, writer)
    if not embed:
        return body
    arrays = dict(model.weights) | writer.constants
    parts = [
        _heading(graph, notes),
        "from __future__ import annotations\n\nimport base64\nimport io\nimport math\nimport sys\n\nimport numpy as np",
        *(_kernel(name) for name in _kernels(graph)),
        _CHECK,
        body,
        _LOAD,
        _inputs(graph, writer),
        _MAIN,
        _weights(arrays),
        'w = weights()\n\nif __name__ == "__main__":\n    main()\n',
    ]
    return "\n\n\n".join(part.rstrip() for part in parts) + "\n"


def _exportable(v: Value) -> bool:
    """Whether a value is written natively: weights do not change in the file, so nothing is that changes them.

    Recurrent layers are written as their loops.
    """
    return native(v) and kind_of(v) != "state" and not isinstance(v.op, Recurrent)


def _heading(graph: Graph, notes: Mapping[str, str]) -> str:
    takes = "\n".join(f"    {input_of(v).name}: {_type_words(v.type)}" for v in graph.by_role("data"))
    gives = "\n".join(f"    {name}: {_type_words(v.type)}" for name, v in graph.outputs.items())
    lines = [f"{key}: {value}" for key, value in notes.items()]
    about = "\n".join(lines)
    words = f"""{graph.name}: a network, compiled. It needs NumPy alone.

{about}

`predict` takes arrays by name

{takes}

and returns a dict of arrays

{gives}

As a program, it reads the inputs from an .npz file and writes the outputs to another:
python model.py inputs.npz outputs.npz
"""
    return '"""' + visible(words).replace("\\", "/").replace('"""', "'''") + '"""'


def _type_words(t: Type) -> str:
    return f"{t.dtype.numpy.name} [{', '.join(map(str, t.shape))}]"


def _kernels(graph: Graph) -> list[str]:
    used = {name for v in graph.order() if type(v.op) in EMIT for name in EMIT[type(v.op)].kernels}
    return [name for name in ORDER if name in used]


def _kernel(name: str) -> str:
    """A kernel's own source, in which `NDArray` names stay as annotations only."""
    return inspect.getsource(KERNELS[name])


def _body(graph: Graph, w: Writer) -> str:
    data = graph.by_role("data")
    for v in data:
        w.variables[v] = w.names.make(input_of(v).name)
    arguments = ", ".join(w.variables[v] for v in data)
    lows, bounds = id_lows(graph), id_bounds(graph)
    for v in data:
        dtype, shape = v.dtype.numpy.name, tuple(None if isinstance(d, str) else d for d in v.shape)
        name = input_of(v).name
        ids = f", {lows[name]}, {bounds[name]}" if name in lows and name in bounds else ""
        w.line(f"{w.variables[v]} = check({name!r}, {w.variables[v]}, {shape!r}, np.{dtype}{ids})")
    _sizes(data, w)
    for v in graph.by_role("param", "buffer"):
        w.variables[v] = f"w[{input_of(v).name!r}]"
    values = [v for v in order(graph.roots) if not isinstance(v.op, Input | Const)]
    values_set = set(values)
    dead = dying(values, graph.roots)
    for v in values:
        w.heading(v.origin)
        known = set(w.constants)
        text = write(w, v, None)
        for name in set(w.constants) - known:
            text = re.sub(rf"\b{name}\b", f"w[{name!r}]", text)
            w.variables.update({k: f"w[{name!r}]" for k, n in w.variables.items() if n == name})
        w.variables[v] = w.names.make(hint_of(v))
        w.line(f"{w.variables[v]} = {text}")
        gone = [w.variables[x] for x in dead.get(v, ()) if x in values_set and not isinstance(x.op, Item)]
        if gone:
            w.line(f"del {', '.join(gone)}")
    results = ", ".join(f"{name!r}: np.asarray({_constant(w, v)})" for name, v in graph.outputs.items())
    lines = "\n    ".join([*w.lines, f"return {{{results}}}"])
    return f"def predict({arguments}):\n    {lines}"


def _constant(w: Writer, v: Value) -> str:
    """How an output is written; a constant stands with the weights."""
    known = set(w.constants)
    text = w.argument(v, literal=False)
    return f"w[{text!r}]" if text in set(w.constants) - known else text


def _with_safe_dims(graph: Graph, w: Writer) -> Graph:
    """The graph with its named dims called by names that mean nothing else in the file."""
    names = {dim: w.names.make(dim) for dim in sorted(graph.names)}
    changed: Any = {old: new for old, new in names.items() if old != new}
    return bind(graph, changed)


def _inputs(graph: Graph, w: Writer) -> str:
    """A table of the inputs' names and the arguments of `predict` that take them."""
    rows = [f"    {input_of(v).name!r}: {w.variables[v]!r}," for v in graph.by_role("data")]
    return "\n".join(["# The inputs by name, and the arguments of `predict` that take them.", "INPUTS = {", *rows, "}"])


def _sizes(data: list[Value], w: Writer) -> None:
    """Variables for the named dims."""
    seen: set[str] = set()
    for v in data:
        for axis, dim in enumerate(v.shape):
            if isinstance(dim, str) and dim not in seen:
                seen.add(dim)
                w.line(f"{dim} = {w.variables[v]}.shape[{axis}]")


_CHECK = '''def check(name, array, shape, dtype, low=None, room=None):
    """The array as `dtype`, if its shape fits; a `None` in `shape` fits any size. Ids are from `low`, below `room`."""
    array = np.asarray(array, dtype)
    if array.ndim != len(shape) or any(s is not None and s != d for s, d in zip(shape, array.shape)):
        raise ValueError(f"{name}: expected an array of shape {shape}, got {array.shape}")
    if room is not None and array.size and not low <= array.min() <= array.max() < room:
        raise ValueError(f"{name}: expected ids from {low} to {room - 1}, got {array.min()} to {array.max()}")
    return array'''

_LOAD = '''def weights():
    """The arrays of the model, by name."""
    data = base64.b64decode("".join(WEIGHTS.split()))
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}'''

_MAIN = '''def main():
    """Read inputs from one .npz file, write outputs to another."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python " + sys.argv[0] + " inputs.npz outputs.npz")
    with np.load(sys.argv[1], allow_pickle=False) as inputs:
        np.savez(sys.argv[2], **predict(**{argument: inputs[name] for name, argument in INPUTS.items()}))'''


def _weights(arrays: Mapping[str, Array]) -> str:
    """The arrays as base64 text of an .npz file, in lines of 100 characters."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(array) for name, array in sorted(arrays.items())})  # type: ignore[arg-type]
    text = base64.b64encode(buffer.getvalue()).decode()
    lines = "\n".join(text[i : i + 100] for i in range(0, len(text), 100))
    return f'WEIGHTS = """\n{lines}\n"""'
