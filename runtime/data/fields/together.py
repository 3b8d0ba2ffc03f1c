"""Fields of one table, made together: sequences cut alike, windows of the same rows, fields made of fields."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from ....compiler.initialisers import generator
from ....compiler.spec.diagnostics import Span
from ..table import Array, DataError, Rows, Table
from .core import Derived, Fitted
from .series import FittedSeries, anchors

Spans = Mapping[str, Span | None]
NOWHERE: Spans = {}


def encode(fields: Mapping[str, Fitted], table: Table, spans: Spans = NOWHERE) -> dict[str, Array]:
    """The array of each field for a table's rows, or for its windows; raises `DataError`, at the field's place.

    Fields that are made of others are drawn once, always the same.
    """
    plain = {name: field for name, field in fields.items() if not isinstance(field, Derived)}
    series = {name: field for name, field in plain.items() if isinstance(field, FittedSeries)}
    rows: Rows | None = None
    if series:
        with placed(next(iter(series)), spans):
            rows = anchors(list(series.values()), table)
    own = table if rows is None else table.take(rows)
    found: dict[str, Array] = {}
    for name, field in plain.items():
        with placed(name, spans):
            if isinstance(field, FittedSeries) and rows is not None:
                found[name] = field.windows(table, rows)
            else:
                found[name] = field.transform(own)
    for name, field in fields.items():
        if isinstance(field, Derived):
            found[name] = field.vary(name, found, generator(0, "field", name))
    return {name: found[name] for name in fields}


def window_rows(fields: Mapping[str, Fitted], names: Iterable[str], table: Table) -> Rows | None:
    """The rows around which the fields called `names` have their windows; `None` where none of them has any."""
    series = [field for field in with_needed(fields, names).values() if isinstance(field, FittedSeries)]
    return anchors(series, table) if series else None


@contextmanager
def placed(name: str, spans: Spans) -> Iterator[None]:
    """Errors within are at the place of the field `name`."""
    try:
        yield
    except DataError as error:
        raise error.at(spans.get(name)) from None


def cut_alike(fields: Mapping[str, Fitted], table: Table) -> dict[str, Fitted]:
    """The fields, cut as those beside them: sequences that say no limit, and have the same lengths in all rows.

    It is decided once, by the training rows.
    """
    groups: dict[bytes, list[str]] = defaultdict(list)
    for name, field in fields.items():
        column = table.columns.get(field.columns[0]) if len(field.columns) == 1 else None
        if column is not None and column.is_sequence and field.padded:
            groups[column.lengths.tobytes()].append(name)
    found = dict(fields)
    for names in groups.values():
        limits = [limit for name in names if (limit := fields[name].limit) is not None]
        if limits:
            found |= {name: fields[name].cut(min(limits)) for name in names if fields[name].limit is None}
    return found


def informed(fields: Mapping[str, Fitted], train: Table, spans: Spans = NOWHERE) -> dict[str, Fitted]:
    """The fields, those made of others told the training rows of these."""
    derived = {name: field for name, field in fields.items() if isinstance(field, Derived)}
    needed = {need: fields[need] for field in derived.values() for need in field.needs}
    arrays = encode(needed, train, spans) if needed else {}
    found = dict(fields)
    for name, field in derived.items():
        with placed(name, spans):
            found[name] = field.knowing(arrays)
    return found


def with_needed(fields: Mapping[str, Fitted], names: Iterable[str]) -> dict[str, Fitted]:
    """The fields called `names`, and those that they are made of."""
    found: dict[str, Fitted] = {}
    for name in names:
        field = fields[name]
        needs = field.needs if isinstance(field, Derived) else ()
        found |= {n: fields[n] for n in (*needs, name)}
    return found
