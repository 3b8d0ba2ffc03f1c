"""Sources of rows with sequences: JSON lines, tokens in columns, Parquet."""

from __future__ import annotations

import gzip
import json
import random
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from trine.compiler.spec import reader
from trine.runtime.data import DataError, declare_options, load_dataset, read_tables
from trine.runtime.data import sources as s
from trine.runtime.data.table import Column, Table
from trine.runtime.prediction import read_rows

MODEL = "spec: 1\nmodel: {inputs: {x: float}, layers: [{linear: 1}]}\n"


def fails(function: Callable[[], object], *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        function()
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def counts(tmp_path: Path, data: str) -> dict[str, int]:
    """The rows of the splits of a spec with this `data` section."""
    return load_dataset(reader.read_string(f"{MODEL}data:\n{data}", tmp_path / "spec.yaml")).counts


def plain(column: Column) -> list[Any]:
    """The rows of a column as lists, `None` where they are missing."""
    return [None if gone else np.asarray(v).tolist() for v, gone in zip(column.values, column.missing, strict=True)]


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode())
    return name


# ------------------------------------------------------------------------------------- JSON lines


def jsonl(folder: Path, *rows: object) -> Table:
    return s.jsonl(write(folder, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)), folder)


def test_json_lines(tmp_path: Path) -> None:
    table = jsonl(
        tmp_path,
        {
            "t": "a\u2028b",
            "n": 1,
            "b": True,
            "words": ["x", "yé"],
            "steps": [1, 2],
            "box": [0.5, 1],
            "user": {"id": 2**60},
        },
        {"t": "", "n": 0.5, "b": False, "words": [], "steps": [], "box": [2, 3], "user": {"id": 1, "at": {"x": "u"}}},
        {"t": None, "b": None, "none": None, "words": None, "steps": [3.5], "box": None},
    )
    assert list(table.columns) == ["t", "n", "b", "words", "steps", "box", "user.id", "user.at.x", "none"]
    assert plain(table.column("t")) == ["a\u2028b", "", None]
    assert plain(table.column("n")) == [1, 0.5, None]
    assert plain(table.column("b")) == [1, 0, None]
    assert plain(table.column("user.id")) == [2**60, 1, None]
    assert plain(table.column("user.at.x")) == [None, "u", None]
    assert table.column("none").missing.all()
    words, steps, box = (table.column(name) for name in ("words", "steps", "box"))
    assert words.ragged and plain(words) == [["x", "yé"], [], None]
    assert {row.dtype for row in words.values} == {np.dtype(object)}
    assert steps.ragged and plain(steps) == [[1, 2], [], [3.5]]
    assert {row.dtype for row in steps.values} == {np.dtype(np.float64)}
    assert not box.ragged and box.shape == (2,) and plain(box) == [[0.5, 1], [2, 3], None]


def test_lists_of_one_shape_are_arrays(tmp_path: Path) -> None:
    table = jsonl(
        tmp_path, {"grid": [[1, 2], [3, 4]], "flags": [True, False]}, {"grid": [[5, 6], [7, 8]], "flags": [True, True]}
    )
    assert table.column("grid").values.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert table.column("grid").values.dtype == np.int64
    assert table.column("flags").values.dtype == np.uint8
    nan = jsonl(tmp_path, {"x": [1.0, float("nan")], "y": float("nan")}, {"x": [1, 2], "y": 3})
    assert nan.column("x").missing.tolist() == nan.column("y").missing.tolist() == [True, False]
    empty = jsonl(tmp_path, {"x": []}, {"x": []})
    assert empty.column("x").ragged and empty.column("x").lengths.tolist() == [0, 0]


def test_json_lines_compressed_and_with_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress('\ufeff{"a": 1}\r\n\r\n  {"a": 2}'.encode()))
    assert s.jsonl("a.jsonl.gz", tmp_path).column("a").values.tolist() == [1, 2]
    (tmp_path / "b.jsonl").write_bytes('{"a": "é"}'.encode("latin-1"))
    fails(lambda: s.jsonl("b.jsonl", tmp_path), "b.jsonl is not utf-8 text", "set `encoding`")
    assert s.jsonl("b.jsonl", tmp_path, encoding="latin-1").column("a").values.tolist() == ["é"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["a.jsonl is empty"]),
        ("\n\n", ["a.jsonl is empty"]),
        ("{}\n{}", ["has no columns"]),
        ('{"a": 1}\n\n{"a": 1', ["a.jsonl: line 3 is not JSON: Expecting", "at character 8"]),
        ("[1]", ["line 1 holds a list, expected an object"]),
        ("null", ["line 1 holds null"]),
        ('{"a": 1}\n3', ["line 2 holds a single value"]),
        ('{"a": 1}\n{"a": "x"}', ["line 2: `a` is text, in line 1 it is a number"]),
        ('{"a": []}\n{"a": 1}', ["line 2: `a` is a number, in line 1 it is a list"]),
        ('{"a": "x"}\n{"a": []}', ["line 2: `a` is a list, in line 1 it is text"]),
        ('{"a": ["x"]}\n{"a": []}\n{"a": [1]}', ["line 3: `a` is a list of numbers, in line 1 it is a list of text"]),
        ('{"a": []}\n{"a": ["x"]}\n{"a": [1]}', ["line 3: `a` is a list of numbers, in line 2 it is a list of text"]),
        ('{"a": ["x", 1]}', ["line 1: `a` is a list of more than text alone or numbers alone"]),
        ('{"a": [{"b": 1}]}', ["line 1: `a` is a list of more than"]),
        ('{"a": [1, null]}', ["line 1: `a` is a list of more than", "nulls"]),
        ('{"a": [[1], [1, 2]]}', ["line 1: `a` has lists of different lengths"]),
        ('{"a": {"b": 1}, "a.b": 2}', ["line 1 has the column `a.b` twice"]),
        (f'{{"a": {2**63}}}', [f"line 1: `a` has the whole number {2**63}, which does not fit in 64 bits"]),
        (f'{{"a": [1, {-(2**63) - 1}]}}', ["does not fit in 64 bits"]),
        ('{"a": ' + "9" * 5000 + "}", ["line 1 cannot be read"]),
        ("[" * 100_000, ["line 1 has objects or lists too deep"]),
    ],
)  # fmt: skip
def test_json_lines_that_are_no_rows(tmp_path: Path, text: str, parts: list[str]) -> None:
    fails(lambda: s.jsonl(write(tmp_path, "a.jsonl", text), tmp_path), *parts)


def test_a_spec_reads_json_lines(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "".join(json.dumps({"m": {"x": i}}) + "\n" for i in range(10)))
    assert counts(tmp_path, "  source: jsonl:a.jsonl\n  fields: {x: {column: m.x}}\n") == {
        "train": 8,
        "valid": 1,
        "test": 1,
    }


def test_rows_to_predict_are_read_likewise(tmp_path: Path) -> None:
    def read(name: str, text: str) -> Table:
        return read_rows(tmp_path / write(tmp_path, name, text), None)  # only for .csv does the model matter

    for table in (
        read("a.jsonl", '{"u": {"x": 1}}\n{"t": "a\u2028"}\n'),
        read("a.json", '[{"u": {"x": 1}}, {"t": "a\u2028"}]'),
        read("b.json", '{"u.x": [1, null], "t": [null, "a\u2028"]}'),
    ):
        assert {name: plain(column) for name, column in table.columns.items()} == {
            "u.x": [1, None], "t": [None, "a\u2028"],
        }  # fmt: skip
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(b'[{"a": 1}]'))
    assert len(read_rows(tmp_path / "c.json.gz", None)) == 1
    fails(lambda: read("a.json", '[{"a": 1}, {"a": "x"}]'), "a.json: row 2: `a` is text, in row 1 it is a number")
    fails(lambda: read("a.json", "[1]"), "a.json: row 1 holds a single value, expected an object")
    fails(lambda: read("a.json", "[]"), "holds no rows: expected a list of objects, or an object of columns")
    fails(lambda: read("a.json", "{"), "cannot be read as JSON")
    fails(lambda: read("a.json", "[" * 100_000), "cannot be read as JSON")


# ---------------------------------------------------------------------------------- tokens in columns

TAGGED = "-DOCSTART- O\n\n\n@paul\tO\nIt\u2028s\tB-x\n\t\nEmpire \xa0\tI-x\n \n\n"


def test_tokens_divided_by_tabs(tmp_path: Path) -> None:
    table = s.conll(write(tmp_path, "a.conll", TAGGED.replace("\n", "\r\n")), tmp_path)
    assert isinstance(table, Table)
    assert plain(table.column("0")) == [["@paul", "It\u2028s"], ["Empire \xa0"]]
    assert plain(table.column("1")) == [["O", "B-x"], ["I-x"]]
    assert all(column.ragged and column.values[0].dtype == object for column in table.columns.values())
    assert table.source == "a.conll"


def test_tokens_divided_by_blanks(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- -X- O\n\nEU  NNP B-NP\tB-ORG\nrejects VBZ B-VP O".replace("\t", " ")
    table = s.conll(write(tmp_path, "a.txt", text), tmp_path, header=["word", "pos", "chunk", "ner"])
    assert isinstance(table, Table)
    assert {name: plain(column) for name, column in table.columns.items()} == {
        "word": [["EU", "rejects"]], "pos": [["NNP", "VBZ"]], "chunk": [["B-NP", "B-VP"]], "ner": [["B-ORG", "O"]],
    }  # fmt: skip


def test_comments(tmp_path: Path) -> None:
    name = write(tmp_path, "a.conllu", "# text = # a\n1\t#\n#\ta\n\n# end\n1\tb\n")
    table = s.conll(name, tmp_path, comments=True)
    assert isinstance(table, Table)
    assert plain(table.column("0")) == [["1", "#"], ["1"]]
    fails(lambda: s.conll(name, tmp_path), "a.conllu: line 2 has 2 columns, line 1 has 5 (divided by blanks)")


def test_the_splits_of_a_folder(tmp_path: Path) -> None:
    for name, rows in (("wnut17train.conll", 3), ("emerging.dev.conll", 2), ("emerging.test.annotated", 1)):
        write(tmp_path, f"w/{name}", "a O\n\n" * rows)
    for name in ("w/README.md", "w/SOURCE.txt", "w/.test.txt", "w/submissions/test.txt", "w/train.py"):
        write(tmp_path, name, "nothing of this is read\n")
    tables = s.conll("w", tmp_path)
    assert isinstance(tables, dict)
    assert {name: (len(t), t.source) for name, t in tables.items()} == {
        "train": (3, "wnut17train.conll"), "valid": (2, "emerging.dev.conll"), "test": (1, "emerging.test.annotated"),
    }  # fmt: skip
    write(tmp_path, "w/test2.tsv", "a O\n")
    fails(lambda: s.conll("w", tmp_path), "two files for the split test: `emerging.test.annotated` and `test2.tsv`")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["eng.train.txt", "eng.testa.txt", "eng.testb.txt"], ["train", "valid", "test"]),
        (["TRAIN.BIO", "validation.iob2"], ["train", "valid"]),
        (["latest-train.conll", "latest-test.conll"], ["train", "test"]),
        (["train.txt.gz"], ["train"]),
    ],
)
def test_names_tell_splits(tmp_path: Path, names: list[str], splits: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for name in [*names, "other.txt"]:
            archive.writestr(name, gzip.compress(b"a O\n") if name.endswith("gz") else b"a O\n")
    tables = s.conll("w.zip", tmp_path)
    assert list(tables) == splits if isinstance(tables, dict) else False


def test_tokens_that_cannot_be_read(tmp_path: Path) -> None:
    fails(
        lambda: s.conll(write(tmp_path, "a.bio", "a O\n\nb O x\n"), tmp_path),
        "a.bio: line 3 has 3 columns, line 1 has 2",
    )
    fails(lambda: s.conll(write(tmp_path, "a.bio", "a\tO\nb O\n"), tmp_path), "line 2 has 1 column", "divided by tabs")
    fails(lambda: s.conll(write(tmp_path, "a.bio", "\n\t\n-DOCSTART-\n"), tmp_path), "a.bio is empty: it has no tokens")
    name = write(tmp_path, "a.bio", "\na O\n")
    fails(lambda: s.conll(name, tmp_path, header=["a"]), "`header` names 1 column, a.bio has 2 (line 2)")
    fails(lambda: s.conll(name, tmp_path, header=["a", "a"]), "`header` has a name twice")
    fails(lambda: s.conll("b.bio", tmp_path), "there is no file", "did you mean `a.bio`?")
    fails(lambda: s.conll(".", tmp_path), "no file for training, with `train` in its name: its files are `a.bio`")
    (tmp_path / "empty").mkdir()
    fails(lambda: s.conll("empty", tmp_path), "no file there ends in .conll, .annotated")
    (tmp_path / "b.bio").write_bytes(b"\xff O\n")
    fails(lambda: s.conll("b.bio", tmp_path), "b.bio is not utf-8 text: byte 0 (line 1)")


def test_a_spec_reads_tokens(tmp_path: Path) -> None:
    for split, rows in (("train", 4), ("dev", 2), ("test", 3)):
        write(tmp_path, f"w/{split}.txt", "a O\nb O\n\n" * rows)
    text = "  source: conll:w\n  options: {header: [word, tag]}\n  fields: {x: {column: tag}}\n"
    spec = reader.read_string(f"{MODEL}data:\n{text}", tmp_path / "spec.yaml")
    data = spec.sections.data
    options = declare_options(data, spec.scope, spec.report)
    tables = read_tables(data, tmp_path, options)[0]
    assert {name: len(table) for name, table in tables.items()} == {"train": 4, "valid": 2, "test": 3}
    assert plain(tables["test"].column("tag"))[0] == ["O", "O"]


# ---------------------------------------------------------------------------------------- Parquet


def parquet(folder: Path, columns: dict[str, pa.Array], name: str = "a.parquet", **options: Any) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / name, **options)
    return name


def test_parquet_types(tmp_path: Path) -> None:
    zone = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    columns = {
        "whole": pa.array([2**60 + 1, None, -3]),
        "u8": pa.array([1, 2, 3], pa.uint8()),
        "half": pa.array([0.5, None, float("nan")]),
        "flag": pa.array([True, None, False]),
        "text": pa.array(["a", None, ""]),
        "large": pa.array(["é", "", None], pa.large_string()),
        "class": pa.array(["x", "y", None]).dictionary_encode(),
        "day": pa.array([date(2020, 1, 2), None, date(1969, 12, 31)]),
        "day64": pa.array([date(2020, 1, 2), None, date(1, 1, 1)], pa.date64()),
        "time": pa.array([datetime(2020, 1, 2, 3, 4, 5, 6), None, datetime(1960, 1, 1)], pa.timestamp("us")),
        "zone": pa.array([zone, None, zone], pa.timestamp("s", "Europe/Berlin")),  # which Parquet keeps in ms
        "null": pa.nulls(3),
        "steps": pa.array([[1, 2], None, [2**60 + 1]]),
        "words": pa.array([["a"], [], ["b", "c"]]),
        "box": pa.array([[0.5, 1], None, [2, 3]], pa.list_(pa.float32(), 2)),
        "flags": pa.array([[True], [False], [True]], pa.large_list(pa.bool_())),
        "tags": pa.array([["a"], [], None], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        "a.b": pa.array([1, 2, 3]),
    }
    table = s.parquet(parquet(tmp_path, columns), tmp_path)
    assert list(table.columns) == list(columns)
    found = {name: plain(table.column(name)) for name in columns}
    for name in columns.keys() - {"half", "day", "day64", "time", "zone"}:
        assert found[name] == columns[name].to_pylist(), name
    assert found["half"] == [0.5, None, None]
    assert found["day"] == ["2020-01-02", None, "1969-12-31"]
    assert found["day64"] == ["2020-01-02", None, "0001-01-01"]
    assert found["time"] == ["2020-01-02T03:04:05.000006", None, "1960-01-01T00:00:00.000000"]
    assert found["zone"] == ["2020-01-02T03:04:05.000Z", None, "2020-01-02T03:04:05.000Z"]
    assert table.column("whole").values.dtype == np.int64
    assert not table.column("box").ragged and table.column("box").values.dtype == np.float32
    assert table.column("words").ragged and table.column("words").values[1].dtype == object
    assert table.column("flags").values.dtype == np.uint8


def test_parquet_in_batches_and_chosen_columns(tmp_path: Path) -> None:
    """Many row groups and more rows than a batch holds; what is chosen comes in the order asked for."""
    rows = 150_000
    columns = {
        "x": pa.array(np.arange(rows)),
        "odd": pa.array([{"a": 1}] * rows),
        "w": pa.array([["a"] * (i % 3) for i in range(rows)]),
        "c": pa.array([str(i % 5) for i in range(rows)]).dictionary_encode(),
    }
    name = parquet(tmp_path, columns, row_group_size=40_000)
    table = s.parquet(name, tmp_path, columns=["w", "x", "c"])
    assert list(table.columns) == ["w", "x", "c"]
    assert np.array_equal(table.column("x").values, np.arange(rows))
    assert table.column("w").lengths.tolist() == [i % 3 for i in range(rows)]
    assert table.column("c").values.tolist() == columns["c"].to_pylist()
    fails(
        lambda: s.parquet(name, tmp_path, columns=["y"]), "`columns` names `y`, which a.parquet does not have", "`odd`"
    )
    fails(lambda: s.parquet(name, tmp_path, columns=["odd"]), "a.parquet: column `odd` has the type struct<a: int64>")
    fails(lambda: s.parquet(name, tmp_path).column("odd"), "a.parquet: column `odd` has the type struct<a: int64>")


def test_folders_and_archives_of_parquet_files(tmp_path: Path) -> None:
    for name, x in (("2", 3), ("1", 1), ("10", 2)):
        parquet(tmp_path, {"x": pa.array([x, x])}, f"set/part-{name}.parquet")
    write(tmp_path, "set/_SUCCESS", "")
    assert s.parquet("set", tmp_path).column("x").values.tolist() == [1, 1, 2, 2, 3, 3]
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in (tmp_path / "set").iterdir():
            archive.write(path, path.name)
    assert s.parquet("set.zip", tmp_path).column("x").values.tolist() == [1, 1, 2, 2, 3, 3]
    assert s.parquet("set.zip/part-2.parquet", tmp_path).column("x").values.tolist() == [3, 3]
    parquet(tmp_path, {"x": pa.array(["a"])}, "set/part-3.parquet")
    fails(
        lambda: s.parquet("set", tmp_path), "column `x` is string in `part-3.parquet` and int64 in the files before it"
    )
    parquet(tmp_path, {"x": pa.array([1]), "y": pa.array([1])}, "set/part-3.parquet")
    fails(lambda: s.parquet("set", tmp_path), "column `y` is int64 in `part-3.parquet` and absent in the files before")
    assert len(s.parquet("set", tmp_path, columns=["x"])) == 7


@pytest.mark.parametrize(
    ("column", "part"),
    [
        (pa.array([{"a": 1}]), "column `x` has the type struct"),
        (pa.array([b"a"]), "column `x` has the type binary"),
        (pa.array([[[1]]]), "column `x` has the type list<element: list"),
        (pa.array([1], pa.decimal128(5)), "column `x` has the type decimal128"),
        (pa.array([1], pa.time32("s")), "column `x` has the type time32"),
        (pa.array([[1], [2, None]]), "column `x` has a list with a null in it, in row 2"),
        (pa.array([["a"], None, [None]]), "column `x` has a list with a null in it, in row 3"),
        (pa.array([2**63], pa.uint64()), "`x` has numbers of 2**63 and above"),
        (pa.array([], pa.int64()), "has no rows"),
    ],
)
def test_parquet_that_no_column_can_hold(tmp_path: Path, column: pa.Array, part: str) -> None:
    fails(lambda: s.parquet(parquet(tmp_path, {"x": column}), tmp_path), part)


def test_parquet_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(lambda: s.parquet("a.parquet", tmp_path), "there is no file")
    fails(lambda: s.parquet(".", tmp_path), "has no Parquet files: no file there ends in `.parquet`")
    pq.write_table(pa.table([pa.array([1]), pa.array([1])], names=["x", "x"]), tmp_path / "a.parquet")
    fails(lambda: s.parquet("a.parquet", tmp_path), "a.parquet has the column name `x` 2 times")
    whole = (tmp_path / parquet(tmp_path, {"x": pa.array(range(500)), "w": pa.array([["a", "b"]] * 500)})).read_bytes()
    rng = random.Random(0)
    for content in (b"", b"junk" * 30, whole[:-40], whole[40:]):
        (tmp_path / "a.parquet").write_bytes(content)
        fails(lambda: s.parquet("a.parquet", tmp_path), "a.parquet` cannot be read as Parquet")
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] = rng.randrange(256)
        (tmp_path / "a.parquet").write_bytes(damaged)
        try:
            s.parquet("a.parquet", tmp_path)
        except DataError as error:
            assert "a.parquet" in str(error)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    fails(lambda: s.parquet("a.parquet", tmp_path), "pip install 'trine[parquet]'")


def test_a_spec_reads_parquet(tmp_path: Path) -> None:
    parquet(tmp_path, {"x": pa.array(range(10)), "odd": pa.array([b"a"] * 10)})
    text = "  source: parquet:a.parquet\n  options: {columns: [x]}\n  fields: {x: {column: x}}\n"
    assert counts(tmp_path, text) == {"train": 8, "valid": 1, "test": 1}
