"""Initialisers: moments, orthogonality, and what their numbers depend on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from trine.compiler.initialisers import INITIALISERS, Rekeyed, fans, generator, initialise
from trine.compiler.ir import DType, Init, Input, Type

SHAPE = (200, 100, 3)  # 60 000 numbers: a standard deviation is estimated to 0.3 %, a mean to 0.4 % of it
INPUTS, OUTPUTS = 300, 600
LIMIT = math.sqrt(6 / (INPUTS + OUTPUTS))

# name, arguments, standard deviation, largest magnitude
DISTRIBUTIONS: list[tuple[str, dict[str, float], float, float]] = [
    ("normal", {}, 0.02, math.inf),
    ("normal", {"std": 0.5}, 0.5, math.inf),
    ("uniform", {}, 0.05 / math.sqrt(3), 0.05),
    ("uniform", {"limit": 2.0}, 2 / math.sqrt(3), 2.0),
    ("glorot", {}, math.sqrt(2 / (INPUTS + OUTPUTS)), LIMIT),
    ("glorot", {"gain": 2.0}, 2 * math.sqrt(2 / (INPUTS + OUTPUTS)), 2 * LIMIT),
    ("he", {}, math.sqrt(2 / INPUTS), math.inf),
    ("he", {"gain": 0.5}, 0.5 * math.sqrt(2 / INPUTS), math.inf),
]


def drawn(
    name: str, seed: int = 0, parameter: str = "w", shape: Any = SHAPE, dtype: DType = DType.f64, **args: float
) -> Any:
    return initialise(Input(parameter, Type(shape, dtype), "param", Init(name, tuple(args.items())))(), seed)


@pytest.mark.parametrize(("name", "args", "std", "limit"), DISTRIBUTIONS)
def test_moments(name: str, args: dict[str, float], std: float, limit: float) -> None:
    a = drawn(name, **args)
    # five standard errors
    assert abs(a.mean()) < 5 * std / math.sqrt(a.size)
    assert abs(a.std() / std - 1) < 5 * 0.003
    assert np.abs(a).max() <= limit
    if limit < math.inf:
        assert np.abs(a).max() > 0.99 * limit
    else:
        assert abs((a**4).mean() / std**4 - 3) < 0.2  # that of a normal distribution; five errors of 0.04


def test_constants() -> None:
    np.testing.assert_array_equal(drawn("zeros", shape=(2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(drawn("constant", shape=(3,)), np.ones(3))
    np.testing.assert_array_equal(drawn("constant", shape=(3,), value=0.25), np.full(3, 0.25))
    undeclared = Input("s", Type((2,)), "buffer")()
    np.testing.assert_array_equal(initialise(undeclared, 0), np.zeros(2, np.float32))


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (6, 2, 3), (3, 2, 3, 3), (7,)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    flat = drawn("orthogonal", shape=shape, gain=2.0).reshape(shape[0], -1)
    gram = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_orthogonal_has_no_preferred_sign() -> None:
    firsts = [drawn("orthogonal", seed=seed, shape=(3, 3))[0, 0] for seed in range(40)]
    assert 8 <= sum(first > 0 for first in firsts) <= 32  # outside: less than one in ten thousand


@pytest.mark.parametrize("name", sorted(set(INITIALISERS) - {"zeros", "constant"}))
def test_numbers_depend_on_seed_and_name_alone(name: str) -> None:
    shape = (8, 6)
    np.testing.assert_array_equal(drawn(name, shape=shape), drawn(name, shape=shape))
    a, b, c = drawn(name, shape=shape), drawn(name, seed=1, shape=shape), drawn(name, parameter="v", shape=shape)
    for x, y in ((a, b), (a, c), (b, c)):
        assert not np.any(x == y)


def test_parameters_are_independent() -> None:
    rows = np.stack([drawn("normal", parameter=f"layer_{i}.weight", shape=(20_000,)) for i in range(6)])
    correlation = np.corrcoef(rows) - np.eye(6)
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)  # five standard errors


def test_purposes_do_not_run_into_each_other() -> None:
    firsts = {
        generator(*key).random() for key in ((1, "a", "b"), (1, "ab"), (1, "a"), (11, "a"), (1, "a", 1), (1, 1, "a"))
    }
    assert len(firsts) == 6


def test_draws_do_not_depend_on_each_other() -> None:
    alone = drawn("he", parameter="b")
    drawn("he", parameter="a")
    np.testing.assert_array_equal(drawn("he", parameter="b"), alone)


@pytest.mark.parametrize("dtype", [DType.f64, DType.f32, DType.f16, DType.i64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("name", ["zeros", "constant"])
def test_type_is_the_declared_one(name: str, shape: tuple[int, ...], dtype: DType) -> None:
    array = drawn(name, shape=shape, dtype=dtype)
    assert array.shape == shape
    assert array.dtype == dtype.numpy
    assert array.flags.c_contiguous


def test_every_initialiser_gives_float32_of_the_shape() -> None:
    for name in INITIALISERS:
        array = drawn(name, shape=(4, 3, 2), dtype=DType.f32)
        assert (array.shape, array.dtype, array.flags.c_contiguous) == ((4, 3, 2), np.float32, True)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((), (1, 1)), ((5,), (5, 5)), ((4, 3), (3, 4)), ((4, 3, 2), (6, 8)), ((4, 3, 2, 5), (30, 40))],
)
def test_fans(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert fans(shape) == expected


def test_one_generator_gives_the_numbers_of_many() -> None:
    """Whatever was drawn before: three numbers of 32 bits leave one that is drawn already behind."""
    rekeyed = Rekeyed()
    for purpose in (("dropout", 1), ("dropout", 2), ("dropout", 1), ("a", "b"), ("a\0b",)):
        expected, rng = generator(7, *purpose), rekeyed.keyed(7, *purpose)
        assert np.array_equal(expected.random(3, np.float32), rng.random(3, np.float32)), purpose
        assert np.array_equal(expected.permutation(5), rng.permutation(5)), purpose
        assert np.array_equal(expected.standard_normal(4), rng.standard_normal(4)), purpose
