"""From steps to a graph: names, order, blocks, repeats, shared weights, outputs, losses."""

import pytest
import trine.runtime.session  # noqa: F401 (registers sources and optimizers)
from trine.compiler.build import build
from trine.compiler.ir import input_of
from trine.compiler.spec.diagnostics import SpecError
from trine.compiler.spec.reader import read_string


def network(layers, x="float[8]", mode="infer", blocks="", rest="", sizes=None, above=""):
    block = f"  blocks: {blocks}\n" if blocks else ""
    text = f"spec: 1\n{above}model:\n  inputs: {{x: '{x}'}}\n{block}  layers: {layers}\n{rest}"
    return build(read_string(text, sizes=sizes), mode)


def weights(net):
    return {input_of(v).name: v.shape for v in net.graph.by_role("param", "buffer")}


def paths(net):
    return [step.path for step in net.steps]


def output(net):
    (value,) = net.graph.outputs.values()
    return value


def test_steps_follow_each_other_and_are_numbered_by_layer():
    net = network("[linear: 4, relu, linear: 3]")
    assert paths(net) == ["linear_1", "relu_1", "linear_2"]
    assert weights(net) == {
        "linear_1.weight": (4, 8),
        "linear_1.bias": (4,),
        "linear_2.weight": (3, 4),
        "linear_2.bias": (3,),
    }
    assert output(net).shape == ("N", 3)
    assert list(net.graph.outputs) == ["linear_2"]


def test_names_come_before_numbers():
    assert paths(network("[{linear: 4, as: hidden}, linear: 4, relu]")) == ["hidden", "linear_1", "relu_1"]


def test_a_step_may_stand_before_what_it_reads():
    net = network("[{relu: , from: late, as: out}, {linear: 4, from: x, as: late}]", rest="  outputs: [out]\n")
    assert paths(net) == ["late", "out"]
    assert output(net).shape == ("N", 4)


def test_outputs_are_those_named():
    net = network("[{linear: 4, as: a}, {linear: 3, as: b}]", rest="  outputs: [b, a, x]\n")
    assert [(name, v.shape[1:]) for name, v in net.graph.outputs.items()] == [("b", (3,)), ("a", (4,)), ("x", (8,))]


def test_blocks_have_parameters_inputs_and_names_of_their_own():
    blocks = "{two: {params: {width: int, act: true}, inputs: [a, b], layers: [add: [a, b], {linear: $width, as: fc}]}}"
    net = network("[{linear: 8, as: h}, {two: 5, from: [h, x], as: first}]", blocks=blocks)
    assert paths(net) == ["h", "first.add_1", "first.fc"]
    assert weights(net)["first.fc.weight"] == (5, 8)


def test_block_parameters_hide_params_and_default_to_expressions():
    blocks = "{b: {params: {width: 3, twice: $(2 * base)}, layers: [linear: $width, linear: $twice]}}"
    net = network("[b]", blocks=blocks, above="params: {width: 9, base: 5}\n")
    assert [v for k, v in weights(net).items() if k.endswith("bias")] == [(3,), (10,)]


@pytest.mark.parametrize(("times", "count"), [(0, 0), (1, 1), (3, 3), ("$depth", 2)])
def test_repeats_have_weights_of_their_own(times, count):
    net = network(f"[{{linear: 8, repeat: {times}, as: fc}}, relu]", above="params: {depth: 2}\n")
    names = [name for name in weights(net) if name.endswith("weight")]
    assert names == (["fc.weight"] if count == 1 else [f"fc.{i + 1}.weight" for i in range(count)])


def test_a_step_that_is_repeated_no_times_lets_its_input_through():
    net = network(
        "[{linear: 4, repeat: 0, as: a}, {b: , repeat: 0, as: c}, {add: [c, x]}]", blocks="{b: {layers: [tanh]}}"
    )
    assert paths(net) == ["add_1"]
    assert output(net).shape == ("N", 8)
    with pytest.raises(SpecError) as caught:
        network("[{add: [x, x], repeat: 0}]")
    assert [d.code for d in caught.value.diagnostics] == ["E228"]


def test_repeats_read_the_one_before():
    net = network("[{linear: 4, repeat: 3}]")
    assert [shape for name, shape in weights(net).items() if name.endswith("weight")] == [(4, 8), (4, 4), (4, 4)]


def test_shared_weights_are_there_once():
    net = network("[{linear: 8, as: a}, {linear: 8, share: a}, relu]")
    assert weights(net) == {"a.weight": (8, 8), "a.bias": (8,)}
    blocks = "{b: {layers: [linear: 8, batch_norm]}}"
    net = network("[{b: , as: a}, {b: , share: a}]", blocks=blocks, mode="train", rest="")
    assert [name for name in weights(net) if name.endswith("weight")] == ["a.linear_1.weight"]


def test_residual_steps_see_names_outside():
    net = network("[{linear: 8, as: a}, {residual: [{add: [a, x]}, linear: 8], as: r}]")
    assert paths(net) == ["a", "r.add_1", "r.linear_1", "r"]


LOSS = "train: {loss: %s, optimizer: adam}\n"


def test_a_loss_adds_outputs_where_there_is_something_to_learn():
    text = "[{linear: 3, as: logits}]"
    rest = LOSS % "{cross_entropy: [logits, y]}"
    assert set(network(text, rest=rest).graph.outputs) == {"logits"}
    net = network(text, rest=rest, mode="train")
    assert set(net.graph.outputs) == {"logits", "loss", "loss/total", "loss/weight", "prediction/y"}
    assert net.graph.outputs["loss"].shape == ()
    (head,) = net.heads
    assert (head.loss, head.output, head.target, head.task, head.weight) == (
        "cross_entropy",
        "logits",
        "y",
        "classes",
        1,
    )
    assert {input_of(v).name for v in net.graph.by_role("data")} == {"x", "y"}


def test_several_losses_have_weights():
    rest = LOSS % "[{mse: [a, y]}, {mae: [a, z], weight: $(1 / 2)}]"
    net = network("[{linear: 3, as: a}]", rest=rest, mode="evaluate")
    assert [(head.target, head.weight) for head in net.heads] == [("y", 1.0), ("z", 0.5)]


def test_sizes_of_the_data_are_names_until_they_are_known():
    above = "data: {source: 'sklearn:wine', fields: {x: {column: features}, y: {column: target, encode: ids}}}\n"
    assert output(network("[linear: $y.size]", above=above)).shape == ("N", "y.size")
    assert output(network("[linear: $y.size]", above=above, sizes={"y.size": 3})).shape == ("N", 3)


def test_named_dims():
    net = network("[embedding: {rows: 9, dim: 4}, mean: {over: T}]", x="int[T <= 5]")
    assert output(net).shape == ("N", 4)


def test_dropout_is_there_in_training_alone():
    for mode, count in (("train", 1), ("evaluate", 0), ("infer", 0)):
        assert len(network("[dropout: 0.5, linear: 2]", mode=mode).graph.by_role("random")) == count


def test_the_same_spec_gives_the_same_graph():
    first, second = (network("[{linear: 4, repeat: 3}, relu]") for _ in range(2))
    assert str(first.graph) == str(second.graph)


def test_two_errors_of_two_blocks_come_at_once():
    with pytest.raises(SpecError) as caught:
        network("[a, b, linear: 0]", blocks="{a: {layers: [reluu]}, b: {layers: [tanhh]}}")
    assert [d.code for d in caught.value.diagnostics] == ["E210", "E210", "E203"]


def test_a_layer_without_weights_has_none_to_share() -> None:
    text = """
spec: 1
model:
  inputs: {x: "float[4]"}
  layers:
    - linear: 3
      as: a
    - relu:
      share: a
"""
    with pytest.raises(SpecError) as caught:
        build(read_string(text))
    assert "`relu` has no weights that it could share with `a`" in str(caught.value)
    assert "spec.yaml:9:14" in str(caught.value)
