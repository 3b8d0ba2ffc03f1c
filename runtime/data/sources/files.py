"""Files as sources find them: in folders and archives, as bytes, decompressed, and as text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from ....compiler.spec.diagnostics import hint, suggest
from ..table import DataError, counted

MAX_SIZE = 4 * 2**30
"""The most bytes that one compressed file, or the files read from one archive, may unpack to."""

CHUNK = 2**20
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError)

Opener = Callable[[], IO[bytes]]


def _gunzip(packed: io.BytesIO) -> io.BufferedIOBase:
    return gzip.GzipFile(fileobj=packed)


Unpack = Callable[[io.BytesIO], io.BufferedIOBase]
FORMATS: dict[str, tuple[str, Unpack]] = {
    ".gz": ("gzip", _gunzip),
    ".tgz": ("gzip", _gunzip),
    ".xz": ("xz", lzma.LZMAFile),
    ".bz2": ("bzip2", bz2.BZ2File),
}


def read_file(path: Path) -> bytes:
    """The bytes of a file, decompressed where its name ends in `.gz`, `.xz` or `.bz2`.

    A path may go through an archive (`rows.zip/rows.csv`). An archive of one file is that file.
    """
    if _archive_in(path) is None:
        with _reading(path):
            content = path.read_bytes()
        return _decompress(content, path)
    with open_files(path) as files:
        if not files.single:
            raise DataError(
                f"`{path}` has {counted(len(files.names), 'file')}; name one of them, as in "
                f"`{path.name}/{next(iter(files.names), 'rows.csv')}`"
            )
        return files.read(files.names[0])


def open_file(path: Path) -> IO[bytes]:
    """A file as a stream: from the disk where it is neither compressed nor in an archive."""
    if _archive_in(path) is not None or path.suffix.lower() in FORMATS:
        return io.BytesIO(read_file(path))
    with _reading(path):
        return path.open("rb")


class Files:
    """Files by name, such as `sub/file.png`, in sorted order: of a folder, of an archive, or one alone.

    `single` says whether there is one file that was named itself, or that an archive holds alone.
    """

    def __init__(self, place: Path, openers: Mapping[str, Opener], limit: float = math.inf, single: bool = False):
        self.place = place
        self.names = sorted(openers)
        self.single = single
        self._openers = openers
        self._left = limit

    def read(self, name: str) -> bytes:
        """The bytes of a file, decompressed as `read_file` does; raises `DataError`."""
        with _reading(self.place / name), self._openers[name]() as stream:
            content = _take(stream, self._left, self.place)
        self._left -= len(content)
        return _decompress(content, self.place / name)

    def ending_in(self, suffixes: tuple[str, ...]) -> list[str]:
        """The names that end in one of `suffixes`, in any case, before the suffix of a compressed file."""
        return [name for name in self.names if plain_name(name).endswith(suffixes)]


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """What a path names: a file, or the files of a folder, of an archive, or of a folder in an archive.

    Hidden files are left out. Raises `DataError` for what is not there and for links that lead elsewhere.
    """
    archive = _archive_in(path)
    if archive is None:
        yield _on_disk(path)
        return
    with ExitStack() as stack:
        with _reading(archive):
            members = _zipped(archive, stack) if archive.name.lower().endswith(".zip") else _tarred(archive, stack)
        yield _within(archive, path, members)


def plain_name(name: str) -> str:
    """A name in small letters, without the suffix of a compressed file."""
    stem, suffix = posixpath.splitext(name.lower())
    return stem if suffix in FORMATS else name.lower()


def nearby(path: Path) -> str:
    try:
        near = suggest(path.name, [entry.name for entry in path.parent.iterdir()])
    except (OSError, ValueError):
        return f"; nor is there a folder `{path.parent}`"
    return f"; {near}" if near else ""


def decode(content: bytes, encoding: str, file: str) -> str:
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


# ---------------------------------------------------------------------------------------- reading


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Says what is wrong with a file that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"there is no file `{path}`{nearby(path)}") from None
    except IsADirectoryError:
        raise DataError(f"`{path}` is a folder, expected a file") from None
    except BROKEN as error:
        raise DataError(f"`{path}` is not a complete {_format(path)}: {error}") from None
    except (RuntimeError, NotImplementedError) as error:
        # So zipfile refuses files with a password, and kinds of compression it does not know.
        raise DataError(f"cannot read `{path}`: {error}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read `{path}`: {getattr(error, 'strerror', None) or error}") from None


def _format(path: Path) -> str:
    known = FORMATS.get(path.suffix.lower())
    return "archive" if known is None or _names_archive(path) else f"{known[0]} file"


def _decompress(content: bytes, path: Path) -> bytes:
    known = FORMATS.get(path.suffix.lower())
    if known is None:
        return content
    with _reading(path), known[1](io.BytesIO(content)) as stream:
        return _take(stream, MAX_SIZE, path)


def _take(stream: IO[bytes] | io.BufferedIOBase, limit: float, path: Path) -> bytes:
    """What is left of a stream, which may be at most `limit` bytes."""
    out = io.BytesIO()
    while part := stream.read(CHUNK):
        if out.tell() + len(part) > limit:
            raise DataError(
                f"`{path}` unpacks to more than {MAX_SIZE / 2**30:g} GiB, the most that is read; "
                "unpack it, or divide it into smaller files"
            )
        out.write(part)
    return out.getvalue()


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


# ----------------------------------------------------------------------------------- where files lie


def _on_disk(path: Path) -> Files:
    with _reading(path):
        if not path.is_dir():
            path.stat()
            return Files(path.parent, {path.name: partial(_stream, path)}, single=True)
        found: dict[str, Opener] = {}
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders[:] = [name for name in folders if not _hidden(name)]  # so that hidden ones are not entered
            for name in (*folders, *names):
                _check_link(Path(folder, name), path, name in folders)
            for file in (Path(folder, name) for name in names if not _hidden(name)):
                if file.is_file():
                    found[file.relative_to(path).as_posix()] = partial(_stream, file)
        return Files(path, found)


def _stream(path: Path) -> IO[bytes]:
    return path.open("rb")


def _raise(error: OSError) -> None:
    raise error


def _check_link(path: Path, folder: Path, to_folder: bool) -> None:
    """Raise `DataError` for a symbolic link that is not to a file in the folder."""
    if _hidden(path.name) or not path.is_symlink():
        return
    target, name = Path(os.path.realpath(path)), path.relative_to(folder).as_posix()
    if not target.is_relative_to(os.path.realpath(folder)):
        raise DataError(f"`{folder}`: `{name}` is a link that leads out of the folder; put the file itself there")
    if to_folder or not target.is_file():
        what = "to a folder" if to_folder else "to no file"
        raise DataError(f"`{folder}`: `{name}` is a link {what}, which is not followed; put the files themselves there")


def _names_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def _archive_in(path: Path) -> Path | None:
    """The archive that a path names or goes through."""
    with _reading(path):
        return next((place for place in (path, *path.parents) if _names_archive(place) and place.is_file()), None)


def _within(archive: Path, path: Path, members: Mapping[str, Opener | None]) -> Files:
    """The files that `path` names in an archive, where `None` stands for a link."""
    member = path.relative_to(archive).as_posix()
    if member in members:
        return Files(path.parent, {path.name: _followed(archive, member, members[member])}, MAX_SIZE, single=True)
    prefix = "" if member == "." else f"{member}/"
    inside = {name.removeprefix(prefix): opener for name, opener in members.items() if name.startswith(prefix)}
    if inside or not prefix:
        found = {name: _followed(archive, name, opener) for name, opener in inside.items() if not _hidden(name)}
        return Files(path, found, MAX_SIZE, single=not prefix and len(found) == 1)
    shown = [name for name in members if not _hidden(name)]
    tops = {name.partition("/")[0] for name in shown}
    if len(tops) == 1 and shown != [*tops] and not path.is_relative_to(top := archive / tops.pop()):
        # What is packed as one folder is found with the folder's name or without it.
        return _within(archive, top / member, members)
    raise DataError(f"`{archive}` holds no file `{member}`: {hint(member, shown)}")


def _followed(archive: Path, name: str, opener: Opener | None) -> Opener:
    if opener is None:
        raise DataError(f"`{archive}`: `{name}` is a link, which is not followed; pack the file itself")
    return opener


def _zipped(path: Path, stack: ExitStack) -> dict[str, Opener | None]:
    """How to open each file of a .zip archive; `None` for links."""
    archive = stack.enter_context(zipfile.ZipFile(path))
    return {
        posixpath.normpath(info.filename): None
        if stat.S_ISLNK(info.external_attr >> 16)
        else partial(archive.open, info)
        for info in archive.infolist()
        if not info.is_dir()
    }


def _tarred(path: Path, stack: ExitStack) -> dict[str, Opener | None]:
    """How to open each file of a .tar archive, which is decompressed in memory; `None` for links."""
    packed = path.suffix.lower() in FORMATS
    stream = stack.enter_context(io.BytesIO(_decompress(path.read_bytes(), path)) if packed else path.open("rb"))
    archive = stack.enter_context(tarfile.TarFile(fileobj=stream))
    return {
        posixpath.normpath(info.name): partial(_extract, archive, info) if info.isreg() else None
        for info in archive.getmembers()
        if info.isreg() or info.issym() or info.islnk()
    }


def _extract(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    assert stream is not None, "only regular files are opened"
    return stream
