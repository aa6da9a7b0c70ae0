from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from netpress.errors import ConfigError, DataError, TrainingError, UnknownNameError
from netpress.progress import SilentProgress
from netpress.training import CrossEntropy, Distill, MeanSquaredError, Trainer, TrainingPlan


class Batches:
    """Images whose class is the brighter half; the order is a pure function of the epoch."""

    def __init__(self, batches: int = 4, size: int = 8, on_batch: Callable[[int, int], None] | None = None) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(batches * size, 2, 6, 6, generator=generator)
        self.y = (self.x[..., :3].sum((1, 2, 3)) > self.x[..., 3:].sum((1, 2, 3))).long()
        self.count, self.size, self.on_batch = batches, size, on_batch

    def __len__(self) -> int:
        return self.count

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(epoch))
        for number in range(start, self.count):
            if self.on_batch is not None:
                self.on_batch(epoch, number)
            rows = order[number * self.size : (number + 1) * self.size]
            yield self.x[rows], self.y[rows]


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Conv2d(6, 4, 3),
        nn.Flatten(),
        nn.Linear(64, 2),
    )


def state_bytes(module: nn.Module) -> dict[str, bytes]:
    return {name: t.contiguous().numpy().tobytes() for name, t in module.state_dict().items()}


PLAN = TrainingPlan(epochs=3, optimizer="adam", lr=5e-3, schedule="one_cycle", weight_decay=1e-3)


def test_learns_and_records() -> None:
    trained = network().eval()
    record = Trainer().fit(trained, Batches(), TrainingPlan(epochs=15, lr=1e-2), CrossEntropy())
    assert (record.epochs, record.steps, record.samples) == (15, 60, 15 * 32)
    assert len(record.losses) == len(record.accuracies) == 15
    assert record.losses[-1] < 0.5 * record.losses[0]
    assert record.accuracies[-1] > 0.8
    assert record.images_per_s == pytest.approx(record.samples / record.seconds)
    assert record.as_dict()["losses"] == list(record.losses)
    assert not any(m.training for m in trained.modules())
    assert all(p.is_contiguous() and p.grad is None and p.requires_grad for p in trained.parameters())


def test_first_losses_are_those_of_a_plain_torch_loop() -> None:
    trained, plain, stream = network(), network(), Batches()
    trained[3] = plain[3] = nn.Identity()
    plan = TrainingPlan(epochs=1, optimizer="sgd", lr=0.05, momentum=0.9)
    record = Trainer().fit(trained, stream, plan, CrossEntropy())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for x, y in stream.batches(0):
        loss = nn.functional.cross_entropy(plain(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert record.losses[0] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    results = []
    for seed in (5, 5, 6):
        trained = network()
        torch.manual_seed(len(results))  # the surroundings' random state must not matter
        Trainer(seed=seed).fit(trained, Batches(), PLAN, CrossEntropy())
        results.append(state_bytes(trained))
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_random_state_of_the_caller_is_left_alone() -> None:
    before = torch.get_rng_state()
    Trainer().fit(network_kept := network(), Batches(), PLAN, CrossEntropy())
    torch.manual_seed(3)
    assert network_kept is not None
    torch.set_rng_state(before)
    expected = torch.rand(3)
    torch.set_rng_state(before)
    Trainer().fit(network_kept, Batches(), PLAN, CrossEntropy())
    assert torch.equal(torch.rand(3), expected)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("place", [(0, 1), (1, 0), (1, 2), (2, 3)])
def test_killed_and_resumed_ends_in_the_same_bytes(tmp_path: Path, optimizer: str, place: tuple[int, int]) -> None:
    plan = TrainingPlan.from_dict({**PLAN.as_dict(), "optimizer": optimizer})
    whole = network()
    judged = Trainer().fit(whole, Batches(), plan, CrossEntropy(), validate=lambda n: float(n[0].weight.sum()))

    def kill(epoch: int, number: int) -> None:
        if (epoch, number) == place:
            raise KilledError

    trainer = Trainer(checkpoint=tmp_path / "run.checkpoint", checkpoint_every_s=0)
    with pytest.raises(KilledError):
        trainer.fit(
            network(), Batches(on_batch=kill), plan, CrossEntropy(), validate=lambda n: float(n[0].weight.sum())
        )
    resumed = network()
    record = trainer.fit(resumed, Batches(), plan, CrossEntropy(), validate=lambda n: float(n[0].weight.sum()))
    assert state_bytes(resumed) == state_bytes(whole)
    assert record.losses == judged.losses
    assert record.accuracies == judged.accuracies
    assert record.validations == judged.validations
    assert record.steps == judged.steps
    assert not list(tmp_path.glob("*.part"))


def test_finished_run_is_taken_from_its_checkpoint(tmp_path: Path) -> None:
    trainer = Trainer(checkpoint=tmp_path / "c")
    first, again = network(), network()
    record = trainer.fit(first, Batches(), PLAN, CrossEntropy())

    def refuse(epoch: int, number: int) -> None:
        if (epoch, number) != (0, 0):  # the first batch is looked at to know the run again
            raise KilledError

    assert trainer.fit(again, Batches(on_batch=refuse), PLAN, CrossEntropy()) == record
    assert state_bytes(first) == state_bytes(again)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """SIGINT as a terminal has it: a process that a shell started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_interrupt_writes_a_checkpoint_after_the_step(tmp_path: Path) -> None:
    def interrupt(epoch: int, number: int) -> None:
        if (epoch, number) == (1, 1):
            os.kill(os.getpid(), signal.SIGINT)

    previous = signal.getsignal(signal.SIGINT)
    whole, resumed = network(), network()
    Trainer().fit(whole, Batches(), PLAN, CrossEntropy())
    trainer = Trainer(checkpoint=tmp_path / "c", checkpoint_every_s=1e9)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(network(), Batches(on_batch=interrupt), PLAN, CrossEntropy())
    assert signal.getsignal(signal.SIGINT) is previous
    seen: list[tuple[int, int]] = []
    trainer.fit(resumed, Batches(on_batch=lambda e, n: seen.append((e, n))), PLAN, CrossEntropy())
    assert seen[1] == (1, 2)  # after the look at (0, 0)
    assert state_bytes(resumed) == state_bytes(whole)


def test_sigterm_ends_the_process_but_keeps_the_checkpoint(tmp_path: Path) -> None:
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_training_loop import *
def stop(epoch, number):
    if (epoch, number) == (1, 1):
        os.kill(os.getpid(), signal.SIGTERM)
torch.set_num_threads({torch.get_num_threads()})
Trainer(checkpoint=Path({str(tmp_path / "c")!r})).fit(network(), Batches(on_batch=stop), PLAN, CrossEntropy())
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGTERM
    whole, resumed = network(), network()
    Trainer().fit(whole, Batches(), PLAN, CrossEntropy())
    Trainer(checkpoint=tmp_path / "c").fit(resumed, Batches(), PLAN, CrossEntropy())
    assert state_bytes(resumed) == state_bytes(whole)


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(checkpoint=tmp_path / "c")
    trainer.fit(network(), Batches(), PLAN, CrossEntropy())
    other_start = network()
    nn.init.ones_(other_start[0].weight)
    for changed in (
        lambda: Trainer(seed=1, checkpoint=tmp_path / "c").fit(network(), Batches(), PLAN, CrossEntropy()),
        lambda: trainer.fit(network(), Batches(), TrainingPlan(epochs=9), CrossEntropy()),
        lambda: trainer.fit(network(), Batches(batches=5), PLAN, CrossEntropy()),
        lambda: trainer.fit(network(), Batches(), PLAN, CrossEntropy(label_smoothing=0.1)),
        lambda: trainer.fit(other_start, Batches(), PLAN, CrossEntropy()),
    ):
        with pytest.raises(TrainingError, match=r"belongs to another run.*remedy: delete it"):
            changed()


def test_damaged_checkpoint_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c"
    trainer = Trainer(checkpoint=path)
    trainer.fit(network(), Batches(), PLAN, CrossEntropy())
    for content in (path.read_bytes()[:-7], b"", b"not a checkpoint at all"):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=r"cannot be read.*remedy: delete it"):
            trainer.fit(network(), Batches(), PLAN, CrossEntropy())


def test_checkpoint_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match="checkpoint cannot be written"):
        Trainer(checkpoint=tmp_path / "file" / "c").fit(network(), Batches(), PLAN, CrossEntropy())


def test_best_epoch_is_restored_also_after_a_kill(tmp_path: Path) -> None:
    after_epoch: list[dict[str, bytes]] = []
    values = [0.1, 0.9, 0.9]

    def validate(module: nn.Module) -> float:
        assert not module.training
        after_epoch.append(state_bytes(module))
        return values[len(after_epoch) - 1]

    trained = network()
    record = Trainer().fit(trained, Batches(), PLAN, CrossEntropy(), validate=validate, restore_best=True)
    assert record.best_epoch == 1
    assert record.validations == tuple(values)
    assert state_bytes(trained) == after_epoch[1] != after_epoch[2]

    def kill(epoch: int, number: int) -> None:
        if (epoch, number) == (2, 2):
            raise KilledError

    scores = iter(values)
    trainer = Trainer(checkpoint=tmp_path / "c", checkpoint_every_s=0)
    with pytest.raises(KilledError):
        trainer.fit(
            network(), Batches(on_batch=kill), PLAN, CrossEntropy(), validate=lambda _: next(scores), restore_best=True
        )
    resumed = network()
    trainer.fit(resumed, Batches(), PLAN, CrossEntropy(), validate=lambda _: next(scores), restore_best=True)
    assert state_bytes(resumed) == after_epoch[1]
    with pytest.raises(ConfigError, match="restore_best needs"):
        trainer.fit(network(), Batches(), PLAN, CrossEntropy(), restore_best=True)


def test_frozen_part_stays_as_it_is_with_its_statistics() -> None:
    trained = network()
    before = state_bytes(trained)
    plan = TrainingPlan(epochs=2, optimizer="adamw", weight_decay=0.1, lr_scale={"0": 0, "1": 0})
    Trainer().fit(trained, Batches(), plan, CrossEntropy())
    after = state_bytes(trained)
    for name, value in after.items():
        frozen = name.split(".")[0] in ("0", "1")
        assert (value == before[name]) == frozen, name
    assert all(p.requires_grad for p in trained.parameters())


def test_parameters_the_caller_fixed_stay_fixed() -> None:
    trained = network()
    trained[6].weight.requires_grad_(False)
    before = trained[6].weight.clone()
    Trainer().fit(trained, Batches(), PLAN, CrossEntropy())
    assert torch.equal(trained[6].weight, before)
    assert not trained[6].weight.requires_grad


def test_lr_scale_scales_the_step() -> None:
    # One plain SGD step moves each weight by rate times gradient, so a factor of .1 moves it a tenth as far.
    moves = []
    for scale in (1.0, 0.1):
        trained, start = network(), network()
        plan = TrainingPlan(epochs=1, optimizer="sgd", momentum=0, lr=1e-2, lr_scale={"6": scale})
        Trainer().fit(trained, Batches(batches=1), plan, CrossEntropy())
        moves.append(
            [(a - b).detach().norm().item() for a, b in zip(trained.parameters(), start.parameters(), strict=True)]
        )
    assert moves[1][-2] == pytest.approx(0.1 * moves[0][-2], rel=1e-2)
    assert moves[1][4] == pytest.approx(moves[0][4], rel=1e-4)


def test_weight_decay_spares_biases_and_norms() -> None:
    trained, start = network(), network()
    plan = TrainingPlan(epochs=1, optimizer="adamw", lr=1e-2, weight_decay=0.5)

    def no_gradient(module: nn.Module, step: int) -> None:
        for p in module.parameters():
            assert p.grad is not None
            p.grad.zero_()

    Trainer().fit(trained, Batches(batches=1), plan, CrossEntropy(), after_backward=[no_gradient])
    for (name, p), q in zip(trained.named_parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(p, q * (1 - 0.5e-2) if q.dim() >= 2 else q, msg=name)


def test_network_that_cannot_run_channels_last_trains_in_plain_order() -> None:
    class View(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(len(x), -1)

    def viewing() -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), View(), nn.Linear(64, 2))

    start, trained = viewing(), viewing()
    trained.load_state_dict(start.state_dict())
    record = Trainer().fit(trained, Batches(), PLAN, Distill(start))
    assert record.epochs == 3
    plain = viewing()
    plain.load_state_dict(start.state_dict())
    plan = TrainingPlan.from_dict({**PLAN.as_dict(), "channels_last": False})
    Trainer().fit(plain, Batches(), plan, Distill(start))
    assert state_bytes(trained) == state_bytes(plain)  # the trial moved no statistics


def test_hooks_see_every_step_and_can_mask() -> None:
    trained, steps = network(), []

    def mask(module: nn.Module, step: int) -> None:
        steps.append(step)
        with torch.no_grad():
            module[0].weight[0] = 0

    Trainer().fit(trained, Batches(), PLAN, CrossEntropy(), after_step=[mask])
    assert steps == list(range(12))
    assert trained[0].weight[0].abs().max() == 0
    assert trained[0].weight[1].abs().max() > 0


def test_gradient_clipping_bounds_the_step() -> None:
    trained, start = network(), network()
    plan = TrainingPlan(epochs=1, optimizer="sgd", momentum=0, lr=1.0, grad_clip=1e-3)
    Trainer().fit(trained, Batches(batches=1), plan, CrossEntropy())
    moved = torch.cat([(a - b).flatten() for a, b in zip(trained.parameters(), start.parameters(), strict=True)])
    assert moved.detach().norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_teacher_is_bit_identical_after_training() -> None:
    teacher = network()
    before, modes = state_bytes(teacher), [m.training for m in teacher.modules()]
    student = copy.deepcopy(teacher)
    Trainer().fit(student, Batches(), PLAN, Distill(teacher))
    assert state_bytes(teacher) == before != state_bytes(student)
    assert [m.training for m in teacher.modules()] == modes
    with pytest.raises(TrainingError, match="shares tensors"):
        Trainer().fit(teacher, Batches(), PLAN, Distill(teacher))
    assert state_bytes(teacher) == before


def test_loss_that_is_not_finite_says_where() -> None:
    stream = Batches()
    stream.x[5] = torch.nan
    place = next(n for n, (x, _) in enumerate(stream.batches(0)) if x.isnan().any())
    with pytest.raises(TrainingError) as caught:
        Trainer().fit(network(), stream, PLAN, CrossEntropy())
    text = str(caught.value)
    assert "not finite any more is the loss" in text
    assert f"nan in step {place} of 12 at a learning rate of {PLAN.rate(place, 12):.3g}" in text
    assert "remedy: lower lr" in text


def test_weights_broken_by_the_last_step_are_found() -> None:
    def break_last(module: nn.Module, step: int) -> None:
        if step == 11:
            with torch.no_grad():
                module[4].weight[0] = torch.inf

    with pytest.raises(
        TrainingError, match=r"not finite any more is the network's weights; got: '4.weight' and 0 more"
    ):
        Trainer().fit(network(), Batches(), PLAN, CrossEntropy(), after_step=[break_last])


def test_a_broken_state_is_never_checkpointed(tmp_path: Path) -> None:
    stream = Batches()
    stream.x[5] = torch.nan
    trainer = Trainer(checkpoint=tmp_path / "c", checkpoint_every_s=0)
    for _ in range(2):  # a second try finds the last good state and fails in the same step
        with pytest.raises(TrainingError, match="not finite any more is the loss"):
            trainer.fit(network(), stream, PLAN, CrossEntropy())


def test_no_epochs_and_no_data() -> None:
    trained = network()
    before = state_bytes(trained)
    assert Trainer().fit(trained, Batches(), TrainingPlan(epochs=0), CrossEntropy()).steps == 0
    assert state_bytes(trained) == before
    with pytest.raises(DataError, match="nothing to train on"):
        Trainer().fit(trained, Batches(batches=0), PLAN, CrossEntropy())
    with pytest.raises(TrainingError, match="nothing to train"):
        Trainer().fit(trained, Batches(), TrainingPlan(lr_scale={"": 0}), CrossEntropy())
    with pytest.raises(UnknownNameError, match="prefix of a parameter's name"):
        Trainer().fit(trained, Batches(), TrainingPlan(lr_scale={"head": 0}), CrossEntropy())


def test_stream_shorter_than_it_says() -> None:
    stream = Batches()
    stream.x, stream.y = stream.x[:16], stream.y[:16]

    class Liar(Batches):
        def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
            yield from list(super().batches(epoch, start))[:2]

    with pytest.raises(DataError, match="ended early; got: 2 batches; allowed: 4"):
        Trainer().fit(network(), Liar(), PLAN, CrossEntropy())


def test_regression_records_no_accuracy() -> None:
    class Values(Batches):
        def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
            for x, _ in super().batches(epoch, start):
                yield x, x.mean((1, 2, 3))

    regressor = nn.Sequential(nn.Flatten(), nn.Linear(72, 1))
    record = Trainer().fit(regressor, Values(), TrainingPlan(epochs=20, lr=1e-2), MeanSquaredError())
    assert record.accuracies == ()
    assert record.losses[-1] < 0.2 * record.losses[0]


def test_tied_parameters_survive_the_checkpoint(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        torch.manual_seed(0)
        made = nn.Sequential(nn.Flatten(), nn.Linear(72, 72), nn.ReLU(), nn.Linear(72, 72), nn.Linear(72, 2))
        made[3].weight = made[1].weight
        return made

    def kill(epoch: int, number: int) -> None:
        if (epoch, number) == (1, 2):
            raise KilledError

    whole, resumed = tied(), tied()
    Trainer().fit(whole, Batches(), PLAN, CrossEntropy())
    trainer = Trainer(checkpoint=tmp_path / "c", checkpoint_every_s=0)
    with pytest.raises(KilledError):
        trainer.fit(tied(), Batches(on_batch=kill), PLAN, CrossEntropy())
    trainer.fit(resumed, Batches(), PLAN, CrossEntropy())
    assert state_bytes(resumed) == state_bytes(whole)
    assert resumed[3].weight is resumed[1].weight


def test_trains_in_another_thread_with_a_checkpoint(tmp_path: Path) -> None:
    threaded, plain = network(), network()
    Trainer().fit(plain, Batches(), PLAN, CrossEntropy())
    trainer = Trainer(checkpoint=tmp_path / "c")
    worker = threading.Thread(target=lambda: trainer.fit(threaded, Batches(), PLAN, CrossEntropy()))
    worker.start()
    worker.join()
    assert state_bytes(threaded) == state_bytes(plain)


def test_bf16_autocast_keeps_float32_weights() -> None:
    trained = network()
    plan = TrainingPlan(epochs=10, lr=1e-2, precision="bf16")
    record = Trainer().fit(trained, Batches(), plan, CrossEntropy())
    assert all(p.dtype == torch.float32 for p in trained.parameters())
    assert record.losses[-1] < record.losses[0]


def test_progress_counts_every_step_and_names_the_loss() -> None:
    seen: list[tuple[int, dict[str, float | str]]] = []
    opened: list[tuple[str, int | None]] = []

    class Bar:
        def advance(self, amount: int = 1, **notes: float | str) -> None:
            seen.append((amount, notes))

    class Shown(SilentProgress):
        @contextmanager
        def step(self, label: str, total: int | None = None) -> Iterator[Bar]:
            opened.append((label, total))
            yield Bar()

    plan = TrainingPlan(epochs=2)
    Trainer(progress=Shown()).fit(network(), Batches(batches=60, size=2), plan, CrossEntropy(), label="warm up")
    assert opened == [("warm up", 120)]
    assert sum(amount for amount, _ in seen) == 120
    assert {"loss", "images_per_s"} in [set(notes) for _, notes in seen]
