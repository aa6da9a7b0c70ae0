"""The rows of the structure topic, on small networks. Nothing here looks at how fast anything was."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from netpress.bench import _steps, run_bench, structure
from netpress.graph import count
from netpress.structure import Channels, slice_network


def test_the_rows_of_the_structure_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"LARGE": "resnet20", "LARGE_SHAPE": (3, 32, 32), "TIMED": (("lenet5", (1, 28, 28)),)}
    for name, value in {**small, "REPEATS": 1}.items():
        monkeypatch.setattr(structure, name, value)
    for name, value in {"BATCH": 4, "STEPS": 1, "REPEATS": 1}.items():
        monkeypatch.setattr(_steps, name, value)
    threads = torch.get_num_threads()
    found = run_bench("structure", threads=1)["rows"]
    assert torch.get_num_threads() == threads
    assert all(math.isfinite(row["value"]) and row["value"] > 0 for row in found)
    assert {(row["metric"], row["target"]) for row in found} == {
        ("channel groups found, CPU time, median", None),
        ("sliced, CPU time, median", None),
        ("found and sliced, CPU time, median", "<= 0.5"),
        ("original, median", None),
        ("sliced to half its MACs, median", None),
        ("sliced over original", None),
        ("block-wise distillation step over plain distillation step", "<= 1.35"),
    }


def test_half_the_macs_are_left_and_no_more() -> None:
    net = structure.traced("lenet5", (1, 28, 28))
    channels = Channels(net)
    keep = structure.halved(channels)
    assert count(slice_network(channels, keep)).macs <= count(net).macs // 2
    assert any(not np.asarray(kept).all() for kept in keep.values())
