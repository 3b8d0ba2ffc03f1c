"""Fields of text: pieces of words beside the library's own, lists of words, and text that comes back piece by piece."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trine
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from trine.runtime.data import DataError, from_arrays
from trine.runtime.data import fields as f
from trine.runtime.data.dataset import dataset_from_tables
from trine.runtime.data.table import Table
from trine.runtime.generation import Generator

LINES = [
    "The quick brown fox doesn't jump over the lazy dog, and the dog sleeps on.",
    "Über den schnellen Füchsen schläft ein fauler Hund; naïve Füchse springen.",
    "日本語の文 and 中文 words, ☃ snow ☃ snow 🦊🦊 fox",
    "the fox (start) and the dog (end) ##fox (unknown) end",
] * 4


def table(**columns: Any) -> Table:
    return from_arrays(columns, "rows.csv")


TRAIN = table(text=LINES)
BPE = f.bpe(size=380).fit(TRAIN)
PIECES = f.wordpiece(size=140).fit(TRAIN)


def restored(fitted: f.Fitted) -> f.Fitted:
    return f.restore(json.loads(json.dumps(fitted.state())))


def library(fitted: f.FittedText) -> Tokenizer:
    return Tokenizer.from_str(fitted.state()["tokenizer"])


# ------------------------------------------------------------------------------------ byte pairs


@given(st.text())
def test_any_text_comes_back_from_bytes(text: str) -> None:
    assert BPE.text(BPE.ids(text)) == text
    assert "".join(BPE.pieces(BPE.ids(text))) == text


def test_byte_pairs_are_those_the_library_learns() -> None:
    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    peer.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=380, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    )
    marked = f.bpe(size=382, start=True, end=True).fit(TRAIN)
    assert marked.vocabulary[:2] == ("(start)", "(end)")
    for text in [*LINES[:4], "unseen Ωords 🙂\n\n  x"]:
        want = peer.encode(text).ids
        assert BPE.ids(text).tolist() == want
        assert marked.ids(text).tolist() == [0, *(i + 2 for i in want), 1]
        assert marked.ids(text, whole=False).tolist() == [0, *(i + 2 for i in want)]
    assert BPE.size == marked.size - 2 == len(BPE.names) == 380


@given(st.lists(st.integers(0, 379), max_size=12))
def test_any_ids_are_the_text_the_library_makes(ids: list[int]) -> None:
    """Bytes that are no UTF-8 become replacement characters, in the stream as in the whole."""
    assert BPE.text(ids) == library_decoder.decode(ids)


library_decoder = library(BPE)


def test_characters_are_held_back_until_they_are_whole() -> None:
    plain = f.bpe(size=256).fit(TRAIN)
    taken: list[int] = []

    def ids() -> Iterator[int]:
        for i in plain.ids("a🦊é"):
            taken.append(int(i))
            yield int(i)

    counts = [(piece, len(taken)) for piece in plain.pieces(ids())]
    assert counts == [("a", 1), ("🦊", 5), ("é", 7)]
    assert list(plain.pieces(plain.ids("a🦊")[:3])) == ["a", "\ufffd"]


def test_bytes_need_their_room() -> None:
    assert f.bpe(size=258, start=True, end=True).fit(TRAIN).size == 258
    with pytest.raises(f.FieldError, match=r"`size` is 257; the bytes and special ids are 258 already"):
        f.bpe(size=257, start=True, end=True)


def test_half_a_surrogate_pair_is_replaced() -> None:
    torn = table(text=["fox \ud83e fox", "fox"])
    # BERT's cleaning leaves the replacement character out
    for encoder, want in ((f.bpe(size=260), "fox \ufffd"), (f.wordpiece(), "fox")):
        fitted = encoder.fit(torn)
        assert isinstance(fitted, f.FittedText)
        assert fitted.text(fitted.ids("fox \ud83e")) == want


# ----------------------------------------------------------------------------------- word pieces


def longest_match(word: str, pieces: set[str]) -> list[str]:
    """Devlin et al., 2019: from the start of a word, the longest piece that there is."""
    found, rest = [], word
    while rest:
        mark = "##" if found else ""
        size = next((n for n in range(len(rest), 0, -1) if mark + rest[:n] in pieces), None)
        if size is None:
            return ["(unknown)"]
        found.append(mark + rest[:size])
        rest = rest[size:]
    return found


def test_word_pieces_are_the_longest() -> None:
    pieces = set(PIECES.vocabulary) - {"(unknown)"}
    words = ["the", "quicker", "foxes", "jump", "naïve", "hunde", "zzz", "☃", "schnell", "dogs", "qqqq", "snowdog"]
    want = [piece for word in words for piece in longest_match(word, pieces)]
    assert "(unknown)" in want and any(piece.startswith("##") for piece in want)
    assert [PIECES.vocabulary[i] for i in PIECES.ids(" ".join(words).upper())] == want
    assert PIECES.ids("a" * 101).tolist() == [0]


def test_word_pieces_read_as_the_library_reads_them() -> None:
    peer = library(PIECES)
    peer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    for text in LINES[:4]:
        ids = PIECES.ids(text)
        assert ids.tolist() == peer.encode(text.lower()).ids
        assert PIECES.text(ids) == peer.decode(ids.tolist(), skip_special_tokens=False)


def test_the_most_frequent_characters_have_the_room() -> None:
    few = f.wordpiece(size=6, min_count=1).fit(table(text=["aab aab aab", "ac z"]))
    # `a` and `b` stand inside words too; for `c` there is no room
    assert few.vocabulary == ("(unknown)", "##a", "##b", "a", "b", "##ab")
    assert [few.vocabulary[i] for i in few.ids("ab ac z")] == ["a", "##b", "(unknown)", "(unknown)"]
    rare = f.wordpiece(min_count=2).fit(table(text=["aab aab aab", "ac z"]))
    assert "c" not in "".join(rare.vocabulary[1:]) and "z" not in rare.vocabulary
    assert f.wordpiece(size=1).fit(TRAIN).vocabulary == ("(unknown)",)


# ------------------------------------------------------------------------------------------ both


@pytest.mark.parametrize("encoder", [f.bpe, f.wordpiece])
@pytest.mark.parametrize("size", [290, 300, 320])
def test_there_are_as_many_ids_as_asked(encoder: Any, size: int) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh"), 6)) for _ in range(300)]
    fitted = encoder(size=size, start=True, end=True).fit(table(text=texts * 2))
    assert fitted.size == len(set(fitted.vocabulary)) == size
    assert fitted.transform(table(text=texts)).max() < size


@pytest.mark.parametrize("encoder", [f.bpe(size=500, start=True), f.wordpiece(size=200, end=True, lower=False)])
def test_spelling_a_special_id_is_no_special_id(encoder: f.Encoder) -> None:
    fitted = encoder.fit(table(text=["(start) (end) (unknown)"] * 50))
    special = fitted.tokens.special  # type: ignore[attr-defined]
    ids = fitted.ids("(start) (end) (unknown)")  # type: ignore[attr-defined]
    inner = [i for i in ids.tolist() if i not in special.values()]
    assert len(inner) == len(ids) - 1 and list(special.values()) == list(range(len(special)))


SCRIPT = """
import hashlib, json
from trine.runtime.data import from_arrays
from trine.runtime.data import fields as f
import random
rng = random.Random(0)
# many pairs are equally frequent
lines = ["".join(rng.choice("abcdé☃中 ") for _ in range(40)) for _ in range(40)]
table = from_arrays({"text": lines})
states = [encoder.fit(table).state() for encoder in (f.bpe(size=500), f.wordpiece(size=300))]
print(hashlib.sha256(json.dumps(states).encode()).hexdigest())
"""


def test_the_same_rows_give_the_same_pieces() -> None:
    def run(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert len({run(seed) for seed in "123"}) == 1


@pytest.mark.parametrize("encoder", [f.bpe(size=300), f.wordpiece(size=120), f.words(), f.characters(unknown=True)])
def test_training_rows_alone_decide(encoder: f.Encoder) -> None:
    other = table(text=["zebras zebras zebras zigzag"] * 9)
    dataset = dataset_from_tables({"train": TRAIN, "valid": other}, {"text": encoder})
    assert dataset.fields["text"].state() == encoder.fit(TRAIN).state()
    assert len(dataset.splits["valid"]) == 9


@pytest.mark.parametrize("encoder", [f.bpe, f.wordpiece, f.words, f.characters])
def test_rows_are_padded_and_cut(encoder: Any) -> None:
    fitted = encoder(start=True, end=True, max_length=4).fit(TRAIN)
    found = fitted.transform(table(text=["fox", None, LINES[0]]))
    assert found.shape == (3, 4) and fitted.padded
    start, end = fitted.vocabulary.index("(start)"), fitted.vocabulary.index("(end)")
    assert found[1].tolist() == [start, end, -1, -1]
    assert found[2, 0] == start and found[2, 3] == end
    whole = encoder().fit(TRAIN).ids(LINES[0]).tolist()
    names = encoder().fit(TRAIN).vocabulary
    assert [fitted.vocabulary[i] for i in found[2, 1:3]] == [names[i] for i in whole[:2]]
    assert np.array_equal(restored(fitted).transform(TRAIN), fitted.transform(TRAIN))
    assert restored(fitted) == fitted


@pytest.mark.parametrize("encoder", [f.bpe, f.wordpiece, f.words, f.characters])
def test_windows_cut_the_running_text(encoder: Any) -> None:
    fitted = encoder(window=5, stride=2).fit(TRAIN)
    found = fitted.transform(TRAIN)
    running = np.concatenate([fitted.ids(text + "\n") for text in LINES])
    want = [running[i : i + 5] for i in range(0, len(running) - 4, 2)]
    assert np.array_equal(found, want) and not fitted.padded
    with pytest.raises(DataError, match="fewer than one window of 5"):
        fitted.transform(table(text=["a"]))
    for wrong in ({"stride": 2}, {"window": 3, "end": True}):
        with pytest.raises(f.FieldError):
            encoder(**wrong)


@pytest.mark.parametrize(
    ("encoder", "text"),
    [
        (f.bpe(size=300, start=True, end=True), "the 🦊 naïve dog"),
        (f.wordpiece(size=90, start=True, end=True), "the naïve dog sleeps"),
        (f.words(start=True, end=True), "the naïve dog , sleeps"),
        (f.characters(start=True, end=True), "the 🦊 naïve dog"),
    ],
)
def test_pieces_are_the_whole_text(encoder: f.Encoder, text: str) -> None:
    fitted = encoder.fit(TRAIN)
    assert isinstance(fitted, f.FittedText)
    ids = fitted.ids(text).tolist()
    assert fitted.text(ids) == text == "".join(fitted.pieces([-1, *ids, 5, 6]))
    cut = len(ids) - 4
    assert "".join(fitted.pieces(ids[:cut])) + "".join(fitted.pieces(ids[cut:], continued=True)) == text


def test_a_mark_of_the_text_is_no_mark_of_a_piece() -> None:
    assert PIECES.text(PIECES.ids("## fox ##fox")) == "# # fox # # fox"


def test_saved_fields_of_before_are_read() -> None:
    old = {"column": "text", "window": None, "stride": None, "max_length": 3, "lower": True, "encode": "text"}
    words = f.restore({**old, "unit": "words", "vocabulary": ["(unknown)", "(end)", "dog", "fox"]})
    assert words.transform(table(text=["Fox cat dog fox", "dog"])).tolist() == [[3, 0, 1], [2, 1, -1]]
    characters = f.restore({**old, "unit": "characters", "vocabulary": ["a", "b"]})
    assert characters.transform(table(text=["aB"])).tolist() == [[0, 1]]


def damaged(fitted: f.Fitted, **changes: Any) -> dict[str, Any]:
    state = fitted.state()
    document = json.loads(state["tokenizer"])
    document["model"].update(changes)
    return {**state, "tokenizer": json.dumps(document)}


@pytest.mark.parametrize(
    ("state", "part"),
    [
        ({**BPE.state(), "tokenizer": "{"}, "JSONDecodeError"),
        ({**BPE.state(), "tokenizer": "[]"}, "TypeError"),
        ({**BPE.state(), "tokenizer": 3}, "TypeError"),
        ({**PIECES.state(), "tokenizer": BPE.state()["tokenizer"]}, "no piece '(unknown)'"),
        ({**BPE.state(), "tokenizer": PIECES.state()["tokenizer"]}, "no piece"),
        (damaged(BPE, vocab={"a": 0}), "no piece"),
        (damaged(BPE, merges=[["nothing", "here"]]), "nothing"),
        (damaged(BPE, merges=[["a"]]), "ValueError"),
        (damaged(PIECES, vocab={"(unknown)": 0, "a": 2}), "not the numbers from 0"),
        (damaged(PIECES, vocab={"(unknown)": 0, "a": "b"}), "TypeError"),
        ({k: v for k, v in BPE.state().items() if k != "tokenizer"}, "KeyError"),
        ({**BPE.state(), "unit": "sentences"}, "sentences"),
    ],
)
def test_saved_tokenizers_that_cannot_be_read(state: dict[str, Any], part: str) -> None:
    with pytest.raises(DataError, match=r"the saved (tokenizer|field) of .* cannot be read") as caught:
        f.restore(state)
    assert part in str(caught.value)


def test_what_else_a_saved_tokenizer_says_does_not_count() -> None:
    state = BPE.state()
    document = json.loads(state["tokenizer"])
    document["added_tokens"] = [{"id": 0, "content": "fox", "special": True}]
    document["truncation"] = {"max_length": 1}
    made = f.restore({**state, "tokenizer": json.dumps(document)})
    assert np.array_equal(made.transform(TRAIN), BPE.transform(TRAIN))


@pytest.mark.parametrize("fitted", [BPE, PIECES])
def test_without_the_library(fitted: f.FittedText, monkeypatch: pytest.MonkeyPatch) -> None:
    state = fitted.state()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    encoder = {"bpe": f.bpe(), "wordpiece": f.wordpiece()}[state["unit"]]
    for asks in (lambda: encoder.fit(TRAIN), lambda: f.restore(state)):
        with pytest.raises(DataError, match=r"needs the package `tokenizers`: pip install 'trine\[text\]'"):
            asks()


@pytest.mark.parametrize("encoder", [f.bpe(), f.wordpiece(), f.words()])
def test_nothing_to_learn_from(encoder: f.Encoder) -> None:
    with pytest.raises(DataError, match="in any training row"):
        encoder.fit(table(text=["", None]))
    with pytest.raises(DataError, match="holds numbers, expected text"):
        encoder.fit(table(text=[1, 2]))


# -------------------------------------------------------------------------------- lists of words


def test_lists_of_words_are_taken_as_they_are() -> None:
    train = table(text=[["New", "York-based", "(start)"], ["new"], None])
    fitted = f.words(start=True).fit(train)
    assert fitted.vocabulary == ("(unknown)", "(start)", "new", "york-based")
    want = [[1, 2, 3, 0], [1, 2, -1, -1], [1, -1, -1, -1]]
    assert fitted.transform(train).tolist() == want == restored(fitted).transform(train).tolist()
    assert f.words(lower=False).fit(train).vocabulary == ("(unknown)", "New", "York-based", "new")
    # rows of one length, and text beside it
    assert fitted.transform(table(text=[["york-based", "x"], ["new", "new"]])).tolist() == [[1, 3, 0], [1, 2, 2]]
    assert fitted.transform(table(text=["York-based new"])).tolist() == [[1, 0, 0, 0, 2]]


def test_windows_of_lists_of_words() -> None:
    train = table(text=[["a", "b", "c"], [], ["a"]])
    assert f.words(window=2, stride=1).fit(train).transform(train).tolist() == [[1, 2], [2, 3], [3, 1]]


@pytest.mark.parametrize("encoder", [f.bpe(), f.wordpiece(), f.characters()])
def test_lists_of_words_are_for_words(encoder: f.Encoder) -> None:
    with pytest.raises(DataError) as caught:
        encoder.fit(table(text=[["a", "b"], ["c"]]))
    assert "a list of words in each row" in str(caught.value)
    assert "`encode: words` takes lists of words" in str(caught.value)
    with pytest.raises(DataError, match="a sequence of numbers in a row, first at row 1"):
        encoder.fit(table(text=[[1, 2], [3]]))


# ------------------------------------------------------------------------------------ whole runs


def test_a_model_of_byte_pairs_goes_on_with_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("fünf Füchse rügen den Wölfchen. " * 80, encoding="utf-8")
    (tmp_path / "lm.yaml").write_text(
        "spec: 1\nname: lm\ndata:\n  source: text:text.txt\n  split: {train: 1.0}\n"
        "  fields: {tokens: {encode: bpe, size: 270, window: 24, stride: 5}}\n"
        "model:\n  inputs: {tokens: 'int[T <= 24]'}\n  layers:\n"
        "    - embedding: {rows: $tokens.size, dim: 16}\n    - gru: 48\n    - linear: $tokens.size\n      as: logits\n"
        "train:\n  loss: {next_token: [logits, tokens]}\n  optimizer: {adam: {lr: 0.03}}\n  epochs: 15\n",
        encoding="utf-8",
    )
    trine.train(tmp_path / "lm.yaml", tmp_path / "run")
    bundle = trine.compile(tmp_path / "run", tmp_path / "lm.trine")
    made = Generator(trine.load(bundle))
    pieces = list(made.text("rügen den", {}, 40))
    assert "".join(pieces).startswith(" Wölfchen. fünf Füchse rügen den Wölfchen.") and "\ufffd" not in "".join(pieces)
    assert pieces == list(Generator(trine.load(tmp_path / "run")).text("rügen den", {}, 40))
    beams = Generator(trine.load(bundle), beams=2)
    assert "".join(beams.text("rügen den", {}, 12)).startswith(" Wölf")


@pytest.mark.parametrize("encode", ["bpe, size: 300", "wordpiece, size: 60"])
def test_a_classifier_of_pieces(encode: str, tmp_path: Path) -> None:
    rows = ["good film, I liked it", "bad film, I hated it"] * 20
    (tmp_path / "net.yaml").write_text(
        "spec: 1\nname: net\ndata:\n  source: npz:given\n"
        f"  fields: {{tokens: {{encode: {encode}}}, mood: {{column: mood, encode: ids}}}}\n"
        "model:\n  inputs: {tokens: 'int[T <= 64]'}\n  layers:\n"
        "    - embedding: {rows: $tokens.size, dim: 8}\n    - lstm: {units: 8, returns: last}\n"
        "    - linear: $mood.size\n      as: logits\n"
        "train:\n  loss: {cross_entropy: [logits, mood]}\n  optimizer: {adam: {lr: 0.03}}\n  epochs: 30\n"
    )
    data = {"train": {"text": rows, "mood": ["glad", "sad"] * 20}}
    trained = trine.train(tmp_path / "net.yaml", tmp_path / "run", data=data)
    bundle = trine.compile(tmp_path / "run", tmp_path / "net.trine")
    asked = {"text": ["good film, I liked it", "bad film, I hated it", None]}
    found = trine.load(bundle).predict(asked)
    assert list(found["mood"][:2]) == ["glad", "sad"]
    np.testing.assert_array_equal(found["mood/probability"], trained.model.predict(asked)["mood/probability"])
