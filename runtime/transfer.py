"""Weights from elsewhere: a run, a bundle, a safetensors or an ONNX file, in place of those that would be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ..compiler.ir import Array
from ..compiler.spec.reader import Spec
from ..compiler.spec.sections import InitFrom
from ..compiler.structs import Struct
from .artefacts import is_artefact, open_artefact
from .checkpoints import ArtefactError, load_tensors
from .data import DataError


class Transfer(Struct):
    """What was taken from elsewhere, by the names that the spec has for it, and why the rest was not."""

    source: str
    arrays: dict[str, Array]
    left: dict[str, str]
    unused: tuple[str, ...]

    @property
    def words(self) -> str:
        """What was taken and left, for people."""
        lines = [f"took {len(self.arrays)} of {len(self.arrays) + len(self.left)} arrays from {self.source}"]
        lines += [f"  {name} is drawn: {why}" for name, why in self.left.items()]
        if self.unused:
            lines.append(f"  not used: {', '.join(self.unused[:8])}{' …' if len(self.unused) > 8 else ''}")
        return "\n".join(lines)


def transferred(spec: Spec, state: Mapping[str, Array]) -> Transfer | None:
    """What `train.init_from` gives for the parameters and buffers in `state`; `None` where there is none.

    Raises `ArtefactError` for a file that cannot be read, and `DataError` where nothing in it fits.
    """
    train = spec.sections.train
    if train is None or train.init_from is None:
        return None
    asked = train.init_from
    path = spec.folder / asked.path
    found = read_weights(path)
    taken: dict[str, Array] = {}
    left: dict[str, str] = {}
    used: set[str] = set()
    for name, array in state.items():
        if any(fnmatchcase(name, pattern) for pattern in asked.skip):
            left[name] = "the spec skips it"
            continue
        source = mapped_name(name, asked)
        if source not in found:
            left[name] = f"there is no `{source}`"
        elif found[source].shape != array.shape:
            left[name] = f"`{source}` is {list(found[source].shape)}, expected {list(array.shape)}"
        elif found[source].dtype.kind == "f" and not np.isfinite(found[source]).all():
            left[name] = f"`{source}` holds numbers that are not finite"
        else:
            taken[name] = np.asarray(found[source], array.dtype)
            used.add(source)
    if not taken:
        raise DataError(
            f"nothing in `{path}` fits this network: it has {_some(found)}, the network {_some(state)}; "
            "`map` says what parameters are called there",
            train.spans.get("init_from"),
        )
    return Transfer(asked.path, taken, left, tuple(sorted(found.keys() - used)))


def mapped_name(name: str, asked: InitFrom) -> str:
    """What a parameter is called in the source; the first pattern that matches counts."""
    for pattern, target in asked.map.items():
        before, star, after = pattern.partition("*")
        if not star and name == pattern:
            return target
        if star and len(name) >= len(pattern) - 1 and name.startswith(before) and name.endswith(after):
            return target.replace("*", name[len(before) : len(name) - len(after)], 1)
    return name


def read_weights(path: Path) -> dict[str, Array]:
    """The arrays of a run, bundle, safetensors or ONNX file, by name; raises `ArtefactError`."""
    if is_artefact(path):
        return dict(open_artefact(path).weights)
    if path.suffix == ".safetensors":
        return load_tensors(path)
    if path.suffix == ".onnx":
        from ..backends.onnx.reader import read_initializers

        try:
            return read_initializers(path)
        except (OSError, TypeError, ValueError) as error:
            raise ArtefactError(f"`{path}` cannot be read as ONNX: {error}") from error
    raise ArtefactError(f"`{path}` holds no weights: expected a run, a bundle, a .safetensors or an .onnx file")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(f"`{name}`" for name in listed[:5]) + (" …" if len(listed) > 5 else "")
