"""A package of somebody else's adds a layer, a loss and an optimizer; they act like those built in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = '''
"""Layers that another package brings."""

from trine.compiler.layers.core import Builder, need_floats
from trine.compiler.ir import Init, Value
from trine.compiler.ops.elementwise import Abs
from trine.compiler.ops.optim import Sgd, Update
from trine.compiler.spec.kinds import PositiveFloat


def soft_sign(b: Builder, x: Value, *, sharpness: PositiveFloat = 1.0) -> Value:
    """x / (1 / sharpness + |x|), with a learned scale.

    Parameter `scale` [].

    sharpness: how fast it saturates.
    Example: soft_sign: 2.0
    """
    need_floats(x)
    scale = b.parameter("scale", (), Init("constant", (("value", 1.0),)))
    return x / (Abs()(x) + 1.0 / sharpness) * scale


def halved_sgd(*, lr: PositiveFloat = 0.1) -> Update:
    """Gradient descent with a weight decay of 0.5.

    lr: the learning rate.
    Example: {halved_sgd: {lr: 0.1}}
    """
    return Sgd(decay=0.5)
'''
SPEC = """
spec: 1
name: plugged
data:
  source: sklearn:wine
  fields:
    x: {columns: [alcohol, ash], scale: standard}
    y: {column: target, encode: ids}
model:
  inputs: {x: "float[2]"}
  layers: [{linear: 8}, {soft_sign: {sharpness: 2.0}}, {linear: $y.size, as: logits}]
train: {loss: {cross_entropy: [logits, y]}, optimizer: halved_sgd, epochs: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plugged").mkdir()
    (tmp_path / "plugged" / "__init__.py").write_text(PACKAGE)
    about = tmp_path / "plugged-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[trine.layers]\nsoft_sign = plugged:soft_sign\n[trine.optimizers]\nhalved_sgd = plugged:halved_sgd\n"
    )
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def trine(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from trine.cli import main; main()", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip


def test_a_layer_of_another_package(folder: Path) -> None:
    assert trine(folder, "check", "spec.yaml").stdout.strip() == "spec.yaml: ok"
    docs = trine(folder, "docs", "soft_sign").stdout
    assert "x / (1 / sharpness + |x|)" in docs
    assert "how fast it saturates" in docs
    assert '"soft_sign"' in trine(folder, "schema").stdout
    losses = set()
    for backend in ("numpy", "torch", "onnx"):
        found = trine(folder, "train", "spec.yaml", "--quiet", "--backend", backend, "--out", f"runs/{backend}")
        assert found.returncode == 0, found.stderr
        losses.add(found.stdout.splitlines()[1])
    assert len(losses) == 1


def test_its_errors_are_like_those_of_any_layer(folder: Path) -> None:
    (folder / "spec.yaml").write_text(SPEC.replace("sharpness: 2.0", "sharpnes: -1").replace("linear: 8", "lineal: 8"))
    found = trine(folder, "check", "spec.yaml").stderr
    assert "`soft_sign` has no argument `sharpnes`" in found
    assert "did you mean `sharpness`?" in found
    (folder / "spec.yaml").write_text(SPEC.replace("sharpness: 2.0", "sharpness: -1"))
    assert "expects a number above 0, found -1" in trine(folder, "check", "spec.yaml").stderr
