"""Spec -> Graph: walk the steps, call the layers, and say where each value comes from."""

from __future__ import annotations

from .. import layers as _layers  # noqa: F401 (registers the layers)
from .. import optimizers as _optimizers  # noqa: F401 (registers the optimizers)
from .. import passes as _passes  # noqa: F401 (registers the passes)
from ..spec.reader import Spec
from .model import ModelWalker
from .network import Applied, Head, Mode, Network, part_names, parts_of

__all__ = ["Applied", "Head", "Mode", "Network", "build", "part_names", "parts_of"]


def build(spec: Spec, mode: Mode = "infer", steps: tuple[str, int, str] | None = None) -> Network:
    """The graph of a spec; raises `SpecError` with every problem of the file.

    With `steps`, an input that is a sequence, a number and a step, it is the graph of one step of that sequence, which
    reads its position and leaves to the next step what that needs, for at most so many steps; its output is that of
    the step of the spec.
    """
    walker = ModelWalker(spec, mode, steps)
    network = walker.run()
    walker.report.check()
    assert network is not None
    return network
