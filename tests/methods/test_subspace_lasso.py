"""System 3: subspaces and LASSO, what they promise beyond conformance."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toy_networks import digits_network, plain_network, quick_recipe, residual_network, toy_data

from netpress.data import Split
from netpress.errors import BudgetError, ConfigError
from netpress.graph import count, trace
from netpress.pipeline import Recipe, Result, compress
from netpress.pipeline.dead import without_dead_channels
from netpress.progress import SilentProgress


def pressed(name: str, network: nn.Module, budget: str | None = None, *, data: Any = None, **settings: Any) -> Result:
    recipe = quick_recipe(name, {f"{name}.{key}": value for key, value in settings.items()}, epochs=0)
    return compress(network, recipe, data or toy_data(), budget, latency=False)


def unlabelled() -> Any:
    data = toy_data()
    strip = lambda split: Split(split.images, None)  # noqa: E731
    return dataclasses.replace(data, train=strip(data.train), test=strip(data.test))


def test_all_the_energy_keeps_every_channel_that_says_something_of_its_own() -> None:
    network = plain_network()
    with torch.no_grad():  # channels 1 and 4 say what 0 and 2 say
        for to, of in ((1, 0), (4, 2)):
            network[0].weight[to], network[0].bias[to] = network[0].weight[of] * 2, network[0].bias[of] * 2
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(network[1], name)[to] = getattr(network[1], name)[of]
            network[1].running_var[to] *= 4
            network[1].running_mean[to] *= 2
    wide = network.eval()
    x = torch.rand(16, 1, 8, 8)
    errors = []
    for samples in (0, 256):
        result = pressed("subspace", network, energy=1 - 1e-5, reconstruct=samples, recalibrate=0)
        assert result.network.get_parameter("0.weight").shape[0] == 4
        with torch.no_grad():
            errors.append(float((wide(x) - result.network(x)).abs().max()))
    assert errors[1] < 0.3 * errors[0]  # what stays can say what went said


def test_full_width_starts_as_the_teacher() -> None:
    network = residual_network().eval()
    result = pressed("subspace", network, energy=1.0, reconstruct=0, recalibrate=0)
    x = torch.rand(8, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(network(x), result.network(x), atol=1e-6)


def test_less_energy_keeps_fewer_channels_and_a_budget_goes_on_from_there() -> None:
    sizes = [pressed("subspace", digits_network(), energy=e).after.params for e in (0.999, 0.9, 0.5)]
    assert sizes[0] > sizes[1] > sizes[2]
    both = pressed("subspace", digits_network(), "params=5%", energy=0.9)
    assert both.after.params <= 0.05 * both.before.params
    with pytest.raises(BudgetError, match="how many"):
        pressed("subspace", digits_network())


@pytest.mark.parametrize("settings", [{"energy": 0.0}, {"match": -1.0}, {"samples": 1}])
def test_wrong_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        pressed("subspace", plain_network(), "macs=50%", **settings)


def test_the_whole_recipe_learns_without_labels() -> None:
    recipe = Recipe.read("subspace_lasso").with_settings(
        ["training.epochs=1", "lasso.density=.3", "training.batch_size=32"]
    )
    result = compress(digits_network(), recipe, unlabelled(), "params=40%", latency=False)
    assert result.quality_after is None
    assert result.after.params <= 0.4 * result.before.params
    weights = [p for p in result.network.parameters() if p.dim() > 1]
    nonzero, total = sum(int(p.count_nonzero()) for p in weights), sum(p.numel() for p in weights)
    assert (
        nonzero <= 0.31 * total or total < 0.39 * result.before.params
    )  # dead channels are gone from the tensors, too


@pytest.mark.parametrize("density", [0.5, 0.1])
def test_lasso_leaves_the_density_and_exact_zeros(density: float) -> None:
    recipe = quick_recipe("lasso", {"lasso.density": density, "lasso.epochs": 1, "lasso.debias": 1})
    network = plain_network()
    result = compress(network, recipe, toy_data(), None, latency=False)
    total = sum(p.numel() for p in network.parameters() if p.dim() > 1)
    left = sum(int(p.count_nonzero()) for p in result.network.parameters() if p.dim() > 1)
    assert left <= density * total + 1


def test_group_lasso_meets_the_budget() -> None:
    result = pressed("group_lasso", residual_network(), "macs=60%", epochs=1, strength=0.05)
    assert 0 < result.after.macs <= 0.6 * result.before.macs


def test_channels_that_nobody_reads_go_and_nothing_changes() -> None:
    network = plain_network().eval()
    with torch.no_grad():
        network[8].weight.view(4, 8, 16)[:, [1, 5]] = 0  # the last convolution's channels 1 and 5
        network[4].weight[[0, 2, 3, 4, 6, 7], 3] = 0  # channel 3 is read by those two alone
    x = torch.rand(4, 1, 8, 8)
    traced = trace(network, x)
    smaller, removed = without_dead_channels(traced, x)
    assert removed == 3
    assert smaller.get_parameter("4.weight").shape == (6, 5, 3, 3)
    assert torch.allclose(smaller(x), network(x), atol=1e-6)
    assert count(smaller).params < count(traced).params
    again, none = without_dead_channels(smaller, x)
    assert none == 0
    assert again is smaller


class Said(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_the_decoders_that_are_dropped_rebuild_the_teachers_features_within_the_printed_error() -> None:
    network, data, said = digits_network().eval(), toy_data(400), Said()
    recipe = Recipe.read({"methods": ["subspace"], "training": {"epochs": 0}, "hold_out": 0.5})
    result = compress(network, recipe, data, "params=30%", latency=False, progress=said)
    line = next(text for text in said.lines if "linear decoders" in text)
    mean, most, reader = re.findall(r"miss (\S+) \(mean.*most: (\S+) before (\S+)\)", line)[0]
    held = data.train.hold_out(0.5, seed=0)[1]
    x = data.preprocess(held.images[torch.arange(len(held)).numpy()], torch.device("cpu"))
    errors = {}
    for layer in ("features.3", "features.7", "features.10", "classifier"):
        rows = []
        for net in (result.network, trace(network, x)):
            seen: list[torch.Tensor] = []
            handle = net.get_submodule(layer).register_forward_pre_hook(lambda _, given, to=seen: to.append(given[0]))
            with torch.no_grad():
                net(x)
            handle.remove()
            rows.append(seen[0].movedim(1, -1).flatten(0, -2).double())
        s, t = (each - each.mean(0) for each in rows)
        left = t - s @ torch.linalg.lstsq(s, t, driver="gelsd").solution
        errors[layer] = float(left.square().sum() / t.square().sum())
    assert float(most) == pytest.approx(
        max(errors.values()), abs=0.01
    )  # a ridge is all that differs, and a sample of places
    assert errors[reader] == max(errors.values())
    assert float(mean) == pytest.approx(sum(errors.values()) / 4, abs=0.01)
    assert float(most) > 0.001  # there was something to miss


def test_no_label_is_ever_read(tmp_path: Path) -> None:
    """A data source that raises on labels: all of the recipe runs on it, and labels that are asked for are refused."""
    np.savez(tmp_path / "toy.npz", x=toy_data().train.images)
    source = tmp_path / "sealed.py"
    source.write_text(
        "import numpy as np\n"
        "from netpress import Data, Split\n"
        "class Sealed(Split):\n"
        "    @property\n"
        "    def labels(self):\n"
        "        raise RuntimeError('somebody reads labels')\n"
        "    @labels.setter\n"
        "    def labels(self, value):\n"
        "        pass\n"
        "def make():\n"
        f"    x = np.load({str(tmp_path / 'toy.npz')!r})['x']\n"
        "    sealed = Sealed.__new__(Sealed)\n"
        "    object.__setattr__(sealed, 'images', x)\n"
        "    return Data('sealed', sealed, Split(x[:8], np.arange(8) % 4), tuple('abcd'))\n",
        encoding="utf-8",
    )
    recipe = Recipe.read("subspace_lasso").with_settings(["training.epochs=1", "training.batch_size=16"])
    result = compress(digits_network(), recipe, f"{source}:make?labels=test", "params=40%", latency=False)
    assert result.quality_after is not None
    assert result.quality_after.split == "test"
    assert result.held_out is None
    with pytest.raises(RuntimeError, match="somebody reads labels"):
        compress(digits_network(), recipe, f"{source}:make", "params=40%", latency=False)
