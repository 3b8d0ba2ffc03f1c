"""Lines of text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....compiler.spec.registry import SOURCES
from ..table import DataError, Table, make_table, text_column
from .files import decode, read_file


@SOURCES.register
def text(target: str, folder: Path, *, encoding: str = "utf-8", skip_blank: bool = False) -> Table:
    """The lines of a text file, which may be compressed or in an archive, in one column, `text`.

    encoding: how the file writes characters.
    skip_blank: whether lines without a character are left out.
    Example: source: text:corpus.txt
    """
    path = folder / target
    lines = decode(read_file(path), encoding, path.name).splitlines()
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
