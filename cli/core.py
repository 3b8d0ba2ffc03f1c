"""What the commands share: the group, options, where things are printed."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..files import json_text

if TYPE_CHECKING:
    from rich.console import Console

    from ..compiler.spec.diagnostics import Report
    from ..runtime.choice import Choice

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Command(click.Command):
    """A command whose help keeps the lines of its example."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Python before 3.13 leaves docstrings indented.
        text, _, example = inspect.cleandoc(self.help or "").partition("\n\nExample:")
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
source_option = click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="How the file of --input is read, such as `delimiter=;`, where not as the training data were.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to read.")
backend_option = click.option(
    "--backend",
    default="numpy",
    show_default=True,
    help="What runs the network: numpy, torch (or torch:cuda, torch:compile) or onnx.",
)
auto_backend_option = click.option(
    "--backend",
    default="numpy",
    show_default=True,
    help="What runs the network: numpy, torch (or torch:cuda, torch:compile), onnx, or auto: whichever is fastest.",
)


train_backend_option = click.option(
    "--backend",
    help="What runs the network: numpy, torch (or torch:cuda, torch:compile), onnx, or auto: whichever is fastest. By "
    "default numpy; a run that is resumed goes on on its own.",
)


def _settle_threads(_: click.Context, __: click.Parameter, count: int | None) -> None:
    """Before any library is loaded: most read how many threads they have only once."""
    from ..backends.threads import prepare

    if count is not None:
        prepare(count)


threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    envvar="TRINE_THREADS",
    callback=_settle_threads,
    expose_value=False,
    help="How many threads the network runs on; by default one for each core.",
)


def told_backend(backend: str, choose: Callable[[], Choice]) -> str:
    """The backend that was named; for `auto` the one that is chosen, which is said where messages go."""
    if backend != "auto":
        return backend
    choice = choose()
    click.echo(choice.words, err=True)
    return choice.backend


def out() -> Console:
    """Where results are printed."""
    from ..terminal import Terminal

    return Terminal(width=None if sys.stdout.isatty() else 120)


def err() -> Console:
    """Where messages are printed."""
    from ..terminal import Terminal

    return Terminal(stderr=True, width=None if sys.stderr.isatty() else 120)


def print_json(data: Any) -> None:
    click.echo(json_text(data, indent=2))


def show_report(report: Report) -> None:
    from ..views import print_report

    print_report(err(), report)
