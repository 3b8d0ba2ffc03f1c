"""The diffs of docs/contributing.md apply, and what the page says follows from them does follow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trine

ROOT = Path(trine.__file__).parent
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
COPIED = ("compiler", "backends", "runtime", "specs", "tests")


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with all diffs of the page applied."""
    copy = tmp_path_factory.mktemp("copy") / "trine"
    copy.mkdir()
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*.py"):
        shutil.copy(path, copy)
    for diff in re.findall(r"^```diff\n(.*?)^```$", PAGE, re.M | re.S):
        done = subprocess.run(["git", "apply", "-p1", "-"], input=diff, text=True, cwd=copy, capture_output=True)
        assert done.returncode == 0, done.stderr
    return copy


def python(changed: Path, *args: str) -> str:
    """Run Python on the changed copy."""
    environment = {**os.environ, "PYTHONPATH": f"{changed.parent}{os.pathsep}{changed / 'tests'}"}
    done = subprocess.run([sys.executable, *args], cwd=changed.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_op_is_tested_by_its_sample(changed: Path) -> None:
    out = python(
        changed,
        "-m",
        "pytest",
        "-c",
        "trine/tests/pytest.ini",
        "trine/tests/compiler/ops/test_ops.py",
        "-k",
        "Softsign",
    )
    assert int(re.search(r"(\d+) passed", out)[1]) >= 4


def test_the_layer_is_parsed_documented_and_suggested(changed: Path) -> None:
    script = "from trine.cli import main; main()"
    assert "between -1 and 1" in python(changed, "-c", script, "docs", "softsign")
    spec = changed.parent / "spec.yaml"
    spec.write_text("spec: 1\nmodel:\n  inputs: {x: 'float[4]'}\n  layers:\n    - linear: 3\n    - softsign\n")
    assert "spec.yaml: ok" in python(changed, "-c", script, "check", "spec.yaml")
    assert '"softsign"' in python(changed, "-c", script, "schema")


def test_the_rule_does_what_its_test_says(changed: Path) -> None:
    test = re.search(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)[1]
    imports = """
from trine.compiler.passes import Model
from trine.compiler.passes.simplify import simplify
from trine.compiler.text import parse, write
"""
    python(changed, "-c", imports + test + "\ntest_the_sign_goes()")
