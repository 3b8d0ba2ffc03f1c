"""Generated data sets: the rules they state, and that they can be learnt but not guessed."""

import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from trine.runtime.data import DataError
from trine.runtime.data.sources import generated
from trine.runtime.data.sources.generated import SETS
from trine.runtime.data.sources.generated.entities import AMBIGUOUS, MONTHS, REMARKS, TEMPLATES, WEEKDAYS
from trine.runtime.data.sources.generated.numerals import english, french
from trine.runtime.data.sources.generated.spoken import DIGITS, RATE, Voice, say
from trine.runtime.data.sources.generated.topics import GROUPS
from trine.runtime.session import prepare
from trine.runtime.specs import open_spec

TABLES = {}


def columns(name, **options):
    """The values of a set's columns; sets of the default options are made once."""
    key = (name, *sorted(options.items()))
    if key not in TABLES:
        TABLES[key] = generated(name, Path(), **options)
    return {name: column.values for name, column in TABLES[key].columns.items()}


def halves(rows):
    """Every row but each fourth to train on, the others to test on."""
    test = np.arange(rows) % 4 == 3
    return ~test, test


def most_common(labels):
    """The accuracy of naming the most frequent label."""
    return max(Counter(labels.tolist()).values()) / len(labels)


def digest(name, seed):
    """A hash of all bytes of a set."""
    hashed = hashlib.sha256()
    for key, column in generated(name, Path(), rows=60, seed=seed).columns.items():
        cells = column.values if column.values.dtype == object else [column.values]
        hashed.update(key.encode() + column.missing.tobytes())
        for cell in cells:
            text = isinstance(cell, str) or cell.dtype == object
            hashed.update("\0".join(cell).encode() + b"\1" if text else cell.tobytes())
    return hashed.hexdigest()


@pytest.mark.parametrize(
    ("name", "rows", "kinds"),
    [
        ("entities", 3000, {"tokens": "words", "tags": "words"}),
        ("pairs", 5000, {"source": "text", "target": "text"}),
        ("ratings", 12000, dict.fromkeys(("user", "item", "time", "rating"), "int64")),
        ("series", 8760, {"time": "text", "load": "float64", "temperature": "float64", "holiday": "int64"}),
        ("shapes", 2000, {"image": "uint8 (3, 32, 32)", "mask": "int64 (32, 32)", "shape": "text"}),
        ("spoken", 1000, {"audio": "sound", "rate": "int64", "speaker": "text", "digit": "text"}),
        ("spoken_sequences", 1000, {"audio": "sound", "rate": "int64", "speaker": "text", "text": "text"}),
        ("tabular", 5000, {
            "age": "int64", "hours": "float64", "education": "text", "job": "text", "region": "text",
            "income": "float64", "high": "text",
        }),
        ("topics", None, {"text": "text", "label": "text", "topic": "text"}),
    ],
)  # fmt: skip
def test_columns(name, rows, kinds):
    columns(name)
    table = TABLES[(name,)]
    assert {key: kind(column) for key, column in table.columns.items()} == kinds
    assert table.source == f"generated:{name}"
    assert rows is None or len(table) == rows
    least = 8 if name == "ratings" else 1
    assert len(generated(name, Path(), rows=least)) == least
    assert {key: kind(column) for key, column in generated(name, Path(), rows=least).columns.items()} == kinds


def kind(column):
    if column.ragged:
        assert {(row.dtype, row.ndim) for row in column.values} in ({(np.dtype(object), 1)}, {(np.dtype("f4"), 1)})
        return "words" if column.values[0].dtype == object else "sound"
    if column.is_text:
        return "text"
    return f"{column.values.dtype}" + (f" {column.shape}" if column.shape else "")


def test_the_same_seed_gives_the_same_bytes_in_another_process():
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    script += "from test_generated import SETS, digest\nprint(*(digest(name, 3) for name in SETS))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [digest(name, 3) for name in SETS]
    assert not {digest(name, 4) for name in SETS} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("shape", {}, ("no generated data set `shape`", "did you mean `shapes`?")),
        ("", {}, ("expected one of `entities`",)),
        ("shapes", {"rows": 10**9}, ("`generated:shapes` cannot have 1000000000 rows", "from 1 to 20,000", "2,000")),
        ("ratings", {"rows": 7}, ("from 8 to",)),
        ("topics", {"rows": 10**6}, ("`generated:topics`", "leave it out")),
    ],
)  # fmt: skip
def test_what_cannot_be_made(name, options, parts):
    with pytest.raises(DataError) as caught:
        generated(name, Path(), **options)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_every_set_states_its_rule_and_is_listed():
    for name, make in SETS.items():
        assert len(make.__doc__.split("\n\n")) > 1, name
        assert f"\n    - `{name}`: " in generated.__doc__, name


def test_a_spec_reads_one(tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "spec: 1\nname: s\ndata:\n  source: generated:tabular\n  options: {rows: 100, seed: 5}\n"
        "  split: {train: 0.8, valid: 0.2}\n  fields:\n    x: {columns: [age, hours], fill: median}\n"
        "    y: {column: high, encode: ids}\n"
        "model:\n  inputs: {x: 'float[2]'}\n  layers:\n    - {linear: $y.size, as: logits}\n"
        "train:\n  loss: {cross_entropy: [logits, y]}\n  optimizer: adam\n"
    )
    _, dataset = prepare(open_spec(str(spec)))
    assert {name: len(part.arrays["y"]) for name, part in dataset.splits.items()} == {"train": 80, "valid": 20}


def test_masks_have_the_outlines_of_their_shapes():
    """By the share of its bounding box that a lone shape fills: π/4 of it for a disc, all of it, half of it."""
    made = columns("shapes")
    filled = defaultdict(list)
    for mask, name in zip(made["mask"], made["shape"], strict=True):
        parts, count = ndimage.label(mask > 0)
        kinds = {*np.unique(mask)} - {0}
        touches = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        if count == 1 and len(kinds) == 1:
            assert {"disc": 1, "square": 2, "triangle": 3}[name] in kinds
            (box,) = ndimage.find_objects(parts)
            height, width = (part.stop - part.start for part in box)
            if not touches and abs(height - width) <= 1:  # two shapes that overlap are rarely as wide as high
                filled[name].append((mask[box] > 0).mean())
    assert min(map(len, filled.values())) > 50
    assert np.median(filled["disc"]) == pytest.approx(np.pi / 4, abs=0.03)  # pixels make edges uneven
    assert np.median(filled["square"]) == 1
    assert np.median(filled["triangle"]) == pytest.approx(0.5, abs=0.05)
    assert {*np.unique(made["mask"])} == {0, 1, 2, 3}


def test_the_largest_shape_is_named_and_shapes_are_bright():
    made = columns("shapes")
    names = np.array(["background", "disc", "square", "triangle"])
    counts = np.stack([(made["mask"] == i).sum((1, 2)) for i in range(1, 4)], 1)
    one_kind = (counts > 0).sum(1) == 1
    assert (names[1 + counts.argmax(1)] == made["shape"])[one_kind].all()
    # Where one kind fills more than all others, it can only be beaten by being several shapes.
    assert (names[1 + counts.argmax(1)] == made["shape"]).mean() > 0.95
    seen = made["mask"] > 0
    pixels = made["image"].transpose(0, 2, 3, 1)
    assert pixels[seen].mean() == pytest.approx((110 + 255) / 2, abs=4)
    assert pixels[~seen].mean() == pytest.approx(60, abs=4)


def test_shapes_are_learnt_pixel_by_pixel():
    """A forest on patches knows more than one class, and less than all."""
    made = columns("shapes", rows=120)
    grey = np.pad(made["image"].mean(1), ((0, 0), (5, 5), (5, 5)), mode="edge")
    patches = np.lib.stride_tricks.sliding_window_view(grey, (11, 11), (1, 2))[:, ::2, ::2]
    x, y = patches.reshape(120, 256, 121), made["mask"][:, ::2, ::2].reshape(120, 256)
    train, test = halves(120)
    forest = RandomForestClassifier(20, min_samples_leaf=3, class_weight="balanced", random_state=0)
    forest.fit(x[train].reshape(-1, 121), y[train].ravel())
    score = balanced_accuracy_score(y[test].ravel(), forest.predict(x[test].reshape(-1, 121)))
    assert 0.45 < score < 0.95  # one class alone has 0.25


def histories(made):
    """Each user's choices in order: (item, time) pairs."""
    found = defaultdict(list)
    for user, item, time in zip(made["user"].tolist(), made["item"].tolist(), made["time"].tolist(), strict=True):
        found[user].append((item, time))
    return found


def test_users_choose_each_item_once_and_in_order():
    made = columns("ratings")
    assert (np.diff(made["time"]) >= 0).all()
    users = histories(made)
    assert sorted(users) == list(range(500))
    for choices in users.values():
        items, times = zip(*choices, strict=True)
        assert 8 <= len(items) == len(set(items)) <= 40
        assert all(a < b for a, b in itertools.pairwise(times))
        assert datetime(2024, 1, 1).timestamp() - 86400 < times[0] < datetime(2025, 2, 1).timestamp()
    assert set(made["rating"].tolist()) == {1, 2, 3, 4, 5}
    assert set(made["item"].tolist()) <= set(range(400))
    popular = np.sort(np.bincount(made["item"], minlength=400))[::-1]
    assert 0.25 < popular[:40].sum() / popular.sum() < 0.5  # were all alike, 0.13


@pytest.mark.parametrize("rows", [8, 35, 36, 1001])
def test_any_number_of_choices_can_be_made(rows):
    counts = np.bincount(columns("ratings", rows=rows)["user"])
    assert counts.sum() == rows and counts.min() >= 8 and counts.max() <= 40


def test_tastes_tell_the_next_choice_better_than_popularity():
    users = histories(columns("ratings"))
    seen, last = np.zeros((500, 400)), np.zeros(500, np.int64)
    for user, choices in users.items():
        *before, (last[user], _) = choices
        seen[user, [item for item, _ in before]] = 1
    model = TruncatedSVD(8, random_state=0).fit(seen)

    def hits(scores):
        scores = np.where(seen > 0, -np.inf, scores)
        return ((scores > scores[np.arange(500), last][:, None]).sum(1) < 10).mean()

    popularity = hits(np.broadcast_to(seen.sum(0), seen.shape))
    assert 0.05 < popularity < 0.16
    assert 2 * popularity < hits(model.inverse_transform(model.transform(seen))) < 0.5


def test_tastes_drift():
    """Of four blocks of choices, neighbours are nearer to each other than the first is to the last."""
    users = histories(columns("ratings", rows=24_000))
    seen = np.zeros((len(users), 400))
    for user, choices in users.items():
        seen[user, [item for item, _ in choices]] = 1
    places = TruncatedSVD(8, random_state=0).fit(seen).components_.T
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    long = [choices[-32:] for choices in users.values() if len(choices) >= 32]
    blocks = places[np.array([[item for item, _ in choices] for choices in long])].reshape(-1, 4, 8, 8).mean(2)
    near, far = ((blocks[:, i] * blocks[:, j]).sum(1) for i, j in ((1, 2), (0, 3)))
    gain = near - far
    assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain))


def seasons(made):
    """What the stated rule of the series is made of, and the hour of each row."""
    times = [datetime.fromisoformat(text) for text in made["time"]]
    felt = [made["temperature"][0]]
    for now in made["temperature"][1:]:
        felt.append(felt[-1] + (now - felt[-1]) / 12)
    cold = np.maximum(18 - np.array(felt), 0)
    warm = np.maximum(np.array(felt) - 18, 0)
    free = np.array([t.weekday() >= 5 for t in times]) | (made["holiday"] == 1)
    hours = np.array([t.hour for t in times])
    work = ~free & (hours >= 7) & (hours < 19)
    return np.stack([cold, warm, work], 1), hours


def test_the_series_follows_its_rule():
    made = columns("series", rows=3 * 8760)
    times = [datetime.fromisoformat(text) for text in made["time"]]
    assert times[0] == datetime(2022, 1, 1)
    assert {b - a for a, b in itertools.pairwise(times)} == {timedelta(hours=1)}
    days = {t.date() for t, off in zip(times, made["holiday"], strict=True) if off}
    assert len(days) == 24 and {date(2022, 1, 1), date(2022, 5, 1), date(2022, 12, 25)} < days
    parts, hours = seasons(made)
    features = np.concatenate([parts, np.eye(24)[hours]], 1)
    model = LinearRegression(fit_intercept=False).fit(features, made["load"])
    # The noise has 18 MW and is like itself for 20 hours, so that three years are some 1,300 independent hours.
    assert model.coef_[:2] == pytest.approx([6, 10], abs=0.6)
    assert model.coef_[2] == pytest.approx(60, abs=4)
    peaks = model.coef_[3:]
    daily = 70 * np.cos(2 * np.pi * (np.arange(24) - 18) / 24) + 35 * np.cos(4 * np.pi * (np.arange(24) - 9) / 24)
    assert peaks == pytest.approx(500 + daily, abs=12)
    left = made["load"] - model.predict(features)
    assert np.corrcoef(left[1:], left[:-1])[0, 1] == pytest.approx(0.9, abs=0.03)
    assert (left[1:] - 0.9 * left[:-1]).std() == pytest.approx(8, abs=0.5)
    temperature = made["temperature"].reshape(-1, 24)
    assert temperature.mean(0).argmax() == 15 and temperature.mean(0).argmin() == 3
    assert temperature.mean(1)[180:220].mean() - temperature.mean(1)[:40].mean() == pytest.approx(20, abs=4)


def test_the_series_is_learnt_from_the_weather_and_the_clock():
    made = columns("series")
    parts, hours = seasons(made)
    train, test = np.arange(8760) < 6000, np.arange(8760) >= 6000
    clock = np.eye(24)[hours]
    scores = [
        LinearRegression().fit(x[train], made["load"][train]).score(x[test], made["load"][test])
        for x in (clock, np.concatenate([parts, clock], 1))
    ]
    assert scores[0] + 0.05 < scores[1] < 0.98


FRENCH = {
    0: "zéro", 1: "un", 16: "seize", 17: "dix-sept", 20: "vingt", 21: "vingt et un", 22: "vingt-deux",
    61: "soixante et un", 70: "soixante-dix", 71: "soixante et onze", 72: "soixante-douze", 79: "soixante-dix-neuf",
    80: "quatre-vingts", 81: "quatre-vingt-un", 90: "quatre-vingt-dix", 91: "quatre-vingt-onze",
    99: "quatre-vingt-dix-neuf", 100: "cent", 101: "cent un", 180: "cent quatre-vingts", 200: "deux cents",
    201: "deux cent un", 280: "deux cent quatre-vingts", 1000: "mille", 1001: "mille un", 1100: "mille cent",
    1200: "mille deux cents", 2000: "deux mille", 21000: "vingt et un mille",
    71021: "soixante et onze mille vingt et un",
    80000: "quatre-vingt mille", 80080: "quatre-vingt mille quatre-vingts", 100000: "cent mille",
    200000: "deux cent mille", 200200: "deux cent mille deux cents", 180000: "cent quatre-vingt mille",
    999999: "neuf cent quatre-vingt-dix-neuf mille neuf cent quatre-vingt-dix-neuf",
}  # fmt: skip


@pytest.mark.parametrize("number", FRENCH)
def test_french_numbers(number):
    assert french(number) == FRENCH[number]


VALUES = {
    "zéro": 0, "un": 1, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5, "six": 6, "sept": 7, "huit": 8, "neuf": 9,
    "dix": 10, "onze": 11, "douze": 12, "treize": 13, "quatorze": 14, "quinze": 15, "seize": 16, "vingt": 20,
    "trente": 30, "quarante": 40, "cinquante": 50, "soixante": 60, "et": 0,
}  # fmt: skip


def read_french(text):
    """The number that French words say."""
    thousands, hundreds, rest = 0, 0, 0
    for word in text.replace("quatre-vingt", "huitante").replace("-", " ").split():
        word = "cent" if word == "cents" else word
        if word == "mille":
            thousands, hundreds, rest = hundreds + rest or 1, 0, 0
        elif word == "cent":
            hundreds, rest = 100 * (rest or 1), 0
        else:
            rest += 80 if word in ("huitante", "huitantes") else VALUES[word]
    return 1000 * thousands + hundreds + rest


def test_numbers_can_be_read_back():
    numbers = [*range(2200), *range(79_000, 1_000_000, 917)]
    assert [read_french(french(n)) for n in numbers] == numbers


def test_english_numbers():
    """Written with `and`, the numbers from 1 to 1000 have 21124 letters (Project Euler, problem 17)."""
    letters = sum(c.isalpha() for n in range(1, 1001) for c in english(n))
    assert letters == 21124 - 9 * 99 * len("and")
    assert english(0) == "zero"
    assert english(40_018) == "forty thousand eighteen"
    assert english(999_121) == "nine hundred ninety-nine thousand one hundred twenty-one"


def test_pairs_differ_and_have_all_lengths():
    made = columns("pairs")
    numbers = [read_french(text) for text in made["target"]]
    assert [english(n) for n in numbers] == made["source"].tolist()
    assert len(set(numbers)) == 5000
    lengths = Counter(len(str(n)) for n in numbers)
    assert lengths == {1: 10, 2: 90, 3: 900, 4: 1334, 5: 1333, 6: 1333}
    assert Counter(len(str(read_french(t))) for t in columns("pairs", rows=60)["target"]) == dict.fromkeys(
        range(1, 7), 10
    )


def test_pairs_are_learnt_from_words_and_not_without_their_order():
    made = columns("pairs")
    first = np.array([text.split()[0] for text in made["target"]])
    train, test = halves(5000)
    bag = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=200))
    score = bag.fit(made["source"][train], first[train]).score(made["source"][test], first[test])
    assert most_common(first) + 0.2 < score < 0.97


def spans(tags):
    """The entities of a row: (start, end, kind)."""
    found, start = [], None
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and not tag.startswith("I-"):
            found.append((start, i, tags[start][2:]))
            start = None
        if tag.startswith("B-"):
            start = i
        assert not tag.startswith("I-") or (start is not None and tag[2:] == tags[start][2:])
    return found


def test_tags_fit_their_tokens():
    made = columns("entities")
    assert len(TEMPLATES) == 32
    tags = Counter(itertools.chain(*made["tags"]))
    assert set(tags) == {"O", *(f"{part}-{kind}" for part in "BI" for kind in ("PER", "ORG", "LOC", "DATE"))}
    known = {word for line in TEMPLATES + REMARKS for word in line}
    mistyped = []
    for words, row in zip(made["tokens"], made["tags"], strict=True):
        assert len(words) == len(row) >= 4
        spans(row.tolist())
        assert words[0][0].isupper() != " ".join(words).islower()
        if not " ".join(words).islower():
            plain = [word for word, tag in zip(words, row, strict=True) if tag == "O" and word.islower()]
            mistyped += [word not in known for word in plain if len(word) >= 4]
    lower = np.mean([" ".join(words).islower() for words in made["tokens"]])
    assert lower == pytest.approx(0.1, abs=0.022)  # four standard errors
    assert 0.015 < np.mean(mistyped) < 0.035  # three in a hundred, less what swaps two equal letters
    dates = {w for words, row in zip(made["tokens"], made["tags"], strict=True) for w, t in zip(words, row, strict=True)
             if t.endswith("DATE")}  # fmt: skip
    assert {*MONTHS, *WEEKDAYS} <= dates


def test_words_are_entities_or_not_by_their_place():
    made = columns("entities")
    kinds = defaultdict(set)
    for words, row in zip(made["tokens"], made["tags"], strict=True):
        for word, tag in zip(words, row, strict=True):
            kinds[word.lower()].add(tag)
    assert {"B-PER", "B-DATE", "O"} <= kinds["may"]
    for kind_, words in AMBIGUOUS.items():
        assert all(f"B-{kind_}" in kinds[w.lower()] and len(kinds[w.lower()]) > 1 for w in words), kind_


def test_names_are_mostly_new():
    made = columns("entities")
    train, test = halves(3000)
    common = {w.lower() for words in AMBIGUOUS.values() for w in words}

    def names(rows):
        for words, row in zip(made["tokens"][rows], made["tags"][rows], strict=True):
            for start, end, what in spans(row.tolist()):
                name = " ".join(words[start:end]).lower()
                if what != "DATE" and name not in common:
                    yield name

    seen = set(names(train))
    new = [name not in seen for name in names(test)]
    assert len(new) > 500 and np.mean(new) > 0.9


def narrow(matrix):
    """The sparse matrix with the 32-bit indices that scikit-learn's models take."""
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
    return matrix


def test_entities_are_learnt_from_their_neighbours():
    made = {name: values[:1200] for name, values in columns("entities").items()}

    def features(words, i, wide):
        near = range(-2, 3) if wide else (0,)
        padded = ["<", "<", *words, ">", ">"]
        found = {f"{k}": padded[i + 2 + k].lower() for k in near}
        return {**found, "title": words[i].istitle(), "digit": words[i].isdigit(), "end": words[i][-3:]}

    train, test = halves(1200)
    y = {name: np.concatenate(made["tags"][rows]) for name, rows in (("train", train), ("test", test))}
    scores = []
    for wide in (False, True):
        x = [
            [features(words, i, wide) for words in made["tokens"][rows] for i in range(len(words))]
            for rows in (train, test)
        ]
        vectors = DictVectorizer().fit(x[0])
        model = SGDClassifier(random_state=0).fit(narrow(vectors.transform(x[0])), y["train"])
        scores.append(f1_score(y["test"], model.predict(narrow(vectors.transform(x[1]))), average="macro"))
    assert scores[0] + 0.1 < scores[1] < 0.98
    assert scores[0] > 0.2  # `O` everywhere has 0.09


def test_a_digit_is_harmonics_near_formants():
    """The spectrum of a spoken `i`: multiples of the pitch, strongest near 300 and 2300 hertz."""
    sound = say(Voice(pitch=125.0, tract=1.0, speed=0.25, loudness=1.0), "i")
    assert len(sound) == 0.44 * RATE
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)

    def near(formant):
        return power[np.abs(hertz - formant) < 150].sum()

    # Some harmonic is within half a pitch of the formant; the pitch falls by a tenth.
    assert hertz[power.argmax()] == pytest.approx(300, abs=70)
    assert near(2250) > 10 * near(1250) and near(300) > near(2250)
    steady = say(Voice(125.0, 1.0, 0.25, 1.0), "i")[: RATE // 10]
    lags = np.correlate(steady, steady, "full")[len(steady) :]
    assert 30 + lags[30:100].argmax() + 1 == pytest.approx(RATE / 125, abs=2)


def pitch(sound):
    """The pitch in hertz by the strongest autocorrelation between 75 and 300 hertz."""
    power = np.abs(np.fft.rfft(sound, 2**15)) ** 2
    lags = np.fft.irfft(power)[: RATE // 75]
    return RATE / (RATE // 300 + lags[RATE // 300 :].argmax())


def test_speech_has_the_lengths_and_speakers_it_says():
    one, many = columns("spoken"), columns("spoken_sequences")
    for made, name in ((one, "digit"), (many, "text")):
        assert set(made["rate"].tolist()) == {RATE}
        assert {f"speaker {i}" for i in range(20)} == set(made["speaker"])
        for sound, text in zip(made["audio"], made[name], strict=True):
            assert text.isdigit() and 1 <= len(text) <= 4 and np.abs(sound).max() <= 1
            segments = sum(len(DIGITS[int(d)]) for d in text)
            # Speeds of speakers, and four standard deviations of those of rows.
            fast, slow = 1.2 * np.exp(0.24), 0.85 * np.exp(-0.24)
            low, high = 0.02 * (len(text) + 1) + 0.11 * segments / fast, 0.15 * (len(text) + 1) + 0.11 * segments / slow
            assert low - 0.01 < len(sound) / RATE < high + 0.01
    assert set(one["digit"]) == set("0123456789")
    assert {len(text) for text in many["text"]} == {1, 2, 3, 4}
    assert any(a == b for text in many["text"] for a, b in itertools.pairwise(text))
    medians = [
        [np.median([pitch(x) for x in made["audio"][made["speaker"] == f"speaker {i}"][:12]]) for i in range(20)]
        for made in (one, many)
    ]
    assert np.corrcoef(*medians)[0, 1] > 0.9
    assert all(70 < hertz < 260 for hertz in itertools.chain(*medians))


def test_digits_are_learnt_from_spectra():
    made = columns("spoken")

    def bands(sound):
        """Logarithms of 20 bands of the spectrum in each of five parts."""
        parts = [np.abs(np.fft.rfft(part, 1024))[:480].reshape(20, 24).mean(1) for part in np.array_split(sound, 5)]
        return np.log(np.concatenate(parts))

    x = np.stack([bands(sound) for sound in made["audio"]])
    train, test = halves(1000)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    score = model.fit(x[train], made["digit"][train]).score(x[test], made["digit"][test])
    assert 0.5 < score < 0.985  # chance has 0.1


def test_paragraphs_stand_in_their_topics():
    from pydoc_data.topics import topics as texts

    made = columns("topics")
    plain = {name: " ".join(text.split()) for name, text in texts.items()}
    for text, label, topic in zip(made["text"], made["label"], made["topic"], strict=True):
        assert text in plain[topic] and topic in GROUPS[label].split()
        assert len(text.split()) >= 8
    assert len(set(made["text"])) == len(made["text"])
    groups = Counter(made["label"])
    assert len(groups) == 6 and min(groups.values()) >= 60
    assert all(len(set(made["topic"][made["label"] == g])) >= 3 for g in groups)
    listed = [name for names in GROUPS.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert columns("topics", rows=10)["text"].tolist() == made["text"][:10].tolist()


def test_topics_are_learnt_from_words():
    made = columns("topics")
    train, test = halves(len(made["text"]))
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10, max_iter=300))
    score = model.fit(made["text"][train], made["label"][train]).score(made["text"][test], made["label"][test])
    assert most_common(made["label"]) + 0.2 < score < 0.95


def people():
    """The rows of `tabular` without a missing cell, and what their incomes are made of."""
    made = columns("tabular")
    table = TABLES[("tabular",)]
    whole = ~(table.column("hours").missing | table.column("job").missing)
    return {name: values[whole] for name, values in made.items()}


def test_incomes_follow_their_rule():
    table = columns("tabular") and TABLES[("tabular",)]
    for name, column in table.columns.items():
        # Four standard errors of a share of 0.02 of 5000.
        assert column.missing.mean() == pytest.approx(0.02 if name in ("hours", "job") else 0, abs=0.008), name
    made = people()
    assert ((made["income"] > 40_000) == (made["high"] == "yes")).all()
    assert (made["income"] % 100 == 0).all()
    assert made["age"].min() == 18 and made["age"].max() == 69
    level = np.array([["school", "college", "bachelor", "master", "doctor"].index(e) - 2 for e in made["education"]])
    studied = np.isin(made["job"], ["engineer", "nurse", "teacher"])
    parts = np.stack([
        level * studied, level * ~studied, made["hours"] - 38, (made["age"] - 48) ** 2,
        made["region"] == "coast", made["region"] == "south",
    ], 1)  # fmt: skip
    model = LinearRegression().fit(parts, np.log(made["income"]))
    assert model.coef_ == pytest.approx([0.22, -0.22, 0.02, -0.00025, 0.15, -0.1], abs=0.02)
    assert np.exp(model.intercept_) == pytest.approx(38_000, rel=0.02)
    assert (np.log(made["income"]) - model.predict(parts)).std() == pytest.approx(0.12, abs=0.01)


def test_a_linear_model_needs_the_cross_of_education_and_job():
    made = people()
    train, test = halves(len(made["high"]))
    numbers = np.stack([made["age"], made["age"] ** 2, made["hours"]], 1)
    cross = np.char.add(made["education"].astype(str), made["job"].astype(str))
    scores = []
    for columns_ in ([made["education"], made["job"], made["region"]], [cross, made["region"]]):
        codes = OneHotEncoder(sparse_output=False).fit_transform(np.stack(columns_, 1))
        x = np.concatenate([codes, numbers], 1)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(x[train], made["high"][train])
        scores.append(model.score(x[test], made["high"][test]))
    assert most_common(made["high"]) < scores[0] < scores[1] - 0.08
    assert scores[1] < 0.97
