"""What a trained model consists of, wherever it lies: in the folder of a run, or in a bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load as load_bytes

from ..backends import machine as machines
from ..compiler.build import build
from ..compiler.ir import Array, input_of
from ..compiler.machine import Machine
from ..compiler.passes import Decided
from ..compiler.spec.diagnostics import SpecError
from ..compiler.spec.reader import Spec, read_string
from ..compiler.structs import Struct
from .bundles import DATA, SPEC, SUFFIX, WEIGHTS, read_bundle
from .checkpoints import ArtefactError
from .data import DataError, Fitted, Schema, restore_fields
from .data.schema import from_json as schema_from_json
from .runs import COLUMNS, Run

# Where `data.json` says what was decided when a model was compiled, and by which figures kernels were.
DECIDED, MACHINE = "decided", "machine"


class Artefact(Struct):
    """A spec whose sizes are known, the fields fitted on its training rows, trained weights, a digest of the data.

    schema: what the columns of the training rows were; empty of models that were trained before it was kept.
    decided: what was found by trying when it was compiled, if anything was. machine: the figures of the machine that
        compiled it, if they were measured.
    """

    path: Path
    spec: Spec
    fields: dict[str, Fitted]
    weights: dict[str, Array]
    fingerprint: str
    decided: Decided | None = None
    machine: Machine | None = None
    schema: Schema = field(default_factory=dict)


def is_artefact(path: str | Path) -> bool:
    """Whether a path is a run or a bundle, and not a spec."""
    return Path(path).is_dir() or str(path).endswith(SUFFIX)


def open_artefact(path: str | Path) -> Artefact:
    """Open a run or a bundle; raises `ArtefactError` for what is missing, corrupt or changed."""
    path = Path(path)
    if path.suffix == SUFFIX:
        members, _ = read_bundle(path)
        text, data, weights = members[SPEC], members[DATA], _tensors(members[WEIGHTS], path)
    else:
        run = Run.open(path)
        text, data, weights = run.read(SPEC), run.read(DATA), run.weights()
    about = _object(data, path)
    spec = _spec(text, about, path)
    _check_weights(spec, weights, path)
    machine = _machine(about, path)
    if machine is not None:
        machines.lend(machine)
    fields, fingerprint = _fields(about, path), str(about.get("fingerprint"))
    return Artefact(path, spec, fields, weights, fingerprint, _decided(about, path), machine, _schema(about, path))


def _tensors(data: bytes, path: Path) -> dict[str, Array]:
    try:
        return dict(load_bytes(data))
    except (SafetensorError, ValueError) as error:
        raise ArtefactError(f"`{path}`: `{WEIGHTS}` cannot be read as safetensors: {error}") from error


def _object(data: bytes, path: Path) -> dict[str, Any]:
    try:
        about = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"`{path}`: `{DATA}` cannot be read as JSON: {error}") from error
    if not isinstance(about, dict):
        raise ArtefactError(f"`{path}`: `{DATA}` holds no JSON object")
    return about


def _spec(text: bytes, about: Mapping[str, Any], path: Path) -> Spec:
    """The resolved spec with the sizes that the data defined; paths in it are relative as they were."""
    try:
        sizes = {str(k): int(v) for k, v in about["sizes"].items()}
        base = path if path.is_dir() else path.parent
        folder = Path(os.path.normpath(base / str(about.get("folder", "."))))
        spec = read_string(text.decode(), folder / SPEC, sizes=sizes, label=str(path / SPEC))
    except (KeyError, AttributeError, TypeError, ValueError, SpecError) as error:
        raise ArtefactError(f"`{path}`: `{SPEC}` is not the spec of a trained model: {error}") from error
    if spec.report or spec.hash != about.get("spec_hash"):
        raise ArtefactError(f"`{path}`: `{SPEC}` was changed since the model was trained")
    return spec


def _fields(about: Mapping[str, Any], path: Path) -> dict[str, Fitted]:
    try:
        return restore_fields(about["fields"])
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise ArtefactError(f"`{path}`: `{DATA}` does not describe fitted fields: {error}") from error


def _schema(about: Mapping[str, Any], path: Path) -> Schema:
    try:
        return schema_from_json(about.get(COLUMNS, {}))
    except DataError as error:
        raise ArtefactError(f"`{path}`: `{DATA}` does not describe columns: {error}") from error


def _decided(about: Mapping[str, Any], path: Path) -> Decided | None:
    if DECIDED not in about:
        return None
    try:
        return Decided.from_json(about[DECIDED])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"`{path}`: `{DATA}` does not say what was decided: {error}") from error


def _machine(about: Mapping[str, Any], path: Path) -> Machine | None:
    if MACHINE not in about:
        return None
    try:
        return machines.from_json(about[MACHINE])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtefactError(f"`{path}`: `{DATA}` holds no figures of a machine: {error}") from error


def _check_weights(spec: Spec, weights: Mapping[str, Array], path: Path) -> None:
    for v in build(spec, "infer").graph.by_role("param", "buffer"):
        name = input_of(v).name
        if name not in weights:
            raise ArtefactError(f"`{path}`: `{WEIGHTS}` lacks `{name}`")
        found = weights[name]
        if found.shape != v.shape or found.dtype != v.dtype.numpy:
            raise ArtefactError(f"`{path}`: `{name}` is {found.dtype}{list(found.shape)}, expected {v.type}")
