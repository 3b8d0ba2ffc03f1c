"""This tree against another commit of the same repository."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .measuring import measure
from .results import Row, ratio
from .worker import Entrant
from .workloads import Workload

ROOT = Path(__file__).parent.parent
# Below this, a cell is slower than it was.
SLOWER = 0.9


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder in which `trine` is the package as it was at a commit; raises `CalledProcessError`."""
    with tempfile.TemporaryDirectory(prefix="trine-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True)
        try:
            (Path(folder) / "path").mkdir()
            (Path(folder) / "path" / "trine").symlink_to(tree)
            yield Path(folder) / "path"
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def entrants(contestants: Sequence[str], path: Path) -> list[Entrant]:
    """Each as it was and as it is."""
    return [e for name in contestants for e in (Entrant(before(name), name, str(path)), Entrant(name, name))]


def before(name: str) -> str:
    return f"{name} before"


def compared(task: str, workload: Workload, contestants: Sequence[str], path: Path, rounds: int) -> dict[str, Row]:
    """The rows of a cell, with those of the other commit."""
    return measure(task, workload, entrants(contestants, path), rounds)


def slower(cells: dict[str, dict[str, Row]]) -> list[str]:
    """The cells whose speed fell, that ran before and do not any more, or that cannot be compared."""
    found = []
    for cell, rows in cells.items():
        for name in rows:
            if before(name) not in rows:
                continue
            if (problem := rows[before(name)].problem) is not None:
                if not problem.startswith("absent"):
                    found.append(f"{cell} {before(name)}: {problem}")
                continue
            now = ratio(rows, name, before(name))
            if now is None or now < SLOWER:
                found.append(f"{cell} {name}: {rows[name].problem if now is None else f'{now:.2f}'}")
    return found
