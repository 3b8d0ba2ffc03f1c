"""What is freed is kept: large arrays do not come as fresh pages each time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Faults of twenty arrays of 16 MiB, one after the other, beyond the first.
SCRIPT = """
import resource
import numpy as np
from trine.backends.base import load
load("numpy")
for i in range(21):
    if i == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(4 << 20, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> int:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=known | environment, capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the GNU C library's own")
def test_large_arrays_take_the_place_of_those_before() -> None:
    assert faults() < 200
    # Huge pages make it fewer faults than 20 * 4096, not none.
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > 200
