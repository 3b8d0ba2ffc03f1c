"""Passes: functions from model to model. Importing this package registers them."""

from __future__ import annotations

from functools import partial

from ..spec.reader import Spec
from ..spec.registry import Call
from .fold import fold_batch_norm, fold_constants
from .freeze import freeze
from .pipeline import Model, Pass, Record, run
from .precision import Decided
from .simplify import simplify

__all__ = ["Decided", "Model", "Record", "for_inference", "for_training", "freeze", "run"]


def for_training(model: Model) -> tuple[Model, list[Record]]:
    """The passes every training or evaluation graph goes through."""
    return run(model, [("simplify", simplify), ("fold_constants", fold_constants)])


def for_inference(model: Model, spec: Spec | None = None, decided: Decided | None = None) -> tuple[Model, list[Record]]:
    """The passes every inference graph goes through, then those of the spec's `optimize` section.

    decided: what was found by trying, for passes that ask for it.
    """
    asked: list[tuple[str, Pass]] = []
    for call in spec.sections.optimize if spec else []:
        asked.append((call.name, partial(_call, call, decided)))
    standard: list[tuple[str, Pass]] = [
        ("simplify", simplify),
        ("fold_batch_norm", fold_batch_norm),
        ("fold_constants", fold_constants),
    ]
    return run(model, [*standard, *asked])


def _call(call: Call, decided: Decided | None, model: Model) -> Model:
    result = call(model, decided) if "decided" in call.entry.names else call(model)
    assert isinstance(result, Model)
    return result
