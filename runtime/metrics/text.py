"""Metrics of text: what was written against what should have been.

What is counted in a row is remembered, because intervals draw the same rows again, hundreds of times.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from ...compiler.ir import Array
from .core import metric
from .parts import ratio

Tokens = Sequence[str]
Rouge = Literal["rouge1", "rouge2", "rougeL"]

REMEMBERED = 2**16
BLEU_ORDER = 4
CHRF_ORDER = 6
# How much more recall counts than precision.
CHRF_BETA = 2


@metric("text", proportion=True)
def exact_match(prediction: Array, target: Array) -> float:
    """How often the text is the true one, character by character.

    Example: exact_match
    """
    return float((prediction == target).mean())


@metric("text")
def bleu(prediction: Array, target: Array, *, lower: bool = False) -> float:
    """BLEU from 0 to 100 (Papineni et al., 2002): how many runs of 1 to 4 words are right, and a penalty for brevity.

    Runs are counted over all rows. Words are those of the `13a` tokens of mteval, and an order without
    a right run is smoothed exponentially, as sacrebleu has it.

    lower: whether upper and lower case are the same.
    Example: bleu
    """
    totals = sum(_bleu_counts(p, t, lower) for p, t in _pairs(prediction, target))
    lengths, right, made = np.split(np.asarray(totals), [2, 2 + BLEU_ORDER])
    if not right.any() or not made.all():
        return 0.0
    missed = np.cumsum(right == 0)
    precision = np.where(right > 0, right, 0.5**missed) / made
    written, expected = lengths
    brevity = min(0.0, 1 - expected / written)
    return float(100 * np.exp(brevity + np.log(precision).mean()))


@lru_cache(REMEMBERED)
def _bleu_counts(prediction: str, target: str, lower: bool) -> Array:
    """The lengths of both texts, then for each order how many runs are right and how many there are."""
    p, t = _mteval_words(prediction, lower), _mteval_words(target, lower)
    right = [(_runs(p, n) & _runs(t, n)).total() for n in range(1, BLEU_ORDER + 1)]
    made = [max(len(p) - n + 1, 0) for n in range(1, BLEU_ORDER + 1)]
    return np.array([len(p), len(t), *right, *made])


# Where mteval-v13a puts spaces: around marks; around full stops and commas, but not between digits; and around dashes
# after digits. The order matters, and so does that a match takes in the character beside it.
MARKS = (
    (re.compile(r"""([ !"#$%&()*+/:;<=>?@[\\\]^_`{|}~])"""), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def _mteval_words(text: str, lower: bool) -> Tokens:
    text = (text.lower() if lower else text).rstrip()
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} "
    for mark, spaced in MARKS:
        text = mark.sub(spaced, text)
    return text.split()


@metric("text")
def chrf(prediction: Array, target: Array) -> float:
    """chrF2 from 0 to 100 (Popović, 2015): how many runs of 1 to 6 characters are right, recall counting twice as much.

    Runs are counted over all rows and without white space, as sacrebleu has it.
    Example: chrf
    """
    totals = sum(_chrf_counts(p, t) for p, t in _pairs(prediction, target))
    right, made, expected = np.asarray(totals)
    defined = (made > 0) & (expected > 0)
    if not right.any():
        return 0.0
    precision, recall = ((right[defined] / whole[defined]).mean() for whole in (made, expected))
    weight = CHRF_BETA**2
    return float(100 * (1 + weight) * precision * recall / (weight * precision + recall))


@lru_cache(REMEMBERED)
def _chrf_counts(prediction: str, target: str) -> Array:
    """For each order, how many runs are right, how many there are, and how many are expected, [3, orders].

    Those there are count only where any is expected.
    """
    p, t = "".join(prediction.split()), "".join(target.split())
    orders = range(1, CHRF_ORDER + 1)
    right = [(_runs(p, n) & _runs(t, n)).total() for n in orders]
    expected = [max(len(t) - n + 1, 0) for n in orders]
    made = [max(len(p) - n + 1, 0) if some else 0 for n, some in zip(orders, expected, strict=True)]
    return np.array([right, made, expected])


@metric("text")
def rouge(prediction: Array, target: Array, *, kind: Rouge = "rougeL") -> float:
    """ROUGE from 0 to 1 (Lin, 2004): the F1 of what the two texts of a row share, on average over rows.

    Words are runs of the letters a to z and of digits, in any case, and are not stemmed.

    kind: what is shared: words (`rouge1`), pairs of words (`rouge2`), or the longest common subsequence (`rougeL`).
    Example: rouge
    """
    return float(np.mean([_rouge_f1(p, t, kind) for p, t in _pairs(prediction, target)]))


@lru_cache(REMEMBERED)
def _rouge_f1(prediction: str, target: str, kind: Rouge) -> float:
    p, t = (re.findall("[a-z0-9]+", text.lower()) for text in (prediction, target))
    if kind == "rougeL":
        return float(ratio(2 * _common(p, t), len(p) + len(t)))
    n = 1 if kind == "rouge1" else 2
    found, expected = _runs(p, n), _runs(t, n)
    return float(ratio(2 * (found & expected).total(), found.total() + expected.total()))


@metric("text", goal="min")
def word_error_rate(prediction: Array, target: Array) -> float:
    """How many words are wrong, missing or too many, as a share of the words of the targets of all rows.

    Words are what spaces separate. Where the targets have none, it is how many words there are.
    Example: word_error_rate
    """
    return _error_rate([(_spoken_words(p), _spoken_words(t)) for p, t in _pairs(prediction, target)])


@metric("text", goal="min")
def character_error_rate(prediction: Array, target: Array) -> float:
    """How many characters are wrong, missing or too many, as a share of the characters of the targets of all rows.

    White space at the ends does not count. Where the targets have no characters, it is how many there are.
    Example: character_error_rate
    """
    return _error_rate([(tuple(p.strip()), tuple(t.strip())) for p, t in _pairs(prediction, target)])


def _spoken_words(text: str) -> tuple[str, ...]:
    """The words of a transcript. A tab or line break alone does not separate two, as jiwer has it."""
    return tuple(word for word in re.sub(r"\s\s+", " ", text).strip().split(" ") if word)


def _error_rate(rows: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> float:
    errors = sum(_distance(p, t) for p, t in rows)
    return errors / (sum(len(t) for _, t in rows) or 1)


def _pairs(prediction: Array, target: Array) -> Iterator[tuple[str, str]]:
    return zip(prediction.tolist(), target.tolist(), strict=True)


def _runs(tokens: Tokens, n: int) -> Counter[Tokens]:
    """How often each run of n tokens occurs; of a text, its runs of characters."""
    parts = tokens if isinstance(tokens, str) else tuple(tokens)
    return Counter(parts[i : i + n] for i in range(len(parts) - n + 1))


def _places(tokens: Tokens) -> dict[str, int]:
    """Where each token occurs, as the bits of a number."""
    places: dict[str, int] = {}
    for i, token in enumerate(tokens):
        places[token] = places.get(token, 0) | (1 << i)
    return places


def _common(a: Tokens, b: Tokens) -> int:
    """The length of the longest common subsequence.

    A column of the usual table is one number here, of which a zero bit says that the length grows by one (Hyyrö, 2004).
    """
    places, every = _places(a), (1 << len(a)) - 1
    column = every
    for token in b:
        matched = column & places.get(token, 0)
        column = ((column + matched) | (column - matched)) & every
    return len(a) - column.bit_count()


@lru_cache(REMEMBERED)
def _distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """How many tokens must be replaced, inserted or removed to make one of the other (Levenshtein, 1966).

    A column of the usual table is two numbers here, whose bits say where it rises and falls by one from row to row.
    `kept` says where it equals its neighbour up and to the left, `over` and `under` where it is above and below the
    column before (Myers, 1999; Hyyrö, 2003).
    """
    if not a or not b:
        return len(a) + len(b)
    places, every, last = _places(a), (1 << len(a)) - 1, 1 << (len(a) - 1)
    rises, falls, distance = every, 0, len(a)
    for token in b:
        same = places.get(token, 0)
        kept = (((same & rises) + rises) ^ rises) | same | falls
        over = falls | (every & ~(kept | rises))
        under = rises & kept
        distance += bool(over & last) - bool(under & last)
        # The first row of the table counts the tokens of b: it is always above the column before.
        over, under = (over << 1) | 1, under << 1
        rises = (under | ~(kept | over)) & every
        falls = over & kept & every
    return distance
