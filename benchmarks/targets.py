"""The targets, and the notes on cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Targets:
    """A table of promises: for networks at batch sizes, by contestant, how many times as fast as `against`."""

    title: str
    task: str
    against: str
    targets: Mapping[str, Mapping[str, float]]

    @property
    def contestants(self) -> list[str]:
        """The columns."""
        return list(dict.fromkeys(name for row in self.targets.values() for name in row))

    def cell(self, workload: str) -> str:
        """Where its results are found."""
        return f"{self.task} {workload}"


def targets() -> list[Targets]:
    return [Targets(**table) for table in yaml.safe_load((HERE / "targets.yaml").read_text(encoding="utf-8"))]


def notes() -> dict[str, str]:
    """By cell and contestant: `infer cnn-b32 trine-torch`."""
    return dict(yaml.safe_load((HERE / "notes.yaml").read_text(encoding="utf-8")) or {})
