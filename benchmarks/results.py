"""What was measured, in memory and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One contestant in one cell.

    blocks: seconds of a call, of each block. contended: how many of them others disturbed. deviation: how far its
    results are from PyTorch's, of the largest. problem: why there are no blocks.
    """

    blocks: tuple[float, ...] = ()
    contended: int = 0
    deviation: float | None = None
    problem: str | None = None

    @property
    def seconds(self) -> float:
        return statistics.median(self.blocks)


Rows = Mapping[str, Row]


def ratio(rows: Rows, name: str, base: str) -> float | None:
    """How many times as fast as another a contestant is: the median over rounds; `None` where either is missing."""
    own, other = rows.get(name), rows.get(base)
    if own is None or other is None or not own.blocks or not other.blocks:
        return None
    return statistics.median(b / a for a, b in zip(own.blocks, other.blocks, strict=True))


@dataclass
class Results:
    """Cells by `task network-bBATCH`, and the machine and settings they were measured with."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    cells: dict[str, dict[str, Row]] = field(default_factory=dict)
    scaling: list[dict[str, Any]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Results:
    """Raises `ValueError` for a file that is not one of results."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(plain, dict) or "cells" not in plain:
        raise ValueError(f"{path} holds no results of these benchmarks")
    cells = {
        cell: {name: Row(**{**row, "blocks": tuple(row["blocks"])}) for name, row in rows.items()}
        for cell, rows in plain["cells"].items()
    }
    return Results(plain["machine"], plain["settings"], cells, plain["scaling"])
