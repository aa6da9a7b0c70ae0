"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

# One thread a process: tests run networks so small that threads wait for each other more than they work. Set before torch is
# imported, so that the processes which tests start take it over.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

SHARED = Path(os.environ.get("NETPRESS_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and pretrained weights that lies beside the checkout (see CONTRIBUTING.md)."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder of shared data at {SHARED}; set NETPRESS_SHARED")
    return SHARED


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
