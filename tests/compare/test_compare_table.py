from __future__ import annotations

import pytest

from netpress.compare.figures import Statistic
from netpress.compare.table import table_rows


def test_one_row_by_hand(row) -> None:
    rows = [row("finetune", s, 84 + s, reference=True) for s in (0, 1)] + [row("a", s, 70 + 2 * s) for s in (0, 1)]
    reference, found = table_rows(rows)
    # 70 and 72 right of 100, the original 80, finetuned 84 and 85.
    assert (found.quality_after, found.correct, found.count) == (Statistic(71.0, 2**0.5, 2), 142, 200)
    assert found.quality_before == Statistic(80.0, 0.0, 2)
    assert found.lost is not None
    assert found.lost.mean == pytest.approx(9.0)
    assert found.lost_finetuned is not None
    assert (found.lost_finetuned.mean, found.lost_finetuned.spread) == pytest.approx((13.5, 0.5**0.5))
    assert (found.density, found.size_share, found.speedup) == (
        Statistic(0.13, 0.0, 2),
        Statistic(0.15, 0.0, 2),
        Statistic(2.0, 0.0, 2),
    )
    assert found.minutes == Statistic(1.5, 0.0, 2)  # the job's own, not the last run's wall time
    assert reference.lost_finetuned is None


def test_a_reference_of_another_plan_or_seed_does_not_count(row) -> None:
    other_plan = {"network": "n", "data": "d", "plan": {"epochs": 2}, "recipe": {}}
    for reference in (row("f", 0, 90, reference=True, content=other_plan), row("f", 1, 90, reference=True)):
        assert table_rows([reference, row("a", 0)])[1].lost_finetuned is None


def test_lower_is_better_for_errors(row) -> None:
    one = row("a")
    for side, value in (("before", 1.0), ("after", 1.5)):
        one["result"][side]["quality"] = {"metric": "mse", "value": value, "split": "test"}
    [found] = table_rows([one])
    assert found.lost == Statistic(0.5, None, 1)
    assert found.correct is None
    assert found.lost_text(found.lost) == "0.5"
