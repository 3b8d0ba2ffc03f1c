"""Texts that a network generates for the rows of a split, beside those of the data: for BLEU and its like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..compiler.build import Head
from ..compiler.ir import Array
from .data import DataError, Table
from .data.fields import END, START, FittedText
from .evaluation import Outcome, batches, calls_for, rows_of
from .generation import Generator
from .model import LoadedModel


def with_texts(outcome: Outcome, model: LoadedModel, arrays: Mapping[str, Array], table: Table) -> Outcome:
    """An outcome with what is generated for each row, where metrics compare text with text."""
    if not calls_for("text", model.spec.sections.evaluate.metrics):
        return outcome
    heads = [head for head in model.heads if head.loss == "next_token"]
    return replace(outcome, texts={head.key: _pair(head, model, arrays, table) for head in heads})


def _pair(head: Head, model: LoadedModel, arrays: Mapping[str, Array], table: Table) -> tuple[Array, Array]:
    """The generated texts and those of the data."""
    field = model.fields.get(head.target)
    if not isinstance(field, FittedText) or not {START, END} <= set(field.tokens.special):
        raise DataError(
            f"to compare texts, the field `{head.target}` must be one of text, in which each has its beginning and "
            "end: `start: true, end: true`"
        )
    generator = Generator(model)
    first = field.tokens.special[START]
    others = {name: arrays[name] for name in model.inputs if name != generator.decoder.name}
    size, count = model.spec.sections.evaluate.batch, rows_of(others)
    found = np.empty(count, object)
    for start, feeds in zip(range(0, count, size), batches(others, size), strict=True):
        # The last batch is filled up, so that one program fits all.
        missing = min(size, count) - rows_of(feeds)
        filled = {
            name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for name, array in feeds.items()
        }
        for i, ids in enumerate(generator.greedy([first], filled, field.end)[: rows_of(feeds)]):
            found[start + i] = field.text(ids)
    expected = np.empty(count, object)
    expected[:] = [" ".join(t) if isinstance(t, list) else t for t in field.layout.texts(table, type(field.tokens))]
    return found, expected
