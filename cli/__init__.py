"""The door for the shell: `trine …`. Parses arguments, calls the rooms, prints.

Exit codes: 0 fine; 1 our own failure; 2 the spec or the command line; 3 the data; 4 training that
failed or a quality gate missed; 5 a corrupt or untrusted artefact; 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import sys
import warnings

import click

from ..backends.threads import prepare
from . import bench as _bench  # noqa: F401 (adds its command)
from . import models as _models  # noqa: F401 (adds its commands)
from . import specs as _specs  # noqa: F401 (adds its commands)
from .core import cli, err, print_json, show_report

__all__ = ["main"]


def main() -> None:
    """Run a command, and turn what goes wrong into one message and an exit code."""
    warnings.showwarning = _warn
    try:
        prepare()
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


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning for people, who need not know where in the source it is from."""
    err().print(f"warning: {message}", highlight=False, markup=False, soft_wrap=True)


def _explain(error: Exception) -> int:
    """Print an error as its kind deserves; the exit code."""
    from ..backends.base import BackendError
    from ..compiler.generation import NotGenerative
    from ..compiler.ir import IRError
    from ..compiler.spec.diagnostics import SpecError
    from ..runtime.checkpoints import ArtefactError
    from ..runtime.data import DataError
    from ..runtime.runs import RunExists
    from ..runtime.specs import UsageError
    from ..runtime.trainer import Interrupted, TrainingError

    if isinstance(error, SpecError):
        if "--json" in sys.argv:
            print_json({"ok": False, "diagnostics": [d.as_json() for d in error.diagnostics]})
        else:
            show_report(error.report)
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
            err().print(f"{heading}: ", style="bold red", end="")
            err().print(str(error), highlight=False, markup=False, soft_wrap=True)
            if span is not None:
                err().print(f" --> {span.place}", highlight=False, markup=False)
            return code
    if isinstance(error, MemoryError):
        told = str(error) or "no array of the size that is needed can be had"
        err().print(f"error: there is not enough memory: {told}; smaller dims or batches need less")
        return 2
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
