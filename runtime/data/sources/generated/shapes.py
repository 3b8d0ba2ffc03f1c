"""Images of shapes, for segmentation and classification."""

from __future__ import annotations

import numpy as np

from ...table import Array, Mask, Table, from_arrays
from .core import draws, row_count, source_of

SIZE = 32
MOST_SHAPES = 3
KINDS = np.array(["background", "disc", "square", "triangle"])


def shapes(rows: int | None, seed: int) -> Table:
    """Images of one to three discs, squares and triangles, and where each of them is seen.

    `image` is uint8 [3, 32, 32]: a gradient between two dark colours in a random direction, bright
    shapes of one colour each, later ones over earlier ones, and normal noise (standard deviation 12)
    on everything. `mask` is int64 [32, 32]: 0 background, 1 disc, 2 square, 3 triangle. `shape` names
    the shape of which most is seen, the earliest of equals. Half the height of a shape is 4 to 9
    pixels, its centre 7 or more from every edge; squares are upright and triangles point upwards.
    """
    rows = row_count("shapes", rows, default=2_000, most=20_000)
    rng = draws(seed, "shapes")
    counts = rng.integers(1, MOST_SHAPES + 1, rows)
    kinds = rng.integers(1, len(KINDS), (rows, MOST_SHAPES))
    centres = rng.uniform(7, SIZE - 7, (2, rows, MOST_SHAPES))
    radii = rng.uniform(4, 9, (rows, MOST_SHAPES))
    colours = rng.uniform(110, 255, (rows, MOST_SHAPES, 3)).astype(np.float32)
    image = _backgrounds(rng, rows)
    owner = np.zeros((rows, SIZE, SIZE), np.int8)  # which shape is seen at a pixel, from 1
    for i in range(MOST_SHAPES):
        inside = _inside(kinds[:, i], centres[:, :, i], radii[:, i]) & (counts > i)[:, None, None]
        owner[inside] = i + 1
        image = np.where(inside[:, None], colours[:, i, :, None, None], image)
    image += 12 * rng.standard_normal(image.shape, np.float32)
    seen = np.stack([(owner == i + 1).sum((1, 2)) for i in range(MOST_SHAPES)], 1)
    largest = np.take_along_axis(kinds, seen.argmax(1)[:, None], 1)[:, 0]
    numbers = np.concatenate([np.zeros((rows, 1), np.int64), kinds], 1)
    columns = {
        "image": np.clip(np.rint(image), 0, 255).astype(np.uint8),
        "mask": numbers[np.arange(rows)[:, None, None], owner],
        "shape": KINDS[largest],
    }
    return from_arrays(columns, source_of("shapes"))


def _backgrounds(rng: np.random.Generator, rows: int) -> Array:
    """Gradients [rows, 3, 32, 32] from one dark colour to another."""
    start, end = rng.uniform(0, 120, (2, rows, 3, 1, 1)).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi, (rows, 1, 1)).astype(np.float32)
    along = np.linspace(-1, 1, SIZE, dtype=np.float32)
    # Divided by the diagonal, so that the share of the second colour stays from 0 to 1.
    share = 0.5 + (np.cos(angle) * along[:, None] + np.sin(angle) * along) / (2 * np.sqrt(np.float32(2)))
    return np.asarray(start + (end - start) * share[:, None])


def _inside(kinds: Array, centres: Array, radii: Array) -> Mask:
    """Which pixels [rows, 32, 32] lie in the one shape of each row."""
    along = np.arange(SIZE)
    down = along[:, None] - centres[0][:, None, None]
    right = along - centres[1][:, None, None]
    radius = radii[:, None, None]
    square = np.maximum(np.abs(down), np.abs(right)) <= radius
    disc = down**2 + right**2 <= radius**2
    triangle = (np.abs(down) <= radius) & (np.abs(right) <= (down + radius) / 2)
    kind = kinds[:, None, None]
    return np.asarray(np.where(kind == 1, disc, np.where(kind == 2, square, triangle)))
