"""Fields that depend on each other: sequences cut alike, windows of a series, sampled negatives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trine.runtime.data.fields as f
from trine.compiler.initialisers import generator
from trine.compiler.spec.registry import SPLITS
from trine.runtime.data import DataError, Table, dataset_from_tables, from_arrays, restore_fields, transform
from trine.runtime.data.dataset import encode_split

TAGGED = from_arrays(
    {
        "word": [["a", "b", "c", "d"], ["b"], ["c", "a"]],
        "tag": [["O", "X", "O", "X"], ["O"], ["X", "O"]],
        "other": [["u"], ["v", "u"], ["u", "v", "v"]],
    }
)


def test_ids_of_sequences_are_padded() -> None:
    data = dataset_from_tables({"train": TAGGED}, {"tag": f.ids(column="tag")})
    assert data.splits["train"].arrays["tag"].tolist() == [[0, 1, 0, 1], [0, -1, -1, -1], [1, 0, -1, -1]]
    assert data.sizes == {"tag.size": 2, "tag.padded": 1}
    again = restore_fields(json.loads(json.dumps(data.state())))
    assert np.array_equal(transform(again, TAGGED, ["tag"])["tag"], data.splits["train"].arrays["tag"])
    with pytest.raises(DataError, match=r"`Y` .1 row, first at row 2.*training has `O`, `X`"):
        transform(again, from_arrays({"tag": [["O"], ["Y", "O"]]}), ["tag"])
    with pytest.raises(DataError, match="a single value in each row, the training rows had a sequence"):
        transform(again, from_arrays({"tag": ["O", "X"]}), ["tag"])


def test_sequences_of_the_same_lengths_are_cut_alike() -> None:
    fields = {"word": f.words(column="word", max_length=2), "tag": f.ids(column="tag"), "other": f.ids(column="other")}
    arrays = dataset_from_tables({"train": TAGGED}, fields).splits["train"].arrays
    assert arrays["word"].shape == arrays["tag"].shape == (3, 2)
    assert arrays["other"].shape == (3, 3), "its lengths are its own"


def test_sequences_of_one_length_are_sequences_too() -> None:
    data = dataset_from_tables({"train": from_arrays({"tag": [[1, 2, 3], [1, 2]]})}, {"tag": f.ids(column="tag")})
    assert transform(data.fields, from_arrays({"tag": [[1, 2, 3]]}), ["tag"])["tag"].tolist() == [[0, 1, 2]]
    even = dataset_from_tables({"train": from_arrays({"tag": [[1, 2], [2, 1]]})}, {"tag": f.ids(column="tag")})
    assert even.splits["train"].arrays["tag"].tolist() == [[0, 1], [1, 0]]


def test_what_is_cut_is_decided_by_training_rows() -> None:
    train = from_arrays({"a": [list("xyz"), list("x")], "b": [list("xyzz"), list("x")]})
    fields = {"a": f.words(column="a", max_length=2), "b": f.words(column="b")}
    data = dataset_from_tables({"train": train}, fields)
    alone = transform(data.fields, from_arrays({"a": [list("xyz")], "b": [list("xyz")]}), ["a", "b"])
    assert (alone["a"].shape, alone["b"].shape) == ((1, 2), (1, 3))


def test_parts_of_words() -> None:
    table = from_arrays({"w": [["London", "f-16"], ["USA", "it's"]]})
    found = {}
    for part in ("whole", "shape", "beginning", "ending"):
        field = f.words(column="w", part=part).fit(table)
        names = field.vocabulary
        found[part] = [[names[i] for i in row] for row in field.transform(table)]
        again = restore_fields(json.loads(json.dumps({"w": field.state()})))["w"]
        assert np.array_equal(again.transform(table), field.transform(table))
    assert found == {
        "whole": [["london", "f-16"], ["usa", "it's"]],
        "shape": [["Xx", "x-d"], ["X", "x'x"]],
        "beginning": [["lon", "f-1"], ["usa", "it'"]],
        "ending": [["don", "-16"], ["usa", "t's"]],
    }


def hours(count: int = 100) -> Table:
    return from_arrays({"load": np.arange(count) * 1.0, "temperature": np.arange(count) * -2.0})


def test_windows_are_of_the_same_rows() -> None:
    fields = {
        "history": f.series(columns=["load", "temperature"], past=5),
        "next": f.series(column="load", future=3),
        "around": f.series(column="load", past=1, future=1),
    }
    table = hours()
    data = dataset_from_tables({"train": table.take(np.arange(60)), "test": table.take(np.arange(60, 100))}, fields)
    train, test = (data.splits[name].arrays for name in ("train", "test"))
    assert train["history"].shape == (53, 5, 2)
    assert train["next"].shape == (53, 3)
    assert train["history"][0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert train["next"][0].tolist() == [5, 6, 7]
    assert train["around"][0].tolist() == [4, 5]
    assert train["next"][-1].tolist() == [57, 58, 59], "no window reaches into another split"
    assert test["history"][0, 0].tolist() == [60, -120]
    alone = transform(data.fields, table, ["history"])["history"]
    assert len(alone) == 96, "to predict, no future is needed"
    again = restore_fields(json.loads(json.dumps(data.state())))
    assert np.array_equal(transform(again, table, ["history"])["history"], alone)


def test_series_are_scaled_by_training_rows() -> None:
    table = hours()
    fields = {"history": f.series(column="load", past=2, scale="standard")}
    data = dataset_from_tables({"train": table.take(np.arange(50)), "test": table.take(np.arange(50, 100))}, fields)
    train = data.splits["train"].arrays["history"]
    expected = (np.arange(50) - np.arange(50).mean()) / np.arange(50).std()
    np.testing.assert_allclose(train[:, 0], expected[:-1], rtol=1e-6)
    np.testing.assert_allclose(data.fields["history"].inverse(train)[3], [3, 4], rtol=1e-6)


def test_windows_stay_within_a_series() -> None:
    table = hours(20).with_columns(from_arrays({"store": ["a"] * 12 + ["b"] * 8}).columns)
    fields = {
        "past": f.series(column="load", past=4, of="store"),
        "next": f.series(column="load", future=2, of="store"),
    }
    arrays = dataset_from_tables({"train": table}, fields).splits["train"].arrays
    assert arrays["past"][:, -1].tolist() == [3, 4, 5, 6, 7, 8, 9, 15, 16, 17]
    assert arrays["next"][-1].tolist() == [18, 19]


def test_labels_beside_windows_are_those_of_their_rows() -> None:
    table = hours(10).with_columns(from_arrays({"label": np.arange(10) % 3}).columns)
    fields = {"past": f.series(column="load", past=4), "label": f.ids(column="label")}
    arrays = dataset_from_tables({"train": table}, fields).splits["train"].arrays
    assert arrays["label"].tolist() == [i % 3 for i in range(3, 10)]


@pytest.mark.parametrize(
    ("rows", "part"),
    [(np.array([0, 1, 2, 4, 5, 6, 7]), "after row 3 rows are missing"), (np.arange(5), "windows need 6 of one series")],
)
def test_series_refuse(rows: np.ndarray, part: str) -> None:
    fields = {"past": f.series(column="load", past=4), "next": f.series(column="load", future=2)}
    with pytest.raises(DataError, match=part):
        dataset_from_tables({"train": hours(20).take(rows)}, fields)


def test_a_series_must_stand_together() -> None:
    table = hours(6).with_columns(from_arrays({"store": list("aabbaa")}).columns)
    with pytest.raises(DataError, match="must stand one below the other"):
        dataset_from_tables({"train": table}, {"past": f.series(column="load", past=2, of="store")})


def choices(users: int = 30, items: int = 40, rows: int = 600, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, items + 1)
    return from_arrays(
        {
            "u": rng.integers(0, users, rows),
            "i": rng.choice(items, rows, p=weights / weights.sum()),
            "t": np.arange(rows),
        }
    )


FIELDS = {
    "negative": f.negatives(sample="item", count=5, never="seen_by_user"),
    "user": f.ids(column="u"),
    "item": f.ids(column="i"),
}


def test_negatives_are_never_what_was_seen() -> None:
    table = choices()
    data = dataset_from_tables({"train": table}, FIELDS)
    arrays = data.splits["train"].arrays
    seen = set(zip(arrays["user"].tolist(), arrays["item"].tolist(), strict=True))
    for draw in range(20):
        drawn = data.fields["negative"].vary("negative", arrays, generator(0, draw))
        assert drawn.shape == (600, 5)
        pairs = {(u, i) for u, row in zip(arrays["user"].tolist(), drawn.tolist(), strict=True) for i in row}
        assert not pairs & seen
    first, second = (data.fields["negative"].vary("negative", arrays, generator(0, 3)) for _ in range(2))
    assert np.array_equal(first, second)


def test_negatives_are_even_or_follow_popularity() -> None:
    table = choices(rows=5000, users=1000)
    even = dataset_from_tables({"train": table}, {**FIELDS, "negative": f.negatives(sample="item", count=20)})
    popular = f.negatives(sample="item", count=20, power=1.0)
    skewed = dataset_from_tables({"train": table}, {**FIELDS, "negative": popular})
    counts = [np.bincount(d.splits["train"].arrays["negative"].ravel(), minlength=40) for d in (even, skewed)]
    assert counts[0].max() / counts[0].min() < 1.5, "all alike, but for each row's own"
    assert counts[1][0] > 10 * counts[1][30]


def test_negatives_of_a_user_who_has_seen_nearly_all() -> None:
    table = from_arrays({"u": [0] * 38 + [1], "i": [*range(38), 39], "t": np.arange(39)})
    fields = {**FIELDS, "item": f.ids(column="i", size=400)}
    data = dataset_from_tables({"train": table}, fields)
    assert data.splits["train"].arrays["negative"][:38].min() >= 38
    with pytest.raises(DataError, match="nothing left to draw"):
        dataset_from_tables({"train": table}, FIELDS)


def test_evaluation_knows_what_training_rows_have() -> None:
    """Fields of a saved model, restored, draw the same negatives as they did when it was trained."""
    table = choices()
    tables = {"train": table.take(np.arange(500)), "test": table.take(np.arange(500, 600))}
    data = dataset_from_tables(tables, FIELDS)
    again = restore_fields(json.loads(json.dumps(data.state())))
    found = encode_split(again, tables, "test")["negative"]
    assert np.array_equal(found, data.splits["test"].arrays["negative"])


def test_the_last_of_each_user() -> None:
    table = choices()
    parts = SPLITS["last"].function(table, of="u", order="t", valid=1, test=2)
    users, times = table.column("u").values, table.column("t").values
    for user in np.unique(users):
        own = {name: times[rows[users[rows] == user]] for name, rows in parts.items()}
        assert (len(own["valid"]), len(own["test"])) == (1, 2)
        assert own["train"].max() < own["valid"].min() < own["test"].min()
    assert sum(map(len, parts.values())) == 600


def test_splits_by_value() -> None:
    table = from_arrays({"index": np.arange(20) % 5, "x": np.arange(20)})
    parts = SPLITS["values"].function(table, on="index", test=[0, 1], valid=2)
    assert {name: sorted(set((rows % 5).tolist())) for name, rows in parts.items()} == {
        "train": [3, 4], "valid": [2], "test": [0, 1],
    }  # fmt: skip
    with pytest.raises(DataError, match="no value `7` for `test`"):
        SPLITS["values"].function(table, on="index", test=7)
    with pytest.raises(DataError, match="both `valid` and `test`"):
        SPLITS["values"].function(table, on="index", test=1, valid=1)
