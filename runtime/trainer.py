"""The training loop. It knows steps, epochs, schedules and checkpoints; it knows no op and no backend."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import FrameType

import numpy as np

from ..backends.base import Backend
from ..backends.executable import sizes_of
from ..compiler.build import build, parts_of
from ..compiler.initialisers import generator, initialise
from ..compiler.ir import Array, DType, Graph, Value, input_of
from ..compiler.ops.norm import BatchNormTrain
from ..compiler.passes import Model, for_training
from ..compiler.passes.precision import narrow_kernels
from ..compiler.rewrite import with_precision
from ..compiler.spec.reader import Spec
from ..compiler.spec.sections import Time
from ..compiler.spec.signatures import BATCH
from ..compiler.training import AVERAGE, SHARE, Training, learning_rate, training
from .ahead import Ahead
from .averages import Average
from .buckets import Buckets, cut_to_batches, number_of_batches
from .checkpoints import Checkpoint, Position, Saver
from .data import Fitted, as_wanted
from .evaluation import Evaluator, as_json, earlier, loss_of, metrics_of, rows_of
from .feeds import Feeds
from .memory import budget_words, budgeted
from .metrics import direction
from .progress import Listener, Silent
from .runs import Run
from .schedules import Schedule, constant
from .transfer import transferred


class TrainingError(Exception):
    """Training cannot go on: the loss is no longer a number (exit code 4)."""


class Interrupted(Exception):
    """A signal asked the run to stop; it was saved first."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


ROUNDED = (
    "`precision: bf16`: this backend has no kernels for bfloat16 on this machine. It computes in float32 and rounds, "
    "which is slower than float32 alone"
)

JOINED = (
    "the last batch of an epoch would have one row, of which batch normalisation can take no variance: it joins the "
    "batch before"
)

# Between evaluations, the training loss is logged this many times.
LOGS = 10


class Trainer:
    """Trains one spec on one data set, on any backend.

    Every random draw is keyed by the seed, its purpose and a counter, so that a run resumed from a
    checkpoint goes on bit by bit as it would have.
    """

    def __init__(
        self,
        spec: Spec,
        splits: Mapping[str, Mapping[str, Array]],
        backend: Backend,
        listener: Listener | None = None,
        dtype: DType = DType.f32,
        drawn: bool = False,
        fields: Mapping[str, Fitted] | None = None,
        known: Mapping[str, Array] | None = None,
    ) -> None:
        """`drawn`: whether first weights are drawn although the spec takes them from elsewhere, as before resuming.

        `known` is state that the data say, such as how much each class counts.

        `fields`: what the arrays were made by; those that vary are drawn anew for each batch.
        """
        train = spec.sections.train
        assert train is not None
        self.spec, self.train, self.listener = spec, train, listener or Silent()
        self.backend = backend
        self.run: Run | None = None
        self.saver = Saver()
        self.graphs: Training = training(spec, dtype)
        wanted = {input_of(v).name: v.type for v in self.graphs.network.graph.by_role("data")}
        self.splits = {name: as_wanted(arrays, wanted) for name, arrays in splits.items()}
        self.rows = self.splits["train"]
        self.count = len(next(iter(self.rows.values())))
        self.position = Position()
        self.best: dict[str, Array] = {}
        main, apply = self._optimised()
        self.memory = None if train.memory is None else budgeted(main, train, self._sizes(main), backend)
        main = main if self.memory is None else self.memory.graph
        first = initial_state([g for g in (main, apply) if g], train.seed)
        self.transfer = None if drawn else transferred(spec, {name: first[name] for name in self._held()})
        if self.transfer is not None:
            first |= self.transfer.arrays
        first |= {name: np.asarray(array, first[name].dtype) for name, array in (known or {}).items()}
        first |= {f"{AVERAGE}{name}": first[name] for name in self._held() if f"{AVERAGE}{name}" in first}
        self.state = backend.state(first)
        self.step_graph = main
        self.executable = backend.compile(main, self.state)
        self.apply = backend.compile(apply, self.state) if apply else None
        self.parts = parts_of(main.outputs)
        self.hypers = [input_of(v).name for v in (apply or main).by_role("hyper")]
        self.last: dict[str, float] = {}
        types = {input_of(v).name: v.type for v in main.by_role("data")}
        self.buckets = Buckets(types, self.rows, train.buckets) if train.buckets else None
        self.feeds = Feeds(main, self.rows, train.seed, fields or {}, self.buckets)
        self.ahead = Ahead(self._feeds)
        self._cached_order: tuple[int, list[Array]] | None = None
        network = build(spec, "evaluate")
        if dtype is not DType.f32:
            network = replace(network, graph=with_precision(network.graph, dtype))
        self.average: Average | None = train.average() if train.average else None
        # Averages are evaluated in the place of the weights, which go on as they are.
        self.judged = self.state if self.average is None else backend.state({n: first[n] for n in self._held()})
        self.fields = dict(fields or {})
        self.evaluator = Evaluator(network, backend, self.judged, spec.sections.evaluate.batch, self.fields)
        self.schedule: Schedule = train.schedule() if train.schedule else constant()
        self.base_lr = learning_rate(train)
        self._interrupt: int | None = None
        # A batch of one row has no variance to normalise by.
        self.alone = not any(
            isinstance(v.op, BatchNormTrain) and v.inputs[0].rank == 2 for v in self.graphs.network.graph.order()
        )
        if not self.alone and min(train.batch, self.count) == 1:
            raise TrainingError(
                "batch normalisation of one number per row and channel needs batches of several rows: raise "
                "`train.batch`, or normalise by `layer_norm`"
            )
        self._measure()
        self._check_schedule()

    def _sizes(self, graph: Graph) -> dict[str, int]:
        """The sizes of a batch: as many rows as there are, their sequences as long as the longest."""
        sizes = sizes_of({input_of(v).name: v.type for v in graph.by_role("data")}, self.rows)
        return {**sizes, BATCH: min(self.train.batch, self.count)}

    def _optimised(self) -> tuple[Graph, Graph | None]:
        graphs = self.graphs
        main = graphs.step or graphs.gather
        assert main is not None
        optimised = for_training(Model(main))[0].graph
        return optimised, for_training(Model(graphs.apply))[0].graph if graphs.apply else None

    @property
    def rounds(self) -> bool:
        """Whether training is asked for in bfloat16, and nothing is gained by it."""
        narrow = self.train.precision == "bf16"
        return narrow and not narrow_kernels(self.graphs.network.graph, self.backend.native)

    # -- how long ----------------------------------------------------------------------------

    def _measure(self) -> None:
        """Turn all that is said in epochs, shares or seconds into batches and updates, once."""
        train = self.train
        # Batches in an epoch, of which the last may be smaller, and in all; unknown where seconds end the training.
        self.per_epoch = number_of_batches(self.count, train.batch, self.alone)
        self.total = None if train.length.unit == "sec" else max(1, train.length.steps(self.per_epoch, 0))
        # What schedules and averages measure by: batches in all, in an epoch, and in an update.
        self.pace = self.total, self.per_epoch, train.accumulate
        self.evaluate_every = self._every(train.evaluate_every)
        self.log_every = max(1, self.evaluate_every // LOGS)
        self.save_every = self._every(train.checkpoint.every)
        self.frozen = [g.freeze.steps(self.per_epoch, 0) if isinstance(g.freeze, Time) else 0 for g in train.groups]

    def _check_schedule(self) -> None:
        self.schedule.factor(0, *self.pace)
        if self.average is not None:
            self.average.share(0, *self.pace)

    def _finished(self) -> bool:
        if self.total is not None:
            return self.position.batches >= self.total
        return self.position.seconds >= self.train.length.amount

    # -- the loop ----------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the end. Raises `TrainingError` and `Interrupted`."""
        position = self.position
        self.listener.start(self.spec.name, self.total, position.batches)
        self.listener.note(rows_words(self.splits))
        if self.memory is not None and not position.batches:
            self.listener.note(budget_words(self.memory, min(self.train.batch, self.count)))
        if self.transfer is not None and not position.batches:
            self.listener.note(self.transfer.words)
        if self.rounds:
            self.listener.note(ROUNDED)
        if not self.alone and self.count > self.train.batch and self.count % self.train.batch == 1:
            self.listener.note(JOINED)
        with self._signals():
            try:
                while not self._finished() and not position.done:
                    self._one_batch()
                    self._after_batch()
            finally:
                self._close()
        self._restore_best()
        self._judge_average()

    def _close(self) -> None:
        """Let go of the screen and of threads; a checkpoint that is being written is written to its end."""
        try:
            self.listener.stop()
            self.ahead.close()
        finally:
            self.saver.wait()

    def _one_batch(self) -> None:
        began = time.perf_counter()
        position = self.position
        feeds = self.ahead(position.batches)
        lr = self._learning_rate()
        if self.apply is None:
            feeds |= self._hyper_feeds(lr)
        out = self.executable(feeds)
        loss = float(out["loss"])
        position.batches += 1
        norm = self._finish_update(out, lr)
        self._check_finite(loss, lr, norm)
        self._sum(out)
        position.seconds += time.perf_counter() - began
        self.last = {"lr": lr} if norm is None else {"lr": lr, "grad_norm": norm}
        self.listener.step(position.batches, loss, lr)

    def _sum(self, out: Mapping[str, Array]) -> None:
        """Add a batch to the sums of the loss."""
        position = self.position
        (total, weight), *more = self.parts
        position.train_total += float(out[total])
        position.train_weight += float(out[weight])
        position.train_more = position.train_more or [[0.0, 0.0] for _ in more]
        for sums, names in zip(position.train_more, more, strict=True):
            sums[:] = [before + float(out[name]) for before, name in zip(sums, names, strict=True)]

    def _finish_update(self, out: Mapping[str, Array], lr: float) -> float | None:
        """Count the update, or make it when enough batches were gathered; then the gradients' norm."""
        position = self.position
        if self.apply is None:
            position.updates += 1
            return float(out["grad_norm"])
        full = position.batches % self.train.accumulate == 0
        if not full and position.batches != self.total:
            return None
        feeds = self._hyper_feeds(lr)
        position.updates += 1
        return float(self.apply(feeds)["grad_norm"])

    def _hyper_feeds(self, lr: float) -> dict[str, Array]:
        """The numbers of an update: the learning rate of each group, the step, the share of the average."""
        step = self.position.updates
        values = {"lr": lr, "step": float(step)}
        for i, group in enumerate(self.train.groups):
            frozen = step * self.train.accumulate < self.frozen[i]
            values[f"lr/{i}"] = 0.0 if frozen else lr * group.lr
        if self.average is not None:
            values[SHARE] = self.average.share(step, *self.pace)
        return {name: np.asarray(values[name], np.float64) for name in self.hypers}

    def _feeds(self, batch: int) -> dict[str, Array]:
        """The rows of a batch, and its random inputs."""
        epoch, place = divmod(batch, self.per_epoch)
        return self.feeds.of(self._batches(epoch)[place], batch)

    def _batches(self, epoch: int) -> list[Array]:
        """The training rows of each batch in an epoch."""
        if self._cached_order is None or self._cached_order[0] != epoch:
            shuffle, size = self.train.shuffle, self.train.batch
            rng = generator(self.train.seed, "shuffle", epoch)
            order = rng.permutation(self.count) if shuffle else np.arange(self.count)
            if self.buckets is not None:
                found = self.buckets.batches(order, size, rng if shuffle else None, self.alone)
            else:
                found = cut_to_batches(order, size, self.alone)
            self._cached_order = (epoch, found)
        return self._cached_order[1]

    def _learning_rate(self) -> float:
        factor = self.schedule.factor(self.position.updates, *self.pace)
        return self.base_lr * factor * self.position.lr_scale

    def _check_finite(self, loss: float, lr: float, norm: float | None) -> None:
        if math.isfinite(loss) and (norm is None or math.isfinite(norm)):
            return
        where = f"step {self.position.batches} (epoch {self.position.batches / self.per_epoch:.2f})"
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradients is {norm}"
        raise TrainingError(
            f"{what} at {where}, with a learning rate of {lr:.3g}. Lower `train.optimizer` `lr`, add a warmup, "
            "or set `train.clip_norm`; checkpoints from before are kept"
        )

    # -- between batches ---------------------------------------------------------------------

    def _after_batch(self) -> None:
        batches, last = self.position.batches, self._finished()
        if batches % self.log_every == 0 or last:
            self._log_training()
        if (batches % self.evaluate_every == 0 or last) and "valid" in self.splits:
            self._evaluate()
        if batches % self.save_every == 0 or last or self.position.done:
            self.save()
        if self._interrupt is not None:
            self.save()
            raise Interrupted(self._interrupt)

    def _every(self, amount: Time) -> int:
        return max(1, amount.steps(self.per_epoch, self.total or 0))

    def _log_training(self) -> None:
        position = self.position
        loss = loss_of([(position.train_total, position.train_weight), *((t, w) for t, w in position.train_more)])
        if math.isnan(loss):
            return
        self._row("train", {"loss": loss, **self.last})
        position.train_total, position.train_weight, position.train_more = 0.0, 0.0, []

    def _evaluate(self) -> None:
        metrics = self.evaluate("valid")
        self._row("valid", metrics)
        if self.schedule.monitor is not None:
            self.schedule.after_evaluation(self.position, _number(metrics, "schedule", self.schedule.monitor))
        stopping = self.train.early_stopping
        if stopping is None:
            return
        value = _number(metrics, "early_stopping", stopping.monitor)
        self._watch(value, direction(stopping.monitor), stopping.min_delta, stopping.patience)

    def _watch(self, value: float, goal: str, min_delta: float, patience: int) -> None:
        """Keep the best weights; give up after `patience` evaluations without improvement.

        A number that is not finite (a metric without a value) improves nothing.
        """
        position = self.position
        sign = 1.0 if goal == "min" else -1.0
        if math.isfinite(value) and (position.best is None or sign * value < sign * position.best - min_delta):
            position.best, position.best_step, position.stale = value, position.batches, 0
            self.best = self.weights()
            return
        position.stale += 1
        if position.stale >= patience and position.best is None:
            assert self.train.early_stopping is not None
            monitor = self.train.early_stopping.monitor
            raise TrainingError(
                f"early stopping watches `{monitor}`, which had no value in any of {position.stale} evaluations: it "
                "does not say which weights are best. Watch another number, or give the validation split rows that it "
                "can be computed of"
            )
        if position.stale >= patience:
            position.done = True
            self.listener.note(f"stopped early: no improvement since step {position.best_step}")

    def _restore_best(self) -> None:
        if not self.best:
            stopping = self.train.early_stopping
            if stopping is not None:
                self.listener.note(f"`{stopping.monitor}` never had a value: these are the last weights, not the best")
            return
        self.state.write(self.best)
        if self.average is not None:
            self.state.write({f"{AVERAGE}{name}": array for name, array in self.best.items()})

    def _judge_average(self) -> None:
        """Bring the averages to where they are evaluated."""
        if self.average is not None:
            self.judged.write(self.weights())

    def _row(self, split: str, values: Mapping[str, float]) -> None:
        row = {
            "step": self.position.batches,
            "epoch": round(self.position.batches / self.per_epoch, 4),
            "split": split,
            **as_json(values),
            "seconds": round(self.position.seconds, 3),
        }
        if self.run:
            self.run.append_metrics(row)
        self.listener.row(row)

    # -- what comes of it --------------------------------------------------------------------

    def evaluate(self, split: str) -> dict[str, float]:
        """The loss and metrics on a split, with the weights as they are, or their average."""
        self._judge_average()
        outcome = self.evaluator.run(self.splits[split], earlier(self.splits, split))
        return metrics_of(outcome, self.evaluator.heads, self.spec.sections.evaluate.metrics, self.fields)

    def weights(self) -> dict[str, Array]:
        """Copies of the parameters and of the buffers that inference reads; averages in their place where asked for."""
        state = self.state.read()
        return {name: state.get(f"{AVERAGE}{name}", state[name]) for name in self._held()}

    def _held(self) -> list[str]:
        """The names of the network's own parameters and buffers."""
        return [input_of(v).name for v in self.graphs.network.graph.by_role("param", "buffer")]

    def save(self) -> None:
        """Begin to write a checkpoint, where there is a run to write it to: `fit` ends when it is written."""
        if self.run is None:
            return
        write = partial(self.run.save_checkpoint, keep=self.train.checkpoint.keep)
        self.saver.save(write, Checkpoint(replace(self.position), self.state.read(), self.best))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.position = checkpoint.position
        self.best = checkpoint.best
        self.state.write(checkpoint.state)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM ask for a stop after the batch; a second Ctrl-C stops at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self._interrupt is not None:
                raise KeyboardInterrupt
            self._interrupt = number

        try:
            before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: whoever embeds us handles signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def rows_words(splits: Mapping[str, Mapping[str, Array]]) -> str:
    """How many rows each split has."""
    return "rows: " + ", ".join(f"{name} {rows_of(arrays)}" for name, arrays in splits.items())


def _number(metrics: Mapping[str, float], who: str, monitor: str) -> float:
    """The number of the validation split that something monitors."""
    name = monitor.removeprefix("valid/")
    if name not in metrics:
        known = ", ".join(f"`valid/{k}`" for k in metrics)
        raise TrainingError(f"`{who}` monitors `{monitor}`, which is not computed: there is {known}")
    return metrics[name]


def initial_state(graphs: list[Graph], seed: int) -> dict[str, Array]:
    """The first values of all parameters, buffers and slots of some graphs."""
    values: dict[str, Value] = {}
    for graph in graphs:
        values |= {input_of(v).name: v for v in graph.by_role("param", "buffer")}
    return {name: initialise(value, seed) for name, value in values.items()}
