"""`torch.compile`, taken at its word only after a try: it has been seen to return gradients of zero."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..base import first_line

Results = dict[str, Tensor]
Function = Callable[..., Results]

# Sums of float32 in another order differ by less, as a share of the largest number of their tensor.
TOLERANCE = 1e-3
# What is zero in exact arithmetic comes out as less than this, as a share of the largest gradient of all. Optimizers
# make much of that, its sign alone deciding: it is not compared, nor are a few more numbers, whose gradients are small.
NOISE, FEW = 1e-5, 0.01


class Verified:
    """A program, compiled by `torch.compile` if that gives what the program itself does for the first inputs.

    Outputs are compared, and by how much the state was changed: parameters, and the slots that hold sums of gradients.
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
        try:
            compiled: Function = self._compile(self._plain)
            found = self._changes(compiled, inputs)
        except Exception as error:  # of a compiler that fails in ways of its own
            return self._refused(f"it failed ({first_line(error)[:200]})")
        expected = self._changes(self._plain, inputs)
        for name, share in shares_off(found, expected, self._held()).items():
            if share > FEW:
                return self._refused(f"{100 * share:.3g} % of the numbers of `{name}` were wrong")
        return compiled

    def _held(self) -> Results:
        """The state, by its own names."""
        return {told: self._plain.__globals__[name] for name, told in self._state.items()}

    def _refused(self, why: str) -> Function:
        warnings.warn(f"torch.compile is not used: {why}", RuntimeWarning, stacklevel=2)
        return self._plain

    def _changes(self, function: Function, inputs: tuple[Tensor, ...]) -> Results:
        """What a call gives, and by how much it changes each state, the real state untouched."""
        names = self._plain.__globals__
        real = {name: names[name] for name in self._state}
        copies = {name: tensor.clone() for name, tensor in real.items()}
        try:
            names.update(copies)
            results = {name: tensor.clone() for name, tensor in function(*(x.clone() for x in inputs)).items()}
        finally:
            names.update(real)
        return results | {self._state[n]: tensor.double() - real[n].double() for n, tensor in copies.items()}


def shares_off(found: Results, expected: Results, held: Results) -> dict[str, float]:
    """Of each result, the share of numbers that are further from what they should be than rounding explains.

    `held` is the state, of which results are changes. A parameter is `p`, what an optimizer keeps for it `p/mean`.
    """
    largest: dict[str, float] = {}
    for name in held:
        kind = _kind(name)
        largest[kind] = max(largest.get(kind, 0.0), _scale(expected[name]))
    shares = {}
    for name, wanted in expected.items():
        got = found[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            shares[name] = 1.0
            continue
        noise = NOISE * largest[_kind(name)] if name in held else 0.0
        rounding = 4 * torch.finfo(torch.float32).eps * _scale(held[name]) if name in held else 0.0
        near = TOLERANCE * _scale(wanted) + noise + rounding + 1e-12
        wrong = ~torch.isclose(got.double(), wanted.double(), rtol=0.0, atol=near, equal_nan=True)
        shares[name] = _share(wrong & ~_is_noise(name, expected, largest, held))
    return shares


def _kind(name: str) -> str:
    """`mean` of a slot; nothing of a parameter."""
    return name.rpartition("/")[2] if "/" in name else ""


def _is_noise(name: str, expected: Results, largest: dict[str, float], held: Results) -> Tensor:
    """Of a parameter, the numbers of which all that the optimizer keeps is zero but for rounding."""
    shape = expected[name].shape
    slots = [n for n in held if n.startswith(f"{name}/") and expected[n].shape == shape] if name in held else []
    quiet = torch.full(shape, bool(slots), device=expected[name].device)
    for slot in slots:
        quiet &= expected[slot].abs() <= NOISE * largest[_kind(slot)]
    return quiet


def _share(wrong: Tensor) -> float:
    return float(wrong.double().mean()) if wrong.numel() else 0.0


def _scale(x: Tensor) -> float:
    """The largest of a tensor's finite numbers."""
    return float(x.double().nan_to_num(0.0, 0.0, 0.0).abs().max()) if x.numel() else 0.0
