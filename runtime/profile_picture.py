"""A profile as a picture: a bar for each step of the spec, as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ..compiler.machine import time_text
from .profile import Profile, StepTime
from .report import COLOURS, INK

# In pixels: a row, the space for names on the left and for figures on the right, the longest bar.
ROW, LEFT, BAR, RIGHT, TOP = 24, 260, 420, 200, 80
NAME = 34
OTHER = "#BBBBBB"


def picture(profile: Profile) -> str:
    """An SVG picture: each step's time in the order of running, and within it the least that the machine needs."""
    rows = [step for step in profile.steps if step.seconds is not None]
    longest = max([*(step.seconds or 0.0 for step in rows), profile.outside, 1e-12])
    width, height = LEFT + BAR + RIGHT, TOP + ROW * (len(rows) + 1) + 16
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(16, 24, f"{profile.name}: {profile.task} on {profile.backend}", 'font-size="15" font-weight="bold"'),
        *_legend(profile),
    ]
    for i, step in enumerate(rows):
        lines += _step(step, TOP + ROW * i, longest, profile.parts)
    lines += _outside(profile, TOP + ROW * len(rows), longest)
    return "\n".join([*lines, "</svg>", ""])


def _legend(profile: Profile) -> Iterator[str]:
    rows = ", ".join(f"{name} = {size}" for name, size in profile.sizes.items())
    yield _text(16, 44, f"{time_text(profile.seconds)} a call, {rows}")
    for x, colour, words in ((LEFT, COLOURS[0], "what the machine needs"), (LEFT + 170, COLOURS[4], "the rest")):
        yield f'<rect x="{x}" y="54" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 18, 64, words)


def _step(step: StepTime, y: int, longest: float, whole: float) -> Iterator[str]:
    seconds = step.seconds or 0.0
    needed = min(step.floor, seconds)
    where = f":{step.line}" if step.line else ""
    yield _text(LEFT - 10, y + 16, _short(step.step) + where, 'text-anchor="end"')
    yield _bar(LEFT, y, BAR * seconds / longest, COLOURS[4])
    yield _bar(LEFT, y, BAR * needed / longest, COLOURS[0])
    share = f"{seconds / whole:.0%}" if whole else ""
    yield _text(LEFT + BAR * seconds / longest + 8, y + 16, f"{time_text(seconds)}  {share}")


def _outside(profile: Profile, y: int, longest: float) -> Iterator[str]:
    yield _text(LEFT - 10, y + 16, "outside the steps", 'text-anchor="end" font-style="italic"')
    yield _bar(LEFT, y, BAR * profile.outside / longest, OTHER)
    yield _text(LEFT + BAR * profile.outside / longest + 8, y + 16, time_text(profile.outside))


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.0f}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}" fill="{colour}"/>'


def _text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y}" {style}>{escape(words)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"…{name[1 - NAME :]}"
