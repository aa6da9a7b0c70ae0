from __future__ import annotations

import pytest
import torch
from torch import nn

from netpress.errors import ConfigError
from netpress.graph import trace
from netpress.measure import cost


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))


def test_hand_counted_and_in_the_json_form() -> None:
    counted = network()
    with torch.no_grad():
        counted[0].weight[0] = 0
    # (3*3*3*4 + 4) + (64*10 + 10) parameters, of which 27 are zero; 27*4 MACs at 4x4 places and 640.
    assert cost(counted, (3, 6, 6), size_bytes=3210).as_dict() == {
        "params": 112 + 650,
        "nonzeros": 112 + 650 - 27,
        "macs": 108 * 16 + 640,
        "size_bytes": 3210,
        "latency_ms": None,
        "peak_memory_bytes": None,
    }


def test_traced_network_knows_its_shape() -> None:
    plain = network()
    assert cost(trace(plain, torch.randn(2, 3, 6, 6))) == cost(plain, (3, 6, 6))
    with pytest.raises(ConfigError, match="needs an input shape; remedy: give input_shape="):
        cost(plain)


def test_timed_when_asked() -> None:
    timed = cost(network(), (3, 6, 6), latency=True, batch=2, threads=1).as_dict()["latency_ms"]
    assert list(timed) == ["median", "p95", "batch", "threads", "device"]
    assert 0 < timed["median"] <= timed["p95"]
    assert (timed["batch"], timed["threads"], timed["device"]) == (2, 1, "cpu")


def test_network_is_left_alone() -> None:
    counted = network().train()
    stride, weight = counted[0].weight.stride(), counted[0].weight.clone()
    cost(counted, (3, 6, 6), latency=True, threads=1)
    assert counted.training
    assert counted[0].weight.stride() == stride
    assert torch.equal(counted[0].weight, weight)
