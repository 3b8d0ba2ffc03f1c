"""How parameters start: named distributions, drawn from a generator keyed by seed and name."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from .ir import Array, Input, Shape, Value, input_of
from .spec.kinds import PositiveFloat
from .spec.registry import Registry

INITIALISERS = Registry("initialiser", "an")
_add = INITIALISERS.register


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A random generator that depends on the seed and the purpose alone (counter-based Philox)."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_key(seed, *purpose), "little")))


class Rekeyed:
    """One generator that gives the numbers of `generator` for one purpose after another.

    A generator of its own asks the system for entropy, which takes longer than to draw some thousand numbers.
    """

    def __init__(self) -> None:
        self._philox = np.random.Philox(key=0)
        self._fresh = self._philox.state
        self._generator = np.random.Generator(self._philox)

    def keyed(self, seed: int, *purpose: str | int) -> np.random.Generator:
        """The generator, at its start for a purpose; what was given before is the same object."""
        key = np.frombuffer(_key(seed, *purpose), "<u8")
        self._philox.state = {**self._fresh, "state": {**self._fresh["state"], "key": key}}
        return self._generator


def _key(seed: int, *purpose: str | int) -> bytes:
    text = "\0".join(map(str, (seed, *purpose)))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def initialise(value: Value, seed: int) -> Array:
    """The first value of a parameter or buffer."""
    declared: Input = input_of(value)
    shape = tuple(int(dim) for dim in declared.t.shape)
    init = declared.init
    if init is None:
        return np.zeros(shape, declared.t.dtype.numpy)
    function = INITIALISERS[init.name].function
    drawn = function(generator(seed, "init", declared.name), shape, **dict(init.args))
    return np.asarray(drawn, declared.t.dtype.numpy, order="C")


def fans(shape: Shape) -> tuple[int, int]:
    """How many inputs and outputs a weight [out, in, *kernel] connects."""
    dims = [int(d) for d in shape]
    if len(dims) < 2:
        return (dims[0] if dims else 1,) * 2
    taps = math.prod(dims[2:])
    return dims[1] * taps, dims[0] * taps


@_add
def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """All zeros.

    Example: linear: {units: 10, init: zeros}
    """
    return np.zeros(shape)


@_add
def constant(rng: np.random.Generator, shape: tuple[int, ...], *, value: float = 1.0) -> Array:
    """One number everywhere.

    value: the number.
    Example: linear: {units: 10, init: {constant: 0.5}}
    """
    return np.full(shape, value)


@_add
def normal(rng: np.random.Generator, shape: tuple[int, ...], *, std: PositiveFloat = 0.02) -> Array:
    """A normal distribution around zero.

    std: its standard deviation.
    Example: linear: {units: 10, init: {normal: 0.01}}
    """
    return rng.standard_normal(shape) * std


@_add
def uniform(rng: np.random.Generator, shape: tuple[int, ...], *, limit: PositiveFloat = 0.05) -> Array:
    """A uniform distribution between -limit and limit.

    limit: the largest magnitude.
    Example: linear: {units: 10, init: {uniform: 0.1}}
    """
    return rng.uniform(-limit, limit, shape)


@_add
def glorot(rng: np.random.Generator, shape: tuple[int, ...], *, gain: PositiveFloat = 1.0) -> Array:
    """Uniform, with a variance of 2 / (inputs + outputs) (Glorot & Bengio, 2010).

    gain: a factor on the standard deviation.
    Example: linear: {units: 10, init: glorot}
    """
    limit = gain * math.sqrt(6.0 / sum(fans(shape)))
    return rng.uniform(-limit, limit, shape)


@_add
def he(rng: np.random.Generator, shape: tuple[int, ...], *, gain: PositiveFloat = 1.0) -> Array:
    """Normal, with a variance of 2 / inputs, for rectifiers (He et al., 2015).

    gain: a factor on the standard deviation.
    Example: linear: {units: 10, init: he}
    """
    return rng.standard_normal(shape) * (gain * math.sqrt(2.0 / fans(shape)[0]))


@_add
def orthogonal(rng: np.random.Generator, shape: tuple[int, ...], *, gain: PositiveFloat = 1.0) -> Array:
    """Orthonormal rows or columns, whichever are fewer (Saxe et al., 2013).

    gain: a factor on every number.
    Example: linear: {units: 10, init: orthogonal}
    """
    rows, columns = shape[0], math.prod(shape[1:])
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.sign(np.diag(r))
    return gain * (q if rows >= columns else q.T).reshape(shape)
