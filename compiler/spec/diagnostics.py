"""What a user sees who errs: every problem of a file at once, with its place, cause and cure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..structs import Struct

if TYPE_CHECKING:
    from rich.text import Text

MAX_SHOWN = 160
MAX_ERRORS = 500

# What YAML counts as the end of a line: positions are counted by it.
# Control characters but for the tab and the end of a line, and those that turn the direction of text.
_ACTING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text with what would act on a terminal written as escapes, such as `\\x1b`."""
    return _ACTING.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


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


class Label(Struct):
    """A remark under a stretch of source; `tail` is set apart and lined up with that of others."""

    span: Span
    text: str = ""
    tail: str = ""


class Diagnostic(Struct):
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
        lines = LINE_BREAK.split(text)
        self.sources[file] = lines if lines[-1] else lines[:-1]

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
        if self.full:
            return
        message = _visible(message)
        shown = tuple(replace(x, text=_visible(x.text)) for x in labels or (Label(span, help or ""),))
        told = Diagnostic(code, message, span, shown, tuple(map(_visible, notes)))
        self.diagnostics.setdefault((code, span, message), told)

    def __bool__(self) -> bool:
        return bool(self.diagnostics)

    @property
    def full(self) -> bool:
        """Whether there are so many problems that nobody would read more."""
        return len(self.diagnostics) >= MAX_ERRORS

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
        from rich.text import Text  # when there is something to draw: most specs are right

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
        ordered = sorted(labels, key=lambda x: x.span.column)
        shown = _Shown(self.sources[file][line - 1], ordered[0].span.column - 1)
        out.append(f"\n{line:>{margin}} | ", style="blue").append(shown.text.rstrip())
        carets = ""
        for label in ordered:
            start, end = shown.cells(label.span)
            carets = carets.ljust(start) + "^" * max(end - max(start, len(carets)), 1)
        texts = [(shown.cells(x.span)[0], x.text, x.tail) for x in ordered if x.text]
        for text in _label_lines(carets, texts):
            out.append(f"\n{' ' * margin} | ", style="blue").append(text.rstrip(), style="red")


class _Shown:
    """A source line as it is shown: a stretch of it where it is long."""

    def __init__(self, line: str, first: int) -> None:
        self.start = max(0, first - MAX_SHOWN // 2) if len(line) > MAX_SHOWN else 0
        self.cut = _visible(line[self.start : self.start + MAX_SHOWN])
        self.lead = "…" if self.start else ""
        self.text = self.lead + self.cut + ("…" if len(line) > self.start + MAX_SHOWN else "")

    def cells(self, span: Span) -> tuple[int, int]:
        """The terminal columns that a span covers; wide characters take two."""
        from rich.cells import cell_len

        start = min(max(span.column - 1 - self.start, 0), len(self.cut))
        end = min(start + max(span.width, 1), max(len(self.cut), start + 1))
        before = cell_len(self.lead + self.cut[:start])
        return before, before + max(cell_len(self.cut[start:end]), 1)


def _visible(text: str) -> str:
    """Text with control characters, which could act on a terminal, shown as a mark."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _label_lines(carets: str, texts: list[tuple[int, str, str]]) -> list[str]:
    """The line of carets with the last label's text beside it, and the others' texts below."""
    if not texts:
        return [carets]
    *others, (_, text, tail) = texts
    beside = f"{carets} {text}"
    below = [f"{'':{c}}{t}" for c, t, _ in reversed(others)]
    if not any(x[2] for x in texts):
        return [beside, *below]
    width = max(map(len, [beside, *below])) + 3
    tails = [tail, *(t for _, _, t in reversed(others))]
    return [f"{line:{width}}{t}" for line, t in zip([beside, *below], tails, strict=True)]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to `word`, if one is near."""
    known = list(known)
    if len(word) > MAX_SHOWN:
        return None
    same = [k for k in known if k.replace("_", "") == word.lower().replace("_", "").replace("-", "")]
    if same:
        return same[0]
    from difflib import get_close_matches  # when a word is wrong: most specs are right

    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), None)


def suggest(word: str, known: Iterable[str]) -> str | None:
    """`did you mean …?` for the known word nearest to `word`, if one is near."""
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near else None


def hint(word: str, known: Iterable[str]) -> str:
    """A suggestion, or what there is to choose from."""
    known = sorted(known)
    found = suggest(word, known)
    if found:
        return found
    if not known:
        return "no names are defined here"
    if len(known) == 1:
        return f"expected `{known[0]}`"
    listed = ", ".join(f"`{k}`" for k in known[:12])
    return f"expected one of {listed}" + (f" and {len(known) - 12} more" if len(known) > 12 else "")
