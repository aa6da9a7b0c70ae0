"""Mean and standard deviation of a stream."""

from __future__ import annotations

import torch
from torch import Tensor

from netpress.errors import DataError
from netpress.maths.chunks import SampleChunks
from netpress.maths.ranks import check_feature_shape


class StreamingMoments:
    """Mean and population standard deviation of each of ``size`` features, in one pass.

    Chunks are combined by the update of Chan, Golub and LeVeque (1983), which does not lose digits when the mean is
    large beside the deviation. Memory: two vectors and one chunk.

    Args:
        size: Number of features.

    Raises:
        ConfigError: If it is below 1.
    """

    def __init__(self, size: int) -> None:
        (self.size,) = check_feature_shape(size)
        self.samples = 0
        self._chunks = SampleChunks((self.size,))
        self._counted = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def update(self, batch: Tensor) -> None:
        """Adds a batch (N, size).

        Raises:
            DataError: If the shape or the dtype does not fit.
        """
        for chunk in self._chunks.push(batch):
            self._add(chunk)
        self.samples += len(batch)

    def mean(self) -> Tensor:
        """(size,), float64.

        Raises:
            DataError: If nothing was fed in, or the features are not finite.
        """
        return self._state()[0]

    def std(self) -> Tensor:
        """(size,), float64, population standard deviation; 1 for features that never change, so that one may divide.

        Raises:
            DataError: As in ``mean``.
        """
        mean, squares = self._state()
        std = (squares / self._counted).sqrt()
        constant = std <= 1e-6 * mean.abs()  # float32 inputs carry no more than that
        return torch.where(constant | (std == 0), torch.ones_like(std), std)

    def _state(self) -> tuple[Tensor, Tensor]:
        for chunk in self._chunks.flush():
            self._add(chunk)
        if self._mean is None or self._squares is None:
            raise DataError("no features were fed in", got="0 samples", allowed="1 or more")
        if not bool(torch.isfinite(self._squares).all() & torch.isfinite(self._mean).all()):
            raise DataError("the features are not finite", remedy="check the network's weights and the data")
        return self._mean, self._squares

    def _add(self, chunk: Tensor) -> None:
        values = chunk.double()
        count, mean = len(values), values.mean(0)
        squares = (values - mean).square().sum(0)  # (size,)
        if self._mean is None or self._squares is None:
            self._mean, self._squares = mean, squares
        else:
            total = self._counted + count
            shift = mean.to(self._mean) - self._mean
            self._squares = self._squares + squares.to(self._mean) + shift.square() * (self._counted * count / total)
            self._mean = self._mean + shift * (count / total)
        self._counted += count
