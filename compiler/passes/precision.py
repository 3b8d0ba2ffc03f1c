"""Half the bytes, and products at the speed of matrix units: networks in bfloat16, or parts of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, cast

import numpy as np

from ..ir import LOSS, Const, DType, Graph, Input, Item, Op, Type, Value, constant, order, origin
from ..ops import activations as act
from ..ops import elementwise as e
from ..ops import norm, resize, shape
from ..ops.attention import Attention
from ..ops.conv import AvgPool, Conv, MaxPool
from ..ops.linalg import Linear, MatMul
from ..ops.reduce import Mean
from ..rewrite import Replacement, mapped, single, with_roots
from ..spec.kinds import Range
from ..spec.registry import PASSES
from ..structs import Struct
from .fold import precompute
from .pipeline import Model

# Nearly all of a network's arithmetic, and what matrix units are for.
PRODUCTS = (Linear, Conv, MatMul, Attention)
# What is done in the precision of what it reads. Everything else, such as losses and probabilities, is in float32.
FOLLOWING = (
    shape.Reshape, shape.Transpose, shape.BroadcastTo, shape.Slice, shape.Split, shape.Concat, shape.Pad, shape.Flip,
    e.Neg, e.Add, e.Sub, e.Mul, e.Maximum, e.Minimum, e.Tanh, e.Where, act.Relu, act.Sigmoid, act.Silu, act.Gelu,
    act.LeakyRelu, act.Elu, act.HardSigmoid, act.HardSwish, act.Mish, MaxPool, AvgPool, Mean, resize.Resize,
    norm.LayerNorm, norm.RmsNorm, norm.GroupNorm, norm.BatchNorm,
)  # fmt: skip
# Of these the first input alone: per-channel vectors, and the statistics that come out, stay in float32.
STATISTICS = (norm.BatchNormTrain,)
Bound = Annotated[float, Range(0, 1, open_low=True)]


class Decided(Struct):
    """What was found by trying: the steps whose products are in bfloat16, and how far outputs are from float32.

    error: the largest difference of an output, as a share of the largest of its numbers, over `rows` training rows.
    """

    steps: tuple[str, ...]
    error: float = 0.0
    rows: int = 0

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "steps": list(self.steps)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Decided:
        """Read what `as_json` made; raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        return cls(tuple(map(str, data["steps"])), float(data["error"]), int(data["rows"]))


@PASSES.register
def precision(
    model: Model, decided: Decided | None = None, *, to: Literal["bf16", "auto"] = "bf16", bound: Bound = 0.01
) -> Model:
    """Products, and what follows them, in bfloat16: half the bytes, and the speed of matrix units.

    It is compiling that tries it on training rows; a run predicts in float32. PyTorch computes in bfloat16, NumPy and
    ONNX Runtime round to it what they compute in float32. Losses and probabilities stay in float32.

    to: `bf16` for every step; with `auto` for those steps that gain by it, without those that err the most.
    bound: how far an output may be from what it is in float32, as a share of the largest of its numbers.
    Example: {precision: {to: bf16, bound: 0.01}}
    """
    if decided is None:
        return model
    return precompute(Model(in_bfloat16(model.graph, decided.steps), model.weights))


def steps_of(graph: Graph) -> list[str]:
    """The steps of the spec that have products, in order."""
    found = {v.origin.step: None for v in graph.order() if isinstance(v.op, PRODUCTS) and v.origin is not None}
    return [step for step in found if step != LOSS]


def in_bfloat16(graph: Graph, steps: Collection[str]) -> Graph:
    """The graph with the products of some steps in bfloat16, and all that follows them until the next product.

    Outputs and updates keep their types.
    """
    memo: dict[Value, Replacement] = {v: v for v in graph.inputs}
    for v in order(graph.roots):
        memo[v] = v if isinstance(v.op, Input | Const) else _converted(v, memo, steps)
    for v in graph.roots:
        memo[v] = e.in_type(v.dtype, single(memo[v]))
    return with_roots(graph, memo)


def _converted(v: Value, memo: Mapping[Value, Replacement], steps: Collection[str]) -> Value:
    inputs = tuple([single(memo[x]) for x in v.inputs])
    if not isinstance(v.op, Item) and all(t.dtype is DType.f32 for t in v.types):
        narrow = (len(inputs) if not isinstance(v.op, STATISTICS) else 1) if _is_narrow(v, inputs, steps) else 0
        with origin(v.origin):
            inputs = tuple([_floating(DType.bf16 if i < narrow else DType.f32, x) for i, x in enumerate(inputs)])
    elif not isinstance(v.op, Item):
        inputs = tuple([e.in_type(old.dtype, x) for old, x in zip(v.inputs, inputs, strict=True)])
    if inputs == v.inputs:
        return v
    with origin(v.origin):
        return v.op(*inputs)


def _is_narrow(v: Value, inputs: Collection[Value], steps: Collection[str]) -> bool:
    step = v.origin.step if v.origin is not None else ""
    if isinstance(v.op, PRODUCTS):
        return step in steps
    return isinstance(v.op, FOLLOWING + STATISTICS) and step != LOSS and any(x.dtype is DType.bf16 for x in inputs)


def _floating(dtype: DType, x: Value) -> Value:
    return e.in_type(dtype, x) if x.dtype in (DType.f32, DType.bf16) else x


def touches_bfloat16(value: Value) -> bool:
    """Whether an op reads or makes bfloat16."""
    return any(t.dtype is DType.bf16 for v in (value, *value.inputs) for t in v.types)


def narrow_kernels(graph: Graph, native: Callable[[Value], bool]) -> bool:
    """Tell whether any product of a graph is done in bfloat16, by what a backend says it has kernels for."""
    return any(isinstance(v.op, PRODUCTS) and v.dtype is DType.bf16 and native(v) for v in graph.order())


def widened(graph: Graph, native: Callable[[Value], bool]) -> Graph:
    """The graph with what `native` has no kernels for in bfloat16 done in float32, the results rounded.

    That is what an op in bfloat16 means: exact as float32 is, then rounded to the nearest.
    """
    if not any(map(touches_bfloat16, graph.order())):
        return graph
    memo: dict[Value, Replacement] = {v: v for v in graph.inputs}
    for v in order(graph.roots):
        new = v if isinstance(v.op, Input | Const) else mapped(v, memo)
        memo[v] = _widened(new, native) if isinstance(new, Value) and touches_bfloat16(new) else new
    return with_roots(graph, memo)


def _widened(v: Value, native: Callable[[Value], bool]) -> Replacement:
    if isinstance(v.op, Input | Const | Item):
        return v
    with origin(v.origin):
        if isinstance(v.op, e.Cast):
            return v if v.dtype is DType.bf16 else e.Cast(v.dtype)(_wide(v.inputs[0]))
        if native(v):
            return v
        y = _in_float32(v.op)(*map(_wide, v.inputs))
        if not isinstance(v.type_, tuple):
            return e.in_type(v.dtype, y)
        return tuple(e.in_type(t.dtype, part) for t, part in zip(v.types, y.items(), strict=True))


def _wide(x: Value) -> Value:
    """A value in bfloat16 as float32, rounded as it was."""
    if x.dtype is not DType.bf16:
        return x
    match x:
        case Value(Const() as known, ()):
            return constant(known.value.array.astype(np.float32))
        case Value(e.Cast(), (y,)) if y.dtype is DType.f32:
            return e.Rounded(DType.bf16)(y)
    return e.Cast(DType.f32)(x)


def _in_float32(op: Op) -> Op:
    """The op with float32 for what it makes by itself in bfloat16."""
    changes: dict[str, object] = {}
    for f in fields(cast(Any, op)):
        given = getattr(op, f.name)
        if given is DType.bf16:
            changes[f.name] = DType.f32
        elif isinstance(given, Type) and given.dtype is DType.bf16:
            changes[f.name] = given.with_dtype(DType.f32)
    return cast(Op, replace(cast(Any, op), **changes)) if changes else op
