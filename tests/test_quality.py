"""The shipped specs reach what they should: medians over seeds, beside scikit-learn's linear models."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import numpy as np
import pytest
import trine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsClassifier
from trine.runtime.generation import Generator
from trine.runtime.session import prepare
from trine.runtime.specs import open_spec

pytestmark = pytest.mark.slow


def median(spec: str, metric: str, split: str = "test") -> float:
    """The median of a metric over three seeds of weights, order and dropout."""
    runs = [trine.train(spec, set={"train.seed": seed}).metrics[split][metric] for seed in range(3)]
    return statistics.median(runs)


@pytest.mark.parametrize(
    ("spec", "least"), [("zoo:vision/digits-mlp", 0.97), ("zoo:vision/digits-cnn", 0.985), ("zoo:vision/vit", 0.96)]
)
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


def test_an_autoencoder_beside_principal_components() -> None:
    """With a code of 8 numbers, nearer to the digits than 4 principal components."""
    trained = trine.train("zoo:vision/vae")
    _, dataset = prepare(open_spec("zoo:vision/vae"))
    train, test = (dataset.splits[name].arrays["image"].reshape(-1, 64) for name in ("train", "test"))
    drawn = trained.model.predict_arrays({"image": test.reshape(-1, 8, 8)})["image"].reshape(-1, 64)
    pca = PCA(4).fit(train)
    linear = pca.inverse_transform(pca.transform(test))
    assert np.square(drawn - test).mean() < np.square(linear - test).mean()


def test_digits_of_one_kind_are_near_each_other() -> None:
    trained = trine.train("zoo:vision/siamese")
    _, dataset = prepare(open_spec("zoo:vision/siamese"))
    parts = {name: part.arrays for name, part in dataset.splits.items()}
    places = {name: trained.model.predict_arrays({"image": part["image"]}) for name, part in parts.items()}
    near = KNeighborsClassifier(1).fit(places["train"]["place"], parts["train"]["digit"])
    assert near.score(places["test"]["place"], parts["test"]["digit"]) >= 0.97


SORT = """
spec: 1
name: sort
params: {dim: 48}
data:
  source: npz:given
  fields:
    source: {column: given, encode: characters}
    target: {column: sorted, encode: characters, start: true, end: true}
model:
  inputs: {source: "int[S <= 8]", target: "int[T <= 10]"}
  layers:
    - {embedding: {rows: $source.size, dim: $dim}, from: source}
    - positions: learned
    - residual: [layer_norm, {attention: 4}]
    - {layer_norm: {}, as: memory}
    - {embedding: {rows: $target.size, dim: $dim}, from: target}
    - positions: learned
    - {residual: [layer_norm, {attention: {heads: 4, causal: true}}], as: asked}
    - {attention: 4, from: [asked, memory], as: answer}
    - add: [asked, answer]
    - residual: [layer_norm, {linear: 96}, gelu, {linear: $dim}]
    - {linear: $target.size, as: logits}
train:
  loss: {next_token: [logits, target]}
  optimizer: {adamw: {lr: 4e-3}}
  schedule: {cosine: {warmup: 10%}}
  batch: 64
  epochs: 12
"""


def test_an_encoder_and_a_decoder_sort(tmp_path: Path) -> None:
    """Of digits that training never had together, at least 95 % come out in order."""
    rng = random.Random(0)
    rows = list(dict.fromkeys("".join(rng.choices("0123456789", k=rng.randint(2, 8))) for _ in range(6000)))
    (tmp_path / "sort.yaml").write_text(SORT)
    columns = {"given": rows[:4500], "sorted": ["".join(sorted(row)) for row in rows[:4500]]}
    trained = trine.train(tmp_path / "sort.yaml", data={"train": columns, "valid": columns})
    made = Generator(trained.model)
    right = sum("".join(made.text("", {"given": row}, 12)) == "".join(sorted(row)) for row in rows[4500:4700])
    assert right >= 190


@pytest.mark.parametrize("name", ["matrix-factorization", "two-tower"])
def test_recommenders_beside_popularity(name: str) -> None:
    """Hit rate at 10 of whoever always recommends what most have chosen, without what a user has chosen already."""
    spec = f"zoo:ranking/{name}"
    _, dataset = prepare(open_spec(spec))
    parts = {split: part.arrays for split, part in dataset.splits.items()}
    seen = [np.concatenate([parts[split][field] for split in ("train", "valid")]) for field in ("user", "item")]
    counts = np.bincount(seen[1], minlength=dataset.sizes["item.size"]).astype(float)
    hits = []
    for user, item in zip(parts["test"]["user"], parts["test"]["item"], strict=True):
        scores = counts.copy()
        scores[seen[1][seen[0] == user]] = -1
        hits.append(item in np.argsort(-scores, kind="stable")[:10])
    assert trine.train(spec).metrics["test"]["hit_rate@10"] > 2 * np.mean(hits)


@pytest.mark.parametrize(
    ("spec", "metric", "least"),
    [
        ("sequence/tagger", "span_f1", 0.9),
        ("sequence/translate", "exact_match", 0.5),
        ("audio/spoken-digits", "accuracy", 0.9),
    ],
)
def test_generated_sets_are_learnt(spec: str, metric: str, least: float) -> None:
    assert trine.train(f"zoo:{spec}", backend="torch").metrics["test"][metric] >= least
