"""The ops: one file per family, one class per op.

Importing this package registers every op in `trine.compiler.ir.OPS`.
"""

from __future__ import annotations

from . import (
    activations,
    attention,
    conv,
    ctc,
    elementwise,
    fused,
    linalg,
    losses,
    norm,
    optim,
    random,
    recurrent,
    reduce,
    resize,
    shape,
)

__all__ = [
    "activations",
    "attention",
    "conv",
    "ctc",
    "elementwise",
    "fused",
    "linalg",
    "losses",
    "norm",
    "optim",
    "random",
    "recurrent",
    "reduce",
    "resize",
    "shape",
]
