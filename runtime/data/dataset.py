"""From a spec's `data` section to arrays: read, clean, split, fit on training rows, transform."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ...compiler.ir import Type
from ...compiler.spec.diagnostics import Report, Span, hint
from ...compiler.spec.expressions import Scope
from ...compiler.spec.kinds import INVALID, Context, params_of, read_arguments
from ...compiler.spec.reader import Spec
from ...compiler.spec.registry import SOURCES, SPLITS, Call
from ...compiler.spec.sections import FIELD, Data, Source
from ...compiler.spec.signatures import DTYPES, RESERVED, spec_type
from ...compiler.spec.source import Key, Node
from .fields import DerivedEncoder, Encoder, FieldError, Fitted, Order, Series, State, in_order, restore
from .fields.together import Spans, cut_alike, encode, informed, placed, with_needed
from .schema import Kind, Schema, conform, learn
from .sources.separated import as_text
from .splits import DEFAULT, NAMES
from .table import Array, Column, DataError, Table, listed


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one split: each field's array [rows, ...], and the table they were made of."""

    arrays: dict[str, Array]
    table: Table

    def __len__(self) -> int:
        """How many samples there are: the table's rows, or the windows that were cut from them."""
        return len(next(iter(self.arrays.values()), self.table.rows))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Splits by name (`train`, and where there are such rows `valid` and `test`), and the fitted fields.

    schema: what the columns of the training rows are, before they were mended.
    """

    splits: dict[str, Split]
    fields: dict[str, Fitted]
    fingerprint: str
    schema: Schema = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """`name.size` of every field of ids; `name.padded` (0 or 1) of every field of sequences."""
        sizes = {f"{name}.size": field.size for name, field in self.fields.items() if field.size is not None}
        padded = {f"{name}.padded": int(f.padded) for name, f in self.fields.items() if f.padded is not None}
        return sizes | padded

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows of each split."""
        return {name: len(split) for name, split in self.splits.items()}

    @property
    def tables(self) -> dict[str, Table]:
        """The rows of each split, before they were encoded."""
        return {name: split.table for name, split in self.splits.items()}

    def state(self) -> dict[str, State]:
        """Everything learnt from the training rows, for JSON; `restore_fields` reads it."""
        return {name: field.state() for name, field in self.fields.items()}


def restore_fields(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Fitted]:
    """The fields that `Dataset.state` described."""
    return {name: restore(saved) for name, saved in state.items()}


def transform(fields: Mapping[str, Fitted], table: Table, names: Iterable[str]) -> dict[str, Array]:
    """The arrays of the fields called `names`, for new rows; columns of other fields may be absent."""
    names = list(names)
    for name in names:
        if name not in fields:
            raise DataError(f"there is no field `{name}`: {hint(name, fields)}")
    found = encode(with_needed(fields, names), table)
    return {name: found[name] for name in names}


# ----------------------------------------------------------------------------------- declarations


def declare_fields(data: Data, scope: Scope, report: Report) -> dict[str, Call]:
    """Each field's encoder with its arguments, by name. Problems go to `report`; no data are read."""
    node = data.fields
    if not isinstance(node, Node) or not isinstance(node.data, dict) or not node.data:
        span = node.span if isinstance(node, Node) else data.source.span
        report.error("E203", f"`fields` expects a mapping of names to fields, found {node}", span)
        return {}
    found = {key: _declare_field(key, node.data[key], scope, report) for key in node.keys()}
    calls = {str(key): call for key, call in found.items() if call is not None}
    if len(calls) == len(found):
        _check_needs(calls, report)
    return calls


def _check_needs(calls: Mapping[str, Call], report: Report) -> None:
    """What a field is made of are fields made of columns."""
    encoders: dict[str, Encoder] = {name: call() for name, call in calls.items()}
    plain = [name for name, encoder in encoders.items() if not isinstance(encoder, DerivedEncoder)]
    for name, encoder in encoders.items():
        for needed in encoder.needs if isinstance(encoder, DerivedEncoder) else ():
            if needed not in plain:
                message = f"the field `{name}` is made of a field `{needed}`, which is not one of columns"
                report.error("E204", message, calls[name].span or Span("", 1, 1, 1), help=hint(needed, plain))


def _declare_field(name: Key, node: Node, scope: Scope, report: Report) -> Call | None:
    if not name.isidentifier():
        report.error("E208", f"`{name}` cannot name a field: a name has letters, digits and underscores", name.span)
        return None
    if name in RESERVED:
        message = f"`{name}` cannot name a field: training and generation have numbers of that name"
        report.error("E208", message, name.span)
        return None
    call = FIELD.read(node, Context(scope, report, f"field `{name}`"))
    if call is INVALID:
        return None
    assert isinstance(call, Call)
    try:
        call()
    except FieldError as error:
        report.error("E204", str(error), name.span)
        return None
    return call


def declare_options(data: Data, scope: Scope, report: Report) -> dict[str, Any]:
    """The arguments of the source. Problems go to `report`; no data are read."""
    source: Source = data.source
    node = data.options
    if node is None or node.data is None:
        node = Node({}, source.span)
    if not isinstance(node.data, dict):
        report.error("E203", f"`options` expects a mapping, found {node}", node.span)
        return {}
    context = Context(scope, report, f"source `{source.scheme}`")
    return read_arguments(params_of(SOURCES[source.scheme]), node, context)[0] or {}


# ---------------------------------------------------------------------------------------- loading


def load_dataset(spec: Spec, given: Mapping[str, Table] | None = None) -> Dataset:
    """The data set of a spec. Raises `SpecError` for its declarations, `DataError` for its data.

    `given` are tables to use instead of the spec's source: `train` alone is split as the spec says,
    several are taken as the splits they are called.
    """
    data = spec.sections.data
    if data is None:
        spec.report.check()
        raise DataError(f"{spec.path.name} has no `data` section")
    report = Report(dict(spec.report.sources))
    calls = declare_fields(data, spec.scope, report)
    options = declare_options(data, spec.scope, report)
    report.check()
    encoders = _ordered({name: call() for name, call in calls.items()}, data.split)
    tables, schema = read_tables(data, spec.folder, options, given)
    split_already = given is not None and set(given) != {"train"}
    tables = divided(data, tables, encoders, split_already)
    return dataset_from_tables(tables, encoders, {name: call.span for name, call in calls.items()}, schema)


def _ordered(fields: dict[str, Encoder], split: Call | None) -> dict[str, Encoder]:
    """The fields, those of series in the order that a split by time has, where they have none of their own."""
    if split is None or split.name != "time":
        return fields
    order = Order(str(split.args["on"]), split.args.get("format"), optional=True)
    return {
        name: replace(field, order=order) if isinstance(field, Series) and field.order is None else field
        for name, field in fields.items()
    }


def read_tables(
    data: Data, folder: Path, options: Mapping[str, Any], given: Mapping[str, Table] | None = None
) -> tuple[dict[str, Table], dict[str, Kind]]:
    """The rows of each source, and what the columns of the training rows are, which all are read by."""
    tables = _read(data.source, folder, options) if given is None else dict(given)
    if "train" not in tables:
        raise DataError("there are no training rows: fields are fitted on the rows of `train`")
    schema = learn(tables["train"])
    for name, source in (("test", data.test), ("valid", data.valid)):
        if source is not None and given is None:
            tables[name] = _read_named(name, source, data.source, tables, folder, options, schema)
    return {name: conform(table, schema) for name, table in tables.items()}, schema


def divided(
    data: Data, tables: Mapping[str, Table], fields: Mapping[str, Encoder], split_already: bool = False
) -> dict[str, Table]:
    """The rows of each split, cleaned, before anything is fitted; raises `DataError`.

    A split may name its column by the field that is made of it.
    """
    tables = {name: in_order(fields.values(), _clean(table, data.clean)) for name, table in tables.items()}
    if split_already:
        return tables
    main = tables.pop("train")
    split = None if data.split is None else _with_column(data.split, main, fields)
    return {**_split(main, split, set(tables)), **tables}


def _with_column(split: Call, table: Table, fields: Mapping[str, Encoder]) -> Call:
    """The split with arguments naming columns where they named fields of one column."""
    found = dict(split.args)
    for argument in ("on", "of", "order"):
        name = found.get(argument)
        if isinstance(name, str) and name in fields and name not in table.columns and len(fields[name].columns) == 1:
            found[argument] = fields[name].columns[0]
    return Call(split.entry, found, split.spans, split.span)


def _read(source: Source, folder: Path, options: Mapping[str, Any]) -> dict[str, Table]:
    """The tables of a source; one that has no splits of its own is all `train`."""
    try:
        found = SOURCES[source.scheme].function(source.target, folder, **options)
    except DataError as error:
        raise error.at(source.span) from None
    return {"train": found} if isinstance(found, Table) else dict(found)


def read_as(scheme: str, path: Path, options: Mapping[str, Any], schema: Schema) -> Table | dict[str, Table]:
    """The rows of a file, its columns as those of the training rows were; raises `DataError`."""
    if scheme == "csv":
        # What CSV writes is text or numbers only once it is known which.
        text = [name for name, kind in schema.items() if kind.form == "text"]
        return conform(as_text(path, {**options, "text": [*(options.get("text") or ()), *text]}), schema)
    found = SOURCES[scheme].function(str(path), path.parent, **options)
    if isinstance(found, Table):
        return conform(found, schema)
    return {name: conform(table, schema) for name, table in found.items()}


def _read_named(
    name: str,
    source: Source,
    main: Source,
    tables: Mapping[str, Table],
    folder: Path,
    options: Mapping[str, Any],
    schema: Schema,
) -> Table:
    """A second source; it is read with the options of the first if it is of the same kind."""
    if name in tables:
        raise DataError(f"`{main}` brings its own {name} split, and `{name}` names another: {source}", source.span)
    own = options if source.scheme == main.scheme else {}
    try:
        if source.scheme == "csv":
            return cast("Table", read_as("csv", folder / source.target, own, schema))
    except DataError as error:
        raise error.at(source.span) from None
    found = _read(source, folder, own)
    if len(found) > 1:
        raise DataError(
            f"`{source}` brings splits of its own ({listed(list(found))}); name it as `source`", source.span
        )
    return found["train"]


def _clean(table: Table, steps: Iterable[Call]) -> Table:
    for step in steps:
        try:
            table = step(table)
        except DataError as error:
            raise error.at(step.span) from None
    if not len(table):
        raise DataError(f"{table.source} has no rows{' left after `clean`' if steps else ''}")
    return table


def _split(table: Table, call: Call | None, named: set[str]) -> dict[str, Table]:
    """The table divided as `split` says; `named` are splits with a source of their own."""
    call = call or Call(SPLITS["random"], {"train": None, "valid": None, "test": None, "seed": 0})
    if "train" in call.args:
        call = _with_shares(call, named)
    try:
        parts: Mapping[str, Array] = call(table)
    except DataError as error:
        raise error.at(call.span) from None
    _check_parts(call, parts, table)
    if both := sorted(named & parts.keys()):
        message = f"`{both[0]}` rows have a source of their own, and `{call.name}` takes others for them"
        raise DataError(message, call.span)
    return {name: table.take(rows) for name, rows in parts.items()}


def _check_parts(call: Call, parts: Mapping[str, Array], table: Table) -> None:
    """Every split that was asked for has rows; raises `DataError`."""
    asked = [name for name in NAMES if call.args.get(name) or (name == "train" and "train" not in call.args)]
    for name in asked:
        if not len(parts.get(name, ())):
            raise DataError(
                f"`{call.name}` leaves no rows of {table.source} for `{name}`, which was asked for", call.span
            )


def _with_shares(call: Call, named: set[str]) -> Call:
    """A split by shares, in which splits with a source of their own take none."""
    shares = {name: call.args.get(name) for name in NAMES}
    for name in sorted(named):
        if shares.get(name):
            raise DataError(
                f"`{name}` rows have a source of their own: "
                f"a split of the others has no share for it, found {shares[name]:g}",
                call.spans.get(name) or call.span,
            )
    if all(share is None for share in shares.values()):
        shares = {name: 0.0 if name in named else DEFAULT[name] for name in NAMES}
        shares["train"] = 1.0 - sum(share for name, share in shares.items() if name != "train" and share)
    return Call(call.entry, {**call.args, **shares}, call.spans, call.span)


def dataset_from_tables(
    tables: Mapping[str, Table],
    fields: Mapping[str, Encoder],
    spans: Mapping[str, Span | None] | None = None,
    schema: Schema | None = None,
) -> Dataset:
    """A data set of tables that are split already: `{"train": table, "valid": table}`.

    Every field is fitted on `train` alone. Raises `DataError`, at the field's place in `spans`.
    """
    if "train" not in tables or not len(tables["train"]):
        raise DataError("there are no training rows: fields are fitted on the rows of `train`")
    fitted = cut_alike(_fit(tables["train"], fields, spans or {}), tables["train"])
    fitted = informed(fitted, tables["train"], spans or {})
    arrays = {split: encode(fitted, table, spans or {}) for split, table in tables.items()}
    _check_rows(arrays)
    splits = {name: Split(arrays[name], table) for name, table in tables.items()}
    columns = sorted({column for encoder in fields.values() for column in (*encoder.columns, *encoder.beside)})
    return Dataset(splits, fitted, fingerprint(tables, columns), schema or {})


def _fit(table: Table, fields: Mapping[str, Encoder], spans: Spans) -> dict[str, Fitted]:
    """The fields, fitted; those made of others after these."""
    fitted: dict[str, Fitted] = {}
    for name, encoder in sorted(fields.items(), key=lambda pair: isinstance(pair[1], DerivedEncoder)):
        with placed(name, spans):
            fitted[name] = encoder.derive(fitted) if isinstance(encoder, DerivedEncoder) else encoder.fit(table)
    return {name: fitted[name] for name in fields}


def encode_split(fields: Mapping[str, Fitted], tables: Mapping[str, Table], split: str) -> dict[str, Array]:
    """The arrays of a split by fields that were fitted before; fields made of others know the rows of `train`."""
    return encode(informed(fields, tables["train"]), tables[split])


def _check_rows(arrays: Mapping[str, Mapping[str, Array]]) -> None:
    """Every field has as many rows as the others."""
    for split, fields in arrays.items():
        counts = {name: len(array) for name, array in fields.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"`{name}` {count}" for name, count in counts.items())
            raise DataError(
                f"the fields have different numbers of rows in `{split}` ({told}): are some cut to windows?"
            )


def fingerprint(tables: Mapping[str, Table], columns: Iterable[str]) -> str:
    """A SHA-256 digest of the values of `columns` in every split."""
    digest = hashlib.sha256()
    columns = list(columns)
    for split in sorted(tables):
        for name in columns:
            column = tables[split].column(name)
            digest.update(json.dumps([split, name, str(column.values.dtype), column.values.shape]).encode())
            digest.update(_content(column))
    return digest.hexdigest()


def _content(column: Column) -> bytes:
    """The bytes of a column; what stands where a value is missing does not count."""
    if column.ragged:
        parts = (_content(Column(row, np.zeros(len(row), np.bool_))) for row in column.take(~column.missing).values)
        return (
            hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
            + column.missing.tobytes()
        )
    if column.is_text:
        cells = [None if absent else cell for cell, absent in zip(column.values, column.missing, strict=True)]
        return json.dumps(cells).encode()
    values = np.ascontiguousarray(column.values)
    if column.missing.any() and not column.shape:
        values = np.where(column.missing, np.zeros((), values.dtype), values)
    return values.tobytes() + column.missing.tobytes()


# ------------------------------------------------------------------------------- model against data


def check_against(
    inputs: Mapping[str, Type], dataset: Dataset, bounds: Mapping[str, int] | None = None, targets: Collection[str] = ()
) -> None:
    """Check a model's inputs against the data: each is a field of the same type.

    `inputs` are graph types with the batch axis first; a named dim stands for any number, the same
    in every input, and at most that in `bounds`. `targets` are the fields that losses read.
    Raises `DataError`, which says both sides.
    """
    arrays = as_wanted(dataset.splits["train"].arrays, {name: inputs[name] for name in inputs if name in targets})
    sizes: dict[str, tuple[int, str]] = {}
    for name, wanted in inputs.items():
        who = f"what the loss reads, `{name}`," if name in targets else f"the model's input `{name}`"
        if name not in arrays:
            raise DataError(f"{who} is {spec_type(wanted)}, and no field is called so: {hint(name, arrays)}")
        found = _type_of(arrays[name])
        both = f"{who} is {spec_type(wanted)}, the field `{name}` is {spec_type(found)}"
        if wanted.rank != found.rank or wanted.dtype.floating != found.dtype.floating:
            raise DataError(both + _advice(wanted, found))
        for dim, size in zip(wanted.shape[1:], found.shape[1:], strict=True):
            assert isinstance(size, int)
            if isinstance(dim, int) and dim != size:
                raise DataError(both)
            if isinstance(dim, str):
                _bind(dim, size, name, both, sizes, bounds or {})


def as_wanted(arrays: Mapping[str, Array], wanted: Mapping[str, Type]) -> dict[str, Array]:
    """The arrays, those with one number in each row without the axis of it, where one number is what is wanted."""
    return {
        name: array[:, 0] if name in wanted and wanted[name].rank == 1 and array.shape[1:] == (1,) else array
        for name, array in arrays.items()
    }


def _type_of(array: Array) -> Type:
    """The type of a field's array, as graphs have it."""
    return Type(("N", *array.shape[1:]), DTYPES["float" if array.dtype.kind == "f" else "int"])


def _advice(wanted: Type, found: Type) -> str:
    if wanted.dtype.floating and not found.dtype.floating:
        return "; `encode: numbers` makes a field float, and so does `encode: binary` of two categories"
    if found.dtype.floating and not wanted.dtype.floating:
        return "; `encode: ids` makes a field int"
    return ""


def _bind(
    dim: str, size: int, name: str, both: str, sizes: dict[str, tuple[int, str]], bounds: Mapping[str, int]
) -> None:
    """Note what a named dim is in this field, or raise `DataError` where that cannot be."""
    known, other = sizes.setdefault(dim, (size, name))
    if known != size:
        raise DataError(f"{both}: {dim} is {known} in the field `{other}` and {size} in this")
    if dim in bounds and size > bounds[dim]:
        raise DataError(f"{both}: {dim} is at most {bounds[dim]}")
