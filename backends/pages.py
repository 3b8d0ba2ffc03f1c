"""Memory that is kept from step to step, where the C library would give it back to the system and get it anew.

A step of training allocates the same pieces each time. Fresh ones come as pages of zeros, each of which costs a fault:
a third of a step of ResNet-20 on PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

# From <malloc.h>: what is freed at the end of the heap is given back from so many bytes on, pieces of so many come from
# elsewhere and are given back by themselves.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 2**31 - 1
# Versions before 2.35 take no more than the second.
PIECES = 2**30, 2**25

# Where the environment says how memory is to be had, that stays.
SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


@functools.cache
def keep() -> bool:
    """Have the GNU C library keep up to two gigabytes of what was freed, from here on; whether it does."""
    settled = any(name in os.environ for name in SETTINGS) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if settled or not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    kept = any(library.mallopt(M_MMAP_THRESHOLD, size) for size in PIECES)
    return kept and bool(library.mallopt(M_TRIM_THRESHOLD, KEPT))
