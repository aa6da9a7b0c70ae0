from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from structure_networks import NETWORKS, channels_of, example, one_each, random_keep, traced
from torch import nn

from netpress import artifact
from netpress.graph import Batch, GraphNetwork, trace
from netpress.structure import Channels, mask_network, slice_network


def sliced(name: str) -> GraphNetwork:
    channels = Channels(traced(name))
    return slice_network(channels, random_keep(channels, 1))


def test_rows_and_columns_that_stay() -> None:
    net = traced("plain")
    made = slice_network(Channels(net), {"0": np.array([True, False, False, True]), "3": np.arange(6) == 2})
    assert torch.equal(made.get_parameter("0.weight"), net.get_parameter("0.weight")[[0, 3]])
    assert torch.equal(made.get_buffer("1.running_mean"), net.get_buffer("1.running_mean")[[0, 3]])
    assert torch.equal(made.get_parameter("3.weight"), net.get_parameter("3.weight")[[2]][:, [0, 3]])
    assert torch.equal(made.get_parameter("6.weight"), net.get_parameter("6.weight")[:, [2]])
    assert torch.equal(made.get_parameter("6.bias"), net.get_parameter("6.bias"))


def test_masks_stand_in_parameters_alone() -> None:
    net = traced("plain")
    made = mask_network(Channels(net), {"0": np.array([True, False, False, True])})
    zeros = {name: [i for i in range(len(p)) if not p[i].any()] for name, p in made.named_parameters()}
    assert zeros == {
        "0.weight": [1, 2], "0.bias": [1, 2], "1.weight": [1, 2], "1.bias": [1, 2], "3.weight": [], "3.bias": [],
        "6.weight": [], "6.bias": [],
    }  # fmt: skip
    assert not made.get_parameter("3.weight")[:, [1, 2]].any()
    assert all(torch.equal(buffer, net.get_buffer(name)) for name, buffer in made.named_buffers())


@pytest.mark.parametrize(
    ("name", "module", "sizes"),
    [
        ("plain", "0", {"in_channels": 1, "out_channels": 1, "groups": 1}),
        ("plain", "1", {"num_features": 1}),
        ("plain", "6", {"in_features": 1, "out_features": 3}),
        ("depthwise", "depth", {"in_channels": 1, "out_channels": 1, "groups": 1}),
        ("many_groups", "grouped", {"in_channels": 2, "out_channels": 3, "groups": 1}),
        ("few_groups", "grouped", {"in_channels": 2, "out_channels": 2, "groups": 2}),
        ("transposed", "up", {"in_channels": 1, "out_channels": 1, "groups": 1}),
        ("transposed_in_groups", "up", {"in_channels": 2, "out_channels": 4, "groups": 1}),
        ("group_normed", "norm", {"num_groups": 1, "num_channels": 2}),
        ("parametric_rectifier", "many", {"num_parameters": 1}),
        ("parametric_rectifier", "one", {"num_parameters": 1}),
        ("embedded", "words", {"num_embeddings": 7, "embedding_dim": 1}),
        ("one_dimensional", "norm", {"num_features": 1}),
    ],
)
def test_modules_say_their_new_sizes(name: str, module: str, sizes: dict[str, int]) -> None:
    channels = channels_of(name)
    made = slice_network(channels, one_each(channels)).get_submodule(module)
    assert {attribute: getattr(made, attribute) for attribute in sizes} == sizes


@pytest.mark.parametrize(
    "name",
    ["plain", "shuffled", "option_a", "few_groups", "functional_in_groups", "group_normed", "fused_attention", "heads_in_the_batch",
     "taken_apart", "transposed_in_groups", "shared_parameter", "embedded"],
)  # fmt: skip
def test_it_goes_through_a_file(name: str, tmp_path: Path) -> None:
    net, shape = sliced(name), NETWORKS[name][1]
    x = example(shape)
    artifact.save(tmp_path / "net.netpress", net, input_shape=tuple(x.shape[1:]), preprocess=None)
    loaded = artifact.load(tmp_path / "net.netpress")
    assert torch.equal(loaded(x), net(x))
    assert {key: value.shape for key, value in loaded.state_dict().items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }


def test_what_is_shared_stays_shared() -> None:
    net = sliced("shared_parameter")
    assert net.get_parameter("one.weight") is net.get_parameter("two.weight")
    assert net.get_parameter("inner.weight") is net.get_parameter("other.weight")
    assert len(list(net.parameters())) == len(list(traced("shared_parameter").parameters()))


@pytest.mark.parametrize("make", [slice_network, mask_network])
def test_flags_and_types_stay(make: object) -> None:
    net = trace(NETWORKS["residual"][0]().double().eval(), torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    net.get_parameter("stem.weight").requires_grad_(False)
    net.get_submodule("norm").train()
    channels = Channels(net)
    made = make(channels, one_each(channels))  # type: ignore[operator]
    assert {n: (p.requires_grad, p.dtype) for n, p in made.named_parameters()} == {
        n: (p.requires_grad, p.dtype) for n, p in net.named_parameters()
    }
    assert {n: m.training for n, m in made.named_modules()} == {n: m.training for n, m in net.named_modules()}
    assert (made.input_shape, made.output_shape, made.input_dtype) == (net.input_shape, net.output_shape, torch.float64)


def test_it_trains() -> None:
    net = sliced("residual").train()
    net(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_a_layer_that_reads_fixed_places_stays() -> None:
    """The same weight reads the input in one call: its columns stay, though what it reads in the other could go."""
    net = sliced("called_on_the_input")
    assert net.get_parameter("shared.weight").shape[1] == 6
    assert isinstance(net.get_submodule("middle"), nn.Linear)
    assert net.get_parameter("middle.weight").shape[0] == 6


@pytest.mark.parametrize(
    ("name", "op", "before", "after"),
    [
        ("shuffled", "reshape", (Batch(1), 2, 6, 6, 6), (Batch(1), 2, 2, 6, 6)),  # one channel of each of two groups
        ("group_normed", "group_norm", 3, 1),
        ("taken_apart", "getitem", (slice(None), slice(1, 5)), (slice(None), slice(0, 2))),  # 2, 4 and 5 stay
        ("split_in_two", "split", (2, 4), (1, 1)),
        ("gated", "chunk", 2, (1, 1)),  # a split then
        ("option_a", "pad", (0, 0, 0, 0, 2, 2), (0, 0, 0, 0, 0, 1)),  # of the four zeros the last stays
    ],
)
def test_numbers_in_the_program_follow(name: str, op: str, before: object, after: object) -> None:
    channels = channels_of(name)
    made = slice_network(channels, one_each(channels))
    pairs = zip(channels.net.nodes, made.nodes, strict=True)
    assert next((old.args[1], new.args[1]) for old, new in pairs if old.op == op) == (before, after)


def test_the_scale_of_an_attention_stays() -> None:
    channels = channels_of("one_head_scaled_by_its_width")
    made = slice_network(channels, {"q": np.array([True, False, True, False])})
    scales = [node.args[3:] for node in made.nodes if node.op == "scaled_dot_product_attention"]
    assert scales == [(None, 0.0, False, 0.5)]  # four channels before
    untouched = slice_network(channels, {"v": np.array([True, False, True, False, True])})
    assert untouched.nodes == channels.net.nodes


def test_heads_behind_the_batch_follow_it() -> None:
    channels = channels_of("heads_in_the_batch")
    made = slice_network(channels, {"qkv": np.array([True, False, True])})
    shapes = [[net_node.args[1] for net_node in net.nodes if net_node.op == "reshape"] for net in (channels.net, made)]
    assert (Batch(3), 5, 4) in shapes[0]
    assert (Batch(2), 5, 4) in shapes[1]
