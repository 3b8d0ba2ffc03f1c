"""Running passes: each one verified, measured and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field

from .. import text
from ..analysis import summary
from ..ir import Array, Graph, IRError, input_of
from ..structs import Struct


class Model(Struct):
    """A graph with its weights: arrays by the names of its parameters and buffers."""

    graph: Graph
    weights: Mapping[str, Array] = field(default_factory=dict)


Pass = Callable[[Model], Model]


class Record(Struct):
    """What one pass did: the graph's size before and after, and how long it took."""

    name: str
    nodes: tuple[int, int]
    flops: tuple[int, int]
    parameters: tuple[int, int]
    seconds: float


def run(model: Model, passes: Iterable[tuple[str, Pass]]) -> tuple[Model, list[Record]]:
    """Apply passes in order.

    After each one the graph is verified, and its data inputs, outputs and updates must have kept
    their names and types. An error carries the graph that the pass was given, as text.
    """
    records = []
    for name, each in passes:
        before = summary(model.graph)
        started = time.perf_counter()
        try:
            new = each(model)
            new.graph.verify()
            _check_kept(name, model.graph, new.graph)
        except Exception as error:
            error.add_note(f"in pass `{name}`, on the graph\n{text.write(model.graph, elide=True)}")
            raise
        seconds = time.perf_counter() - started
        after = summary(new.graph)
        records.append(
            Record(
                name,
                (before.nodes, after.nodes),
                (before.flops, after.flops),
                (before.parameters, after.parameters),
                seconds,
            )
        )
        model = new
    return model, records


def _check_kept(name: str, old: Graph, new: Graph) -> None:
    for what, a, b in (
        ("inputs", _inputs(old), _inputs(new)),
        ("outputs", _types(old.outputs), _types(new.outputs)),
        ("updates", _types(old.updates), _types(new.updates)),
    ):
        if a != b:
            raise IRError(f"pass `{name}` changed the {what} of graph {old.name}: {a} became {b}")


def _inputs(graph: Graph) -> dict[str, str]:
    return {input_of(v).name: str(v.type) for v in graph.by_role("data")}


def _types(values: Mapping[str, object]) -> dict[str, str]:
    return {key: str(getattr(value, "type", "")) for key, value in values.items()}
