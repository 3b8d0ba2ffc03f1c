"""Nothing that a file may hold ends in a traceback, or takes long."""

# ruff: noqa: E501

import itertools
import json
import random
import shutil
import time
from pathlib import Path

import pytest
import trine
from trine.compiler.spec.diagnostics import Report, Span, SpecError
from trine.compiler.spec.reader import interpret, read
from trine.compiler.spec.source import from_plain, read_text
from trine.runtime.specs import check_spec, zoo

CHUNKS, PER_CHUNK = 20, 250
SECONDS = 2.0

LARGER = [
    """\
spec: 1
name: residual-network
params: {width: 8, depth: 2, kernel: [3, 3]}
data:
  source: sklearn:digits
  split: {train: 0.8, valid: 0.2, by: random, seed: 1}
  fields:
    image: {column: image, scale: unit}
    digit: {column: target, encode: ids}
model:
  inputs: {image: 'float[1, 8, 8]'}
  blocks:
    basic:
      params: {filters: int, stride: 1}
      layers:
        - residual:
            shortcut: project
            layers:
              - conv: {filters: $filters, kernel: $kernel, stride: $stride, bias: false}
              - batch_norm
              - relu
              - conv: {filters: $filters, kernel: 3, bias: false}
              - batch_norm
        - relu
  layers:
    - conv: {filters: $width, kernel: 3, bias: false}
    - basic: {filters: $width}
      repeat: $depth
    - basic: {filters: $(2 * width), stride: 2}
    - global_avg_pool
    - linear: $digit.size
      as: logits
train:
  loss: {cross_entropy: {smoothing: 0.1}, from: [logits, digit]}
  optimizer: {sgd: {lr: 0.1, momentum: 0.9}}
  schedule: {cosine: {warmup: 5%}}
  batch: 32
  epochs: 2
  early_stopping: {monitor: valid/loss, patience: 3}
  checkpoint: {every: 1ep, keep: 2}
evaluate: {metrics: [accuracy, macro_f1], slices: [digit]}
optimize: [fold_batch_norm, simplify]
""",
    """\
spec: 1
name: towers
params: {dim: 8}
model:
  inputs:
    user: int
    item: int
    words: int[T <= 16]
    age: float[2]
  blocks:
    tower:
      params: {rows: int}
      layers:
        - embedding: {rows: $rows, dim: $dim}
        - linear: $dim
        - relu
    join:
      inputs: [left, right]
      layers:
        - dot: [left, right]
  layers:
    - tower: {rows: 100}
      from: user
      as: user_vec
    - tower: {rows: 100}
      from: item
      share: user_vec
      as: item_vec
    - embedding: {rows: 50, dim: $dim}
      from: words
    - conv: {filters: $dim, kernel: 3}
    - mean: {over: T}
      as: text
    - linear: {units: $dim, init: {normal: {std: 0.1}}}
      from: age
      as: age_vec
    - add: [user_vec, text, age_vec]
      as: left
    - join:
      from: [left, item_vec]
      as: score
  outputs: [score, text]
train:
  loss:
    - {mse: [score, rating]}
    - {mae: [score, rating], weight: 0.5}
  optimizer: adam
x-note: &note {a: 1}
x-more: {<<: *note, b: [1, 2.5, .inf, ~, true, 'q']}
""",
]
SPECS = [path.read_text() for path in zoo().values()] + LARGER
BLOCKS = Path(trine.__file__).parent / "specs" / "blocks"
USED = {f"../blocks/{path.name}" for path in BLOCKS.glob("*.yaml")}  # as specs of the zoo name them

JUNK = [
    "$(", "$(1 / 0)", "$nothing", "$", "$$", "*", "*a", "&a", "&a x", "!", "!!int 3", "!x", "\t", "\0", "\x1b", "\u2028", "\x85", "\ufeff", "é", "語", "🜁", "\u202e",
    "9" * 30, "9" * 60, "-1", "0", "1e999", "-.inf", ".nan", "0x" + "f" * 30, "true", "null", "~", "[]", "{}", "[[[[[[", "]" * 5, "{" * 6, "[" * 60, "- - - -", "? ", ": ", "|", ">",
    "'", '"', "#", "%", "@", "`", "<<", "<<: 3", "---", "...", "use", "use: x.yaml", "spec", "from", "as", "repeat", "share", "layers", "residual", "relu", "concat", "[x, x]", "a" * 300,
    "linear: 8", "- relu", "{relu: , tanh: }", "2 * width", "x" * 70, "__class__", "float[1]", "int[T <= 5]", "float[", "repeat: 1000", "repeat: 0", "1000", "5%", "10ep", "csv:a.csv", ":", "a.b",
]  # fmt: skip
VALUES = [None, True, False, 0, -1, 1, 8, 1.5, float("inf"), float("nan"), 10**30, "", "x", "$width", "$(1 +", "$(2 * 3)", "relu", "a b", [], {}, [1, 2], ["x"], [[]], {"a": 1}, [{"relu": None}]]  # fmt: skip


def outcome(path):
    """Whether a file is a valid spec; where it is not, what is said of it must make sense."""
    try:
        check_spec(read(path))
    except SpecError as error:
        sensible(error, {str(path), *USED})
        return False
    return True


def sensible(error, files):
    assert error.diagnostics
    for diagnostic in error.diagnostics:
        assert diagnostic.code.startswith("E")
        assert diagnostic.message
        assert diagnostic.span.file in files
        assert diagnostic.span.line >= 1
        assert diagnostic.span.column >= 1
    text = error.report.render()
    assert "\x1b" not in text
    assert "\0" not in text
    json.dumps([diagnostic.as_json() for diagnostic in error.diagnostics])


def mutate_text(text, rng):
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(12)
    if kind == 0:
        del lines[i]
    elif kind == 1:
        lines.insert(j, lines[i])
    elif kind == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif kind == 3:
        lines[i] = " " * rng.randrange(12) + lines[i].lstrip()
    elif kind == 4:
        return text[: rng.randrange(len(text))]
    elif kind in (5, 6, 7):
        return replace_word(text, rng)
    elif kind == 8:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice(JUNK) + text[at:]
    elif kind == 9:
        at = rng.randrange(len(text))
        return text[:at] + text[at + 1 + rng.randrange(4) :]
    elif kind == 10:
        lines[i] = lines[i] + " " + rng.choice(JUNK)
    else:
        lines[i] = lines[i][: len(lines[i]) - len(lines[i].lstrip())] + rng.choice(JUNK)
    return "\n".join(lines)


def replace_word(text, rng):
    words = text.replace(":", " ").replace(",", " ").replace("{", " ").replace("}", " ").split()
    old = rng.choice(words)
    new = rng.choice(words) if rng.random() < 0.6 else rng.choice(JUNK)
    places = [i for i in range(len(text)) if text.startswith(old, i)]
    if not places:
        return text
    at = rng.choice(places)
    return text[:at] + new + text[at + len(old) :]


def mutate_bytes(data, rng):
    found = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def places_of(node, path=()):
    yield path
    if isinstance(node, dict):
        for key in node:
            yield from places_of(node[key], (*path, key))
    elif isinstance(node, list):
        for i, item in enumerate(node):
            yield from places_of(item, (*path, i))


def mutate_tree(value, rng):
    """Plain data with one value replaced, renamed, deleted, or taken from elsewhere."""
    places = [path for path in places_of(value) if path]
    path = rng.choice(places)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    kind = rng.randrange(5)
    if kind == 0:
        del holder[path[-1]]
    elif kind == 1 and isinstance(holder, dict):
        renamed = str(rng.choice(rng.choice(places)) if rng.random() < 0.5 else rng.choice(JUNK))
        items = [(renamed if key == path[-1] else key, item) for key, item in holder.items()]
        holder.clear()
        holder.update(items)
    elif kind == 2:
        other = value
        for key in rng.choice(places):
            other = other[key]
        holder[path[-1]] = json.loads(json.dumps(other))
    else:
        holder[path[-1]] = rng.choice(VALUES + JUNK)
    return value


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file to write a spec to, with the zoo's blocks where specs look for them."""
    shutil.copytree(BLOCKS, tmp_path / "blocks")
    (tmp_path / "family").mkdir()
    monkeypatch.chdir(tmp_path / "family")
    return Path("spec.yaml")


@pytest.mark.parametrize("text", SPECS, ids=range(len(SPECS)))
def test_the_specs_themselves_are_valid(text, file):
    file.write_text(text)
    assert outcome(file)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_mutated_files(chunk, file):
    rng = random.Random(chunk)
    for i in range(PER_CHUNK):
        text = rng.choice(SPECS)
        if i % 5 == 4:
            check_tree(mutate_tree(read_text(text, "tree.yaml", Report()).plain, rng))
            continue
        for _ in range(rng.randint(1, 3)):
            text = mutate_text(text, rng) or "x"
        data = text.encode("utf-8", "surrogatepass")
        file.write_bytes(mutate_bytes(data, rng) if i % 5 == 3 else data)
        start = time.process_time()
        outcome(file)
        assert time.process_time() - start < SECONDS, text


def check_tree(value):
    report = Report()
    report.add_source("tree.yaml", "# a tree\n")
    node = from_plain(value, Span("tree.yaml", 1, 1, 1))
    try:
        check_spec(interpret(node, Path("tree.yaml"), report, {}))
    except SpecError as error:
        sensible(error, {"tree.yaml", *USED})


def model(layers, blocks="", above=""):
    return f"spec: 1\n{above}model:\n  inputs: {{x: 'float[8]'}}\n{blocks}  layers:\n{layers}"


def blocks_of(names, times):
    pairs = itertools.pairwise(names)
    lines = [f"    {a}: {{layers: [{', '.join([b] * times)}]}}\n" for a, b in pairs]
    return "  blocks:\n" + "".join(lines) + f"    {names[-1]}: {{layers: [linear: 8]}}\n"


OK = model("    - relu\n")
PATHOLOGICAL = {
    "many steps": model("    - linear: 8\n" * 3000),
    "many unknown steps": model("    - linearr: 8\n" * 3000),
    "many errors": model("    - linear: {unitss: 8, biass: 1, initt: x}\n" * 3000),
    "many named steps": model("".join(f"    - linear: 8\n      as: s{i}\n" for i in range(2000))),
    "many unused steps": model("    - linear: 8\n      from: x\n" * 2000),
    "one long cycle": model("".join(f"    - relu:\n      from: s{(i + 1) % 900}\n      as: s{i}\n" for i in range(900))),
    "steps in reverse": model(
        "".join(f"    - relu:\n      from: {f's{i - 1}' if i else 'x'}\n      as: s{i}\n" for i in reversed(range(900)))
    ),
    "blocks that grow without end": model("    - a\n", blocks_of("abcdefghijkl", 10)),
    "repeats of repeats": model("    - a:\n      repeat: 1000\n", "  blocks: {a: {layers: [{relu: , repeat: 1000}]}}\n"),
    "deep residuals": model("    - " + "residual: [{" * 22 + "linear: 8" + "}]" * 22 + "\n"),
    "many values": OK + "x-a: [" + "a, " * 60_000 + "]\n",
    "many keys": OK + "x-a: {" + "".join(f"k{i}: 1, " for i in range(9000)) + "}\n",
    "many unknown keys": OK + "".join(f"k{i}: 1\n" for i in range(9000)),
    "many params": OK + "params: {" + "".join(f"k{i}: $k{i - 1}, " for i in range(6000)) + "}\n",
    "deep lists": OK + "x-a: " + "[" * 90_000,
    "deep mappings": OK + "x-a: " + "{a: " * 40_000,
    "question marks": OK + "? " * 90_000,
    "dashes": OK + "- " * 90_000,
    "a long text": OK + "x-a: '" + "a\n" * 90_000 + "'\n",
    "a long word": OK + "x" * 190_000,
    "a long key": OK + "x" * 190_000 + ": 1\n",
    "a long layer name": model("    - " + "linear" * 20_000 + "\n"),
    "a long number": OK + "x-a: " + "1" * 190_000 + "\n",
    "a long expression": model("    - linear: $(" + "1+" * 90_000 + "1)\n"),
    "a long signature": OK.replace("float[8]", "float[" + "1," * 5000 + "1]"),
    "an alias bomb": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)),
    "many aliases": OK + "x-a: &a [1]\nx-b: [" + "*a, " * 8000 + "]\n",
    "a merge bomb": "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 40)),
    "backslashes": OK + 'x-a: "' + "\\" * 190_001 + '"\n',
    "tabs": OK + "\t" * 190_000,
    "spaces": OK + " " * 190_000 + "x",
    "hashes": OK + "#" * 190_000,
    "colons": OK + ":" * 190_000,
    "line ends": OK + "\n" * 190_000,
}  # fmt: skip


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_nothing_takes_long(name, file):
    file.write_text(PATHOLOGICAL[name])
    start = time.process_time()
    outcome(file)
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe",
        b"\x00",
        b"\xef\xbb\xbf",
        bytes(range(256)),
        b"spec: 1\nname: \xed\xa0\x80\n",
        b"%YAML 9.9\n---\n",
        b"%TAG ! x\n--- !a\n",
    ],
)
def test_bytes(data, file):
    file.write_bytes(data)
    assert not outcome(file)
