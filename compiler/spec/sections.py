"""The sections of a spec, as they are declared: names, kinds, defaults, meanings."""

from __future__ import annotations

import re
from dataclasses import field
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal

from ..structs import Struct
from .diagnostics import Span
from .kinds import (
    INVALID,
    As,
    Context,
    Kind,
    NodeKind,
    NonNegative,
    Of,
    Positive,
    PositiveFloat,
    Schema,
    Steps,
    TaggedKind,
    Word,
    lookup,
)
from .registry import AVERAGES, CLEANERS, ENCODERS, METRICS, OPTIMIZERS, PASSES, SCHEDULES, SOURCES, SPLITS, Call
from .source import Key, Node


class Section(Struct):
    """What every section remembers: where it and its values were given."""

    spans: ClassVar[dict[str, Span]] = {}
    span: ClassVar[Span | None] = None


class Time(Struct):
    """An amount of training: epochs (`10ep`), batches (`500ba`), seconds (`30sec`) or a share (`5%`)."""

    amount: float
    unit: Literal["ep", "ba", "sec", "%"]

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"

    def steps(self, per_epoch: int, total: int) -> int:
        """The same amount in steps; seconds have none."""
        if self.unit == "sec":
            raise ValueError("seconds are not a number of steps")
        scale = {"ba": 1.0, "ep": float(per_epoch), "%": total / 100}[self.unit]
        return round(self.amount * scale)


_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ep|ba|sec|%)")


class TimeKind(Kind):
    units: tuple[str, ...] = ("ep", "ba", "sec", "%")

    @property
    def words(self) -> str:
        examples = {"ep": "`10ep` (epochs)", "ba": "`500ba` (batches)", "sec": "`30sec`", "%": "`5%`"}
        return "an amount such as " + ", ".join(examples[unit] for unit in self.units)

    def accept(self, node: Node, context: Context) -> Any:
        match = _TIME.fullmatch(node.data) if isinstance(node.data, str) else None
        if match is None or match[2] not in self.units or len(match[1]) > 12:
            return context.wrong(self, node)
        return Time(float(match[1]), match[2])  # type: ignore[arg-type]

    def schema(self) -> Schema:
        return {"type": "string", "pattern": rf"^\d+(\.\d+)?\s*({'|'.join(self.units)})$"}


_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG])(i?)B")


class MemoryKind(Kind):
    words: str = "an amount of memory such as `512MB` or `1.5GiB`"

    def accept(self, node: Node, context: Context) -> Any:
        match = _BYTES.fullmatch(node.data) if isinstance(node.data, str) else None
        if match is None or len(match[1]) > 12:
            return context.wrong(self, node)
        count = int(float(match[1]) * (1024 if match[3] else 1000) ** (1 + "KMG".index(match[2])))
        return count or context.wrong(self, node)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[KMG]i?B$"}


class SourceKind(Kind):
    """`csv:people.csv`: a source's name, a colon, and what it reads."""

    words: str = "a data source such as `csv:rows.csv` or `sklearn:digits`"

    def accept(self, node: Node, context: Context) -> Any:
        text = node.data
        if not isinstance(text, str) or ":" not in text:
            return context.wrong(self, node)
        scheme, _, target = text.partition(":")
        entry = lookup(
            SOURCES,
            Key(scheme, Span(node.span.file, node.span.line, node.span.column, len(scheme))),
            context.report,
        )
        if entry is None:
            return INVALID
        return Source(scheme, target, node.span)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^({'|'.join(SOURCES)}):"}


class Source(Struct):
    """Where rows come from."""

    scheme: str
    target: str
    span: Span

    def __str__(self) -> str:
        return f"{self.scheme}:{self.target}"


# A field's encoding: numbers, where it names none and no key tells.
FIELD = TaggedKind(ENCODERS, "encode", "numbers", {"sample": "negatives"})

Memory = Annotated[Any, As(MemoryKind())]
Duration = Annotated[Any, As(TimeKind(("ep", "ba", "sec")))]
Warmup = Annotated[Any, As(TimeKind(("ep", "ba", "%")))]
Every = Annotated[Any, As(TimeKind(("ep", "ba")))]
SourceText = Annotated[Any, As(SourceKind())]


class Data(Section):
    """Where the rows come from, how they are split, and what each field is made of.

    source: where the rows come from, as `name:target`; paths are relative to the spec.
    test: a second source, whose rows are the test split.
    valid: a second source, whose rows are the validation split.
    options: arguments of the source, such as `header` or `missing` of `csv`.
    clean: steps that mend columns before anything is split or fitted.
    split: how rows are divided; everything fitted is fitted on the training rows alone.
    fields: what the model and the loss read, by name.
    """

    source: SourceText
    fields: Annotated[dict[str, Any], As(NodeKind("fields", "a mapping of names to fields"))]
    test: SourceText | None = None
    valid: SourceText | None = None
    options: Annotated[Any, As(NodeKind("options", "a mapping"))] = None
    clean: list[Annotated[Call, Of(CLEANERS)]] = field(default_factory=list)
    split: Annotated[Call, Of(SPLITS, "by", "random")] | None = None


class Model(Section):
    """The network: what goes in, the steps, what comes out.

    inputs: names with signatures, such as `float[1, 28, 28]`; the batch axis is implied.
    blocks: reusable lists of steps with typed parameters.
    layers: the steps, in order; each takes the one before it unless `from` says otherwise.
    outputs: the steps whose values come out; by default the last.
    """

    inputs: Annotated[Node, As(NodeKind("inputs", "a mapping of names to signatures"))]
    layers: Steps
    blocks: Annotated[Any, As(NodeKind("blocks", "a mapping of names to blocks"))] = None
    outputs: list[Word] | None = None


class EarlyStopping(Section):
    """Stop when a number has not improved for a while, and go back to the best weights.

    monitor: the number to watch, such as `valid/loss` or `valid/accuracy`.
    patience: how many evaluations without improvement to wait.
    min_delta: by how much a number must be better to count as better.
    """

    monitor: str = "valid/loss"
    patience: Positive = 5
    min_delta: NonNegative = 0.0


class Checkpoint(Section):
    """When training is saved, to be resumed.

    every: how often.
    keep: how many of the latest to keep.
    """

    every: Every = Time(1, "ep")
    keep: Positive = 2


class Group(Section):
    """How some parameters are trained that others are not.

    match: names of parameters, or patterns in which `*` stands for anything: `encoder.*`, `*.bias`.
    lr: a factor on the learning rate.
    weight_decay: what to use instead of the optimizer's.
    freeze: true to leave them as they are, or how long to: `2ep`, `500ba`. Batch normalisation whose parameters are
      frozen for good is that of inference: it keeps its statistics, and normalises by them.
    """

    match: list[str] | str
    lr: NonNegative = 1.0
    weight_decay: NonNegative | None = None
    freeze: bool | Every = False

    @property
    def patterns(self) -> list[str]:
        return [self.match] if isinstance(self.match, str) else self.match

    def matches(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)


class Penalty(Section):
    """What is added to the loss for the size of weights; biases, scales and shifts of norms are exempt.

    Gradients, and so training, see it; the loss that is reported does not.

    l1: times the sum of their magnitudes.
    l2: times the sum of their squares.
    """

    l1: NonNegative = 0.0
    l2: NonNegative = 0.0


class InitFrom(Section):
    """Where weights come from instead of being drawn.

    path: a run, a bundle, a .safetensors or an .onnx file, relative to the spec.
    map: names in the spec, or patterns with one `*`, and what they are called there: `encoder.*: backbone.*`.
    skip: names or patterns of parameters to draw anyway.
    """

    path: str
    map: dict[str, str] = field(default_factory=dict)
    skip: list[str] = field(default_factory=list)


class Train(Section):
    """How the network is trained.

    loss: what is minimised, as a step: `{cross_entropy: [logits, label]}`.
    optimizer: how weights follow their gradients.
    schedule: how the learning rate changes.
    batch: rows per step.
    epochs: how often to go through the training rows.
    steps: how many steps to take, instead of epochs.
    duration: how long to train, as `10ep`, `500ba` or `30sec`, instead of epochs.
    accumulate: how many batches to sum gradients over before each update.
    clip_norm: the largest Euclidean norm of all gradients together.
    clip_value: the largest magnitude of each number of a gradient.
    penalty: what is added to the loss for the size of weights.
    max_norm: the largest Euclidean norm of the weights into each unit (Srivastava et al., 2014).
    average: what is evaluated and kept: an average of the weights over steps.
    groups: how some parameters are trained differently; the first that matches a name counts. Without them, weight
        decay leaves biases, and scales and shifts of norms, alone.
    init_from: where weights come from instead of being drawn.
    shuffle: whether each epoch has an order of its own.
    buckets: lengths of sequences, ascending, such as `[16, 32]`: a batch takes its rows from those up to 16 steps long,
        from those up to 32, or from the rest, and is cut to what they need.
    seed: what weights, order and dropout are drawn from.
    precision: `bf16` has products, forward and backward, and what follows them in bfloat16 (Kalamkar et al., 2019);
        weights, losses and updates stay in float32.
    memory: the most that a step may keep of activations and gradients, as `512MB`; what the backward pass reads is
        computed again instead (Chen et al., 2016), as little of it as is enough.
    evaluate_every: how often the validation split is evaluated.
    early_stopping: when to stop before the end.
    checkpoint: when training is saved, to be resumed.
    """

    loss: Annotated[Node, As(NodeKind("loss", "a loss"))]
    optimizer: Annotated[Call, Of(OPTIMIZERS)]
    schedule: Annotated[Call, Of(SCHEDULES)] | None = None
    batch: Positive = 32
    epochs: Positive | None = None
    steps: Positive | None = None
    duration: Duration | None = None
    accumulate: Positive = 1
    clip_norm: PositiveFloat | None = None
    clip_value: PositiveFloat | None = None
    penalty: Penalty | None = None
    max_norm: PositiveFloat | None = None
    average: Annotated[Call, Of(AVERAGES)] | None = None
    groups: list[Group] = field(default_factory=list)
    init_from: InitFrom | None = None
    shuffle: bool = True
    buckets: list[Positive] | None = None
    seed: int = 0
    precision: Literal["f32", "bf16"] = "f32"
    memory: Memory | None = None
    evaluate_every: Every = Time(1, "ep")
    early_stopping: EarlyStopping | None = None
    checkpoint: Checkpoint = Checkpoint()

    def group_of(self, name: str) -> int | None:
        """Which of the groups a parameter is in, if any: the first that matches."""
        return next((i for i, group in enumerate(self.groups) if group.matches(name)), None)

    def freezes(self, name: str) -> bool:
        """Whether a parameter is frozen for good."""
        group = self.group_of(name)
        return group is not None and self.groups[group].freeze is True

    @property
    def length(self) -> Time:
        """How long to train: ten epochs where nothing is said."""
        if self.epochs is not None:
            return Time(self.epochs, "ep")
        if self.steps is not None:
            return Time(self.steps, "ba")
        length = self.duration or Time(10, "ep")
        assert isinstance(length, Time)
        return length


class Evaluate(Section):
    """How the network is judged.

    metrics: what is computed on each split besides the loss; `hit_rate@10` is short for `{hit_rate: 10}`.
    slices: fields or columns by whose values the metrics are also reported apart.
    batch: rows per evaluation step.
    """

    metrics: list[Annotated[Call, Of(METRICS, short=True)]] = field(default_factory=list)
    slices: list[Word] = field(default_factory=list)
    batch: Positive = 256


class Sections(Section):
    """A network, its data, how it is trained and judged.

    spec: the version of the spec language: 1.
    name: what runs and artefacts are called.
    params: named values, for use as `$name` anywhere below, and for `--set params.name=…`.
    data: where the rows come from and what is made of them.
    model: the network.
    train: how it is trained.
    evaluate: how it is judged.
    optimize: passes applied to the network for inference, in order.
    """

    spec: Literal[1]
    model: Model
    name: Word = "model"
    params: Annotated[Any, As(NodeKind("params", "a mapping of names to values"))] = None
    data: Data | None = None
    train: Train | None = None
    evaluate: Evaluate = Evaluate()
    optimize: list[Annotated[Call, Of(PASSES)]] = field(default_factory=list)
