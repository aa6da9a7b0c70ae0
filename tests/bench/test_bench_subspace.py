"""The rows of the subspace topic, on few images. Nothing here looks at how fast anything was."""

from __future__ import annotations

import math

import pytest

from netpress.bench import _steps, run_bench, subspace


def test_the_rows_of_the_subspace_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, values in (
        (subspace, {"NETWORKS": ("resnet8_tiny",), "IMAGES": 8, "REPEATS": 1}),
        (_steps, {"STEPS": 1, "REPEATS": 1}),
    ):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(_steps, "BATCH", 4)
    found = run_bench("subspace", threads=1)["rows"]
    assert all(math.isfinite(row["value"]) and row["value"] > 0 for row in found)
    assert {(row["metric"], row["target"]) for row in found} == {
        ("spectra of all features over the forward pass alone, CPU time", None),
        ("covariances of all groups, whatever the number of images", None),
        ("subspace distillation step over plain distillation step", "<= 1.3"),
    }
