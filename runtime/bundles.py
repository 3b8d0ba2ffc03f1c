"""Bundles: a trained model in one `.trine` file, which is a zip archive of known, stored, hashed members.

    manifest.json         format, versions, size and SHA-256 of every other member
    resolved.yaml         the spec, with overrides applied
    data.json             fitted fields, sizes, hash of the spec
    weights.safetensors   parameters and buffers
    graph.txt             the inference graph, as text
    examples.json         a few raw rows and what the model makes of them

Two builds of one model are the same bytes. Nothing in a bundle is executed, and nothing is unpacked to disk: members
are read into memory, each no larger than the manifest says.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_atomically
from .checkpoints import ArtefactError

FORMAT = 1
MANIFEST = "manifest.json"
SPEC, DATA, WEIGHTS, GRAPH, EXAMPLES = "resolved.yaml", "data.json", "weights.safetensors", "graph.txt", "examples.json"
MEMBERS = (SPEC, DATA, WEIGHTS, GRAPH, EXAMPLES)
SUFFIX = ".trine"

# Text members are small; weights may be as large as memory takes.
MAX_TEXT = 64 << 20
MAX_WEIGHTS = 64 << 30
EPOCH = (1980, 1, 1, 0, 0, 0)


def write_bundle(path: Path, members: Mapping[str, bytes], about: Mapping[str, Any]) -> None:
    """Write a bundle of the given members, atomically; the same members always give the same bytes."""
    listed = {name: {"bytes": len(members[name]), "sha256": _digest(members[name])} for name in MEMBERS}
    manifest = {"format": FORMAT, **about, "members": listed}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, MANIFEST, json.dumps(manifest, indent=2, sort_keys=True).encode())
        for name in MEMBERS:
            _add(archive, name, members[name])
    write_atomically(path, buffer.getvalue())


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_bundle(path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The members of a bundle and its manifest; raises `ArtefactError` for anything that is not as it should be."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path)
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ArtefactError(f"`{path}` cannot be read as a bundle: {error}") from error


def _read(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if sorted(names) != sorted((MANIFEST, *MEMBERS)):
        raise ArtefactError(f"`{path}` is not a bundle: it holds {', '.join(repr(n) for n in names[:8]) or 'nothing'}")
    by_name = {info.filename: info for info in infos}
    for info in infos:
        _check_member(info, path)
    manifest = json.loads(archive.read(by_name[MANIFEST]))
    listed = manifest.get("members") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or manifest.get("format") != FORMAT:
        raise ArtefactError(f"`{path}`: the manifest is not of format {FORMAT}")
    found = {}
    for name in MEMBERS:
        said = listed.get(name)
        if not isinstance(said, dict) or said.get("bytes") != by_name[name].file_size:
            raise ArtefactError(f"`{path}`: the size of `{name}` is not what the manifest says")
        data = archive.read(by_name[name])
        if _digest(data) != said.get("sha256"):
            raise ArtefactError(f"`{path}`: `{name}` was changed: its SHA-256 is not what the manifest says")
        found[name] = data
    return found, manifest


def _check_member(info: zipfile.ZipInfo, path: Path) -> None:
    """Refuse what a bundle never has: compression (and so bombs), links, encryption, oversized texts."""
    limit = MAX_WEIGHTS if info.filename == WEIGHTS else MAX_TEXT
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ArtefactError(f"`{path}`: `{info.filename}` is compressed, which members of a bundle never are")
    if info.flag_bits & 0x1 or (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
        raise ArtefactError(f"`{path}`: `{info.filename}` is not a plain file")
    if info.file_size > limit:
        raise ArtefactError(f"`{path}`: `{info.filename}` has {info.file_size} bytes, at most {limit} are read")
