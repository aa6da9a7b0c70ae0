from __future__ import annotations

from netpress.compare.figures import Statistic, integer, percent, scaled, share


def test_how_numbers_are_written() -> None:
    assert integer(Statistic.of([1751002, 1751002])) == "1,751,002"
    assert percent(Statistic.of([83.0, 84.0])) == "83.50 ± 0.71 %"
    assert scaled(Statistic.of([7004008]), "B") == "7.004 MB"
    assert scaled(Statistic.of([190513152]), "") == "190.5 M"
    assert scaled(Statistic.of([0]), "B") == "0 B"
    assert share(Statistic.of([0.11895])) == "11.9 %"
    assert integer(None) == ""


