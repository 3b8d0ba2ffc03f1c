"""Fields: scaling, ids, what is learnt from training rows, and what is said of rows that do not fit."""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import LabelEncoder, MaxAbsScaler, MinMaxScaler, StandardScaler
from trine.runtime.data import DataError, from_arrays
from trine.runtime.data import fields as f

RNG = np.random.default_rng(0)


def table(**columns):
    return from_arrays(columns, "rows.csv")


def fails(function, *parts, error=DataError):
    with pytest.raises(error) as caught:
        function()
    for part in parts:
        assert part in str(caught.value)


def restored(fitted):
    return f.restore(json.loads(json.dumps(fitted.state())))


@pytest.mark.parametrize(("scale", "peer"), [("standard", StandardScaler), ("minmax", MinMaxScaler)])
def test_scaling_equals_scikit_learn(scale, peer):
    x = RNG.normal(50, 20, (90, 3))
    x[:, 2] = 7.0
    train, rest = (table(a=part[:, 0], b=part[:, 1], c=part[:, 2]) for part in (x[:60], x[60:]))
    fitted = f.numbers(columns=["a", "b", "c"], scale=scale).fit(train)
    want = peer().fit(x[:60])
    for t, part in ((train, x[:60]), (rest, x[60:])):
        found = fitted.transform(t)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, want.transform(part), rtol=1e-6, atol=1e-6)
        assert np.array_equal(found, restored(fitted).transform(t))


def test_unit_divides_by_the_largest_magnitude_of_training_rows():
    fitted = f.numbers(column="x", scale="unit").fit(table(x=[-4.0, 2.0]))
    assert fitted.transform(table(x=[8.0, -4.0])).tolist() == [2.0, -1.0]
    assert f.numbers(column="x", scale="unit").fit(table(x=[0.0])).transform(table(x=[0.0])).tolist() == [0.0]
    image = RNG.integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)
    image[0, 0, 0, 0] = 255
    found = f.numbers(column="x", scale="unit").fit(table(x=image)).transform(table(x=image))
    np.testing.assert_allclose(found, image / 255, rtol=1e-6)


@pytest.mark.parametrize("rows", [7, f.CHUNK + 9])
def test_images_are_standardised_by_channel(rows):
    x = RNG.integers(0, 256, (rows, 3, 2, 2), dtype=np.uint8)
    x[:, 2] = 9
    fitted = f.numbers(column="x", scale="standard").fit(table(x=x))
    found = fitted.transform(table(x=x)).astype(np.float64)
    np.testing.assert_allclose(found.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(found.std((0, 2, 3)), [1, 1, 0], atol=1e-6)
    assert np.array_equal(restored(fitted).transform(table(x=x)), fitted.transform(table(x=x)))


def test_the_features_of_vectors_are_scaled_each_by_itself():
    x = RNG.normal([3, -30, 300], [2, 20, 0.2], (50, 3))
    for scale, scaler in (("standard", StandardScaler()), ("minmax", MinMaxScaler()), ("unit", MaxAbsScaler())):
        found = f.numbers(column="x", scale=scale).fit(table(x=x)).transform(table(x=x))
        np.testing.assert_allclose(found, scaler.fit_transform(x), rtol=1e-4, atol=1e-5)


def test_other_arrays_are_scaled_as_a_whole():
    x = RNG.normal(3, 2, (50, 4, 5))
    for scale, want in (("standard", (x - x.mean()) / x.std()), ("minmax", (x - x.min()) / (x.max() - x.min()))):
        found = f.numbers(column="x", scale=scale).fit(table(x=x)).transform(table(x=x))
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("fill", "want"), [("mean", 4.0), ("median", 2.0), ("zero", 0.0), (-1.0, -1.0)])
def test_missing_numbers_are_filled_from_training_rows(fill, want):
    fitted = f.numbers(column="x", fill=fill).fit(table(x=[1.0, 2.0, 9.0, None]))
    assert fitted.transform(table(x=[None, 100.0])).tolist() == [want, 100.0]
    assert restored(fitted).transform(table(x=[None])).tolist() == [want]


def test_numbers_that_cannot_be():
    fitted = f.numbers(column="age").fit(table(age=[1.0, 2.0]))
    fails(
        lambda: fitted.transform(table(age=[1.0, None, None])),
        "column `age` of rows.csv has 2 missing values, first at row 2", "set `fill: median`",
    )  # fmt: skip
    fails(lambda: fitted.transform(table(age=["1", "x"])), "is text (1 row, first `x` at row 2)", "needs numbers")
    fails(lambda: fitted.transform(table(age=["1,5", "2"])), "first `1,5` at row 1", 'decimal: ","')
    fails(lambda: f.numbers(column="x", scale="standard").fit(table(x=[1e300, -1e300])), "too large to be scaled")
    assert fitted.transform(table(age=["1", "007"])).tolist() == [1.0, 7.0]
    fails(lambda: fitted.transform(table(age=[1.0, np.inf])), "1 row with an infinite number, first at row 2")
    fails(lambda: fitted.transform(table(age=[1.0, 1e39])), "row 2 has a number too large for float32")
    fails(lambda: fitted.transform(table(age=np.ones((2, 3)))), "rows of shape [3], the training rows had []")
    fails(lambda: f.numbers(columns=["age"]).fit(table(age=np.ones((2, 3)))), "`column: age`")
    fails(lambda: f.numbers(column="x", fill="mean").fit(table(x=np.array([np.nan]))), "no mean to fill with")
    for arguments in (
        {},
        {"column": "a", "columns": ["b"]},
        {"columns": []},
        {"columns": ["a", "a"]},
        {"column": "a", "fill": np.nan},
    ):
        fails(lambda arguments=arguments: f.numbers(**arguments), "`numbers`", error=f.FieldError)


@given(st.lists(st.text(max_size=3) | st.none(), min_size=1, max_size=20))
def test_ids_of_any_text_go_back_to_their_names(cells):
    fitted = f.ids(column="x").fit(table(x=cells))
    found = fitted.transform(table(x=cells))
    names = [fitted.names[i] for i in found]
    # Blanks at the ends and how accents are composed are no part of a name; of a blank cell nothing is left.
    known = [unicodedata.normalize("NFC", (cell or "").strip()) for cell in cells]
    assert names == [cell or f.MISSING for cell in known]
    assert fitted.size == len(fitted.names) == len(set(names))
    assert np.array_equal(restored(fitted).transform(table(x=cells)), found)


def test_ids_equal_scikit_learn():
    for values in (RNG.choice(["b", "c", "a"], 30), RNG.integers(0, 12, 30)):
        fitted = f.ids(column="x").fit(table(x=values))
        assert np.array_equal(fitted.transform(table(x=values)), LabelEncoder().fit_transform(values))
        assert fitted.names == [str(v) for v in np.unique(values)]
    assert f.ids(column="x").fit(table(x=[2.0, 10.0, 0.5])).names == ["0.5", "2", "10"]


def test_ids_by_frequency_with_room_and_with_the_unseen():
    t = table(x=["b", "a", "a", "c", "c"])
    assert f.ids(column="x", order="frequency").fit(t).names == ["a", "c", "b"]
    fitted = f.ids(column="x", unseen="own", size=9).fit(t)
    assert fitted.names == ["a", "b", "c", "(unseen)", *(f"(reserved {i})" for i in range(4, 9))]
    assert fitted.size == 9
    assert fitted.transform(table(x=["z", "c", None])).tolist() == [3, 2, 3]
    fails(lambda: f.ids(column="x", size=2).fit(t), "has 3 categories (`a`, `b`, `c`), `size` leaves room for 2")


def test_missing_categories():
    with_gap, whole = table(x=["a", None, "b", "b"]), table(x=["a", "b"])
    assert f.ids(column="x").fit(with_gap).names == ["a", "b", "(missing)"]
    assert f.ids(column="x").fit(whole).names == ["a", "b"]
    fails(
        lambda: f.ids(column="x").fit(whole).transform(with_gap), "1 missing value, first at row 2", "no training row"
    )
    assert f.ids(column="x", fill="most_frequent").fit(with_gap).transform(with_gap).tolist() == [0, 1, 1, 1]
    fails(lambda: f.ids(column="x", fill="error").fit(with_gap), "fill: most_frequent")


def test_unseen_categories_are_told_with_their_cure():
    fitted = f.ids(column="income").fit(table(income=["<=50K", ">50K"]))
    test = from_arrays({"income": ["<=50K.", "<=50K.", ">50K."]}, "adult-test.csv.gz")
    fails(
        lambda: fitted.transform(test),
        "column `income` of adult-test.csv.gz has 2 categories that the training rows never have: "
        "`<=50K.` (2 rows, first at row 1), `>50K.` (1 row, first at row 3); training has `<=50K`, `>50K`.",
        'clean: [{strip: {columns: income, characters: "."}}]',
    )  # fmt: skip
    colours = f.ids(column="c").fit(table(c=["Red", "blue"]))
    fails(lambda: colours.transform(table(c=["RED"])), "upper and lower case", 'values: {"RED": "Red"}')
    fails(lambda: colours.transform(table(c=["green"])), "1 category that", "or set `unseen: own`")
    fails(lambda: colours.transform(table(c=list("abcdefgh"))), "8 categories", "and 3 more")


def test_binary():
    fitted = f.binary(column="x").fit(table(x=["no", "yes", "no"]))
    assert fitted.transform(table(x=["yes", "no"])).tolist() == [1.0, 0.0]
    assert fitted.transform(table(x=["yes"])).dtype == np.float32
    assert (fitted.names, fitted.size) == (["no", "yes"], None)
    assert f.binary(column="x", positive="no").fit(table(x=["no", "yes"])).transform(table(x=["no"])).tolist() == [1.0]
    assert f.binary(column="x").fit(table(x=[10, 9])).transform(table(x=[10, 9])).tolist() == [1.0, 0.0]
    assert restored(fitted) == fitted
    fails(
        lambda: f.binary(column="x").fit(table(x=[1, 2, 3])),
        "3 values in the training rows (`1`, `2`, `3`)",
        "encode: ids",
    )
    fails(lambda: f.binary(column="x", positive="y").fit(table(x=["no", "yes"])), "no value `y`")
    fails(lambda: fitted.transform(table(x=["maybe"])), "1 category that the training rows never have")
    fails(lambda: fitted.transform(table(x=["no", None])), "1 missing value, first at row 2")


def test_raw():
    fitted = f.raw(column="x").fit(table(x=[0, 4, 2]))
    assert fitted.size == 5
    assert fitted.transform(table(x=[3.0, 1.0])).tolist() == [3, 1]
    assert restored(fitted) == fitted
    fails(lambda: fitted.transform(table(x=[1, 5])), "1 row with a number of 5 or above, first at row 2", "is 4")
    fails(lambda: f.raw(column="x").fit(table(x=[1.5])), "not whole, first 1.5 at row 1")
    fails(lambda: f.raw(column="x").fit(table(x=[-1])), "below 0")
    fails(lambda: f.raw(column="x").fit(table(x=[1, None])), "1 missing value")


def test_saved_fields_that_cannot_be_read():
    fails(lambda: f.restore({"encode": "id"}), "unknown encoding `id`: did you mean `ids`?")
    fails(lambda: f.restore({"encode": "ids", "column": "x"}), "cannot be read")
    fails(lambda: f.restore({"encode": "numbers"}), "cannot be read")
