"""Where rows come from: files and data sets, read into tables."""

from __future__ import annotations

import csv as csv_format
import gzip
import importlib
import io
import re
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ...compiler.spec.diagnostics import hint, suggest
from ...compiler.spec.kinds import Word
from ...compiler.spec.registry import SOURCES
from .table import (
    Array,
    Column,
    DataError,
    Mask,
    Table,
    as_column,
    counted,
    from_arrays,
    make_table,
    text_column,
)

__all__ = ["csv", "from_arrays", "idx", "npz", "pydoc", "sklearn", "text"]

MAX_CELL = 10_000_000
EXACT = 2**53


@SOURCES.register
def csv(
    target: str,
    folder: Path,
    *,
    header: list[Word] | bool = True,
    delimiter: str = ",",
    missing: Word | list[Word] = "",
    text: list[Word] | None = None,
    quote: str = '"',
    encoding: str = "utf-8",
) -> Table:
    """Rows of a file of separated values, which may be compressed with gzip (`.gz`).

    Blanks around cells are dropped and blank lines skipped. A column in which every cell that is
    not missing is a finite number holds numbers, any other holds text.

    header: whether the first row names the columns; or their names, where the file has none;
      without names they are called 0, 1, and so on.
    delimiter: the character between cells.
    missing: what stands for a missing value, as an empty cell always does.
    text: columns to keep as text although they look like numbers, such as postal codes.
    quote: the character around cells that contain the delimiter; empty where there is none.
    encoding: how the file writes characters.
    Example: source: csv:people.csv
    """
    if len(delimiter) != 1 or len(quote) > 1 or delimiter == quote or {delimiter, quote} & {"\n", "\r"}:
        raise DataError(
            f"`delimiter` and `quote` are two different single characters, found `{delimiter}` and `{quote}`"
        )
    path = folder / target
    content = _decode(_read(path), encoding, path.name)
    lines, places = _cells(content, delimiter, quote, path.name)
    names, lines, places = _names(header, lines, places, path.name)
    _check_lengths(lines, places, names, path.name, header is True)
    markers = {"", *([missing] if isinstance(missing, str) else missing)}
    columns = zip(*lines, strict=True) if lines else [()] * len(names)
    as_text = _known(text or [], names, path.name)
    return make_table({n: _column(c, markers, n in as_text) for n, c in zip(names, columns, strict=True)}, path.name)


@SOURCES.register
def text(target: str, folder: Path, *, encoding: str = "utf-8", skip_blank: bool = False) -> Table:
    """The lines of a text file, which may be compressed with gzip (`.gz`), in one column, `text`.

    encoding: how the file writes characters.
    skip_blank: whether lines without a character are left out.
    Example: source: text:corpus.txt
    """
    path = folder / target
    lines = _decode(_read(path), encoding, path.name).splitlines()
    if skip_blank:
        lines = [line for line in lines if line.strip()]
    return make_table({"text": text_column(lines, np.zeros(len(lines), np.bool_))}, path.name)


@SOURCES.register
def pydoc(target: str, folder: Path) -> Table:
    """The lines of the texts of Python's own reference, which the standard library carries, in one column, `text`.

    `pydoc:topics` is all of them, in the order of their names.

    Example: source: pydoc:topics
    """
    if target != "topics":
        raise DataError(f"`pydoc` has no texts `{target}`: there is `pydoc:topics`")
    from pydoc_data.topics import topics

    lines = [line for name in sorted(topics) for line in topics[name].splitlines()]
    return make_table({"text": text_column(lines, np.zeros(len(lines), np.bool_))}, "pydoc")


def _read(path: Path) -> bytes:
    """The bytes of a file, decompressed where its name ends in `.gz`."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DataError(f"there is no file `{path}`{_nearby(path)}") from None
    except IsADirectoryError:
        raise DataError(f"`{path}` is a folder, expected a file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"`{path}` is not a complete gzip file: {error}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read `{path}`: {getattr(error, 'strerror', None) or error}") from None


def _nearby(path: Path) -> str:
    try:
        near = suggest(path.name, [entry.name for entry in path.parent.iterdir()])
    except (OSError, ValueError):
        return f"; nor is there a folder `{path.parent}`"
    return f"; {near}" if near else ""


def _decode(content: bytes, encoding: str, file: str) -> str:
    try:
        return content.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file} is not {encoding} text: byte {error.start} (line {line}); set `encoding`, such as `latin-1`"
        ) from None
    except (LookupError, ValueError):
        raise DataError(
            f"there is no encoding `{encoding}`; usual ones are `utf-8`, `latin-1`, `cp1252`, `utf-16`"
        ) from None


def _cells(content: str, delimiter: str, quote: str, file: str) -> tuple[list[list[str]], list[int]]:
    """The stripped cells of all lines that are not blank, and the number of the line each row ends on."""
    style: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv_format.QUOTE_NONE}
    skip = delimiter != " "
    rows, places = [], []
    previous = csv_format.field_size_limit(MAX_CELL)
    reader = csv_format.reader(
        io.StringIO(content, newline=""), delimiter=delimiter, skipinitialspace=skip, strict=True, **style
    )
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append([cell.strip() for cell in row])
                places.append(reader.line_num)
    except csv_format.Error as error:
        line = places[-1] + 1 if places else 1
        raise DataError(
            f"{file}: in the row that starts at line {line}: {error}; is a quote not closed, or `quote` not `{quote}`?"
        ) from None
    finally:
        csv_format.field_size_limit(previous)
    return rows, places


def _names(
    header: list[str] | bool, lines: list[list[str]], places: list[int], file: str
) -> tuple[list[str], list[list[str]], list[int]]:
    """The columns' names, and the rows that are data."""
    if not lines:
        raise DataError(f"{file} is empty: it has no rows")
    if header is True:
        names = [name or str(i) for i, name in enumerate(lines[0])]
        lines, places = lines[1:], places[1:]
    else:
        names = header if isinstance(header, list) else [str(i) for i in range(len(lines[0]))]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        spots = [i + 1 for i, name in enumerate(names) if name == twice[0]]
        where = " and ".join(map(str, spots))
        raise DataError(
            f"{file} has the column name `{twice[0]}` {len(spots)} times (columns {where}); names must differ: "
            "mend the first row, or give names by `header: [...]`"
        )
    if not lines:
        raise DataError(f"{file} has a header and no rows below it; where the first row is data, set `header: false`")
    return names, lines, places


def _check_lengths(lines: list[list[str]], places: list[int], names: list[str], file: str, named: bool) -> None:
    """Raise `DataError` for the first row with too many or too few cells."""
    for number, (row, place) in enumerate(zip(lines, places, strict=True), 1):
        if len(row) != len(names):
            origin = "the header" if named else "`header`"
            count = sum(len(row) != len(names) for row in lines)
            others = f"; the same holds for {counted(count - 1, 'more row')}" if count > 1 else ""
            raise DataError(
                f"{file}: row {number} (line {place}) has {counted(len(row), 'cell')}, "
                f"{origin} has {counted(len(names), 'column')}{others}; is `delimiter` right?"
            )


def _known(columns: list[str], names: list[str], file: str) -> set[str]:
    for name in columns:
        if name not in names:
            raise DataError(f"`text` names a column `{name}`, which {file} does not have: {hint(name, names)}")
    return set(columns)


def _column(cells: tuple[str, ...], markers: set[str], as_text: bool) -> Column:
    """A column of numbers if all cells that are not missing are numbers, else of text."""
    missing: Mask = np.fromiter((cell in markers for cell in cells), np.bool_, len(cells))
    kept = [cell for cell in cells if cell not in markers]
    numbers = None if as_text or not kept else _numbers(kept)
    if numbers is None:
        return text_column(("" if cell in markers else cell for cell in cells), missing)
    values: Array = np.zeros(len(cells), np.int64) if numbers.dtype.kind == "i" else np.full(len(cells), np.nan)
    values[~missing] = numbers
    return Column(values, missing)


def _numbers(cells: list[str]) -> Array | None:
    """The cells as float64, as int64 where float64 would round whole numbers; `None` if they are text."""
    together = "".join(cells)
    if "_" in together or not together.isascii():
        return None
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        return None
    if not np.isfinite(values).all():
        return None
    if np.abs(values).max() < EXACT:
        return values
    try:
        return np.fromiter(map(int, cells), np.int64, len(cells))
    except (ValueError, OverflowError):
        return values


SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "wine")


@SOURCES.register
def sklearn(target: str, folder: Path) -> Table:
    """A data set that ships with scikit-learn: breast_cancer, diabetes, digits, iris or wine.

    `digits` has the columns `image` [8, 8] and `target`. The others have a column for each feature
    (`sepal_length_cm`), all of them together as `features`, and `target`.

    Example: source: sklearn:digits
    """
    if target not in SKLEARN:
        raise DataError(f"scikit-learn has no data set `{target}` here: {hint(target, SKLEARN)}")
    try:
        module = importlib.import_module("sklearn.datasets")
    except ImportError:
        raise DataError(f"`sklearn:{target}` needs scikit-learn: pip install scikit-learn") from None
    bunch = module.load_diabetes(scaled=False) if target == "diabetes" else getattr(module, f"load_{target}")()
    source = f"sklearn:{target}"
    if target == "digits":
        return from_arrays({"image": bunch.images, "target": bunch.target}, source)
    names = [re.sub(r"\W+", "_", str(name)).strip("_") for name in bunch.feature_names]
    columns: dict[str, Any] = {name: bunch.data[:, i] for i, name in enumerate(names)}
    classes = getattr(bunch, "target_names", None)
    columns["features"] = bunch.data
    columns["target"] = bunch.target if classes is None else np.asarray(classes).astype(str)[bunch.target]
    return from_arrays(columns, source)


@SOURCES.register
def npz(target: str, folder: Path) -> Table:
    """The arrays of a NumPy `.npz` file, one column each; their first axes are the rows.

    Example: source: npz:measurements.npz
    """
    path = folder / target
    content = _read(path)
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
        raise DataError(f"there is no folder `{path}`{_nearby(path)}")
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
    content = _read(path)
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
