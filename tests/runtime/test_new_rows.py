"""New rows are taken as the training rows were, whatever file or object they come in."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trine
from trine.runtime.bundles import SUFFIX
from trine.runtime.data import from_arrays
from trine.runtime.data.cleaning import DROPPING
from trine.runtime.data.schema import Kind, conform, learn
from trine.runtime.prediction import Wanted, predict, read_rows, write
from trine.runtime.specs import UsageError

HEAD = "spec: 1\nname: n\n"
CLASSES = """
model:
  inputs: {code: int}
  layers:
    - embedding: {rows: $code.size, dim: 4}
      from: code
    - linear: $y.size
      as: out
train: {loss: {cross_entropy: [out, y]}, optimizer: {adam: {lr: 0.05}}, epochs: 40}
evaluate: {metrics: [accuracy]}
"""
NUMBERS = """
model:
  inputs: {x: "float[2]"}
  layers:
    - linear: 1
      as: out
train: {loss: {mse: [out, y]}, optimizer: {adam: {lr: 0.05}}, epochs: 3}
evaluate: {metrics: [mae]}
"""


def trained(folder: Path, data: str, rest: str, **files: str) -> Path:
    """A run, trained on files that are written beside the spec."""
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    (folder / "spec.yaml").write_text(f"{HEAD}data:\n{data}{rest}", encoding="utf-8")
    trine.train(folder / "spec.yaml", folder / "run", overwrite=True)
    return folder / "run"


def table_of(cells: list[tuple[Any, ...]], *names: str, times: int = 1) -> str:
    return "\n".join([",".join(names), *(",".join(map(str, row)) for row in cells * times)]) + "\n"


CODES = """  source: csv:codes.csv
  split: {train: 0.8, valid: 0.2}
  fields:
    code: {column: code, encode: ids}
    y: {column: y, encode: ids}
"""


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`007` means up, `7` down, `B` up."""
    rows = table_of([("007", "up"), ("7", "down"), ("B", "up")], "code", "y", times=30)
    return trained(tmp_path_factory.mktemp("codes"), CODES, CLASSES, codes__csv=rows)


def written(path: Path, name: str, cells: list[Any]) -> Path:
    """A file with one column `code`, in the form that its name says."""
    if name.endswith(".csv"):
        (path / name).write_text("code\n" + "\n".join(map(str, cells)) + "\n")
    elif name.endswith(".jsonl"):
        (path / name).write_text("".join(json.dumps({"code": c}) + "\n" for c in cells))
    elif name.endswith(".json"):
        (path / name).write_text(json.dumps([{"code": c} for c in cells]))
    elif name.endswith(".npz"):
        np.savez(path / name, code=np.array(cells))
    else:
        pq.write_table(pa.table({"code": cells}), path / name)
    return path / name


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.npz", "a.parquet"])
def test_a_code_is_the_same_in_every_file(codes: Path, tmp_path: Path, name: str) -> None:
    """No file but CSV leaves open whether `7` is a number: a number then stands for the code that it writes."""
    assert list(predict(codes, written(tmp_path, name, ["007", "007", "7"]), None)["y"]) == ["up", "up", "down"]
    assert list(predict(codes, written(tmp_path, name, [7, 7]), None)["y"]) == ["down", "down"]


def test_codes_of_digits_alone_are_text(tmp_path: Path) -> None:
    rows = table_of([("01", "a"), ("1", "b")], "code", "y", times=30)
    run = trained(tmp_path, CODES, CLASSES, codes__csv=rows)
    model = trine.load(run)
    assert model.fields["code"].names == ["01", "1"]
    assert list(model.predict({"code": ["01", "1"]})["y"]) == ["a", "b"]


def test_whole_numbers_beyond_float64_are_exact(tmp_path: Path) -> None:
    big = [9007199254740992, 9007199254740993, 9007199254740995]
    clean = (
        "  clean:\n    - replace: {columns: code, values: {9007199254740992: 5}}\n    - clip: {columns: code, low: 0}\n"
    )
    rows = table_of([(n, "a" if i else "b") for i, n in enumerate(big)], "code", "y", times=20)
    run = trained(tmp_path, clean + CODES, CLASSES, codes__csv=rows)
    model = trine.load(run)
    assert model.fields["code"].names == ["5", "9007199254740993", "9007199254740995"]
    assert list(model.predict({"code": big})["y"]) == ["b", "a", "a"]


@pytest.mark.parametrize("first", ["True", "true", "TRUE"])
def test_booleans_are_the_same_from_everywhere(tmp_path: Path, first: str) -> None:
    false = {"True": "False", "true": "false", "TRUE": "FALSE"}[first]
    rows = table_of([(first, "a"), (false, "b")], "code", "y", times=30)
    model = trine.load(trained(tmp_path, CODES, CLASSES, codes__csv=rows))
    for cells in ([True, False], ["True", "False"], ["true", "false"], [1, 0], np.array([True, False])):
        assert list(model.predict({"code": cells})["y"]) == ["a", "b"], cells


def test_a_model_of_booleans_takes_words(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"code": i % 2 == 0, "y": i % 2 == 0}) + "\n" for i in range(60))
    run = trained(tmp_path, CODES.replace("csv:codes.csv", "jsonl:codes.jsonl"), CLASSES, codes__jsonl=rows)
    model = trine.load(run)
    for cells in ([True, False], ["True", "false"], [1, 0], ["1", "0"]):
        found = model.predict({"code": cells})["y"]
        assert found.dtype == np.bool_
        assert found.tolist() == [True, False], cells


def test_blanks_and_forms_of_accents_do_not_tell_categories_apart() -> None:
    from trine.runtime.data.fields import ids

    fitted = ids(column="x").fit(from_arrays({"x": ["é", "a"]}))
    assert fitted.transform(from_arrays({"x": [" a", "e\u0301 ", "é"]})).tolist() == [0, 1, 1]


def test_kinds_are_kept_and_read() -> None:
    table = from_arrays({"a": ["True", "False"], "b": [1, 0], "c": [True, False], "d": [1.5, 2], "e": ["x", "y"]})
    schema = learn(table)
    assert [kind.form for kind in schema.values()] == ["text", "number", "boolean", "number", "text"]
    assert all(Kind.from_json(json.loads(json.dumps(kind.as_json()))) == kind for kind in schema.values())
    other = conform(from_arrays({"a": [1, 0], "d": ["1.50", "x"], "e": [3, 2.5]}), schema)
    assert other.column("a").values.tolist() == ["True", "False"]
    assert other.column("d").values.tolist() == ["1.5", "x"]
    assert other.column("e").values.tolist() == ["3", "2.5"]


# ------------------------------------------------------------------------------------------- clean

MENDED = """  source: csv:mended.csv
  clean:
    - strip: {columns: rate, characters: "%"}
    - as_number: {columns: rate}
    - rename: {columns: {COST: cost}}
    - log: {columns: [cost, y]}
    - clip: {columns: rate, low: 0, high: 30}
    - drop_duplicates
    - drop_rows: {missing: y}
  split: {by: order, train: 0.8, test: 0.2}
  fields:
    x: {columns: [rate, cost], scale: standard}
    y: {column: y, scale: standard}
"""


def mended_rows() -> list[tuple[str, int, Any]]:
    return [(f"{i}%", i * i, i * 100) for i in range(40)] + [("50%", 3, "")]


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = table_of(mended_rows(), "rate", "COST", "y")
    rest = NUMBERS.replace("epochs: 3", "epochs: 200")
    return trained(tmp_path_factory.mktemp("mended"), MENDED, rest, mended__csv=text)


def test_the_same_rows_are_predicted_alike_as_a_split_and_as_new_rows(mended: Path, tmp_path: Path) -> None:
    own = predict(mended, None, "test")
    last = mended_rows()[32:40]
    new = table_of([row[:2] for row in last], "rate", "COST")
    (tmp_path / "new.csv").write_text(new)
    assert np.array_equal(predict(mended, tmp_path / "new.csv", None)["y"], own["y"])
    columns = {"rate": [row[0] for row in last], "COST": [row[1] for row in last]}
    assert np.array_equal(trine.load(mended).predict(columns)["y"], own["y"])
    bundle = trine.compile(mended, tmp_path / f"m{SUFFIX}")
    assert np.array_equal(trine.load(bundle).predict(columns)["y"], own["y"])


def test_what_log_made_of_a_target_is_undone_in_predictions_and_metrics(mended: Path) -> None:
    own = predict(mended, None, "test")
    truth = np.asarray(own["y (true)"], float)
    assert truth.tolist() == pytest.approx([i * 100 for i in range(32, 40)])
    metrics = trine.evaluate(mended)
    error = float(np.abs(own["y"] - truth).mean())
    assert metrics["splits"]["test"]["mae"] == pytest.approx(error, rel=1e-6)
    low, high = metrics["intervals"]["test"]["mae"]
    assert low <= error <= high


def test_rows_are_never_dropped_from_those_to_predict(mended: Path) -> None:
    found = trine.load(mended).predict({"rate": ["1%"] * 3, "COST": [4] * 3})
    assert len(found["y"]) == 3
    assert {"drop_rows", "drop_duplicates"} == DROPPING


# ------------------------------------------------------------------------------------------- files


def test_a_file_without_a_header_predicts_one_like_it(tmp_path: Path) -> None:
    rows = table_of([(i, i % 3, "ab"[i % 2]) for i in range(40)], "x", "x", "x").partition("\n")[2]
    data = (
        '  source: csv:raw.csv\n  options: {header: false, delimiter: ","}\n  split: {train: 0.8, valid: 0.2}\n'
        '  fields:\n    x: {columns: ["0", "1"], scale: standard}\n    y: {column: "2", encode: ids}\n'
    )
    rest = CLASSES.replace("{code: int}", '{x: "float[2]"}').replace(
        "    - embedding: {rows: $code.size, dim: 4}\n      from: code\n", ""
    )
    run = trained(tmp_path, data, rest, raw__csv=rows)
    (tmp_path / "new.csv").write_text("0,1\n5,2\n7,1\n")
    assert len(predict(run, tmp_path / "new.csv", None)["y"]) == 3
    (tmp_path / "named.csv").write_text("0;1\n5;2\n7;1\n")
    found = predict(run, tmp_path / "named.csv", None, options=["header=true", "delimiter=;"])
    assert len(found["y"]) == 2
    pq.write_table(pa.table({"0": [5, 7], "1": [2, 1]}), tmp_path / "p.parquet")
    assert np.array_equal(predict(run, tmp_path / "p.parquet", None)["y/probability"], found["y/probability"])
    with pytest.raises(trine.SpecError, match="delimitr"):
        predict(run, tmp_path / "new.csv", None, options=["delimitr=;"])


def test_what_no_field_reads_is_of_no_concern(codes: Path, tmp_path: Path) -> None:
    odd = [{"code": "B", "at": {"x": [None]}, "id": 2**70}, {"code": "7", "at": 3, "id": "a"}]
    (tmp_path / "r.json").write_text(json.dumps(odd))
    assert list(predict(codes, tmp_path / "r.json", None)["y"]) == ["up", "down"]
    model = trine.load(codes)
    assert list(model.predict({"code": ["B"], "day": [object()]})["y"]) == ["up"]
    table = from_arrays({"code": ["B"], "day": [object()]})
    with pytest.raises(trine.DataError, match="`day` holds a object"):
        table.column("day")
    pq.write_table(pa.table({"code": ["B"], "m": pa.array([{"a": 1}])}), tmp_path / "r.parquet")
    assert list(predict(codes, tmp_path / "r.parquet", None)["y"]) == ["up"]


@pytest.mark.parametrize(
    "rows",
    [
        [{"code": "B"}], {"code": np.array(["B"])}, np.array([("B",)], [("code", "U3")]), {"code": ("B",)},
        {"code": ["B"], "n": [decimal.Decimal("1.5")], "d": [datetime.date(2026, 1, 2)]},
    ],
    ids=["rows", "arrays", "structured", "tuple", "extra"],
)  # fmt: skip
def test_rows_in_the_forms_of_python(codes: Path, rows: Any) -> None:
    assert list(trine.load(codes).predict(rows)["y"]) == ["up"]


@pytest.mark.parametrize(
    ("rows", "part"),
    [(None, "got a NoneType"), (np.ones((2, 2)), r"an array of shape \[2, 2\]"), ({"code": "B"}, "a single value"),
     ({"code": []}, "no rows"), ([], "no rows"), ({"code": ["B"], "n": [1, 2]}, "all columns need the same number"),
     ({0: ["B"], "0": ["B"]}, "two columns are called `0`")],
)  # fmt: skip
def test_rows_that_are_none(codes: Path, rows: Any, part: str) -> None:
    with pytest.raises(trine.DataError, match=part):
        trine.load(codes).predict(rows)


class Frame:
    """As much of a data frame as is asked for, with a missing value that is neither true nor false."""

    def __init__(self, columns: dict[Any, list[Any]]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name: Any) -> Any:
        return np.array(self._columns[name], object)


class NAType:
    def __ne__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")


def test_a_data_frame_with_names_that_are_numbers_and_values_that_are_missing() -> None:
    table = from_arrays(Frame({0: [1, NAType(), 3], "t": ["a", NAType(), None]}))  # type: ignore[arg-type]
    assert table.column("0").missing.tolist() == [False, True, False]
    assert table.column("t").missing.tolist() == [False, True, True]


# ------------------------------------------------------------------------------------- what is told


def test_classes_keep_their_type(tmp_path: Path) -> None:
    rows = table_of([(i % 2, 3 + i % 2) for i in range(60)], "code", "y")
    model = trine.load(trained(tmp_path, CODES, CLASSES, codes__csv=rows))
    found = model.predict({"code": [0, 1]})["y"]
    assert found.dtype.kind == "i"
    assert (found == np.array([3, 4])).all()
    assert model.names(model.heads[0]) == ["3", "4"]


def test_all_probabilities_ids_and_row_numbers(codes: Path, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("id,code\n0042,B\n0043,7\n")
    found = predict(codes, tmp_path / "r.csv", None, wanted=Wanted(("id",), True, True))
    assert list(found) == ["row", "id", "y", "y/probability", "y/probability/down", "y/probability/up"]
    assert list(found["row"]) == [1, 2]
    assert list(found["id"]) == ["0042", "0043"]
    both = found["y/probability/down"] + found["y/probability/up"]
    assert both == pytest.approx(1)
    assert found["y/probability"] == pytest.approx(np.maximum(found["y/probability/down"], found["y/probability/up"]))
    with pytest.raises(trine.DataError, match="no column `nowhere`"):
        predict(codes, tmp_path / "r.csv", None, wanted=Wanted(("nowhere",)))


def test_predictions_are_written_as_the_name_says(tmp_path: Path) -> None:
    columns = {"y": np.array(["a", "b"], object), "p": np.array([0.5, np.nan], np.float32)}
    for name in ("p.csv", "p.tsv", "p.json", "p.jsonl", "p.parquet"):
        write(tmp_path / name, columns)
    assert json.loads((tmp_path / "p.json").read_text()) == [{"y": "a", "p": 0.5}, {"y": "b", "p": None}]
    assert (tmp_path / "p.tsv").read_text().splitlines()[0] == "y\tp"
    assert pq.read_table(tmp_path / "p.parquet").column("y").to_pylist() == ["a", "b"]
    assert len(read_rows(tmp_path / "p.jsonl")) == 2
    with pytest.raises(UsageError, match="none of these endings"):
        write(tmp_path / "p.xlsx", columns)


def test_every_head_of_a_target_is_predicted(tmp_path: Path) -> None:
    rows = table_of([(i, i % 7, i * 2) for i in range(40)], "a", "b", "y")
    data = (
        "  source: csv:q.csv\n  split: {train: 0.8, valid: 0.2}\n  fields:\n"
        "    x: {columns: [a, b], scale: standard}\n    y: {column: y, scale: standard}\n"
    )
    rest = NUMBERS.replace(
        "      as: out\n", "      as: low\n    - linear: 1\n      from: x\n      as: high\n"
    ).replace(
        "loss: {mse: [out, y]}",
        "loss: [{quantile: {q: 0.1}, from: [low, y]}, {quantile: {q: 0.9}, from: [high, y]}]",
    )
    run = trained(tmp_path, data, rest, q__csv=rows)
    found = trine.load(run).predict({"a": [75], "b": [1]})
    assert list(found) == ["y", "y/2"]
    assert abs(found["y/2"][0]) > 2  # in the units of the data, not of the scale


def test_reserved_ids_can_be_predicted(tmp_path: Path) -> None:
    rows = table_of([("a", "u"), ("b", "v")], "code", "y", times=20)
    run = trained(tmp_path, CODES.replace("column: y, encode: ids", "column: y, encode: ids, size: 9"), CLASSES,
                  codes__csv=rows)  # fmt: skip
    model = trine.load(run)
    assert model.names(model.heads[0])[2:4] == ["(reserved 2)", "(reserved 3)"]
    outputs = {"y": np.eye(9, dtype=np.float32)[[8, 0]]}
    assert list(model.decode(outputs)["y"]) == ["(reserved 8)", "u"]


def test_a_model_is_evaluated_on_new_rows(codes: Path, tmp_path: Path) -> None:
    found = trine.evaluate(codes, data={"code": ["B", "7", "007", "7"], "y": ["up", "down", "up", "up"]})
    assert found["splits"]["given"]["accuracy"] == 0.75
    assert found["rows"] == {"given": 4}
    with pytest.raises(trine.DataError, match="no column `y`"):
        trine.evaluate(codes, data={"code": ["B"]})
    with pytest.raises(trine.UsageError, match="leave it out"):
        trine.evaluate(codes, "test", data={"code": ["B"], "y": ["up"]})


def test_what_is_unseen_is_learnt(tmp_path: Path) -> None:
    """Its vector differs from the one that it began with: some values of training are taken for unseen."""
    rows = table_of([("a", "u"), ("b", "v")], "code", "y", times=200)
    fields = CODES.replace("column: code, encode: ids", "column: code, encode: ids, unseen: own")
    run = trained(tmp_path, fields, CLASSES, codes__csv=rows)
    model = trine.load(run)
    from trine.runtime.model import initial_weights

    (table,) = (name for name, array in model.weights.items() if array.shape == (3, 4))
    first = initial_weights(model.spec)[table]
    moved = np.abs(model.weights[table] - first).max(axis=1)
    assert moved[2] > 0.01
    assert len(model.predict({"code": ["zebra"]})["y"]) == 1
