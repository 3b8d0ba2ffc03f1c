"""What is done alike to every row of [..., features] is done to one matrix of all rows."""

from __future__ import annotations

import math
from typing import cast

from ..ir import Const, Graph, Input, Type, Value, order, origin
from ..ops.activations import Activation
from ..ops.elementwise import Arithmetic, Maximum, Minimum, Unary
from ..ops.fused import FusedLinear
from ..ops.linalg import Linear
from ..ops.norm import LayerNorm, RmsNorm
from ..ops.optim import Update
from ..ops.shape import Reshape
from ..rewrite import Replacement, mapped, single, with_roots

# These begin a matrix; what is done to single numbers goes on with it.
ROWWISE = (Linear, FusedLinear, LayerNorm, RmsNorm)
POINTWISE = (Unary, Arithmetic, Maximum, Minimum, Activation)


def as_matrices(graph: Graph) -> Graph:
    """A graph of known sizes with linear layers, norms and what is between them on matrices [rows, features].

    One product of all rows is faster than one for each sequence, and calls on matrices cost less. Steps of training,
    whose gradients come with shapes of their own, stay as they are.
    """
    if any(isinstance(v.op, Update) for v in graph.order()):
        return graph
    memo: dict[Value, Replacement] = {v: v for v in graph.inputs}
    matrices: dict[Value, Value] = {}
    for v in order(graph.roots):
        if isinstance(v.op, Input | Const) or not _by_rows(v, matrices):
            memo[v] = v if isinstance(v.op, Input | Const) else mapped(v, memo)
            continue
        with origin(v.origin):
            operands = [_matrix(x, memo, matrices) if _has_rows(x, v) else single(memo[x]) for x in v.inputs]
            matrices[v] = v.op(*operands)
            memo[v] = Reshape(v.shape)(matrices[v])
    return with_roots(graph, memo)


def _by_rows(v: Value, matrices: dict[Value, Value]) -> bool:
    if not isinstance(v.type_, Type) or v.rank < 3 or v.type.names or not v.type.numel():
        return False
    if isinstance(v.op, ROWWISE):
        return True
    goes_on = any(x in matrices and x.shape == v.shape for x in v.inputs)
    return isinstance(v.op, POINTWISE) and goes_on and all(_has_rows(x, v) or x.rank < 2 for x in v.inputs)


def _has_rows(x: Value, v: Value) -> bool:
    """Whether an operand has the rows of the result."""
    return x.rank == v.rank and x.shape[:-1] == v.shape[:-1]


def _matrix(x: Value, memo: dict[Value, Replacement], matrices: dict[Value, Value]) -> Value:
    if x not in matrices:
        rows = math.prod(cast(int, d) for d in x.shape[:-1])
        matrices[x] = Reshape((rows, x.shape[-1]))(single(memo[x]))
    return matrices[x]
