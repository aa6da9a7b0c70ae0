"""Laws of the reduction methods, on what the pipeline itself computes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_networks import plain_network, quick_recipe, state_bytes, toy_data

import netpress
from netpress import zoo
from netpress.data import Data, Split
from netpress.graph import GraphNetwork, find_cut, split, trace
from netpress.maths import reconstruction_error
from netpress.methods.ahosvd import AHOSVD
from netpress.methods.pod import POD
from netpress.pipeline import Job, Recipe, compress, find_method, method_names
from netpress.pipeline.features import Features
from netpress.pipeline.reduction import Reduction
from netpress.progress import SilentProgress
from netpress.training import CrossEntropy, TrainingPlan

REDUCTIONS = [name for name in method_names() if issubclass(find_method(name), Reduction)]
every_reduction = pytest.mark.parametrize("name", REDUCTIONS)


def make_job(data: Data, folder: Path) -> Job:
    example = data.preprocess(data.train.images[:2], "cpu")
    return Job(
        teacher=trace(plain_network(), example).eval(),
        fit=data.train,
        held_out=data.test,
        preprocess=data.preprocess,
        task=data.task,
        outputs=4,
        bounds={},
        cut="4",
        device=torch.device("cpu"),
        seed=0,
        progress=SilentProgress(),
        scratch=folder,
        training=TrainingPlan(),
        objective=CrossEntropy(),
    )


def features_of(method: Reduction, job: Job) -> Features:
    before, after = split(job.teacher, "4")
    return Features(method, find_cut(job.teacher, "4"), before.eval(), after.eval(), job)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(toy_data(300), tmp_path)


@pytest.fixture
def stored(job: Job) -> Iterator[Features]:
    with features_of(AHOSVD(), job) as features:
        yield features


# Closed forms ------------------------------------------------------------------------------------------------------


def test_a_higher_rank_never_reconstructs_worse(job: Job, stored: Features) -> None:
    x = torch.cat(list(stored.batches()))  # (300, 6, 4, 4)
    errors = {}
    for ranks in itertools.product(range(1, 7), range(1, 5), range(1, 5)):
        stored.method = AHOSVD(ranks=ranks)
        layer, chosen = stored.method.fit_layer(stored, job)
        assert chosen == ranks
        errors[ranks] = reconstruction_error(x, layer.projections())
    assert errors[6, 4, 4] < 1e-5
    assert errors[1, 1, 1] > 0.1
    for ranks, mode in itertools.product(errors, range(3)):
        larger = tuple(r + (n == mode) for n, r in enumerate(ranks))
        assert errors.get(larger, 0.0) <= errors[ranks] + 1e-6, (ranks, larger)


@pytest.mark.parametrize("ranks", [(1, 2, 2), (3, 2, 2), (4, 4, 4), (6, 1, 1)])
def test_pod_keeps_at_least_what_ahosvd_keeps_with_as_many_numbers(ranks, job: Job, stored: Features) -> None:
    """Eckart and Young: no linear map to r numbers reconstructs better."""
    x = torch.cat(list(stored.batches()))
    stored.method = AHOSVD(ranks=ranks)
    tucker, _ = stored.method.fit_layer(stored, job)
    stored.method = POD(rank=int(np.prod(ranks)))
    basis = stored.method.fit_layer(stored, job)[0].projection.weight.detach()  # (r, 96)
    flat = x.flatten(1)  # (300, 96)
    pod_error = float((flat - flat @ basis.T @ basis).norm() / flat.norm())
    assert pod_error <= reconstruction_error(x, tucker.projections()) + 1e-6


@pytest.mark.parametrize("energy", [0.5, 0.8, 0.95, 0.999])
def test_the_energy_that_is_asked_for_is_kept_in_each_mode(energy: float, job: Job, stored: Features) -> None:
    x = torch.cat(list(stored.batches())).double()
    stored.method = AHOSVD(energy=energy)
    layer, ranks = stored.method.fit_layer(stored, job)
    for mode, (projection, rank) in enumerate(zip(layer.projections(), ranks, strict=True)):
        unfolded = x.movedim(mode + 1, 0).flatten(1)  # (d_n, everything else)
        kept = (projection.double() @ unfolded).norm() ** 2 / unfolded.norm() ** 2
        assert kept >= energy - 1e-6
        if rank > 1:  # and not one direction more than needed
            assert (projection[:-1].double() @ unfolded).norm() ** 2 / unfolded.norm() ** 2 < energy


# Features ----------------------------------------------------------------------------------------------------------


def test_features_answers_and_labels_of_one_image_stand_in_one_row(job: Job, stored: Features) -> None:
    data = toy_data(300)
    x = data.preprocess(data.train.images, "cpu")
    with torch.no_grad():
        before, answers = stored.before(x), job.teacher(x)
    np.testing.assert_allclose(stored.store.features, before.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stored.store.outputs, answers.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(stored.store.labels, data.train.labels)


def test_shuffling_keeps_the_rows_together(stored: Features) -> None:
    store = stored.store
    rows = {store.features[i].tobytes(): i for i in range(len(store))}
    assert len(rows) == len(store)
    seen = []
    for x, (labels, outputs) in store.stream(batch_size=64, shuffle=True, seed=3, targets="both").batches(1):
        for feature, label, output in zip(x.numpy(), labels.numpy(), outputs.numpy(), strict=True):
            row = rows[feature.tobytes()]
            assert label == store.labels[row]
            np.testing.assert_array_equal(output, store.outputs[row])
            seen.append(row)
    assert sorted(seen) == list(range(len(store)))
    assert seen != sorted(seen)


def test_the_stored_features_are_gone_afterwards(job: Job, tmp_path: Path) -> None:
    with features_of(AHOSVD(), job) as features:
        assert len(list(features.batches())) == 2
        assert list(tmp_path.glob("features-*"))
    assert not list(tmp_path.glob("features-*"))


# Distillation of the whole -----------------------------------------------------------------------------------------


class Fitted:
    """The reduction layer as a method fitted it, before the whole network was trained."""

    state: dict[str, bytes]
    trainable: set[bool]
    network: GraphNetwork

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cls: type[Reduction]) -> None:
        whole = cls.apply

        def watched(method: Reduction, network: GraphNetwork, job: Job) -> torch.nn.Module:
            built = whole(method, network, job)
            self.state = state_bytes(built.get_submodule("reduction"))
            self.trainable = {p.requires_grad for p in built.get_submodule("reduction").parameters()}
            self.network = trace(built, job.example())
            return built

        monkeypatch.setattr(cls, "apply", watched)


def stored_layer(file: Path) -> dict[str, bytes]:
    state = state_bytes(netpress.load(file))
    return {n.removeprefix("reduction."): v for n, v in state.items() if n.startswith("reduction.")}


def parameters_of(state: dict[str, bytes]) -> dict[str, bytes]:
    return {n: v for n, v in state.items() if not n.rpartition(".")[2].startswith(("running_", "num_batches"))}


@every_reduction
def test_a_projection_that_is_not_trainable_stays_to_the_bit(name: str, monkeypatch, tmp_path: Path) -> None:
    fitted = Fitted(monkeypatch, find_method(name))
    file = tmp_path / "r.netpress"
    compress(plain_network(), quick_recipe(name, {"trainable": False}), toy_data(), at="4", latency=False, out=file)
    assert fitted.trainable == {False}
    stored = stored_layer(file)
    assert parameters_of(stored) == parameters_of(fitted.state)
    assert parameters_of(stored)


@every_reduction
def test_a_trainable_projection_learns(name: str, monkeypatch, tmp_path: Path) -> None:
    fitted = Fitted(monkeypatch, find_method(name))
    file = tmp_path / "r.netpress"
    compress(plain_network(), quick_recipe(name), toy_data(), at="4", latency=False, out=file)
    assert fitted.trainable == {True}
    stored = parameters_of(stored_layer(file))
    weights = [n for n, p in netpress.load(file).get_submodule("reduction").named_parameters() if p.dim() > 1]
    assert weights
    assert all(stored[n] != fitted.state[n] for n in weights)


@every_reduction
@pytest.mark.parametrize("map_kind", ["fnn", "pce", "tail"])
def test_the_gradient_of_the_distillation_reaches_the_projection(name: str, map_kind: str, monkeypatch) -> None:
    fitted, data = Fitted(monkeypatch, find_method(name)), toy_data()
    recipe = quick_recipe(name, {"map": map_kind}, epochs=0)
    compress(plain_network(), recipe, data, at="4", latency=False)
    teacher = trace(plain_network(), torch.rand(2, 1, 8, 8)).eval()
    x, y = data.preprocess(data.train.images, "cpu"), torch.from_numpy(data.train.labels)
    student = fitted.network.train()
    assert recipe.distill is not None
    recipe.distill.objective(teacher)(student, x, y)["loss"].backward()
    reached = {n: p.grad for n, p in student.named_parameters() if n.startswith("reduction.") and n.endswith("weight")}
    assert reached
    for parameter_name, gradient in reached.items():
        assert gradient is not None, parameter_name
        assert float(gradient.norm()) > 0, parameter_name
    assert all(p.grad is None for p in teacher.parameters())


def test_two_reductions_in_one_recipe(tmp_path: Path) -> None:
    """The second cuts what the first left; each trains a map, so each needs checkpoints of its own."""
    quick = {"map_epochs": 1}
    recipe = Recipe.read(
        {
            "methods": [{"ahosvd": {"at": "7", **quick}}, {"pod": {"at": "body.4", "rank": 5, **quick}}],
            "training": {"epochs": 1, "augment": "none"},
        }
    )
    result = compress(plain_network(), recipe, toy_data(), latency=False, work_dir=tmp_path / "work")
    assert result.network.get_submodule("reduction.projection").weight.shape == (5, 96)
    assert result.after.params < result.before.params
    assert not (tmp_path / "work").exists()


# The published number ----------------------------------------------------------------------------------------------


def test_the_published_parameter_count() -> None:
    """VGG-16 for 32-px images before its 8th convolution, (256, 4, 4) to (35, 3, 3), FNN with 20 hidden neurons.

    1,735,488 before the cut, 256·35 + 2·4·3 = 8,984 of the projection, 315·20 + 20 + 20·10 + 10 = 6,530 of the map:
    1,751,002 (Meneghetti et al. 2026).
    """
    rng = np.random.default_rng(0)
    part = Split(rng.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8), np.arange(24) % 10)
    data = Data("noise", part, part.take(range(4)), tuple("0123456789"))
    recipe = Recipe.read(
        {"methods": [{"ahosvd": {"ranks": [35, 3, 3], "hidden": [20], "map_epochs": 0}}], "training": {"epochs": 0}}
    )
    result = compress(zoo.build("vgg16", seed=0), recipe, data, at="features.17", latency=False)
    assert result.after.params == 1_751_002
    assert result.before.params == 14_714_688 + 5_130
    own = {n: p.numel() for n, p in result.network.named_parameters()}
    assert sum(v for n, v in own.items() if n.startswith("body.")) == 1_735_488
    assert sum(v for n, v in own.items() if n.startswith("reduction.")) == 8_984
    assert sum(v for n, v in own.items() if n.startswith("map.")) == 6_530
