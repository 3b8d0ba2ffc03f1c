"""The whole model: inputs, steps, outputs and losses, put together to a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..ir import LOSS, DType, Graph, Input, IRError, Origin, Type, Value, constant, input_of, origin
from ..layers.core import Decoding, LayerError, Loss, Target, reads_of, words_of
from ..ops.elementwise import And, Less, Maximum, Not
from ..ops.norm import at_least
from ..ops.reduce import Sum
from ..ops.shape import Size, reshape
from ..spec.diagnostics import hint
from ..spec.kinds import (
    INVALID,
    Context,
    Invalid,
    NonNegative,
    kind_of,
    read_call,
)
from ..spec.reader import Spec
from ..spec.registry import LOSSES, Call, Entry
from ..spec.signatures import BATCH, Signature, spec_type
from ..spec.source import Key, Node
from ..spec.steps import Step, parse_blocks, parse_step, parse_steps
from .network import Head, Network, part_names
from .walker import Bound, Frame, StepWalker

TINY = 1e-12
BESIDE = ("weight", "sample_weight")  # the keys that may stand beside a loss, and `from`


class ModelWalker(StepWalker):
    """Walks a spec's model and its losses."""

    def run(self) -> Network | None:
        model = self.spec.sections.model
        self.blocks = parse_blocks(model.blocks, self.report)
        frame = self.inputs()
        steps = parse_steps(model.layers, self.report) if model.layers and "layers" in model.spans else []
        losses = self.losses()
        wanted = {name for step in losses for name in _read_by(step)} | set(model.outputs or ())
        last = self.walk_list(steps, frame, self.only_input(frame))
        outputs = self.outputs(frame, last)
        found = self.heads(losses, frame, last)
        if self.losses_known(losses):
            self.check_steps_used(steps, frame, wanted, bool(model.outputs))
            self.check_inputs_used(frame, wanted, steps)
        self.check_blocks_used()
        if self.report or outputs is None:
            return None
        return self.network(outputs, found)

    def inputs(self) -> Frame:
        """The frame of the model's inputs; those whose signature could not be read are there without a value."""
        frame = Frame("", self.spec.scope)
        node = self.spec.sections.model.inputs
        for key in node.keys() if node and isinstance(node.data, dict) else ():
            frame.names[str(key)] = Bound(None, str(key), key.span, "input")
        for name, signature in self.spec.inputs.items():
            declared = self.one_step(name, signature) if self.is_stepwise(name) else Input(name, signature.type)()
            self.builder.inputs[name] = declared
            self.builder.limits |= dict(signature.bounds)
            value = self.unpadded(declared)
            frame.names[name] = Bound(value, name, signature.key.span, "input")
        return frame

    def is_stepwise(self, name: str) -> bool:
        return self.stepwise is not None and name == self.stepwise[0]

    def one_step(self, name: str, signature: Signature) -> Value:
        """The input of a sequence as that of one of its steps, and the position of that step."""
        assert self.stepwise is not None
        position = Input("position", Type((), DType.i64))()
        self.builder.inputs["position"] = position
        self.builder.decoding = Decoding(position, str(signature.type.shape[1]), self.stepwise[1])
        return Input(name, signature.type)()

    def unpadded(self, ids: Value) -> Value:
        """An input without its padding: ids below zero stand at steps that a sequence does not have.

        Which those are is noted by the name of the axis. Where the data show that nothing is padded, nothing is done.
        """
        name, dim = input_of(ids).name, str(ids.shape[1]) if ids.rank > 1 else ""
        whole = self.spec.sizes.get(f"{name}.padded") == 0 or self.is_stepwise(name)
        if ids.dtype is not DType.i64 or dim not in ids.type.names or whole:
            return ids
        with origin(Origin(name)):
            real = Not()(Less()(ids, constant(0, ids.dtype)))
            if ids.rank == 2:
                known = self.builder.masks.get(dim)
                self.builder.masks[dim] = real if known is None else And()(known, real)
            return Maximum()(ids, constant(0, ids.dtype))

    def losses_known(self, losses: list[Step]) -> bool:
        """Whether it is known what the losses read: not so where they could not be read."""
        if any(step.broken for step in losses):
            return False
        return bool(losses) or not self.spec.root.get("train")

    def only_input(self, frame: Frame) -> Bound | None:
        return next(iter(frame.names.values())) if len(frame.names) == 1 else None

    def outputs(self, frame: Frame, last: Bound | None) -> dict[str, Value] | None:
        """The model's outputs by name: those the spec lists, or the last step."""
        wanted = self.spec.sections.model.outputs if self.stepwise is None else [self.stepwise[2]]
        if wanted is None:
            return None if last is None or last.value is None else {last.path: last.value}
        found: dict[str, Value] = {}
        span = self.spec.sections.model.spans.get("outputs", self.spec.root.span)
        node = self.spec.root.get("model")
        listed = node.get("outputs") if node else None
        for i, name in enumerate(wanted):
            place = listed.data[i].span if listed and isinstance(listed.data, list) else span
            bound = frame.find(name)
            if bound is None:
                self.unknown(Key(name, place), frame)
            elif bound.value is not None:
                found[name] = bound.value
        return found

    def network(self, outputs: dict[str, Value], losses: list[tuple[Head, Loss]]) -> Network:
        extra: dict[str, Value] = {}
        if losses and self.mode != "infer":
            with origin(Origin(LOSS)):
                extra = _loss_outputs(losses)
        graph = Graph(
            self.spec.name,
            tuple(self.builder.inputs.values()),
            {**outputs, **extra},
            dict(self.builder.updates),
        )
        targets = {head.target for head, _ in losses if head.target}
        graph = graph.prune_inputs({*self.spec.inputs, *targets} if self.mode != "infer" else ())
        graph.verify()
        return Network(graph, tuple(head for head, _ in losses), tuple(self.applied))

    def check_inputs_used(self, frame: Frame, wanted: set[str], steps: list[Step]) -> None:
        if self.unordered or not steps or any(step.broken for step in steps):
            return
        read = wanted | self.meant | {name for step in steps for name in step.reads | self.names_meant(step)}
        inputs = [bound for bound in frame.names.values() if bound.kind == "input"]
        if len(inputs) == 1 and steps and steps[0].inputs is None:
            read.add(inputs[0].path)
        for bound in inputs:
            if bound.path not in read and bound.value is not None:
                self.report.error(
                    "E224",
                    f"nothing reads the input `{bound.path}`",
                    bound.span,
                    help="remove it, or name it in a `from`",
                )

    def check_blocks_used(self) -> None:
        for name, block in self.blocks.items():
            if name not in self.used_blocks and block.name.span.file == self.spec.root.span.file:
                help = "remove it, or use it as a step"
                self.report.error("E225", f"the block `{name}` is never used", block.name.span, help=help)

    def losses(self) -> list[Step]:
        """The losses as they are written: one step, or a list of them."""
        train = self.spec.sections.train
        if train is None or train.loss is None:
            return []
        nodes = train.loss.data if isinstance(train.loss.data, list) else [train.loss]
        if not nodes:
            self.report.error("E203", "`loss` expects at least one loss", train.loss.span)
        return [parse_step(node, self.report, LOSSES, BESIDE) for node in nodes]

    def heads(self, steps: list[Step], frame: Frame, last: Bound | None) -> list[tuple[Head, Loss]]:
        """The losses, each with a key of its own."""
        found: list[tuple[Head, Loss]] = []
        for step in steps:
            pair = self.loss(step, frame, last)
            if pair is None:
                continue
            head, result = pair
            if head.key and any(other.key == head.key for other, _ in found):
                head = replace(head, key=f"{head.key}/{len(found) + 1}")
            found.append((head, result))
        return found

    def loss(self, step: Step, frame: Frame, last: Bound | None) -> tuple[Head, Loss] | None:
        if step.broken:
            return None
        weight = self.weight(step, frame)
        entry = LOSSES.find(step.layer)
        if entry is None:
            self.report.error("E211", f"there is no loss `{step.layer}`", step.span, help=hint(step.layer, LOSSES))
            return None
        call = read_call(entry, step.layer, step.arguments, Context(frame.scope, self.report, f"`{step.layer}`"))
        inputs = self.loss_inputs(entry, step, frame)
        samples = self.sample_weight(step, frame)
        if isinstance(call, Invalid) or inputs is None or isinstance(samples, Invalid):
            return None
        try:
            with origin(Origin(LOSS, step.span.file, step.span.line)):
                result = _weighted(call(self.builder, *inputs), samples)
        except (LayerError, IRError) as error:
            self.explain_loss(error, step, call, inputs, frame)
            return None
        assert step.inputs
        target = next((x.name for x in inputs if isinstance(x, Target)), "")
        key = "" if result.task == "nothing" else target or str(step.inputs[0])
        by = samples.name if samples else ""
        head = Head(str(step.layer), str(step.inputs[0]), target, result.task, key, weight, by, result.class_weights)
        return head, result

    def loss_inputs(self, entry: Entry, step: Step, frame: Frame) -> list[Value | Target] | None:
        """What a loss reads: steps and fields, as its function declares; `None` after an error."""
        reads, names = reads_of(entry), step.inputs or ()
        if len(names) != len(reads):
            example = ", ".join(reads)
            given = f"this names {len(names)}" if names else "this names none"
            help = f"write `{{{step.layer}: [{example}]}}`"
            self.report.error("E229", f"`{step.layer}` reads {words_of(reads)}, {given}", step.span, help=help)
            return None
        found: list[Value | Target | None] = []
        for name, is_field in zip(names, reads.values(), strict=True):
            if is_field:
                found.append(self.target(name, frame))
            else:
                bound = self.named(name, frame)
                found.append(bound.value if bound else None)
        inputs = [x for x in found if x is not None]
        return inputs if len(inputs) == len(found) else None

    def sample_weight(self, step: Step, frame: Frame) -> Target | Invalid | None:
        """The field that a loss's samples are weighted by, if one is."""
        node = (step.extras or {}).get("sample_weight")
        if node is None:
            return None
        if not isinstance(node.data, str):
            self.report.error("E203", f"`sample_weight` expects the name of a field, found {node}", node.span)
            return INVALID
        return self.target(Key(node.data, node.span), frame) or INVALID

    def weight(self, step: Step, frame: Frame) -> float:
        node = (step.extras or {}).get("weight")
        if node is None:
            return 1.0
        weight = kind_of(NonNegative).read(node, Context(frame.scope, self.report, "`weight`"))
        return 1.0 if weight is INVALID else float(weight)

    def explain_loss(
        self, error: LayerError | IRError, step: Step, call: Call, inputs: Sequence[Value | Target], frame: Frame
    ) -> None:
        argument = error.argument if isinstance(error, LayerError) else None
        names = step.inputs or ()
        span = call.spans.get(argument or "", names[0].span if names else step.span)
        notes = []
        for name, x in zip(names, inputs, strict=True):
            bound = frame.find(name)
            if isinstance(x, Value) and bound is not None:
                notes.append(f"`{name}` is {spec_type(x.type)}, from {bound.span.place}")
        self.report.error("E303", f"`{step.layer}`: {error}", span, help=getattr(error, "help", None), notes=notes)

    def target(self, name: Key, frame: Frame) -> Target | None:
        """What a loss compares with: a value of the network, or else a field of the data."""
        bound = frame.find(name)
        if bound is not None and bound.kind == "input":
            # as it was given: padding is what is below zero
            return Target(str(name), self.builder.inputs.get(str(name), bound.value), self.builder)
        if bound is not None:
            return Target(str(name), bound.value, self.builder) if bound.value is not None else None
        fields = _fields(self.spec)
        if fields is not None and name not in fields:
            self.unknown(name, frame, fields)
            return None
        return Target(str(name), self.builder.inputs.get(str(name)), self.builder)


def _fields(spec: Spec) -> list[str] | None:
    data = spec.sections.data
    fields: object = data.fields if data is not None else None
    return list(fields.data) if isinstance(fields, Node) and isinstance(fields.data, dict) else None


def _read_by(step: Step) -> set[str]:
    """The names that a loss reads, that of its sample weights included."""
    node = (step.extras or {}).get("sample_weight")
    weight = {node.data} if node is not None and isinstance(node.data, str) else set()
    return {str(name) for name in step.inputs or ()} | weight


def _weighted(loss: Loss, samples: Target | None) -> Loss:
    """The loss with its samples weighted by a field, on top of weights of its own."""
    if samples is None:
        return loss
    each = samples.of(Type((BATCH,), loss.values.dtype))
    return replace(loss, weights=each if loss.weights is None else loss.weights * each)


def _loss_outputs(losses: list[tuple[Head, Loss]]) -> dict[str, Value]:
    """The loss of the batch, the sums it is made of, and the predictions.

    Losses that weigh samples alike are one mean. Others are means of their own, each with its sums, so that the loss
    of many rows does not depend on which of them are in a batch together.
    """
    out: dict[str, Value] = {}
    sums: dict[Value | None, Value] = {}
    for head, loss in losses:
        one = reshape(Sum((0,))(loss.values if loss.weights is None else loss.values * loss.weights), ())
        one = one if head.weight == 1.0 else one * head.weight
        sums[loss.weights] = sums[loss.weights] + one if loss.weights in sums else one
        if loss.prediction is not None:
            out[f"prediction/{head.key}"] = loss.prediction
        if loss.target is not None:
            out[f"target/{head.key}"] = loss.target
    mean: Value | None = None
    for i, (weights, total) in enumerate(sums.items()):
        weight = Size(BATCH, total.dtype)() if weights is None else reshape(Sum((0,))(weights), ())
        # A batch of samples that all weigh nothing has a loss of zero.
        one = total / at_least(weight, TINY)
        mean = one if mean is None else mean + one
        out |= dict(zip(part_names(i), (total, weight), strict=True))
    assert mean is not None
    return {"loss": mean, **out}
