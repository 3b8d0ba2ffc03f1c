"""Every shipped spec trains three steps with the same losses on the three backends, and runs as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnxruntime
import pytest
import torch
import trine
from trine.backends.base import load
from trine.compiler.analysis import parameters
from trine.compiler.build import build
from trine.compiler.ir import Array, DType
from trine.compiler.passes import Model, for_inference
from trine.compiler.spec.diagnostics import Report
from trine.compiler.spec.reader import Spec
from trine.compiler.spec.schema import schema
from trine.compiler.spec.source import read_text
from trine.runtime.data import Dataset
from trine.runtime.model import LoadedModel, initial_weights
from trine.runtime.progress import Silent
from trine.runtime.runs import resolved_text
from trine.runtime.session import prepare
from trine.runtime.specs import open_spec, zoo
from trine.runtime.trainer import Trainer

torch.set_num_threads(1)

VALIDATOR = jsonschema.Draft7Validator(schema())

IDX = ("vision/fashion-cnn", "vision/lenet", "vision/resnet20", "vision/vgg")


def given(name: str) -> dict[str, Any] | None:
    """Rows for the specs whose data do not come with a package."""
    rng = np.random.default_rng(0)
    if name in IDX:
        rows = {"image": rng.integers(0, 256, (60, 1, 28, 28)).astype(np.uint8), "label": np.arange(60) % 10}
    elif name == "tabular/housing":
        rows = districts(rng)
    else:
        return None
    return {"train": rows, "valid": rows, "test": rows}


def districts(rng: np.random.Generator) -> dict[str, Any]:
    """Rows with the columns of the census of California, in its units; one cell is missing."""
    rows: dict[str, Any] = {
        "longitude": rng.uniform(-124, -114, 60),
        "latitude": rng.uniform(32, 42, 60),
        "housing_median_age": rng.integers(1, 53, 60),
        "median_income": rng.uniform(0.5, 15, 60),
        "median_house_value": rng.uniform(15e3, 5e5, 60),
        "ocean_proximity": np.array(["INLAND", "NEAR BAY", "<1H OCEAN"])[np.arange(60) % 3],
    }
    counts = ("total_rooms", "total_bedrooms", "population", "households")
    rows |= {name: rng.integers(1, 5_000, 60).astype(np.float64) for name in counts}
    rows["total_bedrooms"][7] = np.nan
    return rows


class Losses(Silent):
    def __init__(self) -> None:
        self.found: list[float] = []

    def step(self, batches: int, loss: float, lr: float) -> None:
        self.found.append(loss)


THREE = ["train.epochs=null", "train.steps=3", "train.batch=8", "train.schedule=null"]
# Of generated sets a part is enough; windows of a series need more of it.
ROWS = {"series": 1500}
# Recurrences are unrolled for training on ONNX, step by step: short sequences show the same.
SHORT = {
    "audio/ctc": ["data.fields.sound.hop=0.06", "model.inputs.sound=float[40, 32]"],
    "sequence/gru-classifier": ["data.fields.tokens.max_length=16", "train.buckets=[8]"],
    "series/lstm-forecast": ["params.past=24"],
}
# Three steps in float32 differ by the order of sums alone: SMOOTH. Rectified convolutions that are normalised over a
# batch of eight turn one rounding into another side of a kink now and then: in float32 they are held to KINKED, and in
# float64, where no rounding is near a kink, to EXACT (ONNX Runtime has no convolution in float64).
SMOOTH, KINKED, EXACT = 2e-5, 5e-3, 1e-9


def is_kinked(name: str) -> bool:
    return name.startswith("vision/") or name == "audio/spoken-digits"


def overrides(name: str) -> list[str]:
    source = open_spec(f"zoo:{name}").sections.data
    assert source is not None
    if name == "vision/resnet20":
        return ["train.optimizer.sgd.lr=0.01"]
    few = f"data.options={{rows: {ROWS.get(source.source.target, 240)}}}"
    return [*([few] if source.source.scheme == "generated" else []), *SHORT.get(name, [])]


def three_losses(spec: Spec, dataset: Dataset, backend: str, dtype: DType) -> list[float]:
    rows = dataset.splits["train"].arrays
    cast = {name: a.astype(dtype.numpy) if a.dtype.kind == "f" else a for name, a in rows.items()}
    losses = Losses()
    Trainer(spec, {"train": cast}, load(backend), losses, dtype, fields=dataset.fields).fit()
    assert len(losses.found) == 3
    return losses.found


@pytest.mark.parametrize("name", sorted(zoo()))
def test_three_steps_are_the_same_on_every_backend(name: str) -> None:
    sized, dataset = prepare(open_spec(f"zoo:{name}", [*THREE, *overrides(name)]), given(name))
    expected = three_losses(sized, dataset, "numpy", DType.f32)
    rtol = KINKED if is_kinked(name) else SMOOTH
    for backend in ("torch", "onnx"):
        found = three_losses(sized, dataset, backend, DType.f32)
        np.testing.assert_allclose(found, expected, rtol=rtol, err_msg=backend)
    if is_kinked(name):
        one, other = (three_losses(sized, dataset, backend, DType.f64) for backend in ("numpy", "torch"))
        np.testing.assert_allclose(one, other, rtol=EXACT)


@pytest.mark.parametrize("name", sorted(zoo()))
def test_resolved_forms_fit_the_schema(name: str) -> None:
    spec = open_spec(f"zoo:{name}")
    VALIDATOR.validate(read_text(resolved_text(spec), "resolved.yaml", Report()).plain)


def feeds_of(model: LoadedModel, rows: int, steps: int) -> dict[str, Array]:
    rng = np.random.default_rng(rows)
    feeds = {}
    for name, t in model.inputs.items():
        shape = (rows, *(d if isinstance(d, int) else steps for d in t.shape[1:]))
        size = model.spec.sizes.get(f"{name}.size", 2)
        drawn = rng.standard_normal(shape) if t.dtype.floating else rng.integers(0, size, shape)
        feeds[name] = drawn.astype(t.dtype.numpy)
    return feeds


@pytest.mark.parametrize("name", sorted(zoo()))
def test_onnx_files_of_any_batch_and_length(name: str, tmp_path: Path) -> None:
    sized, _ = prepare(open_spec(f"zoo:{name}", overrides(name)), given(name))
    weights = initial_weights(sized)
    model = for_inference(Model(build(sized).graph, weights))[0]
    load("onnx").export(model, tmp_path / "model.onnx", {})
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    numpy = load("numpy")
    run = numpy.compile(model.graph, numpy.state(model.weights))
    for rows, steps in ((1, 5), (3, 9)):
        feeds = feeds_of(LoadedModel(sized, weights, {}), rows, steps)
        expected = run(feeds)
        for output, found in zip(expected, session.run(list(expected), feeds), strict=True):
            np.testing.assert_allclose(found, expected[output], rtol=1e-3, atol=1e-4, err_msg=output)


def test_every_spec_is_on_the_page_of_the_zoo() -> None:
    page = (Path(trine.__file__).parent / "docs" / "zoo.md").read_text(encoding="utf-8")
    assert [name for name in zoo() if f"`{name.partition('/')[2]}`" not in page] == []


def test_blocks_are_no_specs() -> None:
    assert not [name for name in zoo() if name.startswith("blocks")]
    assert (Path(trine.__file__).parent / "specs" / "blocks").is_dir()


# ResNet-20 of the paper ("0.27M") has 269,722 for three channels of colour and shortcuts without parameters. With one
# channel it has 2 * 9 * 16 fewer; two projections and their normalisations add 16 * 32 + 32 * 64 + 2 * (32 + 64).
@pytest.mark.parametrize(("name", "count"), [("vision/lenet", 61_706), ("vision/resnet20", 269_722 - 288 + 2_752)])
def test_published_numbers_of_parameters(name: str, count: int) -> None:
    sized, _ = prepare(open_spec(f"zoo:{name}"), given(name))
    assert parameters(build(sized).graph) == count
