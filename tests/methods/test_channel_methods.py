"""What methods that take channels away promise beyond conformance: bounds of blocks, multiples, bytes, latency, errors."""

from __future__ import annotations

import re
import types
from typing import Any

import pytest
import torch
from torch import nn
from toy_networks import digits_network, plain_network, quick_recipe, residual_network, toy_data

import netpress
from netpress.errors import BudgetError, ConfigError, UnknownNameError
from netpress.graph import GraphNetwork, count, trace
from netpress.methods.blockwise import Blockwise
from netpress.methods.magnitude import Magnitude
from netpress.methods.slimming import Slimming
from netpress.methods.width import Width
from netpress.pipeline import Result, compress, narrowing
from netpress.pipeline.blocks import find_blocks
from netpress.pipeline.narrowing import ChannelMethod
from netpress.progress import SilentProgress

every_method = pytest.mark.parametrize("name", ["width", "magnitude"])


def pressed(
    name: str, network: nn.Module, budget: str | None = None, settings: dict[str, Any] | None = None, **more: Any
) -> Result:
    recipe = quick_recipe(name, {f"{name}.{key}": value for key, value in (settings or {}).items()}, epochs=0)
    return compress(network, recipe, toy_data(), budget, latency=False, **more)


def macs_within(network: nn.Module, name: str) -> int:
    traced = network if isinstance(network, GraphNetwork) else trace(network.eval(), torch.zeros(2, 1, 8, 8))
    return sum(row.macs for row in count(traced).layers if f"{row.name}.".startswith(f"{name}."))


@every_method
def test_tensors_are_smaller_and_the_file_gives_the_same(name: str, tmp_path) -> None:
    original = plain_network()
    result = pressed(name, original, "macs=50%", out=tmp_path / "small.netpress")
    assert result.after.macs <= 0.5 * result.before.macs
    shapes = {key: tuple(value.shape) for key, value in result.network.state_dict().items()}
    before = {key: tuple(value.shape) for key, value in original.state_dict().items()}
    assert shapes.keys() == before.keys()
    assert shapes["0.weight"][0] == shapes["1.running_mean"][0] == shapes["4.weight"][1] < 6
    assert shapes["4.weight"][0] == shapes["5.bias"][0] == shapes["8.weight"][1] // 16 < 8
    assert all(int(value.count_nonzero()) > 0 for key, value in result.network.state_dict().items() if "weight" in key)
    loaded, x = netpress.load(tmp_path / "small.netpress"), torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(x), result.network(x))
    assert loaded.get_submodule("0").out_channels == shapes["0.weight"][0]


def narrowed(method: ChannelMethod, network: nn.Module, **bounds: float) -> GraphNetwork:
    """As cut, under absolute bounds, without the rest of the pipeline."""
    traced = trace(network.eval(), torch.zeros(2, 1, 8, 8))
    data = toy_data()
    job = types.SimpleNamespace(
        bounds=bounds, progress=SilentProgress(), fit=data.train, preprocess=data.preprocess, seed=0,
        device=torch.device("cpu"), task="classification",
    )  # fmt: skip
    return method.narrowed(traced, job).network


def test_width_narrows_every_layer_alike() -> None:
    before = {n: p.shape for n, p in digits_network().named_parameters() if p.dim() == 4}
    network = narrowed(Width(), digits_network(), params=0.4 * 93_924)
    shares = [network.get_parameter(name).shape[0] / shape[0] for name, shape in before.items()]
    assert max(shares) - min(shares) < 0.1
    assert max(shares) < 0.75


@pytest.mark.parametrize("scope", ["global", "block", "layer"])
@pytest.mark.parametrize("score", ["l1", "l2", "bn", "fisher"])
def test_every_score_meets_the_budget(score: Any, scope: Any) -> None:
    full = count(trace(residual_network().eval(), torch.zeros(2, 1, 8, 8)))
    for metric, by_cost in (("params", 0.0), ("macs", 1.0)):
        most = 0.6 * getattr(full, metric)
        method = Magnitude(score=score, scope=scope, by_cost=by_cost)
        found = getattr(count(narrowed(method, residual_network(), **{metric: most})), metric)
        assert 0.6 * most < found <= most


@pytest.mark.parametrize("method", [Magnitude(scope="block"), Slimming(scope="block"), Blockwise(scope="block")])
def test_every_block_keeps_the_same_share(method: ChannelMethod) -> None:
    network = digits_network()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # equal scales would leave everything to the order of layers
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(0))
    wide = trace(network.eval(), torch.zeros(2, 1, 8, 8))
    narrow = narrowed(method, network, macs=0.5 * count(wide).macs)
    blocks = find_blocks(wide)
    assert len(blocks) > 1
    for block in blocks:
        before, after = (sum(r.macs for r in count(net).layers if r.name in block.modules) for net in (wide, narrow))
        assert 0.2 * before < after <= 0.5 * before


def test_channels_with_small_weights_go_first() -> None:
    network = plain_network()
    with torch.no_grad():
        for number in (1, 4):  # filters, and what reads them
            network[0].weight[number] *= 1e-3
            network[4].weight[:, number] *= 1e-3
    kept = network[0].weight.detach()[[0, 2, 3, 5]]
    result = pressed("magnitude", network, settings={"reconstruct": 0, "recalibrate": 0, "blocks": {"0": 4 / 6}})
    assert torch.equal(result.network.get_parameter("0.weight"), kept)
    assert result.network.get_parameter("4.weight").shape == (8, 4, 3, 3)


@every_method
def test_shares_of_blocks_hold_beside_the_budget(name: str) -> None:
    before = residual_network()
    result = pressed(name, residual_network(), "macs=80%", {"blocks": {"block": 0.3, "stem": 0.9}})
    for block, share in (("block", 0.3), ("stem", 0.9)):
        assert 0 < macs_within(result.network, block) <= share * macs_within(before, block)
    assert result.after.macs <= 0.8 * result.before.macs
    # without a budget shares are of multiplications
    alone = pressed(name, residual_network(), None, {"blocks": {"block": 0.5}})
    assert macs_within(alone.network, "block") <= 0.5 * macs_within(before, "block")


@every_method
def test_whole_layers_stay_whole(name: str) -> None:
    result = pressed(name, plain_network(), "macs=70%", {"whole": ["0"]})
    assert result.network.get_parameter("0.weight").shape[0] == 6
    assert result.network.get_parameter("4.weight").shape[0] < 8


@pytest.mark.parametrize("method", [Width(multiple=8, least=16), Magnitude(multiple=8, least=16)])
def test_least_and_multiple(method: ChannelMethod) -> None:
    network = narrowed(method, digits_network(), params=0.3 * 93_924)
    before = {n: p.shape[0] for n, p in digits_network().named_parameters() if p.dim() == 4}
    after = {name: network.get_parameter(name).shape[0] for name in before}
    assert after != before
    for name, width in after.items():
        assert width == before[name] or (width % 8 == 0 and width >= 16)


@pytest.mark.parametrize("share", [80, 20])
def test_the_file_keeps_its_bound_and_uses_it(share: int, tmp_path) -> None:
    file = tmp_path / "r.netpress"
    result = pressed("magnitude", digits_network(), f"bytes={share}%", out=file)
    bound = share / 100 * result.before.size_bytes
    assert bound - 4000 < file.stat().st_size <= bound  # one channel of the widest layer has less than 3 kB


def test_a_file_that_cannot_be_so_small_is_refused_with_what_can_be() -> None:
    with pytest.raises(BudgetError) as caught:
        pressed("magnitude", plain_network(), "bytes=300")
    text = str(caught.value)
    assert "the budget cannot be met by taking channels away; got: the file has up to " in text
    assert "bytes with the fewest channels; allowed: bytes <= 300; remedy: " in text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Latency is a hundredth of a millisecond a thousand MACs, as told by no clock; the MACs of what was timed."""
    timed: list[int] = []

    def told(network: GraphNetwork, *_: Any, **__: Any) -> types.SimpleNamespace:
        timed.append(count(network).macs)
        return types.SimpleNamespace(median=timed[-1] / 1e5)

    monkeypatch.setattr(narrowing, "time_one", told)
    return timed


def narrowed_to(latency_ms: float, **bounds: float) -> int:
    """MACs of the digits network with such a bound."""
    return count(narrowed(Width(), digits_network(), latency_ms=latency_ms, **bounds)).macs


def test_a_bound_on_latency_is_met_by_bisection(clock: list[int]) -> None:
    full = count(trace(digits_network().eval(), torch.zeros(2, 1, 8, 8))).macs
    macs = narrowed_to(0.4 * full / 1e5)
    assert 0.36 * full < macs <= 0.4 * full
    assert len(clock) <= 1 + narrowing.MOST_TRIALS
    assert macs in clock  # what is handed over was timed


def test_a_latency_that_is_kept_by_the_other_bounds_takes_nothing_more(clock: list[int]) -> None:
    full = count(trace(digits_network().eval(), torch.zeros(2, 1, 8, 8))).macs
    assert narrowed_to(2 * full / 1e5) == full
    assert clock == [full]
    assert narrowed_to(0.5 * full / 1e5, macs=0.3 * full) <= 0.3 * full


def test_a_latency_out_of_reach_is_refused(clock: list[int]) -> None:
    with pytest.raises(BudgetError) as caught:
        narrowed_to(1e-6)
    least = min(clock) / 1e5
    assert str(caught.value) == (
        "the budget cannot be met by taking channels away; "
        f"got: latency_ms is {least:.3g} with the fewest channels, on this machine; allowed: latency_ms <= 1e-06; "
        "remedy: allow more, or use a method that removes layers"
    )
    assert len(clock) == 2


@every_method
def test_without_a_budget_nothing_is_known_to_do(name: str) -> None:
    with pytest.raises(BudgetError) as caught:
        pressed(name, plain_network())
    assert str(caught.value) == (
        "a method that takes channels away needs to know how many; got: no budget; "
        "allowed: macs, params, bytes, latency_ms, each absolute or a share; remedy: give --budget macs=50%"
    )


@every_method
def test_names_that_no_module_has(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown module in blocks; got: 'blck'; .*did you mean 'block"):
        pressed(name, residual_network(), "macs=50%", {"blocks": {"blck": 0.5}})
    with pytest.raises(UnknownNameError, match=r"unknown module; got: 'blck'; .*did you mean 'block"):
        pressed(name, residual_network(), "macs=50%", {"whole": ["blck"]})


@every_method
def test_a_network_without_channels_to_cut(name: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(BudgetError) as caught:
        pressed(name, network, "macs=50%")
    assert str(caught.value) == (
        "the network has no channels that could be taken away; got: 1: the network's output; "
        "remedy: use a method that changes values (prune, share)"
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"least": 0}, "least is out of range; got: 0; allowed: 1 or more"),
        ({"multiple": 0}, "multiple is out of range; got: 0; allowed: 1 or more"),
        ({"reconstruct": -1}, "reconstruct is out of range; got: -1; allowed: 0 or more images"),
        ({"recalibrate": -1}, "recalibrate is out of range; got: -1; allowed: 0 or more images"),
        (
            {"blocks": {"a": 0}},
            "blocks has a wrong entry; got: {'a': 0}; allowed: a module's name: a share above 0, at most 1",
        ),
        ({"blocks": {"a": 1.5}}, "blocks has a wrong entry; got: {'a': 1.5}"),
        ({"score": "l3"}, "unknown score; got: 'l3'; allowed: l1, l2, bn, fisher"),
        ({"scope": "stage"}, "unknown scope; got: 'stage'; allowed: global, block, layer"),
    ],
)
def test_fields_out_of_range(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Magnitude(**settings)
    assert text in str(caught.value)


def test_what_was_made_good_is_told() -> None:
    told: list[str] = []

    class Listening(SilentProgress):
        def say(self, text: str) -> None:
            told.append(text)

    pressed("magnitude", plain_network(), "macs=60%", progress=Listening())
    line = next(text for text in told if text.startswith("on held-out images"))
    figure = r"\d+\.\d\d %"
    assert re.fullmatch(
        rf"on held-out images, before any training: {figure} as cut, {figure} after least squares, "
        rf"{figure} with statistics re-estimated",
        line,
    )
    assert "kept whole: 8 (the network's output)" in told
    told.clear()
    pressed("magnitude", plain_network(), "macs=60%", {"reconstruct": 0, "recalibrate": 0}, progress=Listening())
    assert re.fullmatch(
        rf"on held-out images, before any training: {figure} as cut", next(t for t in told if "held" in t)
    )
