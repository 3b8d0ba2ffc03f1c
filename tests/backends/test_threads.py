"""One setting for the threads of all libraries, and one wide pool at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
import trine
from threadpoolctl import threadpool_info
from trine.backends import threads as pools
from trine.backends.base import BackendError


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves the pools as they were, and the environment."""
    monkeypatch.setattr(pools, "_asked", None)
    monkeypatch.setattr(pools, "_program", False)
    for name in (pools.VARIABLE, *pools.WIDTHS, *pools.WAITING):
        monkeypatch.setenv(name, "1")  # noted, so that it is put back
        monkeypatch.delenv(name)
    wide = torch.get_num_threads()
    with pools.on("numpy", pools.blas_threads()):
        yield
    torch.set_num_threads(wide)


def blas() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_a_number_reaches_every_pool() -> None:
    for count in (2, 1, 2):
        trine.set_threads(count)
        assert trine.threads() == count
        assert torch.get_num_threads() == count
        assert blas() == {count}


def test_blas_waits_while_another_library_runs_the_graphs() -> None:
    trine.set_threads(2)
    with pools.owner("torch"):
        assert blas() == {1}
        assert torch.get_num_threads() == 2
    assert blas() == {2}
    with pytest.raises(KeyError), pools.owner("onnx"):
        raise KeyError
    assert blas() == {2}


def test_small_work_has_one_thread_and_only_while_it_lasts() -> None:
    trine.set_threads(2)
    with pools.owner("torch", 1):
        assert trine.threads() == torch.get_num_threads() == 1
        with pools.owner("torch", 2):
            assert torch.get_num_threads() == 1
    assert trine.threads() == torch.get_num_threads() == 2
    with pools.owner("numpy", 1):
        assert blas() == {1}
        assert torch.get_num_threads() == 2
    assert blas() == {2}


def test_where_the_number_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= pools.threads() == pools.cores() <= len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert pools.threads() == 3
    monkeypatch.setenv("TRINE_THREADS", "5")
    assert pools.threads() == 5
    monkeypatch.setattr(pools, "_asked", 7)
    assert pools.threads() == 7


def test_a_cores_two_threads_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 9})
    monkeypatch.setattr(pools, "_siblings", lambda cpu: {0: "0,2", 2: "0,2", 1: "1,3", 3: "1,3", 9: "9"}[cpu])
    assert pools.cores() == 3


def test_numbers_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert pools.threads() == pools.cores()
    monkeypatch.setenv("TRINE_THREADS", "0")
    with pytest.raises(BackendError, match="`0`: expected a whole number of at least 1"):
        pools.threads()
    with pytest.raises(ValueError, match="at least one"):
        trine.set_threads(0)


def test_the_environment_of_a_new_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "8")
    pools.prepare()
    assert os.environ["OMP_NUM_THREADS"] == str(pools.cores())
    assert os.environ["MKL_NUM_THREADS"] == "8"
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    pools.prepare(3)
    assert [os.environ[name] for name in pools.WIDTHS] == ["3", "3", "3"]
    assert pools.threads() == 3
