from __future__ import annotations

import pytest

from netpress.compare.figures import Statistic, answers, duration, integer, percent, scaled, share, three_digits


def test_how_numbers_are_written() -> None:
    assert integer(Statistic.of([1751002, 1751002])) == "1,751,002"
    assert percent(Statistic.of([83.0, 84.0])) == "83.50 ± 0.71 %"
    assert scaled(Statistic.of([7004008]), "B") == "7.004 MB"
    assert scaled(Statistic.of([190513152]), "") == "190.5 M"
    assert scaled(Statistic.of([2380000]), "") == "2.380 M"
    assert scaled(Statistic.of([0]), "B") == "0 B"
    assert scaled(Statistic.of([600]), "B") == "600 B"
    assert share(Statistic.of([0.11895])) == "11.9 %"
    assert [share(Statistic.of([v])) for v in (0.4, 1.0, 0.0, 12.0)] == ["40.0 %", "100 %", "0 %", "1200 %"]
    assert [three_digits(Statistic.of([v])) for v in (0.0838, 12.0, 250.0)] == ["0.0838", "12.0", "250"]
    assert three_digits(Statistic(0.2719, 0.0091234, 2)) == "0.272 ± 0.0091"
    assert integer(None) == ""


@pytest.mark.parametrize(
    ("minutes", "text"),
    [(0.024, "1.4 s"), (1.4, "84 s"), (2.0, "2.0 min"), (12.3, "12 min"), (150.0, "2.5 h"), (None, "")],
)
def test_durations_take_the_unit_that_suits_them(minutes: float | None, text: str) -> None:
    assert duration(minutes) == text


def test_qualities_in_words() -> None:
    quality = {"metric": "accuracy", "value": 0.5, "correct": 1000, "count": 2000}
    assert answers(quality) == "50.00 % (1,000/2,000)"
    assert answers({"metric": "accuracy", "value": 0.5}) == "50.00 %"
    assert answers({"metric": "mse", "value": 0.123456}) == "0.1235"
    assert answers(None) == ""
