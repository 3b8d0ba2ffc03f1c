"""Metrics of text, against sacrebleu, rouge_score and jiwer."""

from __future__ import annotations

import math
import warnings
from typing import Any

import jiwer
import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from trine.compiler.spec.registry import METRICS, Call
from trine.runtime import metrics as m

Array = Any
KINDS = ("rouge1", "rouge2", "rougeL")
Pair = tuple[list[str], list[str]]
# A word, punctuation and white space of every kind that one of the tokenisations treats in its own way.
PIECES = (
    "the", "cat", "The", "sat", "on", "a", "mat", "dog's", "well-known", "1,000.50", "3-4", "2.", ".5", "e.g.", "a..b",
    "5..6", "...", ",", "?!", "(", ")", '"', "'", "&quot;", "&amp;lt;", "&lt;b&gt;", "&", "<skipped>", "-\n", "\n",
    "\t", "  ", "\u00a0", "\u2003", "über", "ÜBER", "naïve", "İstanbul", "ß", "日本語", "мир", "🙂", "e\u0301", "/",
    "[x]", "{y}", "@#$%", "x^2", "~", "|", "\u0661\u0662", "\x1c", "\u200b", "",
)  # fmt: skip
REAL = [
    ("The cat sat on the mat.", "The cat is sitting on the mat."),
    ("It costs $1,299.99 (plus tax).", "It costs $1,300 plus tax."),
    ('"Don\'t panic," she said.', "'Don't panic!' she said -- twice."),
    ("Er wohnt in der Königstraße 12-14.", "Er wohnt in der Königstrasse 12–14."),
    ("Prices rose 3.5% in 2019, 4.1% in 2020.", "Prices rose by 3.5 % in 2019 and 4.1 % in 2020."),
    ("", "Nothing was said."),
    ("Something was said.", ""),
    ("same same same same same", "same"),
]


def value(name: str, pair: Pair, **args: Any) -> float:
    p, t = (np.array([*texts, None], object)[:-1] for texts in pair)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return float(Call(METRICS[name], args)(p, t))


def case(seed: int) -> Pair:
    """Rows of pieces in any order, the prediction a version of the target with pieces changed, dropped and doubled."""
    rng = np.random.default_rng(seed)
    predictions, targets = [], []
    for _ in range(int(rng.integers(1, 6))):
        target = [PIECES[i] for i in rng.integers(0, len(PIECES), rng.integers(0, 25))]
        changed = [str(rng.choice(PIECES)) if rng.random() < (0.1, 0.5, 0.9)[seed % 3] else piece for piece in target]
        doubled = [piece for piece in changed for _ in range(int(rng.choice(3, p=[0.1, 0.8, 0.1])))]
        space = " " if seed % 4 else ""
        predictions.append(space.join(doubled))
        targets.append(space.join(target))
    return predictions, targets


def check(pair: Pair) -> None:
    """All metrics against the outsiders; the tolerance is that of sums in another order."""
    p, t = pair
    expected = {
        ("bleu", ()): sacrebleu.corpus_bleu(p, [t]).score,
        ("bleu", (("lower", True),)): sacrebleu.corpus_bleu(p, [t], lowercase=True).score,
        ("chrf", ()): sacrebleu.corpus_chrf(p, [t]).score,
        ("exact_match", ()): sum(a == b for a, b in zip(p, t, strict=True)) / len(p),
        ("word_error_rate", ()): jiwer.wer(t, p),
        ("character_error_rate", ()): jiwer.cer(t, p),
    }
    scorer = RougeScorer(KINDS)
    scores = [scorer.score(b, a) for a, b in zip(p, t, strict=True)]
    for kind in KINDS:
        expected["rouge", (("kind", kind),)] = float(np.mean([score[kind].fmeasure for score in scores]))
    for (name, args), number in expected.items():
        assert value(name, pair, **dict(args)) == pytest.approx(number, rel=1e-9, abs=1e-9), (name, args)


@pytest.mark.parametrize("seed", range(80))
def test_sentences_of_pieces(seed: int) -> None:
    check(case(seed))


def test_real_sentences() -> None:
    check(([p for p, _ in REAL], [t for _, t in REAL]))
    for p, t in REAL:
        check(([p], [t]))
        check(([t], [t]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=4))
def test_any_text(rows: list[tuple[str, str]]) -> None:
    check(([p for p, _ in rows], [t for _, t in rows]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(*[st.text(alphabet="ab .,-1&\n\t", max_size=30)] * 2), min_size=1, max_size=4))
def test_few_characters(rows: list[tuple[str, str]]) -> None:
    """So few that runs repeat, and that full stops, digits and spaces meet in every way."""
    check(([p for p, _ in rows], [t for _, t in rows]))


@pytest.mark.parametrize("length", [63, 64, 65, 300])
def test_long_texts(length: int) -> None:
    rng = np.random.default_rng(length)
    p, t = ("".join(rng.choice(list("abc "), length + extra)) for extra in (0, 7))
    check(([p], [t]))


def test_by_hand() -> None:
    assert value("word_error_rate", (["a b c", "x"], ["a c", "y"])) == pytest.approx(2 / 3)
    assert value("character_error_rate", (["kitten"], ["sitting"])) == pytest.approx(3 / 7)
    assert value("rouge", (["a b c d"], ["a x c d"])) == pytest.approx(3 / 4)
    assert value("rouge", (["a b c d"], ["a x c d"]), kind="rouge2") == pytest.approx(1 / 3)
    assert value("exact_match", (["a", "b "], ["a", "b"])) == 0.5
    assert value("bleu", (["The cat sat on it"], ["the cat sat on it"]), lower=True) == pytest.approx(100)
    assert value("bleu", (["three words only"], ["three words only"])) == 0, "there is no run of four words"
    assert value("chrf", (["abcdef"], ["abcdef"])) == pytest.approx(100)


def test_nothing_to_say() -> None:
    silence = (["", ""], ["", ""])
    for name, number in {"bleu": 0, "chrf": 0, "rouge": 0, "exact_match": 1, "word_error_rate": 0}.items():
        assert value(name, silence) == number
    assert value("word_error_rate", (["a b"], [""])) == 2


def test_missing_text_has_no_value() -> None:
    for name in ("bleu", "chrf", "rouge", "exact_match", "word_error_rate", "character_error_rate"):
        assert math.isnan(value(name, (["a", None], ["a", "b"])))  # type: ignore[list-item]
        assert math.isnan(value(name, (["a", "b"], ["a", float("nan")])))  # type: ignore[list-item]


def test_texts_of_fixed_width_are_texts() -> None:
    p, t = np.array(["a b c d e", "f"]), np.array(["a b c d x", "f"])
    for name in ("bleu", "chrf", "rouge", "exact_match", "word_error_rate", "character_error_rate"):
        call = Call(METRICS[name], {})
        assert call(p, t) == call(p.astype(object), t.astype(object))


def test_evaluated_and_drawn() -> None:
    pair = [np.array(texts, object) for texts in zip(*REAL, strict=True)]
    calls = [Call(METRICS["bleu"], {"lower": lower}) for lower in (False, True)] + [Call(METRICS["rouge"], {})]
    found = m.evaluate_metrics(calls, *pair, "text")
    assert list(found) == ["bleu", "bleu(lower=True)", "rouge"]
    low, high = m.intervals(calls[:1], *pair, "text", 0)["bleu"]
    assert low <= found["bleu"] <= high
    assert m.direction("test/word_error_rate") == m.direction("character_error_rate") == "min"
