"""Crops and flips against the plain loop that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netpress.data.augment import crop_flip, crop_padding, draw_crop_flip


def one_by_one(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Pad, cut, mirror: an image at a time, by numpy's own padding."""
    height, width = images.shape[1:3]
    pad_h, pad_w = crop_padding(height), crop_padding(width)
    out = []
    for image, top, left, flip in zip(images, *draws, strict=True):
        padded = np.pad(image, ((pad_h, pad_h), (pad_w, pad_w), (0, 0)), mode="reflect")
        cut = padded[top : top + height, left : left + width]
        out.append(cut[:, ::-1] if flip else cut)
    return np.stack(out)


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (24, 40, 3), (8, 8, 1), (5, 7, 2), (96, 16, 3)])
@pytest.mark.parametrize("augment", ["flip", "crop", "crop_flip"])
def test_the_look_up_is_pad_crop_mirror(shape: tuple[int, int, int], augment: str) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, *shape), dtype=np.uint8)
    draws = draw_crop_flip(rng, 40, *shape[:2], augment)
    out = crop_flip(torch.from_numpy(images), torch.from_numpy(draws))
    np.testing.assert_array_equal(out.numpy(), one_by_one(images, draws))


def test_padding_is_four_pixels_for_32() -> None:
    assert [crop_padding(size) for size in (32, 28, 96, 224, 8, 7)] == [4, 3, 12, 28, 1, 0]


def test_draws_cover_their_range_and_flip_half() -> None:
    top, left, flip = draw_crop_flip(np.random.default_rng(0), 4000, 32, 16, "crop_flip")
    assert set(top) == set(range(9))
    assert set(left) == set(range(5))
    assert 0.45 < flip.mean() < 0.55


def test_flip_alone_moves_nothing() -> None:
    top, left, flip = draw_crop_flip(np.random.default_rng(0), 50, 32, 32, "flip")
    assert set(top) == set(left) == {4}
    assert set(flip) == {0, 1}


def test_crop_alone_mirrors_nothing_and_shifts_half_as_far() -> None:
    top, left, flip = draw_crop_flip(np.random.default_rng(0), 500, 28, 32, "crop")
    assert not flip.any()
    assert set(top) == set(range(3 - 2, 3 + 3))
    assert set(left) == set(range(4 - 2, 4 + 3))
