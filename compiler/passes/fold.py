"""Arithmetic that need not wait for data: constants folded, parameters combined ahead of time."""

from __future__ import annotations

from ..ir import Array, Const, Graph, Input, Item, Value, constant, evaluate, input_of, order, origin
from ..ops.conv import Conv
from ..ops.elementwise import Sqrt
from ..ops.linalg import Linear
from ..ops.norm import BatchNorm
from ..ops.shape import Size, reshape
from ..rewrite import Replacement, Uses, mapped, rewrite, rule, with_roots
from ..spec.registry import PASSES
from .pipeline import Model

# A folded constant may be larger than what it is made of, up to this many bytes.
SMALL = 1 << 16


@PASSES.register
def fold_constants(model: Model) -> Model:
    """Compute what depends on constants alone.

    Example: fold_constants
    """
    memo: dict[Value, Replacement] = {v: v for v in model.graph.inputs}
    for value in model.graph.order():
        if value in memo:
            continue
        new = mapped(value, memo)
        if isinstance(new, Value) and _foldable(new):
            new = constant(evaluate([new], {})[0])
        memo[value] = new
    return Model(with_roots(model.graph, memo), model.weights)


def _foldable(value: Value) -> bool:
    if not all(isinstance(x.op, Const) for x in value.inputs):
        return False
    if isinstance(value.op, Const | Input | Item) or isinstance(value.type_, tuple) or value.type.names:
        return False
    if isinstance(value.op, Size) and isinstance(value.op.dim, str):
        return False
    return value.type.nbytes() <= max(SMALL, sum(v.type.nbytes() for v in value.inputs))


@rule(BatchNorm)
def batch_norm_into_weights(v: Value, uses: Uses) -> Value | None:
    """batch_norm(conv(x, w) + b) -> conv(x, w * f) + (b - mean) * f + shift, f = scale / sqrt(var + eps)

    Likewise for `Linear`. Leaves the arithmetic on parameters to `precompute`.
    """
    y, scale, shift, mean, var = v.inputs
    match y:
        case Value(Conv() | Linear() as op, (x, weight, *rest)) if uses(y) == 1 and _per_channel(y):
            eps = v.op.eps if isinstance(v.op, BatchNorm) else 0.0
            factor = scale / Sqrt()(var + eps)
            bias = (rest[0] - mean) * factor + shift if rest else shift - mean * factor
            scaled = weight * reshape(factor, (*factor.shape, *(1 for _ in weight.shape[1:])))
            with origin(y.origin):
                return op(x, scaled, bias)
    return None


def _per_channel(y: Value) -> bool:
    """Whether axis 1 of a convolution's or linear layer's output is that of its bias."""
    return isinstance(y.op, Conv) or y.rank == 2


@PASSES.register
def fold_batch_norm(model: Model) -> Model:
    """Batch normalisation folded into the convolution or linear layer before it.

    Example: fold_batch_norm
    """
    graph = rewrite(model.graph, [batch_norm_into_weights])
    return precompute(Model(graph, model.weights))


def precompute(model: Model) -> Model:
    """Compute what depends on parameters and constants alone; the results become parameters.

    A result takes the name of the first parameter it is made of, where nothing else needs it.
    Without weights (a graph that is yet to be trained) nothing changes.
    """
    graph, weights = model.graph, model.weights
    fixed = _fixed(graph)
    leaves = {top: [v for v in order([top]) if isinstance(v.op, Input)] for top in _tops(graph, fixed)}
    tops = [top for top, inputs in leaves.items() if inputs]
    if not tops or not weights:
        return model
    arrays = evaluate(tops, weights)
    memo: dict[Value, Replacement] = {}
    new_weights = dict(weights)
    taken = _read_outside(graph, tops)
    for top, array in zip(tops, arrays, strict=True):
        name = _name(top, leaves[top], taken)
        taken.add(name)
        memo[top] = Input(name, top.type, "param")()
        new_weights[name] = array
    return _with_parameters(graph, memo, new_weights)


def _fixed(graph: Graph) -> set[Value]:
    """The values that depend on parameters, buffers without updates, and constants alone."""
    fixed: set[Value] = set()
    for v in graph.order():
        if isinstance(v.op, Input):
            if v.op.role in ("param", "buffer") and v.op.name not in graph.updates:
                fixed.add(v)
        elif isinstance(v.op, Size) and isinstance(v.op.dim, str):
            continue
        elif all(x in fixed for x in v.inputs) and not any(t.names for t in v.types):
            fixed.add(v)
    return fixed


def _tops(graph: Graph, fixed: set[Value]) -> list[Value]:
    """The fixed values that something else reads and that are not parameters already."""
    read = set(graph.roots).union(*(v.inputs for v in graph.order() if v not in fixed))
    return [v for v in graph.order() if v in fixed and v in read and not isinstance(v.op, Input | Const)]


def _read_outside(graph: Graph, tops: list[Value]) -> set[str]:
    """The names of the inputs that are still read when `tops` are cut off."""
    return {v.op.name for v in order(graph.roots, set(tops)) if isinstance(v.op, Input)}


def _name(top: Value, leaves: list[Value], taken: set[str]) -> str:
    candidates = [input_of(v).name for v in leaves if v.rank == top.rank] or [input_of(leaves[0]).name]
    name = next((c for c in candidates if c not in taken), f"{candidates[0]}.folded")
    while name in taken:
        name += "_"
    return name


def _with_parameters(graph: Graph, memo: dict[Value, Replacement], weights: dict[str, Array]) -> Model:
    """The graph with `memo` put in, and the weights it then reads."""
    for value in graph.order():
        if value not in memo:
            memo[value] = value if isinstance(value.op, Input) else mapped(value, memo)
    new = with_roots(graph, memo)
    read = {v for v in new.order() if isinstance(v.op, Input)}
    kept = [v for v in graph.inputs if v in read or input_of(v).role == "data" or input_of(v).name in new.updates]
    made = sorted(read - set(kept), key=lambda v: input_of(v).name)
    inputs = (*kept, *made)
    names = {input_of(v).name for v in inputs}
    arrays = {name: array for name, array in weights.items() if name in names}
    return Model(Graph(new.name, tuple(inputs), new.outputs, new.updates), arrays)
