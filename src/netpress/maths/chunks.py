"""Regrouping a stream of batches into chunks of one fixed size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from netpress.errors import DataError

CHUNK_ELEMENTS = 2**19
"""Numbers in a chunk: large enough for full matrix-product speed, small enough for exact-enough float32 sums."""


class SampleChunks:
    """Regroups batches of any size into chunks of ``capacity`` samples.

    A sum over chunks then does not depend on how the stream was cut into batches, bit for bit, and batches of one
    sample cost hardly more than large ones. At most one chunk is held.

    Args:
        sample_shape: Shape of one sample, without the batch dimension.
        capacity: Samples in a chunk; by default as many as fit into ``CHUNK_ELEMENTS`` numbers, and at least one.
    """

    def __init__(self, sample_shape: Sequence[int], capacity: int | None = None) -> None:
        self.sample_shape = tuple(int(size) for size in sample_shape)
        numbers = max(1, torch.Size(self.sample_shape).numel())
        self.capacity = capacity if capacity is not None else max(1, CHUNK_ELEMENTS // numbers)
        self._buffer: Tensor | None = None
        self._filled = 0

    def push(self, batch: Tensor) -> Iterator[Tensor]:
        """Takes a batch in and yields each chunk that it completes.

        Args:
            batch: (N, *sample_shape), any floating dtype; float16 and bfloat16 become float32.

        Raises:
            DataError: If the samples have another shape, or are not floating-point numbers.
        """
        if batch.dim() != 1 + len(self.sample_shape) or tuple(batch.shape[1:]) != self.sample_shape:
            raise DataError(
                "a batch of features has the wrong shape",
                got=tuple(batch.shape),
                allowed=("N", *self.sample_shape),
                remedy="feed the features of the one cut for which this was built",
            )
        if not batch.is_floating_point():
            raise DataError(
                "features must be floating-point numbers", got=batch.dtype, remedy="convert with .float() first"
            )
        batch = batch.detach()
        if batch.dtype != torch.float64:
            batch = batch.float()
        return self._regroup(batch)

    def _regroup(self, batch: Tensor) -> Iterator[Tensor]:
        start = 0
        while start < len(batch):
            if self._filled == 0 and len(batch) - start >= self.capacity:
                # Whole chunks need no copy. The layout is made the buffer's own, so that the sums stay bit-identical.
                yield batch[start : start + self.capacity].contiguous()
                start += self.capacity
                continue
            taken = min(self.capacity - self._filled, len(batch) - start)
            self._room(batch)[self._filled : self._filled + taken] = batch[start : start + taken]
            self._filled += taken
            start += taken
            if self._filled == self.capacity:
                yield from self.flush()

    def flush(self) -> Iterator[Tensor]:
        """Yields what is held, if anything, and empties the buffer."""
        if self._filled and self._buffer is not None:
            filled, self._filled = self._filled, 0
            yield self._buffer[:filled]

    def _room(self, batch: Tensor) -> Tensor:
        if self._buffer is None:
            # The first batch fixes device and dtype; later ones are copied to them.
            self._buffer = batch.new_empty((self.capacity, *self.sample_shape))
        return self._buffer
