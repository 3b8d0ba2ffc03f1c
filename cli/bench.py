"""`trine bench`: where a network's time goes, and what the machine can do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from .core import (
    auto_backend_option,
    command,
    json_option,
    out,
    print_json,
    set_option,
    threads_option,
    told_backend,
)


@command("bench")
@click.argument("source", required=False, metavar="[SPEC]")
@set_option
@auto_backend_option
@click.option("--batch", type=click.IntRange(1), help="How many rows; as in training by default.")
@click.option("--size", "sizes", multiple=True, metavar="NAME=N", help="The size of another dim, as of a sequence.")
@click.option("--train", "training", is_flag=True, help="Look at a step of training, not at predicting.")
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw the profile, too: a file named `.svg`."
)
@click.option("--calibrate", is_flag=True, help="Measure this machine first, and keep the figures for all commands.")
@threads_option
@json_option
def bench(
    source: str | None,
    overrides: Sequence[str],
    backend: str,
    batch: int | None,
    sizes: Sequence[str],
    training: bool,
    picture: Path | None,
    calibrate: bool,
    as_json: bool,
) -> None:
    """Time a spec, run or bundle on made-up inputs: the whole call, and each step by its line.

    Example:
    trine bench zoo:vision/digits-cnn --batch 32 --backend torch --picture profile.svg
    """
    if source is None and not calibrate:
        raise click.UsageError("name a SPEC, or measure the machine alone by `--calibrate`")
    if picture is not None and picture.suffix != ".svg":
        raise click.UsageError(f"`--picture` writes .svg, not `{picture}`")
    found: dict[str, object] = {}
    if calibrate:
        found |= _calibrated(as_json)
    if source is not None:
        wanted = dict(_size(text) for text in sizes)
        found |= _profiled(source, overrides, backend, batch, wanted, training, picture, as_json)
    if as_json:
        print_json(found)


def _calibrated(as_json: bool) -> dict[str, object]:
    from ..backends.machine import as_json as plain
    from ..backends.machine import save
    from ..backends.threads import cores
    from ..runtime.calibration import calibrate
    from ..views import machine_table

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > cores() / 2:
        click.echo(f"other programs are running (load {load:.1f}): figures will be low; do it again without", err=True)
    machine = calibrate()
    try:
        kept = f"kept in {save(machine)}"
    except (OSError, RuntimeError) as error:
        kept = f"not kept: {error}"
    if not as_json:
        out().print(machine_table(machine))
    click.echo(kept, err=as_json)
    return {"calibration": plain(machine)}


def _profiled(
    source: str,
    overrides: Sequence[str],
    backend: str,
    batch: int | None,
    sizes: dict[str, int],
    training: bool,
    picture: Path | None,
    as_json: bool,
) -> dict[str, object]:
    from ..files import write_atomically
    from ..runtime.choice import choose
    from ..runtime.profile import PREDICTING, TRAINING, check_sizes, profile, subject
    from ..runtime.profile_picture import picture as drawn
    from ..runtime.session import open_source
    from ..views import profile_lines, profile_table

    opened = open_source(source, overrides)
    spec = opened.spec
    check_sizes(spec, sizes)
    what = subject(spec, opened.weights, training, batch, sizes, opened.decided)
    runner = told_backend(backend, lambda: choose(what))
    found = profile(spec, what, runner, TRAINING if training else PREDICTING)
    if picture is not None:
        write_atomically(picture, drawn(found).encode())
    if not as_json:
        console = out()
        console.print(profile_table(found))
        console.print()
        for line in profile_lines(found):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if picture is not None:
            click.echo(f"wrote {picture}")
    return found.as_json()


def _size(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal() or int(number) < 1:
        raise click.BadParameter(f"`{text}` is not NAME=N", param_hint="--size")
    return name, int(number)
