"""Sources: what is read, and what is said of files that cannot be."""

import gzip
import struct

import numpy as np
import pytest
import trine.runtime.data  # noqa: F401
from trine.compiler.spec.registry import CLEANERS, ENCODERS, SOURCES, SPLITS
from trine.runtime.data import DataError, from_arrays
from trine.runtime.data import sources as s
from trine.runtime.data import table as t


def write(folder, text, name="rows.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return name


def fails(function, *parts):
    with pytest.raises(DataError) as caught:
        function()
    for part in parts:
        assert part in str(caught.value)
    return str(caught.value)


def test_csv_types_blanks_and_missing(tmp_path):
    name = write(tmp_path, "a, b,c ,d\n1, x ,?,nan\n\n 2.5,,4,1\n")
    table = s.csv(name, tmp_path, missing="?")
    assert list(table.columns) == ["a", "b", "c", "d"]
    assert table.column("a").values.dtype == np.float64
    assert table.column("a").values.tolist() == [1.0, 2.5]
    assert table.column("b").values.tolist() == ["x", ""]
    assert table.column("b").missing.tolist() == [False, True]
    assert table.column("c").missing.tolist() == [True, False]
    assert not table.column("c").is_text
    assert table.column("d").is_text, "`nan` is text"
    assert table.rows.tolist() == [1, 2]


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "NaN", "1_000", "1e999", "١"])
def test_what_python_calls_a_number_and_files_do_not(tmp_path, cell):
    assert s.csv(write(tmp_path, f"a\n1\n{cell}\n"), tmp_path).column("a").is_text


def test_csv_headers(tmp_path):
    name = write(tmp_path, "1;2\n3;4\n")
    assert list(s.csv(name, tmp_path, header=False, delimiter=";").columns) == ["0", "1"]
    table = s.csv(name, tmp_path, header=["x", "y"], delimiter=";")
    assert table.column("y").values.tolist() == [2, 4]
    assert s.csv(name, tmp_path, header=["x", "y"], delimiter=";", text=["x"]).column("x").values.tolist() == ["1", "3"]
    fails(
        lambda: s.csv(name, tmp_path, header=["x"], delimiter=";"),
        "row 1 (line 1) has 2 cells",
        "`header` has 1 column",
    )


def test_csv_gz_bom_quotes_and_encodings(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress('\ufeffa,b\n"x, y",1\n'.encode()))
    table = s.csv("a.csv.gz", tmp_path)
    assert table.column("a").values.tolist() == ["x, y"]
    assert table.source == "a.csv.gz"
    latin = write(tmp_path, "a\nné\n", encoding="latin-1")
    fails(lambda: s.csv(latin, tmp_path), "rows.csv is not utf-8 text: byte 3 (line 2)", "encoding")
    assert s.csv(latin, tmp_path, encoding="latin-1").column("a").values.tolist() == ["né"]
    fails(lambda: s.csv(latin, tmp_path, encoding="klingon"), "no encoding `klingon`")
    inches = write(tmp_path, 'a\tb\n5" pipe\t"x\n')
    assert s.csv(inches, tmp_path, delimiter="\t", quote="").column("b").values.tolist() == ['"x']


def test_whole_numbers_that_floats_would_round_stay_exact(tmp_path):
    big = [2**53 + 1, 2**53 + 3]
    column = s.csv(write(tmp_path, f"id\n{big[0]}\n{big[1]}\n"), tmp_path).column("id")
    assert column.values.dtype == np.int64
    assert column.values.tolist() == big


def test_ragged_rows_are_named(tmp_path):
    name = write(tmp_path, "a,b\n1,2\n\n3\n4,5,6\n")
    fails(lambda: s.csv(name, tmp_path), "rows.csv: row 2 (line 4) has 1 cell, the header has 2 columns", "1 more row;")


def test_broken_csv_files(tmp_path):
    fails(lambda: s.csv(write(tmp_path, ""), tmp_path), "rows.csv is empty")
    fails(lambda: s.csv(write(tmp_path, "a,b\n"), tmp_path), "a header and no rows")
    fails(lambda: s.csv(write(tmp_path, "a,b,a\n1,2,3\n"), tmp_path), "the column name `a` 2 times (columns 1 and 3)")
    fails(lambda: s.csv(write(tmp_path, 'a,b\n1,2\n"3,4\n5,6\n'), tmp_path), "line 3", "quote")
    fails(lambda: s.csv("row.csv", tmp_path), "there is no file", "did you mean `rows.csv`?")
    fails(lambda: s.csv("no/row.csv", tmp_path), "nor is there a folder")
    fails(lambda: s.csv(".", tmp_path), "is a folder")
    fails(lambda: s.csv("a\0b", tmp_path), "cannot read")
    fails(lambda: s.csv("rows.csv", tmp_path, delimiter=",,"), "single characters")
    fails(lambda: s.csv(write(tmp_path, "a\n1\n"), tmp_path, text=["z"]), "`text` names a column `z`")
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 1000)
    for content in (whole[:-9], whole[:20], b"plain", whole[:30] + b"\xff\xff" + whole[32:]):
        (tmp_path / "b.csv.gz").write_bytes(content)
        fails(lambda: s.csv("b.csv.gz", tmp_path), "is not a complete gzip file")


def test_sklearn_sources(tmp_path):
    digits = s.sklearn("digits", tmp_path)
    assert digits.column("image").values.shape == (1797, 8, 8)
    assert digits.column("image").values.max() == 16.0
    assert digits.column("target").values.dtype == np.int64
    iris = s.sklearn("iris", tmp_path)
    assert set(iris.column("target").values) == {"setosa", "versicolor", "virginica"}
    assert iris.column("features").values[:, 0].tolist() == iris.column("sepal_length_cm").values.tolist()
    assert "od280_od315_of_diluted_wines" in s.sklearn("wine", tmp_path).columns
    assert set(s.sklearn("breast_cancer", tmp_path).column("target").values) == {"benign", "malignant"}
    diabetes = s.sklearn("diabetes", tmp_path)
    assert diabetes.column("age").values[0] == 59.0
    assert diabetes.column("target").values.dtype == np.float64
    fails(lambda: s.sklearn("digit", tmp_path), "did you mean `digits`?")


def test_scikit_learn_may_be_absent(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(s.packaged.importlib, "import_module", absent)
    fails(lambda: s.sklearn("iris", tmp_path), "pip install scikit-learn")


def test_npz(tmp_path):
    np.savez(
        tmp_path / "a.npz", x=np.ones((3, 2), np.float32), y=np.array(["a", "b", "c"]), z=np.array([1, 2, 3], np.uint8)
    )
    table = s.npz("a.npz", tmp_path)
    assert table.column("x").values.shape == (3, 2)
    assert table.column("y").is_text
    assert table.column("z").values.dtype == np.int64
    np.savez(tmp_path / "b.npz", x=np.ones(3), y=np.ones(2))
    fails(lambda: s.npz("b.npz", tmp_path), "`x` has 3 rows, column `y` has 2")
    np.savez(tmp_path / "c.npz", x=np.array([{}, []], dtype=object))
    fails(lambda: s.npz("c.npz", tmp_path), "`x` is an array of Python objects", "safety")
    np.save(tmp_path / "d.npy", np.ones(2))
    fails(lambda: s.npz("d.npy", tmp_path), "no complete `.npz` archive")
    for content in (b"", b"junk", (tmp_path / "a.npz").read_bytes()[:90]):
        (tmp_path / "e.npz").write_bytes(content)
        fails(lambda: s.npz("e.npz", tmp_path), "no complete `.npz` archive")
    np.savez(tmp_path / "f.npz", x=np.float64(1))
    fails(lambda: s.npz("f.npz", tmp_path), "`x` is a single value")
    np.savez(tmp_path / "g.npz", x=np.ones(2, complex))
    fails(lambda: s.npz("g.npz", tmp_path), "complex128")


def write_idx(folder, stem, array, magic=None, cut=0, suffix=""):
    content = (
        struct.pack(">I", magic or 0x800 + array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    )
    content = content[: len(content) - cut]
    (folder / f"{stem}-ubyte{suffix}").write_bytes(gzip.compress(content) if suffix else content)


def images(n):
    return np.arange(n * 12, dtype=np.uint8).reshape(n, 4, 3)


def test_idx(tmp_path):
    write_idx(tmp_path, "train-images-idx3", images(5), suffix=".gz")
    write_idx(tmp_path, "train-labels-idx1", np.arange(5, dtype=np.uint8))
    train = s.idx(".", tmp_path)
    assert train.column("image").values.shape == (5, 1, 4, 3)
    assert train.column("label").values.tolist() == [0, 1, 2, 3, 4]
    write_idx(tmp_path, "t10k-images-idx3", images(2))
    fails(lambda: s.idx(".", tmp_path), "has no file `t10k-labels-idx1-ubyte`")
    write_idx(tmp_path, "t10k-labels-idx1", np.zeros(2, np.uint8))
    tables = s.idx(".", tmp_path)
    assert {name: len(t) for name, t in tables.items()} == {"train": 5, "test": 2}
    assert np.array_equal(tables["test"].column("image").values[:, 0], images(2))


def test_broken_idx(tmp_path):
    fails(lambda: s.idx("nowhere", tmp_path), "there is no folder")
    write_idx(tmp_path, "train-labels-idx1", np.arange(4, dtype=np.uint8))
    fails(lambda: s.idx(".", tmp_path), "`train-images-idx3-ubyte`")
    write_idx(tmp_path, "train-images-idx3", images(5))
    fails(lambda: s.idx(".", tmp_path), "5 images and 4 labels")
    write_idx(tmp_path, "train-images-idx3", images(5), cut=1)
    fails(lambda: s.idx(".", tmp_path), "60 bytes, and has 59")
    write_idx(tmp_path, "train-images-idx3", images(5), magic=0x801)
    fails(lambda: s.idx(".", tmp_path), "0x00000801, expected 0x00000803")
    write_idx(tmp_path, "train-images-idx3", images(5), cut=65)
    fails(lambda: s.idx(".", tmp_path), "ends within its header")


def test_from_arrays():
    table = from_arrays({
        "text": ["a", None, "c"], "number": [1.0, float("nan"), 3], "whole": [1, None, 3], "grid": np.zeros((3, 2, 2)),
        "numpy": np.array(["x", "yy", "z"]), "mixed": ["a", float("nan"), "nan"], "flag": [True, False, True],
    })  # fmt: skip
    assert table.column("text").missing.tolist() == [False, True, False]
    assert table.column("number").missing.tolist() == [False, True, False]
    assert table.column("whole").values[[0, 2]].tolist() == [1, 3]
    assert table.column("whole").missing.tolist() == [False, True, False]
    assert table.column("grid").shape == (2, 2)
    assert table.column("numpy").is_text
    assert table.column("mixed").missing.tolist() == [False, True, False]
    assert table.column("flag").values.tolist() == [1, 0, 1]
    assert table.take(np.array([2, 0])).rows.tolist() == [3, 1]
    fails(lambda: table.column("texts"), "the given arrays has no column `texts`: did you mean `text`?")


@pytest.mark.parametrize(
    ("value", "part"),
    [(["a", 1], "mixes text and numbers"), ([[1], ["a"]], "more than their length"), (3, "single value"),
     ([{}, {}], "holds a dict"), ([1, 2**70], "64 bits"), (np.array([2**63], np.uint64), "2**63"),
     ([["a"], 3], "neither a list of text"), (np.array([["2020-01-01"]], "M8"), "one time per row")],
)  # fmt: skip
def test_from_arrays_refuses(value, part):
    fails(lambda: from_arrays({"x": value}), "the given arrays: `x`", part)


def test_rows_of_sequences():
    table = from_arrays({"words": [["a", "b"], None, []], "sound": [[1], [1, 2], [0.5]], "even": [["a"], ["b"], ["c"]]})
    assert table.column("words").lengths.tolist() == [2, 0, 0]
    assert table.column("words").missing.tolist() == [False, True, False]
    assert [row.tolist() for row in table.column("sound").values] == [[1], [1, 2], [0.5]]
    assert table.take(np.array([2, 0])).column("even").values[1].tolist() == ["a"]
    assert not table.column("even").is_text
    for use in ("flat", "numeric"):
        fails(lambda use=use: getattr(t, use)(table, "words", "this"), "a sequence in each row")


def test_no_columns_and_unequal_columns():
    fails(lambda: from_arrays({}), "has no columns")
    fails(lambda: from_arrays({"a": [1], "b": [1, 2]}), "column `a` has 1 row, column `b` has 2")


@pytest.mark.parametrize("registry", [SOURCES, CLEANERS, SPLITS, ENCODERS], ids=lambda r: r.noun)
def test_everything_registered_is_documented(registry):
    from trine.compiler.spec.kinds import params_of

    own = [e for e in registry.values() if e.function.__module__.startswith("trine.runtime.data")]
    assert own
    for entry in own:
        assert entry.summary and "Example: " in entry.doc, entry.name
        for param in params_of(entry):
            assert param.doc, f"{entry.name}.{param.name}"
            assert param.kind.words and param.kind.schema()
