"""The machine: what it is, and whether it is disturbed."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("trine", "numpy", "torch", "onnx", "onnxruntime", "openvino", "jax", "keras", "lightning", "scikit-learn"),
)
# The instructions that decide what a processor can reach.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")


def machine() -> dict[str, Any]:
    """The processor, the system, and the versions of the packages that are installed."""
    about = _first_of("/proc/cpuinfo")
    flags = about.get("flags", about.get("Features", "")).split()
    memory = _first_of("/proc/meminfo").get("MemTotal", "")
    return {
        "processor": about.get("model name", platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "memory": f"{int(memory.split()[0]) / 2**20:.0f} GiB" if memory else "",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "date": time.strftime("%Y-%m-%d"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _first_of(path: str) -> dict[str, str]:
    """The first entry of a file of `key: value` lines; nothing where there is no such file."""
    found: dict[str, str] = {}
    if not Path(path).exists():
        return found
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip():
            found.setdefault(key.strip(), value.strip())
    return found


class Watch:
    """How much of a core other processes take, from when it is made; not known where there is no `/proc`."""

    def __init__(self) -> None:
        self.began, self.others = time.perf_counter(), _others()

    def share(self) -> float:
        """In units of one core; 0 where it is not known."""
        now = _others()
        if now is None or self.others is None:
            return 0.0
        return (now - self.others) / (time.perf_counter() - self.began)


def _others() -> float | None:
    """The seconds that all cores together have spent on anything but this process."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _idle, _wait, irq, softirq, stolen = map(int, path.read_text().split(maxsplit=9)[1:9])
    busy = (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])
