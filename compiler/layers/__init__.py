"""The layers: what a step in a spec means, one function each.

A layer is a function of a builder and input values. Its keyword-only parameters are the arguments
in the spec, the first of them the one that may be given alone (`linear: 128`); its docstring is the
reference. Importing this package registers every layer and loss.
"""

from __future__ import annotations

from . import (
    activations,
    attention,
    combine,
    convolution,
    dense,
    losses,
    normalisation,
    pooling,
    recurrent,
    resizing,
    sampling,
    selection,
)

__all__ = [
    "activations",
    "attention",
    "combine",
    "convolution",
    "dense",
    "losses",
    "normalisation",
    "pooling",
    "recurrent",
    "resizing",
    "sampling",
    "selection",
]
