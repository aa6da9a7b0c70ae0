"""Rate-distortion quantization of whole networks, without and with training."""

from __future__ import annotations

import copy
import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from netpress import artifact
from netpress.data import Data
from netpress.errors import BudgetError, ConfigError
from netpress.graph import GraphNetwork, trace
from netpress.maths.compensation import MOST_LEVEL
from netpress.methods.share import Share
from netpress.pipeline import compress
from netpress.pipeline.constraints import ValuesHeld
from netpress.pipeline.job import Job
from netpress.pipeline.rate_distortion import RateDistortion
from netpress.pipeline.rdo_layerwise import Pass
from netpress.pipeline.rdo_normalise import normal_form
from netpress.pipeline.rdo_statistics import calibration, sensitivities
from netpress.pipeline.straight_through import Grid, StraightThrough
from netpress.progress import SilentProgress
from netpress.training import CrossEntropy, Trainer, TrainingPlan

PLAN = TrainingPlan(epochs=2, batch_size=8, optimizer="sgd", lr=0.02)


class Small(nn.Module):
    """Strided, grouped and normalised convolutions with a skip, on (1, 8, 8); 948 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.deep(x))
        return self.head(nn.functional.max_pool2d(x, 2).flatten(1))


def trained(data: Data) -> nn.Module:
    torch.manual_seed(3)
    network = Small()
    images = data.preprocess(data.train.images[np.arange(len(data.train))], torch.device("cpu"))
    labels = torch.from_numpy(np.asarray(data.train.labels))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture
def job(data: Data, tmp_path: Path) -> Job:
    fit, held = data.train.hold_out(0.25)
    network = trained(data)
    example = data.preprocess(fit.images[np.arange(2)], torch.device("cpu"))
    return Job(
        teacher=trace(network, example).eval(),
        fit=fit,
        held_out=held,
        preprocess=data.preprocess,
        task="classification",
        outputs=4,
        bounds={},
        cut=None,
        device=torch.device("cpu"),
        seed=0,
        progress=SilentProgress(),
        scratch=tmp_path,
        training=PLAN,
        objective=CrossEntropy(),
    )


def student(job: Job) -> GraphNetwork:
    return copy.deepcopy(job.teacher)


def state(network: nn.Module) -> dict[str, bytes]:
    return {name: t.detach().contiguous().numpy().tobytes() for name, t in network.state_dict().items()}


def check_grid(values: torch.Tensor) -> None:
    """All values are whole multiples of one step, exactly, and no zero is negative."""
    assert not (torch.signbit(values.detach()) & (values.detach() == 0)).any()
    numbers = [Fraction(v) for v in values.detach().flatten().tolist()]
    unit = max(n.denominator for n in numbers)  # a power of two
    step = math.gcd(*(int(n * unit) for n in numbers))
    assert max(abs(int(n * unit)) for n in numbers) <= MOST_LEVEL * max(1, step)


# Statistics and normal form ----------------------------------------------------------------------------------------------


def test_normal_form_answers_as_before_and_leaves_constants(job: Job) -> None:
    network = student(job)
    images = calibration(job, 30)
    before = network(images)
    assert normal_form(network) == ["norm"]
    torch.testing.assert_close(network(images), before, rtol=1e-4, atol=1e-5)
    norm = network.get_submodule("norm")
    assert not norm.running_mean.any()
    assert bool((norm.running_var + norm.eps == 1).all())
    again = copy.deepcopy(network)
    normal_form(again)
    torch.testing.assert_close(again.get_parameter("norm.weight"), norm.weight, rtol=1e-6, atol=0)


def test_sensitivities_are_the_fisher_information_of_a_linear_network(job: Job) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    images = torch.randn(4096, 6)
    traced = trace(network, images[:2]).eval()
    found = sensitivities(traced, images, task="regression", seed=0)  # g = noise · x: F is the mean of x²
    torch.testing.assert_close(found["1.weight"], images.square().mean(0).expand(3, 6) / 2, rtol=0.4, atol=0.05)
    torch.testing.assert_close(found["1.bias"], torch.full((3,), 0.5), rtol=0.4, atol=0.05)
    assert all(p.grad is None for p in traced.parameters())


# Without training ---------------------------------------------------------------------------------------------------------


def test_everything_is_on_a_grid_and_the_teacher_is_as_it_was(job: Job) -> None:
    before = state(job.teacher)
    network = RateDistortion(tradeoff=1e-5, samples=30).apply(student(job), job)
    assert state(job.teacher) == before
    for parameter in network.parameters():
        check_grid(parameter)
    assert artifact.size(network) < artifact.size(job.teacher)


def test_a_fine_grid_loses_nothing_and_a_coarse_one_is_smaller(job: Job) -> None:
    images = calibration(job, 30)
    answers, sizes = job.teacher(images), []
    for tradeoff in (1e-10, 1e-6, 1e-4, 1e-2):
        network = RateDistortion(tradeoff=tradeoff, samples=30).apply(student(job), job)
        sizes.append(artifact.size(network))
        if tradeoff == 1e-10:
            torch.testing.assert_close(network(images), answers, rtol=0.01, atol=0.01)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.5 * sizes[0]


def test_compensation_brings_the_answers_nearer_for_the_same_bits(job: Job) -> None:
    reference = student(job)
    normal_form(reference)
    images = calibration(job, 30)
    found = sensitivities(reference, images, task="classification", seed=0)
    names = frozenset(name for name, _ in reference.named_parameters())

    def outcome(tradeoff: float, compensate: bool) -> tuple[float, float]:
        made = Pass(reference, found, tradeoff, names, compensate=compensate).run(images)
        return made.bits, made.divergence

    bits, divergence = outcome(1e-4, True)
    plain = [outcome(10.0**-e, False) for e in (3, 3.5, 4, 4.5, 5)]
    assert divergence < min(d for b, d in plain if b <= 1.02 * bits)


def test_the_divergence_that_is_reported_is_that_of_the_network(job: Job) -> None:
    reference = student(job)
    normal_form(reference)
    images = calibration(job, 30)
    found = sensitivities(reference, images, task="classification", seed=0)
    made = Pass(reference, found, 1e-4, frozenset(n for n, _ in reference.named_parameters())).run(images)
    quantized = copy.deepcopy(reference)
    made.put_into(quantized)
    before, after = (n(images).detach().double().log_softmax(1) for n in (reference, quantized))
    assert made.divergence == pytest.approx(float((before.exp() * (before - after)).sum(1).mean()), rel=1e-3)


def test_zeros_of_a_pruned_network_stay(job: Job) -> None:
    network = student(job)
    with torch.no_grad():
        for name in ("deep.weight", "head.weight"):
            weight = network.get_parameter(name)
            weight.mul_((torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.3).float())
    zeros = {name: network.get_parameter(name) == 0 for name in ("deep.weight", "head.weight")}
    for epochs in (0, 1):
        made = RateDistortion(tradeoff=1e-7, samples=30, epochs=epochs).apply(copy.deepcopy(network), job)
        for name, places in zeros.items():
            assert not made.get_parameter(name)[places].any()


def test_a_budget_of_bytes_is_met(job: Job) -> None:
    for share in (0.5, 0.35):
        bound = share * artifact.size(job.teacher)
        network = RateDistortion(samples=30).apply(student(job), dataclasses.replace(job, bounds={"bytes": bound}))
        assert artifact.size(network) <= bound


def test_a_network_that_is_quantized_already_loses_no_more_than_its_budget_asks(job: Job) -> None:
    once = RateDistortion(tradeoff=1e-6, samples=30).apply(student(job), job)
    bound = 0.93 * (artifact.size(once) + 160)  # the descriptions that a file has besides
    twice = RateDistortion(samples=30).apply(copy.deepcopy(once), dataclasses.replace(job, bounds={"bytes": bound}))
    assert 0.6 * bound < artifact.size(twice) <= bound


def test_a_budget_that_nothing_meets_names_the_smallest(job: Job) -> None:
    with pytest.raises(BudgetError, match=r"at the coarsest [\d,]+ bytes"):
        RateDistortion(samples=30).apply(student(job), dataclasses.replace(job, bounds={"bytes": 300}))


def test_a_loss_on_the_held_out_part_is_kept(job: Job) -> None:
    network = RateDistortion(max_loss=10.0, samples=30).apply(student(job), job)
    assert job.score(job.teacher) - job.score(network) <= 0.1 + 1e-9
    unlabelled = dataclasses.replace(job, held_out=job.held_out.without_labels())
    with pytest.raises(ConfigError, match="labels"):
        RateDistortion(max_loss=10.0, samples=30).apply(student(job), unlabelled)


def test_the_same_seed_gives_the_same_bytes(job: Job) -> None:
    one, two = (RateDistortion(tradeoff=1e-5, samples=30).apply(student(job), job) for _ in range(2))
    assert state(one) == state(two)


@pytest.mark.parametrize(
    "options",
    [{"tradeoff": 0.0}, {"max_loss": -1.0}, {"tradeoff": 1.0, "max_loss": 1.0}, {"samples": 0}, {"epochs": -1}],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        RateDistortion(**options)  # type: ignore[arg-type]


# With training ------------------------------------------------------------------------------------------------------------


def grids(network: nn.Module) -> tuple[Grid, ...]:
    return tuple(Grid(name, 0.0625, 0.1) for name, p in network.named_parameters() if p.dim() > 1)


def test_weights_are_on_their_grid_in_every_step_and_the_buffers_go(job: Job) -> None:
    network = student(job)
    names = set(network.state_dict())
    kept = StraightThrough(grids(network), ramp=4)
    kept.prepare(network)
    seen = []

    class Watch:
        def after_backward(self, network: nn.Module, step: int, /) -> None:
            seen.append(step)
            for grid in kept.grids:
                value = network.get_parameter(grid.name) / grid.step
                assert torch.equal(value, value.round())

        def after_step(self, network: nn.Module, step: int, /) -> None: ...

    start = {g.name: network.get_parameter(g.name).clone() for g in kept.grids}
    job.retrain(network, label="x", constraints=[kept, Watch()])
    assert len(seen) == 8
    assert any(not torch.equal(start[g.name], network.get_parameter(g.name)) for g in kept.grids)
    free = kept.release(network)
    assert set(network.state_dict()) == names
    assert any(not torch.equal(free[name], network.get_parameter(name)) for name in free)


def test_a_straight_through_step_by_hand() -> None:
    network = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.9, 0.2]]))
    kept = StraightThrough((Grid("weight", 0.5, 1e-9),))
    kept.prepare(network)
    assert network.weight.tolist() == [[1.0, 0.0]]
    network.weight.grad = torch.zeros(1, 2)
    kept.after_backward(network, 0)
    with torch.no_grad():
        network.weight.add_(torch.tensor([[-0.2, 0.1]]))  # what an optimizer would do
    kept.after_step(network, 0)
    torch.testing.assert_close(network.get_buffer("weight_free"), torch.tensor([[0.7, 0.3]]))
    assert network.weight.tolist() == [[0.5, 0.5]]


def test_a_training_that_is_killed_goes_on_to_the_same_bytes(job: Job) -> None:
    class KilledError(Exception): ...

    def train(label: str, kill_at: int | None) -> dict[str, bytes]:
        network = student(job)
        kept = StraightThrough(grids(network), ramp=4, bits=1500.0, refresh=2)
        kept.prepare(network)

        def kill(network: nn.Module, step: int) -> None:
            if step == kill_at:
                raise KilledError

        trainer = Trainer(seed=0, checkpoint=job.scratch / label, checkpoint_every_s=0.0)
        trainer.fit(
            network,
            job.stream(batch_size=8, shuffle=True),
            PLAN,
            CrossEntropy(),
            after_backward=[kept.after_backward],
            after_step=[kept.after_step, kill],
        )
        return state(network)

    whole = train("whole", None)
    with pytest.raises(KilledError):
        train("halved", 5)
    assert train("halved", None) == whole


def test_bits_that_are_bounded_are_reached(job: Job) -> None:
    network = student(job)
    free = StraightThrough(grids(network))
    free.prepare(network)
    before = sum(float(b) for n, b in network.named_buffers() if n.endswith("_bits"))
    free.release(network)
    network = student(job)
    bound = StraightThrough(grids(network), ramp=100, bits=0.4 * before, refresh=4)
    bound.prepare(network)
    job.retrain(network, label="bits", epochs=40, lr=1e-3, constraints=[bound], restore_best=False)
    after = sum(float(b) for n, b in network.named_buffers() if n.endswith("_bits"))
    assert after < 0.5 * before


def test_training_meets_a_budget_and_answers_better_than_without(job: Job) -> None:
    bound = 0.3 * artifact.size(job.teacher)
    tight = dataclasses.replace(job, bounds={"bytes": bound})
    made = RateDistortion(samples=30, epochs=12).apply(student(tight), tight)
    assert artifact.size(made) <= bound
    for parameter in made.parameters():
        check_grid(parameter)
    images, labels = calibration(job, 30), torch.from_numpy(np.asarray(job.fit.labels))
    plain = RateDistortion(samples=30).apply(student(tight), tight)
    losses = [float(nn.functional.cross_entropy(n(images).detach(), labels)) for n in (made, plain)]
    assert losses[0] < losses[1]


def test_later_trainings_leave_the_values(job: Job) -> None:
    options = RateDistortion(tradeoff=1e-5, samples=30)
    network = options.apply(student(job), job)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    job.retrain(network, label="later", constraints=options.constraints(network))
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())
    partly = ValuesHeld(("head.weight",))
    job.retrain(network, label="partly", constraints=[partly])
    moved = {name for name, p in network.named_parameters() if not torch.equal(before[name], p)}
    assert moved == set(before) - {"head.weight"}


# As a method --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [0, 2])
def test_share_with_rule_rdo_meets_a_budget_of_bytes_in_the_file(data: Data, epochs: int) -> None:
    training = {"epochs": epochs, "batch_size": 16, "augment": "none"}
    recipe = {"methods": [{"share": {"rule": "rdo", "samples": 30}}], "training": training, "hold_out": 0.25}
    result = compress(trained(data), recipe, data, "bytes=45%", latency=False)
    assert result.after.size_bytes is not None
    assert result.before.size_bytes is not None
    assert result.after.size_bytes <= 0.45 * result.before.size_bytes


def test_share_with_rule_rdo_leaves_alone_what_has_k_zero(job: Job) -> None:
    method = Share(rule="rdo", tradeoff=1e-4, samples=30, epochs=0, fc=0)
    network = student(job)
    before = network.get_parameter("head.weight").detach().clone()
    made = method.apply(network, job)
    assert torch.equal(made.get_parameter("head.weight"), before)
    check_grid(made.get_parameter("stem.weight"))
    [held] = method.constraints(made)
    assert isinstance(held, ValuesHeld)
    assert "head.weight" not in held.names


def test_share_refuses_wrong_options_of_rdo() -> None:
    with pytest.raises(ConfigError, match="max_loss"):
        Share(rule="rdo", max_loss=-1.0)
