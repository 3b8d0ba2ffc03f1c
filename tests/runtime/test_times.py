"""Times that are text, splits by them, and series in their order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trine
from trine.runtime.data import DataError, from_arrays
from trine.runtime.data import splits as s
from trine.runtime.data.fields import series
from trine.runtime.data.fields.series import in_order
from trine.runtime.data.times import ranks
from trine.runtime.specs import open_spec


def order(cells: list[Any], form: str | None = None) -> list[int]:
    return ranks(from_arrays({"t": cells}, "rows.csv"), "t", "an order", form).tolist()


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-05-17", "2024-05-18", "2024-11-02"],
        ["2024-5-7", "2024-5-18", "2024-11-2"],
        ["2024/05/17", "2024/05/18", "2024/11/02"],
        ["9/05/2021", "17/05/2021", "02/06/2021"],
        ["5/9/2021", "5/17/2021", "10/02/2021"],
        ["17.05.2021", "18.05.2021", "02.06.2021"],
        ["31/12/2020 23:59", "01/01/2021 9:05", "13/01/2021 08:00:01.5"],
        ["2024-05-17T12:00:00+02:00", "2024-05-17T10:30:00Z", "2024-05-17 11:00:00Z"],
        ["9", "10", "100"],
        ["01", "02", "10"],
        [9, 10.5, 100],
        ["2024-02", "2024-03", "2024-11"],
    ],
)
def test_times_are_sorted_as_times(cells: list[Any]) -> None:
    mixed = [2, 0, 1]
    assert order(cells) == [0, 1, 2]
    assert order([cells[i] for i in mixed]) == mixed


def test_a_date_with_two_readings_is_refused_with_both() -> None:
    with pytest.raises(DataError) as caught:
        order(["03/04/2021", "01/05/2021"])
    told = str(caught.value)
    assert "`03/04/2021` may be 2021-04-03 (day/month/year) or 2021-03-04 (month/day/year)" in told
    assert 'format: "%d/%m/%Y"' in told
    assert 'format: "%m/%d/%Y"' in told
    assert order(["03/04/2021", "01/05/2021"], "%d/%m/%Y") == [0, 1]
    assert order(["03/04/2021", "01/05/2021"], "%m/%d/%Y") == [1, 0]
    # Where both readings have one order, it does not matter which is meant.
    assert order(["01/01/2021", "02/02/2021"]) == [0, 1]


@pytest.mark.parametrize(
    ("cells", "form", "part"),
    [
        (["2024-05-17", "soon"], None, "`soon` at row 2 is no date or time"),
        (["13/13/2021", "01/01/2021"], None, "`13/13/2021` at row 1 is no date or time"),
        (["31/01/2021", "01/31/2021"], None, "is no date or time"),
        (["17.5.21", "2.6.2021"], "%d.%m.%y", "`2.6.2021` at row 2 does not read as `%d.%m.%y`"),
        (["2024-05-17", None], None, "1 missing value, first at row 2"),
    ],
)
def test_what_is_no_time_is_told(cells: list[Any], form: str | None, part: str) -> None:
    with pytest.raises(DataError) as caught:
        order(cells, form)
    assert part in str(caught.value)


def days(count: int = 60) -> list[str]:
    return [str(np.datetime64("2020-01-20") + i) for i in range(count)]


def turned(day: str) -> str:
    year, month, number = day.split("-")
    return f"{number}/{month}/{year}"


def test_no_row_to_test_on_is_earlier_than_one_to_train_on() -> None:
    shuffled = random.Random(0).sample(range(60), 60)
    table = from_arrays({"day": [turned(days()[i]) for i in shuffled], "user": ["u"] * 60})
    parts = s.time(table, on="day", train=0.5, valid=0.25, test=0.25)
    at = {name: [shuffled[i] for i in rows] for name, rows in parts.items()}
    assert max(at["train"]) < min(at["valid"])
    assert max(at["valid"]) < min(at["test"])
    last = s.last(table, of="user", order="day", valid=2, test=3)
    assert sorted(shuffled[i] for i in last["test"]) == [57, 58, 59]


def test_series_go_forward_in_time_whatever_the_order_of_rows() -> None:
    field = series(column="v", past=2, future=1, of="who", order="day")
    rows = [(who, day, number) for who in "ab" for number, day in enumerate(days(6), 10 if who == "a" else 20)]
    random.Random(1).shuffle(rows)
    who, day, v = (list(column) for column in zip(*rows, strict=True))
    table = in_order([field], from_arrays({"who": who, "day": day, "v": v}))
    found = field.fit(table).transform(table)
    assert found.tolist() == [[n, n + 1, n + 2] for start in (10, 20) for n in range(start, start + 4)]


def test_two_rows_of_one_time_are_refused_and_gaps_are_told() -> None:
    field = series(column="v", past=2, order="day")
    twice = from_arrays({"day": ["2020-01-02", "2020-01-01", "2020-01-02"], "v": [1, 2, 3]})
    with pytest.raises(DataError, match="1 time twice in one series, first in the rows 1 and 3"):
        in_order([field], twice)
    gap = from_arrays({"day": ["2020-01-03", "2020-01-01", "2020-01-02", "2020-01-09"], "v": [1, 2, 3, 4]})
    with pytest.warns(UserWarning, match="1 step of 3 .* longer than most, first after row 1"):
        in_order([field], gap)


SERIES = """
spec: 1
name: c
data:
  source: csv:d.csv
  split: {by: time, on: day, train: 0.6, valid: 0.4}
  fields:
    past: {encode: series, column: v, past: 3}
    next: {encode: series, column: v, future: 1}
model:
  inputs: {past: "float[3]"}
  layers:
    - linear: 1
      as: out
train: {loss: {mse: [out, next]}, optimizer: {adam: {lr: 0.05}}, epochs: 1}
evaluate: {metrics: [mae]}
"""


def test_a_file_with_the_newest_row_first_is_predicted_forward_too(tmp_path: Path) -> None:
    """The order that the split has is that of the series, and is remembered."""
    rows = [f"{day},{i}" for i, day in enumerate(days())]
    (tmp_path / "d.csv").write_text("\n".join(["day,v", *rows[::-1]]) + "\n")
    (tmp_path / "spec.yaml").write_text(SERIES)
    from trine.runtime.data import load_dataset

    arrays = load_dataset(open_spec(tmp_path / "spec.yaml")).splits["valid"].arrays
    assert (arrays["next"][:, 0] - arrays["past"][:, -1]).tolist() == [1.0] * len(arrays["next"])
    trine.train(tmp_path / "spec.yaml", tmp_path / "run")
    model = trine.load(tmp_path / "run")
    forward = model.predict({"day": days(8), "v": list(range(8))})["next"]
    backward = model.predict({"day": days(8)[::-1], "v": list(range(8))[::-1]})["next"]
    assert np.array_equal(forward, backward)
    # One step ahead is a number: windows of one step fit a layer of one unit.
    assert forward.shape == (6,)


def test_a_split_that_was_asked_for_has_rows() -> None:
    from trine.compiler.spec.registry import SPLITS, Call
    from trine.runtime.data.dataset import _check_parts

    prices = from_arrays({"price": [i + 0.5 for i in range(30)]})
    with pytest.raises(DataError, match="30 different values in 30 rows"):
        s.stratified(prices, on="price", train=0.6, valid=0.2, test=0.2)
    call = Call(SPLITS["random"], {"train": 0.5, "valid": 0.5})
    with pytest.raises(DataError, match="leaves no rows of the given arrays for `valid`"):
        _check_parts(call, {"train": np.arange(30)}, prices)
