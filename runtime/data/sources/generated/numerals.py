"""Numbers in words of two languages, for translation."""

from __future__ import annotations

import numpy as np

from ...table import Rows, Table, from_arrays
from .core import draws, row_count, source_of

DIGITS = 6  # the longest numbers have this many
ENGLISH = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
ENGLISH_TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
FRENCH = [
    "zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze",
    "treize", "quatorze", "quinze", "seize", "dix-sept", "dix-huit", "dix-neuf",
]  # fmt: skip
# Above 60 the French count by twenties: 70 is sixty-ten, 90 is eighty-ten.
FRENCH_TENS = [
    "-", "-", "vingt", "trente", "quarante", "cinquante", "soixante", "soixante", "quatre-vingt", "quatre-vingt",
]  # fmt: skip


def pairs(rows: int | None, seed: int) -> Table:
    """Whole numbers below a million in English words (`source`) and in French words (`target`), none twice.

    As many numbers have one digit as have two, and so on to six, except that there are only 10 and 90
    of the shortest: what those lack the longer ones have more of. English is written without `and`.
    French is the traditional spelling of France: `soixante et onze`, `quatre-vingts`, `deux cents` and
    `deux cent un`, `quatre-vingt mille`; hyphens stand only below a hundred, and not beside `et`.
    """
    rows = row_count("pairs", rows, default=5_000, most=200_000)
    rng = draws(seed, "pairs")
    numbers = rng.permutation(_balanced(rng, rows)).tolist()
    columns = {"source": [english(n) for n in numbers], "target": [french(n) for n in numbers]}
    return from_arrays(columns, source_of("pairs"))


def _balanced(rng: np.random.Generator, rows: int) -> Rows:
    """Different numbers, as equally many of each length as there are."""
    chosen, left = [], rows
    for digits in range(1, DIGITS + 1):
        low = 10 ** (digits - 1) if digits > 1 else 0
        high = 10**digits
        count = min(-(-left // (DIGITS + 1 - digits)), high - low)
        chosen.append(low + rng.choice(high - low, count, replace=False))
        left -= count
    return np.concatenate(chosen)


def english(number: int) -> str:
    """A number from 0 to 999,999 in English words."""
    if number < 20:
        return ENGLISH[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return f"{ENGLISH_TENS[tens]}-{ENGLISH[ones]}" if ones else ENGLISH_TENS[tens]
    unit, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    many, rest = divmod(number, unit)
    return f"{english(many)} {name}" + (f" {english(rest)}" if rest else "")


def french(number: int, last: bool = True) -> str:
    """A number from 0 to 999,999 in French words; `last` where no `mille` follows, before which no plural stands."""
    if number < 100:
        return _french_below_hundred(number, last)
    unit, name = (1000, "mille") if number >= 1000 else (100, "cent")
    many, rest = divmod(number, unit)
    head = name if many == 1 else f"{french(many, False)} {name}"
    if rest:
        return f"{head} {french(rest, last)}"
    return f"{head}s" if unit == 100 and many > 1 and last else head


def _french_below_hundred(number: int, last: bool) -> str:
    if number < 20:
        return FRENCH[number]
    if number == 80:
        return "quatre-vingts" if last else "quatre-vingt"
    tens, ones = divmod(number, 10)
    if tens in (7, 9):
        ones += 10
    if ones == 0:
        return FRENCH_TENS[tens]
    joint = " et " if ones in (1, 11) and tens < 8 else "-"
    return f"{FRENCH_TENS[tens]}{joint}{FRENCH[ones]}"
