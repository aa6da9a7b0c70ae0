"""Batches of a split, the same ones whenever the same seed, epoch and batch number are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from netpress.data.augment import AUGMENTATIONS, crop_flip, draw_crop_flip
from netpress.data.dataset import IN_MEMORY_BYTES, Split, canonical_labels
from netpress.data.preprocess import Preprocess, as_tensor, channels_first
from netpress.errors import ConfigError, DataError, UnknownNameError

_BATCHES_AHEAD = 3
_ORDER, _DRAWS = 0, 1  # streams of random numbers that must not meet


class ImageStream:
    """Preprocessed batches on a device. Order and augmentation are a pure function of (seed, epoch, batch number).

    Every image comes exactly once an epoch. The last batch is smaller when the batch size does not divide the count,
    unless ``drop_last`` leaves it out; one smaller than ``min_batch`` is joined to the batch before it, because batch
    normalisation cannot train on a batch of one. Without labels ``y`` is None.

    Augmentations: ``none``; ``flip`` (mirrored left to right, every other image at random); ``crop_flip`` (besides, padded by
    reflection by an eighth of the size, 4 pixels for 32, and cropped back at random); ``crop`` (shifted by half as much at most and
    never mirrored: for digits).

    On an accelerator the stored images are kept there whole when they are smaller than 2 GB, and are chosen and
    augmented there. Images that are not in memory are read ahead by a background thread.

    Args:
        split: What to draw from.
        preprocess: From stored images to network input.
        batch_size: Images a batch.
        shuffle: A new order each epoch; else the split's own order.
        augment: ``none``, ``flip``, ``crop`` or ``crop_flip``.
        seed: Of order and augmentation.
        drop_last: Leave an incomplete last batch out.
        device: Where batches lie.
        min_batch: Smallest incomplete last batch that stands alone.
        with_labels: False never touches the labels; ``y`` is None.

    Raises:
        ConfigError: A value out of range; ``drop_last`` with less than one batch; cropping of what is not an image.
        UnknownNameError: An unknown augmentation.
        DataError: An empty split, or not as many labels as images.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        *,
        batch_size: int,
        shuffle: bool = False,
        augment: str = "none",
        seed: int = 0,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        min_batch: int = 2,
        with_labels: bool = True,
    ) -> None:
        if augment not in AUGMENTATIONS:
            raise UnknownNameError("augmentation", augment, AUGMENTATIONS)
        for name, value in (("batch_size", batch_size), ("min_batch", min_batch)):
            if value < 1:
                raise ConfigError(f"{name} is out of range", got=value, allowed="1 or more")
        if len(split) == 0:
            raise DataError("there is nothing to draw batches from", got="an empty split", allowed="one image or more")
        if augment != "none" and len(split.images.shape) not in (3, 4):
            raise ConfigError(
                f"the augmentation {augment!r} needs images",
                got=f"inputs of shape {tuple(split.images.shape[1:])}",
                allowed="(H, W), (H, W, C) or (C, H, W)",
                remedy='use augment="none"',
            )
        if drop_last and len(split) < batch_size:
            raise ConfigError(
                "drop_last leaves no batch",
                got=f"{len(split)} images",
                allowed=f"{batch_size} or more (the batch size)",
            )
        self.split, self.preprocess, self.batch_size, self.shuffle = split, preprocess, batch_size, shuffle
        self.augment, self.seed, self.drop_last, self.device = augment, seed, drop_last, torch.device(device)
        self.min_batch, self.with_labels = min_batch, with_labels
        self._bounds = batch_bounds(len(split), batch_size, drop_last=drop_last, min_batch=min_batch)
        self._resident: Tensor | None = None
        self._labels: Tensor | None = None

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._bounds) - 1

    @property
    def samples(self) -> int:
        """Images an epoch."""
        return self._bounds[-1]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """(N,) row numbers of the split in the order in which ``epoch`` draws them."""
        if not self.shuffle:
            return np.arange(len(self.split))
        return self._rng(epoch, _ORDER, 0).permutation(len(self.split))

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The batches of one epoch, from batch number ``start`` on.

        Yields:
            ``x``: (B, ...) network input (float32, NCHW for images) and ``y``: (B,) int64, or (B,) or (B, k) float32,
            or None; both on the device.

        Raises:
            ConfigError: ``epoch`` or ``start`` out of range.
        """
        if epoch < 0 or not 0 <= start <= len(self):
            raise ConfigError(
                "there is no such batch",
                got=f"epoch {epoch}, batch {start}",
                allowed=f"epoch 0 or more, batch 0 to {len(self)}",
            )
        return self._batches(epoch, start)

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        order, labels = self.order(epoch), self._label_tensor()
        numbers = range(start, len(self))
        rows = [order[self._bounds[k] : self._bounds[k + 1]] for k in numbers]
        for number, chosen, stored in zip(numbers, rows, self._stored(rows), strict=True):
            # A batch is one look-up away from its images: x and y come from the same row numbers.
            x = self.preprocess.normalise(self._augmented(channels_first(stored), epoch, number))
            y = None if labels is None else labels.index_select(0, torch.from_numpy(chosen).to(self.device))
            yield x, y

    def _stored(self, rows: list[NDArray[np.int64]]) -> Iterator[Tensor]:
        """The images of each batch as they are stored, on the device."""
        images = self.split.images
        if self._fits_on_device():
            resident = self._resident_images()
            for chosen in rows:
                yield resident.index_select(0, torch.from_numpy(chosen).to(self.device))
        elif isinstance(images, np.ndarray):
            plain = np.asarray(images)  # an ndarray view of a memory map is much faster to index than the map itself
            for chosen in rows:
                yield as_tensor(plain[chosen]).to(self.device, non_blocking=True)
        else:
            for array in _ahead(images, rows):
                yield as_tensor(array).to(self.device, non_blocking=True)

    def _augmented(self, images: Tensor, epoch: int, number: int) -> Tensor:
        """(B, C, H, W), as stored, to the same; the result may be a view that is channels-last in memory."""
        if self.augment == "none":
            return images
        count, _, height, width = images.shape
        draws = draw_crop_flip(self._rng(epoch, _DRAWS, number), count, height, width, self.augment)
        pixels = images.permute(0, 2, 3, 1).contiguous()  # (B, C, H, W) -> (B, H, W, C)
        return crop_flip(pixels, torch.from_numpy(draws).to(images.device)).permute(0, 3, 1, 2)  # -> (B, C, H, W)

    def _label_tensor(self) -> Tensor | None:
        if not self.with_labels or self.split.labels is None:
            return None
        if self._labels is None:
            labels = canonical_labels(np.array(self.split.labels))  # a copy: torch cannot hold read-only memory
            if len(labels) != len(self.split):
                raise DataError("not one label an image", got=f"{len(self.split)} images, {len(labels)} labels")
            self._labels = torch.from_numpy(labels).to(self.device)
        return self._labels

    def _fits_on_device(self) -> bool:
        images = self.split.images
        return self.device.type != "cpu" and isinstance(images, np.ndarray) and images.nbytes < IN_MEMORY_BYTES

    def _resident_images(self) -> Tensor:
        if self._resident is None:
            self._resident = as_tensor(np.asarray(self.split.images)).to(self.device)
        return self._resident

    def _rng(self, epoch: int, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self.seed % 2**64, epoch, purpose, number)))


def batch_bounds(count: int, batch_size: int, *, drop_last: bool = False, min_batch: int = 1) -> list[int]:
    """Where batches begin and end: 9 images by fours are ``[0, 4, 8, 9]``; with ``min_batch`` 2, ``[0, 4, 9]``."""
    bounds = list(range(0, count, batch_size))
    last = count - bounds[-1]
    if last == batch_size:
        return [*bounds, count]
    if drop_last:
        return bounds
    if last < min_batch and len(bounds) > 1:
        bounds.pop()
    return [*bounds, count]


def _ahead(images: Any, rows: list[NDArray[np.int64]]) -> Iterator[NDArray[Any]]:
    """``images[chosen]`` for each ``chosen``, read by a background thread a few batches before it is asked for."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="netpress-read-ahead") as pool:
        waiting: deque[Future[NDArray[Any]]] = deque()
        remaining = iter(rows)
        try:
            for chosen in remaining:
                waiting.append(pool.submit(images.__getitem__, chosen))
                if len(waiting) == _BATCHES_AHEAD:
                    break
            while waiting:
                batch = waiting.popleft().result()
                following = next(remaining, None)
                if following is not None:
                    waiting.append(pool.submit(images.__getitem__, following))
                yield batch
        finally:
            for future in waiting:  # the consumer left early: what has not begun need not
                future.cancel()
