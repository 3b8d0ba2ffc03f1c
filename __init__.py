"""Trine: a compiler for neural networks declared in YAML.

    import trine
    run = trine.train("zoo:vision/digits-mlp", out="runs/digits-mlp")
    model = trine.load("runs/digits-mlp")
    model.predict({"image": images})

The names below are all there is to the door; they are imported when they are first used, so that
`import trine` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import compile, evaluate, load, train
    from .backends.base import BackendError
    from .backends.threads import set_threads, threads
    from .compiler.spec.diagnostics import Diagnostic, SpecError
    from .runtime.checkpoints import ArtefactError
    from .runtime.data import DataError
    from .runtime.model import LoadedModel
    from .runtime.session import Trained
    from .runtime.specs import UsageError
    from .runtime.trainer import TrainingError

__all__ = [
    "ArtefactError",
    "BackendError",
    "DataError",
    "Diagnostic",
    "LoadedModel",
    "SpecError",
    "Trained",
    "TrainingError",
    "UsageError",
    "compile",
    "evaluate",
    "load",
    "set_threads",
    "threads",
    "train",
]

_HOMES = {
    "compile": ".api",
    "evaluate": ".api",
    "load": ".api",
    "train": ".api",
    "set_threads": ".backends.threads",
    "threads": ".backends.threads",
    "BackendError": ".backends.base",
    "Diagnostic": ".compiler.spec.diagnostics",
    "SpecError": ".compiler.spec.diagnostics",
    "ArtefactError": ".runtime.checkpoints",
    "DataError": ".runtime.data",
    "LoadedModel": ".runtime.model",
    "Trained": ".runtime.session",
    "UsageError": ".runtime.specs",
    "TrainingError": ".runtime.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
