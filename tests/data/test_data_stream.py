"""Batches: every image once, labels beside their images, the same batches after a restart."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lazy_sources import LabelsThatFail, Squares

from netpress.data import AUGMENTATIONS, ImageStream, Preprocess, Split
from netpress.data.stream import batch_bounds
from netpress.errors import ConfigError, DataError, UnknownNameError

IDENTITY = Preprocess()


def ramp(count: int = 50, size: int = 16, channels: int = 3) -> Split:
    """Images that carry their number in every pixel (so crops keep it), plus noise that flips and crops disturb."""
    images = np.random.default_rng(0).integers(0, 4, (count, size, size, channels), dtype=np.uint8)
    images += (np.arange(count, dtype=np.uint8) * 4)[:, None, None, None]
    return Split(images, np.arange(count) % 7)


def stream(split: Split, **options: object) -> ImageStream:
    return ImageStream(split, IDENTITY, **({"batch_size": 8, "shuffle": True} | options))


def drawn(x: torch.Tensor) -> list[int]:
    """The number of each image of a batch of :func:`ramp`."""
    return (x.flatten(1)[:, 0] // 4).int().tolist()


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_image_once_an_epoch_with_its_label(augment: str, shuffle: bool) -> None:
    source = stream(ramp(), augment=augment, shuffle=shuffle)
    numbers: list[int] = []
    for x, y in source.batches(epoch=3):
        assert x.shape[1:] == (3, 16, 16)
        assert x.dtype == torch.float32
        assert (y == torch.tensor(drawn(x)) % 7).all()
        numbers += drawn(x)
    assert sorted(numbers) == list(range(50))
    assert (numbers == list(range(50))) is not shuffle
    assert (len(source), source.samples) == (7, 50)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@pytest.mark.parametrize("start", [0, 1, 4, 7])
def test_a_later_start_gives_the_tail_of_the_same_epoch(augment: str, start: int) -> None:
    whole = list(stream(ramp(), augment=augment, seed=5).batches(2))
    tail = list(stream(ramp(), augment=augment, seed=5).batches(2, start))
    assert len(tail) == 7 - start
    for (x, y), (again_x, again_y) in zip(whole[start:], tail, strict=True):
        assert torch.equal(x, again_x)
        assert torch.equal(y, again_y)


def test_seeds_and_epochs_differ_and_global_random_state_does_not_matter() -> None:
    def first(seed: int, epoch: int) -> torch.Tensor:
        return next(iter(stream(ramp(), augment="crop_flip", seed=seed).batches(epoch)))[0]

    reference = first(1, 0)
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(reference, first(1, 0))
    assert not torch.equal(reference, first(2, 0))
    assert not torch.equal(reference, first(1, 1))
    assert torch.equal(first(-1, 0), first(-1, 0))


@pytest.mark.parametrize("augment", ["flip", "crop_flip"])
def test_augmentation_changes_images_and_differs_from_epoch_to_epoch(augment: str) -> None:
    plain = torch.cat([x for x, _ in stream(ramp(), shuffle=False).batches(0)])
    first, second = (
        torch.cat([x for x, _ in stream(ramp(), shuffle=False, augment=augment).batches(epoch)]) for epoch in (0, 1)
    )
    changed = (first != plain).flatten(1).any(1).float().mean()
    assert changed > (0.9 if augment == "crop_flip" else 0.25)
    assert not torch.equal(first, second)
    if augment == "flip":
        mirrored = (first == plain.flip(3)).flatten(1).all(1)
        assert ((first == plain).flatten(1).all(1) | mirrored).all()


@pytest.mark.parametrize("shape", [(20, 16, 16), (20, 16, 16, 3), (20, 3, 16, 16)])
def test_all_layouts_are_augmented_alike(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    planes = IDENTITY(images)  # (N, C, H, W)
    expected = torch.cat([x for x, _ in stream(Split(planes.numpy()), augment="crop_flip").batches(0)])
    actual = torch.cat([x for x, _ in stream(Split(images), augment="crop_flip").batches(0)])
    assert torch.equal(actual, expected)


def test_batches_are_preprocessed_as_single_images_are() -> None:
    split, preprocess = ramp(), Preprocess(1 / 255, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    x, _ = next(iter(ImageStream(split, preprocess, batch_size=5).batches(0)))
    assert torch.equal(x, preprocess(split.images[:5]))


@given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.integers(1, 4))
def test_bounds_cover_everything_in_order(count: int, batch_size: int, drop_last: bool, min_batch: int) -> None:
    bounds = batch_bounds(count, batch_size, drop_last=drop_last, min_batch=min_batch)
    sizes = np.diff(bounds)
    assert bounds[0] == 0
    assert bounds[-1] == (count // batch_size * batch_size if drop_last else count)
    assert (sizes > 0).all()
    assert (sizes[:-1] == batch_size).all()
    if not drop_last and len(sizes) > 1:
        assert sizes[-1] >= min(min_batch, batch_size)


def test_a_last_batch_of_one_joins_the_batch_before_it() -> None:
    assert [len(x) for x, _ in stream(ramp(17)).batches(0)] == [8, 9]
    assert [len(x) for x, _ in stream(ramp(17), min_batch=1).batches(0)] == [8, 8, 1]
    assert [len(x) for x, _ in stream(ramp(18)).batches(0)] == [8, 8, 2]
    dropping = stream(ramp(18), drop_last=True)
    assert [len(x) for x, _ in dropping.batches(0)] == [8, 8]
    assert (len(dropping), dropping.samples) == (2, 16)
    assert [len(x) for x, _ in stream(ramp(1)).batches(0)] == [1]


def test_without_labels_y_is_none_and_labels_that_fail_are_not_touched() -> None:
    images = ramp(10).images
    assert [y for _, y in stream(Split(images)).batches(0)] == [None, None]
    failing = Split(images, LabelsThatFail())
    assert [y for _, y in stream(failing, with_labels=False).batches(0)] == [None, None]
    assert [y for _, y in stream(failing.without_labels()).batches(0)] == [None, None]
    with pytest.raises(RuntimeError, match="the labels were read"):
        next(iter(stream(failing).batches(0)))


def test_regression_labels_are_float32() -> None:
    split = Split(np.zeros((6, 3), np.float32), np.arange(12, dtype=np.float64).reshape(6, 2))
    x, y = next(iter(ImageStream(split, IDENTITY, batch_size=4).batches(0)))
    assert (x.shape, y.shape, y.dtype) == ((4, 3), (4, 2), torch.float32)


def test_memory_maps_are_read_without_a_warning(tmp_path) -> None:
    split = ramp()
    np.save(tmp_path / "x.npy", split.images)
    mapped = Split(np.load(tmp_path / "x.npy", mmap_mode="r"), split.labels)
    for (x, _), (again, _) in zip(stream(split).batches(0), stream(mapped).batches(0), strict=True):
        assert torch.equal(x, again)


def test_lazy_images_are_read_ahead_in_the_same_order() -> None:
    images = Squares(20)
    source = ImageStream(Split(images, np.arange(20) % 2), IDENTITY, batch_size=4, shuffle=True, seed=1)
    iterator = source.batches(0)
    x, _ = next(iterator)
    assert x[:, 0, 0, 0].sqrt().int().tolist() == source.order(0)[:4].tolist()
    for _ in range(200):
        if len(images.asked) >= 12:
            break
        time.sleep(0.01)
    assert images.asked[:12] == source.order(0)[:12].tolist()  # beyond what was asked for
    rest = torch.cat([x for x, _ in iterator])
    assert rest[:, 0, 0, 0].sqrt().int().tolist() == source.order(0)[4:].tolist()


def test_leaving_early_stops_the_reader() -> None:
    iterator = ImageStream(Split(Squares(400)), IDENTITY, batch_size=4).batches(0)
    next(iterator)
    iterator.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("netpress-read-ahead")]


def test_an_error_of_the_reader_reaches_the_reader_of_batches() -> None:
    class Broken(Squares):
        def __getitem__(self, rows: object) -> np.ndarray:
            raise DataError("image 3 is broken")

    with pytest.raises(DataError, match="image 3 is broken"):
        next(iter(ImageStream(Split(Broken(8)), IDENTITY, batch_size=4).batches(0)))


@pytest.mark.parametrize(
    ("split", "options", "error", "text"),
    [
        (
            ramp(),
            {"augment": "cropped"},
            UnknownNameError,
            "unknown augmentation; got: 'cropped'; allowed: crop, crop_flip, flip, none",
        ),
        (ramp(), {"batch_size": 0}, ConfigError, "batch_size is out of range; got: 0; allowed: 1 or more"),
        (ramp(), {"min_batch": 0}, ConfigError, "min_batch is out of range"),
        (ramp(), {"batch_size": 51, "drop_last": True}, ConfigError, "drop_last leaves no batch; got: 50 images"),
        (Split(np.zeros((0, 8, 8), np.uint8)), {}, DataError, "nothing to draw batches from"),
        (
            Split(np.zeros((9, 8))),
            {"augment": "flip"},
            ConfigError,
            r"'flip' needs images; got: inputs of shape \(8,\)",
        ),
    ],
)
def test_bad_streams_are_refused_at_once(split: Split, options: dict, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        stream(split, **options)


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (0, 8), (0, -1)])
def test_batches_that_do_not_exist(epoch: int, start: int) -> None:
    with pytest.raises(ConfigError, match="there is no such batch"):
        stream(ramp()).batches(epoch, start)


def test_a_label_short_is_an_error() -> None:
    with pytest.raises(DataError, match="not one label an image; got: 10 images, 9 labels"):
        next(iter(stream(Split(ramp(10).images, np.arange(9))).batches(0)))


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_images_that_are_kept_on_the_device_give_the_same_batches(augment: str, monkeypatch) -> None:
    elsewhere = list(stream(ramp(), augment=augment).batches(0, 2))
    monkeypatch.setattr(ImageStream, "_fits_on_device", lambda self: True)
    resident = stream(ramp(), augment=augment)
    for (x, y), (again_x, again_y) in zip(elsewhere, resident.batches(0, 2), strict=True):
        assert torch.equal(x, again_x)
        assert torch.equal(y, again_y)
    assert resident._resident is not None
    np.testing.assert_array_equal(resident._resident.numpy(), resident.split.images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_batches_are_the_same() -> None:
    for (x, y), (gpu_x, gpu_y) in zip(
        stream(ramp(), augment="crop_flip").batches(0),
        stream(ramp(), augment="crop_flip", device="cuda").batches(0),
        strict=True,
    ):
        assert gpu_x.is_cuda
        assert torch.equal(x, gpu_x.cpu())
        assert torch.equal(y, gpu_y.cpu())
