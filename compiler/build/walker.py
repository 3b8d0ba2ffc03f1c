"""Walking steps: names, order, repetition, sharing, blocks, and what to say when a layer refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ..ir import IRError, Origin, Value, origin
from ..layers.core import Builder, LayerError, Poisoned
from ..spec.diagnostics import Label, Report, Span, hint, nearest
from ..spec.expressions import Lost, Scalar, Scope
from ..spec.kinds import (
    Context,
    IntKind,
    Invalid,
    Range,
    read_arguments,
    read_call,
)
from ..spec.reader import Spec
from ..spec.registry import LAYERS, Call, Entry
from ..spec.signatures import spec_type
from ..spec.source import Key, Node
from ..spec.steps import USE, Block, Step, arity, nested, parse_steps

if TYPE_CHECKING:
    import networkx as nx

from .network import Applied, Mode

MAX_STEPS = 5_000
MAX_REPEAT = 1_000


@dataclass
class Bound:
    """A name's meaning: a value (`None` after an error), its step's path, and where it was made."""

    value: Value | None
    path: str
    span: Span
    kind: Literal["input", "step"]


@dataclass
class Frame:
    """The names visible in one list of steps, and how one came to be in it."""

    prefix: str
    scope: Scope
    names: dict[str, Bound] = field(default_factory=dict)
    parent: Frame | None = None
    notes: tuple[str, ...] = ()
    shared: bool = False

    def find(self, name: str) -> Bound | None:
        return self.names.get(name) or (self.parent.find(name) if self.parent else None)

    def visible(self) -> set[str]:
        return set(self.names) | (self.parent.visible() if self.parent else set())


class StepWalker:
    """Applies steps, in the order of their edges, and collects every problem on the way."""

    def __init__(self, spec: Spec, mode: Mode, stepwise: tuple[str, int, str] | None = None) -> None:
        self.spec, self.mode, self.stepwise = spec, mode, stepwise
        self.report = Report(spec.report.sources, dict(spec.report.diagnostics))
        train = spec.sections.train
        self.builder = Builder(mode == "train", (lambda name: False) if train is None else train.freezes)
        self.blocks: dict[str, Block] = {}
        self.parsed: dict[Node, list[Step]] = {}  # what a block holds is read once, however often it is used
        self.used_blocks: set[str] = set()
        self.applied: list[Applied] = []
        self.depth: list[str] = []
        self.count = 0
        self.meant: set[str] = set()
        self.unordered = False

    # -- lists of steps ----------------------------------------------------------------------

    def walk_nested(self, node: Node, frame: Frame, incoming: Bound) -> Bound | None:
        """Apply the list of steps inside a layer or block, where only the last one's value comes out."""
        steps = self.parsed.get(node)
        if steps is None:
            before = len(self.report.diagnostics)
            steps = self.parsed[node] = parse_steps(node, self.report)
            self.annotate(before, frame.notes)
        last = self.walk_list(steps, frame, incoming)
        self.check_steps_used(steps, frame, set(), False)
        return last

    def walk_list(self, steps: list[Step], frame: Frame, incoming: Bound | None) -> Bound | None:
        """Apply a list of steps; the last one's value comes back."""
        paths = self.name_steps(steps, frame)
        order = self.ordered(steps, frame)
        if order is None:
            return None
        made: dict[int, Bound] = {}
        for i in order:
            previous = made.get(i - 1) if i else incoming
            bound = self.apply_step(steps[i], paths[i], frame, previous, first=i == 0)
            made[i] = bound
            if steps[i].name:
                frame.names[str(steps[i].name)] = bound
        return made.get(len(steps) - 1)

    def name_steps(self, steps: list[Step], frame: Frame) -> list[str]:
        """The path of each step: its name, or its layer with a number, within its list."""
        counts: dict[str, int] = {}
        paths = []
        for step in steps:
            if step.name:
                self.check_name(step.name, frame)
                frame.names.setdefault(str(step.name), Bound(None, "", step.name.span, "step"))
                paths.append(frame.prefix + str(step.name))
                continue
            counts[step.layer] = counts.get(step.layer, 0) + 1
            paths.append(f"{frame.prefix}{step.layer}_{counts[step.layer]}")
        return paths

    def check_name(self, name: Key, frame: Frame) -> None:
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

    def ordered(self, steps: list[Step], frame: Frame) -> list[int] | None:
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

    def report_cycle(self, steps: list[Step], waits: nx.DiGraph[int], first: int, frame: Frame) -> None:
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

    def check_steps_used(self, steps: list[Step], frame: Frame, wanted: set[str], explicit: bool) -> None:
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

    def known(self, layer: str) -> bool:
        return layer in self.blocks or LAYERS.find(layer) is not None

    def names_meant(self, step: Step) -> set[str]:
        """The names that a step of an unknown layer lists where those of its inputs would stand."""
        items = step.arguments.data
        if self.known(step.layer) or not isinstance(items, list):
            return set()
        return {item.data for item in items if isinstance(item.data, str)}

    # -- one step -----------------------------------------------------------------------------

    def apply_step(self, step: Step, path: str, frame: Frame, previous: Bound | None, first: bool) -> Bound:
        """Apply a step, as often as it says; the last application's value comes back."""
        if step.broken:
            return Bound(None, path, step.span, "step")
        times = self.repeat(step, frame)
        bounds = self.inputs_of(step, frame, previous, first)
        shared = self.shared_path(step, frame)
        result = Bound(None, path, step.span, "step")
        if times == 0:
            return replace(result, value=self.left_out(step, frame, bounds))
        for i in range(times):
            own = path if times == 1 else f"{path}.{i + 1}"
            result = self.apply_once(step, own, shared, frame, bounds)
            result = replace(result, path=path)
            bounds = [result]
        return result

    def left_out(self, step: Step, frame: Frame, bounds: Sequence[Bound | None]) -> Value | None:
        """What comes out of a step that is applied no times: what went in."""
        self.used_blocks.add(str(step.layer))
        if len(bounds) == 1:
            return bounds[0].value if bounds[0] else None
        message = f"`{step.layer}` has {len(bounds)} inputs: repeated 0 times, it is not clear what comes out"
        self.report.error("E228", message, step.span, notes=frame.notes)
        return None

    def repeat(self, step: Step, frame: Frame) -> int:
        if step.repeat is None:
            return 1
        kind = IntKind(Range(0, MAX_REPEAT))
        times = kind.read(step.repeat, Context(frame.scope, self.report, "`repeat`"))
        return times if isinstance(times, int) else 1

    def inputs_of(self, step: Step, frame: Frame, previous: Bound | None, first: bool) -> list[Bound | None]:
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

    def named(self, name: Key, frame: Frame) -> Bound | None:
        bound = frame.find(name)
        if bound is None:
            self.unknown(name, frame)
        return bound

    def unknown(self, name: Key, frame: Frame, fields: Sequence[str] = ()) -> None:
        """Report a name that nothing bears. The one that was meant is not called unread as well."""
        known = {*fields, *frame.visible()}
        self.meant.add(nearest(name, sorted(known)) or "")
        what = "field, step or input" if fields else "step or input"
        message = f"there is no {what} `{name}`"
        self.report.error("E220", message, name.span, help=hint(name, known), notes=frame.notes)

    def shared_path(self, step: Step, frame: Frame) -> str | None:
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

    def apply_once(self, step: Step, path: str, shared: str | None, frame: Frame, bounds: list[Bound | None]) -> Bound:
        self.count += 1
        failed = Bound(None, path, step.span, "step")
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
        base, borrowed = shared or path, self.builder.borrowed
        if block is not None:
            value = self.apply_block(block, step, base, bool(shared), frame, bounds)
        else:
            assert entry is not None
            value = self.apply_layer(entry, step, base, bool(shared), frame, bounds)
        if step.share and shared and value is not None and self.builder.borrowed == borrowed:
            message = f"`{step.layer}` has no weights that it could share with `{step.share}`"
            self.report.error("E301", message, step.share.span, help="leave `share` out", notes=frame.notes)
        return Bound(value, base if shared else path, step.span, "step")

    def blocks_known(self) -> bool:
        """Whether all blocks could be read: not so where a file that they use could not."""
        blocks = self.spec.sections.model.blocks
        return not (isinstance(blocks, Node) and blocks.get(USE) and self.report)

    def apply_block(
        self, block: Block, step: Step, path: str, shared: bool, frame: Frame, bounds: list[Bound | None]
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
        inner = Frame(
            f"{path}.",
            frame.scope.extended(arguments),
            notes=(note, *frame.notes),
            shared=shared or frame.shared,
        )
        for name, bound in zip(block.inputs, bounds, strict=False):
            inner.names[str(name)] = Bound(bound.value if bound else None, str(name), name.span, "input")
        top = Frame(inner.prefix, inner.scope, {}, inner, inner.notes, inner.shared)
        first = bounds[0] or Bound(None, "", step.span, "input")
        self.depth.append(str(block.name))
        last = self.walk_nested(block.layers, top, first)
        self.depth.pop()
        return last.value if last else None

    def block_arguments(self, block: Block, step: Step, frame: Frame) -> Mapping[str, Scalar]:
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
        self, entry: Entry, step: Step, path: str, shared: bool, frame: Frame, bounds: list[Bound | None]
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

    def walk_poisoned(self, step: Step, path: str, frame: Frame) -> None:
        """Look for more errors in nested steps whose input is missing."""
        for node in nested(step):
            inner = Frame(f"{path}.", frame.scope, {}, frame, frame.notes, frame.shared)
            self.walk_nested(node, inner, Bound(None, "", step.span, "input"))

    @contextmanager
    def scoped(self, path: str, shared: bool, frame: Frame, step: Step) -> Iterator[None]:
        """The builder set up for one step, and put back afterwards."""
        b = self.builder
        before = b.path, b.shared, b.walk

        def walk(node: Node, x: Value | None) -> Value:
            inner = Frame(f"{path}.", frame.scope, {}, frame, frame.notes, shared)
            last = self.walk_nested(node, inner, Bound(x, path, step.span, "input"))
            if last is None or last.value is None:
                raise Poisoned
            return last.value

        b.path, b.shared, b.walk = path, shared, walk
        try:
            yield
        finally:
            b.path, b.shared, b.walk = before

    # -- messages -----------------------------------------------------------------------------

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
        bounds: Sequence[Bound | None],
        frame: Frame,
    ) -> None:
        """Report a layer's error with what flows in and where that comes from."""
        argument = error.argument if isinstance(error, LayerError) else None
        help = error.help if isinstance(error, LayerError) else None
        message = f"`{step.layer}`: {str(error).removeprefix(f'{step.layer}: ')}"
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


def _reads(steps: list[Step]) -> list[set[int]]:
    """For each step of a list, the positions of those it reads."""
    position = {str(step.name): i for i, step in enumerate(steps) if step.name}
    found = [{position[name] for name in step.reads if name in position} for step in steps]
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
