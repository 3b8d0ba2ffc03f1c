"""NumPy kernels for pooling, without loops over pixels: whole slices are compared or added, axis by axis.

Windows lie over the trailing axes, whatever their order in memory; `work` holds arrays that are used again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .kernels import Array, Ints, Pads, Work, like, padded


def max_pool(
    x: Array, kernel: Ints, stride: Ints, pads: Pads, out: Array | None = None, work: Work | None = None
) -> Array:
    """The largest number of each window."""
    return slide(np.maximum, -np.inf, x, kernel, stride, pads, out, work)


def window_sum(
    x: Array, kernel: Ints, stride: Ints, pads: Pads, out: Array | None = None, work: Work | None = None
) -> Array:
    """The sum of each window."""
    return slide(np.add, 0.0, x, kernel, stride, pads, out, work)


def slide(
    join: Any, start: float, x: Array, kernel: Ints, stride: Ints, pads: Pads, out: Array | None, work: Work | None
) -> Array:
    """What `join` makes of each window, `start` being its neutral number: first along one axis, then the next."""
    lead = x.ndim - len(kernel)
    size = tuple(
        (d + low + high - k) // s + 1 for d, k, s, (low, high) in zip(x.shape[lead:], kernel, stride, pads, strict=True)
    )
    y = like(x, (*x.shape[:lead], *size), x.dtype, None, "") if out is None else out
    step = max(1, (1 << 19) * x.shape[0] // max(1, x.nbytes)) if lead else x.shape[0]
    for i in range(0, x.shape[0], step):
        part = x[i : i + step]
        for a in range(len(kernel)):
            shape = (*part.shape[: lead + a], size[a], *part.shape[lead + a + 1 :])
            final = a == len(kernel) - 1
            target = y[i : i + step] if final else like(part, shape, x.dtype, work, f"axis {a % 2}")
            join_along(join, start, part, lead + a, kernel[a], stride[a], pads[a][0], target)
            part = target
    return y


def join_along(join: Any, start: float, x: Array, axis: int, kernel: int, stride: int, low: int, out: Array) -> None:
    """Windows of one axis, one of its taps after the other; before it lie `low` numbers that are not there."""
    size, count = x.shape[axis], out.shape[axis]
    before: Any = (slice(None),) * axis
    parts: list[tuple[Any, Any]] = []
    for tap in range(kernel):
        first = max(0, -(-(low - tap) // stride))
        last = max(first - 1, min(count - 1, (size - 1 + low - tap) // stride))
        begin = first * stride + tap - low
        span = slice(begin, begin + (last - first) * stride + 1, stride)
        parts.append(((*before, slice(first, last + 1)), (*before, span)))
    whole = (*before, slice(0, count))
    if [place for place, _ in parts[:2]] == [whole, whole]:
        join(x[parts[0][1]], x[parts[1][1]], out=out)
        parts = parts[2:]
    else:
        out.fill(start)
    for place, source in parts:
        join(out[place], x[source], out=out[place])


def max_pool_grad(
    g: Array,
    x: Array,
    y: Array,
    kernel: Ints,
    stride: Ints,
    pads: Pads,
    out: Array | None = None,
    work: Work | None = None,
) -> Array:
    """The gradient of `max_pool`: each number of g goes to the first largest of its window."""
    lead = x.ndim - len(kernel)
    found = like(x, x.shape, g.dtype, None, "") if out is None else out
    bare = not any(low or high for low, high in pads)
    apart = bare and all(k == s and d % s == 0 for k, s, d in zip(kernel, stride, x.shape[lead:], strict=True))
    inside: Any = tuple(slice(low, low + d) for d, (low, _) in zip(x.shape[lead:], pads, strict=True))
    step = max(1, (1 << 19) * x.shape[0] // max(1, x.nbytes)) if lead else x.shape[0]
    for i in range(0, x.shape[0], step):
        source, part = padded(x[i : i + step], pads, work, -np.inf), found[i : i + step]
        target = part if bare else like(source, source.shape, g.dtype, work, "whole")
        if not apart:
            target.fill(0)
        to_first(g[i : i + step], source, y[i : i + step], kernel, stride, apart, target, work)
        if not bare:
            part[:] = target[(..., *inside)]
    return found


def to_first(
    g: Array, x: Array, y: Array, kernel: Ints, stride: Ints, apart: bool, out: Array, work: Work | None
) -> None:
    """Each number of g to the first of its window of x that equals y; where windows are `apart` nothing is added up."""
    hit, free = (like(y, y.shape, np.bool_, work, name) for name in ("hit", "free"))
    term = like(y, y.shape, g.dtype, work, "term")
    if g.strides != y.strides:
        turned = like(y, y.shape, g.dtype, work, "gradient")
        np.copyto(turned, g)
        g = turned
    free.fill(True)
    for tap in np.ndindex(*kernel):
        place: Any = (
            ...,
            *(slice(o, o + t * (n - 1) + 1, t) for o, t, n in zip(tap, stride, y.shape[-len(kernel) :], strict=True)),
        )
        np.equal(x[place], y, out=hit)
        np.logical_and(hit, free, out=hit)
        np.not_equal(free, hit, out=free)
        if apart:
            np.multiply(g, hit, out=out[place])
        else:
            np.multiply(g, hit, out=term)
            np.add(out[place], term, out=out[place])
