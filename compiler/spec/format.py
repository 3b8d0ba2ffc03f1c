"""One layout for all specs: two spaces a level, one space around what separates, comments kept."""

from __future__ import annotations

import io
import re
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from .diagnostics import Report, Span, SpecError
from .source import read_file, read_text

WIDTH = 4096


def formatted(path: Path) -> tuple[str, str]:
    """A spec file's text as it is and as it should be; raises `SpecError` where it is not YAML.

    The new text means the same, which is checked, and formatting it again changes nothing.
    """
    report = Report()
    before = read_file(path, report)
    report.check()
    text = path.read_text(encoding="utf-8-sig")
    new = layout(text)
    after = read_text(new, str(path), Report())
    if before is None or after is None or before.plain != after.plain:
        report.error(
            "E108", f"`{path}` cannot be laid out anew without changing what it says", Span(str(path), 1, 1, 1)
        )
        raise SpecError(report)
    return text, new


def layout(text: str) -> str:
    """The text laid out anew."""
    yaml = YAML(typ="rt")
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = WIDTH
    yaml.preserve_quotes = True
    out = io.StringIO()
    try:
        yaml.dump(yaml.load(text), out)
    except YAMLError:
        return text
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n") + "\n"
