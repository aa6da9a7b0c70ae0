from __future__ import annotations

from typing import Any

from netpress.compare.choice import choose


def test_choice_goes_by_the_mean_over_all_jobs_and_ties_keep_their_order(row) -> None:
    def held(recipe: str, *values: float) -> list[dict[str, Any]]:
        rows = [row(recipe, seed) for seed in range(len(values))]
        for one, value in zip(rows, values, strict=True):
            one["result"]["held_out"] = {"metric": "accuracy", "value": value}
        return rows

    rows = [*held("a", 0.9, 0.1), *held("b", 0.6, 0.6), *held("c", 0.6, 0.6)]
    assert [c.recipe for c in choose(rows, stage="main", best=2)] == ["b", "c"]
    for one in rows:
        one["result"]["held_out"]["metric"] = "mse"
    assert [c.recipe for c in choose(rows, stage="main", best=2)] == ["a", "b"]
    assert choose(rows, stage="other", best=2) == []
