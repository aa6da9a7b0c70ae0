"""Images and labels that are not arrays in memory."""

from __future__ import annotations

import numpy as np


class LabelsThatFail:
    """Labels that nobody may look at."""

    def __len__(self) -> int:
        return 10

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise RuntimeError("the labels were read")


class Squares:
    """Images that are made when they are asked for: image k is k * k everywhere."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[int] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, 2, 2)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: object) -> np.ndarray:
        chosen = np.arange(self.count)[rows]
        self.asked.extend(chosen.tolist())
        return np.broadcast_to((chosen.astype(np.float32) ** 2)[:, None, None], (len(chosen), 2, 2))
