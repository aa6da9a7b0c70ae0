from __future__ import annotations

import itertools
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.compare.report import report_html, summary, tiles, write_report
from netpress.compare.results import Results
from netpress.compare.scatter import Point, linear_ticks, log_ticks, place_labels, scatter
from netpress.compare.table import table_rows
from netpress.errors import BudgetError

HOSTILE = "<script>alert('x')</script>\"onload=\"&"


class Outline(HTMLParser):
    """The tags of a page, checked to be closed in order."""

    VOID = ("meta", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def results(make_spec, compare, work, stand_ins) -> Results:
    _, result_of = stand_ins

    def behave(job, context):
        if job.recipe.name == HOSTILE and job.seed == 1:
            raise BudgetError(f"too large {HOSTILE}")
        return result_of(70 + 3 * job.seed, params=100 + len(job.recipe.name), size_bytes=500 + len(job.recipe.name))

    work.behave = behave
    quoted = HOSTILE.replace("'", "''")
    return compare(
        make_spec(
            f"title: '{quoted}'\nnetworks: [{{name: '{quoted}', net: n, weights: w}}]\ndata: ['{quoted}']\n"
            f"recipes: [finetune, {{name: '{quoted}', recipe: ahosvd}}]\nseeds: [0, 1]\n"
        )
    )


def test_the_page_stands_alone_and_escapes_every_name(results: Results) -> None:
    text = report_html(results)
    page = Outline()
    page.feed(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert "url(" not in text
    assert "@import" not in text
    assert text.startswith("<!doctype html>")
    assert "&lt;script&gt;" in text
    assert page.tags.count("svg") > 1


def test_the_page_says_what_the_rows_say(results: Results) -> None:
    text = report_html(results, "Another title")
    assert "<h1>Another title</h1>" in text
    assert "4 jobs: 3 done, 1 failed." in text
    assert "71.50 ± 2.12" in text  # finetune, 70 and 73 right of 100
    assert "2.00× faster" in text
    assert "Failed: " in text


def test_the_same_results_give_the_same_page_and_no_half_file(results: Results, tmp_path: Path) -> None:
    write_report(results, tmp_path / "new" / "report.html")
    first = (tmp_path / "new" / "report.html").read_bytes()
    write_report(results, tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_bytes() == first
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["report.html"]


def test_a_grid_without_results_has_a_page_too(make_spec, compare, work) -> None:
    def fails(job, context):
        raise BudgetError("no")

    work.behave = fails
    text = report_html(compare(make_spec()))
    assert "6 jobs: 6 failed." in text
    assert "<figure>" not in text
    assert "No jobs." in report_html(Results(title="none", rows=()))
    assert summary(Results(title="", rows=())) == "No jobs."


def test_the_page_names_teachers_choices_and_what_rows_share(row, teacher) -> None:
    rows = (row("f", reference=True), row("a"), row("b", 0, 60))
    rows[2]["result"]["after"]["cost"]["latency_ms"]["median"] = 8.0
    text = report_html(Results(title="t", rows=rows, teachers=(teacher,), choices=("final takes <a>.",)))
    assert "30 epochs, sgd, lr 0.1, batch 64" in text
    assert "75.00 % (15/20)" in text
    assert "final takes &lt;a&gt;." in text
    assert "<b>budget params=13%, except the reference</b><b>seed 0</b>" in text
    assert "<b>1,000 parameters</b>" in text
    assert "0.50×, slower" in text
    assert text.count("<figure>") == 2


def test_the_best_is_named_by_held_out_quality_with_its_ties(row) -> None:
    rows = [row("f", reference=True), row("a", 0, 60), row("b", 0, 90), row("c", 0, 70)]
    for one, value in zip(rows, (1.0, 0.7, 0.6, 0.7), strict=True):
        one["result"]["held_out"] = {"metric": "accuracy", "value": value}
    first, *_ = tiles(Results(title="", rows=tuple(rows)), table_rows(rows))
    assert first == ("best by held-out quality", "a", "held out 70.00 %, test 60.00 %; 1 more as good")
    others = [*rows, row(network="m")]
    assert tiles(Results(title="", rows=tuple(others)), table_rows(others))[0][0] == "smallest file"


def test_without_latency_there_is_one_plot(row) -> None:
    plain = row("a")
    for side in ("before", "after"):
        plain["result"][side]["cost"]["latency_ms"] = None
    assert report_html(Results(title="", rows=(plain,))).count("<figure>") == 1


positive = st.floats(1e-3, 1e12)
points = st.lists(st.tuples(positive, st.floats(-1e3, 1e3), st.none() | st.floats(0, 10)), min_size=1, max_size=8)


@given(points)
def test_all_that_is_drawn_lies_within_the_frame(values) -> None:
    plot = scatter(
        [Point(x=x, y=y, spread=s, series=i, label=f"p{i}", detail="") for i, (x, y, s) in enumerate(values)],
        x_text=str,
    )
    for mark in plot.marks:
        assert plot.left <= mark.x <= plot.right
        assert plot.top <= mark.y <= plot.bottom
        if mark.low is not None and mark.high is not None:
            assert plot.bottom >= mark.low >= mark.y >= mark.high >= plot.top
    assert len(plot.x_ticks) >= 2
    assert len(plot.y_ticks) >= 2
    for one, (x, y, _) in zip(plot.marks, values, strict=True):
        for other, (x2, y2, _) in zip(plot.marks, values, strict=True):
            assert (x < x2) <= (one.x <= other.x)
            assert (y < y2) <= (one.y >= other.y)


def test_a_plot_needs_points_with_positive_sizes() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        scatter([], x_text=str)
    with pytest.raises(ValueError, match="positive sizes"):
        scatter([Point(x=0, y=1, spread=None, series=0, label="", detail="")], x_text=str)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_linear_ticks_span_the_range_evenly(low: float, span: float) -> None:
    ticks = linear_ticks(low, low + span)
    assert 2 <= len(ticks) <= 9
    tolerance = 1e-6 * (abs(low) + span + 1)
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= low + span - tolerance
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_ticks_by_hand() -> None:
    assert linear_ticks(81.2, 87.4) == [80.0, 82.0, 84.0, 86.0, 88.0]
    assert log_ticks(0.9, 11.0) == [1.0, 2.0, 5.0, 10.0]
    assert log_ticks(125.0, 430.0) == [150.0, 200.0, 300.0, 400.0]
    assert log_ticks(0.5, 5000.0) == [1.0, 10.0, 100.0, 1000.0]


def test_points_of_one_series_are_joined_and_named_once() -> None:
    sizes = ((30.0, 0), (10.0, 0), (20.0, 0), (20.0, 1))
    points = [Point(x=x, y=x, spread=None, series=s, label=f"s{s}", detail="") for x, s in sizes]
    plot = scatter(points, x_text=str)
    largest, smallest, middle, _ = plot.marks
    [curve] = plot.curves
    assert curve.path == f"M{smallest.x} {smallest.y}L{middle.x} {middle.y}L{largest.x} {largest.y}"
    assert [mark.label_at is not None for mark in plot.marks[:3]] == [True, False, False]


def test_labels_go_where_there_is_room_or_not_at_all() -> None:
    assert place_labels([(300.0, 200.0)], ["a"]) == [(313.0, 204.0, "start")]
    right, left = place_labels([(300.0, 200.0), (320.0, 200.0)], ["left one", "right one"])
    assert right is not None
    assert left is not None
    assert (right[2], left[2]) == ("end", "start")
    crowd = place_labels([(300.0, 200.0)] * 6, ["label"] * 6)
    assert None in crowd
