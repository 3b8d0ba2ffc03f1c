"""Loss + gradients + optimizer -> one train-step `Graph`. Training is a graph like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from .autodiff import differentiable, gradients
from .build import Network, build
from .build.model import TINY
from .ir import DType, Graph, Init, Input, Origin, Type, Value, constant, input_of, origin
from .ops.elementwise import Minimum, Sqrt
from .ops.norm import at_least
from .ops.optim import Update
from .ops.reduce import Sum
from .ops.shape import BroadcastTo, reshape
from .rewrite import legalize, with_precision
from .spec.reader import Spec
from .spec.sections import Train


@dataclass(frozen=True)
class Training:
    """The graphs that training runs.

    `step` reads a batch and updates everything. With gradient accumulation it is `None`, and
    `gather` adds a batch's gradients to accumulators, which `apply` turns into one update.
    """

    network: Network
    step: Graph | None
    gather: Graph | None
    apply: Graph | None


def training(spec: Spec, dtype: DType = DType.f32) -> Training:
    """The training graphs of a spec; raises `SpecError`. `dtype` is that of the parameters."""
    network = build(spec, "train")
    train = spec.sections.train
    assert train is not None
    if dtype is not DType.f32:
        network = replace(network, graph=with_precision(network.graph, dtype))
    if train.accumulate == 1:
        return Training(network, train_step(network.graph, train), None, None)
    gather, apply = accumulated_step(network.graph, train)
    return Training(network, None, gather, apply)


def train_step(graph: Graph, train: Train) -> Graph:
    """One step: a batch in; the loss and the norm of the gradients out; all state updated."""
    lowered = legalize(graph, differentiable)
    params = lowered.by_role("param")
    grads = gradients(lowered.outputs["loss"], params)
    inputs, updates, norm = optimize(params, grads, train)
    outputs = {name: lowered.outputs[name] for name in ("loss", "loss/total", "loss/weight")}
    return Graph(
        f"{graph.name}/step",
        (*lowered.inputs, *inputs),
        {**outputs, "grad_norm": norm},
        {**lowered.updates, **updates},
    )


def accumulated_step(graph: Graph, train: Train) -> tuple[Graph, Graph]:
    """The two halves of a step over several batches: gather sums, then apply their weighted mean.

    Gradients of the loss's total are summed, and divided by the sum of its weights, so that the
    step equals that of one large batch, however uneven the batches are. (Of several losses, those
    with class weights are means over each batch.)
    """
    lowered = legalize(graph, differentiable)
    params = lowered.by_role("param")
    grads = gradients(lowered.outputs["loss/total"], params)
    sums = [_state(f"{input_of(p).name}/gradient", p.type) for p in params]
    weight = _state("loss/accumulated", lowered.outputs["loss/weight"].type)
    added = {input_of(s).name: s + g for s, g in zip(sums, grads, strict=True)}
    added["loss/accumulated"] = weight + lowered.outputs["loss/weight"]
    outputs = {name: lowered.outputs[name] for name in ("loss", "loss/total", "loss/weight")}
    gather = Graph(f"{graph.name}/gather", (*lowered.inputs, *sums, weight), outputs, {**lowered.updates, **added})

    inputs, updates, norm = optimize(params, [s / at_least(weight, TINY) for s in sums], train)
    cleared = {input_of(v).name: _zeros(v.type) for v in (*sums, weight)}
    apply = Graph(f"{graph.name}/apply", (*params, *sums, weight, *inputs), {"grad_norm": norm}, {**updates, **cleared})
    return gather, apply


def optimize(params: list[Value], grads: list[Value], train: Train) -> tuple[list[Value], dict[str, Value], Value]:
    """Clip the gradients and update the parameters: new inputs, updates, and the gradients' norm."""
    lr, step = (Input(name, Type((), DType.f64), "hyper")() for name in ("lr", "step"))
    inputs: list[Value] = [lr, step]
    updates: dict[str, Value] = {}
    with origin(Origin("optimizer")):
        norm = global_norm(grads)
        if train.clip_norm is not None:
            scale = Minimum()(constant(train.clip_norm, norm.dtype) / (norm + 1e-6), constant(1.0, norm.dtype))
            grads = [g * scale for g in grads]
        op = cast(Update, train.optimizer())
        for p, g in zip(params, grads, strict=True):
            slots, new = _update(op if input_of(p).decay else replace(cast(Any, op), decay=0.0), p, g, lr, step)
            inputs += slots
            updates |= new
    return inputs, updates, norm


def _update(op: Update, p: Value, g: Value, lr: Value, step: Value) -> tuple[list[Value], dict[str, Value]]:
    name = input_of(p).name
    slots = [_state(f"{name}/{slot}", t) for slot, t in op.slots(p.type).items()]
    results = op(p, g, *slots, lr, step).items()
    names = [name, *(input_of(slot).name for slot in slots)]
    return slots, dict(zip(names, results, strict=True))


def global_norm(grads: list[Value]) -> Value:
    """The Euclidean norm of all gradients together."""
    if not grads:
        return constant(0.0, DType.f32)
    squares = [reshape(Sum(tuple(range(g.rank)))(g * g), ()) for g in grads]
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    return Sqrt()(total)


def _state(name: str, t: Type) -> Value:
    return Input(name, t, "buffer", Init("zeros"))()


def _zeros(t: Type) -> Value:
    return BroadcastTo(t.shape)(constant(0.0, t.dtype))


def learning_rate(train: Train) -> float:
    """The learning rate before the schedule."""
    args: Mapping[str, Any] = train.optimizer.args
    return float(args["lr"])
