"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ....compiler.spec.diagnostics import hint
from ....compiler.spec.kinds import Word
from ....compiler.spec.registry import SOURCES
from ..table import Array, Column, DataError, Mask, Table, as_column, list_column, make_table, text_column
from .files import open_file, open_files

ENDINGS = (".parquet",)

Arrow = Any
"""pyarrow has no types: its arrays, types and schemas."""


@SOURCES.register
def parquet(target: str, folder: Path, *, columns: list[Word] | None = None) -> Table:
    """The rows of a Parquet file, or of all the Parquet files in a folder, in the order of their names.

    Columns may hold numbers, booleans (as 0 and 1), text, dates and times (as ISO text, times with a
    zone in UTC), and lists of numbers or of text. Nulls are missing. What other types hold is of no concern where no
    field reads it.

    columns: the columns to read; without them, all.
    Example: source: parquet:trips.parquet
    """
    need_pyarrow()
    path = folder / target
    wanted: Arrow = None
    parts: dict[str, list[Arrow]] = {}
    refused: dict[str, str] = {}
    for file in _files(path):
        with _reading(file), open_file(file) as stream:
            source = _opened(stream)
            fields = _fields(source.schema_arrow, columns, file.name)
            wanted = wanted or fields
            _check_same(wanted, fields, path, file.name)
            refused = {name: why for name, kind in fields.items() if (why := _odd(name, kind, file.name))}
            for batch in source.iter_batches(columns=[name for name in fields if name not in refused]):
                for name in batch.schema.names:
                    parts.setdefault(name, []).append(batch.column(name))
    if not parts:
        raise DataError(next(iter(refused.values()), f"`{path}` has no rows"))
    with _reading(path):
        return make_table({name: _column(name, parts.pop(name), path.name) for name in list(parts)}, path.name, refused)


def need_pyarrow(what: str = "`parquet:`") -> None:
    """Raise `DataError` where pyarrow is absent, which `what` needs."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise DataError(f"{what} needs pyarrow: pip install 'trine[parquet]'") from None


def _files(path: Path) -> list[Path]:
    with open_files(path) as files:
        if files.single:
            return [path]
        names = [name for name in files.ending_in(ENDINGS) if "/" not in name]
    if not names:
        raise DataError(f"`{path}` has no Parquet files: no file there ends in `.parquet`")
    return [path / name for name in names]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"`{path}` cannot be read as Parquet: {error}") from None


def _opened(stream: Any) -> Arrow:
    from pyarrow.parquet import ParquetFile

    return ParquetFile(stream)


def _fields(schema: Arrow, columns: Sequence[str] | None, file: str) -> dict[str, Arrow]:
    """The types of the columns to read; raises `DataError` for one that there is not or that no column can hold."""
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise DataError(
            f"{file} has the column name `{twice[0]}` {schema.names.count(twice[0])} times; names must differ"
        )
    for name in columns or []:
        if name not in schema.names:
            raise DataError(f"`columns` names `{name}`, which {file} does not have: {hint(name, schema.names)}")
    fields = {name: schema.field(name).type for name in columns or schema.names}
    for name in columns or []:
        if why := _odd(name, fields[name], file):
            raise DataError(why)
    return fields


def _odd(name: str, kind: Arrow, file: str) -> str:
    """What is wrong with a column that cannot be held; empty where nothing is."""
    if _kind(kind) is not None:
        return ""
    return (
        f"{file}: column `{name}` has the type {kind}; expected numbers, booleans, text, dates, times, or "
        "lists of numbers or text: convert it"
    )


def _check_same(wanted: dict[str, Arrow], found: dict[str, Arrow], folder: Path, file: str) -> None:
    """Raise `DataError` where a second file of a folder has other columns than the first."""
    names = {*wanted, *found}
    odd = [name for name in names if wanted.get(name) != found.get(name)]
    if odd:
        name = min(odd)
        raise DataError(
            f"`{folder}`: the column `{name}` is {found.get(name, 'absent')} in `{file}` and "
            f"{wanted.get(name, 'absent')} in the files before it; all files need the same columns"
        )


def _kind(kind: Arrow) -> str | None:
    """How values of a type are read, `None` for types that are not."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list" if _kind(kind.value_type) in ("number", "text") else None
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind):
        return "text"
    return "time" if types.is_date(kind) or types.is_timestamp(kind) else None


def _column(name: str, parts: list[Arrow], file: str) -> Column:
    """A column of the arrays of its batches."""
    match _kind(parts[0].type):
        case "number":
            return _numbers(name, parts, file)
        case "list":
            return list_column([row for part in _from_row_one(parts) for row in _lists(name, *part, file)])
        case kind:
            cells = [cell for part in parts for cell in (_times(part) if kind == "time" else _plain(part).to_pylist())]
            return text_column((cell or "" for cell in cells), np.concatenate([_nulls(part) for part in parts]))


def _numbers(name: str, parts: list[Arrow], file: str) -> Column:
    column = as_column(name, np.concatenate([_values(part) for part in parts]), file)
    return replace(column, missing=column.missing | np.concatenate([_nulls(part) for part in parts]))


def _values(array: Arrow) -> Array:
    """Numbers, with 0 for null: a null would make floats of whole numbers, which would round them."""
    from pyarrow import types

    plain = _plain(array)
    filled = plain.fill_null(False if types.is_boolean(plain.type) else 0)
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _nulls(array: Arrow) -> Mask:
    # A dictionary may have nulls among its values, which are known only once it is decoded.
    return np.asarray(_plain(array).is_null().to_numpy(zero_copy_only=False), np.bool_)


def _plain(array: Arrow) -> Arrow:
    from pyarrow import types

    return array.dictionary_decode() if types.is_dictionary(array.type) else array


def _times(array: Arrow) -> list[str]:
    """Dates and times as ISO text, in the precision they are stored with."""
    import pyarrow as pa

    plain = _plain(array)
    if pa.types.is_date32(plain.type):
        days = plain.cast(pa.int32())
        return [str(text) for text in np.datetime_as_string(_values(days).astype("datetime64[D]"))]
    unit = "ms" if pa.types.is_date64(plain.type) else plain.type.unit
    times = _values(plain.cast(pa.int64())).astype(f"datetime64[{unit}]")
    if pa.types.is_date64(plain.type):
        times = times.astype("datetime64[D]")
    zone = "" if pa.types.is_date64(plain.type) or plain.type.tz is None else "Z"
    return [f"{text}{zone}" for text in np.datetime_as_string(times)]


def _from_row_one(parts: list[Arrow]) -> Iterator[tuple[Arrow, int]]:
    """Each batch and the number of its first row."""
    row = 1
    for part in parts:
        yield part, row
        row += len(part)


def _lists(name: str, array: Arrow, first: int, file: str) -> list[Array | None]:
    """The list in each row of a batch, `None` for null."""
    import pyarrow as pa
    from pyarrow import compute

    steps = _plain(array.flatten())
    lengths = np.asarray(compute.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False), np.int64)
    ends = np.cumsum(lengths)
    if steps.null_count:
        row = first + int(np.searchsorted(ends, int(np.argmax(_nulls(steps))), side="right"))
        raise DataError(
            f"{file}: column `{name}` has a list with a null in it, in row {row}; lists need all their values"
        )
    text = pa.types.is_string(steps.type) or pa.types.is_large_string(steps.type)
    values = np.array([*steps.to_pylist(), None], object)[:-1] if text else _values(steps)
    rows = np.split(values, ends[:-1]) if len(ends) else []
    return [None if absent else row for row, absent in zip(rows, _nulls(array), strict=True)]
