"""Checks on ranks, shared by everything that projects features."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, prod

from netpress.errors import ConfigError


def check_feature_shape(shape: Sequence[int] | int) -> tuple[int, ...]:
    """A feature shape without the batch dimension, as a tuple of positive integers.

    Raises:
        ConfigError: If it is empty or a size is below 1.
    """
    sizes = (int(shape),) if isinstance(shape, int) else tuple(int(size) for size in shape)
    if not sizes or min(sizes) < 1:
        raise ConfigError("a feature shape needs at least one size, each 1 or more", got=sizes, allowed="(d1, ..., dk)")
    return sizes


def check_ranks(feature_shape: Sequence[int] | int, ranks: Sequence[int] | int) -> tuple[int, ...]:
    """One rank a mode, each between 1 and the mode's size.

    Args:
        feature_shape: (d1, ..., dk).
        ranks: (r1, ..., rk); a single integer is allowed when k = 1.

    Raises:
        ConfigError: If the number of ranks is not k, or a rank is outside 1..d_n.
    """
    shape = check_feature_shape(feature_shape)
    chosen = (int(ranks),) if isinstance(ranks, int) else tuple(int(rank) for rank in ranks)
    if len(chosen) != len(shape):
        raise ConfigError(
            f"features of shape {shape} need {len(shape)} ranks, one a mode",
            got=f"{len(chosen)} {chosen}",
            allowed=f"{len(shape)} integers",
        )
    for mode, (rank, size) in enumerate(zip(chosen, shape, strict=True), start=1):
        if not 1 <= rank <= size:
            raise ConfigError(
                f"the rank of mode {mode} does not fit features of shape {shape}", got=rank, allowed=f"1..{size}"
            )
    return chosen


def check_rank(size: int, rank: int) -> int:
    """One rank of a flattened feature of ``size`` numbers.

    Raises:
        ConfigError: If it is outside 1..size.
    """
    if not 1 <= rank <= size:
        raise ConfigError(f"the rank does not fit features of {size} numbers", got=rank, allowed=f"1..{size}")
    return int(rank)


def contraction_order(feature_shape: Sequence[int], ranks: Sequence[int]) -> tuple[int, ...]:
    """The order of modes in which projecting them takes the fewest multiply-accumulates.

    Projecting mode a before b, from S numbers, takes ``S r_a + S (r_a / d_a) r_b``; comparing with the other order
    shows that a goes first exactly when ``1/r_a - 1/d_a > 1/r_b - 1/d_b``, so sorting by that value is optimal. The
    reverse order is the optimal one for lifting back.
    """
    gains = [1 / rank - 1 / size for size, rank in zip(feature_shape, ranks, strict=True)]
    return tuple(sorted(range(len(gains)), key=lambda mode: -gains[mode]))


def contraction_macs(feature_shape: Sequence[int], ranks: Sequence[int], order: Sequence[int]) -> int:
    """Multiply-accumulates of projecting one sample mode by mode in the given order."""
    sizes, total = list(feature_shape), 0
    for mode in order:
        total += prod(sizes) * ranks[mode]
        sizes[mode] = ranks[mode]
    return total


def polynomial_terms(size: int, degree: int) -> int:
    """Number of polynomials of total degree at most ``degree`` in ``size`` variables, the constant among them.

    ``polynomial_terms(50, 2) == 1326``.
    """
    return comb(size + degree, degree)
