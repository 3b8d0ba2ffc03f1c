"""Data sets: declarations, named splits, leaks, fingerprints, and the model against the data."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trine.compiler.ir import Type
from trine.compiler.spec import reader
from trine.compiler.spec.diagnostics import SpecError
from trine.runtime import data as d
from trine.runtime.data import fields as f

MODEL = "model: {inputs: {x: 'float[2]'}, layers: [{linear: 1}]}\n"
ROWS = "a,b,label\n" + "".join(f"{i},{i % 7},{'yes' if i % 3 else 'no'}\n" for i in range(60))
FIELDS = "  fields: {x: {columns: [a, b], scale: standard}, y: {column: label, encode: ids}}\n"


def spec(tmp_path, data, rows=ROWS, name="rows.csv"):
    (tmp_path / name).write_text(rows)
    return reader.read_string(f"spec: 1\n{MODEL}data:\n{data}", tmp_path / "spec.yaml")


def load(tmp_path, data, **files):
    return d.load_dataset(spec(tmp_path, data, **files))


def fails(function, *parts, error=d.DataError):
    with pytest.raises(error) as caught:
        function()
    for part in parts:
        assert part in str(caught.value)
    return caught.value


def test_a_spec_becomes_arrays(tmp_path):
    split = "  split: {train: 0.7, valid: 0.15, test: 0.15, by: stratified, on: y, seed: 3}\n"
    text = "  source: csv:rows.csv\n" + split + FIELDS
    dataset = load(tmp_path, text)
    assert dataset.counts == {"train": 42, "valid": 9, "test": 9}
    assert dataset.sizes == {"y.size": 2}
    train = dataset.splits["train"]
    assert train.arrays["x"].shape == (42, 2)
    np.testing.assert_allclose(train.arrays["x"].mean(0), 0, atol=1e-6)
    assert train.arrays["y"].dtype == np.int64
    again = load(tmp_path, text)
    assert again.fingerprint == dataset.fingerprint
    assert np.array_equal(again.splits["test"].arrays["x"], dataset.splits["test"].arrays["x"])
    assert load(tmp_path, text, rows=ROWS.replace("0,0,no", "0,1,no", 1)).fingerprint != dataset.fingerprint


def test_restored_fields_give_the_same_arrays_without_the_target(tmp_path):
    dataset = load(tmp_path, "  source: csv:rows.csv\n" + FIELDS)
    fields = d.restore_fields(json.loads(json.dumps(dataset.state())))
    rows = dataset.splits["valid"].table
    found = d.transform(fields, rows, ["x", "y"])
    assert all(np.array_equal(found[name], dataset.splits["valid"].arrays[name]) for name in found)
    assert d.transform(fields, d.from_arrays({"a": [1.0], "b": [2.0]}), ["x"])["x"].shape == (1, 2)
    fails(lambda: d.transform(fields, rows, ["z"]), "no field `z`")


def test_default_splits(tmp_path):
    (tmp_path / "test.csv").write_text(ROWS)
    (tmp_path / "valid.csv").write_text(ROWS)
    source = "  source: csv:rows.csv\n"
    test, valid = "  test: csv:test.csv\n", "  valid: csv:valid.csv\n"
    assert load(tmp_path, source + FIELDS).counts == {"train": 48, "valid": 6, "test": 6}
    assert load(tmp_path, source + test + FIELDS).counts == {"train": 54, "valid": 6, "test": 60}
    assert load(tmp_path, source + valid + FIELDS).counts == {"train": 54, "test": 6, "valid": 60}
    assert load(tmp_path, source + test + valid + FIELDS).counts == {"train": 60, "test": 60, "valid": 60}
    assert load(tmp_path, source + test + "  split: {by: order}\n" + FIELDS).counts["train"] == 54
    clash = source + test + "  split: {train: 0.8, valid: 0.1, test: 0.1}\n" + FIELDS
    error = fails(lambda: load(tmp_path, clash), "`test` rows have a source of their own", "found 0.1")
    assert error.span.line == 6


def test_cleaning_mends_every_split_and_options_apply_to_both_sources(tmp_path):
    (tmp_path / "test.csv").write_text("1;2;no.\n")
    rows = ROWS.split("\n", 1)[1].replace(",", ";")
    text = "  source: csv:rows.csv\n  test: csv:test.csv\n  options: {header: [a, b, label], delimiter: ';'}\n"
    fails(lambda: load(tmp_path, text + FIELDS, rows=rows), "column `label` of test.csv has 1 category", "strip")
    clean = "  clean: [{strip: {columns: label, characters: '.'}}]\n"
    dataset = load(tmp_path, text + clean + FIELDS, rows=rows)
    assert dataset.splits["test"].arrays["y"].tolist() == [0]


def test_a_source_with_a_test_split_of_its_own(tmp_path):
    for part, n in (("train", 20), ("t10k", 4)):
        for stem, array in (
            ("images-idx3", np.ones((n, 2, 2), np.uint8)),
            ("labels-idx1", np.arange(n, dtype=np.uint8) % 2),
        ):
            header = (0x800 + array.ndim).to_bytes(4, "big") + b"".join(k.to_bytes(4, "big") for k in array.shape)
            (tmp_path / f"{part}-{stem}-ubyte").write_bytes(header + array.tobytes())
    text = "  fields: {x: {column: image, scale: standard}, y: {column: label, encode: ids}}\n"
    assert load(tmp_path, "  source: idx:.\n" + text).counts == {"train": 18, "valid": 2, "test": 4}
    fails(lambda: load(tmp_path, "  source: idx:.\n  test: csv:rows.csv\n" + text), "brings its own test split")
    fails(lambda: load(tmp_path, "  source: csv:rows.csv\n  test: idx:.\n" + FIELDS), "name it as `source`")


@pytest.mark.parametrize(
    ("data", "code", "part"),
    [
        ("  fields: {x: {columns: [a], scael: unit}}\n", "E214", "did you mean `scale`?"),
        ("  fields: {x: {column: a, encode: idz}}\n", "E211", "did you mean `ids`?"),
        ("  fields: {x: {}}\n", "E204", "either `column` or `columns`"),
        ("  fields: {x: 3}\n", "E203", "field `x` expects a mapping"),
        ("  fields: {1x: {column: a}}\n", "E208", "`1x` cannot name a field"),
        ("  fields: []\n", "E203", "`fields` expects a mapping of names to fields"),
        ("  options: {heder: true}\n" + FIELDS, "E214", "did you mean `header`?"),
        ("  options: 3\n" + FIELDS, "E203", "`options` expects a mapping"),
    ],
)
def test_declarations_are_checked_before_data_are_read(tmp_path, data, code, part):
    error = fails(lambda: load(tmp_path, "  source: csv:absent.csv\n" + data), part, error=SpecError)
    assert [x.code for x in error.diagnostics] == [code]
    assert error.diagnostics[0].span.line > 2


def test_data_errors_know_the_place_in_the_spec(tmp_path):
    source = "  source: csv:rows.csv\n"
    places = [
        ("  source: csv:row.csv\n" + FIELDS, "did you mean `rows.csv`?", 4),
        (source + "  clean: [{drop_rows: {missing: z}}]\n" + FIELDS, "no column `z`", 5),
        (source + "  split: {by: group, on: z}\n" + FIELDS, "no column `z`", 5),
        (source + "  fields: {x: {column: label}}\n", "is text", 5),
    ]
    for text, part, line in places:
        assert fails(lambda text=text: load(tmp_path, text), part).span.line == line
    everything = source + "  clean: [{strip: {columns: label, characters: noyes}}, {drop_rows: {missing: label}}]\n"
    fails(lambda: load(tmp_path, everything + FIELDS), "rows.csv has no rows left after `clean`")


def test_no_data_section(tmp_path):
    fails(lambda: d.load_dataset(reader.read_string(f"spec: 1\n{MODEL}", tmp_path / "spec.yaml")), "no `data` section")


ENCODERS = {
    "n": f.numbers(column="x", scale="standard", fill="median"),
    "m": f.numbers(column="x", scale="minmax", fill="mean"),
    "c": f.ids(column="c", order="frequency", fill="most_frequent", unseen="own"),
}
finite = st.floats(-1e6, 1e6) | st.none()
rows = st.lists(st.tuples(finite, st.sampled_from(["a", "b", "c", None])), min_size=1, max_size=8)


@given(rows, rows, rows)
@settings(deadline=None)
def test_rows_that_are_not_trained_on_change_nothing_that_is_learnt(valid, other, test):
    def make(cells):
        return d.from_arrays({"x": [c[0] for c in cells], "c": [c[1] for c in cells]})

    train = make([(1.0, "a"), (2.0, "b"), (None, None), (4.0, "b")])
    one = d.dataset_from_tables({"train": train, "valid": make(valid)}, ENCODERS)
    two = d.dataset_from_tables({"train": train, "valid": make(other), "test": make(test)}, ENCODERS)
    assert json.dumps(one.state()) == json.dumps(two.state())
    assert one.sizes == two.sizes
    for name in ENCODERS:
        assert np.array_equal(one.splits["train"].arrays[name], two.splits["train"].arrays[name])


def test_training_rows_are_needed():
    fails(lambda: d.dataset_from_tables({"valid": d.from_arrays({"x": [1]})}, ENCODERS), "no training rows")
    fails(lambda: d.dataset_from_tables({"train": d.from_arrays({"x": []})}, ENCODERS), "no training rows")


def test_the_model_is_checked_against_the_data():
    table = d.from_arrays(
        {"image": np.ones((3, 8, 8)), "c": ["a", "b", "a"], "s": np.ones((3, 5)), "t": np.ones((3, 7))}
    )
    encoders = {name: f.numbers(column=name) for name in ("image", "s", "t")} | {"c": f.ids(column="c")}
    dataset = d.dataset_from_tables({"train": table}, encoders)

    def check(bounds=None, **inputs):
        d.check_against({name: Type.parse(text) for name, text in inputs.items()}, dataset, bounds)

    check(image="f32[N, 8, 8]", c="i64[N]", s="f32[N, T]", t="f32[N, U]", bounds={"T": 5})
    message = "the model's input `image` is float[1, 28, 28], the field `image` is float[8, 8]"
    fails(lambda: check(image="f32[N, 1, 28, 28]"), message)
    fails(lambda: check(image="f32[N, 8, 9]"), "is float[8, 9], the field `image` is float[8, 8]")
    fails(lambda: check(c="f32[N]"), "`c` is float, the field `c` is int", "encode: numbers")
    fails(lambda: check(s="i64[N, 5]"), "`encode: ids` makes a field int")
    fails(lambda: check(imag="f32[N, 8, 8]"), "no field is called so: did you mean `image`?")
    fails(lambda: check(s="f32[N, T]", bounds={"T": 4}), "T is at most 4")
    fails(lambda: check(s="f32[N, T]", t="f32[N, T]"), "T is 5 in the field `s` and 7 in this")


def test_importing_the_package_imports_no_framework():
    import subprocess
    import sys

    code = "import sys, trine.runtime.data; print({'torch', 'onnx', 'sklearn', 'pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
