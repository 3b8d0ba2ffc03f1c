"""Every diagnostic code: what it means, a spec that is wrong in this way, and the same spec mended."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import dedent, indent

from ..structs import Struct


class Code(Struct):
    """One kind of problem.

    `wrong` and `right` are whole specs; where `command` is true they are command lines.
    """

    code: str
    title: str
    explanation: str
    wrong: str
    right: str
    command: bool = False


def page(code: str) -> str:
    """The page of a code, in Markdown; raises `KeyError` for a code there is not."""
    entry = CODES[code]
    language = "sh" if entry.command else "yaml"
    return (
        f"# {entry.code}: {entry.title}\n\n{entry.explanation}\n\n"
        f"Wrong:\n\n```{language}\n{entry.wrong}```\n\nRight:\n\n```{language}\n{entry.right}```\n"
    )


def _spec(layers: str, *, x: str = "float[8]", above: str = "", blocks: str = "", below: str = "") -> str:
    """A whole spec around the lines that matter."""
    blocks = f"  blocks:\n{indent(dedent(blocks), '    ')}" if blocks else ""
    steps = indent(dedent(layers), "    ")
    return f"spec: 1\n{dedent(above)}model:\n  inputs: {{x: '{x}'}}\n{blocks}  layers:\n{steps}{dedent(below)}"


_DATA = "data: {source: 'sklearn:wine', fields: {x: {column: features}, y: {column: target}}}\n"


def _train(loss: str, options: str = "") -> str:
    """A whole spec around a loss."""
    train = f"train:\n  loss: {loss}\n  optimizer: adamw\n{indent(options, '  ')}"
    return _spec("- linear: 3\n  as: logits\n", above=_DATA.replace("target}", "target, encode: ids}"), below=train)


def _table(codes: Iterable[Code]) -> dict[str, Code]:
    return {code.code: code for code in codes}


CODES: dict[str, Code] = _table(
    [
        Code(
            "E101",
            "a file cannot be read",
            "The file does not exist, is a folder, may not be read, or is not UTF-8 text. Paths after `use` are "
            "relative to the file that they stand in.",
            _spec("- tail\n", blocks="use: tails.yaml\n"),
            _spec("- tail\n", blocks="tail: {layers: [relu]}\n"),
        ),
        Code(
            "E102",
            "this is not YAML",
            "The text does not follow the rules of YAML 1.2. The most frequent causes: a tab in the indentation, a "
            "bracket or quote that is never closed, and a layer without arguments that has keys beside it: such a "
            "layer ends in a colon.",
            _spec("- relu\n  as: out\n"),
            _spec("- relu:\n  as: out\n"),
        ),
        Code(
            "E103",
            "a limit is exceeded",
            "Files, nesting, numbers and the values that aliases stand for are limited, so that no file can take all "
            "memory or time. No spec written by hand comes near the limits.",
            _spec("- relu\n", above="x-number: 11111111111111111111111111111111111111111\n"),
            _spec("- relu\n", above="x-number: 1.1e40\n"),
        ),
        Code(
            "E104",
            "this is not a spec",
            "A spec is one YAML document: a mapping of sections that has `spec: 1` and `model`. This file is empty, "
            "holds something else, or holds a second document.",
            "name: digits\n",
            _spec("- relu\n", above="name: digits\n"),
        ),
        Code(
            "E105",
            "a YAML tag",
            "Tags such as `!!python/object` have no place in a spec: a spec is data, and reading it runs nothing.",
            _spec("- relu\n", above="name: !!str digits\n"),
            _spec("- relu\n", above='name: "digits"\n'),
        ),
        Code(
            "E106",
            "a key that is none",
            "The keys of a mapping are words or numbers, and `<<` takes a mapping or a list of mappings.",
            _spec("- relu\n", above="x-note: {[a, b]: 1}\n"),
            _spec("- relu\n", above="x-note: {a: 1, b: 1}\n"),
        ),
        Code(
            "E107",
            "a key is given twice",
            "Each key of a mapping is given once. Many YAML readers silently take the last one.",
            _spec("- relu\n", above="name: a\nname: b\n"),
            _spec("- relu\n", above="name: b\n"),
        ),
        Code(
            "E108",
            "a file cannot be laid out anew",
            "`trine fmt` reads what it has written and compares. Here the new text would mean something else, so the "
            "file is left as it is. A plainer way to write it, without anchors or odd line breaks, helps.",
            "trine fmt spec.yaml\n",
            "trine check spec.yaml\n",
            command=True,
        ),
        Code(
            "E110",
            "an override cannot be applied",
            "`--set` takes `a.b=value`: the path to a value, through keys and positions in lists counted from 0, and "
            "the value as YAML. Everything before the last key of the path must exist and be a mapping or a list.",
            "trine check spec.yaml --set model.layers\n",
            "trine check spec.yaml --set model.layers.0=relu\n",
            command=True,
        ),
        Code(
            "E111",
            "`use` cannot be followed",
            "`use` names a `.yaml` file, or a list of them, by a path relative to the file it stands in. That file "
            "has a section of the same name, and files do not use each other in a circle.",
            _spec("- tail\n", blocks="use: tails.txt\n"),
            _spec("- tail\n", blocks="tail: {layers: [relu]}\n"),
        ),
        Code(
            "E201",
            "a list of steps is not one",
            "Steps are a list, each with a `-` of its own. A step is the name of one layer with its arguments.",
            _spec("- {linear: 8, relu: }\n"),
            _spec("- linear: 8\n- relu\n"),
        ),
        Code(
            "E203",
            "a value of the wrong kind",
            "The value is not of the kind that is expected here, or out of range. YAML 1.2 is read strictly: `1e-3` "
            'is a number, `"8"` is text, and `on` and `no` are text.',
            _spec("- dropout: 1.5\n"),
            _spec("- dropout: 0.5\n"),
        ),
        Code(
            "E204",
            "values that do not go together",
            "Two values say the same thing twice, or contradict each other.",
            _train("{cross_entropy: [logits, y]}", "epochs: 5\nsteps: 100\n"),
            _train("{cross_entropy: [logits, y]}", "epochs: 5\n"),
        ),
        Code(
            "E205",
            "a name is not defined",
            "`$name` stands for a value of `params`, a parameter of the block, a named dim of an input, or a size "
            "that the data define, such as `$label.size`. None of them has this name. A text that starts with a "
            "dollar is written `$$…`.",
            _spec("- linear: $widht\n", above="params: {width: 16}\n"),
            _spec("- linear: $width\n", above="params: {width: 16}\n"),
        ),
        Code(
            "E206",
            "an expression cannot be worked out",
            "`$(…)` holds numbers, names, `+ - * / // % **`, brackets, and min, max, round, ceil, floor and sqrt. "
            "It is arithmetic only, and a size that the data define takes no part in it before the data are read.",
            _spec("- linear: $(8 / 0)\n"),
            _spec("- linear: $(8 / 2)\n"),
        ),
        Code(
            "E207",
            "a size that is not known yet",
            "`$label.size` is known once the data are read. It may stand where a layer takes a size, and nowhere that "
            "decides what the network looks like.",
            _spec("- linear: 8\n  repeat: $y.size\n", above=_DATA),
            _spec("- linear: $y.size\n  repeat: 2\n", above=_DATA),
        ),
        Code(
            "E208",
            "a name that is none",
            "Names of inputs, fields, params and steps have letters, digits and underscores, and do not begin with a "
            "digit.",
            _spec("- relu:\n  as: first-out\n"),
            _spec("- relu:\n  as: first_out\n"),
        ),
        Code(
            "E209",
            "a signature cannot be read",
            "An input is `float`, `int` or `bool`, with its dims in brackets: numbers, names, or names with a bound, "
            "such as `int[T <= 512]`. The batch axis is implied.",
            _spec("- relu\n", x="flaot[8]"),
            _spec("- relu\n", x="float[8]"),
        ),
        Code(
            "E210",
            "there is no such layer",
            "No layer and no block of the file has this name. `trine docs` lists the layers.",
            _spec("- liner: 8\n"),
            _spec("- linear: 8\n"),
        ),
        Code(
            "E211",
            "there is no such loss, optimizer, metric, …",
            "Nothing is registered under this name. `trine docs` lists what there is.",
            _spec("- relu\n", below="evaluate: {metrics: [acuracy]}\n"),
            _spec("- relu\n", below="evaluate: {metrics: [accuracy]}\n"),
        ),
        Code(
            "E212",
            "this takes no arguments",
            "A value is given to something that takes none.",
            _spec("- relu: 3\n"),
            _spec("- relu\n"),
        ),
        Code(
            "E213",
            "something that must be given is missing",
            "An argument or a key without a default is not there.",
            _spec("- conv: {kernel: 3}\n", x="float[1, 8, 8]"),
            _spec("- conv: {filters: 4, kernel: 3}\n", x="float[1, 8, 8]"),
        ),
        Code(
            "E214",
            "an unknown argument or key",
            "Sections and arguments are closed: what is not known is an error. Keys of one's own begin with `x-`.",
            _spec("- linear: {unit: 8}\n"),
            _spec("- linear: {units: 8}\n"),
        ),
        Code(
            "E220",
            "there is no such step or input",
            "`from`, `share`, `outputs` and losses name steps by their `as`, and inputs. Names inside a block or a "
            "nested list are not seen from outside.",
            _spec("- linear: 8\n  as: hidden\n- add: [hiden, x]\n"),
            _spec("- linear: 8\n  as: hidden\n- add: [hidden, x]\n"),
        ),
        Code(
            "E221",
            "a name hides another",
            "A step may not have the name of an input or of another step, nor a block that of a layer: it would not "
            "be clear which one is meant.",
            _spec("- linear: 8\n  as: x\n"),
            _spec("- linear: 8\n  as: y\n"),
        ),
        Code(
            "E222",
            "steps or blocks wait for each other",
            "Each step reads what comes before it: edges form no circle, and a block does not use itself.",
            _spec("- add: [x, b]\n  as: a\n- linear: 8\n  as: b\n"),
            _spec("- add: [x, x]\n  as: a\n- linear: 8\n  as: b\n"),
        ),
        Code(
            "E223",
            "a step that nothing reads",
            "The step leads to no output and no loss. A forgotten `from` is the usual cause: without it, a step reads "
            "the one before it.",
            _spec("- linear: 8\n  as: a\n- linear: 8\n  from: x\n  as: b\n"),
            _spec("- linear: 8\n  as: a\n- linear: 8\n  from: x\n  as: b\n- add: [a, b]\n"),
        ),
        Code(
            "E224",
            "an input that nothing reads",
            "No step, loss or output reads the input.",
            "spec: 1\nmodel:\n  inputs: {x: 'float[8]', y: 'float[8]'}\n  layers:\n    - relu:\n      from: x\n",
            "spec: 1\nmodel:\n  inputs: {x: 'float[8]', y: 'float[8]'}\n  layers:\n    - add: [x, y]\n",
        ),
        Code(
            "E225",
            "a block that is never used",
            "A block of this file appears in no list of steps.",
            _spec("- relu\n", blocks="tail: {layers: [relu]}\n"),
            _spec("- tail\n", blocks="tail: {layers: [relu]}\n"),
        ),
        Code(
            "E226",
            "the first step does not say what it reads",
            "Where a model has several inputs, the first step names those that it reads.",
            "spec: 1\nmodel:\n  inputs: {x: 'float[8]', y: 'float[8]'}\n  layers:\n    - add\n",
            "spec: 1\nmodel:\n  inputs: {x: 'float[8]', y: 'float[8]'}\n  layers:\n    - add: [x, y]\n",
        ),
        Code(
            "E227",
            "too many steps",
            "The model, its blocks and repeats written out, has more steps than the compiler takes.",
            _spec("- many:\n  repeat: 1000\n", blocks="many: {layers: [relu, tanh, relu, tanh, relu, tanh]}\n"),
            _spec("- many:\n  repeat: 10\n", blocks="many: {layers: [relu, tanh, relu, tanh, relu, tanh]}\n"),
        ),
        Code(
            "E228",
            "the wrong number of inputs",
            "A layer or block takes a fixed number of inputs, or at least one, and the step gives another number.",
            _spec("- relu:\n  from: [x, x]\n"),
            _spec("- relu:\n  from: [x]\n"),
        ),
        Code(
            "E229",
            "the wrong number of things for a loss",
            "A loss names what it reads: most read a step and the field of the data, or other step, to compare it "
            "with; some read several steps. The message shows how many, and in which order.",
            _train("{cross_entropy: [logits]}"),
            _train("{cross_entropy: [logits, y]}"),
        ),
        Code(
            "E230",
            "a metric that does not fit",
            "A metric judges classes, labels or numbers; no loss of this spec predicts what it judges.",
            _train("{cross_entropy: [logits, y]}") + "evaluate: {metrics: [rmse]}\n",
            _train("{cross_entropy: [logits, y]}") + "evaluate: {metrics: [accuracy]}\n",
        ),
        Code(
            "E301",
            "what flows in does not fit",
            "The types of a layer's inputs do not fit the layer or each other. The message shows each type without "
            "its batch axis, and where it comes from.",
            _spec("- linear: 4\n  as: a\n- add: [a, x]\n"),
            _spec("- linear: 8\n  as: a\n- add: [a, x]\n"),
        ),
        Code(
            "E302",
            "an argument does not fit what flows in",
            "The argument is of the right kind, and cannot be applied to an input of this type.",
            _spec("- reshape: [1, 3, 3]\n"),
            _spec("- reshape: [1, 2, 4]\n"),
        ),
        Code(
            "E303",
            "a loss does not fit what it compares",
            "The step has the wrong type for this loss, or the target is of another type than the step.",
            _train("{cross_entropy: {weights: [1, 2]}, from: [logits, y]}"),
            _train("{cross_entropy: {weights: [1, 2, 2]}, from: [logits, y]}"),
        ),
    ]
)
