"""Texts that a network generates for the rows of a split, beside those of the data: for BLEU and its like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..compiler.build import Head
from ..compiler.generation import NotGenerative, decoder
from ..compiler.ir import Array
from ..compiler.spec.reader import Spec
from .data import DataError, Fitted, Table
from .data.fields import END, START, FittedText
from .evaluation import Outcome, batches, calls_for, rows_of
from .generation import Generator
from .model import LoadedModel


def judged_by_text(spec: Spec, heads: Sequence[Head]) -> list[Head]:
    """The heads whose sequences are generated, where metrics compare text with text."""
    if not calls_for("text", spec.sections.evaluate.metrics):
        return []
    return [head for head in heads if head.loss == "next_token"]


def check_texts(spec: Spec, heads: Sequence[Head], fields: Mapping[str, Fitted]) -> None:
    """Raise `DataError` where texts are to be compared that cannot be generated."""
    for head in judged_by_text(spec, heads):
        _field(head, fields)
        try:
            decoder(spec)
        except NotGenerative as error:
            raise DataError(f"to compare texts, they must be generated, and that cannot be: {error}") from None


def _field(head: Head, fields: Mapping[str, Fitted]) -> FittedText:
    field = fields.get(head.target)
    if not isinstance(field, FittedText) or not {START, END} <= set(field.tokens.special):
        raise DataError(
            f"to compare texts, the field `{head.target}` must be one of text, in which each has its beginning and "
            "end: `start: true, end: true`"
        )
    return field


def with_texts(outcome: Outcome, model: LoadedModel, arrays: Mapping[str, Array], table: Table) -> Outcome:
    """An outcome with what is generated for each row, where metrics compare text with text."""
    heads = judged_by_text(model.spec, model.heads)
    return replace(outcome, texts={head.key: _pair(head, model, arrays, table) for head in heads}) if heads else outcome


def _pair(head: Head, model: LoadedModel, arrays: Mapping[str, Array], table: Table) -> tuple[Array, Array]:
    """The generated texts and those of the data, both as the field's vocabulary writes them."""
    field = _field(head, model.fields)
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
    expected[:] = [field.tokens.written(text) for text in field.layout.texts(table, type(field.tokens))]
    return found, expected
