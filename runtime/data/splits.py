"""How rows are divided into training, validation and test rows."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from ...compiler.initialisers import generator
from ...compiler.spec.diagnostics import hint
from ...compiler.spec.kinds import Fraction, Positive, Range, Scalar, Word
from ...compiler.spec.registry import SPLITS
from .table import Array, DataError, Rows, Table, categories, counted, flat, number_name
from .times import ranks

NAMES = ("train", "valid", "test")
DEFAULT = {"train": 0.8, "valid": 0.1, "test": 0.1}

Share = Fraction | None
Count = Annotated[int, Range(0)]
Parts = dict[str, Rows]


def shares_of(train: float | None, valid: float | None, test: float | None) -> list[float]:
    """The three shares: 0.8, 0.1 and 0.1 where none is given, else 0 for those that are not.

    Raises `DataError` unless they add up to 1 and leave something to train on.
    """
    given = [train, valid, test]
    shares = list(DEFAULT.values()) if given == [None] * 3 else [share or 0.0 for share in given]
    total = sum(shares)
    if abs(total - 1) > 1e-6:
        text = " + ".join(f"{name} {share:g}" for name, share in zip(NAMES, shares, strict=True))
        raise DataError(f"the shares of a split add up to 1; {text} = {total:g}")
    if shares[0] <= 0:
        raise DataError("a split needs a share of rows to train on: `train` is 0")
    return [share / total for share in shares]


def largest_remainder(total: int, shares: list[float]) -> list[int]:
    """Whole numbers that add up to `total`, each within one of its share of it."""
    ideal = [total * share for share in shares]
    counts = [int(np.floor(x + 1e-9)) for x in ideal]
    order = sorted(range(len(shares)), key=lambda i: counts[i] - ideal[i])
    for i in order[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _counts(table: Table, shares: list[float]) -> list[int]:
    """How many rows each split gets; raises `DataError` where a share leaves none."""
    if not len(table):
        raise DataError(f"{table.source} has no rows to split")
    counts = largest_remainder(len(table), shares)
    for name, share, count in zip(NAMES, shares, counts, strict=True):
        if share > 0 and count == 0:
            raise DataError(
                f"{table.source} has {counted(len(table), 'row')}: a share of {share:g} leaves none for `{name}`; "
                "change the shares, or give more rows"
            )
    return counts


def _cut(order: Array, counts: list[int]) -> Parts:
    """`order` cut into runs of the given lengths, each sorted as in the file; empty splits are left out."""
    pieces = np.split(order, np.cumsum(counts)[:-1])
    return {name: np.sort(piece).astype(np.int64) for name, piece in zip(NAMES, pieces, strict=True) if len(piece)}


@SPLITS.register
def random(table: Table, *, train: Share = None, valid: Share = None, test: Share = None, seed: int = 0) -> Parts:
    """Rows drawn at random.

    train: the share of rows to train on; where no share is given: 0.8, 0.1 and 0.1.
    valid: the share to validate on.
    test: the share to test on.
    seed: what the draw depends on.
    Example: split: {train: 0.8, valid: 0.1, test: 0.1, seed: 0}
    """
    counts = _counts(table, shares_of(train, valid, test))
    return _cut(generator(seed, "split").permutation(len(table)), counts)


@SPLITS.register
def order(table: Table, *, train: Share = None, valid: Share = None, test: Share = None) -> Parts:
    """Rows as they come: the first to train on, the next to validate, the last to test.

    train: the share of rows to train on; where no share is given: 0.8, 0.1 and 0.1.
    valid: the share to validate on.
    test: the share to test on.
    Example: split: {by: order, train: 0.9, valid: 0.1}
    """
    return _cut(np.arange(len(table)), _counts(table, shares_of(train, valid, test)))


@SPLITS.register
def stratified(
    table: Table, *, on: Word, train: Share = None, valid: Share = None, test: Share = None, seed: int = 0
) -> Parts:
    """Rows drawn at random such that every category has the same share of each split.

    Every category has at least one row to train on.

    on: the column of categories.
    train: the share of rows to train on; where no share is given: 0.8, 0.1 and 0.1.
    valid: the share to validate on.
    test: the share to test on.
    seed: what the draw depends on.
    Example: split: {by: stratified, on: income, train: 0.9, valid: 0.1}
    """
    shares = shares_of(train, valid, test)
    codes = _codes(table, on)
    sizes = np.bincount(codes)
    if 2 * (sizes == 1).sum() > len(table):
        raise DataError(
            f"{table.place(on)} has {counted(len(sizes), 'different value')} in {counted(len(table), 'row')}, most of "
            "them in one row alone: there are no categories to have the same share of; leave out `by: stratified`"
        )
    totals = _counts(table, shares)
    counts = stratify(np.bincount(codes), shares, totals)
    # A stable sort of a random order by category leaves each category's rows in random order.
    shuffled = generator(seed, "split").permutation(len(table))
    grouped = shuffled[np.argsort(codes[shuffled], kind="stable")]
    split_of = np.repeat(np.tile(np.arange(3), len(counts)), counts.ravel())
    parts = {name: np.sort(grouped[split_of == i]).astype(np.int64) for i, name in enumerate(NAMES)}
    return {name: rows for name, rows in parts.items() if len(rows)}


def _codes(table: Table, on: str) -> Rows:
    """Each row's category; raises `DataError` if one is missing."""
    column = flat(table, on, "a split")
    if column.missing.any():
        raise DataError(
            f"{table.place(on)} has {counted(int(column.missing.sum()), 'missing value')}, first at row "
            f"{table.first(column.missing)}; a split by it needs every value: "
            f"`clean: [{{drop_rows: {{missing: {on}}}}}]` drops those rows"
        )
    return categories(column)[1]


def stratify(sizes: Rows, shares: list[float], totals: list[int]) -> Rows:
    """How many rows of each category go to each split [categories, 3].

    Rows add up to `sizes` and columns to `totals`; each number is the category's share rounded up
    or down, save where that cannot be had or a category would have no row to train on.
    """
    ideal = np.outer(sizes, shares)
    counts = np.floor(ideal + 1e-9).astype(np.int64)
    rows_left = sizes - counts.sum(axis=1)
    splits_left = np.asarray(totals) - counts.sum(axis=0)
    remainder = ideal - counts
    for cell in np.argsort(-remainder, axis=None, kind="stable"):
        c, s = divmod(int(cell), len(shares))
        if rows_left[c] and splits_left[s] > 0 and shares[s] > 0:
            counts[c, s] += 1
            rows_left[c] -= 1
            splits_left[s] -= 1
    for c in np.flatnonzero(rows_left).tolist():
        _place_rest(counts, c, int(rows_left[c]), splits_left)
    _train_on_each(counts)
    return counts


def _place_rest(counts: Rows, c: int, rows: int, splits_left: Array) -> None:
    """Put the last rows of a category where there is still room."""
    for _ in range(rows):
        s = int(np.argmax(splits_left))
        counts[c, s] += 1
        splits_left[s] -= 1


def _train_on_each(counts: Rows) -> None:
    """Give each category a row to train on, in exchange for one of the best provided category."""
    for c in np.flatnonzero(counts[:, 0] == 0).tolist():
        s = 1 + int(np.argmax(counts[c, 1:]))
        donor = int(np.argmax(counts[:, 0]))
        counts[c, s] -= 1
        counts[c, 0] += 1
        if counts[donor, 0] > 1:
            counts[donor, 0] -= 1
            counts[donor, s] += 1


@SPLITS.register
def group(
    table: Table, *, on: Word, train: Share = None, valid: Share = None, test: Share = None, seed: int = 0
) -> Parts:
    """Whole groups drawn at random: rows with the same value are in the same split.

    on: the column that names the group.
    train: the share of rows to train on, as nearly as groups allow; where no share is given: 0.8, 0.1 and 0.1.
    valid: the share to validate on.
    test: the share to test on.
    seed: what the draw depends on.
    Example: split: {by: group, on: patient, train: 0.8, valid: 0.1, test: 0.1}
    """
    shares = shares_of(train, valid, test)
    codes = _codes(table, on)
    count = int(codes.max()) + 1 if len(codes) else 0
    rank = np.empty(count, np.int64)
    rank[generator(seed, "split").permutation(count)] = np.arange(count)
    return _cut_runs(table, rank[codes], shares, f"groups in {table.place(on)}")


@SPLITS.register
def time(
    table: Table,
    *,
    on: Word,
    format: str | None = None,
    train: Share = None,
    valid: Share = None,
    test: Share = None,
) -> Parts:
    """The earliest rows to train on, later ones to validate, the last to test.

    Rows of the same time are in the same split. Times are numbers, or text as ISO 8601 writes it (`2024-05-17`,
    `2024-05-17T12:30:00Z`), or dates such as `17/05/2021`, where one of them shows which number is the month. Series
    without an `order` of their own are in the order of this column, too.

    on: the column of times.
    format: how other dates are written, in the codes of Python's `strptime`, such as `%d.%m.%y`.
    train: the share of rows to train on, as nearly as equal times allow; where no share is given: 0.8, 0.1 and 0.1.
    valid: the share to validate on.
    test: the share to test on.
    Example: split: {by: time, on: date, train: 0.8, valid: 0.1, test: 0.1}
    """
    shares = shares_of(train, valid, test)
    return _cut_runs(
        table, ranks(table, on, "a split by time", format), shares, f"different times in {table.place(on)}"
    )


def _cut_runs(table: Table, codes: Rows, shares: list[float], what: str) -> Parts:
    """Rows in the order of `codes`, cut as near to the shares as possible between different codes."""
    if not len(table):
        raise DataError(f"{table.source} has no rows to split")
    ends = np.cumsum(np.bincount(codes))
    used = [i for i, share in enumerate(shares) if share > 0]
    if len(ends) < len(used):
        raise DataError(f"there are {len(ends)} {what}, too few for {len(used)} splits")
    counts, start, share_sum = [0, 0, 0], -1, 0.0
    for position, i in enumerate(used):
        share_sum += shares[i]
        # Each split has at least one run, and leaves one for each split after it.
        first, last = start + 1, len(ends) - (len(used) - position)
        near = np.abs(ends[first : last + 1] - share_sum * len(table))
        end = last if position == len(used) - 1 else first + int(np.argmin(near))
        counts[i] = int(ends[end] - (ends[start] if start >= 0 else 0))
        start = end
    return _cut(np.argsort(codes, kind="stable"), counts)


@SPLITS.register
def last(
    table: Table,
    *,
    of: Word,
    order: Word | None = None,
    format: str | None = None,
    valid: Count = 1,
    test: Positive = 1,
) -> Parts:
    """The last rows of each group to test, those before them to validate, the rest to train on.

    As recommenders are judged: what someone chose last is predicted from what they chose before. Groups with no row
    to spare for training are trained on alone.

    of: the column that names the group.
    order: the column of times that says which rows are later, read as by `time`; without it, the order of the file.
    format: how its dates are written, where not as `time` reads them.
    valid: how many rows of each group to validate on.
    test: how many rows of each group to test on.
    Example: split: {by: last, of: user, order: timestamp, valid: 1, test: 1}
    """
    codes = _codes(table, of)
    times = np.arange(len(table)) if order is None else ranks(table, order, "an order", format)
    ranked = np.lexsort((np.arange(len(table)), times, codes))
    counts = np.bincount(codes)
    starts = np.cumsum(counts) - counts
    from_end = np.empty(len(table), np.int64)
    from_end[ranked] = np.repeat(starts + counts, counts) - np.arange(len(table)) - 1
    spare = counts[codes] > valid + test
    parts = {"test": spare & (from_end < test), "valid": spare & (from_end >= test) & (from_end < test + valid)}
    parts["train"] = ~parts["test"] & ~parts["valid"]
    if not parts["test"].any():
        raise DataError(f"no group in {table.place(of)} has more than {counted(valid + test, 'row')}")
    return {name: np.flatnonzero(parts[name]) for name in NAMES if parts[name].any()}


@SPLITS.register
def values(table: Table, *, on: Word, test: list[Scalar] | Scalar, valid: list[Scalar] | Scalar | None = None) -> Parts:
    """Rows by the value of a column: those with some values to test, with others to validate, the rest to train on.

    on: the column.
    test: its value, or values, of the rows to test on.
    valid: its value, or values, of the rows to validate on.
    Example: split: {by: values, on: index, test: [0, 1, 2, 3, 4]}
    """
    names, codes = categories(flat(table, on, "a split"))
    asked = {"valid": _named(valid), "test": _named(test)}
    for name, wanted in asked.items():
        for value in wanted:
            if value not in names:
                raise DataError(f"{table.place(on)} has no value `{value}` for `{name}`: {hint(value, names)}")
    if both := set(asked["valid"]) & set(asked["test"]):
        raise DataError(f"{table.place(on)}: `{min(both)}` is a value for both `valid` and `test`")
    parts = {name: np.isin(codes, [names.index(v) for v in wanted]) for name, wanted in asked.items()}
    parts["train"] = ~parts["test"] & ~parts["valid"]
    if not parts["train"].any():
        raise DataError(f"{table.place(on)} has no other values: there are no rows to train on")
    return {name: np.flatnonzero(parts[name]) for name in NAMES if parts[name].any()}


def _named(given: Any) -> list[str]:
    """Values as categories are called."""
    found = given if isinstance(given, list) else [] if given is None else [given]
    return [str(v) if isinstance(v, str) else number_name(v) for v in found]
