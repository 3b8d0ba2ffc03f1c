"""What the folders around a file say of it: its split and its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ....compiler.structs import Struct
from ..table import Column, DataError, Table, listed, text_column

SPLITS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}


class Layout(Struct):
    """The files of each split and their labels; the split is `None` where the folders tell none."""

    names: Sequence[str]
    splits: Mapping[str | None, Sequence[str]]
    labels: Mapping[str | None, Column | None]

    def tables(self, table: Table) -> Table | dict[str, Table]:
        """A table of all files, in the order of `names`, with their labels, or one such for each split."""
        rows = {name: row for row, name in enumerate(self.names)}
        parts: dict[str, Table] = {}
        for split, names in self.splits.items():
            label = self.labels[split]
            part = table.take(np.array([rows[name] for name in names], np.int64))
            part = part if label is None else part.with_columns({"label": label})
            if split is None:
                return part
            parts[split] = part
        return parts


def layout(names: Sequence[str], place: Path, labelled: bool = True) -> Layout:
    """What the folders in `names` tell; raises `DataError` where they contradict each other."""
    splits: Mapping[str | None, Sequence[str]] = _by_split(names, place) or {None: names}
    found = {
        split: _labels(part, 0 if split is None else 1, place) if labelled else None for split, part in splits.items()
    }
    return Layout(names, splits, found)


def _by_split(names: Sequence[str], place: Path) -> dict[str | None, Sequence[str]]:
    """The files of each split, where the top folders are called `train`, `valid` (or `val`) and `test`."""
    tops = {name.partition("/")[0] if "/" in name else "" for name in names}
    splits = tops & SPLITS.keys()
    if not splits or (tops != splits and not (len(splits) > 1 and "train" in splits)):
        return {}  # a folder called `train` may also hold the trains, beside other classes
    if tops != splits:
        others = listed([name for name in names if name.partition("/")[0] not in splits or "/" not in name], 3)
        raise DataError(f"`{place}` has folders for splits, {listed(sorted(splits))}, and files beside them: {others}")
    if "train" not in splits:
        raise DataError(
            f"`{place}` has a folder {listed(sorted(splits))} and none called `train`; name one of them, "
            f"as in `{place.name}/{min(splits)}`"
        )
    if {"valid", "val"} <= splits:
        raise DataError(f"`{place}` has two folders for one split, `val` and `valid`; move one away")
    return {SPLITS[top]: [name for name in names if name.startswith(f"{top}/")] for top in sorted(splits)}


def _labels(names: Sequence[str], within: int, place: Path) -> Column | None:
    """The names of the folders in which files lie, below the first `within`; `None` where there are no folders."""
    paths = [name.split("/")[within:] for name in names]
    loose = [name for name, path in zip(names, paths, strict=True) if len(path) == 1]
    if len(loose) == len(names):
        return None
    if loose:
        other = next(name for name, path in zip(names, paths, strict=True) if len(path) > 1)
        raise DataError(
            f"`{place}` has files in folders, such as `{other}`, and files in none, such as `{loose[0]}`; "
            "the folder's name is the label: put every file in one"
        )
    return text_column((path[0] for path in paths), np.zeros(len(names), np.bool_))


def name_column(names: Sequence[str]) -> Column:
    """The files' names."""
    return text_column(names, np.zeros(len(names), np.bool_))
