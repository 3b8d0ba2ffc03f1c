"""Data in: sources, cleaning, splits, fields, and the data set they make.

Importing this package registers every source, cleaning step, split and encoding.
"""

from __future__ import annotations

from . import cleaning, fields, sources, splits
from .cleaning import mend
from .dataset import (
    Dataset,
    Split,
    as_wanted,
    check_against,
    dataset_from_tables,
    declare_fields,
    declare_options,
    encode_split,
    load_dataset,
    read_as,
    read_tables,
    restore_fields,
    transform,
)
from .fields import Encoder, Fitted
from .schema import Kind, Schema, conform
from .table import Column, DataError, Table, from_arrays

__all__ = [
    "Column",
    "DataError",
    "Dataset",
    "Encoder",
    "Fitted",
    "Kind",
    "Schema",
    "Split",
    "Table",
    "as_wanted",
    "check_against",
    "cleaning",
    "conform",
    "dataset_from_tables",
    "declare_fields",
    "declare_options",
    "encode_split",
    "fields",
    "from_arrays",
    "load_dataset",
    "mend",
    "read_as",
    "read_tables",
    "restore_fields",
    "sources",
    "splits",
    "transform",
]
