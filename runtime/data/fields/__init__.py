"""Encoders: what a field is made of. Fitted on training rows, they turn any table into an array."""

from __future__ import annotations

from .categories import MISSING, binary, ids, raw
from .core import Derived, DerivedEncoder, Encoder, FieldError, Fitted, State, restore
from .negatives import FittedNegatives, negatives
from .numbers import CHUNK, numbers
from .series import FittedSeries, series
from .text import END, START, FittedText, characters, words

__all__ = [
    "CHUNK",
    "END",
    "MISSING",
    "START",
    "Derived",
    "DerivedEncoder",
    "Encoder",
    "FieldError",
    "Fitted",
    "FittedNegatives",
    "FittedSeries",
    "FittedText",
    "State",
    "binary",
    "characters",
    "ids",
    "negatives",
    "numbers",
    "raw",
    "restore",
    "series",
    "words",
]
