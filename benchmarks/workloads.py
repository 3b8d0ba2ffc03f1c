"""The networks that are measured, as specs, and what they are fed.

Nothing of Trine is imported before it is used: in a contestant's process, it may be Trine of another commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trine.compiler.spec.reader import Spec

Arrays = dict[str, NDArray[Any]]

SPECS = Path(__file__).parent / "specs"
SEED = 0
# Training goes through so many batches in turn, and no more than fit in so many bytes: a network that knows its few
# batches by heart has gradients near zero, whose arithmetic is slow.
BATCHES, BATCH_BYTES = 64, 2**26


@dataclass(frozen=True)
class Workload:
    """A network at one batch size; `overrides` of its spec make it another size."""

    name: str
    batch: int
    overrides: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.name}-b{self.batch}"

    def spec(self, overrides: Sequence[str] = ()) -> Spec:
        from trine.runtime.specs import open_spec

        # The sequences are windows of a running text, which are never padded.
        sizes = {"x.padded": 0} if self.name == "decoder" else {}
        return open_spec(SPECS / f"{self.name}.yaml", [*self.overrides, *overrides], sizes)

    def feeds(self) -> Arrays:
        """One batch."""
        return self.batches(1)[0]

    def batches(self, count: int = BATCHES) -> list[Arrays]:
        """Batches of random rows: what the network reads, and the labels that training needs."""
        rng = np.random.default_rng(SEED)
        spec = self.spec()
        draw = partial(self._drawn, rng, spec.scope.values, spec.inputs["x"].type.shape[1:])
        first = draw()
        fit = max(2, BATCH_BYTES // sum(array.nbytes for array in first.values()))
        return [first, *(draw() for _ in range(min(count, fit) - 1))]

    def _drawn(self, rng: np.random.Generator, params: Mapping[str, Any], shape: Sequence[int | str]) -> Arrays:
        if self.name == "decoder":
            return {"x": rng.integers(0, params["vocabulary"], (self.batch, params["length"]))}
        x = rng.standard_normal((self.batch, *(int(d) for d in shape))).astype(np.float32)
        return {"x": x, "label": rng.integers(0, params.get("classes", 10), self.batch)}

    def weights(self) -> Arrays:
        """The weights and running statistics as training starts from them."""
        from trine.runtime.model import initial_weights

        return initial_weights(self.spec())

    def params(self) -> dict[str, Any]:
        """The spec's own sizes."""
        return dict(self.spec().scope.values)


# Which batches are measured, of each network, by task: those of the targets, and a few more.
CELLS: dict[str, dict[str, tuple[int, ...]]] = {
    "infer": {
        "mlp": (1, 32, 256),
        "cnn": (1, 32, 128),
        "resnet18": (1, 8),
        "resnet20": (128,),
        "lstm": (1, 32),
        "gru": (1, 32),
        "bilstm": (1, 32),
        "encoder": (1, 16),
        "decoder": (1, 16),
        "mobilenet": (1, 8),
    },
    "train": {
        "mlp": (32, 256),
        "cnn": (32, 128),
        "resnet18": (8,),
        "resnet20": (128,),
        "lstm": (32,),
        "gru": (32,),
        "bilstm": (32,),
        "encoder": (16,),
        "decoder": (16,),
        "mobilenet": (8,),
    },
    "decode": {"decoder": (1,)},
    "fit": {"tiny": (32,)},
}


def workloads(task: str, names: Iterable[str] = (), batches: Iterable[int] = ()) -> list[Workload]:
    """What is measured of a task: all of it, or some networks (`cnn`) or cells (`cnn-b32`), or at other batches."""
    asked, other = set(names), tuple(batches)
    found = []
    for name, usual in CELLS[task].items():
        for batch in usual if task in ("decode", "fit") else other or usual:
            workload = Workload(name, batch)
            if not asked or asked & {name, workload.key}:
                found.append(workload)
    return found


def blocks(weights: Iterable[str], kind: str) -> list[str]:
    """The names of the blocks of a kind, in their order, from those of weights: `pair_1`, `pair_2.1`, `pair_2.2`, …"""
    found = (re.match(rf"{kind}_\d+(\.\d+)?(?=\.)", name) for name in weights)
    return list(dict.fromkeys(match.group() for match in found if match))
