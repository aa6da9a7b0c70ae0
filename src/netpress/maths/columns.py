"""Which columns of a matrix say the most about all of them: greedy column subset selection from a Gram matrix.

Source: Farahat, Ghodsi, Kamel, "An efficient greedy method for unsupervised feature selection", ICDM 2011 (the criterion);
Golub and Van Loan, "Matrix Computations", section 4.2.8 (the update, that of a pivoted Cholesky factorisation).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netpress.errors import DataError

EXHAUSTED = 1e-10  # of the whole energy: columns that are left with less are sums of those before


@dataclass(frozen=True)
class Selection:
    """Columns in the order in which they are chosen.

    Attributes:
        order: Column numbers, the one that explains the most first. (n,), int64
        left: Energy of all columns that the first 0, 1, ..., n of them do not explain by linear combination, falling; ``left[0]`` is
            the trace. (n + 1,), float64
    """

    order: Tensor
    left: Tensor

    @property
    def gains(self) -> Tensor:
        """By column number: the share of the energy that it added when it was chosen, never more than the one before. (n,)"""
        shares = (self.left[:-1] - self.left[1:]) / self.left[0].clamp_min(1e-300)
        gains = torch.empty_like(shares)
        gains[self.order] = torch.cummin(shares, 0).values
        return gains


def select_columns(gram: Tensor) -> Selection:
    """Chooses, one after the other, the column with which those chosen explain the most of all columns by least squares.

    n steps of one rank-one update of an n x n matrix.

    Args:
        gram: XᵀX of the columns, (n, n), positive semidefinite.

    Raises:
        DataError: It is not square, or not finite.
    """
    if gram.dim() != 2 or gram.shape[0] != gram.shape[1] or not len(gram):
        raise DataError("a Gram matrix is square", got=tuple(gram.shape), allowed="(n, n)")
    if not bool(torch.isfinite(gram).all()):
        raise DataError("the Gram matrix is not finite", remedy="check the network's weights and the data")
    rest = gram.double().clone()
    count = len(rest)
    free = torch.ones(count, dtype=torch.bool, device=rest.device)
    total = float(rest.trace())
    order: list[int] = []
    left = [total]
    while len(order) < count and left[-1] > EXHAUSTED * total:
        energies = rest.diagonal()
        usable = free & (energies > EXHAUSTED * total / count)
        if not bool(usable.any()):
            break
        worth = torch.where(usable, rest.square().sum(0) / energies.clamp_min(1e-300), -1.0)
        best = int(worth.argmax())
        column = rest[:, best] / energies[best].sqrt()
        rest.addr_(column, column, alpha=-1.0)
        free[best] = False
        order.append(best)
        left.append(min(left[-1], max(0.0, float(rest.trace()))))
    # what is left adds nothing: the larger columns first
    others = torch.argsort(gram.diagonal().double().masked_fill(~free, -1.0), descending=True, stable=True)
    order += [n for n in others.tolist() if free[n]]
    left += [left[-1]] * (count + 1 - len(left))
    return Selection(torch.tensor(order), torch.tensor(left, dtype=torch.float64))
