"""Weights that will not change any more, as constants of the graph."""

from __future__ import annotations

from ..ir import Graph, Input, Value, constant, input_of, order
from ..rewrite import Replacement, mapped, with_roots
from .fuse import merge_linears
from .pipeline import Model


def freeze(model: Model) -> Graph:
    """The graph with the weights that it does not update as constants.

    What depends on weights alone can then be computed before the first run: laid out, transposed and packed as a
    backend's kernels like them. Linear layers of one input become one product. A graph whose weights go on changing, as
    in training, is not frozen.
    """
    graph = model.graph
    fixed: dict[Value, Replacement] = {
        v: constant(model.weights[name]) if (name := input_of(v).name) in model.weights else v
        for v in graph.by_role("param", "buffer")
        if input_of(v).name not in graph.updates
    }
    memo: dict[Value, Replacement] = {**{v: v for v in graph.inputs}, **fixed}
    for v in order(graph.roots, memo):
        memo[v] = v if isinstance(v.op, Input) else mapped(v, memo)
    found = merge_linears(with_roots(graph, memo))
    kept = tuple(v for v in graph.inputs if v not in fixed or fixed[v] is v)
    return Graph(graph.name, kept, found.outputs, found.updates)
