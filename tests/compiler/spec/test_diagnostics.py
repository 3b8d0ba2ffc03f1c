"""The full text of what a user sees who errs."""

# ruff: noqa: E501

from pathlib import Path

import pytest
from trine.compiler.spec.diagnostics import Report, Span, SpecError, hint, nearest, suggest
from trine.compiler.spec.reader import read
from trine.compiler.spec.registry import LAYERS
from trine.runtime.specs import check_spec

FILES = {
    "one.yaml": "blocks:\n  use: two.yaml\n  b: {layers: [relu]}\n",
    "two.yaml": "blocks:\n  use: one.yaml\n  c: {layers: [relu]}\n",
    "bad.yaml": "blocks:\n  b: {layers: [reluu]}\n",
    "broken.yaml": "blocks: [\n",
}

# What is wrong: the spec, what is said of it, and the overrides.
CASES: dict[str, tuple] = {
    "an unknown argument, in blocks and a repeat": (
        """\
spec: 1
model:
  inputs: {image: 'float[1, 28, 28]'}
  blocks:
    basic:
      params: {filters: int}
      layers:
        - residual:
            - conv: {filtres: $filters, kernel: 3, bias: false}
    outer:
      params: {filters: int}
      layers:
        - basic: {filters: $filters}
  layers:
    - outer: 8
      repeat: 2
""",
        """\
error[E214]: `conv` has no argument `filtres`
 --> spec.yaml:9:22
  |
9 |             - conv: {filtres: $filters, kernel: 3, bias: false}
  |                      ^^^^^^^ did you mean `filters`?
  = inside block `basic`, used at spec.yaml:13:11
  = inside block `outer`, used at spec.yaml:15:7""",
    ),
    "two inputs that differ on an axis": (
        """\
spec: 1
model:
  inputs:
    a: int[T]
    b: int[C]
  layers:
    - embedding: {rows: 10, dim: 100}
      from: a
      as: words
    - embedding: {rows: 10, dim: 30}
      from: b
      as: chars
    - concat: [words, chars]
""",
        """\
error[E301]: `concat` inputs differ on axis T
  --> spec.yaml:13:7
   |
13 |     - concat: [words, chars]
   |                ^^^^^  ^^^^^ float[C, 30]   from spec.yaml:10:7
   |                float[T, 100]               from spec.yaml:7:7""",
    ),
    "two inputs that differ in their number of axes": (
        """\
spec: 1
model:
  inputs:
    a: float[3]
    b: float[3, 4]
  layers:
    - linear: 4
      from: a
      as: w
    - concat: [w, b]
""",
        """\
error[E301]: `concat` inputs differ in their number of axes
  --> spec.yaml:10:7
   |
10 |     - concat: [w, b]
   |                ^  ^ float[3, 4]   from spec.yaml:5:5
   |                float[4]           from spec.yaml:7:7""",
    ),
    "a sum of what does not fit": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 4
      as: a
    - add: [a, x]
""",
        """\
error[E301]: `add` inputs differ in shape
 --> spec.yaml:8:7
  |
8 |     - add: [a, x]
  |             ^  ^ float[8]   from spec.yaml:4:5
  |             float[4]        from spec.yaml:6:7""",
    ),
    "a cycle": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 8
      from: b
      as: a
    - relu
    - tanh:
      as: b
    - linear: 3
""",
        """\
error[E222]: these steps wait for each other: `a` -> `b` -> `relu` -> `a`
  --> spec.yaml:6:7
   |
 6 |     - linear: 8
   |       ^^^^^^ reads `b`
 9 |     - relu
   |       ^^^^ reads `a`
10 |     - tanh:
   |       ^^^^ reads `relu`""",
    ),
    "a step that waits for itself": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 8
      from: a
      as: a
""",
        """\
error[E222]: the step `a` waits for itself
 --> spec.yaml:6:7
  |
6 |     - linear: 8
  |       ^^^^^^ reads `a`""",
    ),
    "blocks that use each other": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    a: {layers: [b]}
    b: {layers: [a]}
  layers:
    - a
""",
        """\
error[E222]: these blocks use each other without end: `a` -> `b` -> `a`
 --> spec.yaml:7:18
  |
7 |     b: {layers: [a]}
  |                  ^
  = inside block `b`, used at spec.yaml:6:18
  = inside block `a`, used at spec.yaml:9:7""",
    ),
    "an unknown step": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 8
      as: hidden
    - relu:
      from: hiden
""",
        """\
error[E220]: there is no step or input `hiden`
 --> spec.yaml:9:13
  |
9 |       from: hiden
  |             ^^^^^ did you mean `hidden`?""",
    ),
    "an unknown step in a residual": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 8
      as: hidden
    - residual:
        - add: [hidden, nothing]
""",
        """\
error[E220]: there is no step or input `nothing`
 --> spec.yaml:9:25
  |
9 |         - add: [hidden, nothing]
  |                         ^^^^^^^ expected one of `hidden`, `x`""",
    ),
    "an unknown output": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 8
      as: hidden
  outputs: [hiden]
""",
        """\
error[E220]: there is no step or input `hiden`
 --> spec.yaml:8:13
  |
8 |   outputs: [hiden]
  |             ^^^^^ did you mean `hidden`?""",
    ),
    "a name inside a nested list is not seen outside": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - residual:
        - linear: 8
          as: inner
      as: outer
    - add: [outer, inner]
""",
        """\
error[E220]: there is no step or input `inner`
  --> spec.yaml:10:20
   |
10 |     - add: [outer, inner]
   |                    ^^^^^ expected one of `outer`, `x`""",
    ),
    "an unused step": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 8
      as: hidden
    - relu
    - linear: 3
      from: x
""",
        """\
error[E223]: nothing reads `hidden`
 --> spec.yaml:6:7
  |
6 |     - linear: 8
  |       ^^^^^^ remove the step, or name it in `outputs` or in a `from`

error[E223]: nothing reads this `relu`
 --> spec.yaml:8:7
  |
8 |     - relu
  |       ^^^^ remove the step, or name it in `outputs` or in a `from`""",
    ),
    "an unused step in a block": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    b:
      inputs: [a]
      layers:
        - linear: 8
        - relu:
          from: a
  layers:
    - b
""",
        """\
error[E223]: nothing reads this `linear`
 --> spec.yaml:9:11
  |
9 |         - linear: 8
  |           ^^^^^^ remove the step, or name it in `outputs` or in a `from`
  = inside block `b`, used at spec.yaml:13:7""",
    ),
    "an unused input": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
    y: float[8]
  layers:
    - linear: 8
      from: x
""",
        """\
error[E224]: nothing reads the input `y`
 --> spec.yaml:5:5
  |
5 |     y: float[8]
  |     ^ remove it, or name it in a `from`""",
    ),
    "an unused block": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    b: {layers: [relu]}
  layers:
    - relu
""",
        """\
error[E225]: the block `b` is never used
 --> spec.yaml:6:5
  |
6 |     b: {layers: [relu]}
  |     ^ remove it, or use it as a step""",
    ),
    "names that hide others": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    relu: {layers: [tanh]}
  layers:
    - linear: 8
      as: x
    - linear: 8
      as: y
    - relu:
      as: y
""",
        """\
error[E221]: the block `relu` hides the layer of that name
 --> spec.yaml:6:5
  |
6 |     relu: {layers: [tanh]}
  |     ^^^^ choose another name

error[E221]: the name `x` hides the input of that name
 --> spec.yaml:9:11
  |
9 |       as: x
  |           ^ which stands at spec.yaml:4

error[E221]: the name `y` hides the step of that name
  --> spec.yaml:13:11
   |
13 |       as: y
   |           ^ which stands at spec.yaml:11""",
    ),
    "a nested name that hides an input": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - residual:
        - linear: 8
          as: x
""",
        """\
error[E221]: the name `x` hides the input of that name
 --> spec.yaml:8:15
  |
8 |           as: x
  |               ^ which stands at spec.yaml:4""",
    ),
    "whole numbers": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: a
    - linear: 1.5
    - linear: 0
    - linear: '8'
    - linear: [3]
    - linear: true
    - linear: ~
""",
        """\
error[E203]: `linear` argument `units` expects a whole number of at least 1, found `a`
 --> spec.yaml:6:15
  |
6 |     - linear: a
  |               ^

error[E203]: `linear` argument `units` expects a whole number of at least 1, found 1.5
 --> spec.yaml:7:15
  |
7 |     - linear: 1.5
  |               ^^^

error[E203]: `linear` argument `units` expects a whole number of at least 1, found 0
 --> spec.yaml:8:15
  |
8 |     - linear: 0
  |               ^

error[E203]: `linear` argument `units` expects a whole number of at least 1, found the text `8`
 --> spec.yaml:9:15
  |
9 |     - linear: '8'
  |               ^^^ write it without quotes

error[E203]: `linear` argument `units` expects a whole number of at least 1, found a list
  --> spec.yaml:10:15
   |
10 |     - linear: [3]
   |               ^

error[E203]: `linear` argument `units` expects a whole number of at least 1, found true
  --> spec.yaml:11:15
   |
11 |     - linear: true
   |               ^^^^

error[E213]: `linear` needs `units`: a whole number of at least 1
  --> spec.yaml:12:7
   |
12 |     - linear: ~
   |       ^^^^^^ how many features come out.""",
    ),
    "ranges": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - dropout: 1.5
    - leaky_relu: -1
    - dropout: .nan
    - leaky_relu: .inf
    - batch_norm: {eps: 0}
    - transpose: [9]
""",
        """\
error[E203]: `dropout` argument `rate` expects a number of at least 0 and below 1, found 1.5
 --> spec.yaml:6:16
  |
6 |     - dropout: 1.5
  |                ^^^

error[E203]: `leaky_relu` argument `slope` expects a number of at least 0, found -1
 --> spec.yaml:7:19
  |
7 |     - leaky_relu: -1
  |                   ^^

error[E203]: `dropout` argument `rate` expects a number of at least 0 and below 1, found nan
 --> spec.yaml:8:16
  |
8 |     - dropout: .nan
  |                ^^^^

error[E203]: `leaky_relu` argument `slope` expects a number of at least 0, found inf
 --> spec.yaml:9:19
  |
9 |     - leaky_relu: .inf
  |                   ^^^^

error[E203]: `batch_norm` argument `eps` expects a number above 0, found 0
  --> spec.yaml:10:25
   |
10 |     - batch_norm: {eps: 0}
   |                         ^

error[E203]: `transpose` argument `axes` expects a whole number from 1 to 8, found 9
  --> spec.yaml:11:19
   |
11 |     - transpose: [9]
   |                   ^""",
    ),
    "truth values": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: {units: 8, bias: maybe}
    - linear: {units: 8, bias: yes}
    - linear: {units: 8, bias: Off}
    - linear: {units: 8, bias: 'true'}
    - linear: {units: 8, bias: 1}
""",
        """\
error[E203]: `linear` argument `bias` expects true or false, found `maybe`
 --> spec.yaml:6:32
  |
6 |     - linear: {units: 8, bias: maybe}
  |                                ^^^^^

error[E203]: `linear` argument `bias` expects true or false, found `yes`
 --> spec.yaml:7:32
  |
7 |     - linear: {units: 8, bias: yes}
  |                                ^^^ write `true`

error[E203]: `linear` argument `bias` expects true or false, found `Off`
 --> spec.yaml:8:32
  |
8 |     - linear: {units: 8, bias: Off}
  |                                ^^^ write `false`

error[E203]: `linear` argument `bias` expects true or false, found the text `true`
 --> spec.yaml:9:32
  |
9 |     - linear: {units: 8, bias: 'true'}
  |                                ^^^^^^ write it without quotes

error[E203]: `linear` argument `bias` expects true or false, found 1
  --> spec.yaml:10:32
   |
10 |     - linear: {units: 8, bias: 1}
   |                                ^""",
    ),
    "choices": (
        """\
spec: 1
model:
  inputs:
    x: float[1, 8, 8]
  layers:
    - residual: {shortcut: projct, layers: [relu]}
    - residual: {shortcut: 3, layers: [relu]}
    - conv: {filters: 3, padding: sam}
    - conv: {filters: 3, padding: -1}
""",
        """\
error[E203]: `residual` argument `shortcut` expects `identity` or `project`, found `projct`
 --> spec.yaml:6:28
  |
6 |     - residual: {shortcut: projct, layers: [relu]}
  |                            ^^^^^^ did you mean `project`?

error[E203]: `residual` argument `shortcut` expects `identity` or `project`, found 3
 --> spec.yaml:7:28
  |
7 |     - residual: {shortcut: 3, layers: [relu]}
  |                            ^

error[E203]: `conv` argument `padding` expects `same`, `valid`, `same_lower`, `causal`, a whole number of at least 0 or a list (a whole number of at least 0 or a list (a whole number of at least 0 each) each), found `sam`
 --> spec.yaml:8:35
  |
8 |     - conv: {filters: 3, padding: sam}
  |                                   ^^^ did you mean `same`?

error[E203]: `conv` argument `padding` expects `same`, `valid`, `same_lower`, `causal`, a whole number of at least 0 or a list (a whole number of at least 0 or a list (a whole number of at least 0 each) each), found -1
 --> spec.yaml:9:35
  |
9 |     - conv: {filters: 3, padding: -1}
  |                                   ^^""",
    ),
    "lists": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - reshape: 3
    - reshape: [1, a]
    - conv: {filters: 3, kernel: [a, 0]}
    - residual: relu
""",
        """\
error[E203]: `reshape` argument `shape` expects a list (a whole number of at least -1 each), found 3
 --> spec.yaml:6:16
  |
6 |     - reshape: 3
  |                ^

error[E203]: `reshape` argument `shape` expects a whole number of at least -1, found `a`
 --> spec.yaml:7:20
  |
7 |     - reshape: [1, a]
  |                    ^

error[E203]: `conv` argument `kernel` expects a whole number of at least 1, found `a`
 --> spec.yaml:8:35
  |
8 |     - conv: {filters: 3, kernel: [a, 0]}
  |                                   ^

error[E203]: `conv` argument `kernel` expects a whole number of at least 1, found 0
 --> spec.yaml:8:38
  |
8 |     - conv: {filters: 3, kernel: [a, 0]}
  |                                      ^

error[E201]: steps are a list, found `relu`
 --> spec.yaml:9:17
  |
9 |     - residual: relu
  |                 ^^^^ write each step after a `-`""",
    ),
    "calls": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: {units: 3, init: glorotx}
    - linear: {units: 3, init: {normal: {std: -1}}}
    - linear: {units: 3, init: [normal]}
""",
        """\
error[E211]: there is no initialiser `glorotx`
 --> spec.yaml:6:32
  |
6 |     - linear: {units: 3, init: glorotx}
  |                                ^^^^^^^ did you mean `glorot`?

error[E203]: `normal` argument `std` expects a number above 0, found -1
 --> spec.yaml:7:47
  |
7 |     - linear: {units: 3, init: {normal: {std: -1}}}
  |                                               ^^

error[E203]: `linear` argument `init` expects an initialiser, as `name` or `{name: arguments}`, found a list
 --> spec.yaml:8:32
  |
8 |     - linear: {units: 3, init: [normal]}
  |                                ^""",
    ),
    "arguments that are missing or too many": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear
    - linear: {}
    - linear: {unit: 3}
    - linear: {units: 3, color: red}
    - relu: 3
    - embedding
""",
        """\
error[E213]: `linear` needs `units`: a whole number of at least 1
 --> spec.yaml:6:7
  |
6 |     - linear
  |       ^^^^^^ how many features come out.

error[E213]: `linear` needs `units`: a whole number of at least 1
 --> spec.yaml:7:7
  |
7 |     - linear: {}
  |       ^^^^^^ how many features come out.

error[E214]: `linear` has no argument `unit`
 --> spec.yaml:8:16
  |
8 |     - linear: {unit: 3}
  |                ^^^^ did you mean `units`?

error[E214]: `linear` has no argument `color`
 --> spec.yaml:9:26
  |
9 |     - linear: {units: 3, color: red}
  |                          ^^^^^ expected one of `bias`, `init`, `units`

error[E212]: `relu` takes no arguments, found 3
  --> spec.yaml:10:13
   |
10 |     - relu: 3
   |             ^

error[E213]: `embedding` needs `rows`: a whole number of at least 1
  --> spec.yaml:11:7
   |
11 |     - embedding
   |       ^^^^^^^^^ how many ids there are.

error[E213]: `embedding` needs `dim`: a whole number of at least 1
  --> spec.yaml:11:7
   |
11 |     - embedding
   |       ^^^^^^^^^ the size of each vector.""",
    ),
    "an unknown layer": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - liner: 8
    - relu
    - Conv2D: 3
    - foo
""",
        """\
error[E210]: there is no layer or block `liner`
 --> spec.yaml:6:7
  |
6 |     - liner: 8
  |       ^^^^^ did you mean `linear`?

error[E210]: there is no layer or block `Conv2D`
 --> spec.yaml:8:7
  |
8 |     - Conv2D: 3
  |       ^^^^^^ did you mean `conv`?

error[E210]: there is no layer or block `foo`
 --> spec.yaml:9:7
  |
9 |     - foo
  |       ^^^ """
        + hint("foo", LAYERS),
    ),
    "an unknown layer of several inputs": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 8
      as: a
    - linear: 8
      from: x
      as: b
    - concatt: [a, b]
""",
        """\
error[E210]: there is no layer or block `concatt`
  --> spec.yaml:11:7
   |
11 |     - concatt: [a, b]
   |       ^^^^^^^ did you mean `concat`?""",
    ),
    "names of sections, a loss, an optimizer, a metric": (
        """\
spec: 1
nmae: 3
model:
  inputs:
    x: float[8]
  layers:
    - linear: 8
      as: a
train:
  loss: {msee: [a, x]}
  optimizer: {adamww: {lr: 1}}
  schedule: cosin
evaluate: {metrics: [acuracy]}
optimize: [prunee]
""",
        """\
error[E214]: a spec has no key `nmae`
 --> spec.yaml:2:1
  |
2 | nmae: 3
  | ^^^^ did you mean `name`?

error[E211]: there is no loss `msee`
  --> spec.yaml:10:10
   |
10 |   loss: {msee: [a, x]}
   |          ^^^^ did you mean `mse`?

error[E211]: there is no optimizer `adamww`
  --> spec.yaml:11:15
   |
11 |   optimizer: {adamww: {lr: 1}}
   |               ^^^^^^ did you mean `adamw`?

error[E211]: there is no schedule `cosin`
  --> spec.yaml:12:13
   |
12 |   schedule: cosin
   |             ^^^^^ did you mean `cosine`?

error[E211]: there is no metric `acuracy`
  --> spec.yaml:13:22
   |
13 | evaluate: {metrics: [acuracy]}
   |                      ^^^^^^^ did you mean `accuracy`?

error[E211]: there is no pass `prunee`
  --> spec.yaml:14:12
   |
14 | optimize: [prunee]
   |            ^^^^^^ expected one of `fold_batch_norm`, `fold_constants`, `precision`, `simplify`""",
    ),
    "sections, steps, the loss and the fields at once": (
        """\
spec: 1
data:
  source: cvs:a.csv
  split: {by: stratifed}
  fields:
    t: {encode: idz}
model:
  inputs:
    x: float[8]
  layers:
    - liner: 8
    - linear: 4
      as: y
train:
  loss: {mse: [yy, t]}
  optimizer: {adamw: {lrr: 1}}
  epochs: -3
evaluate: {metrics: [acuracy]}
""",
        """\
error[E211]: there is no source `cvs`
 --> spec.yaml:3:11
  |
3 |   source: cvs:a.csv
  |           ^^^ did you mean `csv`?

error[E211]: there is no split `stratifed`
 --> spec.yaml:4:15
  |
4 |   split: {by: stratifed}
  |               ^^^^^^^^^ did you mean `stratified`?

error[E211]: there is no encoding `idz`
 --> spec.yaml:6:17
  |
6 |     t: {encode: idz}
  |                 ^^^ did you mean `ids`?

error[E210]: there is no layer or block `liner`
  --> spec.yaml:11:7
   |
11 |     - liner: 8
   |       ^^^^^ did you mean `linear`?

error[E220]: there is no step or input `yy`
  --> spec.yaml:15:16
   |
15 |   loss: {mse: [yy, t]}
   |                ^^ did you mean `y`?

error[E214]: `adamw` has no argument `lrr`
  --> spec.yaml:16:23
   |
16 |   optimizer: {adamw: {lrr: 1}}
   |                       ^^^ did you mean `lr`?

error[E203]: `epochs` expects a whole number of at least 1, found -3
  --> spec.yaml:17:11
   |
17 |   epochs: -3
   |           ^^

error[E211]: there is no metric `acuracy`
  --> spec.yaml:18:22
   |
18 | evaluate: {metrics: [acuracy]}
   |                      ^^^^^^^ did you mean `accuracy`?""",
    ),
    "a loss of one thing": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: {cross_entropy: [logits]}
  optimizer: adamw
""",
        """\
error[E229]: `cross_entropy` reads a step and a field of the data, this names 1
  --> spec.yaml:16:10
   |
16 |   loss: {cross_entropy: [logits]}
   |          ^^^^^^^^^^^^^ write `{cross_entropy: [logits, label]}`""",
    ),
    "a loss of nothing": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: cross_entropy
  optimizer: adamw
""",
        """\
error[E229]: `cross_entropy` reads a step and a field of the data, this names none
  --> spec.yaml:16:9
   |
16 |   loss: cross_entropy
   |         ^^^^^^^^^^^^^ write `{cross_entropy: [logits, label]}`""",
    ),
    "no loss": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: []
  optimizer: adamw
""",
        """\
error[E203]: `loss` expects at least one loss
  --> spec.yaml:16:9
   |
16 |   loss: []
   |         ^""",
    ),
    "a loss with a wrong step and field": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: {cross_entropy: [logit, digits]}
  optimizer: adamw
""",
        """\
error[E220]: there is no step or input `logit`
  --> spec.yaml:16:26
   |
16 |   loss: {cross_entropy: [logit, digits]}
   |                          ^^^^^ did you mean `logits`?

error[E220]: there is no field, step or input `digits`
  --> spec.yaml:16:33
   |
16 |   loss: {cross_entropy: [logit, digits]}
   |                                 ^^^^^^ did you mean `digit`?""",
    ),
    "keys and arguments of a loss": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: {cross_entropy: {smoothin: 0.1}, from: [logits, digit], weigth: 2, as: l}
  optimizer: adamw
""",
        """\
error[E214]: `cross_entropy` has no argument `smoothin`
  --> spec.yaml:16:26
   |
16 |   loss: {cross_entropy: {smoothin: 0.1}, from: [logits, digit], weigth: 2, as: l}
   |                          ^^^^^^^^ did you mean `smoothing`?

error[E214]: a loss has no key `weigth`
  --> spec.yaml:16:65
   |
16 |   loss: {cross_entropy: {smoothin: 0.1}, from: [logits, digit], weigth: 2, as: l}
   |                                                                 ^^^^^^ did you mean `weight`?

error[E214]: a loss has no key `as`
  --> spec.yaml:16:76
   |
16 |   loss: {cross_entropy: {smoothin: 0.1}, from: [logits, digit], weigth: 2, as: l}
   |                                                                            ^^ beside a loss stand `from`, `weight`, `sample_weight`""",
    ),
    "weights of a loss": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: {cross_entropy: {weights: [1, 2]}, from: [logits, digit], weight: -1}
  optimizer: adamw
""",
        """\
error[E303]: `cross_entropy`: float[10] has 10 classes, `weights` has 2
  --> spec.yaml:16:35
   |
16 |   loss: {cross_entropy: {weights: [1, 2]}, from: [logits, digit], weight: -1}
   |                                   ^
   = `logits` is float[10], from spec.yaml:10:7

error[E203]: `weight` expects a number of at least 0, found -1
  --> spec.yaml:16:75
   |
16 |   loss: {cross_entropy: {weights: [1, 2]}, from: [logits, digit], weight: -1}
   |                                                                           ^^""",
    ),
    "a loss of two shapes": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: {mse: [out, x]}
  optimizer: adamw
""",
        """\
error[E303]: `mse`: `x` is float[8], expected float[10]
  --> spec.yaml:16:16
   |
16 |   loss: {mse: [out, x]}
   |                ^^^
   = `out` is float[10], from spec.yaml:12:7""",
    ),
    "a loss of a type that does not fit": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
    ids: int[8]
  layers:
    - linear: 10
      from: x
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: {cross_entropy: [ids, digit]}
  optimizer: adamw
""",
        """\
error[E303]: `cross_entropy`: the input is int[8], expected floating-point numbers
  --> spec.yaml:18:26
   |
18 |   loss: {cross_entropy: [ids, digit]}
   |                          ^^^ an `embedding` turns ids into features
   = `ids` is int[8], from spec.yaml:9:5""",
    ),
    "a metric that does not fit": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: {cross_entropy: [logits, digit]}
  optimizer: adamw
evaluate: {metrics: [accuracy, rmse]}
""",
        """\
error[E230]: metric `rmse` is for values, the loss `cross_entropy` predicts classes
  --> spec.yaml:18:32
   |
18 | evaluate: {metrics: [accuracy, rmse]}
   |                                ^^^^""",
    ),
    "lengths of training": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: {cross_entropy: [logits, digit]}
  optimizer: adamw
  epochs: 3
  steps: 4
  early_stopping: {monitor: train/loss}
""",
        """\
error[E204]: `epochs` and `steps` both say how long to train
  --> spec.yaml:19:10
   |
19 |   steps: 4
   |          ^ keep one of them

error[E203]: `monitor` expects a number of the validation split such as `valid/loss`, found `train/loss`
  --> spec.yaml:20:29
   |
20 |   early_stopping: {monitor: train/loss}
   |                             ^^^^^^^^^^""",
    ),
    "amounts of time": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: 10
      as: logits
    - relu:
      as: out
  outputs: [out]
train:
  loss: {cross_entropy: [logits, digit]}
  optimizer: adamw
  duration: 3 hours
  evaluate_every: 5%
  seed: 1.5
""",
        """\
error[E203]: `duration` expects an amount such as `10ep` (epochs), `500ba` (batches), `30sec`, found `3 hours`
  --> spec.yaml:18:13
   |
18 |   duration: 3 hours
   |             ^^^^^^^

error[E203]: `evaluate_every` expects an amount such as `10ep` (epochs), `500ba` (batches), found `5%`
  --> spec.yaml:19:19
   |
19 |   evaluate_every: 5%
   |                   ^^

error[E203]: `seed` expects a whole number, found 1.5
  --> spec.yaml:20:9
   |
20 |   seed: 1.5
   |         ^^^""",
    ),
    "fields": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    a: {encode: idz}
    b-c: {column: x}
    d: 3
    e: {column: x, scal: unit}
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E211]: there is no encoding `idz`
 --> spec.yaml:5:17
  |
5 |     a: {encode: idz}
  |                 ^^^ did you mean `ids`?

error[E208]: `b-c` cannot name a field: a name has letters, digits and underscores
 --> spec.yaml:6:5
  |
6 |     b-c: {column: x}
  |     ^^^

error[E203]: field `d` expects a mapping, found 3
 --> spec.yaml:7:8
  |
7 |     d: 3
  |        ^

error[E214]: `numbers` has no argument `scal`
 --> spec.yaml:8:20
  |
8 |     e: {column: x, scal: unit}
  |                    ^^^^ did you mean `scale`?""",
    ),
    "a source": (
        """\
spec: 1
data:
  source: digits
  fields: {a: {column: x}}
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E203]: `source` expects a data source such as `csv:rows.csv` or `sklearn:digits`, found `digits`
 --> spec.yaml:3:11
  |
3 |   source: digits
  |           ^^^^^^""",
    ),
    "a key twice": (
        """\
spec: 1
name: a
name: b
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E107]: the key `name` is given twice
 --> spec.yaml:3:1
  |
3 | name: b
  | ^^^^ it was first given at spec.yaml:2:1""",
    ),
    "a tag": (
        """\
spec: 1
name: !!python/object:os.system ls
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E105]: tags such as `!!python/object:os.system` have no place in a spec
 --> spec.yaml:2:7
  |
2 | name: !!python/object:os.system ls
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ write the value itself""",
    ),
    "keys beside a layer without a colon": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
      as: a
""",
        """\
error[E102]: this is not YAML: a `:` cannot stand here
 --> spec.yaml:7:9
  |
7 |       as: a
  |         ^ a layer with keys beside it ends in a colon: `- relu:`""",
    ),
    "a tab": (
        """\
spec: 1
model:
	inputs: {x: float}
""",
        """\
error[E102]: this is not YAML: a tab cannot stand here
 --> spec.yaml:3:1
  |
3 |  inputs: {x: float}
  | ^ indent with spaces""",
    ),
    "an empty file": (
        """\
""",
        """\
error[E104]: the file is empty
 --> spec.yaml:1:1
  = `trine init` writes a spec to start from""",
    ),
    "only a comment": (
        """\
# nothing
""",
        """\
error[E104]: the file is empty
 --> spec.yaml:1:1
  |
1 | # nothing
  | ^ `trine init` writes a spec to start from""",
    ),
    "two documents": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
---
spec: 1
""",
        """\
error[E104]: a spec is one YAML document, found a second
 --> spec.yaml:7:1
  |
7 | ---
  | ^^^""",
    ),
    "a bracket that is never closed": (
        """\
spec: 1
model: {inputs: [
""",
        """\
error[E102]: this is not YAML: a bracket or quote that opens is never closed
 --> spec.yaml:2:17
  |
2 | model: {inputs: [
  |                 ^""",
    ),
    "a quote that is never closed": (
        """\
spec: 1
name: 'abc
model: {}
""",
        """\
error[E102]: this is not YAML: a bracket or quote that opens is never closed
 --> spec.yaml:2:7
  |
2 | name: 'abc
  |       ^""",
    ),
    "indentation": (
        """\
spec: 1
model:
    inputs: {x: float}
  layers: [relu]
""",
        """\
error[E102]: this is not YAML: this does not line up with what is above
 --> spec.yaml:4:3
  |
4 |   layers: [relu]
  |   ^ the items of a list begin in one column, and so do the keys of a mapping""",
    ),
    "an unknown alias": (
        """\
spec: 1
name: *nope
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E102]: there is no anchor `&nope` before this alias
 --> spec.yaml:2:7
  |
2 | name: *nope
  |       ^^^^^""",
    ),
    "an alias of itself": (
        """\
spec: 1
x-a: &a [*a]
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E102]: there is no anchor `&a` before this alias
 --> spec.yaml:2:10
  |
2 | x-a: &a [*a]
  |          ^^""",
    ),
    "a merge of no mapping": (
        """\
spec: 1
x-a: {<<: 3}
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E106]: `<<` merges mappings, found 3
 --> spec.yaml:2:11
  |
2 | x-a: {<<: 3}
  |           ^""",
    ),
    "a key that is a list": (
        """\
spec: 1
x-a: {[a]: 3}
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E106]: a key is a word or a number, found a list
 --> spec.yaml:2:7
  |
2 | x-a: {[a]: 3}
  |       ^""",
    ),
    "a number of many digits": (
        """\
spec: 1
x-a: 11111111111111111111111111111111111111111111111111
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E103]: a number of 50 digits
 --> spec.yaml:2:6
  |
2 | x-a: 11111111111111111111111111111111111111111111111111
  |      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ numbers have at most 40""",
    ),
    "not a spec, but a list": (
        """\
- a
""",
        """\
error[E104]: a spec is a mapping of sections, found a list
 --> spec.yaml:1:1
  |
1 | - a
  | ^""",
    ),
    "not a spec, but text": (
        """\
abc
""",
        """\
error[E104]: a spec is a mapping of sections, found `abc`
 --> spec.yaml:1:1
  |
1 | abc
  | ^^^""",
    ),
    "not a spec, but something else": (
        """\
a: 1
b: 2
""",
        """\
error[E104]: this is not a spec: it has neither `spec: 1` nor a `model`, only `a`, `b`
 --> spec.yaml:1:1
  |
1 | a: 1
  | ^""",
    ),
    "another version": (
        """\
spec: 2
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E203]: `spec` expects 1, found 2
 --> spec.yaml:1:7
  |
1 | spec: 2
  |       ^""",
    ),
    "no version": (
        """\
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E213]: a spec needs `spec`: 1
 --> spec.yaml:1:1
  |
1 | model:
  | ^ the version of the spec language: 1.""",
    ),
    "no model": (
        """\
spec: 1
name: x
""",
        """\
error[E213]: a spec needs `model`: a mapping with `inputs`, `layers`, `blocks`, `outputs`
 --> spec.yaml:1:1
  |
1 | spec: 1
  | ^ the network.""",
    ),
    "an empty model": (
        """\
spec: 1
model:
""",
        """\
error[E203]: `model` expects a mapping with `inputs`, `layers`, `blocks`, `outputs`, found nothing
 --> spec.yaml:2:7
  |
2 | model:
  |       ^""",
    ),
    "no layers": (
        """\
spec: 1
model:
  inputs: {x: float}
""",
        """\
error[E213]: `model` needs `layers`: a list of steps
 --> spec.yaml:2:1
  |
2 | model:
  | ^^^^^ the steps, in order; each takes the one before it unless `from` says otherwise.""",
    ),
    "no inputs": (
        """\
spec: 1
model:
  layers: [relu]
""",
        """\
error[E213]: `model` needs `inputs`: a mapping of names to signatures
 --> spec.yaml:2:1
  |
2 | model:
  | ^^^^^ names with signatures, such as `float[1, 28, 28]`; the batch axis is implied.""",
    ),
    "layers that are no list": (
        """\
spec: 1
model:
  inputs: {x: float}
  layers: {relu: }
""",
        """\
error[E201]: steps are a list, found a mapping
 --> spec.yaml:4:11
  |
4 |   layers: {relu: }
  |           ^ write each step after a `-`""",
    ),
    "layers that are empty": (
        """\
spec: 1
model:
  inputs: {x: float}
  layers: []
""",
        """\
error[E201]: the list of steps is empty
 --> spec.yaml:4:11
  |
4 |   layers: []
  |           ^""",
    ),
    "a misspelt key of the model": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layer:
    - relu
""",
        """\
error[E214]: `model` has no key `layer`
 --> spec.yaml:5:3
  |
5 |   layer:
  |   ^^^^^ did you mean `layers`?""",
    ),
    "undefined names": (
        """\
spec: 1
params: {width: 3}
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: $widht
    - linear: $(2 * widht)
    - linear: $digit.sise
""",
        """\
error[E205]: `widht` is not defined here
  --> spec.yaml:11:15
   |
11 |     - linear: $widht
   |               ^^^^^^ did you mean `width`?

error[E205]: `widht` is not defined here
  --> spec.yaml:12:15
   |
12 |     - linear: $(2 * widht)
   |               ^^^^^^^^^^^^ did you mean `width`?

error[E205]: `digit.sise` is not defined here
  --> spec.yaml:13:15
   |
13 |     - linear: $digit.sise
   |               ^^^^^^^^^^^ did you mean `digit.size`?""",
    ),
    "undefined, with nothing defined": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: $width
""",
        """\
error[E205]: `width` is not defined here
 --> spec.yaml:6:15
  |
6 |     - linear: $width
  |               ^^^^^^ `params: {width: …}` defines it""",
    ),
    "arithmetic": (
        """\
spec: 1
params: {name: abc}
model:
  inputs:
    x: float[8]
  layers:
    - linear: $(2 ** 100)
    - linear: $(1 / 0)
    - linear: $(1 +)
    - linear: $(7 / 2)
    - linear: $2
    - linear: $(__import__('os'))
    - linear: $(sqrt(-1))
    - linear: $(min())
    - linear: $(name * 2)
    - linear: $(10 ** 12 * 10)
""",
        """\
error[E206]: `$(2 ** 100)`: the power is too large
 --> spec.yaml:7:15
  |
7 |     - linear: $(2 ** 100)
  |               ^^^^^^^^^^^

error[E206]: `$(1 / 0)`: division by zero
 --> spec.yaml:8:15
  |
8 |     - linear: $(1 / 0)
  |               ^^^^^^^^

error[E206]: `$(1 +)`: this is not arithmetic
 --> spec.yaml:9:15
  |
9 |     - linear: $(1 +)
  |               ^^^^^^

error[E203]: `linear` argument `units` expects a whole number of at least 1, found 3.5
  --> spec.yaml:10:15
   |
10 |     - linear: $(7 / 2)
   |               ^^^^^^^^

error[E206]: `$2`: an expression is `$name` or `$(arithmetic)`; a text that starts with a dollar is written `$$…`
  --> spec.yaml:11:15
   |
11 |     - linear: $2
   |               ^^

error[E206]: `$(__import__('os'))`: only numbers, names, + - * / // % ** and min, max, round, ceil, floor, sqrt are arithmetic
  --> spec.yaml:12:15
   |
12 |     - linear: $(__import__('os'))
   |               ^^^^^^^^^^^^^^^^^^^

error[E206]: `$(sqrt(-1))`: the result is not a real number
  --> spec.yaml:13:15
   |
13 |     - linear: $(sqrt(-1))
   |               ^^^^^^^^^^^

error[E206]: `$(min())`: `min` does not take 0 numbers
  --> spec.yaml:14:15
   |
14 |     - linear: $(min())
   |               ^^^^^^^^

error[E206]: `$(name * 2)`: `abc` is not a number
  --> spec.yaml:15:15
   |
15 |     - linear: $(name * 2)
   |               ^^^^^^^^^^^

error[E206]: `$(10 ** 12 * 10)`: numbers are at most 1e+12
  --> spec.yaml:16:15
   |
16 |     - linear: $(10 ** 12 * 10)
   |               ^^^^^^^^^^^^^^^^""",
    ),
    "sizes before the data are read": (
        """\
spec: 1
data:
  source: sklearn:digits
  fields:
    digit: {column: target, encode: ids}
model:
  inputs:
    x: float[8]
  layers:
    - linear: $(2 * digit.size)
    - linear: 3
      repeat: $digit.size
    - dropout: $digit.size
    - linear: $digit.size
""",
        """\
error[E206]: `$(2 * digit.size)`: `digit.size` is known only once the data are read
  --> spec.yaml:10:15
   |
10 |     - linear: $(2 * digit.size)
   |               ^^^^^^^^^^^^^^^^^

error[E207]: `repeat` must be known before the data are read, `$digit.size` is not
  --> spec.yaml:12:15
   |
12 |       repeat: $digit.size
   |               ^^^^^^^^^^^

error[E207]: `dropout` argument `rate` must be known before the data are read, `$digit.size` is not
  --> spec.yaml:13:16
   |
13 |     - dropout: $digit.size
   |                ^^^^^^^^^^^""",
    ),
    "params": (
        """\
spec: 1
params: {a-b: 3, c: , d: {e: 1}, f: $a-b, g: [1, 2]}
model:
  inputs:
    x: float[8]
  layers:
    - linear: $c
    - linear: $f
""",
        """\
error[E208]: `a-b` cannot be used as `$…`: a name has letters, digits and underscores
 --> spec.yaml:2:10
  |
2 | params: {a-b: 3, c: , d: {e: 1}, f: $a-b, g: [1, 2]}
  |          ^^^

error[E203]: `c` expects a number, text, true, false or a list, found nothing
 --> spec.yaml:2:20
  |
2 | params: {a-b: 3, c: , d: {e: 1}, f: $a-b, g: [1, 2]}
  |                    ^

error[E203]: `d` expects a number, text, true, false or a list, found a mapping
 --> spec.yaml:2:26
  |
2 | params: {a-b: 3, c: , d: {e: 1}, f: $a-b, g: [1, 2]}
  |                          ^""",
    ),
    "signatures": (
        """\
spec: 1
model:
  inputs:
    a: flaot
    b: float[0]
    c: float[N, 3]
    d: float[3
    e: 3
    f: int[T <= 0]
    g: float[$w]
    h-i: float
  layers:
    - add: [a, b, c, d, e, f, g]
""",
        """\
error[E209]: `flaot` is no element type
 --> spec.yaml:4:8
  |
4 |     a: flaot
  |        ^^^^^ did you mean `float`?

error[E209]: `0` is no dim: expected a number of at least 1, a name, or `name <= number`
 --> spec.yaml:5:8
  |
5 |     b: float[0]
  |        ^^^^^^^^

error[E209]: `N` is the batch axis, which is implied
 --> spec.yaml:6:8
  |
6 |     c: float[N, 3]
  |        ^^^^^^^^^^^ leave it out, or choose another name

error[E209]: `d` expects a signature such as `float[1, 28, 28]`, found `float[3`
 --> spec.yaml:7:8
  |
7 |     d: float[3
  |        ^^^^^^^

error[E209]: `e` expects a signature such as `float[1, 28, 28]`, found 3
 --> spec.yaml:8:8
  |
8 |     e: 3
  |        ^

error[E209]: `0` is no dim: expected a number of at least 1, a name, or `name <= number`
 --> spec.yaml:9:8
  |
9 |     f: int[T <= 0]
  |        ^^^^^^^^^^^

error[E205]: `w` is not defined here
  --> spec.yaml:10:8
   |
10 |     g: float[$w]
   |        ^^^^^^^^^ `params: {w: …}` defines it

error[E208]: `h-i` cannot name an input: a name has letters, digits and underscores
  --> spec.yaml:11:5
   |
11 |     h-i: float
   |     ^^^""",
    ),
    "a residual of two shapes": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - residual: [linear: 4]
""",
        """\
error[E301]: `residual`: the input is float[8], the steps make it float[4]
 --> spec.yaml:6:7
  |
6 |     - residual: [linear: 4]
  |       ^^^^^^^^ `shortcut: project` learns a projection between them
  = the input comes from spec.yaml:4:5""",
    ),
    "a residual without a projection": (
        """\
spec: 1
model:
  inputs:
    x: float[1, 8, 8]
  layers:
    - residual: {shortcut: project, layers: [flatten]}
""",
        """\
error[E301]: `residual`: no projection leads from float[1, 8, 8] to float[64]
 --> spec.yaml:6:7
  |
6 |     - residual: {shortcut: project, layers: [flatten]}
  |       ^^^^^^^^
  = the input is float[1, 8, 8], from spec.yaml:4:5""",
    ),
    "shared weights that do not fit": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 4
      as: a
    - linear: 4
      share: a
    - linear: 4
      share: b
    - linear: 4
      share: x
""",
        """\
error[E301]: `linear`: the shared `a.weight` is float[4, 8], this step needs float[4, 4]
 --> spec.yaml:8:7
  |
8 |     - linear: 4
  |       ^^^^^^
  = the input is float[4], from spec.yaml:6:7

error[E220]: there is no step `b` to share the weights of
  --> spec.yaml:11:14
   |
11 |       share: b
   |              ^ expected `a`

error[E220]: there is no step `x` to share the weights of
  --> spec.yaml:13:14
   |
13 |       share: x
   |              ^ expected `a`""",
    ),
    "weights of another layer": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - linear: 4
      as: a
    - layer_norm:
      share: a
""",
        """\
error[E301]: `layer_norm`: `a` has no `scale` to share
 --> spec.yaml:8:7
  |
8 |     - layer_norm:
  |       ^^^^^^^^^^
  = the input is float[4], from spec.yaml:6:7""",
    ),
    "the first of several inputs": (
        """\
spec: 1
model:
  inputs:
    a: float[3]
    b: float[3]
  layers:
    - linear: 3
    - add: [b, a]
""",
        """\
error[E223]: nothing reads this `linear`
 --> spec.yaml:7:7
  |
7 |     - linear: 3
  |       ^^^^^^ remove the step, or name it in `outputs` or in a `from`

error[E226]: the first step must say what it reads: the model has the inputs `a`, `b`
 --> spec.yaml:7:7
  |
7 |     - linear: 3
  |       ^^^^^^ add `from: <name>`""",
    ),
    "numbers of inputs": (
        """\
spec: 1
model:
  inputs:
    a: float[3]
    b: float[3]
  blocks:
    bl: {layers: [relu]}
    two: {inputs: [a2, b2], layers: [add: [a2, b2]]}
  layers:
    - relu:
      from: [a, b]
      as: c
    - subtract:
      from: a
      as: d
    - bl:
      from: [a, b]
      as: e
    - two
    - add: [a, b, c, d, e]
""",
        """\
error[E228]: `relu` takes one input, this step gives 2
  --> spec.yaml:10:7
   |
10 |     - relu:
   |       ^^^^

error[E228]: `subtract` takes 2 inputs, this step gives 1
  --> spec.yaml:13:7
   |
13 |     - subtract:
   |       ^^^^^^^^

error[E228]: the block `bl` takes one input, this step gives 2
  --> spec.yaml:16:7
   |
16 |     - bl:
   |       ^^

error[E223]: nothing reads this `two`
  --> spec.yaml:19:7
   |
19 |     - two
   |       ^^^ remove the step, or name it in `outputs` or in a `from`

error[E228]: the block `two` takes 2 inputs, this step gives 1
  --> spec.yaml:19:7
   |
19 |     - two
   |       ^^^""",
    ),
    "repeats": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu:
      repeat: many
    - relu:
      repeat: 0.5
    - relu:
      repeat: -1
    - relu:
      repeat: 1001
""",
        """\
error[E203]: `repeat` expects a whole number from 0 to 1000, found `many`
 --> spec.yaml:7:15
  |
7 |       repeat: many
  |               ^^^^

error[E203]: `repeat` expects a whole number from 0 to 1000, found 0.5
 --> spec.yaml:9:15
  |
9 |       repeat: 0.5
  |               ^^^

error[E203]: `repeat` expects a whole number from 0 to 1000, found -1
  --> spec.yaml:11:15
   |
11 |       repeat: -1
   |               ^^

error[E203]: `repeat` expects a whole number from 0 to 1000, found 1001
  --> spec.yaml:13:15
   |
13 |       repeat: 1001
   |               ^^^^""",
    ),
    "steps that are none": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - 3
    - {}
    - {relu: , tanh: }
    - []
    - as: a
""",
        """\
error[E201]: a step is a layer's name with its arguments, found 3
 --> spec.yaml:6:7
  |
6 |     - 3
  |       ^

error[E201]: this step names no layer
 --> spec.yaml:7:7
  |
7 |     - {}
  |       ^ write `- layer: arguments`

error[E201]: a step has one layer, this one has `relu`, `tanh`
 --> spec.yaml:8:16
  |
8 |     - {relu: , tanh: }
  |                ^^^^ start each with a `-` of its own

error[E201]: a step is a layer's name with its arguments, found a list
 --> spec.yaml:9:7
  |
9 |     - []
  |       ^

error[E201]: this step names no layer
  --> spec.yaml:10:7
   |
10 |     - as: a
   |       ^ write `- layer: arguments`""",
    ),
    "keys beside a layer": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - {linear: 3, form: x}
    - {linear: 3, bias: false}
    - relu:
      as: 1a
    - relu:
      from: 3
    - relu:
      share: [a]
""",
        """\
error[E214]: a step has no key `form`
 --> spec.yaml:6:19
  |
6 |     - {linear: 3, form: x}
  |                   ^^^^ did you mean `from`?

error[E214]: a step has no key `bias`
 --> spec.yaml:7:19
  |
7 |     - {linear: 3, bias: false}
  |                   ^^^^ it is an argument of `linear`: `linear: {bias: …}`

error[E208]: `as` expects a name of letters, digits and underscores, found `1a`
 --> spec.yaml:9:11
  |
9 |       as: 1a
  |           ^^

error[E203]: `from` expects the name of a step, or a list of names, found 3
  --> spec.yaml:11:13
   |
11 |       from: 3
   |             ^

error[E208]: `share` expects a name of letters, digits and underscores, found a list
  --> spec.yaml:13:14
   |
13 |       share: [a]
   |              ^""",
    ),
    "a step that cannot be read keeps its name": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - {linear: 3, relu: , as: a}
    - add: [a, x]
""",
        """\
error[E201]: a step has one layer, this one has `linear`, `relu`
 --> spec.yaml:6:19
  |
6 |     - {linear: 3, relu: , as: a}
  |                   ^^^^ start each with a `-` of its own""",
    ),
    "blocks that cannot be read": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    b: 3
    c: {}
    d: {layers: [relu], parms: {}}
    e: {params: [a], layers: [relu]}
    f: {params: {a: , b: [1], c: integer}, layers: [relu]}
    g: {params: {p: int}, layers: [linear: $p]}
  layers:
    - b: 3
    - c
    - d
    - e
    - f
    - g: {p: abc}
""",
        """\
error[E203]: the block `b` expects a mapping with `params` and `layers`, found 3
 --> spec.yaml:6:8
  |
6 |     b: 3
  |        ^

error[E213]: the block `c` needs `layers`: a list of steps
 --> spec.yaml:7:5
  |
7 |     c: {}
  |     ^

error[E214]: a block has no key `parms`
 --> spec.yaml:8:25
  |
8 |     d: {layers: [relu], parms: {}}
  |                         ^^^^^ did you mean `params`?

error[E203]: `params` expects a mapping of names to types or defaults, found a list
 --> spec.yaml:9:17
  |
9 |     e: {params: [a], layers: [relu]}
  |                 ^

error[E203]: the parameter `a` expects a type or a default, found nothing
  --> spec.yaml:10:20
   |
10 |     f: {params: {a: , b: [1], c: integer}, layers: [relu]}
   |                    ^ types are `int`, `float`, `bool`, `text`, `any`

error[E203]: the parameter `b` expects a type or a default, found a list
  --> spec.yaml:10:26
   |
10 |     f: {params: {a: , b: [1], c: integer}, layers: [relu]}
   |                          ^ types are `int`, `float`, `bool`, `text`, `any`

error[E203]: the parameter `c` has no type `integer`
  --> spec.yaml:10:34
   |
10 |     f: {params: {a: , b: [1], c: integer}, layers: [relu]}
   |                                  ^^^^^^^ did you mean `int`?

error[E212]: `b` takes no arguments, found 3
  --> spec.yaml:13:10
   |
13 |     - b: 3
   |          ^

error[E203]: `g` argument `p` expects a whole number of at least 1, found `abc`
  --> spec.yaml:18:14
   |
18 |     - g: {p: abc}
   |              ^^^""",
    ),
    "arguments of blocks": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    b: {params: {w: int}, layers: [linear: $w]}
    c: {layers: [relu]}
  layers:
    - b
    - b: {w: 3, v: 2}
    - b: [1]
    - c: 3
""",
        """\
error[E213]: `b` needs `w`: a whole number of at least 1
 --> spec.yaml:9:7
  |
9 |     - b
  |       ^

error[E214]: `b` has no argument `v`
  --> spec.yaml:10:17
   |
10 |     - b: {w: 3, v: 2}
   |                 ^ expected `w`

error[E203]: `b` argument `w` expects a whole number of at least 1, found a list
  --> spec.yaml:11:10
   |
11 |     - b: [1]
   |          ^

error[E212]: `c` takes no arguments, found 3
  --> spec.yaml:12:10
   |
12 |     - c: 3
   |          ^""",
    ),
    "a misspelt parameter of a block": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    b: {params: {width: int}, layers: [linear: $width, reluu]}
  layers:
    - b: {widht: 3}
""",
        """\
error[E210]: there is no layer or block `reluu`
 --> spec.yaml:6:56
  |
6 |     b: {params: {width: int}, layers: [linear: $width, reluu]}
  |                                                        ^^^^^ did you mean `relu`?
  = inside block `b`, used at spec.yaml:8:7

error[E214]: `b` has no argument `widht`
 --> spec.yaml:8:11
  |
8 |     - b: {widht: 3}
  |           ^^^^^ did you mean `width`?""",
    ),
    "use of a missing file": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    use: nope.yaml
  layers:
    - b
""",
        """\
error[E101]: cannot read `nope.yaml`: No such file or directory
 --> spec.yaml:6:10
  |
6 |     use: nope.yaml
  |          ^^^^^^^^^""",
    ),
    "use in a circle": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    use: one.yaml
  layers:
    - b
    - c
""",
        """\
error[E111]: files use each other: `one.yaml` -> `two.yaml` -> `one.yaml`
 --> two.yaml:2:8
  |
2 |   use: one.yaml
  |        ^^^^^^^^""",
    ),
    "use of itself": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    use: spec.yaml
    b: {layers: [relu]}
  layers:
    - b
""",
        """\
error[E111]: files use each other: `spec.yaml` -> `spec.yaml`
 --> spec.yaml:6:10
  |
6 |     use: spec.yaml
  |          ^^^^^^^^^""",
    ),
    "use of an absolute path": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    use: /etc/a.yaml
    b: {layers: [relu]}
  layers:
    - b
""",
        """\
error[E111]: `use` names a `.yaml` file by its path from this one, found `/etc/a.yaml`
 --> spec.yaml:6:10
  |
6 |     use: /etc/a.yaml
  |          ^^^^^^^^^^^""",
    ),
    "use of what is no file": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    use: [3, one.txt]
    b: {layers: [relu]}
  layers:
    - b
""",
        """\
error[E111]: `use` names a `.yaml` file by its path from this one, found 3
 --> spec.yaml:6:11
  |
6 |     use: [3, one.txt]
  |           ^

error[E111]: `use` names a `.yaml` file by its path from this one, found `one.txt`
 --> spec.yaml:6:14
  |
6 |     use: [3, one.txt]
  |              ^^^^^^^""",
    ),
    "use of a section that is not there": (
        """\
spec: 1
train:
  use: bad.yaml
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E111]: `bad.yaml` has no `train` to use
 --> spec.yaml:3:8
  |
3 |   use: bad.yaml
  |        ^^^^^^^^ expected `blocks`""",
    ),
    "use of a file with an error": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    use: bad.yaml
  layers:
    - b
""",
        """\
error[E210]: there is no layer or block `reluu`
 --> bad.yaml:2:16
  |
2 |   b: {layers: [reluu]}
  |                ^^^^^ did you mean `relu`?
  = inside block `b`, used at spec.yaml:8:7""",
    ),
    "use of a file that is not YAML": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  blocks:
    use: broken.yaml
  layers:
    - b
""",
        """\
error[E102]: this is not YAML: a bracket or quote that opens is never closed
 --> broken.yaml:1:9
  |
1 | blocks: [
  |         ^""",
    ),
    "an override without a value": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E110]: `--set` takes `a.b=value`, found `a`
 --> --set a""",
        ["a"],
    ),
    "an override of nothing": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E110]: `--set` takes `a.b=value`, found `=3`
 --> --set =3""",
        ["=3"],
    ),
    "an override with an empty key": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E110]: `--set` takes `a.b=value`, found `model..x=3`
 --> --set model..x=3""",
        ["model..x=3"],
    ),
    "an override inside a text": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E110]: `--set model.layers.0.linear=…`: `model.layers.0` is `relu`; it has no `linear`
 --> --set model.layers.0.linear=8""",
        ["model.layers.0.linear=8"],
    ),
    "an override past the end of a list": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E110]: `--set model.layers.5=…`: `model.layers` has 1 item, counted from 0; it has no `5`
 --> --set model.layers.5=relu""",
        ["model.layers.5=relu"],
    ),
    "an override that is not YAML": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E110]: `--set params.x=…`: the value is not YAML
 --> --set params.x=[1""",
        ["params.x=[1"],
    ),
    "an override of the wrong kind": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E203]: `spec` expects 1, found 2
 --> --set spec=2""",
        ["spec=2"],
    ),
    "an override of an unknown key": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E214]: a spec has no key `nmae`
 --> --set nmae=3
  = did you mean `name`?""",
        ["nmae=3"],
    ),
    "an override that misspells a layer": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E210]: there is no layer or block `linearr`
 --> --set model.layers.0=linearr
  = did you mean `linear`?""",
        ["model.layers.0=linearr"],
    ),
    "an override of a section that is not there": (
        """\
spec: 1
model:
  inputs:
    x: float[8]
  layers:
    - relu
""",
        """\
error[E203]: `batch` expects a whole number of at least 1, found 0
 --> --set train.batch=0

error[E213]: `train` needs `loss`: a loss
 --> --set train.batch=0
  = what is minimised, as a step: `{cross_entropy: [logits, label]}`.

error[E213]: `train` needs `optimizer`: an optimizer, as `name` or `{name: arguments}`
 --> --set train.batch=0
  = how weights follow their gradients.""",
        ["train.batch=0"],
    ),
}


OK = "spec: 1\nmodel: {inputs: {x: float}, layers: [tanh]}\n"


def outcome(path, overrides=()):
    try:
        check_spec(read(path, overrides))
    except SpecError as error:
        return error
    return None


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_the_text(name):
    text, expected, *overrides = CASES[name]
    Path("spec.yaml").write_text(text)
    error = outcome("spec.yaml", *overrides)
    assert error is not None
    assert str(error) == expected


def test_a_missing_file():
    assert (
        str(outcome("nope.yaml")) == "error[E101]: cannot read `nope.yaml`: No such file or directory\n --> nope.yaml"
    )


def test_a_folder(folder):
    assert str(outcome(Path())) == "error[E101]: cannot read `.`: Is a directory\n --> ."


def test_a_file_that_is_not_text():
    Path("spec.yaml").write_bytes(b"spec: 1\nname: caf\xe9\n")
    assert str(outcome("spec.yaml")) == (
        "error[E101]: `spec.yaml` is not UTF-8 text: byte 17 is 0xe9\n"
        " --> spec.yaml:2:10\n"
        "  |\n"
        "2 | name: caf\N{REPLACEMENT CHARACTER}\n"
        "  |          ^"
    )


def test_a_control_character_is_neither_read_nor_shown():
    Path("spec.yaml").write_bytes(b"spec: 1\nname: a\x1b[31mb\n")
    assert str(outcome("spec.yaml")) == (
        "error[E102]: the character U+001B has no place in YAML\n"
        " --> spec.yaml:2:8\n"
        "  |\n"
        "2 | name: a\N{REPLACEMENT CHARACTER}[31mb\n"
        "  |        ^"
    )


def test_a_file_that_is_too_large():
    Path("spec.yaml").write_text("x" * 200_001)
    assert str(outcome("spec.yaml")) == (
        "error[E103]: `spec.yaml` is 200001 bytes long; a spec has at most 200000\n --> spec.yaml"
    )


def test_an_alias_bomb():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    Path("spec.yaml").write_text("\n".join(lines))
    assert str(outcome("spec.yaml")) == (
        "error[E103]: the file has more than 20000 values, aliases counted where they are used\n"
        " --> spec.yaml:5:12\n"
        "  |\n"
        "5 | e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\n"
        "  |            ^^"
    )


def test_depth():
    Path("spec.yaml").write_text("a: " + "[" * 60 + "]" * 60)
    assert str(outcome("spec.yaml")).startswith(
        "error[E103]: values are nested more than 50 deep\n --> spec.yaml:1:54\n"
    )


def test_a_long_line_is_shown_in_part():
    Path("spec.yaml").write_text(OK + "x-a: {" + "".join(f"k{i}: 1, " for i in range(100)) + "k7: 1}\n")
    line = str(outcome("spec.yaml")).splitlines()
    assert line[0] == "error[E107]: the key `k7` is given twice"
    assert line[3] == "3 | …" + "".join(f"k{i}: 1, " for i in range(90, 100))[-80:] + "k7: 1}"
    assert line[4] == "  | " + " " * 81 + "^^ it was first given at spec.yaml:3:56"


def test_wide_characters_take_two_columns():
    Path("spec.yaml").write_text(OK + "x-a: {語語: 1, 語語: 2}\n")
    assert str(outcome("spec.yaml")).splitlines()[3:] == [
        "3 | x-a: {語語: 1, 語語: 2}",
        "  |                ^^^^ it was first given at spec.yaml:3:7",
    ]


def test_as_data():
    text, *_ = CASES["an unknown argument, in blocks and a repeat"]
    Path("spec.yaml").write_text(text)
    error = outcome("spec.yaml")
    assert [d.as_json() for d in error.diagnostics] == [
        {
            "code": "E214",
            "message": "`conv` has no argument `filtres`",
            "file": "spec.yaml",
            "line": 9,
            "column": 22,
            "width": 7,
            "labels": [{"file": "spec.yaml", "line": 9, "column": 22, "text": "did you mean `filters`?"}],
            "notes": [
                "inside block `basic`, used at spec.yaml:13:11",
                "inside block `outer`, used at spec.yaml:15:7",
            ],
        }
    ]


def test_problems_are_sorted_by_place():
    text, *_ = CASES["sections, steps, the loss and the fields at once"]
    Path("spec.yaml").write_text(text)
    places = [(d.span.line, d.span.column) for d in outcome("spec.yaml").diagnostics]
    assert places == sorted(places)
    assert len(places) > 5


def test_a_report_has_an_end():
    report = Report()
    for i in range(10_000):
        report.error("E203", "wrong", Span("a.yaml", i + 1, 1, 1))
    assert report.full
    assert len(report.sorted()) == 500


def test_hints():
    assert suggest("liner", ["linear", "relu"]) == "did you mean `linear`?"
    assert suggest("maxpool", ["max_pool", "avg_pool"]) == "did you mean `max_pool`?"
    assert suggest("xyz", ["linear"]) is None
    assert nearest("LayerNorm", ["layer_norm"]) == "layer_norm"
    assert hint("xyz", []) == "no names are defined here"
    assert hint("xyz", ["a"]) == "expected `a`"
    assert hint("xyz", ["b", "a"]) == "expected one of `a`, `b`"
    assert hint("xyz", [f"name_{i:02}" for i in range(14)]).endswith("`name_11` and 2 more")
