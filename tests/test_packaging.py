"""What is built installs and works, the zoo included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import trine

ROOT = Path(trine.__file__).parent
SHIPPED = ("cli", "compiler", "backends", "runtime", "specs")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel and an sdist, built from a copy of what is shipped."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SHIPPED:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.py"), *(ROOT / n for n in ("pyproject.toml", "README.md", "LICENSE", "py.typed"))]:
        shutil.copy(path, source / path.name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_wheel_installs_and_works(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = "import trine, pathlib; print(pathlib.Path(trine.__file__).parent); from trine.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", script, "check", "zoo:vision/digits-mlp", "zoo:tabular/wine"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.splitlines() == [str(tmp_path / "trine"), "zoo:vision/digits-mlp: ok", "zoo:tabular/wine: ok"]


def test_the_sdist_holds_what_the_wheel_needs(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    (sdist,) = built.glob("*.tar.gz")
    in_wheel = {n.removeprefix("trine/") for n in zipfile.ZipFile(wheel).namelist() if n.startswith("trine/")}
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert in_wheel <= in_sdist
    assert "specs/vision/digits-cnn.yaml" in in_wheel
    assert "specs/blocks/squeeze-excite.yaml" in in_wheel
    assert "py.typed" in in_wheel
    assert not any(name.startswith("tests") for name in in_wheel)
