"""What one sees of a run while it goes: a live display in a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Listener(Protocol):
    """Is told what happens in training."""

    def start(self, name: str, total: int | None, done: int) -> None: ...
    def step(self, batches: int, loss: float, lr: float) -> None: ...
    def row(self, row: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """Says nothing."""

    def start(self, name: str, total: int | None, done: int) -> None: ...
    def step(self, batches: int, loss: float, lr: float) -> None: ...
    def row(self, row: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


def describe(row: Mapping[str, Any]) -> str:
    """A row of metrics on one line."""
    parts = [f"step {row['step']:>6}", f"epoch {row['epoch']:6.2f}", f"{row['split']:<5}"]
    skip = {"step", "epoch", "split", "seconds", "samples_per_second", "grad_norm"}
    return "  ".join([*parts, *(f"{k} {_number(v)}" for k, v in row.items() if k not in skip)])


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Plain:
    """One line for each evaluation, and one every few seconds between them."""

    def __init__(self, console: Console, every: float = 5.0) -> None:
        self.console, self.every = console, every
        self.last = 0.0

    def start(self, name: str, total: int | None, done: int) -> None:
        self.total = total
        self.last = time.monotonic()
        steps = "" if total is None else f", {total} steps"
        self.line(f"training {name}{steps}" + (f", from step {done}" if done else ""))

    def step(self, batches: int, loss: float, lr: float) -> None:
        if time.monotonic() - self.last < self.every:
            return
        of = f" of {self.total}" if self.total else ""
        self.line(f"step {batches:>6}{of}  loss {loss:.4g}  lr {lr:.3g}")

    def row(self, row: Mapping[str, Any]) -> None:
        if row["split"] != "train":
            self.line(describe(row))

    def note(self, text: str) -> None:
        self.line(text)

    def line(self, text: str) -> None:
        self.last = time.monotonic()
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None: ...


class Live:
    """A progress bar with loss, rate and time left; evaluations scroll above it."""

    def __init__(self, console: Console, every: float = 0.25) -> None:
        """`every`: after how many seconds the bar moves on."""
        self.progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("lr {task.fields[lr]}"),
            TextColumn("{task.fields[rate]} steps/s"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=1 / every,
        )
        self.every = every
        self.latest: tuple[int, float, float] | None = None

    def start(self, name: str, total: int | None, done: int) -> None:
        self.begun, self.first = time.monotonic(), done
        self.moved = self.begun
        self.progress.start()
        self.task = self.progress.add_task(name, total=total, completed=done, loss="–", lr="–", rate="–")

    def step(self, batches: int, loss: float, lr: float) -> None:
        self.latest = batches, loss, lr
        if time.monotonic() - self.moved >= self.every:
            self._move(batches, loss, lr)

    def _move(self, batches: int, loss: float, lr: float) -> None:
        self.moved = time.monotonic()
        rate = (batches - self.first) / max(self.moved - self.begun, 1e-9)
        self.progress.update(self.task, completed=batches, loss=f"{loss:.4f}", lr=f"{lr:.2g}", rate=f"{rate:.0f}")

    def row(self, row: Mapping[str, Any]) -> None:
        if row["split"] != "train":
            self.progress.console.print(describe(row), highlight=False, markup=False)

    def note(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, markup=False)

    def stop(self) -> None:
        if self.latest is not None:
            self._move(*self.latest)
        self.progress.stop()


def listener(console: Console) -> Listener:
    """The display that fits where output goes."""
    return Live(console) if console.is_terminal else Plain(console)
