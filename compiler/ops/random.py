"""Random numbers of other distributions, from uniform ones."""

from __future__ import annotations

import math

from ..ir import IRError, Op, Type, Value
from .elementwise import Cos, Log, Sqrt, floating


class Normal(Op):
    """Standard normal numbers from two arrays uniform on [0, 1) (Box & Muller, 1958)."""

    def type(self, a: Type, b: Type) -> Type:
        if a != b:
            raise IRError(f"Normal: {a} and {b} differ")
        return floating("Normal", a)

    def decompose(self, a: Value, b: Value) -> Value:
        # 1 - a is never zero
        return Sqrt()(Log()(1.0 - a) * -2.0) * Cos()(b * (2 * math.pi))
