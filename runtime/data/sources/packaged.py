"""Data sets that come with packages."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from ....compiler.spec.diagnostics import hint
from ....compiler.spec.registry import SOURCES
from ..table import DataError, Table, from_arrays

SKLEARN = ("breast_cancer", "diabetes", "digits", "iris", "wine")


@SOURCES.register
def sklearn(target: str, folder: Path) -> Table:
    """A data set that ships with scikit-learn: breast_cancer, diabetes, digits, iris or wine.

    `digits` has the columns `image` [8, 8] and `target`. The others have a column for each feature
    (`sepal_length_cm`), all of them together as `features`, and `target`.

    Example: source: sklearn:digits
    """
    if target not in SKLEARN:
        raise DataError(f"scikit-learn has no data set `{target}` here: {hint(target, SKLEARN)}")
    try:
        module = importlib.import_module("sklearn.datasets")
    except ImportError:
        raise DataError(f"`sklearn:{target}` needs scikit-learn: pip install scikit-learn") from None
    bunch = module.load_diabetes(scaled=False) if target == "diabetes" else getattr(module, f"load_{target}")()
    source = f"sklearn:{target}"
    if target == "digits":
        return from_arrays({"image": bunch.images, "target": bunch.target}, source)
    names = [re.sub(r"\W+", "_", str(name)).strip("_") for name in bunch.feature_names]
    columns: dict[str, Any] = {name: bunch.data[:, i] for i, name in enumerate(names)}
    classes = getattr(bunch, "target_names", None)
    columns["features"] = bunch.data
    columns["target"] = bunch.target if classes is None else np.asarray(classes).astype(str)[bunch.target]
    return from_arrays(columns, source)
