"""Paragraphs of Python's reference by subject, for the classification of texts."""

from __future__ import annotations

from collections.abc import Iterator

from ...table import Table, from_arrays
from .core import draws, row_count, source_of

LEAST_WORDS = 8
# A paragraph that several topics have belongs to the first of them here, so parts stand before what collects them.
GROUPS = {
    "statements": (
        "async class for function if try while with compound augassign assignment import raise return assert del "
        "global nonlocal break continue pass"
    ),
    "expressions": (
        "in comparisons calls binary subscriptions slicings power unary bitwise shifting conversions exprlists "
        "atom-identifiers atom-literals attribute-references booleans lambda yield await operator-summary"
    ),
    "strings": "string-methods formatstrings strings",
    "types": "typesseq-mutable typesseq typesmapping dict typesmethods typesmodules typesfunctions truth",
    "objects": (
        "attribute-access customization sequence-types numeric-types callable-types context-managers specialattrs "
        "objects types specialnames"
    ),
    "running": "debugger dynamic-features naming exceptions execmodel bltin-code-objects",
}


def topics(rows: int | None, seed: int) -> Table:
    """Paragraphs of Python's own reference, which the standard library carries, in a random order.

    A paragraph is what stands between blank lines, with single blanks between its words; those with
    fewer than 8 words that have a letter are left out, and none comes twice. `topic` is the topic of
    `pydoc` it stands in and `label` the group of that topic: `statements`, `expressions`, `strings`,
    `types` (built-in collections), `objects` (the data model) or `running` (names, exceptions, the
    debugger). All paragraphs are taken unless `rows` says fewer; other versions of Python have others.
    """
    found = list(_paragraphs())
    rows = row_count("topics", rows, default=len(found), most=len(found))
    order = draws(seed, "topics").permutation(len(found))[:rows]
    text, label, topic = zip(*(found[i] for i in order.tolist()), strict=True)
    return from_arrays({"text": list(text), "label": list(label), "topic": list(topic)}, source_of("topics"))


def _paragraphs() -> Iterator[tuple[str, str, str]]:
    """Each paragraph with its group and topic."""
    from pydoc_data.topics import topics as texts  # 700 kB, for this set alone

    seen = set()
    for group, names in GROUPS.items():
        for name in names.split():
            for part in texts.get(name, "").split("\n\n"):
                words = part.split()
                text = " ".join(words)
                if text in seen or sum(any(map(str.isalpha, word)) for word in words) < LEAST_WORDS:
                    continue
                seen.add(text)
                yield text, group, name
