"""Commands on models: compile, train, evaluate, predict, generate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .core import (
    auto_backend_option,
    backend_option,
    command,
    json_option,
    out,
    print_json,
    set_option,
    source_option,
    spec_argument,
    threads_option,
    told_backend,
    train_backend_option,
)


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
    from ..runtime.compiling import compile_source
    from ..views import passes_table, tried_line

    done = compile_source(source, output, overrides, step)
    console = out()
    console.print(passes_table(done.records))
    for line in (done.tried and tried_line(done.tried), done.note):
        if line:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    click.echo(f"wrote {output} ({output.stat().st_size / 1024:.0f} KiB)")


@command("train")
@spec_argument
@set_option
@train_backend_option
@threads_option
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
    backend: str | None,
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
    from ..runtime import session, specs
    from ..runtime.progress import Silent, listener
    from ..views import metrics_table

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
@click.option(
    "--input", "rows", type=click.Path(path_type=Path), help="Other rows with their targets: a file as for `predict`."
)
@source_option
@auto_backend_option
@threads_option
@json_option
def evaluate(
    run: Path, split: str | None, rows: Path | None, options: Sequence[str], backend: str, as_json: bool
) -> None:
    """Evaluate a run or bundle on a split of its data, or on a file: metrics with 95 % intervals, by class and slice.

    Example:
    trine eval runs/digits-mlp --split valid
    """
    from ..runtime import prediction, session
    from ..runtime.choice import for_artefact
    from ..views import metrics_table, rows_table

    if rows is None and options:
        raise click.UsageError("`--option` says how the file of `--input` is read: there is none")
    if rows is not None and split is not None:
        raise click.UsageError("`--split` names rows of the run's own data: leave it out beside `--input`")
    backend = told_backend(backend, lambda: for_artefact(run))
    table = None if rows is None else prediction.rows_for(run, rows, options)
    summary = session.evaluate(run, split, backend, table)
    if as_json:
        print_json(summary)
        return
    console = out()
    console.print(metrics_table(summary["splits"], summary["intervals"]))
    tables = [("classes", "per_class"), ("spans", "spans"), ("horizons", "horizons"), ("texts", "texts")]
    details = [(name, summary.get(key, [])) for name, key in tables]
    for name, found in [*details, *summary.get("slices", {}).items()]:
        if found:
            flat = [{k: v for k, v in row.items() if k != "metrics"} | row.get("metrics", {}) for row in found]
            console.print(f"\n{name}", style="bold")
            columns = {key: [_short(row[key]) for row in flat] for key in flat[0]}
            console.print(rows_table(columns, 50))


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


@command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "rows",
    type=click.Path(path_type=Path),
    help="Rows to predict: .csv, .tsv, .parquet, .npz, .json or .jsonl with the columns of the training data, or files "
    "like those.",
)
@source_option
@click.option("--split", help="Without --input: which rows of the run's own data; `test` by default, or else `valid`.")
@click.option("--limit", default=10, show_default=True, help="How many rows to print.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all predictions to a file: .csv, .tsv, .json, .jsonl or .parquet.",
)
@click.option("--probabilities", is_flag=True, help="The probability of each class, too.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="A column of the rows to write beside; several times.")
@click.option("--rows", "numbers", is_flag=True, help="The number of each row in its file, from 1, as `row`.")
@auto_backend_option
@threads_option
@json_option
def predict(
    run: Path,
    rows: Path | None,
    options: Sequence[str],
    split: str | None,
    limit: int,
    output: Path | None,
    probabilities: bool,
    keep: Sequence[str],
    numbers: bool,
    backend: str,
    as_json: bool,
) -> None:
    """Predict rows of a file, or of the run's own data beside the truth.

    Example:
    trine predict runs/digits-mlp --limit 5
    """
    from ..runtime import prediction
    from ..runtime.choice import for_artefact
    from ..views import rows_table

    if output is not None:
        prediction.check_output(output)
    backend = told_backend(backend, lambda: for_artefact(run))
    wanted = prediction.Wanted(tuple(keep), numbers, probabilities)
    columns = prediction.predict(run, rows, split, backend, wanted, options)
    if output is not None:
        prediction.write(output, columns)
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
@click.option(
    "--tokens",
    default=200,
    show_default=True,
    type=click.IntRange(1),
    help="How many tokens to generate, unless it ends before.",
)
@click.option(
    "--temperature",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="0 takes the most probable token; 1 samples.",
)
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
    from ..compiler.spec.diagnostics import visible
    from ..runtime import model as models
    from ..runtime.generation import Generator, Sampling

    if temperature == 0 and (top_k or top_p):
        raise click.UsageError("`--top-k` and `--top-p` are for sampling: set a `--temperature` too")
    if beams > 1 and temperature:
        raise click.UsageError("beam search looks for the most probable text: leave out `--temperature`")
    row = dict(_pair(column) for column in columns)
    made = Generator(models.load(run, backend), length, beams)
    click.echo(visible(prompt), nl=False)
    for piece in made.text(prompt, row, tokens, Sampling(temperature, top_k, top_p, seed)):
        click.echo(visible(piece), nl=False)
        sys.stdout.flush()
    click.echo()


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"`{text}` is not COLUMN=TEXT", param_hint="--row")
    return name, value
