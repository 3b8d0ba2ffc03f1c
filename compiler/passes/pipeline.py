"""Running passes: each one verified, measured and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import cached_property

from .. import text
from ..analysis import Summary, summary
from ..ir import Array, Graph, IRError, Type, Value, input_of
from ..structs import Struct


class Model(Struct):
    """A graph with its weights: arrays by the names of its parameters and buffers."""

    graph: Graph
    weights: Mapping[str, Array] = field(default_factory=dict)


Pass = Callable[[Model], Model]


class Record(Struct):
    """What one pass did: the graph before and after, and how long it took. Sizes are counted when asked for."""

    name: str
    before: Graph
    after: Graph
    seconds: float

    @property
    def nodes(self) -> tuple[int, int]:
        return self._both(lambda s: s.nodes)

    @property
    def flops(self) -> tuple[int, int]:
        return self._both(lambda s: s.flops)

    @property
    def parameters(self) -> tuple[int, int]:
        return self._both(lambda s: s.parameters)

    def _both(self, number: Callable[[Summary], int]) -> tuple[int, int]:
        before, after = self._summaries
        return number(before), number(after)

    @cached_property
    def _summaries(self) -> tuple[Summary, Summary]:
        return summary(self.before), summary(self.after)

    def as_json(self) -> dict[str, object]:
        names = ("name", "nodes", "flops", "parameters", "seconds")
        return {name: getattr(self, name) for name in names}


def run(model: Model, passes: Iterable[tuple[str, Pass]]) -> tuple[Model, list[Record]]:
    """Apply passes in order.

    After each one the graph is verified, and its data inputs, outputs and updates must have kept
    their names and types. An error carries the graph that the pass was given, as text.
    """
    records = []
    verified: Graph | None = None
    for name, each in passes:
        started = time.perf_counter()
        try:
            new = each(model)
            if new.graph is not verified:
                new.graph.verify()
                _check_kept(name, model.graph, new.graph)
                verified = new.graph
        except Exception as error:
            error.add_note(f"in pass `{name}`, on the graph\n{text.write(model.graph, elide=True)}")
            raise
        records.append(Record(name, model.graph, new.graph, time.perf_counter() - started))
        model = new
    return model, records


def _check_kept(name: str, old: Graph, new: Graph) -> None:
    for what, a, b in (
        ("inputs", _inputs(old), _inputs(new)),
        ("outputs", _types(old.outputs), _types(new.outputs)),
        ("updates", _types(old.updates), _types(new.updates)),
    ):
        if a != b:
            raise IRError(f"pass `{name}` changed the {what} of graph {old.name}: {_shown(a)} became {_shown(b)}")


def _inputs(graph: Graph) -> dict[str, Type]:
    return {input_of(v).name: v.type for v in graph.by_role("data")}


def _types(values: Mapping[str, Value]) -> dict[str, Type]:
    return {key: value.type for key, value in values.items()}


def _shown(types: Mapping[str, Type]) -> dict[str, str]:
    return {key: str(t) for key, t in types.items()}
