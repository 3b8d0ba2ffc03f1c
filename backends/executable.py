"""What executables of all backends share: checked feeds, and one program per combination of sizes."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np

from ..compiler.ir import Array, Graph, IRError, Type, Value, agree, input_of, measure
from ..compiler.passes import Model, for_training
from ..compiler.passes.fuse import fuse, merge_linears
from ..compiler.rewrite import bind, legalize

# How many shapes of one graph are kept ready to run.
MAX_SHAPES = 32

Run = Callable[..., dict[str, Array]]


class Specialised(ABC):
    """A graph that is compiled once for each combination of sizes of its named dims.

    Calls are serialised by a lock: buffers and state belong to the executable.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._fed = {input_of(v).name: v.type for v in graph.inputs if input_of(v).role not in ("param", "buffer")}
        self._compiled: OrderedDict[tuple[tuple[str, int], ...], Run] = OrderedDict()
        self._lock = threading.Lock()

    @abstractmethod
    def specialise(self, sizes: Mapping[str, int]) -> Run:
        """Compile the graph for sizes: a function of the fed arrays, in the order of the graph's inputs."""

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once. Raises `IRError` for a feed that is missing or of another type."""
        arrays = [checked(name, t, feeds) for name, t in self._fed.items()]
        sizes = sizes_of(self._fed, feeds)
        key = tuple(sorted(sizes.items()))
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = self.specialise(sizes)
            self._compiled.move_to_end(key)
            if len(self._compiled) > MAX_SHAPES:
                self._compiled.popitem(last=False)
            return self._compiled[key](*arrays)


def lower(graph: Graph, sizes: Mapping[str, int], native: Callable[[Value], bool], backend: str) -> Graph:
    """The graph at given sizes, in ops that a backend runs, with what is then constant folded."""
    bound, _ = for_training(Model(bind(graph, sizes)))
    lowered, _ = for_training(Model(legalize(merge_linears(bound.graph), native, backend)))
    return fuse(lowered.graph, native)


def sizes_of(declared: Mapping[str, Type], feeds: Mapping[str, Array]) -> dict[str, int]:
    """The sizes of all named dims, read off the feeds, which must agree."""
    sizes: dict[str, int] = {}
    for name, t in declared.items():
        agree(sizes, name, measure(name, t, np.shape(feeds[name])))
    return sizes


def checked(name: str, t: Type, feeds: Mapping[str, Array]) -> Array:
    """The feed for an input, if it is there and of the right element type."""
    if name not in feeds:
        raise IRError(f"there is no value for the input {name}: {t}")
    array = np.asarray(feeds[name])
    if array.dtype != t.dtype.numpy:
        raise IRError(f"{name}: expected {t}, got an array of dtype {array.dtype}")
    return array
