"""Multivariate Hermite polynomials and their least squares fit: a polynomial chaos expansion (PCE).

Probabilists' Hermite polynomials He_0 = 1, He_1 = x, ``He_(n+1) = x He_n - n He_(n-1)`` are orthogonal under the
standard normal density (Xiu and Karniadakis, SIAM J. Sci. Comput. 24 (2002) 619); of several variables, their products.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from netpress.errors import ConfigError, DataError
from netpress.maths.chunks import SampleChunks
from netpress.maths.ranks import polynomial_terms

MAX_TERMS = 8192
"""The normal equations of a fit hold terms x terms float64 numbers: 512 MiB at this size."""


def multi_indices(size: int, degree: int) -> list[tuple[int, ...]]:
    """Each polynomial as the sorted tuple of its variables, by degree and then lexicographically.

    ``multi_indices(2, 2) == [(), (0,), (1,), (0, 0), (0, 1), (1, 1)]``; (0, 0) is He_2(x_0), (0, 1) is x_0 x_1.

    Raises:
        ConfigError: If the size is below 1, the degree below 0, or there are more than ``MAX_TERMS`` polynomials.
    """
    if size < 1 or degree < 0:
        raise ConfigError("polynomials need 1 variable or more and a degree of 0 or more", got=(size, degree))
    terms = polynomial_terms(size, degree)
    if terms > MAX_TERMS:
        raise ConfigError(
            f"{size} variables have too many polynomials of degree {degree}",
            got=terms,
            allowed=f"at most {MAX_TERMS}",
            remedy="take fewer reduced features, a lower degree, or the FNN map",
        )
    return [indices for total in range(degree + 1) for indices in combinations_with_replacement(range(size), total)]


def hermite_values(z: Tensor, degree: int) -> list[Tensor]:
    """He_0(z), ..., He_degree(z), each of z's shape."""
    values = [torch.ones_like(z), z]
    for n in range(1, degree):
        values.append(z * values[n] - n * values[n - 1])
    return values[: degree + 1]


def hermite_features(z: Tensor, degree: int) -> Tensor:
    """All Hermite polynomials of total degree at most ``degree`` of normalised inputs.

    Args:
        z: (N, size), about zero mean and unit deviation.
        degree: 0 or more.

    Returns:
        (N, ``polynomial_terms(size, degree)``), in the order of ``multi_indices``.

    Raises:
        ConfigError: As in ``multi_indices``.
    """
    size = z.shape[1]
    values = torch.cat(hermite_values(z, degree), 1)  # (N, (degree + 1) * size); column n * size + i is He_n(z_i)
    # A polynomial is a product of at most `degree` columns; column 0 (He_0 = 1) pads the shorter ones.
    factors = [[power * size + variable for variable, power in Counter(i).items()] for i in multi_indices(size, degree)]
    features = torch.ones(len(z), len(factors), dtype=z.dtype, device=z.device)
    for position in range(degree):
        columns = [columns[position] if position < len(columns) else 0 for columns in factors]
        features = features * values[:, columns]  # (N, terms)
    return features


class HermiteFit:
    """Streaming least squares of Hermite polynomials against targets, by normal equations in float64.

    Two passes over the data in all: one for mean and deviation (``StreamingMoments``), one here. Memory: terms squared
    float64 numbers, and one chunk.

    Args:
        in_features: Number of inputs.
        degree: Total degree.
        out_features: Number of targets.
        mean: (in_features,), subtracted from the inputs.
        std: (in_features,), positive.

    Raises:
        ConfigError: If there would be more than ``MAX_TERMS`` polynomials.
        DataError: If mean or std do not fit.
    """

    def __init__(self, in_features: int, degree: int, out_features: int, *, mean: Tensor, std: Tensor) -> None:
        if tuple(mean.shape) != (in_features,) or tuple(std.shape) != (in_features,) or not bool((std > 0).all()):
            raise DataError(
                "mean and std do not fit the inputs",
                got=f"{tuple(mean.shape)}, {tuple(std.shape)}",
                allowed=f"({in_features},) each, std above 0",
            )
        self.in_features, self.degree, self.out_features = in_features, degree, out_features
        self.mean, self.std = mean.double(), std.double()
        self.samples = 0
        terms = len(multi_indices(in_features, degree))
        self._gram = torch.zeros(terms, terms, dtype=torch.float64, device=mean.device)
        self._right = torch.zeros(terms, out_features, dtype=torch.float64, device=mean.device)
        # Inputs and targets travel side by side; the wide polynomial features exist for one chunk only.
        self._chunks = SampleChunks((in_features + out_features,), capacity=max(64, 2**20 // terms))

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        """Adds a batch: inputs (N, in_features), targets (N, out_features).

        Raises:
            DataError: If a shape or a dtype does not fit.
        """
        if inputs.dim() != 2 or targets.dim() != 2 or len(inputs) != len(targets):
            raise DataError(
                "inputs and targets of the fit do not match",
                got=f"{tuple(inputs.shape)}, {tuple(targets.shape)}",
                allowed=f"(N, {self.in_features}), (N, {self.out_features})",
            )
        if inputs.shape[1] != self.in_features:
            raise DataError("the fit got inputs of another width", got=inputs.shape[1], allowed=self.in_features)
        for chunk in self._chunks.push(torch.cat([inputs, targets.to(inputs)], 1)):
            self._add(chunk)
        self.samples += len(inputs)

    def solve(self, ridge: float = 1e-8) -> Tensor:
        """The coefficients: (terms, out_features), float64, rows in the order of ``multi_indices``.

        Args:
            ridge: Added to the diagonal of the normal equations, as a share of its mean; keeps them solvable when there
                are fewer samples than terms.

        Raises:
            ConfigError: If the ridge is not above 0.
            DataError: If nothing was fed in, or the data are not finite.
        """
        if not ridge > 0:
            raise ConfigError("the ridge of the fit is out of range", got=ridge, allowed="above 0")
        for chunk in self._chunks.flush():
            self._add(chunk)
        if self.samples == 0:
            raise DataError("nothing was fed into the fit", got="0 samples", allowed="1 or more")
        if not bool(torch.isfinite(self._gram).all() & torch.isfinite(self._right).all()):
            raise DataError("inputs or targets of the fit are not finite", remedy="check the network and the data")
        shifted = self._gram.clone()
        shifted.diagonal().add_(ridge * float(self._gram.diagonal().mean()))
        return torch.cholesky_solve(self._right, torch.linalg.cholesky(shifted))

    def _add(self, chunk: Tensor) -> None:
        values = chunk.to(self._gram)
        inputs, targets = values.split([self.in_features, self.out_features], dim=1)
        features = hermite_features((inputs - self.mean) / self.std, self.degree)  # (N, terms)
        self._gram += features.T @ features
        self._right += features.T @ targets
