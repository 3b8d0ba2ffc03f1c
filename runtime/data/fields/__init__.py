"""Encoders: what a field is made of. Fitted on training rows, they turn any table into an array."""

from __future__ import annotations

from .categories import MISSING, binary, ids, raw
from .core import Encoder, FieldError, Fitted, State, restore
from .numbers import CHUNK, numbers
from .sound import spectrogram, waveform
from .subwords import bpe, wordpiece
from .text import FittedText, characters, words
from .tokens import END, START

__all__ = [
    "CHUNK",
    "END",
    "MISSING",
    "START",
    "Encoder",
    "FieldError",
    "Fitted",
    "FittedText",
    "State",
    "binary",
    "bpe",
    "characters",
    "ids",
    "numbers",
    "raw",
    "restore",
    "spectrogram",
    "waveform",
    "wordpiece",
    "words",
]
