"""Which recipes are the best of a stage: by held-out quality, and by nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from netpress.errors import ConfigError

LOWER_IS_BETTER = ("mse", "mae", "rmse", "loss", "cross_entropy", "error")


@dataclass(frozen=True)
class Chosen:
    """A recipe that a stage chose for a network; ``held_out`` is None for references, which are carried along."""

    network: str
    recipe: str
    held_out: float | None


def choose(rows: Iterable[Mapping[str, Any]], *, stage: str, best: int) -> list[Chosen]:
    """The ``best`` recipes of ``stage`` for each network, best first, then the stage's references.

    A recipe's score is the mean of its held-out values over data, budgets and seeds. A recipe with a job that failed
    has no such mean and cannot be chosen. Equal scores keep the order of the spec.

    Args:
        rows: Ledger rows (see ``rows.export``). Nothing is read of a result but ``held_out``.

    Raises:
        ConfigError: A finished job has no held-out quality.
    """
    scores: dict[str, dict[str, list[float | None]]] = {}
    references: dict[str, list[str]] = {}
    sign = 1.0
    for row in rows:
        if row["stage"] != stage:
            continue
        network, recipe = row["network"], row["recipe"]
        scores.setdefault(network, {})
        if row["reference"]:
            names = references.setdefault(network, [])
            if recipe not in names:
                names.append(recipe)
            continue
        values = scores[network].setdefault(recipe, [])
        if row["status"] != "done":
            values.append(None)
            continue
        held_out = row["result"].get("held_out")
        if held_out is None:
            raise ConfigError(
                f"the best of stage {stage!r} are chosen by held-out quality, which {recipe!r} on {network!r} lacks",
                got="held_out: null",
                remedy="give the recipe a held-out part: hold_out above 0",
            )
        sign = -1.0 if held_out["metric"] in LOWER_IS_BETTER else 1.0
        values.append(float(held_out["value"]))
    chosen = []
    for network, by_recipe in scores.items():
        means = {r: fmean(v for v in values if v is not None) for r, values in by_recipe.items() if None not in values}
        ranked = sorted(means, key=lambda r: -sign * means[r])  # stable: ties keep the spec's order
        chosen += [Chosen(network, recipe, means[recipe]) for recipe in ranked[:best]]
        chosen += [Chosen(network, recipe, None) for recipe in references.get(network, [])]
    return chosen


def best_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows with the best held-out quality, among those that are done and no reference; several when they tie."""
    done = [row for row in rows if row["status"] == "done" and not row["reference"] and row["result"]["held_out"]]
    if not done:
        return []
    sign = -1.0 if done[0]["result"]["held_out"]["metric"] in LOWER_IS_BETTER else 1.0
    values = [sign * float(row["result"]["held_out"]["value"]) for row in done]
    return [row for row, value in zip(done, values, strict=True) if value == max(values)]
