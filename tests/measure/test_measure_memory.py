from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from netpress import artifact
from netpress.errors import ConfigError, NetpressError
from netpress.graph import trace
from netpress.measure import network_peak_memory, peak_memory


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_memory_that_was_freed_counts_and_that_of_others_does_not() -> None:
    base = peak_memory(python("pass"))
    assert 4e6 < base < 5e7  # far below what this process holds, which a spawned one would start from
    large = peak_memory(python("x = b'1' * 150_000_000; del x"))
    assert large - base > 140e6
    assert peak_memory(python("pass")) == pytest.approx(base, rel=0.2)  # not the largest child so far


def test_failures_say_why() -> None:
    with pytest.raises(NetpressError, match=r"(?s)exit status 1;.*ZeroDivisionError.*remedy"):
        peak_memory(python("1 / 0"))
    with pytest.raises(NetpressError, match="exit status -9"):
        peak_memory(python("import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(NetpressError, match=r"took too long; got: more than 0.3 s"):
        peak_memory(python("import time; time.sleep(60)"), timeout_s=0.3)
    with pytest.raises(ConfigError, match="cannot be started"):
        peak_memory(["/no/such/program"])
    with pytest.raises(ConfigError, match="no command"):
        peak_memory([])


def test_network_in_a_process_of_its_own(tmp_path: Path) -> None:
    network = trace(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.randn(2, 3, 2, 2)).eval()
    path = tmp_path / "small.netpress"
    artifact.save(path, network, input_shape=(3, 2, 2), preprocess={})
    assert network_peak_memory(path, batch=2) > 5e7  # torch alone is more
    with pytest.raises(NetpressError, match=r"(?s)exit status 1;.*absent"):
        network_peak_memory(tmp_path / "absent.netpress")
