"""Splits and cleaning: invariants over drawn tables, and messages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trine.runtime.data import DataError, from_arrays
from trine.runtime.data import cleaning as c
from trine.runtime.data import splits as s

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}
groups = st.lists(st.integers(0, 6), min_size=10, max_size=80)


def table(**columns):
    return from_arrays(columns, "rows.csv")


def covers(parts, n):
    return np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(n))


def fails(function, *parts):
    with pytest.raises(DataError) as caught:
        function()
    for part in parts:
        assert part in str(caught.value)


@given(groups, st.integers(0, 5))
def test_random_and_order_partition_the_rows(values, seed):
    t = table(x=values)
    for parts in (s.random(t, **SHARES, seed=seed), s.order(t, **SHARES)):
        assert covers(parts, len(values))
        assert [len(p) for p in parts.values()] == s.largest_remainder(len(values), list(SHARES.values()))
    ordered = s.order(t, **SHARES)
    assert np.concatenate(list(ordered.values())).tolist() == list(range(len(values)))


def test_random_depends_on_the_seed_alone():
    t = table(x=range(100))
    first, again, other = (s.random(t, seed=seed)["valid"].tolist() for seed in (0, 0, 1))
    assert first == again != other


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 3))
@settings(deadline=None)
def test_stratified_keeps_shares(sizes, seed):
    values = [i for i, size in enumerate(sizes) for _ in range(size)]
    if len(values) < 10:
        values += [0] * 10
    t = table(y=values)
    parts = s.stratified(t, on="y", **SHARES, seed=seed)
    assert covers(parts, len(values))
    counts = np.bincount(values)
    assert set(np.asarray(values)[parts["train"]]) == set(values), "each category is trained on"
    if counts.min() >= 5:
        assert [len(p) for p in parts.values()] == s.largest_remainder(len(values), list(SHARES.values()))
        for (name, share), k in ((item, k) for item in SHARES.items() for k in range(len(counts))):
            assert abs((np.asarray(values)[parts[name]] == k).sum() - counts[k] * share) < 2


def test_stratified_is_exact_where_it_can_be():
    values = ["a"] * 100 + ["b"] * 50
    parts = s.stratified(table(y=values), on="y", train=0.8, valid=0.1, test=0.1)
    for name, a, b in (("train", 80, 40), ("valid", 10, 5), ("test", 10, 5)):
        found = [values[i] for i in parts[name]]
        assert (found.count("a"), found.count("b")) == (a, b)


@given(groups, st.integers(0, 3))
def test_no_group_is_in_two_splits(values, seed):
    if len(set(values)) < 3:
        fails(lambda: s.group(table(g=values), on="g", **SHARES, seed=seed), "groups in column `g`", "too few for 3")
        return
    parts = s.group(table(g=values), on="g", **SHARES, seed=seed)
    assert covers(parts, len(values))
    assert set(parts) == set(SHARES)
    seen = [set(np.asarray(values)[p]) for p in parts.values()]
    assert all(not a & b for i, a in enumerate(seen) for b in seen[i + 1 :])


@given(groups)
def test_time_has_no_inversion(values):
    if len(set(values)) < 3:
        return
    parts = s.time(table(t=values), on="t", **SHARES)
    assert covers(parts, len(values))
    train, valid, test = (np.asarray(values)[parts[name]] for name in SHARES)
    assert train.max() < valid.min() and valid.max() < test.min()


def test_time_is_near_to_the_shares_and_takes_dates():
    parts = s.time(table(t=range(100)), on="t", train=0.8, valid=0.2)
    assert {name: len(p) for name, p in parts.items()} == {"train": 80, "valid": 20}
    dates = table(t=["2024-03-01", "2023-01-01", "2024-01-01"])
    assert s.time(dates, on="t", train=0.34, valid=0.33, test=0.33)["train"].tolist() == [1]


def test_shares():
    assert s.shares_of(None, None, None) == [0.8, 0.1, 0.1]
    assert s.shares_of(0.9, 0.1, None) == [0.9, 0.1, 0.0]
    fails(lambda: s.shares_of(0.8, 0.1, 0.2), "train 0.8 + valid 0.1 + test 0.2 = 1.1")
    fails(lambda: s.shares_of(None, 1.0, None), "`train` is 0")
    fails(lambda: s.random(table(x=[1, 2])), "rows.csv has 2 rows: a share of 0.1 leaves none for `valid`")
    fails(lambda: s.random(table(x=[])), "no rows to split")


def test_split_columns_must_be_there_and_whole():
    fails(lambda: s.stratified(table(label=[1, 2]), on="lable"), "did you mean `label`?")
    fails(
        lambda: s.group(table(g=["a"] * 9 + [None]), on="g"),
        "`g` of rows.csv has 1 missing value, first at row 10",
        "drop_rows",
    )
    fails(lambda: s.time(table(g=np.zeros((20, 2))), on="g"), "needs a single value")


def test_strip_and_replace():
    t = table(y=["<=50K.", ">50K.", None, "."], n=[1, 2, 3, 4])
    cleaned = c.strip(t, columns=["y", "n"], characters=".")
    assert cleaned.column("y").values[:2].tolist() == ["<=50K", ">50K"]
    assert cleaned.column("y").missing.tolist() == [False, False, True, True]
    assert cleaned.column("n").values.tolist() == [1, 2, 3, 4]
    assert c.replace(t, columns="y", values={"<=50K.": 0}).column("y").values[0] == "0"
    assert c.replace(t, columns="n", values={"2": 9}).column("n").values.tolist() == [1, 9, 3, 4]
    fails(lambda: c.replace(t, columns="n", values={"two": 9}), "column `n` of rows.csv holds numbers", "`two: 9`")


def test_dropping_rows_keeps_their_numbers():
    t = table(a=["x", None, "x", "y"], b=[1, 1, 1, 2])
    assert c.drop_rows(t, missing="a").rows.tolist() == [1, 3, 4]
    assert c.drop_duplicates(t).rows.tolist() == [1, 2, 4]
    assert c.drop_duplicates(t, columns=["b"]).rows.tolist() == [1, 4]
    assert c.drop_duplicates(table(x=[None, float("nan"), 1.0])).rows.tolist() == [1, 3]
    assert c.drop_duplicates(table(x=np.array([[1, 2], [1, 2]]))).rows.tolist() == [1]


def test_rename():
    t = table(a=[1], b=[2])
    assert list(c.rename(t, columns={"a": "b", "b": "a"}).columns) == ["b", "a"]
    fails(lambda: c.rename(t, columns={"a": "b"}), "two columns `b`")
    fails(lambda: c.rename(t, columns={"z": "b"}), "no column `z`")


def test_clip_and_log():
    t = table(x=[-5.0, 0.0, 5.0], y=["a", "b", "c"])
    assert c.clip(t, columns="x", low=-1, high=2).column("x").values.tolist() == [-1, 0, 2]
    assert c.clip(t, columns="x", high=2).column("x").values.tolist() == [-5, 0, 2]
    fails(lambda: c.clip(t, columns="x"), "`low`, `high` or both")
    fails(lambda: c.clip(t, columns="x", low=2, high=1), "above `high`")
    fails(lambda: c.clip(t, columns="y", low=0), "column `y` of rows.csv is text", "`a` at row 1")
    assert c.log(table(x=[0, 1]), columns="x").column("x").values.tolist() == [0.0, np.log1p(1)]
    fails(lambda: c.log(t, columns="x"), "1 row with a number of -1 or below, first at row 1")


def test_text_and_numbers():
    t = table(n=[3.0, 0.5, float("nan")], s=["1", "2.5", None], bad=["1", "two", "three"])
    assert c.as_text(t, columns="n").column("n").values[:2].tolist() == ["3", "0.5"]
    assert c.as_number(t, columns=["s", "n"]).column("s").values[:2].tolist() == [1.0, 2.5]
    fails(lambda: c.as_number(t, columns="bad"), "`two` at row 2 is no number (2 such rows)")
