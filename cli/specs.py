"""Commands on specs: write, check, format, show, plan; the schema and the reference."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .core import backend_option, command, json_option, out, print_json, set_option, show_report, spec_argument

if TYPE_CHECKING:
    from ..backends.base import Backend
    from ..compiler.ir import Array
    from ..compiler.machine import Machine, Priced
    from ..compiler.spec.reader import Spec


@command("init")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--template", default="tabular/wine", show_default=True, help="The zoo spec to start from: see `trine docs zoo`."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(path: Path, template: str, force: bool) -> None:
    """Write a commented spec to start from.

    Example:
    trine init my-model.yaml --template vision/digits-cnn
    """
    from ..files import write_atomically
    from ..runtime.specs import UsageError, spec_path

    source = spec_path(f"zoo:{template.removeprefix('zoo:')}")
    if path.exists() and not force:
        raise UsageError(f"`{path}` exists: `--force` replaces it")
    heading = (
        "# yaml-language-server: $schema=trine.schema.json\n"
        "# `trine schema > trine.schema.json` gives editors completion and checks as you type.\n"
        f"# Started from zoo:{template.removeprefix('zoo:')}; `trine docs` lists what may stand here.\n\n"
    )
    write_atomically(path, (heading + source.read_text(encoding="utf-8")).encode())
    click.echo(f"wrote {path}: check it with `trine check {path}`, train it with `trine train {path}`")


@command("check")
@click.argument("specs", nargs=-1, required=True)
@set_option
@json_option
def check(specs: Sequence[str], overrides: Sequence[str], as_json: bool) -> None:
    """Check specs without reading any data: every problem of every file, in one run.

    Example:
    trine check my-model.yaml
    """
    from ..compiler.spec.diagnostics import SpecError
    from ..runtime.specs import open_spec

    failed, found = False, []
    for name in specs:
        try:
            open_spec(name, overrides)
        except SpecError as error:
            failed = True
            found += [d.as_json() for d in error.diagnostics]
            if not as_json:
                show_report(error.report)
        else:
            if not as_json:
                click.echo(f"{name}: ok")
    if as_json:
        print_json({"ok": not failed, "diagnostics": found})
    if failed:
        raise SystemExit(2)


@command("fmt")
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit with 2 if a file would change.")
def fmt(specs: Sequence[Path], only_check: bool) -> None:
    """Lay out spec files alike: indentation, spacing, line ends. Comments and meaning stay.

    Example:
    trine fmt my-model.yaml
    """
    from ..compiler.spec.format import formatted
    from ..files import write_atomically

    changed = []
    for path in specs:
        text, new = formatted(path)
        if text == new:
            continue
        changed.append(path)
        if not only_check:
            write_atomically(path, new.encode())
        click.echo(f"{path}: {'would change' if only_check else 'formatted'}")
    if only_check and changed:
        raise SystemExit(2)


STAGES = ("graph", "train", "inference", "source")


@command("show")
@spec_argument
@set_option
@click.option(
    "--stage",
    type=click.Choice(STAGES),
    help="Print the graph instead: as built, with gradients and updates, optimised, or as source.",
)
@json_option
def show(spec: str, overrides: Sequence[str], stage: str | None, as_json: bool) -> None:
    """Show every value in force and where it came from: file and line, --set, default, data.

    Example:
    trine show zoo:vision/digits-mlp --set train.batch=64
    """
    from ..compiler.build import build
    from ..runtime.artefacts import is_artefact
    from ..runtime.model import load
    from ..runtime.specs import open_spec
    from ..views import parameter_rows, parameters_table, settings, settings_table, steps_table

    opened = load(spec).spec if is_artefact(spec) else open_spec(spec, overrides)
    if stage:
        click.echo(_stage(spec, overrides, stage))
        return
    network = build(opened, "train")
    if as_json:
        steps = [
            {
                "step": s.path,
                "layer": s.call.name,
                "arguments": dict(s.call.args),
                "from": s.span.place,
            }
            for s in network.steps
        ]
        rows = parameter_rows(opened, network) if opened.sections.train else []
        print_json(
            {
                "settings": [vars(s) for s in settings(opened)],
                "steps": steps,
                "parameters": [vars(row) for row in rows],
            }
        )
        return
    console = out()
    console.print(settings_table(opened))
    console.print()
    console.print(steps_table(network))
    if opened.sections.train is not None:
        console.print()
        console.print(parameters_table(parameter_rows(opened, network)))


def _stage(source: str, overrides: Sequence[str], stage: str) -> str:
    from ..backends.base import load as load_backend
    from ..compiler import text
    from ..compiler.build import build
    from ..compiler.passes import Model, for_training
    from ..compiler.training import training
    from ..runtime.model import inference_model
    from ..runtime.session import open_source

    opened = open_source(source, overrides)
    spec, weights = opened.spec, opened.weights
    if stage == "graph":
        return text.write(build(spec).graph, elide=True)
    if stage == "train":
        graphs = training(spec)
        step = graphs.step or graphs.gather
        assert step is not None
        return text.write(for_training(Model(step))[0].graph, elide=True)
    model, _ = inference_model(spec, weights, decided=opened.decided)
    if stage == "inference":
        return text.write(model.graph, elide=True)
    return load_backend("numpy").source(model)


@command("plan")
@spec_argument
@set_option
@backend_option
@click.option("--no-data", is_flag=True, help="Do not read the data: sizes that only they define stay names.")
@click.option("--costs", is_flag=True, help="Estimate the time of each step on this machine, too.")
@json_option
def plan(spec: str, overrides: Sequence[str], backend: str, no_data: bool, costs: bool, as_json: bool) -> None:
    """Show what a spec comes to: each step's output, parameters and FLOPs; memory; what passes did.

    Example:
    trine plan zoo:vision/digits-cnn
    """
    from ..backends.base import load as load_backend
    from ..compiler.build import build
    from ..compiler.passes import freeze
    from ..runtime.artefacts import is_artefact
    from ..runtime.data import load_dataset
    from ..runtime.memory import peak
    from ..runtime.model import inference_model, initial_weights, load
    from ..runtime.specs import open_spec
    from ..views import costs_table, machine_line, memory_line, passes_table, plan_rows, plan_table, support_line

    opened = load(spec).spec if is_artefact(spec) else open_spec(spec, overrides)
    if opened.unknown_sizes and not no_data and opened.sections.data is not None:
        opened = opened.with_sizes(load_dataset(opened).sizes)
    network = build(opened)
    rows = plan_rows(network)
    named = any(v.type.names - {"N"} for v in network.graph.by_role("param", "buffer"))
    weights = {} if named else initial_weights(opened)
    model, records = inference_model(opened, weights)
    runner = load_backend(backend)
    if costs and backend != runner.name:
        raise click.UsageError(f"`--costs` are estimates for a processor, not for `{backend}`")
    native = [v for v in model.graph.order() if runner.native(v)]
    batch = opened.sections.train.batch if opened.sections.train else 1
    steps, machine = _costs(opened, weights, runner, batch) if costs else ([], None)
    if as_json:
        found = {"steps": [vars(r) for r in rows], "passes": [r.as_json() for r in records]}
        print_json(found | ({"costs": [vars(s) for s in steps], "measured": machine.measured} if machine else {}))
        return
    console = out()
    console.print(plan_table(rows, network.graph))
    console.print()
    console.print(passes_table(records))
    console.print()
    if machine is not None:
        console.print(costs_table(steps, machine))
        console.print(f"of {batch} rows, predicting on {backend}; {machine_line(machine)}", highlight=False)
        console.print()
    activations = partial(peak, freeze(model), {"N": batch}, runner)
    console.print(memory_line(model.graph, batch, activations), highlight=False)
    console.print(support_line(model.graph, native, backend), highlight=False)


def _costs(spec: Spec, weights: Mapping[str, Array], backend: Backend, batch: int) -> tuple[list[Priced], Machine]:
    """What each step of predicting should cost on this machine; raises `UsageError` while sizes are unknown."""
    from ..backends.machine import this_machine
    from ..compiler.machine import priced
    from ..runtime.profile import lowered, subject

    machine = this_machine()
    graph = lowered(subject(spec, weights, train=False, batch=batch), backend)
    return priced(graph, machine, backend.name, kernel=backend.kernel), machine


@command("schema")
def schema() -> None:
    """Print the JSON Schema of specs, for completion and checks in editors.

    Example:
    trine schema > trine.schema.json
    """
    from .. import runtime
    from ..compiler import build
    from ..compiler.spec.schema import schema as made

    assert runtime and build  # importing them fills the registries
    print_json(made())


@command("docs")
@click.argument("topic", required=False)
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the reference pages into a folder.",
)
def docs(topic: str | None, folder: Path | None) -> None:
    """Explain a layer, loss, metric, op, section or error code; without a topic, list them.

    Example:
    trine docs conv
    """
    from rich.markdown import Markdown

    from ..files import write_atomically
    from ..reference import index, lookup, pages

    if folder is not None:
        for name, text in pages().items():
            write_atomically(folder / name, text.encode())
        click.echo(f"wrote {len(pages())} pages to {folder}")
        return
    text = index() if topic is None else lookup(topic)
    if sys.stdout.isatty():
        out().print(Markdown(text))
    else:
        click.echo(text)
