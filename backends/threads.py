"""How many threads a network runs on: one setting for the pools of all libraries.

PyTorch (OpenMP), ONNX Runtime and NumPy's BLAS have threads of their own, and each would take every core. Threads that
wait for each other by spinning lose whole time slices as soon as anything else wants a core, and such that sleep are
slow to wake up. So there are no more of them than cores, they fall asleep soon, and only one pool is wide at a time.

This module is imported before the libraries are, and imports none of them.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

VARIABLE = "TRINE_THREADS"

# What pools read once, when their library is loaded.
WIDTHS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# How their threads wait, so that they are there for the next op, and gone soon where others want the core: GNU's OpenMP
# looks a thousand times, LLVM's sleeps at once, OpenBLAS after 2^16 cycles.
OPENMP = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
WAITING = {**OPENMP, "OPENBLAS_THREAD_TIMEOUT": "16"}

_asked: int | None = None
_owned: int | None = None
# One graph's run owns the pools at a time; what begins meanwhile goes on under the same widths.
_lock = threading.Lock()
# Whether this is a program of ours, started by `prepare`, and not one that embeds us.
_program = False


def set_threads(count: int | None) -> None:
    """Let networks run on so many threads, on every backend, from here on; `None` is the default: see `threads`."""
    global _asked
    if count is not None and count < 1:
        raise ValueError(f"{count} threads: at least one is needed")
    _asked = count
    apply(threads())


def threads() -> int:
    """How many threads networks run on at present.

    What `set_threads` said; or else the environment's `TRINE_THREADS`, or `OMP_NUM_THREADS`; or else one for each core
    that this process may use.
    """
    return _owned or _wanted() or _number("OMP_NUM_THREADS") or cores()


def _wanted() -> int | None:
    """The number that was asked of us, if any."""
    return _asked or _number(VARIABLE)


def _number(variable: str) -> int | None:
    """A whole number of at least one in the environment. OpenMP's may be a list, by depth of nesting."""
    text = os.environ.get(variable, "").split(",")[0].strip()
    if not text:
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if variable != VARIABLE:
        return None
    from .base import BackendError

    raise BackendError(f"the environment's {VARIABLE} is `{text}`: expected a whole number of at least 1")


def cores() -> int:
    """The cores that this process may use; two threads of one core count once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})


def _siblings(cpu: int) -> str:
    """The logical processors that share a core with one, as the system writes them."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
    except OSError:
        return str(cpu)


def prepare(count: int | None = None) -> None:
    """Settle the pools of libraries that are not loaded yet, by the environment: for a program that has just started.

    What the environment says already stays, but for an explicit `count`.
    """
    global _program
    _program = True
    if count is not None:
        os.environ[VARIABLE] = str(count)
    for variable in WIDTHS:
        if count is not None:
            os.environ[variable] = str(count)
        else:
            os.environ.setdefault(variable, str(threads()))
    for variable, value in WAITING.items():
        if variable not in OPENMP or "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault(variable, value)


def loaded(backend: str) -> None:
    """A backend's library was loaded: give its pool its width, where one was asked for."""
    if backend == "torch" and _program:
        # Graphs run op by op: threads between ops have nothing to do. It can be said
        # once in a process, before any work.
        with suppress(RuntimeError):
            sys.modules["torch"].set_num_interop_threads(1)
    count = _wanted()
    if count is not None and _owned is None:
        apply(count)


def apply(count: int) -> None:
    """Set the width of every pool that is loaded; sessions of ONNX Runtime take theirs when they are made."""
    for backend in ("numpy", "torch"):
        if backend in sys.modules:
            _set(backend, count)


def _set(backend: str, count: int) -> None:
    if backend == "torch":
        sys.modules["torch"].set_num_threads(count)
    elif backend == "numpy":
        for library in blas():
            library.set_num_threads(count)


@contextmanager
def on(backend: str, count: int) -> Iterator[None]:
    """So many threads for a backend inside, and afterwards as many as before."""
    before = blas_threads() if backend == "numpy" else sys.modules["torch"].get_num_threads()
    _set(backend, count)
    try:
        yield
    finally:
        _set(backend, before)


@contextmanager
def owner(backend: str, count: int | None = None) -> Iterator[None]:
    """One backend runs the graphs inside, on no more threads than `count`, and NumPy's BLAS beside it on one.

    Afterwards all pools are as wide as before.
    """
    global _owned
    with _lock:
        free = _owned is None and threads() > 1
        if free:
            _owned = min(count or threads(), threads())
    if not free or _owned is None:
        yield
        return
    try:
        with ExitStack() as stack:
            stack.enter_context(on("numpy", min(blas_threads(), _owned if backend == "numpy" else 1)))
            if backend == "torch":
                stack.enter_context(on("torch", min(sys.modules["torch"].get_num_threads(), _owned)))
            yield
    finally:
        _owned = None


def blas_threads() -> int:
    """How many threads NumPy's BLAS uses at present."""
    return max((library.get_num_threads() for library in blas()), default=1)


@functools.cache
def blas() -> list[Any]:
    """Handles of the BLAS libraries that NumPy and SciPy use, by threadpoolctl. PyTorch sets its own."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    found = ThreadpoolController().lib_controllers
    return [library for library in found if library.user_api == "blas" and "torch" not in Path(library.filepath).parts]
