"""The blocks that ship with trine, taken in by `use` and compared with PyTorch."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import trine
from layer_samples import feeds_of
from trine.compiler.build import build
from trine.compiler.ir import DType, evaluate
from trine.compiler.rewrite import with_precision
from trine.compiler.spec.reader import read
from trine.runtime.specs import zoo

torch = pytest.importorskip("torch")
F = torch.nn.functional

BLOCKS = Path(trine.__file__).parent / "specs" / "blocks"


def test_blocks_are_no_specs_of_the_zoo() -> None:
    assert sorted(BLOCKS.glob("*.yaml"))
    assert not [name for name in zoo() if name.startswith("blocks/")]


@pytest.mark.parametrize(("arguments", "inner"), [("8", 2), ("{channels: 8, reduction: 2}", 4)])
def test_squeeze_and_excitation(arguments: str, inner: int, tmp_path: Path) -> None:
    used = Path(os.path.relpath(BLOCKS / "squeeze-excite.yaml", tmp_path)).as_posix()
    path = tmp_path / "spec.yaml"
    path.write_text(
        "spec: 1\nmodel:\n  inputs: {x: 'float[8, 3, 4]'}\n"
        f"  blocks: {{use: {used}}}\n  layers:\n    - squeeze_excite: {arguments}\n      as: se\n"
    )
    graph = with_precision(build(read(path), "infer").graph, DType.f64)
    assert graph.input("se.squeeze.weight").shape == (inner, 8)
    feeds = feeds_of(graph)
    w = {name: torch.tensor(array) for name, array in feeds.items()}
    hidden = F.relu(F.linear(w["x"].mean((2, 3)), w["se.squeeze.weight"], w["se.squeeze.bias"]))
    gate = torch.sigmoid(F.linear(hidden, w["se.excite.weight"], w["se.excite.bias"]))
    (found,) = evaluate(graph.outputs.values(), feeds)
    # the same float64 sums in another order
    np.testing.assert_allclose(found, (w["x"] * gate[:, :, None, None]).numpy(), rtol=1e-12, atol=1e-12)


def test_convolution_normalisation_and_rectifier(tmp_path: Path) -> None:
    used = Path(os.path.relpath(BLOCKS / "conv-norm-relu.yaml", tmp_path)).as_posix()
    path = tmp_path / "spec.yaml"
    path.write_text(
        "spec: 1\nmodel:\n  inputs: {x: 'float[3, 6, 8]'}\n"
        f"  blocks: {{use: {used}}}\n  layers:\n    - conv_norm_relu: {{filters: 5, stride: 2}}\n      as: c\n"
    )
    graph = with_precision(build(read(path), "infer").graph, DType.f64)
    assert graph.input("c.conv_1.weight").shape == (5, 3, 3, 3)
    feeds = feeds_of(graph)
    feeds["c.batch_norm_1.variance"] = np.abs(feeds["c.batch_norm_1.variance"])
    w = {name: torch.tensor(array) for name, array in feeds.items()}
    mean, variance, scale, shift = (w[f"c.batch_norm_1.{name}"] for name in ("mean", "variance", "scale", "shift"))
    y = F.conv2d(w["x"], w["c.conv_1.weight"], stride=2, padding=1)
    wanted = F.relu(F.batch_norm(y, mean, variance, scale, shift))
    (found,) = evaluate(graph.outputs.values(), feeds)
    # the same float64 sums in another order
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-10, atol=1e-12)
