"""Random crops and flips of a whole batch at once, on pixels as they are stored."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AUGMENTATIONS = ("none", "flip", "crop", "crop_flip")


def crop_padding(size: int) -> int:
    """Pixels of padding that a random crop moves within: 4 for 32-pixel images, in proportion for others."""
    return size // 8


def shift_range(size: int, augment: str) -> int:
    """Pixels that ``augment`` shifts by at most: ``crop_padding``, and half of it for ``crop``, 2 for digits of 28 pixels."""
    return {"crop_flip": crop_padding(size), "crop": (crop_padding(size) + 1) // 2}.get(augment, 0)


def draw_crop_flip(rng: np.random.Generator, count: int, height: int, width: int, augment: str) -> NDArray[np.int64]:
    """(3, count): vertical offset, horizontal offset (0 to twice the padding) and flip (0 or 1) of each image.

    Offsets are those of a crop from the padded image, so that ``crop_padding`` stands for no shift. ``crop`` mirrors nothing:
    digits and letters are something else in a mirror. ``flip`` shifts nothing, but sees the flips that ``crop_flip`` does.
    """
    pad_h, pad_w = crop_padding(height), crop_padding(width)
    far_h, far_w = (shift_range(size, "crop" if augment == "crop" else "crop_flip") for size in (height, width))
    top = pad_h + rng.integers(-far_h, far_h + 1, count)
    left = pad_w + rng.integers(-far_w, far_w + 1, count)
    flip = rng.integers(0, 2, count)
    if augment == "flip":
        top[:], left[:] = pad_h, pad_w
    if augment == "crop":
        flip[:] = 0
    return np.stack([top, left, flip])  # (3, count)


def crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Pads by reflection, crops back to the old size at the drawn offsets, mirrors where drawn.

    The three are one look-up: every output pixel names the pixel of its image that it comes from. So it runs on uint8,
    without an array of padded images, and at the speed of a copy.

    Args:
        images: (N, H, W, C), any type, contiguous.
        draws: (3, N) int64 of :func:`draw_crop_flip`, on the same device.

    Returns:
        (N, H, W, C) of the same type.
    """
    count, height, width, channels = images.shape
    top, left, flip = draws.unsqueeze(2).unbind(0)  # each (N, 1)
    down = torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device)
    rows = _reflect(top - crop_padding(height) + down, height)  # (N, H)
    columns = _reflect(left - crop_padding(width) + torch.where(flip == 1, width - 1 - across, across), width)  # (N, W)
    first = torch.arange(count, device=images.device).unsqueeze(1) * height  # (N, 1)
    pixels = (first + rows).unsqueeze(2) * width + columns.unsqueeze(1)  # (N, H, W)
    return images.view(-1, channels).index_select(0, pixels.view(-1)).view(images.shape)  # (N*H*W, C) -> (N, H, W, C)


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Positions beyond an edge, mirrored about the edge pixel: -1 is 1, and ``size`` is ``size - 2``."""
    positions = positions.abs()
    return torch.where(positions >= size, 2 * (size - 1) - positions, positions)
