"""Data sets made by a stated rule, so that every kind of network has data without a download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .....compiler.spec.diagnostics import hint
from .....compiler.spec.kinds import Positive
from .....compiler.spec.registry import SOURCES
from ...table import DataError, Table
from .entities import entities
from .numerals import pairs
from .ratings import ratings
from .series import series
from .shapes import shapes
from .spoken import spoken, spoken_sequences
from .tabular import tabular
from .topics import topics

SETS: Mapping[str, Callable[[int | None, int], Table]] = {
    make.__name__: make
    for make in (entities, pairs, ratings, series, shapes, spoken, spoken_sequences, tabular, topics)
}


@SOURCES.register
def generated(target: str, folder: Path, *, rows: Positive | None = None, seed: int = 0) -> Table:
    """A data set made by a rule: the same seed gives the same rows, and nothing is downloaded.

    - `entities`: sentences as `tokens`, and the `tags` of persons, organisations, places and dates in them.
    - `pairs`: whole numbers in English words (`source`) and in French words (`target`).
    - `ratings`: which `user` chose which `item` at what `time`, and the `rating` given.
    - `series`: hourly `load` of a power grid by `time`, with `temperature` and `holiday`.
    - `shapes`: an `image` of discs, squares and triangles, its `mask`, and the largest `shape`.
    - `spoken`: one digit spoken (`audio`, `rate`, `speaker`, `digit`).
    - `spoken_sequences`: one to four digits spoken (`audio`, `rate`, `speaker`, `text`).
    - `tabular`: people with `age`, `hours`, `education`, `job`, `region`, their `income`, and whether it is `high`.
    - `topics`: paragraphs of Python's reference (`text`), their `topic`, and its group (`label`).

    rows: how many rows to make; each set has its own default.
    seed: what all random numbers follow from.
    Example: source: generated:shapes
    """
    if target not in SETS:
        raise DataError(f"there is no generated data set `{target}`: {hint(target, SETS)}")
    return SETS[target](rows, seed)
