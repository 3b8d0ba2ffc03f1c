"""What a step of training keeps, and steps that keep no more than they may."""

from __future__ import annotations

from collections.abc import Mapping

from ..backends.base import Backend
from ..backends.executable import lower
from ..compiler.ir import Graph
from ..compiler.machine import bytes_text
from ..compiler.passes.budget import Budgeted, OverBudget, within
from ..compiler.spec.sections import Train
from ..compiler.spec.signatures import BATCH
from .specs import UsageError


def peak(graph: Graph, sizes: Mapping[str, int], backend: Backend) -> int:
    """The bytes of activations that a run on a backend keeps at most at one time."""
    return backend.memory(lower(graph, sizes, backend.native, backend.name))


def budgeted(graph: Graph, train: Train, sizes: Mapping[str, int], backend: Backend) -> Budgeted:
    """A step of training that keeps no more than `train.memory`; raises `UsageError` where there is none."""
    assert train.memory is not None
    if not backend.plans_memory:
        raise UsageError(
            "`memory` is kept by `numpy` and by `torch` alone: ONNX Runtime and `torch:compile` plan memory by "
            "themselves and compute nothing again. Train on one of the two, or leave `memory` out",
            train.spans.get("memory"),
        )
    try:
        return within(graph, train.memory, sizes, lambda found: peak(found, sizes, backend))
    except OverBudget as error:
        raise UsageError(
            f"`memory` allows {bytes_text(train.memory)}, and a step of {sizes[BATCH]} rows keeps at least "
            f"{bytes_text(error.least)} on `{backend.name}`, however much of it is computed again: take smaller "
            "batches, and `accumulate` as many as make up for it",
            train.spans.get("memory"),
        ) from None


def budget_words(found: Budgeted, rows: int) -> str:
    """What was done to keep within a budget."""
    words = f"memory: {bytes_text(found.peak)} of activations for {rows} rows"
    return f"{words}, {100 * found.again:.2g} % of the arithmetic being done twice" if found.again else words
