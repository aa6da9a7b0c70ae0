"""What becomes integers, from which images, and what it costs: by small networks whose every number is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from netpress.data import Preprocess, Split
from netpress.graph import GraphNetwork, trace
from netpress.graph.operators import dynamic_quantize
from netpress.maths.row_grids import row_steps
from netpress.pipeline.integer_points import integer_points
from netpress.pipeline.integers import (
    correct_biases,
    observe,
    round_weights,
    train_on_grids,
    with_measured_values,
    with_rounded_values,
)
from netpress.pipeline.job import Job
from netpress.pipeline.recipe import default_training
from netpress.progress import SilentProgress
from netpress.training import MatchOutput


class Block(nn.Module):
    """x + conv(relu(conv(x))), as residual networks have it, and a head."""

    def __init__(self, gated: bool = False) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
        self.act, self.head, self.gated = nn.ReLU(), nn.Linear(2, 3), gated

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.two(self.act(self.one(x)))
        y = x + (y.sigmoid() if self.gated else y.relu())
        return self.head(y.mean((2, 3)))


LAYERS = ("one", "two", "head")


def network(gated: bool = False) -> GraphNetwork:
    torch.manual_seed(0)
    return trace(Block(gated).eval(), torch.rand(2, 2, 6, 6))


def job_of(net: GraphNetwork, scratch: Path, count: int = 70) -> Job:
    images = np.random.default_rng(0).integers(0, 255, (count, 2, 6, 6), dtype=np.uint8)
    return Job(
        teacher=net,
        fit=Split(images),
        held_out=Split(images[:5]),
        preprocess=Preprocess(1 / 255),
        task="regression",
        outputs=3,
        bounds={},
        cut=None,
        device=torch.device("cpu"),
        seed=0,
        progress=SilentProgress(),
        scratch=scratch,
        training=dataclasses.replace(default_training(), batch_size=35, augment="none"),
        objective=MatchOutput(net),
    )


def ops(net: GraphNetwork) -> list[str]:
    return [node.op for node in net.nodes]


def test_what_layers_read_and_what_they_give_to_a_sum() -> None:
    net = network()
    made = {
        0 if not index else net.nodes[index - 1].op: reader for index, reader in integer_points(net, LAYERS).items()
    }
    assert made == {0: "", "ReLU": "", "relu": "", "mean": ""}
    assert "relu" not in {net.nodes[i - 1].op for i in integer_points(net, ("one", "head")) if i}
    gated = network(gated=True)
    assert "sigmoid" not in {gated.nodes[i - 1].op for i in integer_points(gated, LAYERS) if i}
    assert integer_points(net, ()) == {}


class Pooled(nn.Module):
    """Convolutions whose outputs go into an average, into a maximum before the next layer, into a layer, and to a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(3))
        self.gate, self.head, self.act = nn.Conv2d(2, 2, 1), nn.Linear(2, 3), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.max_pool2d(self.act(self.one(x)), 2)
        x = self.three(self.two(x))
        x = torch.relu(x) * self.gate(x).sigmoid()
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def test_convolutions_whose_outputs_are_to_be_rounded_as_well() -> None:
    torch.manual_seed(0)
    net = trace(Pooled().eval(), torch.rand(2, 2, 6, 6))
    layers = ("one", "two", "three", "gate", "head")
    of = {node.name or node.op: k for k, node in enumerate(net.nodes, 1)}
    usual, all_of_them = (integer_points(net, layers, conv_outputs=asked) for asked in (False, True))
    assert set(usual) == {0, of["max_pool2d"], of["two"], of["three"], of["flatten"]}
    assert set(all_of_them) == {
        *usual,
        of["gate"],
    }  # before the maximum nothing changes, and "one" is rounded behind it
    assert set(integer_points(net, ("one", "gate"), conv_outputs=True)) == {0, of["three"], of["act"], of["gate"]}
    last = trace(nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU()).eval(), torch.rand(2, 2, 6, 6))
    assert set(integer_points(last, ("0",), conv_outputs=True)) == {0}  # the network's answer stays as it is


def test_all_readers_get_the_rounded_value_and_nothing_is_rounded_twice(tmp_path: Path) -> None:
    net = network()
    points = integer_points(net, LAYERS)
    made = with_rounded_values(net, points, observe(net, job_of(net, tmp_path), points, 70), "mse", 8)
    assert ops(made).count("fake_quantize") == 4
    assert integer_points(made, LAYERS) == {}
    add = next(node for node in made.nodes if node.op == "add")
    assert [made.nodes[index - 1].op for index in add.inputs] == ["fake_quantize", "fake_quantize"]


def test_measured_values_are_read_by_the_layers_alone() -> None:
    class Shared(nn.Module):
        """One value for two layers and a sum; the second layer runs twice."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.one(x) + self.two(self.two(x))

    net = trace(Shared().eval(), torch.rand(2, 6))
    made, count = with_measured_values(net, {"one", "two"})
    assert (count, ops(made).count("dynamic_quantize")) == (2, 2)
    x = torch.randn(5, 6)
    with torch.no_grad():
        r = dynamic_quantize(x)
        one, two = net.get_submodule("one"), net.get_submodule("two")
        assert torch.equal(made(x), x + one(r) + two(dynamic_quantize(two(r))))
    again, count = with_measured_values(made, {"one", "two"})
    assert (count, again.nodes) == (0, made.nodes)
    assert with_measured_values(net, ())[0].nodes == net.nodes


def test_corrections_are_measured_behind_measured_values(tmp_path: Path) -> None:
    reference, net = network(), network()
    job = job_of(net, tmp_path, count=64)
    round_weights(net, ["head.weight"], 3, per_row=True)
    made, _ = with_measured_values(net, ["head"])
    x = job.preprocess(job.fit.images[np.arange(64)], job.device)

    def gap() -> float:
        return float((reference(x) - made(x)).mean(0).abs().max().detach())

    assert gap() > 1e-3
    correct_biases(reference, made, job, ["head"], 64)
    assert gap() < 1e-5


def test_ranges_are_those_of_the_images(tmp_path: Path) -> None:
    net = network()
    job = job_of(net, tmp_path)
    with torch.no_grad():
        x = job.preprocess(job.fit.images[np.arange(70)], job.device)
        inner = net.get_submodule("one")(x).relu()
    ranges = observe(net, job, [0, 2], 70)
    assert (ranges[0].low, ranges[0].high) == (0.0, float(x.max()))
    assert (ranges[2].low, ranges[2].high) == (0.0, float(inner.max()))
    assert observe(net, job, [0], 5)[0].samples == 64 * 72  # one batch


def test_more_bits_are_nearer(tmp_path: Path) -> None:
    net = network()
    job, x = job_of(net, tmp_path), torch.rand(20, 2, 6, 6)
    points = integer_points(net, LAYERS)
    ranges = observe(net, job, points, 70)
    errors = []
    for bits in (2, 4, 6, 8):
        made = with_rounded_values(net, points, ranges, "mse", bits)
        errors.append(float((made(x) - net(x)).square().mean().detach()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-2 * errors[0]


@pytest.mark.parametrize("bits", [2, 4])
def test_corrected_biases_give_each_layer_its_mean_back(bits: int, tmp_path: Path) -> None:
    reference, net = network(), network()
    job = job_of(net, tmp_path, count=64)
    round_weights(net, ["one.weight"], 2 ** (bits - 1) - 1, per_row=True)
    before = net.get_parameter("two.bias").detach().clone()
    x = job.preprocess(job.fit.images[np.arange(64)], job.device)

    def gap() -> float:
        means = [n.get_submodule("one")(x).mean((0, 2, 3)) for n in (reference, net)]
        return float((means[0] - means[1]).abs().max().detach())

    assert gap() > 1e-3
    correct_biases(reference, net, job, ["one"], 64)
    assert gap() < 1e-5
    assert torch.equal(net.get_parameter("two.bias"), before)
    assert not reference.get_submodule("one")._forward_hooks


def test_training_stays_on_the_grids_and_comes_nearer(tmp_path: Path) -> None:
    net, free = network(), network()
    with torch.no_grad():
        free.get_parameter("one.weight")[0, 0] = 0  # pruned
        net.load_state_dict(free.state_dict())
    job, names = job_of(network(), tmp_path), ["one.weight", "two.weight"]
    steps = round_weights(net, names, 3, per_row=True)
    x = torch.rand(50, 2, 6, 6)

    def error() -> float:
        return float((net(x) - job.teacher(x)).square().mean().detach())

    before, weights = error(), {name: free.get_parameter(name) for name in names}
    train_on_grids(net, job, weights, steps, 3, epochs=0, lr=None)
    assert error() == before
    train_on_grids(net, job, weights, steps, 3, epochs=30, lr=0.05)
    assert error() < 0.7 * before
    for name in names:
        found = row_steps(net.get_parameter(name), 3)
        assert found is not None
        assert not bool((found[0] % steps[name].flatten()).any())
    assert not net.get_parameter("one.weight")[0, 0].any()
    assert {name for name, _ in net.named_buffers()} == set()
