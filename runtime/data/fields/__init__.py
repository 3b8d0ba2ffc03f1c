"""Encoders: what a field is made of. Fitted on training rows, they turn any table into an array."""

from __future__ import annotations

from .categories import MISSING, FittedIds, binary, ids, raw
from .core import Derived, DerivedEncoder, Encoder, FieldError, Fitted, State, restore
from .negatives import FittedNegatives, negatives
from .numbers import CHUNK, numbers
from .series import FittedSeries, Order, Series, in_order, series
from .sound import spectrogram, waveform
from .subwords import bpe, wordpiece
from .text import FittedText, characters, words
from .tokens import END, START

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
    "FittedIds",
    "FittedNegatives",
    "FittedSeries",
    "FittedText",
    "Order",
    "Series",
    "State",
    "binary",
    "bpe",
    "characters",
    "ids",
    "in_order",
    "negatives",
    "numbers",
    "raw",
    "restore",
    "series",
    "spectrogram",
    "waveform",
    "wordpiece",
    "words",
]
