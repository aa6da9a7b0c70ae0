"""Which ranks a reduction layer gets: nested candidates, and the largest that a budget allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from netpress.errors import BudgetError
from netpress.graph import count, trace
from netpress.pipeline.budget import FILE_OVERHEAD_BYTES, fits

Ranks = tuple[int, ...]


def energy_path(spectra: Sequence[torch.Tensor]) -> list[Ranks]:
    """Nested mode ranks from all ones to full, each step adding the direction that brings most energy per feature.

    Args:
        spectra: Mode-n eigenvalues, largest first, one tensor (d_n,) a mode.

    Returns:
        Ranks in ascending order; each differs from the one before in one mode by one.

    One more direction in mode n keeps the share λ_n(r_n + 1) / Σ λ_n of that mode's energy and multiplies the number of
    features by (r_n + 1) / r_n; the greedy step takes the best ratio of the two.
    """
    shares = [
        (s.double().clamp_min(0) / s.double().sum().clamp_min(torch.finfo(torch.float64).tiny)).tolist()
        for s in spectra
    ]
    ranks = [1] * len(shares)
    path = [tuple(ranks)]
    while any(r < len(s) for r, s in zip(ranks, shares, strict=True)):
        # Gain per relative growth of the feature count: a step from r to r + 1 grows it by the factor 1 + 1 / r.
        gains = [s[r] * r if r < len(s) else -1.0 for r, s in zip(ranks, shares, strict=True)]
        mode = max(range(len(gains)), key=gains.__getitem__)
        ranks[mode] += 1
        path.append(tuple(ranks))
    return path


def channel_path(shape: Sequence[int], most_spatial: int = 3) -> list[Ranks]:
    """Ranks (r_C, r_H, r_W) for r_C = 1..C with the spatial ranks fixed at min(size, ``most_spatial``)."""
    spatial = tuple(min(size, most_spatial) for size in shape[1:])
    return [(r, *spatial) for r in range(1, shape[0] + 1)]


def default_channel_ranks(shape: Sequence[int]) -> Ranks:
    """A quarter of the channels and at most 3 x 3 places, where neither the user nor a budget decides."""
    return channel_path(shape)[max(1, shape[0] // 4) - 1]


def flat_path(size: int) -> list[Ranks]:
    """Ranks 1..size of a flattened feature."""
    return [(rank,) for rank in range(1, size + 1)]


def largest_that_fits(
    path: Sequence[Ranks],
    build: Callable[[Ranks], nn.Module],
    shape: Sequence[int],
    *,
    before: tuple[int, int],
    bounds: Mapping[str, float],
) -> Ranks:
    """The last ranks of a nested path with which the whole network holds its bounds on params, macs and bytes.

    Args:
        path: Ascending candidates.
        build: Everything that follows the cut, for given ranks, on the meta device: only its size matters.
        shape: Feature shape at the cut, without N.
        before: (params, macs) of what stays before the cut.
        bounds: Absolute bounds by metric.

    Raises:
        BudgetError: Even the smallest candidate is too large.
    """
    low, high = 0, len(path) - 1
    if not _holds(path[0], build, shape, before, bounds):
        params, macs = _cost(build(path[0]), shape, before)
        values = {"params": params, "macs": macs, "bytes": params * 4 + FILE_OVERHEAD_BYTES}
        near = ", ".join(f"{m} {values[m]:,.0f} (bound {b:,.0f})" for m, b in bounds.items() if m in values)
        raise BudgetError(
            "the budget cannot be met at this cut: the smallest reduction is still too large",
            got=near,
            remedy=f"cut earlier (before the cut stay {before[0]:,} parameters and {before[1]:,} MACs), or allow more",
        )
    while low < high:
        middle = (low + high + 1) // 2
        if _holds(path[middle], build, shape, before, bounds):
            low = middle
        else:
            high = middle - 1
    return path[low]


def _holds(
    ranks: Ranks,
    build: Callable[[Ranks], nn.Module],
    shape: Sequence[int],
    before: tuple[int, int],
    bounds: Mapping[str, float],
) -> bool:
    params, macs = _cost(build(ranks), shape, before)
    return fits(bounds, params=params, macs=macs)


def _cost(after: nn.Module, shape: Sequence[int], before: tuple[int, int]) -> tuple[int, int]:
    after.to_empty(device="cpu")
    for tensor in after.state_dict().values():
        tensor.zero_()
    counts = count(trace(after.eval(), torch.zeros(2, *shape)))
    return before[0] + counts.params, before[1] + counts.macs
