"""What value methods share: choosing layers, zeros that stay zeros, values that stay shared, in the real training loop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from netpress.errors import ConfigError, UnknownNameError
from netpress.maths import effective_values, magnitude_mask
from netpress.pipeline.sharing import RULES, ValuesShared, cluster_sums, share, told_apart, whole_number_sums
from netpress.pipeline.values import Layer, ZerosKept, checked_names, choose, layers_of
from netpress.training import CrossEntropy, Trainer, TrainingPlan

PLANS = {
    "sgd": TrainingPlan(
        epochs=2, optimizer="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3, grad_clip=5.0
    ),
    "adam": TrainingPlan(epochs=2, optimizer="adam", lr=3e-3),
    "adamw": TrainingPlan(epochs=2, optimizer="adamw", lr=3e-3, weight_decay=0.1),
}


def network() -> nn.Module:
    """Two convolutions, channels-last in training, a norm and two linear layers of odd sizes: (N, 1, 8, 8) to (N, 3)."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 7, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(7 * 16, 19), nn.ReLU(), nn.Linear(19, 3),
    )  # fmt: skip


class Batches:
    """Eight batches of noise with labels."""

    def __len__(self) -> int:
        return 8

    def batches(self, epoch: int, start: int = 0):
        for number in range(start, 8):
            g = torch.Generator().manual_seed(100 * epoch + number)
            yield torch.randn(12, 1, 8, 8, generator=g), torch.randint(0, 3, (12,), generator=g)


def train(net: nn.Module, plan: TrainingPlan, *constraints, checkpoint: Path | None = None) -> None:
    Trainer(seed=1, checkpoint=checkpoint).fit(
        net,
        Batches(),
        plan,
        CrossEntropy(),
        after_backward=[c.after_backward for c in constraints],
        after_step=[c.after_step for c in constraints],
    )


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {layer.name: net.get_parameter(layer.name).detach() for layer in layers_of(net)}


def prune(net: nn.Module, density: float) -> None:
    for w in weights(net).values():
        w.masked_fill_(~magnitude_mask(w, density), 0.0)


def state(net: nn.Module) -> dict[str, bytes]:
    return {name: t.contiguous().numpy().tobytes() for name, t in net.state_dict().items()}


# Which layers ------------------------------------------------------------------------------------------------------


def test_layers_by_kind_and_name() -> None:
    net = network()
    assert [layer.name for layer in layers_of(net)] == ["0.weight", "3.weight", "6.weight", "8.weight"]
    assert [layer.name for layer in layers_of(net, ("fc", "bias"))] == [
        "0.bias", "1.weight", "1.bias", "3.bias", "6.weight", "6.bias", "8.weight", "8.bias",
    ]  # fmt: skip
    embedding = nn.ModuleDict({"e": nn.Embedding(4, 3), "tied": nn.Linear(3, 4), "c": nn.Conv1d(3, 2, 1)})
    embedding["tied"].weight = embedding["e"].weight
    assert layers_of(embedding) == (Layer("e.weight", "e", "embedding"), Layer("c.weight", "c", "conv"))


def test_the_setting_of_a_layer_is_the_nearest_one() -> None:
    net = nn.ModuleDict({"features": network(), "head": nn.Linear(3, 2)})
    chosen = choose(net, 1, {"conv": 2, "fc": None, "bias": 0}, {"features": 4, "features.6": 5, "features.0.bias": 6})
    got = {layer.name: setting for layer, setting in chosen.items()}
    assert got["features.0.weight"] == (4, "features")
    assert got["features.6.weight"] == (5, "features.6")
    assert got["head.weight"] == (1, "")
    assert got["features.0.bias"] == (6, "features.0.bias")
    assert got["features.3.bias"] == (0, "bias")
    assert choose(net, 1, {"conv": 2}, {})[Layer("features.0.weight", "features.0", "conv")] == (2, "conv")


def test_an_unknown_layer_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown layer in by_layer; got: 'hed'.*did you mean 'head'"):
        choose(nn.ModuleDict({"head": nn.Linear(3, 2)}), 1, {"fc": None}, {"hed": 3})
    with pytest.raises(UnknownNameError, match="allowed: 0, 3;"):
        choose(network(), 1, {"conv": None}, {"33": 3})
    with pytest.raises(ConfigError, match=r"by_layer has a wrong entry; got: {'a': 'b'}"):
        checked_names({"a": "b"}, float, "a density")
    with pytest.raises(ConfigError, match="by_layer has a wrong entry"):
        checked_names({"a": 1.5}, int, "a number of values")


# Zeros -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", PLANS)
def test_pruned_weights_stay_zero_and_the_others_move(optimizer: str) -> None:
    net = network()
    prune(net, 0.3)
    before = {name: w.clone() for name, w in weights(net).items()}
    train(net, PLANS[optimizer], ZerosKept(tuple(before)))
    for name, w in weights(net).items():
        assert torch.equal(w == 0, before[name] == 0)
        assert not bool(torch.signbit(w[w == 0]).any())
        assert float((w != before[name])[w != 0].float().mean()) > 0.5  # all but those behind a dead ReLU


def test_zeros_stay_even_where_momentum_is_left_from_before() -> None:
    """A weight that is cut in the middle of a training still has momentum: the step must not bring it back."""
    net = network()
    names = tuple(weights(net))

    class CutAt9(ZerosKept):
        def after_step(self, net: nn.Module, step: int, /) -> None:
            super().after_step(net, step)
            if step == 9:
                prune(net, 0.5)

    train(net, PLANS["sgd"], CutAt9(names))
    for w in weights(net).values():
        assert int(w.count_nonzero()) == int(w.numel() * 0.5 + 0.5)


# Shared values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unified", [False, True])
@pytest.mark.parametrize("optimizer", PLANS)
def test_values_stay_shared_and_zeros_zero(optimizer: str, unified: bool) -> None:
    net = network()
    prune(net, 0.6)
    names = tuple(weights(net))
    books = (names[:2], names[2:]) if unified else tuple((n,) for n in names)
    for book in books:
        share(net, book, 6, "cws", seed=0)
    before = {name: w.clone() for name, w in weights(net).items()}
    train(net, PLANS[optimizer], ValuesShared(books))
    after = weights(net)
    for book in books:
        old, new = (torch.cat([w[n].reshape(-1) for n in book]) for w in (before, after))
        assert effective_values(new) == effective_values(old) == 6
        assert torch.equal(old == 0, new == 0)
        pairs = torch.unique(torch.stack([old, new], 1), dim=0)
        assert len(pairs) == 7, "a cluster must move as one"
        assert bool((pairs[:, 0] != pairs[:, 1])[pairs[:, 0] != 0].all())


def test_thousands_of_values_stay_apart() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.Linear(60, 3))
    share(net, ["1.weight"], 2000, "cws", seed=0)
    train(net, PLANS["sgd"], ValuesShared((("1.weight",),)))
    assert effective_values(net[1].weight.detach()) == 2000


@pytest.mark.parametrize("gradient", ["mean", "sum"])
def test_one_step_of_sgd_is_the_step_of_the_shared_value(gradient: str) -> None:
    """dL/dc by hand: L = sum(w * x) with w = [[a, b, 0], [a, a, b]]."""
    net = nn.Linear(3, 2, bias=False)
    w = torch.tensor([[1.0, 2.0, 0.0], [1.0, 1.0, 2.0]])
    net.weight.data.copy_(w)
    shared = ValuesShared((("weight",),), gradient)
    x = torch.tensor([[1.0, 10.0, 100.0]])
    net(x).sum().backward()
    shared.after_backward(net, 0)
    a, b = 1.0 + 1.0 + 10.0, 10.0 + 100.0
    if gradient == "mean":
        a, b = a / 3, b / 2
    assert net.weight.grad.tolist() == [[a, b, 0.0], [a, a, b]]
    torch.optim.SGD(net.parameters(), lr=0.5).step()
    shared.after_step(net, 0)
    assert net.weight.tolist() == [[1 - a / 2, 2 - b / 2, 0.0], [1 - a / 2, 1 - a / 2, 2 - b / 2]]


def test_a_frozen_layer_is_left_as_it_is() -> None:
    net = network()
    books = tuple((n,) for n in weights(net))
    for book in books:
        share(net, book, 5, "uq", seed=0)
    net[3].weight.requires_grad_(False)
    frozen = net[3].weight.clone()
    train(net, PLANS["sgd"], ZerosKept(tuple(weights(net))), ValuesShared(books))
    assert torch.equal(net[3].weight, frozen)
    assert not net[3].weight.requires_grad


@pytest.mark.parametrize("optimizer", PLANS)
def test_a_killed_training_goes_on_to_the_same_bytes(optimizer: str, tmp_path: Path) -> None:
    def ready() -> tuple[nn.Module, tuple]:
        net = network()
        prune(net, 0.6)
        books = (tuple(weights(net)),)
        share(net, books[0], 9, "pws", seed=0)
        return net, (ZerosKept(books[0]), ValuesShared(books))

    class KilledError(Exception):
        pass

    class KilledAt11(ZerosKept):
        def after_step(self, net: nn.Module, step: int, /) -> None:
            if step == 11 and not (tmp_path / "killed").exists():
                (tmp_path / "killed").touch()
                raise KilledError

    whole, constraints = ready()
    train(whole, PLANS[optimizer], *constraints)
    net, constraints = ready()
    loop = Trainer(seed=1, checkpoint=tmp_path / "c", checkpoint_every_s=0.0)
    for attempt in range(2):
        hooks = (*constraints, KilledAt11(()))
        arguments = (net, Batches(), PLANS[optimizer], CrossEntropy())
        steps = {"after_backward": [c.after_backward for c in hooks], "after_step": [c.after_step for c in hooks]}
        if attempt == 0:
            with pytest.raises(KilledError):
                loop.fit(*arguments, **steps)
            net, constraints = ready()  # a new process: nothing is left but the checkpoint
        else:
            loop.fit(*arguments, **steps)
    assert state(net) == state(whole)


def test_clusters_are_found_anew_when_someone_changes_the_weights() -> None:
    net = nn.Linear(2, 2, bias=False)
    shared = ValuesShared((("weight",),))
    for values in ([[1.0, 1.0], [2.0, 2.0]], [[1.0, 3.0], [3.0, 1.0]]):
        with torch.no_grad():
            net.weight.copy_(torch.tensor(values))
        net.weight.grad = torch.tensor([[1.0, 3.0], [5.0, 9.0]])
        shared.after_backward(net, 0)
        shared.after_step(net, 0)
        assert net.weight.tolist() == values
    assert net.weight.grad.tolist() == [[5.0, 4.0], [4.0, 5.0]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([-1.0, -1e-45, 0.0, 1e-45, 2.0, 2.0000002, 5.0]), min_size=1, max_size=12), st.randoms()
)
def test_values_told_apart_are_distinct_not_zero_and_hardly_moved(values: list[float], random) -> None:
    v = torch.tensor(values)
    rank = torch.tensor(random.sample(range(len(v)), len(v)))
    apart = told_apart(v, rank)
    assert len(torch.unique(apart)) == len(v)
    assert bool((apart != 0).all())
    assert float((apart - v).abs().max()) < 1e-5
    swapped = torch.randperm(len(v))
    assert torch.equal(told_apart(v[swapped], rank[swapped]), apart[swapped]), "numbering must not matter"


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
def test_cluster_sums_are_sums(scale: float) -> None:
    gradient, numbers = torch.randn(7, 31) * scale, torch.randint(0, 5, (7, 31))
    expected = [float(gradient[numbers == c].double().sum()) for c in range(6)]
    assert cluster_sums(gradient, numbers, 6).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-14 * scale)
    flat, where = gradient.double().reshape(-1), numbers.reshape(-1)
    whole = whole_number_sums(flat, where, 6)
    assert whole.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-14 * scale)
    order = torch.randperm(len(flat))
    assert torch.equal(whole, whole_number_sums(flat[order], where[order], 6)), "the order must not matter"


def test_a_broken_gradient_stays_visible() -> None:
    flat = torch.tensor([1.0, torch.nan, torch.inf], dtype=torch.float64)
    assert not bool(whole_number_sums(flat, torch.tensor([0, 1, 1]), 2).isfinite().all())
    assert whole_number_sums(flat[:0], torch.empty(0, dtype=torch.int64), 2).tolist() == [0, 0]


def test_each_codebook_draws_its_own_numbers() -> None:
    torch.manual_seed(0)
    net = nn.ModuleList([nn.Linear(20, 20), nn.Linear(20, 20)])
    net[1].weight.data.copy_(net[0].weight.data)
    for name in ("0.weight", "1.weight"):
        share(net, [name], 4, "pws", seed=5)
    assert not torch.equal(net[0].weight, net[1].weight)
    assert set(RULES) >= {"cws", "pws", "uq", "ecsq"}
