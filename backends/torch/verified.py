"""`torch.compile`, taken at its word only after a try: it has been seen to return gradients of zero."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Results = dict[str, Tensor]
Function = Callable[..., Results]

# Sums of float32 in another order differ by less, as a share of the largest number. Optimizers make much of gradients
# near zero, whose sign decides: a few numbers may be further off.
TOLERANCE, FEW = 1e-3, 0.01


class Verified:
    """A program, compiled by `torch.compile` if that gives what the program itself does for the first inputs.

    Outputs are compared, and the state that was updated: parameters, and the slots that hold sums of gradients.
    Otherwise the program runs as it is, and a warning says why.
    """

    def __init__(self, function: Function, state: Mapping[str, str], compile: Callable[[Any], Any]) -> None:
        """`function` reads its state from its globals, by the names in `state`, which are told as its values."""
        self._plain, self._state = function, state
        self._compile = compile
        self._chosen: Function | None = None

    def __call__(self, *inputs: Tensor) -> Results:
        if self._chosen is None:
            self._chosen = self._tried(inputs)
        return self._chosen(*inputs)

    def _tried(self, inputs: tuple[Tensor, ...]) -> Function:
        expected = self._run(self._plain, inputs)
        try:
            compiled: Function = self._compile(self._plain)
            found = self._run(compiled, inputs)
        except Exception as error:  # of a compiler that fails in ways of its own
            return self._refused(f"it failed ({type(error).__name__}: {str(error).strip().splitlines()[0][:200]})")
        for name, wanted in expected.items():
            if (share := _off(found[name], wanted)) > FEW:
                return self._refused(f"{100 * share:.3g} % of the numbers of `{name}` were wrong")
        return compiled

    def _refused(self, why: str) -> Function:
        warnings.warn(f"torch.compile is not used: {why}", RuntimeWarning, stacklevel=2)
        return self._plain

    def _run(self, function: Function, inputs: tuple[Tensor, ...]) -> Results:
        """What a call gives and what it leaves as state, the real state untouched."""
        names = self._plain.__globals__
        real = {name: names[name] for name in self._state}
        copies = {name: tensor.clone() for name, tensor in real.items()}
        try:
            names.update(copies)
            outputs = {name: tensor.clone() for name, tensor in function(*(x.clone() for x in inputs)).items()}
        finally:
            names.update(real)
        return outputs | {self._state[name]: tensor for name, tensor in copies.items()}


def _off(found: Tensor, expected: Tensor) -> float:
    """The share of numbers that are further from what they should be than rounding explains."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return 1.0
    if not expected.numel():
        return 0.0
    a, b = found.to(torch.float64), expected.to(torch.float64)
    scale = b.nan_to_num(0.0, 0.0, 0.0).abs().max()
    return float(
        (~torch.isclose(a, b, rtol=0.0, atol=TOLERANCE * float(scale) + 1e-12, equal_nan=True)).double().mean()
    )
