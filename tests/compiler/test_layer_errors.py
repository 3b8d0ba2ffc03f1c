"""What layers over space say where they cannot do what a step asks."""

from __future__ import annotations

import pytest
import trine.compiler.training  # noqa: F401 (registers layers, losses, optimizers)
from trine.compiler.build import build
from trine.compiler.spec.diagnostics import SpecError
from trine.compiler.spec.reader import read_string

IMAGE = "x: 'float[4, 6, 6]'"
SEQUENCE = "x: 'float[T, 4]'"

# (the step, what flows in, what the message says)
CASES = [
    ("transposed_conv: {filters: 4, stride: 2}", SEQUENCE, "axis T has no fixed size: only stride 1 with `same`"),
    ("transposed_conv: {filters: 4, stride: 2, padding: 0, output_padding: 2}", IMAGE,
     "`output_padding` is 2, it must stay below the stride, 2"),
    ("transposed_conv: {filters: 4, output_padding: 0}", IMAGE, "`padding: same` adds what it needs"),
    ("transposed_conv: {filters: 4, padding: 5}", IMAGE, "padding cuts 10 off an output of 8"),
    ("transposed_conv: {filters: 4, groups: 3}", IMAGE, "4 channels and 4 filters do not divide into 3 groups"),
    ("conv: {filters: 4, padding: causal}", IMAGE, "`causal` pads the start of a sequence, the input has 2 spatial"),
    ("conv: {filters: 4, padding: [1, 2]}", SEQUENCE, "`padding` has 2 entries, the input has 1 spatial axis"),
    ("conv: {filters: 4, padding: [1, [1, 2, 3]]}", IMAGE, "`padding` gives an axis 3 numbers, expected two"),
    ("depthwise_conv: [3, 3, 3]", IMAGE, "`kernel` has 3 numbers, the input has 2 spatial axes"),
    ("separable_conv: {filters: 4, stride: 2}", SEQUENCE, "axis T of f32[N, 4, T] has no fixed size"),
    ("adaptive_avg_pool: 2", SEQUENCE, "axis T of the input has no fixed size"),
    ("adaptive_max_pool: [2, 2, 2]", IMAGE, "`size` has 3 numbers, the input has 2 spatial axes"),
    ("upsample: 2", SEQUENCE, "axis T of the input has no fixed size, which this layer depends on"),
    ("resize: 2", SEQUENCE, "axis T of the input has no fixed size, which this layer depends on"),
    ("resize: {mode: linear}", IMAGE, "`resize` needs one of `scale` and `size`"),
    ("resize: {scale: 2, size: 3}", IMAGE, "`resize` needs one of `scale` and `size`"),
    ("resize: 0.1", IMAGE, "the scale leaves nothing of an axis of 6"),
    ("resize: {scale: 2, mode: bilinear}", "x: 'float[6, 4]'", "`bilinear` is for images"),
    ("group_norm: 3", IMAGE, "4 channels do not divide into 3 groups"),
    ("instance_norm", "x: 'float[4]'", "expected a sequence [T, features], an image"),
    ("spatial_dropout: 0.1", "x: 'float[4]'", "expected a sequence [T, features], an image"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "inputs", "message"), CASES, ids=[c[0] for c in CASES])
def test_a_layer_says_what_is_wrong(step: str, inputs: str, message: str) -> None:
    spec = read_string(f"spec: 1\nmodel:\n  inputs: {{{inputs}}}\n  layers:\n    - {step}\n")
    with pytest.raises(SpecError) as caught:
        build(spec, "infer")
    (problem,) = caught.value.diagnostics
    assert problem.code in ("E301", "E302")
    assert message in problem.message
