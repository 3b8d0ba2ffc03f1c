"""Files of tokens in columns, as those of the CoNLL shared tasks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....compiler.spec.kinds import Word
from ....compiler.spec.registry import SOURCES
from ..table import DataError, Table, counted, listed, make_table, ragged_column
from .files import decode, open_files, plain_name

ENDINGS = (".conll", ".annotated", ".bio", ".iob", ".iob2", ".conllu", ".tsv", ".txt")
WORDS = {"train": "train", "dev": "valid", "valid": "valid", "testa": "valid", "test": "test", "testb": "test"}
DOCUMENT = "-DOCSTART-"
BLANKS = re.compile(r"[ \t]+")

Line = tuple[int, str]


@SOURCES.register
def conll(
    target: str, folder: Path, *, header: list[Word] | None = None, comments: bool = False, encoding: str = "utf-8"
) -> Table | dict[str, Table]:
    """Sequences of tokens, one token a line, with blank lines between sequences; each row is one sequence.

    A line has the token and what is said of it, divided by tabs if the first line has one, else by
    blanks. Sequences that start with `-DOCSTART-` are left out. Of a folder, the files whose names
    have `train`, `dev`, `valid`, `testa`, `test` or `testb` in them are the splits; what does not end
    in .conll, .annotated, .bio, .iob, .iob2, .conllu, .tsv or .txt is not read.

    header: the names of the columns; without them they are called 0, 1, and so on.
    comments: whether lines that start with `#` and a blank are skipped, as in CoNLL-U.
    encoding: how the file writes characters.
    Example: source: conll:wnut17
    """
    path = folder / target
    with open_files(path) as files:
        if files.single:
            return _table(decode(files.read(files.names[0]), encoding, path.name), path.name, header, comments)
        splits = _splits(path, [name for name in files.ending_in(ENDINGS) if "/" not in name])
        texts = {split: decode(files.read(name), encoding, name) for split, name in splits.items()}
    return {split: _table(text, splits[split], header, comments) for split, text in texts.items()}


def _splits(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The file of each split."""
    found: dict[str, str] = {}
    for name in names:
        split = _split_of(plain_name(name))
        if split in found:
            raise DataError(
                f"`{folder}` has two files for the split {split}: `{found[split]}` and `{name}`; "
                "move one away, or name the files by `source`, `valid` and `test`"
            )
        if split is not None:
            found[split] = name
    if "train" not in found:
        what = f"its files are {listed(names)}" if names else f"no file there ends in {', '.join(ENDINGS)}"
        raise DataError(f"`{folder}` has no file for training, with `train` in its name: {what}")
    return {split: found[split] for split in ("train", "valid", "test") if split in found}


def _split_of(name: str) -> str | None:
    """The split of the last, and there of the longest, word that is in a name: `latest.train` is no test."""
    places = [(name.rfind(word), len(word), split) for word, split in WORDS.items() if word in name]
    return max(places)[2] if places else None


def _table(content: str, file: str, header: list[str] | None, comments: bool) -> Table:
    sequences = _sequences(content, comments)
    if not sequences:
        raise DataError(f"{file} is empty: it has no tokens")
    first = sequences[0][0]
    tabs = "\t" in first[1]
    width = len(_cut(first[1], tabs))
    names = _names(header, width, first[0], file)
    rows = [np.array([_cells(line, tabs, width, first[0], file) for line in lines], object) for lines in sequences]
    columns = [ragged_column([cells[:, i] for cells in rows]) for i in range(width)]
    return make_table(dict(zip(names, columns, strict=True)), file)


def _sequences(content: str, comments: bool) -> list[list[Line]]:
    """The numbered lines of each sequence."""
    found: list[list[Line]] = [[]]
    # Tokens may hold what `splitlines` and `strip` take for ends of lines and for blanks.
    for number, line in enumerate(content.replace("\r\n", "\n").split("\n"), 1):
        if comments and line.startswith("# "):
            continue
        if line.strip(" \t"):
            found[-1].append((number, line))
        elif found[-1]:
            found.append([])
    return [lines for lines in found if lines and not lines[0][1].lstrip(" ").startswith(DOCUMENT)]


def _cut(line: str, tabs: bool) -> list[str]:
    return [cell.strip(" ") for cell in line.split("\t")] if tabs else BLANKS.split(line.strip(" \t"))


def _cells(line: Line, tabs: bool, width: int, first: int, file: str) -> list[str]:
    cells = _cut(line[1], tabs)
    if len(cells) != width:
        raise DataError(
            f"{file}: line {line[0]} has {counted(len(cells), 'column')}, line {first} has {width} "
            f"(divided by {'tabs' if tabs else 'blanks'}); every line of tokens needs the same number"
        )
    return cells


def _names(header: list[str] | None, width: int, line: int, file: str) -> list[str]:
    if header is None:
        return [str(i) for i in range(width)]
    if len(header) != width:
        raise DataError(
            f"`header` names {counted(len(header), 'column')}, {file} has {width} (line {line}); name each column"
        )
    if len(set(header)) < width:
        raise DataError(f"`header` has a name twice: {listed(header)}; names must differ")
    return header
