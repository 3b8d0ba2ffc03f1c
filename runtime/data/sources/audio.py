"""Folders of recordings."""

from __future__ import annotations

import io
import math
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np

from ....compiler.spec.kinds import Range
from ....compiler.spec.registry import SOURCES
from ....compiler.structs import Struct
from ..table import Array, Column, DataError, Table, as_column, counted, make_table, ragged_column
from .files import MAX_SIZE, Files, open_files
from .folders import layout, name_column
from .separated import guessed_column

ENDINGS = (".wav", ".flac", ".ogg")
MAX_RATE = 1_000_000
OWN = ("audio", "rate", "file")

Rate = Annotated[int, Range(1, MAX_RATE)]


@SOURCES.register
def audio(target: str, folder: Path, *, names: str | None = None, rate: Rate | None = None) -> Table | dict[str, Table]:
    """The recordings of a folder or an archive, or one recording: .wav, .flac and .ogg.

    The columns are `audio` (a sequence of numbers, full scale from -1 to 1, the mean of all
    channels), `rate` (samples per second), `file` (the path in the folder) and, where recordings lie
    in sub-folders, `label` (the sub-folder's name). Sub-folders called `train`, `valid` (or `val`)
    and `test` are the splits.

    names: what the files' names say, such as `{digit}_{speaker}_{index}`: a column for each name in
      braces, of numbers where all are, in place of `label`.
    rate: samples per second to which others are resampled; needed where files differ.
    Example: source: audio:recordings
    """
    _need_soundfile()
    path = folder / target
    pattern = None if names is None else _pattern(names)
    with open_files(path) as files:
        found = files.names if files.single else files.ending_in(ENDINGS)
        if not found:
            raise DataError(f"`{path}` has no recordings: no file there ends in {', '.join(ENDINGS)}")
        # What the names say is checked before anything is decoded.
        said = {} if pattern is None else _said(found, pattern)
        places = layout(found, path, labelled=pattern is None)
        columns = _decoded(files, found, rate)
    return places.tables(make_table({**columns, "file": name_column(found), **said}, path.name))


def _need_soundfile() -> None:
    try:
        import soundfile  # noqa: F401
    except (ImportError, OSError):  # OSError where the library it calls is absent
        raise DataError("`audio:` needs soundfile: pip install 'trine[audio]'") from None


# ------------------------------------------------------------------------------------------ names


class _Pattern(Struct):
    """Names in braces with fixed text around them: `texts` has one more than `names`."""

    text: str
    names: Sequence[str]
    texts: Sequence[str]

    def match(self, stem: str) -> list[str] | None:
        """What stands for each name, or `None` where the pattern does not fit.

        Each name but the last takes as little as possible, so that there is one answer, found in one pass.
        """
        first, *middle, last = self.texts
        if not stem.startswith(first) or not stem.endswith(last) or len(stem) <= len(first) + len(last):
            return None
        rest = stem[len(first) : len(stem) - len(last)]
        values = []
        for text in middle:
            end = rest.find(text, 1)
            if end < 0:
                return None
            values.append(rest[:end])
            rest = rest[end + len(text) :]
        return [*values, rest] if rest else None


def _pattern(text: str) -> _Pattern:
    parts = re.split(r"\{(\w+)\}", text)
    texts, names = parts[::2], parts[1::2]
    example = "as in `{digit}_{speaker}_{index}`"
    if not names or any(brace in part for part in texts for brace in "{}"):
        raise DataError(f"`names` is `{text}`, expected names in braces, {example}")
    if "" in texts[1:-1]:
        raise DataError(
            f"`names` is `{text}`, where two names touch: nothing tells where one ends; divide them, {example}"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice or set(names) & set(OWN):
        name = twice[0] if twice else next(name for name in names if name in OWN)
        raise DataError(
            f"`names` is `{text}`: there is {'already' if not twice else 'twice'} a column `{name}`; rename it"
        )
    return _Pattern(text, names, texts)


def _said(files: Sequence[str], pattern: _Pattern) -> dict[str, Column]:
    """A column for each name of the pattern."""
    rows = []
    for file in files:
        values = pattern.match(posixpath.splitext(posixpath.basename(file))[0])
        if values is None:
            raise DataError(f"the file `{file}` is not called as `names` says: `{pattern.text}`")
        rows.append(values)
    return {name: guessed_column(cells) for name, cells in zip(pattern.names, zip(*rows, strict=True), strict=True)}


# ---------------------------------------------------------------------------------------- samples


def _decoded(files: Files, names: Sequence[str], rate: int | None) -> dict[str, Column]:
    """The columns `audio` and `rate`."""
    rows: list[Array] = []
    rates: list[int] = []
    for name in names:
        place = f"`{files.place / name}`"
        samples, own = _samples(files.read(name), place, rate)
        if rate is None and rates and own != rates[0]:
            raise DataError(
                f"`{files.place}`: `{names[0]}` has {rates[0]} samples per second and `{name}` {own}; "
                "set `rate`, to which they are resampled"
            )
        rows.append(samples)
        rates.append(own if rate is None else rate)
    return {"audio": ragged_column(rows), "rate": as_column("rate", np.array(rates), str(files.place))}


def _samples(content: bytes, place: str, rate: int | None) -> tuple[Array, int]:
    """The samples of a file, at `rate` if it is given, and its own rate."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            own, count, channels = int(file.samplerate), int(file.frames), int(file.channels)
            _check_size(count, channels, own, rate, place)
            samples: Array = file.read(dtype="float32", always_2d=True).mean(axis=1)
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        detail = str(error).rpartition(">: ")[2]  # without the name of the stream in memory
        raise DataError(f"{place} is not a complete recording: {detail}") from None
    if not np.isfinite(samples).all():
        raise DataError(f"{place} has samples that are not finite numbers")
    return samples if rate is None else _resampled(samples, own, rate), own


def _check_size(count: int, channels: int, own: int, rate: int | None, place: str) -> None:
    """Raise `DataError` for what a damaged or hostile header says."""
    if not 0 < own <= MAX_RATE:
        raise DataError(f"{place} has {own} samples per second, expected from 1 to {MAX_RATE}")
    longest = count * max(channels, math.ceil((rate or own) / own))
    if not 0 <= 4 * longest <= MAX_SIZE:
        raise DataError(f"{place} is longer than what is read: {count} samples in {counted(channels, 'channel')}")


def _resampled(samples: Array, own: int, rate: int) -> Array:
    if own == rate or not len(samples):
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(own, rate)
    return np.asarray(resample_poly(samples, rate // common, own // common), np.float32)
