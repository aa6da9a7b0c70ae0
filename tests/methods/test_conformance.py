"""What every method must keep to. The list of methods is found, not written: a new file in ``methods/`` is tested here."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
import re
import subprocess
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toy_networks import (
    digits_network,
    odd_network,
    plain_network,
    quick_recipe,
    residual_network,
    squeezed,
    state_bytes,
    toy_data,
)

import netpress
from netpress.data import Data, Split
from netpress.errors import BudgetError, ConfigError, DataError, UnknownNameError
from netpress.graph import count
from netpress.pipeline import Method, Recipe, Result, compress, field_docs, find_method, method_name, method_names

every_method = pytest.mark.parametrize("name", method_names())
every_network = pytest.mark.parametrize("kind", ["plain", "residual"])
NETWORKS = {"plain": (plain_network, "4"), "residual": (residual_network, None)}


@dataclass(frozen=True)
class Run:
    """One compression and what was seen beside it."""

    result: Result
    file: Path
    original: nn.Module
    flags: list[tuple[str, bool]]
    state: dict[str, bytes]
    teacher: nn.Module
    teacher_state: dict[str, bytes]


def flags_of(network: nn.Module) -> list[tuple[str, bool]]:
    return [(name, m.training) for name, m in network.named_modules()] + [
        (name, p.requires_grad) for name, p in network.named_parameters()
    ]


def with_mixed_flags(network: nn.Module) -> nn.Module:
    """Neither all in training nor all trainable: each flag must come back as it was."""
    next(network.train().children()).eval()
    next(network.parameters()).requires_grad_(False)
    return network


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> typing.Callable[[str, str], Run]:
    """Compresses a network once by each method, when it is first asked for."""
    folder, done = tmp_path_factory.mktemp("conformance"), {}

    def run(name: str, kind: str) -> Run:
        if (name, kind) not in done:
            build, at = NETWORKS[kind]
            network = with_mixed_flags(build())
            flags, state, seen = flags_of(network), state_bytes(network), {}
            cls = find_method(name)
            whole = cls.apply

            def watched(self: Method, net: Any, job: Any) -> nn.Module:
                seen["teacher"], seen["state"] = job.teacher, state_bytes(job.teacher)
                return whole(self, net, job)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cls, "apply", watched)
                file = folder / f"{name}-{kind}.netpress"
                result = squeezed(name, network, at=at, out=file)
            done[name, kind] = Run(result, file, network, flags, state, seen["teacher"], seen["state"])
        return done[name, kind]

    return run


@every_network
@every_method
def test_the_network_given_is_not_changed_by_one_bit(name: str, kind: str, runs) -> None:
    run = runs(name, kind)
    assert state_bytes(run.original) == run.state
    assert flags_of(run.original) == run.flags
    assert all(p.grad is None for p in run.original.parameters())
    places = {t.untyped_storage().data_ptr() for t in run.original.state_dict().values() if t.numel()}
    assert not places & {t.untyped_storage().data_ptr() for t in run.result.network.state_dict().values() if t.numel()}


@every_network
@every_method
def test_the_teacher_is_not_changed_by_one_bit(name: str, kind: str, runs) -> None:
    run = runs(name, kind)
    assert state_bytes(run.teacher) == run.teacher_state
    x = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(run.teacher.eval()(x), copy.deepcopy(run.original).eval()(x))


@every_method
def test_the_same_seed_gives_the_same_bytes(name: str, runs, tmp_path: Path) -> None:
    run = runs(name, "plain")
    torch.rand(17)  # whatever was drawn before must not matter
    again = tmp_path / "again.netpress"
    network = with_mixed_flags(plain_network())
    squeezed(name, network, at="4", out=again)
    assert again.read_bytes() == run.file.read_bytes()


@every_network
@every_method
def test_the_cost_is_what_is_stored(name: str, kind: str, runs) -> None:
    run = runs(name, kind)
    after, loaded = run.result.after, netpress.load(run.file)
    parameters = dict(loaded.named_parameters())
    rows = {row["name"]: row for row in netpress.inspect(run.file)["tensors"]}
    assert after.params == sum(math.prod(rows[n]["shape"]) for n in parameters)
    assert after.nonzeros == sum(int(p.count_nonzero()) for p in parameters.values())
    assert after.size_bytes == run.file.stat().st_size == netpress.inspect(run.file)["size_bytes"]
    assert after.macs == count(loaded).macs
    assert run.result.before.params == sum(p.numel() for p in run.original.parameters())
    assert run.result.file == run.file


@every_network
@every_method
def test_the_file_answers_as_the_network_does(name: str, kind: str, runs) -> None:
    run = runs(name, kind)
    x = torch.rand(9, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(netpress.load(run.file)(x), run.result.network(x))
    assert not any(m.training for m in run.result.network.modules())
    stored = netpress.artifact.read(run.file)
    assert stored.preprocess == {"scale": 1 / 255, "mean": [], "std": []}
    assert (stored.input_shape, stored.classes) == ((1, 8, 8), tuple("abcd"))


def test_a_fresh_process_gives_the_same_answers_from_the_files_alone(runs, tmp_path: Path) -> None:
    files = {f"{name}-{kind}": runs(name, kind).file for name in method_names() for kind in NETWORKS}
    x = torch.rand(6, 1, 8, 8)
    np.save(tmp_path / "x.npy", x.numpy())
    code = (
        "import json, sys, numpy, torch, netpress\n"
        "x = torch.from_numpy(numpy.load(sys.argv[1]))\n"
        "with torch.no_grad():\n"
        "    out = {k: netpress.load(f)(x).numpy() for k, f in json.loads(sys.argv[2]).items()}\n"
        "numpy.savez(sys.argv[3], **out)\n"
        "assert not any(m.startswith('netpress.methods') for m in sys.modules)\n"
    )
    arguments = [str(tmp_path / "x.npy"), json.dumps({k: str(f) for k, f in files.items()}), str(tmp_path / "y.npz")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, timeout=120)
    answers = np.load(tmp_path / "y.npz")
    assert set(answers) == set(files)
    for key in files:
        with torch.no_grad():
            expected = runs(*key.rsplit("-", 1)).result.network(x).numpy()
        np.testing.assert_allclose(answers[key], expected, rtol=1e-5, atol=1e-5, err_msg=key)


# Budgets, labels, sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["params=55%", "macs=60%", "bytes=70%"])
@every_method
def test_a_budget_holds_or_the_error_says_how_near_it_came(name: str, budget: str) -> None:
    metric, _, share = budget.partition("=")
    recipe = quick_recipe(name, epochs=0)
    stage = find_method(name).stage
    if stage == "baseline" or (stage == "values" and metric != "bytes"):  # nothing gets smaller, or only the file does
        with pytest.raises(BudgetError) as caught:
            compress(digits_network(), recipe, toy_data(), budget, latency=False)
        assert caught.value.what == "the budget cannot be met"
        assert re.fullmatch(rf"{metric} is [\d,]+, [\d,]+ \([\d.e+]+ %\) over", str(caught.value.got))
        assert str(caught.value.allowed).startswith(f"{metric} <= ")
        assert caught.value.remedy
        return
    result = compress(digits_network(), recipe, toy_data(), budget, latency=False)
    before, after = result.before.as_dict(), result.after.as_dict()
    key = "size_bytes" if metric == "bytes" else metric
    assert after[key] <= before[key] * float(share.rstrip("%")) / 100
    if stage == "structure":
        assert after[key] > 0.2 * before[key]  # what is allowed is made use of


@every_method
def test_it_works_without_labels_where_the_original_alone_teaches(name: str, tmp_path: Path) -> None:
    file = tmp_path / "r.netpress"
    result = squeezed(name, plain_network(), toy_data(labels=False), {"distill.alpha": 1.0}, at="4", out=file)
    assert result.quality_before is result.quality_after is result.held_out is None
    assert result.training is not None
    assert result.training.epochs == 1
    assert file.stat().st_size == result.after.size_bytes


@every_method
def test_without_labels_the_default_distillation_is_refused_before_any_work(name: str, monkeypatch) -> None:
    monkeypatch.setattr(find_method(name), "apply", lambda *_: pytest.fail("work was done before the check"))
    with pytest.raises(DataError, match=r"no labels.*distill\.alpha=0\.9.*remedy: set distill\.alpha=1"):
        compress(plain_network(), quick_recipe(name), toy_data(labels=False), at="4", latency=False)


@every_method
def test_odd_sizes_and_one_channel(name: str) -> None:
    data = toy_data(30, (5, 7), 3)
    result = squeezed(name, odd_network(), data, at="3")
    with torch.no_grad():
        assert result.network(torch.rand(3, 1, 5, 7)).shape == (3, 3)
    assert result.input_shape == (1, 5, 7)


@every_method
def test_three_images_are_enough(name: str) -> None:
    data = toy_data(3, classes=2, test=1)
    result = squeezed(name, plain_network(), data, at="4")
    assert result.held_out is not None
    assert (result.held_out.count, result.quality_after.count) == (1, 1)
    assert all(bool(t.isfinite().all()) for t in result.network.state_dict().values())


@every_method
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (toy_data(0), "toy: train is empty; allowed: one image or more; remedy: check the selection and the files"),
        (toy_data(test=0), "toy: test is empty"),
        (toy_data(2, labels=False), "'toy' has too few training images; got: 1 to train on; allowed: 2 or more"),
        (
            Data("flat", Split(np.zeros((4, 0, 8), np.uint8)), Split(np.zeros((4, 0, 8), np.uint8))),
            "flat: train: the images have no pixels",
        ),
    ],
    ids=["no training images", "no test images", "one image left", "no pixels"],
)
def test_empty_data_is_a_clear_error(name: str, data: Data, text: str) -> None:
    with pytest.raises(DataError) as caught:
        compress(plain_network(), quick_recipe(name, {"distill.alpha": 1.0}), data, at="4", latency=False)
    assert text in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_method
def test_on_a_cuda_device_the_same_seed_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    files = [tmp_path / "a.netpress", tmp_path / "b.netpress"]
    results = [squeezed(name, plain_network(), at="4", device="cuda", out=file) for file in files]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert {t.device.type for t in results[0].network.state_dict().values()} == {"cpu"}
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(netpress.load(files[0])(x), results[0].network(x))


# Configuration -----------------------------------------------------------------------------------------------------


def other_values(hint: Any, value: Any) -> list[Any]:
    """A few values of a field's type that differ from its default."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [v for option in typing.get_args(hint) for v in other_values(option, value)]
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return [("4",), ()] if str in typing.get_args(hint) else [(3, 2, 2), ()]
    if typing.get_origin(hint) is Mapping:
        return [{"4": 1}, {}]
    samples: dict[Any, list[Any]] = {bool: [True, False], int: [1, 2, 7], float: [0.5, 1e-3], str: ["4"]}
    return samples.get(hint, [])


@every_method
def test_a_recipe_reads_back_as_it_was(name: str, tmp_path: Path) -> None:
    cls, tried = find_method(name), 0
    hints = typing.get_type_hints(cls)
    recipes = [Recipe(methods=(cls(),)), Recipe(methods=(cls(),), distill=None, hold_out=0.25, name="a name")]
    for field in dataclasses.fields(cls):
        for value in other_values(hints[field.name], field.default):
            try:
                recipes.append(Recipe(methods=(cls(**{field.name: value}),)))
            except ConfigError:
                continue
            tried += 1
    assert tried >= len(dataclasses.fields(cls))
    for recipe in recipes:
        written = recipe.as_dict()
        assert Recipe.read(written) == recipe
        assert Recipe.read(json.loads(json.dumps(written))) == recipe
        (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        assert Recipe.read(tmp_path / "recipe.yaml") == recipe
        assert set(written["methods"][0][name]) == {f.name for f in dataclasses.fields(cls)}


@every_method
def test_the_card_says_idea_failure_and_every_field(name: str) -> None:
    cls = find_method(name)
    card = inspect.getdoc(cls)
    assert card
    assert card.split("\n")[0].endswith(".")
    assert "Idea:" in card
    assert "Fails:" in card
    docs = field_docs(cls)
    assert sorted(docs) == sorted(f.name for f in dataclasses.fields(cls))
    assert all(len(text) > 10 for text in docs.values())
    assert method_name(cls) == name


@every_method
def test_a_method_is_a_frozen_value(name: str) -> None:
    cls = find_method(name)
    assert cls() == cls()
    assert hash(cls()) == hash(cls())
    with pytest.raises(TypeError):
        cls("4")  # keyword-only
    for field in dataclasses.fields(cls):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(cls(), field.name, field.default)


@every_method
def test_a_misspelled_or_mistyped_field_is_refused(name: str) -> None:
    hints = typing.get_type_hints(find_method(name))
    for field in dataclasses.fields(find_method(name)):
        wrong = ["a"] if typing.get_origin(hints[field.name]) is Mapping else {"a": 1}
        with pytest.raises(UnknownNameError, match=f"unknown field of {name}.*did you mean '{field.name}"):
            Recipe.read({"methods": [{name: {f"{field.name}x": 1}}]})
        with pytest.raises(ConfigError, match=f"{name}.{field.name} has the wrong type; got: "):
            Recipe.read({"methods": [{name: {field.name: wrong}}]})
    with pytest.raises(UnknownNameError, match="unknown field of"):
        Recipe.read(name).with_settings(["no_such_thing=1"])
