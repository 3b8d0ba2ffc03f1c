"""What `fit` and `decode` have in common for all contestants: the rows to train on, and how many tokens."""

from __future__ import annotations

import numpy as np

from .workloads import SEED, Arrays

# So many tokens are generated.
DECODED = 120
# An epoch is so many steps of 32 rows, and the time of so many epochs more is measured.
STEPS = 200
ROWS = {"train": 32 * STEPS, "valid": 1280}
MORE_EPOCHS = 29


def rows(split: str) -> Arrays:
    """Rows of `train` or `valid`, whose label is the largest of ten sums of them: a network of any kind learns that."""
    rng = np.random.default_rng(SEED)
    teacher = rng.standard_normal((784, 10)).astype(np.float32)
    total = sum(ROWS.values())
    x = rng.standard_normal((total, 784)).astype(np.float32)
    label = (x @ teacher).argmax(1)
    part = slice(0, ROWS["train"]) if split == "train" else slice(ROWS["train"], total)
    return {"x": x[part], "label": label[part]}
