"""A readable `nn.Module` that needs PyTorch and safetensors alone, and its weights beside it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from torch import nn

from ...compiler.ir import Array, Const, Graph, Input, Type, Value, input_of, order
from ...compiler.ops import conv, norm
from ...compiler.passes import Model
from ...compiler.rewrite import bind, legalize
from ...compiler.spec.diagnostics import visible
from ...files import write_atomically
from ..source import Writer, hint_of, literal_of
from .emit import argument, dtype_text, native, write
from .kernels import FUNCTIONS

RESERVED = (
    "torch", "nn", "F", "math", "itertools", "annotations", "Any", "Callable", "Ints", "Path", "Tensor", "load",
    "load_file", "register", "self", "device", "w", *FUNCTIONS,
)  # fmt: skip

# Where array constants stand in the state dict.
CONSTANTS = "constants"


class ModuleWriter(Writer):
    """Array constants are buffers of the module; numbers that must be tensors are made where they are used."""

    def constant(self, array: Array, hint: str = "c") -> str:
        if not array.ndim:
            number = literal_of(array).replace("np.", "math.")
            return f"torch.tensor({number}, dtype=torch.{array.dtype.name}, device=device)"
        return f"w[{f'{CONSTANTS}.{super().constant(array, hint)}'!r}]"


def export(model: Model, path: Path, notes: Mapping[str, str]) -> None:
    """Write the module to `path` and its state dict beside it, as `<stem>.safetensors`; each atomically."""
    source, arrays = module_source(model, notes)
    plain = {name: np.array(arrays[name], order="C") for name in sorted(arrays)}
    write_atomically(path.with_suffix(".safetensors"), save(plain))
    write_atomically(path, source.encode())


def module_source(model: Model, notes: Mapping[str, str]) -> tuple[str, dict[str, Array]]:
    """The text of the file, and the state dict that goes with it."""
    w = ModuleWriter(reserved=RESERVED)
    name = w.names.make(_class_name(model.graph.name))
    graph = _with_safe_dims(legalize(model.graph, native, "torch"), w)
    held = graph.by_role("param", "buffer")
    keys = _keys([input_of(v).name for v in held])
    forward = _forward(graph, w, keys)
    arrays = {keys[input_of(v).name]: model.weights[input_of(v).name] for v in held}
    arrays |= {f"{CONSTANTS}.{key}": array for key, array in w.constants.items()}
    parts = [
        _heading(graph, notes, name),
        _imports(forward),
        *(inspect.getsource(FUNCTIONS[kernel]) for kernel in _kernels(forward)),
        _REGISTER,
        f'class {name}(nn.Module):\n    """{_words(graph.name)}: call `load` for trained weights."""\n\n'
        f"{_init(held, w, keys)}\n\n{forward}",
        _LOAD.replace("{name}", name),
    ]
    return "\n\n\n".join(part.rstrip() for part in parts) + "\n", arrays


def _class_name(name: str) -> str:
    """A graph's name as that of a class: digits-cnn -> DigitsCnn."""
    camel = "".join(word[0].upper() + word[1:] for word in re.findall("[A-Za-z0-9]+", name))
    return camel if camel[:1].isalpha() else f"Net{camel}"


def _words(text: str) -> str:
    return visible(text).replace("\\", "/").replace('"', "'")


def _heading(graph: Graph, notes: Mapping[str, str], name: str) -> str:
    takes = "\n".join(f"    {input_of(v).name}: {_type_words(v.type)}" for v in graph.by_role("data"))
    gives = "\n".join(f"    {key}: {_type_words(v.type)}" for key, v in graph.outputs.items())
    about = "\n".join(f"{key}: {value}" for key, value in notes.items())
    result = "that tensor" if len(graph.outputs) == 1 else "these tensors in a dict"
    return f'''"""{_words(graph.name)}: a network, compiled to PyTorch.

{_words(about)}

`load()` makes a `{name}` with the weights in the safetensors file beside this one. It takes

{_words(takes)}

and returns {result}:

{_words(gives)}

The module can be trained further. It is the network as it predicts: there is no dropout in it, and batch
normalisation is part of the weights of the layer before where it could be. Where it stands by itself, it follows
`train()` and `eval()`.
"""'''


def _type_words(t: Type) -> str:
    return f"{t.dtype.numpy.name} [{', '.join(map(str, t.shape))}]"


def _kernels(forward: str) -> list[str]:
    """The functions that a text calls, and those that these call."""
    texts, found = [forward], set()
    while texts:
        text = texts.pop()
        new = {name for name in FUNCTIONS if name not in found and re.search(rf"\b{name}\(", text)}
        texts += [inspect.getsource(FUNCTIONS[name]) for name in new]
        found |= new
    return [name for name in FUNCTIONS if name in found]


def _imports(forward: str) -> str:
    """The imports that the file needs, in the usual order."""
    used = _kernels(forward)
    body = "\n".join([forward, *(inspect.getsource(FUNCTIONS[name]) for name in used)])
    has_tensor = re.search(r"\bTensor\b", body) is not None
    lines = [
        "from __future__ import annotations\n",
        *(["import itertools"] if "itertools." in body else []),
        *(["import math"] if "math." in body else []),
        *(["from collections.abc import Callable"] if "Callable[" in body else []),
        "from pathlib import Path",
        *(["from typing import Any"] if re.search(r"\bAny\b", body) else []),
        "\nimport torch",
        *(["import torch.nn.functional as F"] if "F." in body else []),
        "from safetensors.torch import load_file",
        f"from torch import {'Tensor, nn' if has_tensor else 'nn'}",
        *(["\nInts = tuple[int, ...]"] if re.search(r"\bInts\b", body) else []),
    ]
    return "\n".join(lines)


def _keys(names: list[str]) -> dict[str, str]:
    """Keys of the state dict by the names of arrays: as in the spec, but for parts that every module has."""
    own = vars(nn.Module()).keys()
    found: dict[str, str] = {}
    for name in names:
        key = ".".join(f"{part}_" if part in own else part for part in name.split("."))
        while key != name and (key in names or key in found.values()):
            key += "_"
        found[name] = key
    return found


def _init(held: list[Value], w: Writer, keys: Mapping[str, str]) -> str:
    """`__init__`: parameters and buffers of the right shapes, to be filled by `load_state_dict`."""
    lines = ["super().__init__()"]
    for v in held:
        zeros = _zeros(tuple(int(d) for d in v.shape), dtype_text(v.dtype))
        tensor = f"nn.Parameter({zeros})" if input_of(v).role == "param" and v.dtype.floating else zeros
        lines.append(f"register(self, {keys[input_of(v).name]!r}, {tensor})")
    for key, array in w.constants.items():
        zeros = _zeros(array.shape, f"torch.{array.dtype.name}")
        lines.append(f"register(self, {f'{CONSTANTS}.{key}'!r}, {zeros})")
    return "    def __init__(self):\n        " + "\n        ".join(lines)


def _zeros(dims: tuple[int, ...], dtype: str) -> str:
    return f"torch.zeros({dims!r}{'' if dtype == 'torch.float32' else f', dtype={dtype}'})"


def _forward(graph: Graph, w: Writer, keys: Mapping[str, str]) -> str:
    data = graph.by_role("data")
    for v in data:
        w.variables[v] = w.names.make(input_of(v).name)
    for v in graph.by_role("param", "buffer"):
        w.variables[v] = f"w[{keys[input_of(v).name]!r}]"
    values = [v for v in order(graph.roots) if not isinstance(v.op, Input | Const)]
    for v in values:
        w.heading(v.origin)
        text = _statistics(v, w) or _transposed(v, w) or write(w, v)
        w.variables[v] = w.names.make(hint_of(v))
        w.line(f"{w.variables[v]} = {text}")
    w.line(f"return {_results(graph, w)}")
    arguments = ", ".join(["self", *(w.variables[v] for v in data)])
    return f"    def forward({arguments}):\n        " + "\n        ".join([*_preamble(data, w), *w.lines])


def _results(graph: Graph, w: Writer) -> str:
    """What `forward` returns: the one output, or a dict of several."""
    texts = {name: argument(w, v) for name, v in graph.outputs.items()}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return f"{{{', '.join(f'{name!r}: {text}' for name, text in texts.items())}}}"


def _preamble(data: list[Value], w: Writer) -> list[str]:
    """Variables that the body reads: parameters by name, the device, the sizes of named dims."""
    body = "\n".join(w.lines)
    lines = []
    if "w[" in body:
        lines.append("w = dict(self.named_parameters()) | dict(self.named_buffers())")
    if "device=device" in body:
        lines.append(f"device = {w.variables[data[0]]}.device" if data else "device = None")
    seen: set[str] = set()
    for v in data:
        for axis, dim in enumerate(v.shape):
            if isinstance(dim, str) and dim not in seen and re.search(rf"\b{dim}\b", body):
                seen.add(dim)
                lines.append(f"{dim} = {w.variables[v]}.shape[{axis}]")
    return lines


def _statistics(v: Value, w: Writer) -> str | None:
    """Batch normalisation by buffers follows `self.training`."""
    if not isinstance(v.op, norm.BatchNorm) or any(input_role(x) != "buffer" for x in v.inputs[3:]):
        return None
    x, scale, shift, mean, var = (argument(w, x) for x in v.inputs)
    return f"F.batch_norm({x}, {mean}, {var}, {scale}, {shift}, self.training, eps={v.op.eps!r})"


def input_role(v: Value) -> str:
    return v.op.role if isinstance(v.op, Input) else ""


def _transposed(v: Value, w: Writer) -> str | None:
    """A transposed convolution by its usual name, where that can say it."""
    op = v.op
    if not isinstance(op, conv.ConvInputGrad) or any(low != high for low, high in op.pads):
        return None
    g, weight = v.inputs
    extra = []
    for size, out, k, s, (low, high), d in zip(
        v.shape[2:], g.shape[2:], weight.shape[2:], op.stride, op.pads, op.dilation, strict=True
    ):
        if not isinstance(size, int):
            extra.append(0)  # an axis without a size is kept as it is
            continue
        extra.append(size - ((int(out) - 1) * s + d * (int(k) - 1) + 1 - low - high))
    if not all(0 <= n < max(s, d) for n, s, d in zip(extra, op.stride, op.dilation, strict=True)):
        return None
    pads = tuple(low for low, _ in op.pads)
    return (
        f"F.conv_transpose{len(pads)}d({argument(w, g)}, {argument(w, weight)}, None, {op.stride!r}, {pads!r}, "
        f"{tuple(extra)!r}, {op.groups}, {op.dilation!r})"
    )


def _with_safe_dims(graph: Graph, w: Writer) -> Graph:
    """The graph with its named dims called by names that mean nothing else in the file."""
    names = {dim: w.names.make(dim) for dim in sorted(graph.names)}
    changed: Any = {old: new for old, new in names.items() if old != new}
    return bind(graph, changed)


_REGISTER = '''def register(module, name, tensor):
    """Hold a tensor in nested modules, so that its key in the state dict is `name`."""
    *path, leaf = name.split(".")
    for part in path:
        module = module._modules.setdefault(part, nn.Module())
    held = module._parameters if isinstance(tensor, nn.Parameter) else module._buffers
    held[leaf] = tensor'''

_LOAD = '''def load(path=None):
    """The network with its weights, ready to predict; `path` is a safetensors file, by default the one beside."""
    module = {name}()
    file = Path(path) if path is not None else Path(__file__).with_suffix(".safetensors")
    module.load_state_dict(load_file(file))
    return module.eval()'''
