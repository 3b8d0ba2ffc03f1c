"""Augmentations: images changed at random in training, anew for each batch, in ways that leave their meaning as it is.

They take numbers that are scaled already [N, channels, height, width], or [N, height, width], and draw for each image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.spec.kinds import Fraction, NonNegative, Positive
from ...compiler.spec.registry import AUGMENTATIONS, Call
from .table import Array


def augmented(images: Array, calls: Sequence[Call], rng: np.random.Generator) -> Array:
    """The images changed by each augmentation, in order."""
    for call in calls:
        images = call(images, rng)
    return images


@AUGMENTATIONS.register
def flip(images: Array, rng: np.random.Generator, *, chance: Fraction = 0.5, vertical: bool = False) -> Array:
    """Images flipped, left and right exchanged.

    chance: how often an image is flipped.
    vertical: whether top and bottom are exchanged instead.
    Example: augment: [flip]
    """
    chosen = rng.random(len(images)) < chance
    out = images.copy()
    out[chosen] = np.flip(images[chosen], -2 if vertical else -1)
    return out


@AUGMENTATIONS.register
def crop(images: Array, rng: np.random.Generator, *, pad: Positive = 4) -> Array:
    """Images moved by up to `pad` pixels along each axis: zeros are put around them, and a part of their size cut out.

    pad: how many zeros on each side.
    Example: augment: [{crop: {pad: 2}}]
    """
    height, width = images.shape[-2:]
    around = [(0, 0)] * (images.ndim - 2) + [(pad, pad)] * 2
    wide = np.pad(images, around)
    views = np.lib.stride_tricks.sliding_window_view(wide, (height, width), axis=(-2, -1))
    down, right = rng.integers(0, 2 * pad + 1, (2, len(images)))
    # A view for each place, of which every image takes its own.
    places = (np.arange(len(images)), *([slice(None)] if images.ndim == 4 else []), down, right)
    return np.ascontiguousarray(views[places])


@AUGMENTATIONS.register
def erase(images: Array, rng: np.random.Generator, *, size: Positive = 8, chance: Fraction = 0.5) -> Array:
    """A square of each image set to zero, in part outside of it where it is near an edge (DeVries & Taylor, 2017).

    size: how many pixels wide and high it is.
    chance: how often an image has one.
    Example: augment: [{erase: {size: 8}}]
    """
    height, width = images.shape[-2:]
    chosen = rng.random(len(images)) < chance
    top, left = (rng.integers(0, length, len(images)) - size // 2 for length in (height, width))
    rows = (np.arange(height) >= top[:, None]) & (np.arange(height) < top[:, None] + size)
    columns = (np.arange(width) >= left[:, None]) & (np.arange(width) < left[:, None] + size)
    gone = rows[:, :, None] & columns[:, None, :] & chosen[:, None, None]
    return np.where(gone[:, None] if images.ndim == 4 else gone, np.float32(0), images)


@AUGMENTATIONS.register
def noise(images: Array, rng: np.random.Generator, *, std: NonNegative = 0.1) -> Array:
    """Numbers with normal noise added to each.

    std: its standard deviation, in the units of the scaled numbers.
    Example: augment: [{noise: {std: 0.05}}]
    """
    drawn: Array = rng.standard_normal(images.shape, np.float32)
    return images + np.float32(std) * drawn


@AUGMENTATIONS.register
def brightness(images: Array, rng: np.random.Generator, *, most: NonNegative = 0.2) -> Array:
    """Images with their numbers multiplied by a factor of their own, from 1 - most to 1 + most.

    most: how far the factor is from 1, at most.
    Example: augment: [{brightness: {most: 0.2}}]
    """
    factors = rng.uniform(1 - most, 1 + most, len(images)).astype(np.float32)
    return images * factors.reshape(-1, *(1 for _ in images.shape[1:]))
