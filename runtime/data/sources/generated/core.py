"""What the generated sets share."""

from __future__ import annotations

import numpy as np

from .....compiler.initialisers import generator
from ...table import DataError, counted


def draws(seed: int, name: str) -> np.random.Generator:
    """The generator of a set's random numbers."""
    return generator(seed, "generated", name)


def source_of(name: str) -> str:
    """A set as specs and messages call it."""
    return f"generated:{name}"


def row_count(name: str, rows: int | None, default: int, most: int, least: int = 1) -> int:
    """How many rows to make; raises `DataError` for fewer or more than the set can have."""
    wanted = default if rows is None else rows
    if not least <= wanted <= most:
        raise DataError(
            f"`{source_of(name)}` cannot have {counted(wanted, 'row')}: set `rows` from {least:,} to {most:,}, "
            f"or leave it out for {default:,}"
        )
    return wanted
