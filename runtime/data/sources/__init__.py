"""Where rows come from: files and data sets, read into tables."""

from __future__ import annotations

from .arrays import idx, npz
from .audio import audio
from .conll import conll
from .generated import generated
from .images import images
from .jsonl import jsonl
from .packaged import sklearn
from .parquet import parquet
from .separated import csv
from .text import pydoc, text

__all__ = ["audio", "conll", "csv", "generated", "idx", "images", "jsonl", "npz", "parquet", "pydoc", "sklearn", "text"]
