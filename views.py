"""What the shell prints: plans, resolved specs, metrics, predictions. Data in, rich tables out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .compiler.analysis import costs, parameters
from .compiler.build import Applied, Network
from .compiler.ir import Graph, Input, Value, input_of
from .compiler.machine import Machine, Priced, bytes_text, time_text
from .compiler.passes import Record
from .compiler.spec.diagnostics import Report, Span
from .compiler.spec.reader import Spec
from .compiler.spec.registry import Call
from .compiler.spec.sections import Sections
from .compiler.spec.signatures import spec_type
from .compiler.spec.source import Node
from .compiler.structs import Struct
from .compiler.training import decay_of, group_of

if TYPE_CHECKING:
    from .runtime.profile import Profile, StepTime
    from .runtime.trial import Tried


def print_report(console: Console, report: Report) -> None:
    """Every diagnostic, and how many there were."""
    found = report.sorted()
    for diagnostic in found:
        console.print(report.draw(diagnostic), soft_wrap=True)
        console.print()
    codes = ", ".join(sorted({d.code for d in found}))
    count = "1 error" if len(found) == 1 else f"{len(found)} errors"
    console.print(f"{count}; `trine docs {codes.split(',')[0]}` explains", style="bold", highlight=False)


# -- show ----------------------------------------------------------------------------------------


class Setting(Struct):
    """A value in force, and where it was given."""

    path: str
    value: Any
    source: str


def settings(spec: Spec) -> list[Setting]:
    """Every value in force in a spec's sections, in the order of the language."""
    found: list[Setting] = []
    params = spec.root.get("params")
    for field in dataclasses.fields(Sections):
        value = getattr(spec.sections, field.name)
        if field.name == "params" and params is not None:
            found += _node_settings("params", params)
        elif field.name != "model":
            found += _settings(field.name, value, spec.sections.spans.get(field.name))
    sizes = [Setting(f"${name}", size, "data") for name, size in spec.sizes.items()]
    return [*found, *sizes]


def _settings(path: str, value: Any, span: Span | None) -> Iterator[Setting]:
    """The settings of a section, a call, a raw node, or a single value."""
    if isinstance(value, Node):
        yield from _node_settings(path, value)
    elif isinstance(value, Call):
        yield Setting(path, value.name, _place(value.span or span))
        # A split's arguments stand beside its name, in `data.split` itself.
        inner = path if path == "data.split" else f"{path}.{value.name}"
        for name, argument in value.args.items():
            yield from _settings(f"{inner}.{name}", argument, value.spans.get(name))
    elif dataclasses.is_dataclass(value) and hasattr(value, "spans"):
        for field in dataclasses.fields(value):
            yield from _settings(f"{path}.{field.name}", getattr(value, field.name), value.spans.get(field.name))
    elif isinstance(value, list) and any(isinstance(item, Call) for item in value):
        for i, item in enumerate(value):
            yield from _settings(f"{path}.{i}", item, span)
    elif value is not None:
        yield Setting(path, value if isinstance(value, int | float | bool | list) else str(value), _place(span))


def _node_settings(path: str, node: Node) -> Iterator[Setting]:
    if isinstance(node.data, dict):
        for key in node.keys():
            yield from _node_settings(f"{path}.{key}", node.data[key])
    else:
        yield Setting(path, node.plain, _place(node.span))


def _place(span: Span | None) -> str:
    if span is None:
        return "default"
    return "--set" if span.file.startswith("--set") else span.short


def settings_table(spec: Spec) -> Table:
    table = _table("setting", "value", "from")
    for setting in settings(spec):
        table.add_row(Text(setting.path), Text(_yaml_text(setting.value)), Text(setting.source, style="dim"))
    return table


def steps_table(network: Network) -> Table:
    """Each step with its arguments in force: those left out in the spec show their defaults."""
    table = _table("step", "layer", "arguments in force", "from")
    for step in network.steps:
        arguments = ", ".join(f"{k}={_argument(v)}" for k, v in step.call.args.items() if v is not None)
        table.add_row(Text(step.path), Text(step.call.name), Text(arguments), Text(step.span.short, style="dim"))
    return table


class ParameterRow(Struct):
    """A parameter and how it is trained: its shape, how it starts, a factor on the learning rate, weight decay."""

    parameter: str
    shape: list[int | str]
    start: str
    rate: float | str
    decay: float


def parameter_rows(spec: Spec, network: Network) -> list[ParameterRow]:
    """Each parameter as training has it; a rate is `frozen`, or a factor and until when it is frozen."""
    train = spec.sections.train
    assert train is not None
    default = float(getattr(train.optimizer(), "decay", 0.0))
    rows = []
    for value in network.graph.by_role("param"):
        declared = input_of(value)
        group = group_of(declared.name, train)
        own = None if group is None else train.groups[group]
        rate: float | str = 1.0 if own is None else own.lr
        if own is not None and own.freeze is not False:
            rate = "frozen" if own.freeze is True else f"{own.lr:g} after {own.freeze}"
        start = str(declared.init) if declared.init else "zeros"
        frozen = own is not None and own.freeze is True
        decay = 0.0 if frozen else decay_of(value, train, default)
        rows.append(ParameterRow(declared.name, list(value.shape), start, rate, decay))
    return rows


def parameters_table(rows: Sequence[ParameterRow]) -> Table:
    table = _table("parameter", "shape", "start", "rate", "weight decay")
    for row in rows:
        shape = f"[{', '.join(map(str, row.shape))}]"
        rate = row.rate if isinstance(row.rate, str) else f"{row.rate:g}"
        table.add_row(Text(row.parameter), Text(shape), Text(row.start), Text(rate), Text(f"{row.decay:g}"))
    return table


def _argument(value: Any) -> str:
    if isinstance(value, Node):
        return "[…]"
    return value.name if isinstance(value, Call) else _yaml_text(value)


def _yaml_text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


# -- plan ----------------------------------------------------------------------------------------


class PlanRow(Struct):
    """A step in numbers; what is not yet known stands as a name in its type."""

    step: str
    layer: str
    line: str
    output: str
    parameters: int
    flops: int


def plan_rows(network: Network) -> list[PlanRow]:
    """The steps of a network with their lines, output types, parameters and FLOPs per row."""
    flops: dict[str, int] = {}
    for cost in costs(network.graph):
        flops[cost.step] = flops.get(cost.step, 0) + cost.flops
    owned = _parameters(network)
    seen: set[str] = set()
    rows = []
    for step in network.steps:
        first = step.path not in seen
        seen.add(step.path)
        rows.append(_plan_row(step, owned.get(step.path, 0) if first else 0, flops.get(step.path, 0) if first else 0))
    return rows


def _plan_row(step: Applied, count: int, flops: int) -> PlanRow:
    return PlanRow(step.path, step.call.name, step.span.short, spec_type(step.output.type), count, flops)


def _parameters(network: Network) -> dict[str, int]:
    """The number of parameters by the path of the step that owns them: the longest that their names begin with."""
    paths = {step.path for step in network.steps}
    owned: dict[str, int] = {}
    for v in network.graph.by_role("param"):
        owner = input_of(v).name.rpartition(".")[0]
        while owner not in paths and "." in owner:
            owner = owner.rpartition(".")[0]
        owned[owner] = owned.get(owner, 0) + v.type.numel()
    return owned


def plan_table(rows: Sequence[PlanRow], graph: Graph) -> Table:
    table = _table("step", "layer", "output", "parameters", "FLOPs", "from", right=("parameters", "FLOPs"))
    for row in rows:
        table.add_row(
            row.step,
            row.layer,
            Text(row.output),
            _count(row.parameters),
            _count(row.flops),
            Text(row.line, style="dim"),
        )
    table.add_section()
    table.add_row("total", "", "", f"{parameters(graph):,}", f"{sum(row.flops for row in rows):,}", "")
    return table


def _count(number: int) -> str:
    return f"{number:,}" if number else "–"


def costs_table(rows: Sequence[Priced], machine: Machine) -> Table:
    """What each step should cost on a machine, whole batches at a time."""
    chosen = ["kernel"] if any(row.kernels for row in rows) else []
    table = _table("step", "FLOPs", "bytes moved", "estimated", "share", *chosen, "from", right=COSTS)
    whole = sum(row.seconds for row in rows)
    for row in rows:
        step, line = ("", "") if row.place is None else (row.place.step, _line(row.place.file, row.place.line))
        share = f"{row.seconds / whole:.0%}" if whole else "–"
        cells = _count(row.flops), bytes_text(row.bytes), time_text(row.seconds), share
        kernels = ["; ".join(row.kernels)] if chosen else []
        table.add_row(Text(step), *cells, *kernels, Text(line, style="dim"))
    table.add_section()
    flops, size = sum(row.flops for row in rows), sum(row.bytes for row in rows)
    table.add_row("total", _count(flops), bytes_text(size), time_text(whole), "", *["" for _ in chosen], "")
    return table


COSTS = ("FLOPs", "bytes moved", "estimated", "share")


def _line(file: str, line: int) -> str:
    return f"{file.rsplit('/', 1)[-1]}:{line}" if line else ""


def machine_line(machine: Machine) -> str:
    """Where the figures behind estimates come from."""
    if machine.measured:
        return f"machine: measured on {machine.about.get('processor', 'this processor')}, {_threads(machine.threads)}"
    return f"machine: supposed, not measured (`trine bench --calibrate` does), {_threads(machine.threads)}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def machine_table(machine: Machine) -> Table:
    """What was measured of a machine."""
    columns = ["one thread"] if machine.threads == 1 else ["one thread", _threads(machine.threads)]
    rates = [machine.one, machine.all][: len(columns)]
    table = _table("measured", *columns, right=tuple(columns))
    for i, (size, _) in enumerate(machine.one.products):
        found = (f"{r.products[i][1] / 1e9:.3g} GFLOP/s" for r in rates)
        table.add_row(f"matrix product of {size:.2g} FLOPs", *found)
    for i, (size, _) in enumerate(machine.one.bandwidth):
        found = (f"{r.bandwidth[i][1] / 1e9:.3g} GB/s" for r in rates)
        table.add_row(f"memory, {bytes_text(int(size))} in use", *found)
    for name in machine.op:
        words = f"{time_text(machine.op[name])} an op, {time_text(machine.call[name])} a call"
        table.add_row(f"calls on {name}", words)
    if machine.threads > 1:
        for name, seconds in machine.spread.items():
            table.add_row(f"an op gains by more threads on {name} from", time_text(seconds))
    for kind, flops in machine.packed.items():
        table.add_row(f"packed weights are a gain from, {kind}", f"{flops:.2g} FLOPs")
    return table


# -- bench ---------------------------------------------------------------------------------------


TIMES = ("time", "share", "FLOP/s", "bytes/s", "roofline")


def profile_table(profile: Profile) -> Table:
    """The time of each step, how fast it ran, and how near to what the machine can do."""
    table = _table("step", *TIMES, "from", right=TIMES)
    for step in profile.steps:
        line = Text(_line(step.file, step.line), style="dim")
        table.add_row(Text(step.step), *_speed(step.seconds, step, profile.parts), line)
    table.add_row("outside the steps", time_text(profile.outside), _share(profile.outside, profile.parts))
    table.add_section()
    table.add_row("a call", time_text(profile.seconds), "", *_speed(profile.seconds, profile.total, 0.0)[2:])
    return table


def _speed(seconds: float | None, step: StepTime, whole: float) -> tuple[str, ...]:
    if not seconds:
        return ("–",) * len(TIMES)
    roofline = "–" if step.roofline is None else f"{step.roofline:.0%}"
    rates = (f"{step.flops / seconds / 1e9:.3g} G", f"{step.bytes / seconds / 1e9:.3g} G")
    return (time_text(seconds), _share(seconds, whole), *rates, roofline)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def profile_lines(profile: Profile) -> list[str]:
    """What was timed, and on what."""
    sizes = ", ".join(f"{name} = {size}" for name, size in profile.sizes.items())
    return [
        f"{profile.name}: {profile.task} on {profile.backend}, {_threads(profile.threads)}, {sizes}; "
        f"the median of {profile.calls} calls",
        machine_line(profile.machine),
    ]


# -- passes, memory, support ----------------------------------------------------------------------


def passes_table(records: Iterable[Record]) -> Table:
    table = _table("pass", "nodes", "FLOPs", "parameters", "ms", right=("nodes", "FLOPs", "parameters", "ms"))
    for r in records:
        change = (_change(*pair) for pair in (r.nodes, r.flops, r.parameters))
        table.add_row(r.name, *change, f"{1000 * r.seconds:.1f}")
    return table


def _change(before: int, after: int) -> str:
    return f"{after:,}" if before == after else f"{before:,} → {after:,}"


def memory_line(graph: Graph, batch: int, activations: Callable[[], int]) -> str:
    """How much memory a run needs, where all sizes are known: its weights, and what a backend's ops leave between them.

    activations: how many bytes that is.
    """
    named = graph.names - {"N"}
    if named:
        return f"memory: unknown while {', '.join(sorted(named))} {'is' if len(named) == 1 else 'are'}"
    weights = sum(v.type.nbytes() for v in graph.by_role("param", "buffer"))
    rows = f"{bytes_text(activations())} of activations for {batch} rows"
    return f"memory: {bytes_text(weights)} of weights, {rows}"


def support_line(graph: Graph, native: Iterable[Value], name: str) -> str:
    """Which ops a backend runs as they are, and which it sees decomposed."""
    kept = {v.op.kind for v in native}
    kinds = sorted(
        {v.op.kind for v in graph.order() if not isinstance(v.op, Input) and v.op.kind not in ("Const", "Item")}
    )
    own = ", ".join(k for k in kinds if k in kept) or "none"
    rest = ", ".join(k for k in kinds if k not in kept)
    return f"{name}: native {own}" + (f"; decomposed {rest}" if rest else "")


# -- results -------------------------------------------------------------------------------------


def metrics_table(
    metrics: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Any]] | None = None
) -> Table:
    """Metrics by split; with a 95 % interval where there is one."""
    table = _table("metric", *metrics, right=tuple(metrics))
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    for name in names:
        cells = (
            _metric(values.get(name), (intervals or {}).get(split, {}).get(name)) for split, values in metrics.items()
        )
        table.add_row(name, *cells)
    return table


def _metric(value: Any, interval: Sequence[float] | None) -> str:
    if not isinstance(value, int | float):
        return "–"
    text = f"{value:.4g}"
    return text if not interval or interval[0] is None else f"{text}  [{interval[0]:.4g}, {interval[1]:.4g}]"


def rows_table(columns: Mapping[str, Sequence[Any]], limit: int) -> Table:
    count = min(limit, len(next(iter(columns.values()))) if columns else 0)
    numbered = columns if "row" in columns else {"row": range(count), **columns}
    table = _table(*numbered, right=("row",))
    for i in range(count):
        table.add_row(*(_cell(values[i]) for values in numbered.values()))
    return table


def _cell(value: Any) -> str:
    return (
        f"{float(value):.4g}" if hasattr(value, "dtype") and value.dtype.kind == "f" and value.ndim == 0 else str(value)
    )


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def tried_line(tried: Tried) -> str:
    """What was found by trying a network in bfloat16."""
    decided, before, after = tried.decided, time_text(tried.before), time_text(tried.after)
    if not decided.steps:
        return f"in float32: {tried.why} ({before} on PyTorch for {decided.rows} rows)"
    count = len(decided.steps)
    return (
        f"in bfloat16: {count} {'step' if count == 1 else 'steps'}; outputs within {100 * decided.error:.2g} % of the "
        f"largest on {decided.rows} training rows, which take {after} on PyTorch, {before} in float32"
        f"{f': {tried.why}' if tried.why else ''}"
    )
