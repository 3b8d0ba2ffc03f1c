"""Reports: the page, the pictures, and what happens without matplotlib."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trine.compiler.spec.registry import METRICS, Call
from trine.runtime import metrics as m
from trine.runtime import report
from trine.runtime.report import write_report

PNG = b"\x89PNG"
NAMES = ["cat|dog", "_b_", "c"]


def history(rows: int = 20) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for step in range(rows):
        found.append({"step": step, "epoch": step / 5, "split": "train", "loss": 2.0 / (step + 1), "lr": 1e-3})
        if step % 5 == 4:
            judged = {"accuracy": step / rows, "rmse": 3.0 / step, "seconds": 12.0}
            found.append({"step": step, "epoch": step / 5, "split": "valid", "loss": 3.0 / (step + 1), **judged})
    return found


def summary() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    p, t = rng.dirichlet(np.ones(3), 90), rng.integers(0, 3, 90)
    calls = [Call(METRICS["accuracy"], {}), Call(METRICS["macro_f1"], {})]
    found = m.evaluate_metrics(calls, p, t, "classes")
    return {
        "name": "three_way",
        "splits": {"valid": {"loss": 0.5, **found}, "test": {"loss": float("nan"), **found}},
        "intervals": {"test": m.intervals(calls, p, t, "classes", 0)},
        "confusion": m.confusion_matrix(p, t).tolist(),
        "classes": NAMES,
        "per_class": m.per_class(p, t, NAMES),
        "reliability": m.reliability(p, t).table(),
        "slices": {"town": m.slices(p, t, np.array(["x"] * 80 + ["y"] * 10), calls, "classes")},
    }


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)


def test_everything(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = write_report(tmp_path, history(), summary())
    assert [path.name for path in paths] == ["curves.png", "confusion.png", "calibration.png", "report.md"]
    assert sorted(tmp_path.joinpath("report").iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(PNG) for path in paths[:3])
    page = paths[-1].read_text("utf-8")
    for path in paths[:3]:
        assert f"({path.name})" in page
    assert "pip install" not in page


def test_the_page(tmp_path: Path) -> None:
    page = write_report(tmp_path, history(), summary())[-1].read_text("utf-8")
    lines = page.splitlines()
    assert lines[0] == "# three_way"
    assert "| metric | valid | test |" in lines
    assert "| loss | 0.5000 | – |" in lines
    accuracy = next(line for line in lines if line.startswith("| accuracy"))
    assert " to " in accuracy.split("|")[3] and " to " not in accuracy.split("|")[2]
    assert any(line.startswith(r"| cat\|dog | 0.") for line in lines)
    assert any(line.startswith(r"| \_b\_ | 0.") for line in lines)
    assert any(line.startswith("| y (small) | 10 |") for line in lines)
    assert any(line.startswith("| x | 80 |") for line in lines)
    assert "## By town" in lines
    assert "Small: fewer than 30 rows, too few to rely on." in lines


def test_without_matplotlib(tmp_path: Path, no_matplotlib: None) -> None:
    paths = write_report(tmp_path, history(), summary())
    assert [path.name for path in paths] == ["report.md"]
    page = paths[0].read_text("utf-8")
    assert "`pip install trine[report]` draws the curves." in page
    assert ".png" not in page
    counts = summary()["confusion"][0]
    assert f"| cat\\|dog | {' | '.join(map(str, counts))} |" in page


def test_nothing_to_say(tmp_path: Path) -> None:
    paths = write_report(tmp_path, [], {"name": "empty"})
    assert [path.name for path in paths] == ["report.md"]
    assert paths[0].read_text("utf-8") == "# empty\n"


def test_a_diverged_run_is_still_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    bad = [{"step": i, "split": "train", "loss": float("nan"), "accuracy": None} for i in range(3)]
    assert [path.name for path in write_report(tmp_path, bad, {})] == ["curves.png", "report.md"]


def test_arrays_do(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    given = {**summary(), "confusion": np.array(summary()["confusion"]), "splits": {"test": {"mse": np.float32(0.25)}}}
    paths = write_report(tmp_path, history(200), given)
    assert "| mse | 0.2500 |" in paths[-1].read_text("utf-8")


def test_again_gives_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_report(tmp_path, history(), summary())]
    assert first == [path.read_bytes() for path in write_report(tmp_path, history(), summary())]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_report(tmp_path, [], {"name": "old"})[0]

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, [], {"name": "new"})
    assert page.read_text("utf-8") == "# old\n"
    assert list(page.parent.iterdir()) == [page]


def test_panels() -> None:
    assert report._panels(history()) == [["accuracy"], ["rmse"]]


def test_pyplot_is_not_loaded(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sys.modules.pop("matplotlib.pyplot", None)
    write_report(tmp_path, history(), summary())
    assert "matplotlib.pyplot" not in sys.modules


def test_smooth() -> None:
    assert report._smooth([0.0, 3.0, 6.0, 9.0], 1) == [1.5, 3.0, 6.0, 7.5]
    assert report._smooth([1.0, 2.0], 0) == [1.0, 2.0]
