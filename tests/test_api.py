"""The door for Python."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import trine


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "diabetes"
    trine.train("zoo:tabular/diabetes", out=folder, set={"train.epochs": 10})
    return folder


def test_train_returns_metrics_and_a_model() -> None:
    from sklearn.datasets import load_wine

    trained = trine.train("zoo:tabular/wine", set=["train.epochs=20"])
    assert trained.path is None
    assert trained.metrics["test"]["accuracy"] > 0.8
    wine = load_wine()
    found = trained.model.predict({"features": wine.data})
    assert np.mean(found["cultivar"] == wine.target_names[wine.target]) > 0.9


def test_a_loaded_model_predicts_in_the_units_of_the_data(run: Path) -> None:
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    model = trine.load(run)
    found = model.predict({"features": data.data})["progression"]
    assert found.shape == (442,)
    assert 100 < found.mean() < 200, "progression is about 152 on average"
    error = np.sqrt(np.mean((found - data.target) ** 2))
    assert error < data.target.std()


def test_evaluate_equals_what_training_reported(run: Path) -> None:
    import json

    reported = json.loads((run / "evaluation.json").read_text())["splits"]["test"]
    assert trine.evaluate(run)["splits"]["test"] == reported


def test_metrics_are_in_the_units_of_the_data(run: Path) -> None:
    metrics = trine.evaluate(run)["splits"]["test"]
    assert 40 < metrics["rmse"] < 80, "the target's standard deviation is 77"


def test_training_on_arrays() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 10))
    y = x @ rng.standard_normal(10) + 3.0
    columns = {"train": {"features": x[:300], "target": y[:300]}, "test": {"features": x[300:], "target": y[300:]}}
    trained = trine.train("zoo:tabular/diabetes", data=columns, set={"train.epochs": 30, "train.early_stopping": None})
    assert trained.metrics["test"]["r2"] > 0.9


def test_compile(run: Path, tmp_path: Path) -> None:
    path = trine.compile(run, tmp_path / "model.py")
    assert "def predict(patient):" in path.read_text()


def test_errors_are_exceptions_with_their_diagnostics(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("spec: 1\nmodel: {inputs: {x: 'float[2]'}, layers: [linear: {unit: 3}]}\n")
    with pytest.raises(trine.SpecError) as caught:
        trine.train(bad)
    assert [d.code for d in caught.value.diagnostics] == ["E214"]
    with pytest.raises(trine.DataError, match="nothing"):
        trine.train("zoo:tabular/wine", set=["data.source=csv:nothing.csv"])
    with pytest.raises(trine.ArtefactError):
        trine.load(tmp_path)


def test_predict_says_what_does_not_fit(run: Path) -> None:
    model = trine.load(run)
    with pytest.raises(trine.DataError, match="features"):
        model.predict({"measurements": np.zeros((2, 10))})
    with pytest.raises(trine.DataError, match="shape"):
        model.predict({"features": np.zeros((2, 9))})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "`patient` is missing"),
        ({"patients": np.zeros((2, 10))}, "did you mean `patient`"),
        ({"patient": np.zeros((2, 9))}, "expected f32\\[N, 10\\]"),
        ({"patient": np.array([["a"] * 10])}, "float"),
    ],
)
def test_arrays_are_checked_against_the_signature(run: Path, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(trine.DataError, match=message):
        trine.load(run).predict_arrays(inputs)


def test_predictions_from_several_threads(run: Path) -> None:
    model = trine.load(run)
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((n, 10)) for n in (1, 3, 8, 1, 3, 8, 2, 5)]
    expected = [model.predict({"features": batch})["progression"] for batch in batches]
    found: dict[int, list[np.ndarray]] = {i: [] for i in range(8)}

    def work(i: int) -> None:
        for _ in range(20):
            found[i].append(model.predict({"features": batches[i]})["progression"])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, results in found.items():
        assert all(np.array_equal(result, expected[i]) for result in results)
