"""Polynomial chaos expansion (PCE) as an input-output map: Hermite polynomials and a linear head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netpress.errors import ConfigError, WeightsError
from netpress.maths.polynomial import multi_indices
from netpress.maths.ranks import polynomial_terms


class HermiteMap(nn.Module):
    """Probabilists' Hermite polynomials of total degree at most 1 or 2 in normalised inputs, and a linear head.

    (N, in_features) -> (N, out_features). With ``z = (x - mean) / std`` the terms are 1 (the head's bias), z_i,
    z_i^2 - 1 and z_i z_j (i < j): ``polynomial_terms(r, degree) * out_features`` parameters, 13,260 at r = 50 and 10
    classes. Mean and scale are buffers.

    The products come from one outer product and a change of row length, not from index look-ups: (z, z) has 2r
    entries, so the outer product of z with it, read in rows of 2r + 1, has ``z_i z_((i+k) mod r)`` at row i, column k.
    Columns 1 to r // 2 hold each pair once (for even r the last column holds its pairs twice, and its second half is
    cut off). So there are no selection matrices to store, and no symmetric duplicates in the head.

    Args:
        in_features: r.
        degree: 1 or 2.
        out_features: Classes.

    Raises:
        ConfigError: If a size is below 1 or the degree is not 1 or 2.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, in_features: int, degree: int, out_features: int) -> None:
        super().__init__()
        if min(in_features, out_features) < 1:
            raise ConfigError(
                "a width of the map is out of range", got=(in_features, out_features), allowed="each 1 or more"
            )
        if degree not in (1, 2):
            raise ConfigError("the degree of the polynomial map is out of range", got=degree, allowed="1 or 2")
        self.in_features, self.degree, self.out_features = in_features, degree, out_features
        self.register_buffer("offset", torch.zeros(in_features))
        self.register_buffer("scale", torch.ones(in_features))
        self.head = nn.Linear(polynomial_terms(in_features, degree) - 1, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_features) -> (N, out_features)."""
        z = (x - self.offset) * self.scale
        if self.degree == 1:
            return self.head(z)
        terms = [z, z * z - 1]
        if self.in_features > 1:
            terms.append(self._pair_products(z))
        return self.head(torch.cat(terms, 1))  # (N, terms - 1) -> (N, out_features)

    def _pair_products(self, z: Tensor) -> Tensor:
        size = self.in_features
        twice = torch.cat([z, z], 1)  # (N, 2r)
        outer = (z.unsqueeze(2) * twice.unsqueeze(1)).flatten(1)  # (N, r, 2r) -> (N, 2r^2)
        rows = nn.functional.pad(outer, (0, size)).reshape(-1, size, 2 * size + 1)  # (N, 2r^2 + r) -> (N, r, 2r + 1)
        pairs = rows[:, :, 1 : size // 2 + 1].transpose(1, 2).flatten(1)  # (N, r, r // 2) -> (N, r // 2 * r)
        return pairs[:, : size * (size - 1) // 2]  # (N, r (r - 1) / 2)

    def pairs(self) -> list[tuple[int, int]]:
        """The (i, j), i < j, of the product terms, in the order of the head's last columns."""
        size = self.in_features
        cyclic = [(i, (i + step) % size) for step in range(1, size // 2 + 1) for i in range(size)]
        return [(min(pair), max(pair)) for pair in cyclic[: size * (size - 1) // 2]]

    def set_fit(self, coefficients: Tensor, mean: Tensor, std: Tensor) -> None:
        """Copies a least squares fit (``netpress.maths.polynomial.HermiteFit``) into the map.

        Args:
            coefficients: (terms, out_features), rows in the order of ``multi_indices(in_features, degree)``.
            mean: (in_features,), subtracted from the inputs.
            std: (in_features,), positive.

        Raises:
            WeightsError: If a shape does not fit, a value is not finite or a std is not positive.
        """
        size, columns = self.in_features, self.head.in_features
        found = (tuple(coefficients.shape), tuple(mean.shape), tuple(std.shape))
        wanted = ((columns + 1, self.out_features), (size,), (size,))
        if found != wanted:
            raise WeightsError("the fit does not belong to this polynomial map", got=found, allowed=wanted)
        if not bool(torch.isfinite(coefficients).all() & torch.isfinite(mean).all() & (std > 0).all()):
            raise WeightsError("coefficients and mean must be finite and each std positive")
        row_of = {indices: row for row, indices in enumerate(multi_indices(size, self.degree))}
        order = [row_of[(i,)] for i in range(size)]
        if self.degree == 2:
            order += [row_of[(i, i)] for i in range(size)] + [row_of[pair] for pair in self.pairs()]
        with torch.no_grad():
            self.head.bias.copy_(coefficients[0])
            self.head.weight.copy_(coefficients[order].T)
            self.offset.copy_(mean)
            self.scale.copy_(1 / std)
