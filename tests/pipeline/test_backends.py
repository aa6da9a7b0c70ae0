"""What is known of runtimes: their names, processors whose sums saturate, layers that only some compute with integers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from netpress.bench.latency import RUNTIMES
from netpress.graph import trace
from netpress.pipeline.backends import BACKENDS, lacks_vnni, wide_linear_layers


def test_names_are_those_of_the_runtimes_that_are_timed() -> None:
    assert set(BACKENDS) == {"any", *RUNTIMES} - {"torch"}  # which computes integers as floats


@pytest.mark.parametrize(
    ("found", "lacks"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_vnni": False, "avx_vnni": False}, True),
        ({"architecture": "x86_64", "avx2": True, "avx512_vnni": True, "avx_vnni": False}, False),
        ({"architecture": "x86_64", "avx2": True, "avx512_vnni": False, "avx_vnni": True}, False),
        ({"architecture": "aarch64", "neon": True}, False),
        ({}, False),
    ],
)
def test_a_processor_without_vnni(found: dict[str, Any], lacks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert lacks_vnni() is lacks


def test_linear_layers_over_several_axes() -> None:
    class Modes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mode, self.twice, self.out = nn.Linear(8, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.twice(self.mode(x))  # (N, 3, 4)
            return self.out(self.twice(x.mean(1)))

    net = trace(Modes().eval(), torch.rand(2, 3, 8))
    assert wide_linear_layers(net, ("mode", "twice", "out")) == {"mode", "twice"}
    assert wide_linear_layers(net, ("out",)) == set()
