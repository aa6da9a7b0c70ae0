"""What pruning and sharing promise, in whole compressions: exact densities, k values, zeros that stay, same seed same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_networks import digits_network, plain_network, residual_network, state_bytes, toy_data

from netpress.errors import ConfigError, UnknownNameError
from netpress.maths import effective_values
from netpress.methods.prune import EVERY_STEPS, GradualPruning, Group, Prune
from netpress.methods.share import Share
from netpress.pipeline import Method, Recipe, Result, compress
from netpress.pipeline.values import layers_of
from netpress.progress import SilentProgress
from netpress.training.loop import Trainer, _Run

TRAININGS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-3},
    "adam": {"optimizer": "adam", "lr": 1e-3, "nesterov": False},
}


def pressed(net: nn.Module, *methods: Method, training: Mapping[str, Any] | None = None, **arguments: Any) -> Result:
    plan = {"epochs": 2, "batch_size": 8, "augment": "none", **(training or {})}
    recipe = Recipe.read({"methods": list(methods), "training": plan, "distill": None})
    return compress(net, recipe, toy_data(), latency=False, **arguments)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {layer.module: net.get_parameter(layer.name).detach() for layer in layers_of(net)}


def density(*tensors: Tensor) -> float:
    return sum(int(t.count_nonzero()) for t in tensors) / sum(t.numel() for t in tensors)


class Said:
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, label: str, total: int | None = None):
        return SilentProgress().step(label, total)

    def say(self, text: str) -> None:
        self.lines.append(text)


# Prune -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("schedule", ["one_shot", "gradual"])
def test_the_density_of_each_layer_is_exact_after_retraining(schedule: Any, training: str) -> None:
    method = Prune(density=0.3, conv=0.5, by_layer={"4": 0.25}, schedule=schedule)
    result = pressed(plain_network(), method, training=TRAININGS[training])
    before, after = weights(plain_network()), weights(result.network)
    for name, share in {"0": 0.5, "4": 0.25, "8": 0.3}.items():
        assert int(after[name].count_nonzero()) == int(share * before[name].numel() + 0.5), name
        assert bool((after[name] != before[name])[after[name] != 0].any()), "nothing was trained"


def test_one_shot_keeps_the_largest() -> None:
    result = pressed(plain_network(), Prune(density=0.3), training={"epochs": 0})
    for name, w in weights(plain_network()).items():
        kept = weights(result.network)[name]
        assert torch.equal(kept[kept != 0], w[kept != 0])
        assert float(w[kept == 0].abs().max()) <= float(w[kept != 0].abs().min())


def test_gradual_pruning_without_epochs_still_prunes() -> None:
    result = pressed(plain_network(), Prune(density=0.3, schedule="gradual"), training={"epochs": 0})
    assert density(*weights(result.network).values()) == pytest.approx(0.3, abs=0.01)


def test_gradual_pruning_follows_its_schedule() -> None:
    net = nn.Linear(100, 100)
    constraint = GradualPruning((Group(("weight",), 0.1),), "layer", until=100)
    seen = []
    for step in range(120):
        constraint.after_backward(net, step)
        constraint.after_step(net, step)
        seen.append(int(net.weight.count_nonzero()) / 10_000)
    assert seen[: EVERY_STEPS - 1] == [1.0] * (EVERY_STEPS - 1)
    assert seen[EVERY_STEPS - 1] == pytest.approx(0.1 + 0.9 * 0.8**3, abs=1e-3)
    assert seen[98] == pytest.approx(0.1 + 0.9 * 0.2**3, abs=1e-3)
    assert seen[99:] == [0.1] * 21


@pytest.mark.parametrize("scope", ["global", "lamp"])
def test_one_threshold_over_all_layers(scope: Any) -> None:
    net = plain_network()
    with torch.no_grad():
        net[8].weight.mul_(1e-3)
    result = pressed(net, Prune(density=0.3, scope=scope), training={"epochs": 0})
    after = weights(result.network)
    assert density(*after.values()) == pytest.approx(0.3, abs=0.01)
    assert (density(after["8"]) > 0.05) == (scope == "lamp"), "the plain threshold empties the layer of small weights"


def test_one_threshold_for_each_field_that_says_a_density() -> None:
    method = Prune(density=0.5, conv=0.2, by_layer={"head": 0.4}, scope="global")
    after = weights(pressed(residual_network(), method, training={"epochs": 0}).network)
    assert density(after["head"]) == pytest.approx(0.4, abs=0.01)
    assert density(*(w for name, w in after.items() if name != "head")) == pytest.approx(0.2, abs=0.01)


# Share -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("rule", ["cws", "pws", "uq", "ecsq"])
def test_k_values_after_retraining(rule: Any, training: str) -> None:
    result = pressed(plain_network(), Share(rule=rule, k=8), training=TRAININGS[training])
    unshared = weights(plain_network())
    for name, w in weights(result.network).items():
        found = effective_values(w)
        assert found == 8 if rule in ("cws", "pws") else 4 <= found <= 8
        assert not bool((w == unshared[name]).all())


def test_kinds_and_layers_have_their_own_k() -> None:
    method = Share(k=8, conv=5, bias=3, by_layer={"4": 12, "8.bias": 0})
    net = plain_network()
    result = pressed(net, method)
    assert {name: effective_values(w) for name, w in weights(result.network).items()} == {"0": 5, "4": 12, "8": 8}
    after = dict(result.network.named_parameters())
    assert effective_values(after["0.bias"].detach()) == 3
    assert effective_values(after["8.bias"].detach()) == 4
    untouched = pressed(net, Share(k=0, fc=6), training={"epochs": 0})
    assert {name: effective_values(w) for name, w in weights(untouched.network).items()} == {
        "0": effective_values(net[0].weight.detach()),
        "4": effective_values(net[4].weight.detach()),
        "8": 6,
    }


def test_unified_codebooks_hold_over_layers_after_retraining() -> None:
    result = pressed(plain_network(), Share(k=7, unified=True))
    after = weights(result.network)
    assert effective_values(torch.cat([after["0"].reshape(-1), after["4"].reshape(-1)])) == 7
    assert effective_values(torch.cat([w.reshape(-1) for w in after.values()])) == 14
    own = pressed(plain_network(), Share(k=7, unified=True, by_layer={"4": 3}), training={"epochs": 0})
    assert effective_values(weights(own.network)["4"]) == 3


def test_the_values_found_are_reported() -> None:
    said = Said()
    pressed(plain_network(), Prune(density=0.5), Share(k=300), training={"epochs": 0}, progress=said)
    assert "kept 499 of 998 weights in 3 layers" in said.lines
    assert "0.weight: k = 300, 27 values" in said.lines


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("schedule", ["one_shot", "gradual"])
def test_pruned_then_shared_keeps_zeros_and_values(schedule: Any, training: str) -> None:
    methods = Prune(density=0.4, schedule=schedule), Share(k=6)
    result = pressed(plain_network(), *methods, training=TRAININGS[training])
    for w in weights(result.network).values():
        assert int(w.count_nonzero()) == int(0.4 * w.numel() + 0.5)
        assert effective_values(w) == 6


# Both --------------------------------------------------------------------------------------------------------------

CHAINS: dict[str, tuple[Method, ...]] = {
    "gradual, pws": (Prune(density=0.4, schedule="gradual"), Share(rule="pws", k=6)),
    "lamp, ecsq": (Prune(density=0.4, scope="lamp"), Share(rule="ecsq", k=6, unified=True)),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(chain: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.netpress" for i in range(3)]
    for file, seed in zip(files, (4, 4, 5), strict=True):
        pressed(plain_network(), *CHAINS[chain], seed=seed, out=file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()


@pytest.mark.parametrize("at", [3, 8, 14])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_killed_run_goes_on_to_the_same_bytes(chain: str, at: int, tmp_path: Path, monkeypatch) -> None:
    """Killed in step ``at`` of some training, then started again with the same arguments."""
    whole = pressed(plain_network(), *CHAINS[chain])
    monkeypatch.setattr(Trainer.__init__, "__defaults__", ("cpu", 0, None, None, 0.0))
    killed, step_of = [], _Run._step

    class KilledError(Exception):
        pass

    def step(run: _Run, x: Any, y: Any) -> None:
        if run.counters.step == at % run.steps and len(killed) < 2:
            killed.append(at)
            raise KilledError
        step_of(run, x, y)

    monkeypatch.setattr(_Run, "_step", step)
    for _ in range(2):
        with pytest.raises(KilledError):
            pressed(plain_network(), *CHAINS[chain], work_dir=tmp_path)
    again = pressed(plain_network(), *CHAINS[chain], work_dir=tmp_path)
    assert state_bytes(again.network) == state_bytes(whole.network)


def test_a_pruned_and_shared_network_is_a_smaller_file() -> None:
    result = pressed(digits_network(), Prune(density=0.1), Share(k=16), training={"epochs": 0})
    assert result.after.size_bytes is not None
    assert result.before.size_bytes is not None
    assert result.after.size_bytes < result.before.size_bytes / 10


@pytest.mark.parametrize("method", [Prune, Share])
def test_an_unknown_layer_is_named_with_the_nearest(method: type[Method]) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown layer in by_layer; got: 'block\.9'.*did you mean 'block\.\d'"):
        pressed(residual_network(), method(by_layer={"block.9": 1}))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Prune(density=0.0), "a density is out of range; got: 0.0; allowed: above 0, at most 1"),
        (lambda: Prune(fc=1.5), "got: 1.5"),
        (lambda: Prune(by_layer={"a": -1.0}), "got: -1.0"),
        (lambda: Prune(by_layer={"a": "b"}), "by_layer has a wrong entry"),
        (lambda: Prune(scope="all"), "unknown scope; got: 'all'; allowed: layer, global, lamp"),
        (lambda: Prune(schedule="slow"), "unknown schedule"),
        (lambda: Prune(epochs=-1), "epochs is out of range"),
        (lambda: Share(lr=0.0), "lr is out of range"),
        (lambda: Share(k=65537), "k is out of range; got: 65537; allowed: 0 to 65,536"),
        (lambda: Share(rule="pws", fc=1), "k is out of range; got: 1; allowed: 0 or 2 to 65,536 for pws"),
        (lambda: Share(by_layer={"a": True}), "by_layer has a wrong entry"),
        (lambda: Share(rule="kmeans"), "unknown rule; got: 'kmeans'; allowed: cws, pws"),
        (lambda: Share(gradient="max"), "unknown gradient"),
    ],
)
def test_a_wrong_field_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert text in str(caught.value)
