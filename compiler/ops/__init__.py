"""The ops: one file per family, one class per op.

Importing this package registers every op in `trine.compiler.ir.OPS`.
"""

from __future__ import annotations

from . import activations, conv, elementwise, linalg, losses, norm, optim, reduce, resize, shape

__all__ = ["activations", "conv", "elementwise", "linalg", "losses", "norm", "optim", "reduce", "resize", "shape"]
