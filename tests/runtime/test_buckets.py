"""Buckets: the same rows, less padding, and the same training whatever the buckets."""

from __future__ import annotations

import numpy as np
from trine.backends.base import load
from trine.compiler.ir import DType, Type
from trine.compiler.spec.reader import read_string
from trine.runtime.buckets import Buckets
from trine.runtime.progress import Silent
from trine.runtime.session import prepare
from trine.runtime.trainer import Trainer

RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(1, 41, 200)
IDS = np.where(np.arange(40) < LENGTHS[:, None], RNG.integers(0, 9, (200, 40)), -1)
TYPES = {"tokens": Type(("N", "T"), DType.i64), "tags": Type(("N", "T"), DType.i64), "label": Type(("N",), DType.i64)}
ROWS = {"tokens": IDS, "tags": np.where(IDS < 0, -1, IDS % 3), "label": np.arange(200)}


def test_batches_hold_every_row_once_and_little_padding() -> None:
    buckets = Buckets(TYPES, ROWS, [8, 16, 24, 32])
    batches = buckets.batches(RNG.permutation(200), 16, np.random.default_rng(1))
    assert len(batches) == 13
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    used = 0
    for rows in batches:
        feeds = buckets.cut({name: array[rows] for name, array in ROWS.items()}, rows)
        width = feeds["tokens"].shape[1]
        assert width in (8, 16, 24, 32, 40)
        assert width >= LENGTHS[rows].max() > width - 9
        assert feeds["tags"].shape == feeds["tokens"].shape
        assert feeds["label"].tolist() == rows.tolist()
        assert (feeds["tokens"] >= 0).sum() == LENGTHS[rows].sum(), "nothing but padding is cut"
        used += feeds["tokens"].size
    assert used < 0.7 * IDS.size


def test_two_sequences_have_lengths_of_their_own() -> None:
    types = {"source": Type(("N", "S"), DType.i64), "target": Type(("N", "T"), DType.i64)}
    rows = {"source": IDS, "target": IDS[::-1].copy()}
    buckets = Buckets(types, rows, [10, 20])
    for chosen in buckets.batches(np.arange(200), 10, None):
        feeds = buckets.cut({name: array[chosen] for name, array in rows.items()}, chosen)
        assert feeds["source"].shape[1] >= LENGTHS[chosen].max()
        assert feeds["target"].shape[1] >= LENGTHS[::-1][chosen].max()


SPEC = """
spec: 1
data:
  source: csv:none.csv
  fields:
    tokens: {encode: words, column: text}
    label: {column: label, encode: ids}
model:
  inputs: {tokens: "int[T]"}
  layers:
    - embedding: {rows: $tokens.size, dim: 6}
    - lstm: 5
    - mean: {over: T}
    - linear: $label.size
      as: logits
train: {loss: {cross_entropy: [logits, label]}, optimizer: sgd, batch: 10, steps: 8, shuffle: false%s}
"""


def test_what_is_cut_changes_no_gradient() -> None:
    """In the order of the buckets, with padding and without."""
    lengths = np.sort(LENGTHS[:80])
    texts = [" ".join(RNG.choice(list("abcdefg"), n)) for n in lengths]
    data = {"train": {"text": texts, "label": (np.arange(80) % 2).tolist()}}
    found = []
    for buckets in ("", ", buckets: [10, 20, 30]"):
        spec, dataset = prepare(read_string(SPEC % buckets), data)
        trainer = Trainer(spec, {"train": dataset.splits["train"].arrays}, load("numpy"), Silent(), DType.f64)
        trainer.fit()
        found.append(trainer.weights())
        widths = [trainer._feeds(batch)["tokens"].shape[1] for batch in range(8)]
        assert len(set(widths)) == (1 if not buckets else 4)
    for name, array in found[0].items():
        np.testing.assert_allclose(found[1][name], array, rtol=1e-12, atol=1e-14, err_msg=name)
