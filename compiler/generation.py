"""From a language model to the graph of one step of generation: caches instead of a sequence."""

from __future__ import annotations

from collections.abc import Mapping

from .build import Network, build
from .build.network import Head
from .ir import Array, Const, DType, Graph, Init, Input, Type, Value, input_of, order
from .ops.linalg import Gather
from .passes import Model
from .rewrite import Replacement, bind, independent, mapped, replaced, single
from .spec.reader import Spec
from .spec.signatures import BATCH
from .structs import Struct

POSITION, PARENTS = "position", "parents"
SHARED = "shared/"


class NotGenerative(ValueError):
    """The spec's network cannot be run token by token; the message says why."""


class Decoder(Struct):
    """The graphs that generate a sequence.

    step: reads the tokens of one step [N, 1], its `position`, and (with `reorder`) `parents` [N], which says whose
        caches each row goes on with; gives the logits [N, 1, tokens] of the next, and updates the caches.
    begin: from the network's other inputs what all steps share, kept among the caches; `None` where there are none.
    name: the input that is generated. output: what the logits are called. limit: for how many steps there is room.
    """

    step: Graph
    begin: Graph | None
    name: str
    output: str
    limit: int

    def caches(self) -> list[Value]:
        """The buffers that the steps leave to each other, which begin as zeros."""
        held = [*self.step.by_role("buffer"), *(self.begin.by_role("buffer") if self.begin else ())]
        updated = {*self.step.updates, *(self.begin.updates if self.begin else ())}
        return list({input_of(v).name: v for v in held if input_of(v).name in updated}.values())


def generated(spec: Spec) -> Head:
    """The head of the loss `next_token`, which says what is generated; raises `NotGenerative`."""
    for head in build(spec, "evaluate").heads:
        if head.loss == "next_token" and head.target in spec.inputs:
            return head
    raise NotGenerative(f"`{spec.name}` has no loss `next_token` on one of its inputs: it generates nothing")


def decoder(spec: Spec, length: int | None = None, reorder: bool = False) -> Decoder:
    """The graphs that generate the sequence of a spec's `next_token`, of at most `length` tokens.

    Raises `NotGenerative`, and `SpecError` where a layer cannot go on step by step.
    """
    head = generated(spec)
    signature = spec.inputs[head.target]
    dim = signature.names[0] if len(signature.names) == 1 and signature.type.rank == 2 else None
    if dim is None:
        raise NotGenerative(f"`{head.target}` is no sequence of a length of its own, such as `int[T <= 64]`")
    bound = dict(signature.bounds).get(dim)
    limit = length if bound is None else min(length or bound, bound)
    if limit is None:
        raise NotGenerative(f"it is not known how long {dim} may be: say it as `{dim} <= 512`, or give a length")
    network: Network = build(spec, "infer", (head.target, limit, head.output))
    graph = bind(network.graph, {dim: 1})
    begin, step = shared(graph, {head.target, POSITION})
    return Decoder(reordered(step) if reorder else step, begin, head.target, head.output, limit)


def shared(graph: Graph, varying: set[str]) -> tuple[Graph | None, Graph]:
    """The graph in two: what does not depend on the inputs `varying` or on state is computed once, and kept."""
    edge = independent(graph, varying)
    if not edge:
        return None, graph.prune_inputs(varying)
    kept = {v: Input(f"{SHARED}{i}", v.type, "buffer", Init("zeros"))() for i, v in enumerate(edge)}
    begin = Graph(
        f"{graph.name}/begin", (*graph.inputs, *kept.values()), {}, {input_of(k).name: v for v, k in kept.items()}
    ).prune_inputs()
    step = replaced(graph, kept)
    return begin, Graph(f"{graph.name}/step", step.inputs, step.outputs, step.updates).prune_inputs(varying)


def reordered(step: Graph) -> Graph:
    """The step with the caches' rows taken from `parents` first, as beam search needs it.

    What all steps share is the same in every row, and stays where it is.
    """
    parents = Input(PARENTS, Type((BATCH,), DType.i64))()
    memo: dict[Value, Replacement] = {}
    for v in step.inputs:
        memo[v] = Gather(0)(v, parents) if input_of(v).name in step.updates else v
    for v in order(step.roots, memo):
        memo[v] = v if isinstance(v.op, Const) else mapped(v, memo)
    outputs = {name: single(memo[v]) for name, v in step.outputs.items()}
    updates = {name: single(memo[v]) for name, v in step.updates.items()}
    return Graph(step.name, (*step.inputs, parents), outputs, updates)


def step_model(spec: Spec, weights: Mapping[str, Array]) -> Model:
    """One step of generation as a model with weights: its caches are inputs, their next values outputs."""
    step = decoder(spec).step
    names = {input_of(v).name for v in step.by_role("param", "buffer")} - set(step.updates)
    return Model(step, {name: array for name, array in weights.items() if name in names})
