"""Files of arrays: NumPy's, and MNIST's."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ....compiler.spec.registry import SOURCES
from ..table import Array, DataError, Table, as_column, counted, from_arrays, make_table
from .files import nearby, read_file


@SOURCES.register
def npz(target: str, folder: Path) -> Table:
    """The arrays of a NumPy `.npz` file, one column each; their first axes are the rows.

    Example: source: npz:measurements.npz
    """
    path = folder / target
    content = read_file(path)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: _member(archive, name, path.name) for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError):
        raise DataError(f"`{path}` is no complete `.npz` archive of arrays, as `numpy.savez` writes them") from None
    return make_table({name: as_column(name, array, path.name) for name, array in arrays.items()}, path.name)


def _member(archive: Any, name: str, file: str) -> Array:
    try:
        array: Array = archive[name]
    except ValueError as error:
        if "pickle" not in str(error).lower():
            raise
        raise DataError(
            f"{file}: `{name}` is an array of Python objects, which is not read for safety; save numbers or strings"
        ) from None
    return array


@SOURCES.register
def idx(target: str, folder: Path) -> Table | dict[str, Table]:
    """A folder of images in the files of MNIST, each of which may be compressed with gzip.

    `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and for the test split the same with
    `t10k`. The columns are `image` [1, height, width], numbers from 0 to 255, and `label`.

    Example: source: idx:fashion-mnist
    """
    path = folder / target
    if not path.is_dir():
        raise DataError(f"there is no folder `{path}`{nearby(path)}")
    train = _idx_pair(path, "train")
    if not any(_idx_file(path, f"t10k-{part}") for part in ("images-idx3", "labels-idx1")):
        return train
    return {"train": train, "test": _idx_pair(path, "t10k")}


def _idx_file(folder: Path, stem: str) -> Path | None:
    for name in (f"{stem}-ubyte", f"{stem}-ubyte.gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def _idx_pair(folder: Path, split: str) -> Table:
    images = _idx_array(folder, f"{split}-images-idx3", 3)
    labels = _idx_array(folder, f"{split}-labels-idx1", 1)
    if len(images) != len(labels):
        raise DataError(f"`{folder}`: {split} has {len(images)} images and {len(labels)} labels")
    return from_arrays({"image": images[:, None], "label": labels}, f"{folder.name}/{split}")


def _idx_array(folder: Path, stem: str, rank: int) -> Array:
    """The array in one file: magic number, `rank` big-endian sizes, then bytes."""
    path = _idx_file(folder, stem)
    if path is None:
        raise DataError(f"`{folder}` has no file `{stem}-ubyte` or `{stem}-ubyte.gz`")
    content = read_file(path)
    magic, start = 0x800 + rank, 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"`{path}` ends within its header: it has {len(content)} bytes, the header alone has {start}")
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise DataError(
            f"`{path}` starts with {found:#010x}, expected {magic:#010x} (bytes with {counted(rank, 'axis', 'axes')})"
        )
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    size = 1
    for dim in shape:
        size *= dim
    if len(content) - start != size:
        raise DataError(f"`{path}` says {shape}, which is {size} bytes, and has {len(content) - start}: is it cut off?")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
