"""Passes: functions from model to model. Importing this package registers them."""

from __future__ import annotations

from functools import partial

from ..spec.reader import Spec
from .fold import fold_batch_norm, fold_constants
from .freeze import freeze
from .pipeline import Model, Pass, Record, run
from .simplify import simplify

__all__ = ["Model", "Record", "for_inference", "for_training", "freeze", "run"]


def for_training(model: Model) -> tuple[Model, list[Record]]:
    """The passes every training or evaluation graph goes through."""
    return run(model, [("simplify", simplify), ("fold_constants", fold_constants)])


def for_inference(model: Model, spec: Spec | None = None) -> tuple[Model, list[Record]]:
    """The passes every inference graph goes through, then those of the spec's `optimize` section."""
    asked: list[tuple[str, Pass]] = []
    for call in spec.sections.optimize if spec else []:
        asked.append((call.name, partial(_call, call)))
    standard: list[tuple[str, Pass]] = [
        ("simplify", simplify),
        ("fold_batch_norm", fold_batch_norm),
        ("fold_constants", fold_constants),
    ]
    return run(model, [*standard, *asked])


def _call(call: object, model: Model) -> Model:
    result = call(model)  # type: ignore[operator]
    assert isinstance(result, Model)
    return result
