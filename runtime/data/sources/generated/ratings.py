"""Choices and ratings of items by users, for recommenders."""

from __future__ import annotations

import numpy as np

from ...table import Array, Rows, Table, from_arrays
from .core import draws, row_count, source_of

ITEMS = 400
TOPICS = 8
FEWEST, MANY = 8, 40
USUAL = (FEWEST + MANY) // 2
EPOCH = 1_704_067_200  # the first second of 2024
DAY = 86_400


def ratings(rows: int | None, seed: int) -> Table:
    """Choices of 400 items by one user for every 24 rows, sorted by time.

    Each item is a mixture of 8 topics, and each user has shares of taste in them; the affinity of the
    two is their dot product. A few items are popular and most are not (the weight of the item of rank
    r is r to the power -0.7). A user chooses 8 to 40 different items, each with the probability of
    the softmax of 9 times the affinity plus the logarithm of the weight. After each choice the
    logarithms of the user's tastes move by normal noise (0.3). The rating is 1.5 plus 4 times the
    affinity plus normal noise (0.7), rounded to 1 to 5. `time` is in seconds since 1970: a user starts
    within 2024, and between choices pass a day and a half on average, and at least a second.
    """
    rows = row_count("ratings", rows, default=12_000, most=200_000, least=FEWEST)
    rng = draws(seed, "ratings")
    counts = _counts(rng, rows)
    items, affinities = _choices(rng, len(counts), int(counts.max()))
    waits = 1 + rng.exponential(1.5 * DAY, items.shape).astype(np.int64)
    times = EPOCH + rng.integers(0, 366 * DAY, (len(counts), 1)) + waits.cumsum(1)
    scores = np.clip(np.rint(1.5 + 4 * affinities + 0.7 * rng.standard_normal(items.shape)), 1, 5).astype(np.int64)
    made = np.arange(items.shape[1]) < counts[:, None]
    users = np.repeat(np.arange(len(counts)), counts)
    order = np.argsort(times[made], kind="stable")
    columns = {"user": users, "item": items[made], "time": times[made], "rating": scores[made]}
    return from_arrays({name: values[order] for name, values in columns.items()}, source_of("ratings"))


def _counts(rng: np.random.Generator, rows: int) -> Rows:
    """How many items each user chooses: 8 to 40 each, `rows` in all."""
    users = max(1, round(rows / USUAL))
    counts = rng.integers(FEWEST, MANY + 1, users)
    while (left := rows - int(counts.sum())) != 0:
        free = np.flatnonzero(counts < MANY if left > 0 else counts > FEWEST)
        counts[rng.permutation(free)[: abs(left)]] += np.sign(left)
    return counts


def _choices(rng: np.random.Generator, users: int, steps: int) -> tuple[Rows, Array]:
    """Each user's items [users, steps] in the order of choosing, and how they liked them."""
    topics = rng.dirichlet(np.full(TOPICS, 0.15), ITEMS)
    weights = -0.7 * np.log1p(rng.permutation(ITEMS))
    tastes = 2 * rng.standard_normal((users, TOPICS))
    chosen = np.zeros((users, ITEMS), np.bool_)
    items, affinities = np.empty((users, steps), np.int64), np.empty((users, steps))
    everyone = np.arange(users)
    for step in range(steps):
        shares = np.exp(tastes - tastes.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        # einsum and not a matrix product: its sums do not depend on the number of threads.
        affinity = np.einsum("ut,it->ui", shares, topics)
        # The largest of logits with Gumbel noise is a draw from their softmax.
        scores = 9 * affinity + weights + rng.gumbel(size=affinity.shape)
        scores[chosen] = -np.inf
        items[:, step] = scores.argmax(1)
        chosen[everyone, items[:, step]] = True
        affinities[:, step] = affinity[everyone, items[:, step]]
        tastes += 0.3 * rng.standard_normal(tastes.shape)
    return items, affinities
