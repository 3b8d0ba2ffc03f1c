"""What building a spec gives: a graph, its heads, its steps."""

from __future__ import annotations

from collections.abc import Container, Mapping
from itertools import count, takewhile
from typing import Literal

from ..ir import Graph, Value
from ..spec.diagnostics import Span
from ..spec.registry import Call
from ..structs import Struct

Mode = Literal["train", "evaluate", "infer"]


class Applied(Struct):
    """A step as it was applied: its path, layer, arguments in force, and where it stands."""

    path: str
    call: Call
    span: Span
    inputs: tuple[Value, ...]
    output: Value


class Head(Struct):
    """A loss of the network: the first step it reads, its target, and its user-facing prediction.

    `target` is empty for a loss that reads steps alone. `key` is what the prediction is called: the
    target's name, where no loss before compares with it, or the step's where there is no target; empty
    where nothing is predicted.
    `sample_weight` is the field that the samples are weighted by, or empty. `class_weights` are the state for how much
    each class counts, and what the spec says of it: numbers by name, or `balanced`.
    """

    loss: str
    output: str
    target: str
    task: str
    key: str
    weight: float = 1.0
    sample_weight: str = ""
    class_weights: tuple[str, Mapping[str, float] | str] | None = None

    @property
    def predicts(self) -> bool:
        """Whether there is a prediction that metrics can compare with the target."""
        return self.task not in ("nothing", "ranking")

    @property
    def ranks(self) -> bool:
        """Whether the step is a score, by which metrics can rank what might be chosen."""
        return self.task == "ranking"

    @property
    def tasks(self) -> tuple[str, ...]:
        """What metrics can be for: besides the task itself, text where there is a sequence to generate."""
        return (self.task, "text") if self.loss == "next_token" else (self.task,)


TOTAL, WEIGHT = "loss/total", "loss/weight"


def part_names(i: int) -> tuple[str, str]:
    """Names of the sums of a part of the loss: of its values, and of its weights."""
    return (TOTAL, WEIGHT) if i == 0 else (f"{TOTAL}/{i}", f"{WEIGHT}/{i}")


def parts_of(names: Container[str]) -> list[tuple[str, str]]:
    """The sums of all parts of the loss among the outputs of a graph."""
    return list(takewhile(lambda pair: pair[0] in names, map(part_names, count())))


class Network(Struct):
    """A spec's graph in one mode, its heads, and its steps.

    Outputs are those the spec names. In the modes `train` and `evaluate`, where the spec has a
    loss, there are also `loss` (a scalar: the weighted mean over the batch), `loss/total` and
    `loss/weight` (the sums it is the ratio of; where losses weigh samples differently, several such pairs, of which
    it is the sum of ratios: see `part_names`), `prediction/<key>` for each head that predicts, and
    `target/<key>` where that is compared with something other than the field itself.
    """

    graph: Graph
    heads: tuple[Head, ...]
    steps: tuple[Applied, ...]
