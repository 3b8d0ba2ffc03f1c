"""The shipped specs reach what they should: medians over seeds, beside scikit-learn's linear models."""

from __future__ import annotations

import statistics

import pytest
import trine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from trine.runtime.session import prepare
from trine.runtime.specs import open_spec

pytestmark = pytest.mark.slow


def median(spec: str, metric: str, split: str = "test") -> float:
    """The median of a metric over three seeds of weights, order and dropout."""
    runs = [trine.train(spec, set={"train.seed": seed}).metrics[split][metric] for seed in range(3)]
    return statistics.median(runs)


@pytest.mark.parametrize(("spec", "least"), [("zoo:vision/digits-mlp", 0.97), ("zoo:vision/digits-cnn", 0.985)])
def test_digits(spec: str, least: float) -> None:
    assert median(spec, "accuracy") >= least


@pytest.mark.parametrize(
    ("name", "x", "y"), [("wine", "measurements", "cultivar"), ("breast-cancer", "nuclei", "malignant")]
)
def test_classification_beside_a_linear_model(name: str, x: str, y: str) -> None:
    """Within two test rows of logistic regression: these sets are almost linear."""
    _, dataset = prepare(open_spec(f"zoo:tabular/{name}"))
    train, test = dataset.splits["train"].arrays, dataset.splits["test"].arrays
    linear = LogisticRegression(max_iter=5000).fit(train[x], train[y]).score(test[x], test[y])
    assert median(f"zoo:tabular/{name}", "accuracy") >= linear - 2 / len(test[y])


def test_regression_beside_a_linear_model() -> None:
    _, dataset = prepare(open_spec("zoo:tabular/diabetes"))
    train, test = dataset.splits["train"].arrays, dataset.splits["test"].arrays
    linear = r2_score(test["progression"], Ridge().fit(train["patient"], train["progression"]).predict(test["patient"]))
    assert median("zoo:tabular/diabetes", "r2") >= linear - 0.02
