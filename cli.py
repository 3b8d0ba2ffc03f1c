"""The door for the shell: `trine …`. Parses arguments, calls the rooms, prints.

Exit codes: 0 fine; 1 our own failure; 2 the spec or the command line; 3 the data; 4 training that
failed or a quality gate missed; 5 a corrupt or untrusted artefact; 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from .compiler.spec.diagnostics import Report

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Command(click.Command):
    """A command whose help keeps the lines of its example."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        text, _, example = (self.help or "").partition("\n\nExample:")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text.strip())
        if example:
            formatter.write_paragraph()
            with formatter.section("Example"):
                for line in example.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="trine", message="%(prog)s %(version)s")
def cli() -> None:
    """Trine: a compiler for neural networks declared in YAML.

    A SPEC is a file, or `zoo:<family>/<name>` for one that ships with trine.
    """


def command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    return cli.command(name, cls=Command)


spec_argument = click.argument("spec")
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="A.B=VALUE",
    help="Override a value of the spec; may be given several times.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to read.")
backend_option = click.option(
    "--backend",
    default="numpy",
    show_default=True,
    help="What runs the network: numpy, torch (torch:cuda names a device) or onnx.",
)


def out() -> Console:
    """Where results are printed."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120)


def err() -> Console:
    """Where messages are printed."""
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else 120)


def print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


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
    from .files import write_atomically
    from .runtime.specs import UsageError, spec_path

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


def _print_report(report: Report) -> None:
    from .views import print_report

    print_report(err(), report)


@command("check")
@click.argument("specs", nargs=-1, required=True)
@set_option
@json_option
def check(specs: Sequence[str], overrides: Sequence[str], as_json: bool) -> None:
    """Check specs without reading any data: every problem of every file, in one run.

    Example:
    trine check my-model.yaml
    """
    from .compiler.spec.diagnostics import SpecError
    from .runtime.specs import open_spec

    failed, found = False, []
    for name in specs:
        try:
            open_spec(name, overrides)
        except SpecError as error:
            failed = True
            found += [d.as_json() for d in error.diagnostics]
            if not as_json:
                _print_report(error.report)
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
    from .compiler.spec.format import formatted
    from .files import write_atomically

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
    from .compiler.build import build
    from .runtime.artefacts import is_artefact
    from .runtime.model import load
    from .runtime.specs import open_spec
    from .views import parameter_rows, parameters_table, settings, settings_table, steps_table

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
    from .backends.base import load as load_backend
    from .compiler import text
    from .compiler.build import build
    from .compiler.passes import Model, for_training
    from .compiler.training import training
    from .runtime.model import inference_model
    from .runtime.session import open_source

    spec, weights = open_source(source, overrides)
    if stage == "graph":
        return text.write(build(spec).graph, elide=True)
    if stage == "train":
        graphs = training(spec)
        step = graphs.step or graphs.gather
        assert step is not None
        return text.write(for_training(Model(step))[0].graph, elide=True)
    model, _ = inference_model(spec, weights)
    if stage == "inference":
        return text.write(model.graph, elide=True)
    return load_backend("numpy").source(model)


@command("plan")
@spec_argument
@set_option
@backend_option
@click.option("--no-data", is_flag=True, help="Do not read the data: sizes that only they define stay names.")
@json_option
def plan(spec: str, overrides: Sequence[str], backend: str, no_data: bool, as_json: bool) -> None:
    """Show what a spec comes to: each step's output, parameters and FLOPs; memory; what passes did.

    Example:
    trine plan zoo:vision/digits-cnn
    """
    from .backends.base import load as load_backend
    from .compiler.build import build
    from .runtime.artefacts import is_artefact
    from .runtime.data import load_dataset
    from .runtime.model import inference_model, initial_weights, load
    from .runtime.specs import open_spec
    from .views import memory_line, passes_table, plan_rows, plan_table, support_line

    opened = load(spec).spec if is_artefact(spec) else open_spec(spec, overrides)
    if opened.unknown_sizes and not no_data and opened.sections.data is not None:
        opened = opened.with_sizes(load_dataset(opened).sizes)
    network = build(opened)
    rows = plan_rows(network)
    named = any(v.type.names - {"N"} for v in network.graph.by_role("param", "buffer"))
    model, records = inference_model(opened, {} if named else initial_weights(opened))
    runner = load_backend(backend)
    native = [v for v in model.graph.order() if runner.native(v)]
    if as_json:
        print_json({"steps": [vars(r) for r in rows], "passes": [vars(r) for r in records]})
        return
    console = out()
    console.print(plan_table(rows, network.graph))
    console.print()
    console.print(passes_table(records))
    console.print()
    batch = opened.sections.train.batch if opened.sections.train else 1
    console.print(memory_line(model.graph, batch), highlight=False)
    console.print(support_line(model.graph, native, backend), highlight=False)


@command("schema")
def schema() -> None:
    """Print the JSON Schema of specs, for completion and checks in editors.

    Example:
    trine schema > trine.schema.json
    """
    from . import runtime
    from .compiler import build
    from .compiler.spec.schema import schema as made

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

    from .files import write_atomically
    from .reference import index, lookup, pages

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


@command("compile")
@click.argument("source")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="model.trine: a bundle; model.onnx; model.py: NumPy alone; model_torch.py: an nn.Module.",
)
@click.option("--step", is_flag=True, help="Of a network that generates: one step, whose caches go in and come out.")
@set_option
def compile_(source: str, output: Path, step: bool, overrides: Sequence[str]) -> None:
    """Compile a run, a bundle, or a spec with its initial weights, to what the file's name asks for.

    Example:
    trine compile runs/digits-mlp -o digits.py
    """
    from .runtime.session import compile_source
    from .views import passes_table

    records = compile_source(source, output, overrides, step)
    console = out()
    console.print(passes_table(records))
    click.echo(f"wrote {output} ({output.stat().st_size / 1024:.0f} KiB)")


@command("train")
@spec_argument
@set_option
@backend_option
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of the run; `runs/<name>` by default.",
)
@click.option("--resume", is_flag=True, help="Go on from the latest checkpoint of the run.")
@click.option("--overwrite", is_flag=True, help="Start anew where a run is.")
@click.option("--quiet", is_flag=True, help="Print the result alone.")
@json_option
def train(
    spec: str,
    overrides: Sequence[str],
    backend: str,
    folder: Path | None,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a spec, evaluate it on every split, and leave a run that can be read, resumed and loaded.

    Example:
    trine train zoo:vision/digits-mlp --set train.epochs=10 --out runs/first
    """
    from .runtime import session, specs
    from .runtime.progress import Silent, listener
    from .views import metrics_table

    opened = specs.open_spec(spec, overrides)
    folder = folder or Path("runs") / opened.name
    console = out()
    shown = Silent() if quiet or as_json else listener(console)
    result = session.train(opened, folder, backend, shown, resume, overwrite)
    if as_json:
        print_json({"run": str(folder), "metrics": result.metrics})
        return
    console.print(metrics_table(result.metrics))
    click.echo(f"run: {folder}")


@command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--split", help="Which rows to evaluate on; `test` by default, or else `valid`.")
@backend_option
@json_option
def evaluate(run: Path, split: str | None, backend: str, as_json: bool) -> None:
    """Evaluate a run or bundle on a split of its data: metrics with 95 % intervals, by class and by slice.

    Example:
    trine eval runs/digits-mlp --split valid
    """
    from .runtime import session
    from .views import metrics_table, rows_table

    summary = session.evaluate(run, split, backend)
    if as_json:
        print_json(summary)
        return
    console = out()
    console.print(metrics_table(summary["splits"], summary["intervals"]))
    for name, rows in [("classes", summary.get("per_class", [])), *summary.get("slices", {}).items()]:
        if rows:
            flat = [{k: v for k, v in row.items() if k != "metrics"} | row.get("metrics", {}) for row in rows]
            console.print(f"\n[bold]{name}[/bold]")
            columns = {key: [_short(row[key]) for row in flat] for key in flat[0]}
            console.print(rows_table(columns, 50))


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


@command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "rows",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Rows to predict: .csv(.gz), .npz, .json or .jsonl, with the columns of the training data.",
)
@click.option("--split", help="Without --input: which rows of the run's own data; `test` by default, or else `valid`.")
@click.option("--limit", default=10, show_default=True, help="How many rows to print.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write all predictions to a .csv file.")
@backend_option
@json_option
def predict(
    run: Path, rows: Path | None, split: str | None, limit: int, output: Path | None, backend: str, as_json: bool
) -> None:
    """Predict rows of a file, or of the run's own data beside the truth.

    Example:
    trine predict runs/digits-mlp --limit 5
    """
    from .runtime import prediction
    from .views import rows_table

    columns = prediction.predict(run, rows, split, backend)
    if output is not None:
        prediction.write_csv(output, columns)
        click.echo(f"wrote {len(next(iter(columns.values())))} rows to {output}")
        return
    if as_json:
        print_json(prediction.as_rows(columns))
        return
    out().print(rows_table(columns, limit))


@command("generate")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--prompt", default="", help="The text to go on from.")
@click.option("--row", "columns", multiple=True, metavar="COLUMN=TEXT", help="A column of the network's other inputs.")
@click.option("--tokens", default=200, show_default=True, help="How many tokens to generate, unless it ends before.")
@click.option("--temperature", default=0.0, show_default=True, help="0 takes the most probable token; 1 samples.")
@click.option("--top-k", type=click.IntRange(1), help="Sample among so many most probable tokens.")
@click.option("--top-p", type=click.FloatRange(0, 1), help="Sample among the fewest tokens that have this probability.")
@click.option("--beams", default=1, show_default=True, type=click.IntRange(1), help="How many beams to search with.")
@click.option("--seed", default=0, show_default=True, help="What is drawn from.")
@click.option("--length", type=click.IntRange(1), help="The longest sequence, where the spec does not say it.")
@backend_option
def generate(
    run: Path,
    prompt: str,
    columns: Sequence[str],
    tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    beams: int,
    seed: int,
    length: int | None,
    backend: str,
) -> None:
    """Go on with a text, token by token, by a network trained with the loss `next_token`.

    Example:
    trine generate runs/char-lm --prompt "ROMEO:" --temperature 0.8
    """
    from .runtime import model as models
    from .runtime.generation import Generator, Sampling

    row = dict(_pair(column) for column in columns)
    made = Generator(models.load(run, backend), length, beams)
    click.echo(prompt, nl=False)
    for piece in made.text(prompt, row, tokens, Sampling(temperature, top_k, top_p, seed)):
        click.echo(piece, nl=False)
        sys.stdout.flush()
    click.echo()


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"`{text}` is not COLUMN=TEXT", param_hint="--row")
    return name, value


def main() -> None:
    """Run a command, and turn what goes wrong into one message and an exit code."""
    try:
        cli.main(prog_name="trine", standalone_mode=False)
    except click.exceptions.Exit as error:
        raise SystemExit(error.exit_code) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(2) from None
    except (KeyboardInterrupt, click.Abort):
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
    except Exception as error:
        raise SystemExit(_explain(error)) from None


def _explain(error: Exception) -> int:
    """Print an error as its kind deserves; the exit code."""
    from .backends.base import BackendError
    from .compiler.generation import NotGenerative
    from .compiler.ir import IRError
    from .compiler.spec.diagnostics import SpecError
    from .runtime.checkpoints import ArtefactError
    from .runtime.data import DataError
    from .runtime.runs import RunExists
    from .runtime.specs import UsageError
    from .runtime.trainer import Interrupted, TrainingError

    if isinstance(error, SpecError):
        if "--json" in sys.argv:
            print_json({"ok": False, "diagnostics": [d.as_json() for d in error.diagnostics]})
        else:
            _print_report(error.report)
        return 2
    if isinstance(error, Interrupted):
        err().print(f"stopped by {error}: the run was saved; `--resume` goes on", highlight=False)
        return error.exit_code
    kinds: list[tuple[tuple[type[Exception], ...], str, int]] = [
        ((UsageError, RunExists, BackendError, NotGenerative), "error", 2),
        ((DataError,), "error in the data", 3),
        ((TrainingError,), "training failed", 4),
        ((ArtefactError,), "error in an artefact", 5),
    ]
    for types, heading, code in kinds:
        if isinstance(error, types):
            span = getattr(error, "span", None)
            err().print(f"[bold red]{heading}[/bold red]: ", end="")
            err().print(str(error), highlight=False, markup=False, soft_wrap=True)
            if span is not None:
                err().print(f" --> {span.place}", highlight=False, markup=False)
            return code
    if isinstance(error, OSError):
        err().print(f"error: {error}", highlight=False, markup=False)
        return 2
    return _internal(error, isinstance(error, IRError))


def _internal(error: Exception, graph: bool) -> int:
    """A failure of our own: say so, and leave the traceback in a file."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile("w", prefix="trine-", suffix=".log", delete=False, encoding="utf-8") as file:
        file.write(text)
    what = "a graph went wrong" if graph else type(error).__name__
    err().print(f"this is a fault of trine, not of yours ({what}: {str(error)[:300]})", highlight=False, markup=False)
    err().print(f"please report it with {file.name}", highlight=False, markup=False)
    return 1


if __name__ == "__main__":
    main()
