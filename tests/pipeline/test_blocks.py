"""Blocks: runs of nodes between which one tensor flows."""

from __future__ import annotations

import pytest
import torch

from netpress import zoo
from netpress.graph import trace
from netpress.pipeline.blocks import find_blocks


def blocks(name: str) -> tuple:
    shape = zoo.entry(name).input_shape
    return find_blocks(trace(zoo.build(name, seed=0).eval(), torch.rand(2, *shape)))


def test_stages_of_a_residual_network_end_behind_their_sums() -> None:
    found = blocks("resnet20")
    assert [b.name for b in found] == [
        "conv1 to layer1.2.bn2",
        "layer2.0.conv1 to layer2.2.bn2",
        "layer3.0.conv1 to linear",
    ]
    assert all("layer2.1.conv1" not in b.modules for b in (found[0], found[2]))


def test_blocks_of_vgg_lie_between_its_pools() -> None:
    assert [b.name for b in blocks("vgg16_bn")] == [
        "features.0 to features.4",
        "features.7 to features.11",
        "features.14 to features.21",
        "features.24 to features.31",
        "features.34 to classifier",
    ]


@pytest.mark.parametrize("name", ["resnet20", "vgg16_bn", "lenet5", "lenet300_100", "mobilenet_v2_32"])
def test_every_module_lies_in_one_block_and_the_last_ends_with_the_output(name: str) -> None:
    shape = zoo.entry(name).input_shape
    net = trace(zoo.build(name, seed=0).eval(), torch.rand(2, *shape))
    found = find_blocks(net)
    held = [m for b in found for m in b.modules]
    weighted = {n.name for n in net.nodes if n.is_module and any(True for _ in net.get_submodule(n.name).parameters())}
    assert len(held) == len(set(held))
    assert weighted <= set(held)
    assert found[-1].node == len(net.nodes) - 1
    assert [b.node for b in found] == sorted(b.node for b in found)
