"""The page that the results make: `docs/performance.md`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from . import fitting, worker
from .contestants import BASE, CONTESTANTS
from .measuring import DISTURBED, TOLERANCE
from .results import Results, Row, Rows, ratio
from .scaling import Point, exponents, restored
from .targets import Targets
from .workloads import SPECS

Line = Sequence[str]

HEAD = """\
<!-- Made by `python -m benchmarks --report`: do not edit by hand. -->

# Performance
"""

NARROW = CONTESTANTS["trine-torch-bf16"].tolerance
METHOD = f"""\
Every contestant has a process of its own, so that thread pools do not fight, starts from the same weights and takes the
same random inputs (in `fit`: the same rows; the first weights are its own). Blocks of {worker.BLOCK_SECONDS} seconds
are run in turn, in an order that is shuffled for each round. The figure of a block is its median call, that of a
contestant the median of its blocks; ratios are medians of those within a round, so that a machine whose speed drifts
favours no one. A block during which other processes took more than {100 * DISTURBED:.0f} % of a core is repeated.

Results are compared before anything is timed: outputs, and the logits of every decoded token, with those of torch
within {TOLERANCE["infer"]:g} of the largest; the losses of the first {worker.LOSSES} training steps within
{TOLERANCE["train"]:g}. `trine-torch-bf16` predicts as `precision: auto` would have it: within {NARROW:g},
without the steps that err the most. Training goes on through many batches of random rows, with AdamW of learning rate
1e-3 and weight decay 0.01. The peers are written by hand, those of PyTorch in `benchmarks/modules.py`.

A step of `fit` is that of a whole run of 784-32-10 on batches of 32, by what {fitting.MORE_EPOCHS} epochs more take:
Trine, Keras and Lightning with metrics, a log and validation after each epoch, the plain torch loop with none of them.
"""

LEGEND = """\
Target → result, in times the speed of what the table's title names. ✗ marks a miss; what was not measured has no
result. What bfloat16 gains depends on the processor: matrix units (`amx_bf16`) multiply it about eight times as fast as
float32, vectors (`avx512_bf16`) twice.
"""

ALL = """\
The median call, and in brackets how many times as fast as torch eager that is; * where others disturbed most blocks.
"""

SCALING = """\
A training step of encoders, one size of which is changed at a time, and the power of the FLOPs with which time and the
growth of the process at its largest go up. Above 1, they grow faster than the arithmetic.

![Time and memory of a training step against its FLOPs](scaling.svg)
"""


def page(results: Results, tables: Sequence[Targets], notes: Mapping[str, str]) -> str:
    """The whole page."""
    parts = [
        HEAD,
        _summary(results, tables),
        _machine(results),
        "## Method\n",
        METHOD,
        _networks(),
        "## Targets\n",
        LEGEND,
    ]
    parts += [_against_targets(table, results, notes) for table in tables]
    parts += ["## All results\n", ALL]
    parts += _all_results(results)
    if results.scaling:
        parts += ["## Scaling\n", SCALING, scaling_table(restored(results.scaling))]
    return "\n".join(parts).rstrip() + "\n"


def _summary(results: Results, tables: Sequence[Targets]) -> str:
    """How many targets are met, of those that were measured."""
    met = missed = unknown = 0
    for table in tables:
        for workload, row in table.targets.items():
            rows = results.cells.get(table.cell(workload), {})
            for name, target in row.items():
                found = ratio(rows, name, table.against)
                unknown += found is None
                met += found is not None and found >= target
                missed += found is not None and found < target
    return f"Of {met + missed + unknown} targets, {met} are met, {missed} missed and {unknown} not measured.\n"


def _machine(results: Results) -> str:
    about = results.machine
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
    lines = [
        f"{about['processor']}, {about['cores']} cores ({', '.join(about['instructions'])}), {about['memory']}; "
        f"{about['system']}; Python {about['python']}; {packages}.",
        "",
        f"Measured on {about['date']} with {results.settings['threads']} threads, OMP_WAIT_POLICY "
        f"{results.settings['wait_policy']}, in {results.settings['rounds']} rounds.",
    ]
    absent = sorted({name for rows in results.cells.values() for name, row in rows.items() if _is_absent(row)})
    if absent:
        lines += ["", f"Not installed, and so not measured: {', '.join(absent)}."]
    return "## Machine\n\n" + "\n".join(lines) + "\n"


def _networks() -> str:
    """What each spec says of itself: the comment that it begins with."""
    lines = []
    for path in sorted(SPECS.glob("*.yaml")):
        comment = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        lines.append([path.stem, " ".join(line.removeprefix("# ") for line in comment)])
    return "## Networks\n\n" + markdown(["", "`benchmarks/specs`"], lines, numbers=False)


def _is_absent(row: Row) -> bool:
    return (row.problem or "").startswith("absent")


def _against_targets(table: Targets, results: Results, notes: Mapping[str, str]) -> str:
    lines, said = [], []
    for workload, row in table.targets.items():
        rows = results.cells.get(table.cell(workload), {})
        lines.append(
            [workload, *(_cell(row.get(name), ratio(rows, name, table.against)) for name in table.contestants)]
        )
        for name in row:
            if (note := notes.get(f"{table.cell(workload)} {name}")) is not None:
                said.append(f"- `{workload}`, {name}: {note}")
    text = f"### {table.title}\n\n" + markdown(["", *table.contestants], lines)
    return text + ("\n" + "\n".join(said) + "\n" if said else "")


def _cell(target: float | None, found: float | None) -> str:
    if target is None:
        return "" if found is None else f"{found:.2f}"
    if found is None:
        return f"{target:g} → –"
    return f"{target:g} → {found:.2f}" if found >= target else f"{target:g} → **{found:.2f} ✗**"


def _all_results(results: Results) -> Iterable[str]:
    for task in dict.fromkeys(cell.rpartition(" ")[0] for cell in results.cells):
        cells = {c.rpartition(" ")[2]: rows for c, rows in results.cells.items() if c.rpartition(" ")[0] == task}
        known = [n for n in CONTESTANTS if any(n in rows and not _is_absent(rows[n]) for rows in cells.values())]
        lines = [[workload, *(_figure(rows, name) for name in known)] for workload, rows in cells.items()]
        yield f"### {task}\n\n" + markdown(["", *known], lines)
    problems = [
        f"- {name} in `{cell}`: {row.problem}"
        for cell, rows in results.cells.items()
        for name, row in rows.items()
        if row.problem and not _is_absent(row)
    ]
    if problems:
        yield "### Left out\n\n" + "\n".join(problems) + "\n"


def _figure(rows: Rows, name: str) -> str:
    row = rows.get(name)
    if row is None or not row.blocks:
        return "–"
    found = ratio(rows, name, BASE)
    own = "" if name == BASE or found is None else f" ({found:.2f})"
    return f"{duration(row.seconds)}{own}{'*' if 2 * row.contended > len(row.blocks) else ''}"


def duration(seconds: float) -> str:
    """With three digits: `41.2 µs`, `3.32 ms`, `1.20 s`."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            amount = seconds / size
            return f"{amount:.{2 if amount < 10 else 1 if amount < 100 else 0}f} {unit}"
    raise AssertionError(seconds)


def markdown(head: Line, lines: Iterable[Line], numbers: bool = True) -> str:
    """A table; numbers stand to the right."""
    rule = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *lines))


def scaling_table(points: Sequence[Point]) -> str:
    """Every encoder that was measured, and how fast its series grows."""
    lines = []
    for series in dict.fromkeys(p.series for p in points):
        own = [p for p in points if p.series == series]
        for p in own:
            memory = "–" if p.bytes is None else f"{p.bytes / 2**20:.0f} MiB"
            lines.append([f"{series} {p.value}", f"{p.flops:.2e}", duration(p.seconds), memory])
        time, grown = exponents(own)
        lines.append([f"{series}: power of the FLOPs", "1", f"{time:.2f}", "–" if grown is None else f"{grown:.2f}"])
    return markdown(["", "FLOPs", "time", "memory"], lines)
