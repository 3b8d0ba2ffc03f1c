"""The JSON Schema accepts what the reader accepts, and explains itself."""

import json

import jsonschema
import pytest
from trine.compiler.initialisers import INITIALISERS
from trine.compiler.spec.diagnostics import Report, SpecError
from trine.compiler.spec.reader import read_string
from trine.compiler.spec.registry import LAYERS, LOSSES, REGISTRIES
from trine.compiler.spec.schema import schema
from trine.compiler.spec.source import read_text
from trine.runtime.specs import check_spec, zoo

SPECS = list(zoo().values())
SCHEMA = schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)

GOOD = """\
spec: 1
name: good
params: {width: 8, kernel: [3, 3], act: relu}
data:
  source: sklearn:digits
  split: {by: stratified, on: y, train: 0.8, valid: 0.2}
  fields:
    image: {column: image, scale: unit}
    y: {column: target, encode: ids}
model:
  inputs: {image: 'float[1, 8, 8]'}
  blocks:
    stage:
      params: {filters: int, stride: 1}
      layers:
        - conv: {filters: $filters, kernel: $kernel, stride: $stride}
        - relu
  layers:
    - stage: $(2 * width)
      repeat: 2
    - residual: [{conv: {filters: $(2 * width)}}, relu]
    - flatten
    - linear: {units: $y.size, init: {normal: {std: 0.1}}}
      as: logits
train:
  loss: {cross_entropy: {smoothing: 0.1}, from: [logits, y]}
  optimizer: {adamw: {lr: 1e-3}}
  schedule: cosine
  batch: 32
  early_stopping: {patience: 3}
evaluate: {metrics: [accuracy]}
x-note: {anything: [at, all]}
"""


def plain(text):
    report = Report()
    node = read_text(text, "spec.yaml", report)
    assert not report
    return node.plain


def valid(text, definition=None):
    validator = VALIDATOR
    if definition:
        validator = jsonschema.Draft7Validator(
            {**SCHEMA["definitions"][definition], "definitions": SCHEMA["definitions"]}
        )
    return validator.is_valid(plain(text))


def test_it_is_a_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_reference_leads_somewhere():
    def references(value):
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"].removeprefix("#/definitions/")
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    assert set(references(SCHEMA)) <= set(SCHEMA["definitions"])


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_shipped_specs_are_valid(path):
    assert [error.message for error in VALIDATOR.iter_errors(plain(path.read_text()))] == []


def test_the_good_spec_is_good_to_schema_and_reader():
    assert [error.message for error in VALIDATOR.iter_errors(plain(GOOD))] == []
    check_spec(read_string(GOOD))


BROKEN = {
    "an unknown section": ("name: good", "nmae: good"),
    "another version": ("spec: 1", "spec: 2"),
    "no model": ("model:", "x-model:"),
    "a params mapping inside params": ("width: 8", "width: {a: 8}"),
    "a param that cannot be named": ("width: 8", "the-width: 8"),
    "an unknown source": ("sklearn:digits", "sklern:digits"),
    "a source that is a number": ("sklearn:digits", "3"),
    "an unknown split": ("by: stratified", "by: stratifed"),
    "a share of rows beyond one": ("train: 0.8", "train: many"),
    "an unknown encoding": ("encode: ids", "encode: idz"),
    "an unknown argument of a field": ("scale: unit", "scal: unit"),
    "an unknown scale": ("scale: unit", "scale: units"),
    "an unknown element type": ("float[1, 8, 8]", "flaot[1, 8, 8]"),
    "a signature that is a number": ("'float[1, 8, 8]'", "8"),
    "an unknown key of the model": ("  layers:\n    - stage", "  layer:\n    - stage"),
    "an unknown key of a block": ("params: {filters", "parms: {filters"),
    "a type of a block param": ("filters: int", "filters: [int]"),
    "a block that hides a layer": ("    stage:\n", "    relu:\n"),
    "an unknown argument of a layer": ("kernel: $kernel", "kernl: $kernel"),
    "text where a number belongs": ("filters: $filters", "filters: many"),
    "a number below the least": ("filters: $filters", "filters: 0"),
    "an argument that is missing": ("filters: $filters, ", ""),
    "a layer that needs arguments, without": ("    - flatten", "    - linear"),
    "arguments for a layer that takes none": ("    - flatten", "    - flatten: 3"),
    "two layers in one step": ("    - flatten", "    - {flatten: , relu: }"),
    "a misspelt key beside a layer": ("      repeat: 2", "      repaet: 2"),
    "a repeat that is no number": ("      repeat: 2", "      repeat: often"),
    "too many repeats": ("      repeat: 2", "      repeat: 1001"),
    "a step that is a number": ("    - flatten", "    - 3"),
    "a step without a layer": ("    - flatten", "    - as: here"),
    "no steps in a residual": ("[{conv: {filters: $(2 * width)}}, relu]", "[]"),
    "a wrong step in a residual": ("[{conv: {filters: $(2 * width)}}, relu]", "[{conv: {}}]"),
    "an unknown initialiser": ("{normal: {std: 0.1}}", "{norml: {std: 0.1}}"),
    "an argument of an initialiser": ("{normal: {std: 0.1}}", "{normal: {std: -1}}"),
    "a name with a hyphen": ("as: logits", "as: the-logits"),
    "an unknown loss": ("cross_entropy:", "cross_entrpy:"),
    "an unknown argument of a loss": ("smoothing: 0.1", "smoothin: 0.1"),
    "a loss of one thing": ("from: [logits, y]", "from: [logits]"),
    "an unknown optimizer": ("adamw:", "adamww:"),
    "an argument of an optimizer": ("lr: 1e-3", "lr: fast"),
    "an unknown schedule": ("schedule: cosine", "schedule: cosin"),
    "a batch that is text": ("batch: 32", "batch: large"),
    "a batch of none": ("batch: 32", "batch: 0"),
    "an unknown key of early stopping": ("patience: 3", "patient: 3"),
    "an unknown metric": ("[accuracy]", "[acuracy]"),
    "metrics that are no list": ("[accuracy]", "accuracy"),
    "an expression that is none": ("$(2 * width)\n", "$2\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_broken_to_schema_and_reader(name):
    old, new = BROKEN[name]
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(SpecError):
        check_spec(read_string(text))
    if name != "an expression that is none":  # the argument of a block: only the block knows its kind
        assert not valid(text)


@pytest.mark.parametrize("name", LAYERS)
def test_the_example_of_every_layer_is_a_step(name):
    examples = [line.strip() for line in LAYERS[name].doc.splitlines() if line.strip().startswith("Example:")]
    assert examples
    for example in examples:
        step = example.removeprefix("Example:").strip()
        assert plain(step) == name or name in plain(step)
        assert valid(step, "step")


@pytest.mark.parametrize("name", LOSSES)
def test_the_example_of_every_loss_is_a_loss(name):
    examples = [line.strip() for line in LOSSES[name].doc.splitlines() if line.strip().startswith("Example:")]
    assert examples
    assert all(valid(example.removeprefix("Example:").strip(), "loss") for example in examples)


def test_every_registry_has_a_definition():
    nouns = {registry.noun for registry in (*REGISTRIES, INITIALISERS)} - {"layer"}
    assert nouns <= set(SCHEMA["definitions"])


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_and_argument_is_explained(name):
    arguments = SCHEMA["definitions"]["step"]["then"]["properties"][name]
    assert arguments["description"] == LAYERS[name].summary
    for key, option in arguments["anyOf"][0]["properties"].items():
        assert option.get("description") or "$ref" in option, key


def test_sections_may_come_from_another_file():
    train = GOOD[GOOD.index("\ntrain:") + 1 : GOOD.index("evaluate:")]
    assert valid(GOOD.replace(train, "train: {use: train.yaml, batch: 8}\n"))
    assert not valid(GOOD.replace(train, "train: {use: train.txt}\n"))
    assert not valid(GOOD.replace(train, "train: {batch: 8}\n"))
    assert valid(GOOD.replace("  blocks:\n", "  blocks:\n    use: blocks.yaml\n"))


@pytest.mark.parametrize("value", ["$width", "$(2 * width)", "$y.size"])
def test_expressions_stand_for_scalars(value):
    assert valid(f"linear: {value}", "step")
    assert valid(f"linear: {{units: {value}, bias: {value}}}", "step")
    assert valid(f"dropout: {value}", "step")
