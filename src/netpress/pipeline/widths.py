"""How many channels of each group stay, and which, so that a budget holds exactly.

Channels are taken away in rising order of their scores until every bound holds, and put back in falling order while they still fit:
nothing that was removed could stay without breaking a bound. Counts come from `structure.Costs`, which is exact, so nothing has to
be cut out to know what it would cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from netpress.errors import BudgetError
from netpress.structure import Costs

Scores = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """An upper bound on what the network, or a part of it, may cost.

    Attributes:
        metric: ``params``, ``macs`` or ``bytes`` (of the tensors alone).
        most: The bound.
        within: Dotted names of the modules that it is about; empty for the whole network.
    """

    metric: str
    most: float
    within: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" of {', '.join(self.within)}" if self.within else ""
        return f"{self.metric}{where} <= {self.most:,.0f}"


class Widths:
    """Searches widths for one network; see `fit`.

    Args:
        costs: Of the network's channels.
        least: Channels that every group keeps, or all it has where it has fewer.
        multiple: Widths are multiples of it where they are smaller than before; hardware likes 8.
    """

    def __init__(self, costs: Costs, *, least: int = 1, multiple: int = 1) -> None:
        self.costs = costs
        self._allowed = [_allowed_widths(int(size), least, multiple) for size in costs.full]

    @property
    def smallest(self) -> NDArray[np.int64]:
        """The fewest channels of each group. (groups,)"""
        return np.array([widths[-1] for widths in self._allowed], np.int64)

    def fit(self, scores: Scores, bounds: Sequence[Bound], *, by_cost: float = 0.0) -> dict[str, NDArray[np.bool_]]:
        """Which channels stay, by group.

        Args:
            scores: What each channel is worth, by group: (size,) each. Only their order counts, within and between groups, where
                channels go one by one; several that go at once (``multiple``) are worth their mean. What is worth less than 0 goes
                in any case, as far as ``least`` allows.
            bounds: All hold at the end.
            by_cost: Worth is divided by what a channel costs, in the metric of the bound that it is removed for, to this power:
                0 compares worth alone, 1 worth for cost.

        Raises:
            BudgetError: A bound cannot be met; the text says the smallest that can be reached.
        """
        self._refuse_unreachable(bounds)
        order = {name: np.argsort(-scores[name], kind="stable") for name in self.costs.names}  # best first
        units = self._units(scores, order)
        removed = units.worth < 0
        for bound in bounds:
            if not self._holds(self._kept(units, removed), (bound,)):
                removed = self._shrunk(units, removed, bound, by_cost)
        removed = self._filled(units, removed, bounds)
        kept = self._kept(units, removed)
        keep = {}
        for number, name in enumerate(self.costs.names):
            keep[name] = np.zeros(int(self.costs.full[number]), bool)
            keep[name][order[name][: kept[number]]] = True
        return keep

    def _refuse_unreachable(self, bounds: Sequence[Bound]) -> None:
        for bound in bounds:
            least = self.costs.at(bound.metric, self.smallest, bound.within)
            if least > bound.most:
                where = f" of {', '.join(bound.within)}" if bound.within else ""
                raise BudgetError(
                    "the budget cannot be met by taking channels away",
                    got=f"the smallest reachable {bound.metric}{where} is {least:,}, with {_listed(self)}",
                    allowed=str(bound),
                    remedy="allow more, let more layers shrink (whole, least, multiple), or use a method that removes layers",
                )

    def _units(self, scores: Scores, order: Mapping[str, NDArray[np.int64]]) -> _Units:
        """What is removed at a time: so many channels of a group, each group's own in order from the worst."""
        group, size, worth = [], [], []
        for number, name in enumerate(self.costs.names):
            widths = self._allowed[number]
            for wide, narrow in pairwise(widths):
                group.append(number)
                size.append(wide - narrow)
                worth.append(float(scores[name][order[name][narrow:wide]].mean()))
        return _Units(np.array(group, np.int64), np.array(size, np.int64), np.array(worth, np.float64))

    def _shrunk(self, units: _Units, removed: NDArray[np.bool_], bound: Bound, by_cost: float) -> NDArray[np.bool_]:
        """With as many of the worst units removed as the bound asks for, of those that it is about."""
        slopes = self.costs.slopes(bound.metric, self.costs.full, bound.within)
        useful = np.flatnonzero(~removed & (slopes[units.group] > 0))
        worth = units.worth[useful] / (slopes[units.group[useful]] * units.size[useful]) ** by_cost
        # a unit cannot go before the one behind it in its own group
        worth = _rising_within(units.group[useful], worth)
        queue = useful[np.argsort(worth, kind="stable")]
        low, high = 0, len(queue)  # at low the bound is broken, at high it holds
        while high - low > 1:
            middle = (low + high) // 2
            trial = removed.copy()
            trial[queue[:middle]] = True
            if self._holds(self._kept(units, trial), (bound,)):
                high = middle
            else:
                low = middle
        removed = removed.copy()
        removed[queue[:high]] = True
        return removed

    def _filled(self, units: _Units, removed: NDArray[np.bool_], bounds: Sequence[Bound]) -> NDArray[np.bool_]:
        """With units put back, the best first, as long as one fits."""
        removed = removed.copy()
        wanted = units.worth >= 0
        open_groups = set(units.group[removed & wanted].tolist())
        while open_groups:
            # of each group the unit that was removed last, which is its best
            ends = {g: int(np.flatnonzero(removed & wanted & (units.group == g))[-1]) for g in open_groups}
            for group, unit in sorted(ends.items(), key=lambda item: -units.worth[item[1]]):
                removed[unit] = False
                if self._holds(self._kept(units, removed), bounds):
                    if not (removed & wanted & (units.group == group)).any():
                        open_groups.discard(group)
                    break
                removed[unit] = True
                open_groups.discard(group)  # costs only rise: it will not fit later either
        return removed

    def _kept(self, units: _Units, removed: NDArray[np.bool_]) -> NDArray[np.int64]:
        gone = np.bincount(units.group[removed], units.size[removed], minlength=len(self.costs.full))
        kept: NDArray[np.int64] = self.costs.full - gone.astype(np.int64)
        return kept

    def _holds(self, kept: NDArray[np.int64], bounds: Sequence[Bound]) -> bool:
        return all(self.costs.at(b.metric, kept, b.within) <= b.most for b in bounds)


@dataclass(frozen=True)
class _Units:
    """(units,) each: the group, how many channels, and what they are worth on average; each group's own from the worst on."""

    group: NDArray[np.int64]
    size: NDArray[np.int64]
    worth: NDArray[np.float64]


def _allowed_widths(size: int, least: int, multiple: int) -> list[int]:
    """Falling, from all channels to the fewest."""
    least = min(size, max(1, least))
    steps = [width for width in range(size - size % multiple, 0, -multiple) if least <= width < size]
    return [size, *steps]


def _rising_within(group: NDArray[np.int64], worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each group's worths with none below an earlier one of the same group."""
    made = worth.copy()
    for number in np.unique(group).tolist():
        mine = group == number
        made[mine] = np.maximum.accumulate(made[mine])
    return made


def _listed(widths: Widths) -> str:
    least = {int(w) for w in widths.smallest}
    return (
        f"{min(least)} channels left in each group" if len(least) == 1 else "the fewest channels that groups may have"
    )


def uniform(scores: Scores) -> dict[str, NDArray[np.float64]]:
    """Scores by rank within the group, in (0, 1]: taking the worst of these away narrows all groups by one share."""
    ranked = {}
    for name, values in scores.items():
        places = np.empty(len(values))
        places[np.argsort(values, kind="stable")] = np.arange(1, len(values) + 1)
        ranked[name] = places / len(values)
    return ranked
