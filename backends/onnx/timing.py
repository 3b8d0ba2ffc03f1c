"""ONNX Runtime's own profile of its nodes, by the steps of the spec that they come from."""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime as ort

from ...compiler.ir import Origin
from ..profiling import Laps

# How the runtime calls the event that is a call, and ends the name of one that is a node's work.
CALL, NODE = "model_run", "_kernel_time"


def node_times(session: ort.InferenceSession, folder: TemporaryDirectory[str], origins: Mapping[str, Origin]) -> Laps:
    """End a session's profile, which it keeps in `folder`: where each node comes from, and its time in each call."""
    with folder:
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    starts = sorted(event["ts"] for event in events if event["name"] == CALL)
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(NODE)]
    columns = {name: i for i, name in enumerate(dict.fromkeys(event["name"] for event in nodes))}
    laps = [[0.0] * len(columns) for _ in starts]
    for event in nodes:
        laps[bisect(starts, event["ts"]) - 1][columns[event["name"]]] += event["dur"] * 1e-6
    return _places(columns, origins), laps


def _places(names: Mapping[str, int], origins: Mapping[str, Origin]) -> list[Origin | None]:
    """The origins of nodes; those that the runtime adds, such as changes of layout, count with the node before."""
    found: list[Origin | None] = []
    for name in names:
        place = origin_of(name.removesuffix(NODE), origins)
        found.append(place or (found[-1] if found else None))
    return found


def origin_of(name: str, origins: Mapping[str, Origin]) -> Origin | None:
    """Where a node comes from. Nodes that the runtime fuses are called `fused a`, `a_nchwc` or `a/SomeFusion`."""
    plain = name.removeprefix("fused ")
    for end in range(len(plain), 0, -1):
        if plain[:end] in origins and not plain[end : end + 1].isalnum():
            return origins[plain[:end]]
    return None
