"""Programs changed over the same modules: outputs stay the same, and what was given is not changed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netpress.errors import GraphError
from netpress.graph import GraphNetwork, Node, fold_norms, from_document, insert_behind, to_document, trace
from netpress.graph import without_identities as plain
from netpress.zoo import build, entry


class Branches(nn.Module):
    """Identities at the input, on one of two branches, and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.side, self.last = nn.Identity(), nn.Identity(), nn.Identity()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        left, right = (self.one(x) + self.side(x)).chunk(2, 1)
        return self.last(torch.cat([right, self.two(x), left], 1))


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2_32"])
def test_a_folded_network_without_identities_is_the_folded_network(name: str) -> None:
    shape = entry(name).input_shape
    folded = fold_norms(trace(build(name, seed=0).eval(), torch.rand(2, *shape)))
    net, x = plain(folded), torch.rand(2, *shape)
    idle = sum(isinstance(module, nn.Identity) for module in folded.modules())
    assert len(net.nodes) == len(folded.nodes) - idle < len(folded.nodes)
    assert not any(isinstance(module, nn.Identity) for module in net.modules())
    with torch.no_grad():
        assert torch.equal(net(x), folded(x))
        assert torch.equal(from_document(*to_document(net))(x), folded(x))


def test_identities_anywhere() -> None:
    given = trace(Branches().eval(), torch.rand(2, 3))
    before, x = given.nodes, torch.rand(4, 3)
    net = plain(given)
    assert [node.op for node in given.nodes].count("Identity") == 3
    assert "Identity" not in [node.op for node in net.nodes]
    assert given.nodes == before
    assert torch.equal(net(x), given(x))
    assert net.get_submodule("one") is given.get_submodule("one")
    assert plain(net).nodes == net.nodes


@pytest.mark.parametrize("layers", [[nn.Identity()], [nn.Identity(), nn.Identity()]])
def test_a_network_that_is_an_identity_stays_one(layers: list[nn.Module]) -> None:
    net = plain(trace(nn.Sequential(*layers), torch.rand(2, 3)))
    x = torch.rand(4, 3)
    assert torch.equal(net(x), x)


def test_modes_go_along() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Identity(), nn.Dropout(), nn.Linear(2, 2)).train()
    network[2].eval()
    net = plain(trace(network, torch.rand(2, 2)))
    assert {name: module.training for name, module in net.named_modules()} == {
        "": True,
        "0": True,
        "2": False,
        "3": True,
    }


def stepped(net: GraphNetwork, *values: int) -> GraphNetwork:
    return insert_behind(net, {value: Node("", "mul", (2.0,)) for value in values})


def test_a_step_is_read_by_all_later_readers() -> None:
    given = trace(Branches().eval(), torch.rand(2, 3))
    x = torch.rand(4, 3)
    doubled = stepped(given, 0)
    torch.testing.assert_close(doubled(x), given(2 * x))
    assert doubled.nodes[0].op == "mul"
    torch.testing.assert_close(stepped(given, len(given.nodes))(x), 2 * given(x))
    torch.testing.assert_close(stepped(given, 0, len(given.nodes))(x), 2 * given(2 * x))
    torch.testing.assert_close(trace(doubled, x)(x), doubled(x))


def test_or_by_those_that_are_named() -> None:
    torch.manual_seed(0)
    given, x = (
        trace(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)).eval(), torch.rand(2, 3)),
        torch.randn(4, 3),
    )
    steps = {0: Node("", "mul", (2.0,)), 1: Node("", "neg", ())}
    nobody = insert_behind(given, steps, lambda node: False)
    assert torch.equal(nobody(x), given(x))
    assert len(nobody.nodes) == len(given.nodes) + 2
    one = insert_behind(given, steps, lambda node: node.op == "ReLU")
    torch.testing.assert_close(one(x), given.get_submodule("2")(torch.relu(-given.get_submodule("0")(x))))


def test_a_step_by_hand() -> None:
    given = trace(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.rand(2, 3, 1))
    made = stepped(given, 1)
    x = torch.tensor([[[-1.0], [2.0], [0.5]]])
    assert [node.op for node in made.nodes] == ["ReLU", "mul", "Flatten"]
    assert made(x).tolist() == [[0.0, 4.0, 1.0]]
    assert given(x).tolist() == [[0.0, 2.0, 0.5]]


def test_values_that_cannot_have_a_step() -> None:
    given = trace(Branches().eval(), torch.rand(2, 3))
    many = next(k for k, node in enumerate(given.nodes, 1) if node.op == "chunk")
    with pytest.raises(GraphError, match="a step behind many tensors; got: chunk; allowed: one tensor"):
        stepped(given, many)
    with pytest.raises(GraphError, match="no such value; got: 99; allowed: 0 to"):
        stepped(given, 99)
