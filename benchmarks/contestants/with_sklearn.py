"""scikit-learn's own multilayer perceptron."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from .. import fitting
from ..workloads import Workload


def fit(workload: Workload) -> Callable[[int], float]:
    rows, valid = fitting.rows("train"), fitting.rows("valid")

    def once(epochs: int) -> float:
        # It stops when the loss does not fall any more: here it goes on to the last epoch.
        network = MLPClassifier(
            (32,), batch_size=workload.batch, max_iter=epochs, n_iter_no_change=epochs + 1, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            network.fit(rows["x"], rows["label"])
        return float(network.score(valid["x"], valid["label"]))

    return once
