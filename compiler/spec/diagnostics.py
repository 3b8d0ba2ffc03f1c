"""What a user sees who errs: every problem of a file at once, with its place, cause and cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text


@dataclass(frozen=True)
class Span:
    """A place in a file: one-based line and column, and how many columns it covers."""

    file: str
    line: int
    column: int
    width: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def short(self) -> str:
        """The place without its column."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Label:
    """A remark under a stretch of source; `tail` is set apart and lined up with that of others."""

    span: Span
    text: str = ""
    tail: str = ""


@dataclass(frozen=True)
class Diagnostic:
    """One problem: a stable code, a message, where it is, what to do, and how one came to be there."""

    code: str
    message: str
    span: Span
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "file": self.span.file,
            "line": self.span.line,
            "column": self.span.column,
            "width": self.span.width,
            "labels": [
                {
                    "file": x.span.file,
                    "line": x.span.line,
                    "column": x.span.column,
                    "text": f"{x.text} {x.tail}".strip(),
                }
                for x in self.labels
                if x.text
            ],
            "notes": list(self.notes),
        }


class SpecError(Exception):
    """A spec that cannot be used: all of its diagnostics, and the sources they point into."""

    def __init__(self, report: Report) -> None:
        self.report = report
        super().__init__(report.render())

    @property
    def diagnostics(self) -> list[Diagnostic]:
        return self.report.sorted()


@dataclass
class Report:
    """Collects diagnostics and the sources they point into."""

    sources: dict[str, list[str]] = field(default_factory=dict)
    diagnostics: dict[tuple[str, Span, str], Diagnostic] = field(default_factory=dict)

    def add_source(self, file: str, text: str) -> None:
        self.sources[file] = text.splitlines()

    def error(
        self,
        code: str,
        message: str,
        span: Span,
        *,
        help: str | None = None,
        labels: Sequence[Label] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Add a problem; the same problem at the same place is told once."""
        shown = tuple(labels) or (Label(span, help or ""),)
        self.diagnostics.setdefault((code, span, message), Diagnostic(code, message, span, shown, tuple(notes)))

    def __bool__(self) -> bool:
        return bool(self.diagnostics)

    def sorted(self) -> list[Diagnostic]:
        return sorted(self.diagnostics.values(), key=lambda d: (d.span.file, d.span.line, d.span.column, d.code))

    def check(self) -> None:
        """Raise `SpecError` if anything was reported."""
        if self:
            raise SpecError(self)

    def render(self) -> str:
        """All diagnostics as plain text."""
        return "\n\n".join(self.draw(d).plain for d in self.sorted())

    def draw(self, diagnostic: Diagnostic) -> Text:
        """One diagnostic as styled text."""
        out = Text()
        out.append(f"error[{diagnostic.code}]", style="bold red")
        out.append(f": {diagnostic.message}\n", style="bold")
        rows = self._rows(diagnostic)
        margin = len(str(max((line for line, _ in rows), default=0)))
        out.append(f"{' ' * margin}--> ", style="blue").append(diagnostic.span.place)
        if rows:
            out.append(f"\n{' ' * margin} |", style="blue")
        for line, labels in rows:
            self._draw_line(out, line, labels, margin, diagnostic.span.file)
        helps = [x.text for x in diagnostic.labels if x.text] if not rows else []
        for note in [*helps, *diagnostic.notes]:
            out.append(f"\n{' ' * margin} = ", style="blue").append(note)
        return out

    def _rows(self, diagnostic: Diagnostic) -> list[tuple[int, list[Label]]]:
        """The labels that can be shown in the source, by line."""
        source = self.sources.get(diagnostic.span.file, [])
        rows: dict[int, list[Label]] = {}
        for label in diagnostic.labels:
            if label.span.file == diagnostic.span.file and 0 < label.span.line <= len(source):
                rows.setdefault(label.span.line, []).append(label)
        return sorted(rows.items())

    def _draw_line(self, out: Text, line: int, labels: Iterable[Label], margin: int, file: str) -> None:
        out.append(f"\n{line:>{margin}} | ", style="blue").append(_visible(self.sources[file][line - 1]))
        ordered = sorted(labels, key=lambda x: x.span.column)
        carets = ""
        for label in ordered:
            carets = carets.ljust(label.span.column - 1) + "^" * max(label.span.width, 1)
        texts = [(x.span.column - 1, x.text, x.tail) for x in ordered if x.text]
        lines = _label_lines(carets, texts)
        for text in lines:
            out.append(f"\n{' ' * margin} | ", style="blue").append(text.rstrip(), style="red")


def _visible(text: str) -> str:
    """A source line with control characters, which could act on a terminal, shown as a mark."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _label_lines(carets: str, texts: list[tuple[int, str, str]]) -> list[str]:
    """The line of carets with the last label's text beside it, and the others' texts below."""
    if not texts:
        return [carets]
    *others, (column, text, tail) = texts
    beside = f"{carets} {text}"
    below = [f"{'':{c}}{t}" for c, t, _ in reversed(others)]
    if not any(x[2] for x in texts):
        return [beside, *below]
    width = max(map(len, [beside, *below])) + 3
    tails = [tail, *(t for _, _, t in reversed(others))]
    return [f"{line:{width}}{t}" for line, t in zip([beside, *below], tails, strict=True)]


def suggest(word: str, known: Iterable[str]) -> str | None:
    """`did you mean …?` for the known word nearest to `word`, if one is near."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not near:
        near = [k for k in known if k.replace("_", "") == word.lower().replace("_", "").replace("-", "")][:1]
    return f"did you mean `{near[0]}`?" if near else None


def hint(word: str, known: Iterable[str]) -> str:
    """A suggestion, or what there is to choose from."""
    known = sorted(known)
    found = suggest(word, known)
    if found:
        return found
    if not known:
        return "nothing is known here by that name"
    listed = ", ".join(f"`{k}`" for k in known[:12])
    return f"expected one of {listed}" + (f" and {len(known) - 12} more" if len(known) > 12 else "")
