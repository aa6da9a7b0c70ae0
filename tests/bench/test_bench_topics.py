"""The form of the benchmarks. Nothing here looks at how fast anything was."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from netpress import bench
from netpress.bench import Row, at_least, at_most, reduction, run_bench, takes_files, topic_names, topics
from netpress.errors import UnknownNameError
from netpress.maths import reconstruction_error

KEYS = {"case", "metric", "value", "unit", "target", "ok"}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes with which the topic takes seconds; no process of its own for the memory."""
    for name, value in {"SAMPLES": 120, "BATCH": 40, "REPEATS": 2, "TRAINING_BATCH": 4, "TRAINING_STEPS": 2}.items():
        monkeypatch.setattr(reduction, name, value)
    monkeypatch.setattr(reduction, "peak_memory", lambda command: 2e8 + 1e3 * int(command[-1]))


def test_the_rows_of_the_reduction_topic(tiny: None) -> None:
    threads = torch.get_num_threads()
    document = run_bench("reduction", threads=1)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document) == {"environment", "rows"}
    assert document["environment"]["bench_threads"] == 1
    assert torch.get_num_threads() == threads
    for row in document["rows"]:
        assert set(row) == KEYS
        assert math.isfinite(row["value"])
        assert row["value"] > 0
        assert (row["ok"] is None) == (row["target"] is None)
    claims = {(row["metric"], row["target"]) for row in document["rows"]}
    assert claims == {
        ("wall time, median", "<= 0.5"),
        ("relative reconstruction error", None),
        ("error over that of exact float64 Gram matrices", "<= 1.001"),
        ("peak memory", "<= 600"),
        ("peak memory ratio", "<= 1.1"),
        ("distillation step over (student step + teacher forward)", "<= 1.15"),
        ("training loop with crop and flip", None),
        ("bare forward, backward and step", None),
        ("training loop over bare", ">= 0.9"),
    }
    by_metric = {row["metric"]: row for row in document["rows"]}
    assert by_metric["error over that of exact float64 Gram matrices"]["ok"] is True
    assert 0 < by_metric["relative reconstruction error"]["value"] < 1


def test_the_stream_of_features_is_the_same_each_time_and_the_fit_is_good(tiny: None) -> None:
    first, again = list(reduction.feature_stream(100)), list(reduction.feature_stream(100))
    assert [len(b) for b in first] == [40, 40, 20]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert [tuple(p.shape) for p in reduction.fit(first)] == [(35, 256), (3, 4), (3, 4)]
    features = torch.cat(first)
    assert reconstruction_error(features, reduction.fit(first)) < reconstruction_error(
        features, [torch.linalg.qr(torch.randn(d, r))[0].T for d, r in ((256, 35), (4, 3), (4, 3))]
    )


def test_targets_hold_up_to_the_bound_itself() -> None:
    assert at_most("c", "m", 0.5, "s", 0.5) == Row(case="c", metric="m", value=0.5, unit="s", target="<= 0.5", ok=True)
    assert at_most("c", "m", 0.51, "s", 0.5).ok is False
    assert at_least("c", "m", 0.9, "x", 0.9) == Row(case="c", metric="m", value=0.9, unit="x", target=">= 0.9", ok=True)
    assert at_least("c", "m", 0.89, "x", 0.9).ok is False


def test_topics_are_found_by_their_files() -> None:
    files = {p.stem for p in Path(bench.__path__[0]).glob("*.py") if not p.stem.startswith("_")}
    assert set(topic_names()) == files == {name for name, _ in topics()}
    assert all(summary and "\n" not in summary for _, summary in topics())
    assert [name for name in topic_names() if takes_files(name)] == ["latency"]


def test_an_unknown_topic_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        run_bench("reductions")
    assert str(caught.value) == (
        "unknown benchmark; got: 'reductions'; allowed: codecs, latency, reduction, structure, subspace; "
        "remedy: did you mean 'reduction'?"
    )


@pytest.mark.slow
def test_the_memory_rows_measure_a_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "SAMPLES", 100)
    bytes_used = reduction.peak_memory([sys.executable, str(reduction.__file__), "100"])
    assert 20e6 < bytes_used < 2e9
