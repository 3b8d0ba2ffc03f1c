"""What is printed is what the data hold: no markup, no emoji, no control of the terminal."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text
from trine.compiler.spec.diagnostics import visible
from trine.terminal import Terminal

ODD = ["[red]x[/red]", "[/b]", "[b]", ":smile:", "[CLS]", "a[link=x]"]


def printed(thing: object) -> str:
    out = io.StringIO()
    Terminal(file=out, width=80, force_terminal=False).print(thing)
    return out.getvalue()


@pytest.mark.parametrize("text", ODD)
def test_text_is_printed_as_it_is(text: str) -> None:
    table = Table(box=None)
    table.add_column(text)
    table.add_row(text)
    assert printed(text).strip() == text
    assert printed(table).count(text) == 2


def test_what_would_act_on_a_terminal_is_escaped() -> None:
    text = "a\x1b[31mred\x07\x9b2J\u202eend"
    assert visible(text) == "a\\x1b[31mred\\x07\\x9b2J\\u202eend"
    table = Table(box=None)
    table.add_row(text, Text(text))
    for thing in (text, Text(text), table):
        shown = printed(thing)
        assert not set("\x1b\x07\x9b\u202e") & set(shown)
        assert "\\x1b[31mred" in shown
    assert visible("tab\tand\nline") == "tab\tand\nline"
