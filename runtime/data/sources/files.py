"""Files as sources find them: bytes, decompressed, and as text."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from ....compiler.spec.diagnostics import suggest
from ..table import DataError


def read_file(path: Path) -> bytes:
    """The bytes of a file, decompressed where its name ends in `.gz`."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DataError(f"there is no file `{path}`{nearby(path)}") from None
    except IsADirectoryError:
        raise DataError(f"`{path}` is a folder, expected a file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"`{path}` is not a complete gzip file: {error}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read `{path}`: {getattr(error, 'strerror', None) or error}") from None


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
