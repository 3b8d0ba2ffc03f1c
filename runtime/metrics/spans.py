"""Metrics of spans: what is marked in a sequence by classes called `B-person`, `I-person`, `O`.

A span is read as conlleval reads it (Tjong Kim Sang and De Meulder, 2003), which mends what is malformed: an `I-`
begins a span where none of its type goes on. In the schemes that have them, `E-` ends a span and `S-` is one of a
single step. A class of any other name is outside of all spans. A span is found if its first step, its last step and its
type are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...compiler.ir import Array
from ...compiler.spec.kinds import Word
from .core import NAN, About, metric
from .parts import Counts, as_rows
from .tables import ClassRow

OUTSIDE = "O"
PREFIXES = ("B", "I", "E", "S")
# What a span is of where its tags name no type.
UNNAMED = "_"


@metric("classes", told=True)
def span_f1(prediction: Array, target: Array, about: About, *, type_: Word | None = None) -> float:
    """The harmonic mean of precision and recall of spans: classes called `B-…`, `I-…` (`E-…`, `S-…`), and `O`.

    A span counts as found if its first step, its last step and its type are right. The spans of all
    types are counted together. The metric is nan where no class is called so.

    type: the only type of span that counts, such as `person`; all by default, and nan for one that no class has.
    Example: span_f1
    """
    counts = _counted(prediction, target, about, type_)
    return NAN if counts is None else float(counts.f1)


@metric("classes", told=True)
def span_precision(prediction: Array, target: Array, about: About, *, type_: Word | None = None) -> float:
    """How many of the spans predicted are there: 0 when none is. See `span_f1`.

    type: the only type of span that counts, such as `person`; all by default, and nan for one that no class has.
    Example: span_precision
    """
    counts = _counted(prediction, target, about, type_)
    return NAN if counts is None else float(counts.precision)


@metric("classes", told=True)
def span_recall(prediction: Array, target: Array, about: About, *, type_: Word | None = None) -> float:
    """How many of the spans that are there are predicted: 0 when there are none. See `span_f1`.

    type: the only type of span that counts, such as `person`; all by default, and nan for one that no class has.
    Example: span_recall
    """
    counts = _counted(prediction, target, about, type_)
    return NAN if counts is None else float(counts.recall)


def span_table(prediction: Array, target: Array, about: About) -> list[ClassRow]:
    """Precision, recall, F1 and support of each type of span by name; nothing where no class is called as in a span."""
    types, counts = _counts(np.asarray(prediction), np.asarray(target), about)
    columns = (counts.precision, counts.recall, counts.f1, counts.actual)
    return [
        ClassRow(name=name, precision=float(a), recall=float(b), f1=float(c), support=int(n))
        for name, a, b, c, n in zip(types, *columns, strict=True)
    ]


def _counted(p: Array, t: Array, about: About, type_: str | None) -> Counts | None:
    """The counts of all types together, or of one; `None` where there is no such type."""
    types, counts = _counts(p, t, about)
    wanted = [i for i, name in enumerate(types) if type_ in (None, name)]
    return Counts(*(column[wanted].sum() for column in counts)) if wanted else None


def _counts(p: Array, t: Array, about: About) -> tuple[list[str], Counts]:
    """The types of spans in the order of their names, and how often each was found, predicted, and true."""
    rows, ids = as_rows(p, t)
    scheme = _scheme(about.names, rows.shape[1])
    begins = _first_steps(t, about)
    predicted, actual = _spans(scheme, rows.argmax(1), begins), _spans(scheme, ids, begins)
    _, i, j = np.intersect1d(predicted.start, actual.start, assume_unique=True, return_indices=True)
    found = (predicted.stop[i] == actual.stop[j]) & (predicted.type[i] == actual.type[j])
    kinds = (predicted.type[i][found], predicted.type, actual.type)
    return scheme.types, Counts(*(np.bincount(kind, minlength=len(scheme.types)) for kind in kinds))


class _Scheme(NamedTuple):
    """What each class says of a step.

    open: whether its span may go on after it.
    goes_on: whether it may take on the span before it.
    type: which of the types its span is of, -1 outside of spans.
    """

    open: Array
    goes_on: Array
    type: Array
    types: list[str]


def _scheme(names: Sequence[str], classes: int) -> _Scheme:
    if names and len(names) != classes:
        raise ValueError(f"{classes} classes need a name each, found {len(names)} names")
    tags = [_tag(name) for name in names] or [(OUTSIDE, "")] * classes
    types = sorted({type_ for prefix, type_ in tags if prefix != OUTSIDE})
    index = [-1 if prefix == OUTSIDE else types.index(type_) for prefix, type_ in tags]
    prefixes = np.array([prefix for prefix, _ in tags])
    return _Scheme(np.isin(prefixes, ("B", "I")), np.isin(prefixes, ("I", "E")), np.array(index), types)


def _tag(name: str) -> tuple[str, str]:
    """What the name of a class says of a step, and of what type."""
    prefix, _, type_ = name.partition("-")
    return (prefix, type_ or UNNAMED) if prefix in PREFIXES else (OUTSIDE, "")


def _first_steps(t: Array, about: About) -> Array:
    """Which steps are the first of a sequence, [n]."""
    if t.ndim > 1:
        rows = np.repeat(np.arange(len(t)), t.size // len(t))
    else:
        rows = np.zeros(len(t), np.int64) if about.rows is None else about.rows
    begins: Array = np.diff(rows, prepend=rows[:1] - 1) != 0
    return begins


class _Spans(NamedTuple):
    """The first step of each span, the step after its last, and its type."""

    start: Array
    stop: Array
    type: Array


def _spans(scheme: _Scheme, ids: Array, begins: Array) -> _Spans:
    """The spans of sequences.

    ids: the class of each step, [n].
    begins: which steps are the first of a sequence, [n].
    """
    type_ = scheme.type[ids]
    outside = type_ < 0
    taken_on = np.zeros(len(ids), np.bool_)
    taken_on[1:] = scheme.open[ids[:-1]] & scheme.goes_on[ids[1:]] & (type_[:-1] == type_[1:])
    first = ~outside & (begins | ~taken_on)
    start = np.flatnonzero(first)
    ends = np.append(np.flatnonzero(first | outside), len(ids))
    return _Spans(start, ends[np.searchsorted(ends, start, side="right")], type_[start])
