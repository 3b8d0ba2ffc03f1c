"""Opening specs: by path or by name in the zoo, with every problem of one told at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..compiler.build import Head, Network, build
from ..compiler.ir import input_of
from ..compiler.spec.diagnostics import Report, Span, SpecError, hint
from ..compiler.spec.expressions import Scope
from ..compiler.spec.kinds import Context, params_of, read_arguments
from ..compiler.spec.reader import Spec, override, read
from ..compiler.spec.registry import SOURCES, Call
from ..compiler.spec.sections import Train
from ..compiler.spec.source import Node
from .averages import Average
from .data import declare_fields, declare_options
from .metrics import TASKS, check_head, check_metric
from .schedules import Schedule

ZOO = "zoo:"
BLOCKS = "blocks"  # the folder of what specs take in by `use`, which is no spec by itself


class UsageError(Exception):
    """A command that cannot be carried out as it was given (exit code 2); `span` is the place in the spec, if any."""

    def __init__(self, message: str, span: Span | None = None) -> None:
        super().__init__(message)
        self.span = span


def zoo() -> dict[str, Path]:
    """The specs that ship with trine, by name: `vision/digits-mlp`."""
    root = Path(__file__).parent.parent / "specs"
    found = sorted(path for path in root.glob("*/*.yaml") if path.parent.name != BLOCKS)
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in found}


def spec_path(name: str | Path) -> Path:
    """The file that a name stands for: a path, or `zoo:<family>/<name>`; raises `UsageError`."""
    text = str(name)
    if not text.startswith(ZOO):
        return Path(name)
    known = zoo()
    found = known.get(text.removeprefix(ZOO))
    if found is None:
        raise UsageError(f"the zoo has no `{text.removeprefix(ZOO)}`: {hint(text.removeprefix(ZOO), known)}")
    return found


def open_spec(name: str | Path, overrides: Iterable[str] = (), sizes: Mapping[str, int] | None = None) -> Spec:
    """Read and check a spec; raises `SpecError` with all of its problems at once."""
    label = str(name) if str(name).startswith(ZOO) else None
    spec = read(spec_path(name), overrides, sizes, label)
    check_spec(spec)
    return spec


def read_options(scheme: str, texts: Iterable[str]) -> dict[str, Any]:
    """Options of a source as `delimiter=;`, their values YAML; raises `SpecError` for what it does not have."""
    report = Report()
    node = Node({}, Span("--option", 0, 0, 0))
    for text in texts:
        node = override(node, text, report, "--option")
    found, _ = read_arguments(params_of(SOURCES[scheme]), node, Context(Scope(), report, f"source `{scheme}`"))
    report.check()
    given = {str(key) for key in node.keys()}
    return {name: value for name, value in (found or {}).items() if name in given}


def check_spec(spec: Spec) -> None:
    """Raise `SpecError` with every problem of sections, steps, losses, fields and metrics."""
    problems = Report(spec.report.sources, dict(spec.report.diagnostics))
    network: Network | None = None
    try:
        network = build(spec, "train")
    except SpecError as error:
        problems.diagnostics.update(error.report.diagnostics)
    data = spec.sections.data
    fields: dict[str, Call] = {}
    if data is not None:
        fields = declare_fields(data, spec.scope, problems)
        declare_options(data, spec.scope, problems)
    _check_passes(spec, problems)
    if network is not None and spec.sections.train is not None:
        _check_patterns(spec.sections.train, network, problems)
    if network is not None and network.heads:
        _check_metrics(spec, network, fields, problems)
        if spec.sections.train is not None:
            _check_training(spec.sections.train, problems)
    problems.check()


def _check_passes(spec: Spec, problems: Report) -> None:
    """What is decided by trying is decided once."""
    seen: set[str] = set()
    for call in spec.sections.optimize:
        if "decided" in call.entry.names and call.name in seen and call.span is not None:
            problems.error("E204", f"`{call.name}` is there already, and is tried once", call.span, help="leave it out")
        seen.add(call.name)


def _check_metrics(spec: Spec, network: Network, fields: Mapping[str, Call], problems: Report) -> None:
    """Every metric fits some loss, and what training watches is one of them."""
    for call in spec.sections.evaluate.metrics:
        texts = [_cannot(call, head, spec, fields) for head in network.heads]
        if all(texts) and call.span is not None:
            problems.error("E230", str(texts[0]), call.span)
    train = spec.sections.train
    if train is None:
        return
    known = [f"valid/{name}" for name in _computed(spec, network)]
    for who, monitor, span in _watched(train):
        if monitor not in known:
            problems.error("E230", f"{who} watches `{monitor}`, which is not computed", span, help=hint(monitor, known))


def _cannot(call: Call, head: Head, spec: Spec, fields: Mapping[str, Call]) -> str | None:
    """Why a metric cannot judge a head of this spec, or `None` where it can."""
    if (problem := check_head(call, head)) is not None:
        return problem
    if head.ranks and all(field.name != "negatives" for field in fields.values()):
        return (
            f"metric `{call.name}` ranks by scores, and needs to know what there is to rank: "
            "a field of negatives, such as `{sample: item}`"
        )
    if head.task not in TASKS.get(call.name, (head.task,)) and len(spec.inputs) < 2:
        return f"metric `{call.name}` compares texts, and there is no other input to generate one for"
    return None


def _watched(train: Train) -> Iterator[tuple[str, str, Span]]:
    """Who watches which number of the validation split, and where that is said."""
    stopping = train.early_stopping
    if stopping is not None and stopping.monitor.startswith("valid/"):  # of others the reader has told
        yield "early stopping", stopping.monitor, stopping.spans.get("monitor") or train.spans["early_stopping"]
    schedule = train.schedule
    if schedule is not None and "monitor" in schedule.args:
        span = schedule.spans.get("monitor") or train.spans["schedule"]
        yield f"the schedule `{schedule.name}`", schedule.args["monitor"], span


def _check_training(train: Train, problems: Report) -> None:
    """The optimizer and the schedule can be made of their arguments, and the schedule can be followed."""
    try:
        train.optimizer()
    except ValueError as error:
        problems.error("E204", str(error), train.spans["optimizer"])
    total = None if train.length.unit == "sec" else 1
    try:
        if train.schedule is not None:
            schedule: Schedule = train.schedule()
            schedule.factor(0, total, 1)
    except ValueError as error:
        problems.error("E204", str(error), train.spans["schedule"])
    try:
        if train.average is not None:
            average: Average = train.average()
            average.share(0, total, 1)
    except ValueError as error:
        problems.error("E204", str(error), train.spans["average"])


def _check_patterns(train: Train, network: Network, problems: Report) -> None:
    """Every pattern of parameters matches one."""
    names = [input_of(v).name for v in network.graph.by_role("param")]
    held = [input_of(v).name for v in network.graph.by_role("param", "buffer")]
    asked = [(pattern, "a group", group.spans["match"], names) for group in train.groups for pattern in group.patterns]
    source = train.init_from
    if source is not None:
        asked += [(pattern, "`skip`", source.spans["skip"], held) for pattern in source.skip]
        asked += [(pattern, "`map`", source.spans["map"], held) for pattern in source.map]
    for group in train.groups:
        if not group.patterns:
            problems.error("E204", "a group matches no parameter: `match` names none", group.spans["match"])
    for pattern, what, span, known in asked:
        if what == "`map`" and pattern.count("*") > 1:
            problems.error("E204", f"a pattern of `map` has one `*`, found `{pattern}`", span)
        elif not any(fnmatchcase(name, pattern) for name in known):
            message = f"{what} names `{pattern}`, and no parameter is called so"
            problems.error("E204", message, span, help=hint(pattern, known))


def _computed(spec: Spec, network: Network) -> list[str]:
    """The names of the numbers that evaluation gives."""
    names = ["loss"]
    for head in network.heads:
        prefix = f"{head.key}/" if len(network.heads) > 1 else ""
        fitting = [call for call in spec.sections.evaluate.metrics if check_metric(call, head.task) is None]
        names += [prefix + call.title for call in fitting]
    return names
