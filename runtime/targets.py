"""Targets against the losses that read them: numbers, classes and weights that do not fit are told before training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..compiler.build import Head, Network
from ..compiler.ir import Array, DType
from ..compiler.layers.core import takes_of
from ..compiler.spec.diagnostics import Span, hint
from ..compiler.spec.reader import Spec
from ..compiler.spec.registry import LOSSES
from ..compiler.spec.source import Node
from .data import DataError, Dataset
from .data.fields import MISSING, FittedIds
from .data.table import counted, listed


def check_targets(spec: Spec, network: Network, dataset: Dataset) -> None:
    """Raise `DataError`, at the loss's place, for targets or weights that a loss does not take."""
    train = spec.sections.train
    span = train.spans.get("loss") if train is not None else None
    for head in network.heads:
        _check_classes(head, network, dataset, span)
        _check_missing(head, spec, dataset)
        _check_numbers(head, dataset, span)
        _check_weights(head, dataset, span)
        if head.class_weights is not None:
            class_weights(head, dataset)


def _check_classes(head: Head, network: Network, dataset: Dataset, span: Span | None) -> None:
    """A loss on classes has as many outputs as its target has classes, and more than one of them."""
    if head.task != "classes":
        return
    outputs = network.graph.outputs[f"prediction/{head.key}"].shape[-1]
    size = dataset.fields[head.target].size if head.target in dataset.fields else None
    if size is not None and size < 2:
        raise DataError(f"the training rows have one value of `{head.target}` alone: there is nothing to tell apart")
    if size is not None and outputs != size:
        raise DataError(
            f"`{head.output}` has {outputs} outputs, the field `{head.target}` has {size} classes: "
            f"`${head.target}.size` is their number"
        )
    for split, part in dataset.splits.items():
        ids = part.arrays.get(head.target)
        if ids is not None and ids.size and isinstance(outputs, int) and int(ids.max()) >= outputs:
            raise DataError(
                f"the field `{head.target}` has ids up to {int(ids.max())} in its {split} rows, `{head.output}` has "
                f"{outputs} outputs, for ids from 0 to {outputs - 1}",
                span,
            )


def _check_missing(head: Head, spec: Spec, dataset: Dataset) -> None:
    """What is missing is no class, unless the spec says so."""
    field = dataset.fields.get(head.target)
    if not isinstance(field, FittedIds) or field.absent != MISSING or head.task != "classes":
        return
    declared = spec.sections.data.fields if spec.sections.data is not None else None
    node = declared.get(head.target) if isinstance(declared, Node) else None
    if node is not None and node.get("fill") is not None:
        return
    ids = dataset.splits["train"].arrays[head.target]
    count = int((ids == field.categories.index(MISSING)).sum())
    raise DataError(
        f"{counted(count, 'training row')} lack `{field.column}`, which the loss compares with: `clean: [{{drop_rows: "
        f"{{missing: {field.column}}}}}]` drops such rows, `fill: own` makes a class `{MISSING}` of them",
        node.span if node is not None else None,
    )


def _check_numbers(head: Head, dataset: Dataset, span: Span | None) -> None:
    """A loss on numbers of a range has targets within it."""
    takes = takes_of(LOSSES[head.loss])
    if takes is None:
        return
    for split, part in dataset.splits.items():
        numbers = part.arrays.get(head.target)
        if numbers is None:  # a step of the network
            continue
        odd = takes.odd(numbers)
        if odd.any():
            found = np.unique(numbers[odd])
            shown = listed([f"{number:.6g}" for number in found.tolist()], 3)
            raise DataError(
                f"`{head.loss}` takes {takes}, the field `{head.target}` has {shown} in {split} rows: "
                f"{_advice(head.loss)}",
                span,
            )


def _advice(loss: str) -> str:
    if loss in ("binary_cross_entropy", "binary_focal", "contrastive"):
        return "`encode: binary` makes 0 and 1 of two values"
    if loss in ("hinge", "cosine_embedding"):
        return "mend them in `data.clean`, as by `replace: {columns: …, values: {0: -1}}`"
    return "mend them in `data.clean`, or take another loss; scaling by `standard` moves numbers below 0"


def _check_weights(head: Head, dataset: Dataset, span: Span | None) -> None:
    """Sample weights are nowhere negative."""
    name = head.sample_weight
    for split, part in dataset.splits.items():
        weights = part.arrays.get(name)
        if weights is not None and weights.size and weights.min() < 0:
            raise DataError(
                f"the field `{name}` weights samples and is {weights.min():.6g} in a row of its {split} split: weights "
                "are 0 or more (`scale: none` keeps a column's numbers as they are)",
                span,
            )


def class_weights(head: Head, dataset: Dataset) -> Array:
    """How much each class counts, by id; raises `DataError` for a name that no class has.

    `balanced`: the rows over the classes that there are, over the rows of the class, as scikit-learn has it.
    """
    assert head.class_weights is not None
    _, given = head.class_weights
    field = dataset.fields[head.target]
    size = field.size or int(dataset.splits["train"].arrays[head.target].max()) + 1
    names = field.names or [str(i) for i in range(size)]
    weights = np.ones(size, DType.f32.numpy)
    if not isinstance(given, Mapping):
        counts = np.bincount(dataset.splits["train"].arrays[head.target].reshape(-1), minlength=size)
        there = counts > 0
        weights[there] = counts.sum() / (there.sum() * counts[there])
        return weights
    for name, weight in given.items():
        if name not in names:
            raise DataError(f"`weights` of `{head.loss}` names a class `{name}`: {hint(name, names)}")
        weights[names.index(name)] = weight
    return weights


def state_of(network: Network, dataset: Dataset) -> dict[str, Array]:
    """The state that the data say: how much each class counts."""
    return {head.class_weights[0]: class_weights(head, dataset) for head in network.heads if head.class_weights}
