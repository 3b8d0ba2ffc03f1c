"""Loss + gradients + optimizer -> one train-step `Graph`. Training is a graph like any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import Any, cast

from .autodiff import differentiable, gradients
from .build import Network, build, parts_of
from .build.model import TINY
from .ir import DType, Graph, Init, Input, Origin, Type, Value, constant, input_of, origin
from .ops.activations import clip
from .ops.elementwise import Cast, Less, Maximum, Minimum, Sign, Sqrt, Where
from .ops.norm import at_least
from .ops.optim import SCALAR, Update
from .ops.reduce import GlobalNorm, Sum
from .ops.shape import BroadcastTo
from .passes.precision import in_bfloat16, steps_of
from .rewrite import legalize, with_precision
from .spec.reader import Spec
from .spec.sections import Train
from .structs import Struct


class Training(Struct):
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
    if train.precision == "bf16":
        network = replace(network, graph=in_bfloat16(network.graph, steps_of(network.graph)))
    if dtype is not DType.f32:
        network = replace(network, graph=with_precision(network.graph, dtype))
    if train.accumulate == 1:
        return Training(network, train_step(network.graph, train), None, None)
    gather, apply = accumulated_step(network.graph, train)
    return Training(network, None, gather, apply)


def train_step(graph: Graph, train: Train) -> Graph:
    """One step: a batch in; the loss and the norm of the gradients out; all state updated."""
    lowered = legalize(graph, differentiable)
    params = learned(lowered, train)
    grads = gradients(lowered.outputs["loss"], params)
    inputs, updates, norm = optimize(params, grads, train)
    more, averages = averaged(lowered, {**lowered.updates, **updates}, train)
    outputs = _loss_outputs(lowered)
    return Graph(
        f"{graph.name}/step",
        (*lowered.inputs, *inputs, *more),
        {**outputs, "grad_norm": norm},
        {**lowered.updates, **updates, **averages},
    )


def _loss_outputs(graph: Graph) -> dict[str, Value]:
    """The loss of a batch, and the sums of its parts."""
    names = ["loss", *(name for pair in parts_of(graph.outputs) for name in pair)]
    return {name: graph.outputs[name] for name in names}


def accumulated_step(graph: Graph, train: Train) -> tuple[Graph, Graph]:
    """The two halves of a step over several batches: gather sums, then apply their weighted mean.

    Gradients of the loss's total are summed, and divided by the sum of its weights, so that the
    step equals that of one large batch, however uneven the batches are; each part of the loss by its own.
    """
    lowered = legalize(graph, differentiable)
    params = learned(lowered, train)
    added: dict[str, Value] = {}
    state: list[Value] = []
    means: list[list[Value]] = []
    for i, (total, weight) in enumerate(parts_of(lowered.outputs)):
        ending = f"/{i}" if i else ""
        grads = gradients(lowered.outputs[total], params)
        sums = [_state(f"{input_of(p).name}/gradient{ending}", p.type) for p in params]
        weights = _state(f"loss/accumulated{ending}", lowered.outputs[weight].type)
        added |= {input_of(s).name: s + g for s, g in zip(sums, grads, strict=True)}
        added[input_of(weights).name] = weights + lowered.outputs[weight]
        means.append([s / at_least(weights, TINY) for s in sums])
        state += [*sums, weights]
    outputs = _loss_outputs(lowered)
    gather = Graph(f"{graph.name}/gather", (*lowered.inputs, *state), outputs, {**lowered.updates, **added})

    mean = [reduce(Value.__add__, each) for each in zip(*means, strict=True)]
    inputs, updates, norm = optimize(params, mean, train)
    cleared = {input_of(v).name: _zeros(v.type) for v in state}
    held = lowered.by_role("param", "buffer") if train.average else params
    more, averages = averaged(Graph("", tuple(held), {}), updates, train)
    apply = Graph(
        f"{graph.name}/apply", (*held, *state, *inputs, *more), {"grad_norm": norm}, {**updates, **cleared, **averages}
    )
    return gather, apply


def group_of(name: str, train: Train) -> int | None:
    """Which of the spec's groups a parameter is in, if any."""
    return train.group_of(name)


def rate_name(group: int | None, train: Train) -> str:
    """The input that a group's learning rate comes by; groups that do not change it share that of all others."""
    if group is None or (train.groups[group].lr == 1.0 and train.groups[group].freeze is False):
        return "lr"
    return f"lr/{group}"


def learned(graph: Graph, train: Train) -> list[Value]:
    """The parameters that training changes: all but those frozen for good."""
    return [p for p in graph.by_role("param") if not train.freezes(input_of(p).name)]


def decay_of(p: Value, train: Train, default: float) -> float:
    """The weight decay of a parameter."""
    group = group_of(input_of(p).name, train)
    own = None if group is None else train.groups[group].weight_decay
    if own is not None:
        return own
    return default if input_of(p).decay else 0.0


def optimize(params: list[Value], grads: list[Value], train: Train) -> tuple[list[Value], dict[str, Value], Value]:
    """Clip the gradients and update the parameters: new inputs, updates, and the gradients' norm."""
    step = Input("step", SCALAR, "hyper")()
    names = [rate_name(group_of(input_of(p).name, train), train) for p in params]
    rates = {name: Input(name, SCALAR, "hyper")() for name in dict.fromkeys(["lr", *names])}
    inputs: list[Value] = [*rates.values(), step]
    updates: dict[str, Value] = {}
    with origin(Origin("train.optimizer")):
        awake = [_awake(p, rates[name], train) for p, name in zip(params, names, strict=True)]
        grads = [_penalised(p, g, train) for p, g in zip(params, grads, strict=True)]
        grads = [
            g if on is None else Where()(on, g, constant(0.0, g.dtype)) for g, on in zip(grads, awake, strict=True)
        ]
        # From the last layer to the first, as gradients are made: in this order the least is kept at a time.
        norm = global_norm(grads[::-1])
        grads = _clipped(grads, norm, train)
        op = cast(Update, train.optimizer())
        for p, g, rate, on in zip(params, grads, names, awake, strict=True):
            own = replace(cast(Any, op), decay=decay_of(p, train, cast(Any, op).decay))
            slots, new = _update(own, p, g, rates[rate], step)
            if train.max_norm is not None:
                new[input_of(p).name] = _bounded(p, new[input_of(p).name], train.max_norm)
            if on is not None:
                new = {input_of(v).name: Where()(on, new[input_of(v).name], v) for v in (p, *slots)}
            inputs += slots
            updates |= new
    return inputs, updates, norm


def _awake(p: Value, rate: Value, train: Train) -> Value | None:
    """Whether a parameter that is frozen for a time is trained at this step; `None` for one that always is."""
    group = group_of(input_of(p).name, train)
    if group is None or isinstance(train.groups[group].freeze, bool):
        return None
    return Less()(constant(0.0, rate.dtype), rate)


def _clipped(grads: list[Value], norm: Value, train: Train) -> list[Value]:
    if train.clip_norm is not None:
        scale = Minimum()(constant(train.clip_norm, norm.dtype) / (norm + 1e-6), constant(1.0, norm.dtype))
        grads = [g * scale for g in grads]
    if train.clip_value is not None:
        grads = [clip(g, -train.clip_value, train.clip_value) for g in grads]
    return grads


def _penalised(p: Value, g: Value, train: Train) -> Value:
    """The gradient with that of the penalties."""
    if train.penalty is None or not input_of(p).decay:
        return g
    g = g + Sign()(p) * train.penalty.l1 if train.penalty.l1 else g
    return g + p * (2.0 * train.penalty.l2) if train.penalty.l2 else g


def _bounded(p: Value, new: Value, most: float) -> Value:
    """A weight whose rows, each the weights into one unit, are at most so long."""
    if p.rank < 2 or not input_of(p).decay:
        return new
    length = Sqrt()(Sum(tuple(range(1, new.rank)))(new * new))
    return new * (constant(most, new.dtype) / Maximum()(length, constant(most, new.dtype)))


AVERAGE, SHARE = "average/", "average"


def averaged(graph: Graph, updates: Mapping[str, Value], train: Train) -> tuple[list[Value], dict[str, Value]]:
    """Running averages of all weights and statistics: new inputs, among them the share, and updates."""
    if train.average is None:
        return [], {}
    share = Input(SHARE, SCALAR, "hyper")()
    inputs, found = [share], {}
    with origin(Origin("train.average")):
        for v in graph.by_role("param", "buffer"):
            name = input_of(v).name
            average = _state(f"{AVERAGE}{name}", v.type)
            inputs.append(average)
            latest = updates.get(name, v)
            found[f"{AVERAGE}{name}"] = average + (latest - average) * Cast(v.dtype)(share)
    return inputs, found


def _update(op: Update, p: Value, g: Value, lr: Value, step: Value) -> tuple[list[Value], dict[str, Value]]:
    name = input_of(p).name
    slots = [_state(f"{name}/{slot}", t) for slot, t in op.slots(p.type).items()]
    results = op(p, g, *slots, lr, step).items()
    names = [name, *(input_of(slot).name for slot in slots)]
    return slots, dict(zip(names, results, strict=True))


def global_norm(grads: list[Value]) -> Value:
    """The Euclidean norm of all gradients together."""
    return GlobalNorm()(*grads) if grads else constant(0.0, DType.f32)


def _state(name: str, t: Type) -> Value:
    return Input(name, t, "buffer", Init("zeros"))()


def _zeros(t: Type) -> Value:
    return BroadcastTo(t.shape)(constant(0.0, t.dtype))


def learning_rate(train: Train) -> float:
    """The learning rate before the schedule."""
    args: Mapping[str, Any] = train.optimizer.args
    return float(args["lr"])
