"""Compiling: a run, a bundle, or a spec with its initial weights, to one file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..backends import machine as machines
from ..backends.base import load as load_backend
from ..backends.machine import this_machine
from ..compiler import text
from ..compiler.build import build
from ..compiler.generation import step_model
from ..compiler.initialisers import generator
from ..compiler.ir import Array
from ..compiler.machine import Machine
from ..compiler.passes import Decided, Model, Record, for_inference
from ..compiler.spec.registry import Call
from ..compiler.structs import Struct
from ..files import json_text
from .artefacts import DECIDED, MACHINE, Artefact, is_artefact, open_artefact
from .bundles import DATA, EXAMPLES, GRAPH, SPEC, WEIGHTS, write_bundle
from .checkpoints import tensors
from .data.schema import as_json
from .model import LoadedModel, inference_model
from .runs import COLUMNS, resolved_text, trine_version
from .session import open_source, own_rows
from .specs import UsageError
from .trial import Tried, decide

# What `compile` writes, by how the file's name ends, and the backend that writes it.
TARGETS = {".trine": "", ".onnx": "onnx", "_torch.py": "torch", ".py": "numpy"}


class Compiled(Struct):
    """What compiling did: the record of each pass, what was found by trying, and what there is to say of it."""

    records: list[Record]
    tried: Tried | None = None
    note: str = ""


def compile_source(source: str | Path, out: Path, overrides: Iterable[str] = (), step: bool = False) -> Compiled:
    """Write a run, a bundle, or a spec with its initial weights, in the form that the file's name asks for.

    With `step`, it is one step of generation, as an ONNX file.
    """
    ending = next((ending for ending in TARGETS if out.name.endswith(ending)), None)
    if ending is None:
        known = "`.trine` (a bundle), `.onnx`, `.py` (NumPy alone) or `_torch.py` (an `nn.Module`)"
        raise UsageError(f"cannot compile to `{out}`: a name ends in {known}")
    if step and ending != ".onnx":
        raise UsageError(f"a step of generation is written as `.onnx`, not as `{ending}`")
    if ending == ".trine":
        if list(overrides):
            raise UsageError(f"`{source}` is trained: `--set` changes specs, before that")
        return _bundle(source, out)
    backend = load_backend(TARGETS[ending])
    opened = open_source(source, overrides)
    spec, weights = opened.spec, opened.weights
    notes = {"spec": spec.name, "spec hash": spec.hash, "compiled by": f"trine {trine_version()}"}
    note = "it computes in float32: `precision` is for bundles" if _precision(spec.sections.optimize) else ""
    if step:
        model, records = for_inference(step_model(spec, weights))
        backend.export(model, out, notes)
        return Compiled(records, note=note)
    if TARGETS[ending] == "torch":
        # As declared, so that batch normalisation can be trained on.
        backend.export(Model(build(spec).graph, weights), out, notes)
        return Compiled([], note=note)
    model, records = inference_model(spec, weights)
    backend.export(model, out, notes)
    return Compiled(records, note=note)


def _precision(passes: Iterable[Call]) -> Call | None:
    """The call of the pass `precision`, if there is one."""
    return next((call for call in passes if call.name == "precision"), None)


def _bundle(source: str | Path, out: Path) -> Compiled:
    """Put a run into one file, with its graph as text and a few rows to try it on."""
    if not is_artefact(source):
        raise UsageError(f"`{source}` is not trained: a bundle is made of a run")
    found = open_artefact(source)
    tried = None if found.decided else _tried(found)
    decided = tried.decided if tried else found.decided
    model, records = inference_model(found.spec, found.weights, decided=decided)
    about = {
        "spec_hash": found.spec.hash,
        "sizes": dict(found.spec.sizes),
        "fingerprint": found.fingerprint,
        "fields": {name: field.state() for name, field in found.fields.items()},
        COLUMNS: as_json(found.schema),
    }
    members = {
        SPEC: resolved_text(found.spec).encode(),
        DATA: json_text(about | _as_json(decided, found.machine or this_machine()), indent=2, sort_keys=True).encode(),
        WEIGHTS: tensors(found.weights),
        GRAPH: text.write(model.graph, elide=True).encode(),
        EXAMPLES: _examples(LoadedModel(found.spec, found.weights, found.fields, decided=decided)),
    }
    write_bundle(out, members, {"name": found.spec.name, "trine": trine_version(), "spec_hash": found.spec.hash})
    return Compiled(records, tried)


def _tried(found: Artefact) -> Tried | None:
    """What the pass `precision` comes to on training rows, where the spec has it."""
    call = _precision(found.spec.sections.optimize)
    if call is None:
        return None
    dataset, split = own_rows(found.path, "train")
    return decide(found.spec, found.weights, call, dataset.splits[split].arrays)


def _as_json(decided: Decided | None, machine: Machine) -> dict[str, object]:
    """What was decided by trying, and the figures by which kernels are chosen on such a machine."""
    by_trying = {} if decided is None else {DECIDED: decided.as_json()}
    return by_trying | ({MACHINE: machines.as_json(machine)} if machine.measured else {})


def _examples(model: LoadedModel, rows: int = 3) -> bytes:
    """Encoded inputs drawn at random, and what the network predicts for them, for whoever ports it."""
    rng = generator(0, "examples")
    inputs: dict[str, Array] = {}
    for name, t in model.inputs.items():
        limits = dict(model.spec.inputs[name].bounds)
        shape = (rows, *(d if isinstance(d, int) else min(4, limits.get(d, 4)) for d in t.shape[1:]))
        size = model.spec.sizes.get(f"{name}.size", 2)
        drawn = rng.standard_normal(shape) if t.dtype.floating else rng.integers(0, size, shape)
        inputs[name] = drawn.astype(t.dtype.numpy)
    outputs = model.predict_arrays(inputs)
    plain = {"inputs": inputs, "predictions": outputs}
    return json_text({k: {n: a.tolist() for n, a in v.items()} for k, v in plain.items()}, indent=1).encode()
