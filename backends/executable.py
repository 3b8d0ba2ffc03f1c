"""What executables of all backends share: checked feeds, and one program per combination of sizes."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..compiler.ir import Array, Graph, IRError, Type, Value, agree, input_of, measure
from ..compiler.ops.recurrent import Lstm, LstmGrad
from ..compiler.passes import Model, for_training
from ..compiler.passes.fuse import fuse
from ..compiler.passes.precision import widened
from ..compiler.passes.rows import as_matrices
from ..compiler.rewrite import bind, legalize
from .profiling import Clock, Segment, repeat

# How many shapes of one graph are kept ready to run.
MAX_SHAPES = 32

# Backends that run ops as they are; ONNX Runtime looks for larger ones, which are of sequences.
OP_BY_OP = ("numpy", "torch")

Run = Callable[..., dict[str, Array]]
Layout = list[tuple[np.dtype[Any], tuple[int, ...]]]


class Specialised(ABC):
    """A graph that is compiled once for each combination of sizes of its named dims.

    Calls are serialised by a lock: buffers and state belong to the executable.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._fed = {input_of(v).name: v.type for v in graph.inputs if input_of(v).role not in ("param", "buffer")}
        self._compiled: OrderedDict[tuple[Any, ...], Run] = OrderedDict()
        # The program that ran last, and what for: mostly the next, too
        self._last: Layout | None = None
        self._run: Run
        self._lock = threading.Lock()

    @abstractmethod
    def specialise(self, sizes: Mapping[str, int], clock: Clock | None = None) -> Run:
        """Compile the graph for sizes: a function of the fed arrays, in the order of the graph's inputs.

        A clock is read between the steps of the spec.
        """

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once. Raises `IRError` for a feed that is missing or of another type."""
        arrays = self._given(feeds)
        # Element types and shapes say the sizes of all named dims: what was checked once need not be again.
        layout = [(array.dtype, array.shape) for array in arrays]
        with self._lock:
            if layout != self._last:
                self._run, self._last = self._ready(layout, arrays), layout
            return self._run(*arrays)

    def _ready(self, layout: Layout, arrays: Sequence[Array]) -> Run:
        """The program for arrays of some types and shapes, the last to be forgotten."""
        key = tuple(layout)
        run = self._compiled.get(key)
        if run is None:
            run = self._compiled[key] = self.specialise(self._checked(arrays))
            if len(self._compiled) > MAX_SHAPES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return run

    def _given(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The feeds in the order of the graph's inputs; raises `IRError` where one is missing."""
        try:
            return [np.asarray(feeds[name]) for name in self._fed]
        except KeyError:
            missing = next(name for name in self._fed if name not in feeds)
            raise IRError(f"there is no value for the input {missing}: {self._fed[missing]}") from None

    def _checked(self, arrays: Sequence[Array]) -> dict[str, int]:
        """The sizes of all named dims; raises `IRError` for an array of another type."""
        for (name, t), array in zip(self._fed.items(), arrays, strict=True):
            if array.dtype != t.dtype.numpy:
                raise IRError(f"{name}: expected {t}, got an array of dtype {array.dtype}")
        return sizes_of(self._fed, dict(zip(self._fed, arrays, strict=True)))

    def profile(self, feeds: Mapping[str, Array], seconds: float) -> list[Segment]:
        """What a call spends on each step of the spec, by calls that go on for about so many seconds together."""
        arrays = self._given(feeds)
        clock = Clock()
        run = self.specialise(self._checked(arrays), clock)
        with self._lock:
            times = repeat(lambda: run(*arrays), seconds)
        return clock.segments(times)


def lower(graph: Graph, sizes: Mapping[str, int], native: Callable[[Value], bool], backend: str) -> Graph:
    """The graph at given sizes, in ops that a backend runs, with what is then constant folded."""
    bound, _ = for_training(Model(bind(graph, sizes)))
    fused = fuse(widened(bound.graph, native), native)
    fused = as_matrices(fused) if backend in OP_BY_OP else fused
    lowered, _ = for_training(Model(legalize(fused, _with_gradients(fused, native), backend)))
    return lowered.graph


def _with_gradients(graph: Graph, native: Callable[[Value], bool]) -> Callable[[Value], bool]:
    """`native`, but for trained recurrent layers whose gradient is decomposed: both share their scan then."""
    if not any(isinstance(v.op, LstmGrad) for v in graph.order()):
        return native
    return lambda v: native(v) and not (isinstance(v.op, Lstm) and not native(v.op.gradient(v)))


def sizes_of(declared: Mapping[str, Type], feeds: Mapping[str, Array]) -> dict[str, int]:
    """The sizes of all named dims, read off the feeds, which must agree."""
    sizes: dict[str, int] = {}
    for name, t in declared.items():
        agree(sizes, name, measure(name, t, np.shape(feeds[name])))
    return sizes
