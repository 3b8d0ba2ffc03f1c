"""`python -m benchmarks`: measure, write the report, or compare with another commit."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import compare, report, results, scaling
from .contestants import BACKENDS, BASE, CONTESTANTS, PEERS
from .machine import machine
from .measuring import measure
from .results import Results, Row, ratio
from .targets import notes, targets
from .worker import Entrant
from .workloads import CELLS, workloads

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
console = Console(width=110)


def names_of(known: Sequence[str]) -> Any:
    """An argument of comma-separated names, each one that is known."""

    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no `{name}`: expected of {', '.join(known)}")
        return names

    return read


def parser() -> argparse.ArgumentParser:
    networks = list(dict.fromkeys(name for cells in CELLS.values() for name in cells))
    keys = list(dict.fromkeys(w.key for task in CELLS for w in workloads(task)))
    found = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = found.add_argument
    add("--workload", type=names_of([*networks, *keys]), default=[], help=f"of {', '.join(networks)}, or `cnn-b32`")
    add("--task", type=names_of(list(CELLS)), default=list(CELLS), help=f"of {', '.join(CELLS)}")
    add("--batch", type=lambda text: [int(n) for n in text.split(",")], default=[], help="other batch sizes: `1,32`")
    add("--against", type=names_of(list(PEERS)), default=list(PEERS), help=f"of {', '.join(PEERS)}")
    add("--backends", type=names_of(list(BACKENDS)), default=list(BACKENDS), help=f"of {', '.join(BACKENDS)}")
    add("--threads", type=int, default=2, help="that each contestant may use (2)")
    add("--wait-policy", choices=("passive", "active", "default"), default="default", help="of OpenMP's threads")
    add("--rounds", type=int, default=7, help="blocks of each contestant (7)")
    add("--json", type=Path, metavar="FILE", help="write the results there, beside the cells that it holds already")
    add("--report", type=Path, metavar="FILE", help="write docs/performance.md from results, and measure nothing")
    add("--page", type=Path, default=PAGE, metavar="FILE", help="where the report goes instead")
    add("--compare", metavar="COMMIT", help="measure Trine's backends of this tree against those of a commit")
    add("--scaling", choices=list(BACKENDS), help="measure how a training step grows, on a backend")
    add("--picture", type=Path, metavar="FILE", help="draw the scaling there")
    return found


def main() -> None:
    options = parser().parse_args()
    if options.report:
        found = results.read(options.report)
        options.page.write_text(report.page(found, targets(), notes()), encoding="utf-8")
        return
    _set_threads(options.threads, options.wait_policy)
    if options.compare:
        raise SystemExit(_compare(options))
    found = _opened(options)
    if options.scaling:
        _scaling(options, found)
        return
    names = [n for n in CONTESTANTS if n in {BASE, *options.against, *options.backends}]
    for task in options.task:
        for workload in workloads(task, options.workload, options.batch):
            taking = [n for n in names if CONTESTANTS[n].takes_part(task, workload)]
            cell = f"{task} {workload.key}"
            found.cells[cell] = measure(task, workload, [Entrant(n, n) for n in taking], options.rounds)
            console.print(table(cell, found.cells[cell]))
            _save(found, options.json)


def _set_threads(count: int, policy: str) -> None:
    """For the contestants' processes, which inherit it."""
    os.environ |= {f"{name}_NUM_THREADS": str(count) for name in ("OMP", "OPENBLAS", "MKL")}
    if policy != "default":
        os.environ["OMP_WAIT_POLICY"] = policy


def _opened(options: argparse.Namespace) -> Results:
    """Results of this machine and these settings, with the cells that the file has already."""
    settings = {"threads": options.threads, "wait_policy": options.wait_policy, "rounds": options.rounds}
    found = Results(machine(), settings)
    if options.json and options.json.exists():
        old = results.read(options.json)
        same = ("processor", "packages")
        if old.settings != settings or any(old.machine.get(key) != found.machine.get(key) for key in same):
            raise SystemExit(
                f"{options.json} holds results of another machine, other packages or other settings: name another file"
            )
        found.cells, found.scaling = old.cells, old.scaling
    return found


def _save(found: Results, path: Path | None) -> None:
    if path is not None:
        found.write(path)


def _scaling(options: argparse.Namespace, found: Results) -> None:
    points = []
    for series in scaling.SERIES:
        own = scaling.measure(options.scaling, series)
        time, memory = scaling.exponents(own)
        grown = "" if memory is None else f", memory with {memory:.2f}"
        console.print(f"{series}: time grows with the power {time:.2f} of the FLOPs{grown}")
        points += own
    console.print(report.scaling_table(points), soft_wrap=True)
    found.scaling = scaling.plain(points)
    _save(found, options.json)
    if options.picture and not scaling.draw(points, options.picture):
        console.print("no picture: matplotlib is not installed")


def _compare(options: argparse.Namespace) -> int:
    """Print the ratios to another commit; 1 where a cell got slower."""
    cells: dict[str, dict[str, Row]] = {}
    with compare.checked_out(options.compare) as path:
        for task in options.task:
            for workload in workloads(task, options.workload, options.batch):
                taking = [n for n in options.backends if CONTESTANTS[n].takes_part(task, workload)]
                cell = f"{task} {workload.key}"
                cells[cell] = compare.compared(task, workload, taking, path, options.rounds)
                console.print(comparison(cell, cells[cell]))
    slower = compare.slower(cells)
    for text in slower:
        console.print(f"slower: {text}")
    return 1 if slower else 0


def table(title: str, rows: dict[str, Row]) -> Table:
    """The contestants of a cell, for the terminal."""
    found = _table(title, "contestant", "median", "× torch", "deviation")
    for name, row in rows.items():
        if not row.blocks:
            found.add_row(name, "–", "–", (row.problem or "")[:70])
            continue
        times = ratio(rows, name, BASE)
        off = f"{row.deviation:.0e}" + (f" ({row.contended} disturbed)" if row.contended else "")
        found.add_row(name, report.duration(row.seconds), "–" if times is None else f"{times:.2f}", off)
    return found


def comparison(title: str, rows: dict[str, Row]) -> Table:
    """This tree and the other commit, for the terminal."""
    found = _table(title, "backend", "before", "now", "× before")
    for name in rows:
        if compare.before(name) not in rows:
            continue
        pair = rows[compare.before(name)], rows[name]
        times = ratio(rows, name, compare.before(name))
        cells = [report.duration(row.seconds) if row.blocks else (row.problem or "")[:40] for row in pair]
        found.add_row(name, *cells, "–" if times is None else f"{times:.2f}")
    return found


def _table(title: str, *columns: str) -> Table:
    found = Table(title=title, title_justify="left", box=None)
    for column in columns:
        found.add_column(column, justify="left" if column == columns[0] else "right")
    return found


if __name__ == "__main__":
    main()
