"""Spec -> Graph: walk the steps, call the layers, and say where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from . import layers as _layers  # noqa: F401 (registers the layers)
from . import optimizers as _optimizers  # noqa: F401 (registers the optimizers)
from .ir import Graph, Input, IRError, Origin, Value, origin
from .layers.core import Builder, LayerError, Loss, Poisoned, Target
from .ops.reduce import Sum
from .ops.shape import Size, reshape
from .spec.diagnostics import Label, Report, Span, hint, nearest
from .spec.expressions import Lost, Scalar, Scope
from .spec.kinds import (
    INVALID,
    Context,
    IntKind,
    Invalid,
    NonNegative,
    Range,
    kind_of,
    read_arguments,
    read_call,
)
from .spec.reader import Spec
from .spec.registry import LAYERS, LOSSES, Call, Entry
from .spec.signatures import BATCH, spec_type
from .spec.source import Key, Node
from .spec.steps import USE, Block, Step, arity, nested, parse_blocks, parse_step, parse_steps, references

if TYPE_CHECKING:
    import networkx as nx

Mode = Literal["train", "evaluate", "infer"]

MAX_STEPS = 5_000
MAX_REPEAT = 1_000


@dataclass(frozen=True)
class Applied:
    """A step as it was applied: its path, layer, arguments in force, and where it stands."""

    path: str
    call: Call
    span: Span
    inputs: tuple[Value, ...]
    output: Value


@dataclass(frozen=True)
class Head:
    """A loss of the network: the step and target it compares, and its user-facing prediction."""

    loss: str
    output: str
    target: str
    task: str
    weight: float = 1.0


@dataclass(frozen=True)
class Network:
    """A spec's graph in one mode, its heads, and its steps.

    Outputs are those the spec names. In the modes `train` and `evaluate`, where the spec has a
    loss, there are also `loss` (a scalar: the weighted mean over the batch), `loss/total` and
    `loss/weight` (the sums it is the ratio of), and `prediction/<target>` for each head.
    """

    graph: Graph
    heads: tuple[Head, ...]
    steps: tuple[Applied, ...]


def build(spec: Spec, mode: Mode = "infer") -> Network:
    """The graph of a spec; raises `SpecError` with every problem of the file."""
    walker = _Walker(spec, mode)
    network = walker.run()
    walker.report.check()
    assert network is not None
    return network


def check(spec: Spec) -> None:
    """Raise `SpecError` with all problems of a spec: its sections, steps and loss."""
    build(spec, "train")


@dataclass
class _Bound:
    """A name's meaning: a value (`None` after an error), its step's path, and where it was made."""

    value: Value | None
    path: str
    span: Span
    kind: Literal["input", "step"]


@dataclass
class _Frame:
    """The names visible in one list of steps, and how one came to be in it."""

    prefix: str
    scope: Scope
    names: dict[str, _Bound] = field(default_factory=dict)
    parent: _Frame | None = None
    notes: tuple[str, ...] = ()
    shared: bool = False

    def find(self, name: str) -> _Bound | None:
        return self.names.get(name) or (self.parent.find(name) if self.parent else None)

    def visible(self) -> set[str]:
        return set(self.names) | (self.parent.visible() if self.parent else set())


class _Walker:
    """Applies steps, in the order of their edges, and collects every problem on the way."""

    def __init__(self, spec: Spec, mode: Mode) -> None:
        self.spec, self.mode = spec, mode
        self.report = Report(spec.report.sources, dict(spec.report.diagnostics))
        self.builder = Builder(training=mode == "train")
        self.blocks: dict[str, Block] = {}
        self.used_blocks: set[str] = set()
        self.applied: list[Applied] = []
        self.depth: list[str] = []
        self.count = 0
        self.meant: set[str] = set()
        self.unordered = False

    # -- the whole model ---------------------------------------------------------------------

    def run(self) -> Network | None:
        model = self.spec.sections.model
        self.blocks = parse_blocks(model.blocks, self.report)
        frame = self.inputs()
        steps = parse_steps(model.layers, self.report) if model.layers and "layers" in model.spans else []
        losses = self.losses()
        wanted = {str(n) for step in losses for n in step.inputs or ()} | set(model.outputs or ())
        last = self.walk_list(steps, frame, self.only_input(frame))
        outputs = self.outputs(frame, last)
        found = [self.loss(step, frame, last) for step in losses]
        if self.losses_known(losses):
            self.check_steps_used(steps, frame, wanted, bool(model.outputs))
            self.check_inputs_used(frame, wanted, steps)
        self.check_blocks_used()
        if self.report or outputs is None:
            return None
        return self.network(outputs, [pair for pair in found if pair is not None])

    def inputs(self) -> _Frame:
        """The frame of the model's inputs; those whose signature could not be read are there without a value."""
        frame = _Frame("", self.spec.scope)
        node = self.spec.sections.model.inputs
        for key in node.keys() if node and isinstance(node.data, dict) else ():
            frame.names[str(key)] = _Bound(None, str(key), key.span, "input")
        for name, signature in self.spec.inputs.items():
            value = Input(name, signature.type)()
            self.builder.inputs[name] = value
            frame.names[name] = _Bound(value, name, signature.key.span, "input")
        return frame

    def losses_known(self, losses: list[Step]) -> bool:
        """Whether it is known what the losses read: not so where they could not be read."""
        if any(step.broken for step in losses):
            return False
        return bool(losses) or not self.spec.root.get("train")

    def only_input(self, frame: _Frame) -> _Bound | None:
        return next(iter(frame.names.values())) if len(frame.names) == 1 else None

    def outputs(self, frame: _Frame, last: _Bound | None) -> dict[str, Value] | None:
        """The model's outputs by name: those the spec lists, or the last step."""
        wanted = self.spec.sections.model.outputs
        if wanted is None:
            return None if last is None or last.value is None else {last.path: last.value}
        found: dict[str, Value] = {}
        span = self.spec.sections.model.spans["outputs"]
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
            with origin(Origin("loss")):
                extra = _loss_outputs(losses)
        graph = Graph(
            self.spec.name,
            tuple(self.builder.inputs.values()),
            {**outputs, **extra},
            dict(self.builder.updates),
        )
        keep = {*self.spec.inputs, *(head.target for head, _ in losses if self.mode != "infer")}
        graph = graph.prune_inputs(keep)
        graph.verify()
        return Network(graph, tuple(head for head, _ in losses), tuple(self.applied))

    # -- lists of steps ----------------------------------------------------------------------

    def walk_nested(self, node: Node, frame: _Frame, incoming: _Bound) -> _Bound | None:
        """Apply the list of steps inside a layer or block, where only the last one's value comes out."""
        before = len(self.report.diagnostics)
        steps = parse_steps(node, self.report)
        self.annotate(before, frame.notes)
        last = self.walk_list(steps, frame, incoming)
        self.check_steps_used(steps, frame, set(), False)
        return last

    def walk_list(self, steps: list[Step], frame: _Frame, incoming: _Bound | None) -> _Bound | None:
        """Apply a list of steps; the last one's value comes back."""
        paths = self.name_steps(steps, frame)
        order = self.ordered(steps, frame)
        if order is None:
            return None
        made: dict[int, _Bound] = {}
        for i in order:
            previous = made.get(i - 1) if i else incoming
            bound = self.apply_step(steps[i], paths[i], frame, previous, first=i == 0)
            made[i] = bound
            if steps[i].name:
                frame.names[str(steps[i].name)] = bound
        return made.get(len(steps) - 1)

    def name_steps(self, steps: list[Step], frame: _Frame) -> list[str]:
        """The path of each step: its name, or its layer with a number, within its list."""
        counts: dict[str, int] = {}
        paths = []
        for step in steps:
            if step.name:
                self.check_name(step.name, frame)
                frame.names.setdefault(str(step.name), _Bound(None, "", step.name.span, "step"))
                paths.append(frame.prefix + str(step.name))
                continue
            counts[step.layer] = counts.get(step.layer, 0) + 1
            paths.append(f"{frame.prefix}{step.layer}_{counts[step.layer]}")
        return paths

    def check_name(self, name: Key, frame: _Frame) -> None:
        known = frame.find(name)
        if known:
            what = "input" if known.kind == "input" else "step"
            self.report.error(
                "E221",
                f"the name `{name}` hides the {what} of that name",
                name.span,
                help=f"which stands at {known.span.short}",
                notes=frame.notes,
            )

    def ordered(self, steps: list[Step], frame: _Frame) -> list[int] | None:
        """An order in which every step follows what it reads; `None` after reporting a cycle."""
        reads = _reads(steps)
        if all(before < i for i, each in enumerate(reads) for before in each):
            return list(range(len(steps)))
        import networkx as nx

        dag: nx.DiGraph[int] = nx.DiGraph((before, i) for i, each in enumerate(reads) for before in each)
        dag.add_nodes_from(range(len(steps)))
        try:
            return list(nx.lexicographical_topological_sort(dag))
        except nx.NetworkXUnfeasible:
            pass
        self.unordered = True
        for component in nx.strongly_connected_components(dag):
            if len(component) > 1 or any(dag.has_edge(i, i) for i in component):
                self.report_cycle(steps, dag.subgraph(component).reverse(), min(component), frame)
        return None

    def report_cycle(self, steps: list[Step], waits: nx.DiGraph[int], first: int, frame: _Frame) -> None:
        """Report one ring of steps of which each reads the next."""
        import networkx as nx

        nodes = [edge[0] for edge in nx.find_cycle(waits, first)]
        start = nodes.index(min(nodes))
        nodes = nodes[start:] + nodes[:start]
        names = [f"`{steps[i].name or steps[i].layer}`" for i in nodes]
        after = [*names[1:], names[0]]
        labels = [Label(steps[i].span, f"reads {name}") for i, name in zip(nodes, after, strict=True)]
        message = f"these steps wait for each other: {' -> '.join([*names, names[0]])}"
        if len(nodes) == 1:
            message = f"the step {names[0]} waits for itself"
        self.report.error("E222", message, steps[nodes[0]].span, labels=labels, notes=frame.notes)

    def check_steps_used(self, steps: list[Step], frame: _Frame, wanted: set[str], explicit: bool) -> None:
        """Report the steps whose values nothing reads."""
        if self.unordered or any(step.broken for step in steps):
            return
        wanted = wanted | self.meant | {name for step in steps for name in self.names_meant(step)}
        ends = {i for i, step in enumerate(steps) if step.name and str(step.name) in wanted}
        if not explicit and steps:
            ends.add(len(steps) - 1)
        used = _reached(ends, _reads(steps))
        for i, step in enumerate(steps):
            if i not in used and self.known(step.layer):
                name = f"`{step.name}`" if step.name else f"this `{step.layer}`"
                self.report.error(
                    "E223",
                    f"nothing reads {name}",
                    step.span,
                    help="remove the step, or name it in `outputs` or in a `from`",
                    notes=frame.notes,
                )

    def check_inputs_used(self, frame: _Frame, wanted: set[str], steps: list[Step]) -> None:
        if self.unordered or not steps or any(step.broken for step in steps):
            return
        read = wanted | self.meant | {name for step in steps for name in references(step) | self.names_meant(step)}
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

    def known(self, layer: str) -> bool:
        return layer in self.blocks or LAYERS.find(layer) is not None

    def names_meant(self, step: Step) -> set[str]:
        """The names that a step of an unknown layer lists where those of its inputs would stand."""
        items = step.arguments.data
        if self.known(step.layer) or not isinstance(items, list):
            return set()
        return {item.data for item in items if isinstance(item.data, str)}

    # -- one step ----------------------------------------------------------------------------

    def apply_step(self, step: Step, path: str, frame: _Frame, previous: _Bound | None, first: bool) -> _Bound:
        """Apply a step, as often as it says; the last application's value comes back."""
        if step.broken:
            return _Bound(None, path, step.span, "step")
        times = self.repeat(step, frame)
        bounds = self.inputs_of(step, frame, previous, first)
        shared = self.shared_path(step, frame)
        result = _Bound(None, path, step.span, "step")
        if times == 0:
            return replace(result, value=self.left_out(step, frame, bounds))
        for i in range(times):
            own = path if times == 1 else f"{path}.{i + 1}"
            result = self.apply_once(step, own, shared, frame, bounds)
            result = replace(result, path=path)
            bounds = [result]
        return result

    def left_out(self, step: Step, frame: _Frame, bounds: Sequence[_Bound | None]) -> Value | None:
        """What comes out of a step that is applied no times: what went in."""
        self.used_blocks.add(str(step.layer))
        if len(bounds) == 1:
            return bounds[0].value if bounds[0] else None
        message = f"`{step.layer}` has {len(bounds)} inputs: repeated 0 times, it is not clear what comes out"
        self.report.error("E228", message, step.span, notes=frame.notes)
        return None

    def repeat(self, step: Step, frame: _Frame) -> int:
        if step.repeat is None:
            return 1
        kind = IntKind(Range(0, MAX_REPEAT))
        times = kind.read(step.repeat, Context(frame.scope, self.report, "`repeat`"))
        return times if isinstance(times, int) else 1

    def inputs_of(self, step: Step, frame: _Frame, previous: _Bound | None, first: bool) -> list[_Bound | None]:
        if step.inputs is not None:
            return [self.named(name, frame) for name in step.inputs]
        if previous is None and first and not frame.parent and self.spec.inputs:
            names = ", ".join(f"`{n}`" for n, b in frame.names.items() if b.kind == "input")
            self.meant |= set(self.spec.inputs)
            self.report.error(
                "E226",
                f"the first step must say what it reads: the model has the inputs {names}",
                step.span,
                help="add `from: <name>`",
            )
        return [previous]

    def named(self, name: Key, frame: _Frame) -> _Bound | None:
        bound = frame.find(name)
        if bound is None:
            self.unknown(name, frame)
        return bound

    def unknown(self, name: Key, frame: _Frame, fields: Sequence[str] = ()) -> None:
        """Report a name that nothing bears. The one that was meant is not called unread as well."""
        known = {*fields, *frame.visible()}
        self.meant.add(nearest(name, sorted(known)) or "")
        what = "field, step or input" if fields else "step or input"
        message = f"there is no {what} `{name}`"
        self.report.error("E220", message, name.span, help=hint(name, known), notes=frame.notes)

    def shared_path(self, step: Step, frame: _Frame) -> str | None:
        if step.share is None:
            return None
        bound = frame.find(step.share)
        if bound is None or bound.kind == "input":
            names = {n for n in frame.visible() if (b := frame.find(n)) and b.kind == "step"}
            self.report.error(
                "E220",
                f"there is no step `{step.share}` to share the weights of",
                step.share.span,
                help=hint(step.share, names),
                notes=frame.notes,
            )
            return None
        return bound.path

    def apply_once(
        self, step: Step, path: str, shared: str | None, frame: _Frame, bounds: list[_Bound | None]
    ) -> _Bound:
        self.count += 1
        failed = _Bound(None, path, step.span, "step")
        if self.count > MAX_STEPS or self.report.full:
            if self.count == MAX_STEPS + 1:
                self.report.error("E227", f"the model has more than {MAX_STEPS} steps", step.span)
            return failed
        block, entry = self.blocks.get(step.layer), LAYERS.find(step.layer)
        if block is None and entry is None:
            known = [*LAYERS, *self.blocks]
            if self.blocks_known() or nearest(step.layer, known):
                message = f"there is no layer or block `{step.layer}`"
                self.report.error("E210", message, step.span, help=hint(step.layer, known), notes=frame.notes)
            return failed
        base = shared or path
        if block is not None:
            value = self.apply_block(block, step, base, bool(shared), frame, bounds)
        else:
            assert entry is not None
            value = self.apply_layer(entry, step, base, bool(shared), frame, bounds)
        return _Bound(value, base if shared else path, step.span, "step")

    def blocks_known(self) -> bool:
        """Whether all blocks could be read: not so where a file that they use could not."""
        blocks = self.spec.sections.model.blocks
        return not (isinstance(blocks, Node) and blocks.get(USE) and self.report)

    def apply_block(
        self, block: Block, step: Step, path: str, shared: bool, frame: _Frame, bounds: list[_Bound | None]
    ) -> Value | None:
        """The block's steps, applied in a scope and under names of their own."""
        self.used_blocks.add(str(block.name))
        if block.name in self.depth:
            ring = " -> ".join(f"`{name}`" for name in [*self.depth, block.name])
            self.report.error("E222", f"these blocks use each other without end: {ring}", step.span, notes=frame.notes)
            return None
        arguments = self.block_arguments(block, step, frame)
        expected = max(len(block.inputs), 1)
        if len(bounds) != expected:
            self.report.error(
                "E228",
                f"the block `{block.name}` takes {_inputs_words(expected)}, this step gives {len(bounds)}",
                step.span,
                notes=frame.notes,
            )
            return None
        if block.layers is None:
            return None
        note = f"inside block `{block.name}`, used at {step.span.place}"
        inner = _Frame(
            f"{path}.",
            frame.scope.extended(arguments),
            notes=(note, *frame.notes),
            shared=shared or frame.shared,
        )
        for name, bound in zip(block.inputs, bounds, strict=False):
            inner.names[str(name)] = _Bound(bound.value if bound else None, str(name), name.span, "input")
        top = _Frame(inner.prefix, inner.scope, {}, inner, inner.notes, inner.shared)
        first = bounds[0] or _Bound(None, "", step.span, "input")
        self.depth.append(str(block.name))
        last = self.walk_nested(block.layers, top, first)
        self.depth.pop()
        return last.value if last else None

    def block_arguments(self, block: Block, step: Step, frame: _Frame) -> Mapping[str, Scalar]:
        """The values of a block's parameters; those that cannot be read are lost, and its steps checked anyway."""
        lost: dict[str, Scalar] = {param.name: Lost(param.name) for param in block.params}
        node = step.arguments
        if node.data is None:
            node = Node({}, step.span)
        if not isinstance(node.data, dict):
            if not block.params:
                self.report.error(
                    "E212", f"`{block.name}` takes no arguments, found {node}", node.span, notes=frame.notes
                )
                return lost
            node = Node({Key(block.params[0].name, node.span): node}, step.span)
        context = Context(frame.scope, self.report, f"`{block.name}`")
        before = len(self.report.diagnostics)
        values, _ = read_arguments(list(block.params), Node(node.data, step.span), context)
        self.annotate(before, frame.notes)
        if values is None:
            return lost
        resolved = {name: frame.scope.resolve(Node(value, step.span), self.report) for name, value in values.items()}
        found = {name: node.data for name, node in resolved.items() if node is not None}
        return lost | {name: value for name, value in found.items() if not isinstance(value, list | dict)}

    def apply_layer(
        self, entry: Entry, step: Step, path: str, shared: bool, frame: _Frame, bounds: list[_Bound | None]
    ) -> Value | None:
        before = len(self.report.diagnostics)
        context = Context(frame.scope, self.report, f"`{step.layer}`")
        call = read_call(entry, step.layer, step.arguments, context)
        self.annotate(before, frame.notes)
        values = [bound.value if bound else None for bound in bounds]
        inputs = [value for value in values if value is not None]
        if isinstance(call, Invalid) or len(inputs) < len(values):
            self.walk_poisoned(step, path, frame)
            return None
        low, high = arity(entry)
        if not low <= len(inputs) <= (high if high is not None else len(inputs)):
            wanted = (
                _inputs_words(low)
                if low == high
                else f"at least {_inputs_words(low)}"
                if high is None
                else f"{low} to {high} inputs"
            )
            self.report.error(
                "E228",
                f"`{step.layer}` takes {wanted}, this step gives {len(inputs)}",
                step.span,
                notes=frame.notes,
            )
            return None
        place = Origin(path, step.span.file, step.span.line)
        try:
            with self.scoped(path, shared or frame.shared, frame, step), origin(place):
                output = call(self.builder, *inputs)
        except Poisoned:
            return None
        except (LayerError, IRError) as error:
            self.explain(error, step, call, bounds, frame)
            return None
        assert isinstance(output, Value)
        self.applied.append(Applied(path, call, step.span, tuple(inputs), output))
        return output

    def walk_poisoned(self, step: Step, path: str, frame: _Frame) -> None:
        """Look for more errors in nested steps whose input is missing."""
        for node in nested(step):
            inner = _Frame(f"{path}.", frame.scope, {}, frame, frame.notes, frame.shared)
            self.walk_nested(node, inner, _Bound(None, "", step.span, "input"))

    @contextmanager
    def scoped(self, path: str, shared: bool, frame: _Frame, step: Step) -> Iterator[None]:
        """The builder set up for one step, and put back afterwards."""
        b = self.builder
        before = b.path, b.shared, b.walk

        def walk(node: Node, x: Value | None) -> Value:
            inner = _Frame(f"{path}.", frame.scope, {}, frame, frame.notes, shared)
            last = self.walk_nested(node, inner, _Bound(x, path, step.span, "input"))
            if last is None or last.value is None:
                raise Poisoned
            return last.value

        b.path, b.shared, b.walk = path, shared, walk
        try:
            yield
        finally:
            b.path, b.shared, b.walk = before

    # -- messages ----------------------------------------------------------------------------

    def annotate(self, before: int, notes: tuple[str, ...]) -> None:
        """Add to the diagnostics after the first so many how one came to be in this list of steps."""
        if not notes or before == len(self.report.diagnostics):
            return
        for key, diagnostic in list(self.report.diagnostics.items())[before:]:
            if not diagnostic.notes:
                self.report.diagnostics[key] = replace(diagnostic, notes=notes)

    def explain(
        self,
        error: LayerError | IRError,
        step: Step,
        call: Call,
        bounds: Sequence[_Bound | None],
        frame: _Frame,
    ) -> None:
        """Report a layer's error with what flows in and where that comes from."""
        argument = error.argument if isinstance(error, LayerError) else None
        help = error.help if isinstance(error, LayerError) else None
        message = f"`{step.layer}`: {error}"
        known = [bound for bound in bounds if bound is not None and bound.value is not None]
        if step.inputs and len(known) > 1 and len(known) == len(step.inputs):
            message = message.replace("`: inputs differ", "` inputs differ")
            labels = [
                Label(name.span, spec_type(bound.value.type), f"from {bound.span.place}")
                for name, bound in zip(step.inputs, known, strict=True)
                if bound.value is not None
            ]
            self.report.error(
                "E301",
                message,
                step.span,
                labels=labels,
                notes=((help, *frame.notes) if help else frame.notes),
            )
            return
        span = call.spans.get(argument or "", step.span)
        notes = list(frame.notes)
        if known and known[0].value is not None and known[0].path:
            told = "the input is" in message
            what = "the input comes from" if told else f"the input is {spec_type(known[0].value.type)}, from"
            notes.insert(0, f"{what} {known[0].span.place}")
        self.report.error("E302" if argument else "E301", message, span, help=help, notes=notes)

    # -- losses ------------------------------------------------------------------------------

    def losses(self) -> list[Step]:
        """The losses as they are written: one step, or a list of them."""
        train = self.spec.sections.train
        if train is None or train.loss is None:
            return []
        nodes = train.loss.data if isinstance(train.loss.data, list) else [train.loss]
        if not nodes:
            self.report.error("E203", "`loss` expects at least one loss", train.loss.span)
        return [parse_step(node, self.report, LOSSES, ("weight",)) for node in nodes]

    def loss(self, step: Step, frame: _Frame, last: _Bound | None) -> tuple[Head, Loss] | None:
        if step.broken:
            return None
        weight = self.weight(step, frame)
        entry = LOSSES.find(step.layer)
        if entry is None:
            self.report.error("E211", f"there is no loss `{step.layer}`", step.span, help=hint(step.layer, LOSSES))
            return None
        call = read_call(entry, step.layer, step.arguments, Context(frame.scope, self.report, f"`{step.layer}`"))
        if step.inputs is None or len(step.inputs) != 2:
            self.report.error(
                "E229",
                f"`{step.layer}` compares a step with a field of the data",
                step.span,
                help=f"write `{{{step.layer}: [step, field]}}`",
            )
            return None
        bound, target = self.named(step.inputs[0], frame), self.target(step.inputs[1], frame)
        if isinstance(call, Invalid) or bound is None or bound.value is None or target is None:
            return None
        try:
            with origin(Origin("loss", step.span.file, step.span.line)):
                result = call(self.builder, bound.value, target)
        except (LayerError, IRError) as error:
            self.explain_loss(error, step, call, bound)
            return None
        assert isinstance(result, Loss)
        head = Head(str(step.layer), str(step.inputs[0]), target.name, result.task, weight)
        return head, result

    def weight(self, step: Step, frame: _Frame) -> float:
        node = (step.extras or {}).get("weight")
        if node is None:
            return 1.0
        weight = kind_of(NonNegative).read(node, Context(frame.scope, self.report, "`weight`"))
        return 1.0 if weight is INVALID else float(weight)

    def explain_loss(self, error: LayerError | IRError, step: Step, call: Call, bound: _Bound) -> None:
        argument = error.argument if isinstance(error, LayerError) else None
        span = call.spans.get(argument or "", step.inputs[0].span if step.inputs else step.span)
        notes = []
        if step.inputs and bound.value is not None:
            notes = [f"`{step.inputs[0]}` is {spec_type(bound.value.type)}, from {bound.span.place}"]
        self.report.error("E303", f"`{step.layer}`: {error}", span, help=getattr(error, "help", None), notes=notes)

    def target(self, name: Key, frame: _Frame) -> Target | None:
        """What a loss compares with: a value of the network, or else a field of the data."""
        bound = frame.find(name)
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


def _reads(steps: list[Step]) -> list[set[int]]:
    """For each step of a list, the positions of those it reads."""
    position = {str(step.name): i for i, step in enumerate(steps) if step.name}
    found = [{position[name] for name in references(step) if name in position} for step in steps]
    for i, step in enumerate(steps):
        if step.inputs is None and i:
            found[i].add(i - 1)
    return found


def _reached(ends: set[int], reads: list[set[int]]) -> set[int]:
    """The steps that others read, one way or another, to get to `ends`."""
    found: set[int] = set()
    waiting = list(ends)
    while waiting:
        i = waiting.pop()
        if i not in found:
            found.add(i)
            waiting += reads[i]
    return found


def _inputs_words(count: int) -> str:
    return "one input" if count == 1 else f"{count} inputs"


def _loss_outputs(losses: list[tuple[Head, Loss]]) -> dict[str, Value]:
    """The loss of the batch, the sums it is made of, and the predictions."""
    out: dict[str, Value] = {}
    total: Value | None = None
    weight: Value | None = None
    for head, loss in losses:
        one = reshape(Sum((0,))(loss.values if loss.weights is None else loss.values * loss.weights), ())
        count = Size(BATCH, loss.values.dtype)() if loss.weights is None else reshape(Sum((0,))(loss.weights), ())
        if len(losses) > 1:
            one, count = one * (Size(BATCH, one.dtype)() / count) * head.weight, Size(BATCH, one.dtype)()
        elif head.weight != 1.0:
            one = one * head.weight
        total = one if total is None else total + one
        weight = count
        out[f"prediction/{head.target}"] = loss.prediction
    assert total is not None and weight is not None
    return {"loss": total / weight, "loss/total": total, "loss/weight": weight, **out}
