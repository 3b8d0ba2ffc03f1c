"""The door for Python: four functions, each importing what it needs when it is called. See `docs/python.md`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime.data.table import Rowwise
    from .runtime.model import LoadedModel
    from .runtime.session import Trained

Overrides = Iterable[str] | Mapping[str, Any]


def _texts(overrides: Overrides) -> list[str]:
    if isinstance(overrides, Mapping):
        return [f"{key}={_yaml(value)}" for key, value in overrides.items()]
    return list(overrides)


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def train(
    spec: str | Path,
    out: str | Path | None = None,
    *,
    set: Overrides = (),
    data: Mapping[str, Rowwise] | None = None,
    backend: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Trained:
    """Train a spec: a path, or `zoo:vision/digits-mlp`.

    out: the folder of the run; nothing is written where it is left out.
    set: overrides, as `["train.batch=64"]` or `{"train.batch": 64}`.
    data: columns by name, a data frame or a list of rows for each split (`{"train": {...}, "test": {...}}`) instead of
        the spec's source; rows without a split of their own are split as the spec says.
    backend: `numpy`, `torch`, `torch:cuda`, `torch:compile`, `onnx`, or `auto`: the one that is fastest on this
        network. Where none is named it is NumPy, or with `resume` the backend that the run was begun on.
    Raises `SpecError`, `DataError`, `UsageError`, `TrainingError`, `ArtefactError`, `BackendError`.
    """
    from .runtime import session, specs

    opened = specs.open_spec(spec, _texts(set))
    folder = None if out is None else Path(out)
    return session.train(opened, folder, backend, resume=resume, overwrite=overwrite, data=data)


def load(path: str | Path, *, backend: str = "numpy") -> LoadedModel:
    """The trained model of a run; raises `ArtefactError` where there is none, or a corrupt one."""
    from .runtime import model

    if backend == "auto":
        from .runtime.choice import for_artefact

        backend = for_artefact(path).backend
    return model.load(path, backend)


def evaluate(
    path: str | Path, split: str | None = None, *, data: Rowwise | None = None, backend: str = "numpy"
) -> dict[str, Any]:
    """Evaluate a run or bundle on a split of its data: metrics with 95 % intervals, and the split in detail.

    split: `test`, `valid` or `train`; the first of them that has rows where nothing is said.
    data: other rows with their targets, as `model.predict` takes them, instead of a split.
    Raises `ArtefactError`, `DataError`, `UsageError`.
    """
    from .runtime import session, specs

    if split is not None and data is not None:
        raise specs.UsageError("`split` names rows of the model's own data: leave it out where `data` are given")
    return session.evaluate(path, split, backend, data)


def compile(source: str | Path, out: str | Path, *, set: Overrides = ()) -> Path:
    """Write a run, a bundle, or a spec with its initial weights, in the form that the file's name asks for.

    source: the folder of a run, a bundle, or a spec.
    out: `model.trine`: a bundle, for `load`; `model.onnx`; `model.py`: one readable file that needs NumPy
        alone; `model_torch.py`: an `nn.Module`, its weights beside it.
    """
    from .runtime import compiling

    compiling.compile_source(source, Path(out), _texts(set))
    return Path(out)
