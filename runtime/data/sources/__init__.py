"""Where rows come from: files and data sets, read into tables."""

from __future__ import annotations

from .arrays import idx, npz
from .generated import generated
from .library import sklearn
from .separated import csv
from .text import pydoc, text

__all__ = ["csv", "generated", "idx", "npz", "pydoc", "sklearn", "text"]
