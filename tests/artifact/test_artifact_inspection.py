"""What a file says about itself, with numbers worked out by hand."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from netpress.artifact import inspect, save
from netpress.artifact.inspection import bit_patterns, entropy_bits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    network = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 2.0, 3.0]]))
        network[0].bias.copy_(torch.tensor([0.0, -0.0]))
    path = tmp_path / "a.netpress"
    save(path, network, input_shape=(4,), preprocess={"scale": 2.0}, classes=("x", "y"), metadata={"accuracy": 0.75})
    return path


def test_fields(path: Path) -> None:
    found = inspect(path)
    assert list(found) == [
        "format_version",
        "size_bytes",
        "sha256",
        "section_bytes",
        "input_shape",
        "output_shape",
        "preprocess",
        "task",
        "classes",
        "metadata",
        "tensors",
    ]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["format_version"] == 1
    assert found["size_bytes"] == path.stat().st_size == sum(found["section_bytes"].values())
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found["input_shape"], found["output_shape"]) == ([4], [2])
    assert (found["preprocess"], found["metadata"]) == ({"scale": 2.0}, {"accuracy": 0.75})
    assert (found["task"], found["classes"]) == ("classification", ["x", "y"])


def test_bytes_by_section(path: Path) -> None:
    found = inspect(path)
    # weight 32; bias and the four vectors of the batch norm 8 each; the counter stands in the structure
    assert found["section_bytes"]["tensors"] == 32 + 5 * 8
    assert found["section_bytes"]["checksum"] == 32
    assert 48 <= found["section_bytes"]["overhead"] < 48 + 8  # the header, and what aligns the payloads


def test_rows_by_hand(path: Path) -> None:
    rows = {row["name"]: row for row in inspect(path)["tensors"]}
    # values: four zeros, two ones, a two, a three: 1/2 * 1 + 1/4 * 2 + 2 * (1/8 * 3) bits
    assert rows["0.weight"] == {
        "name": "0.weight",
        "dtype": "float32",
        "shape": [2, 4],
        "codec": "dense",
        "size_bytes": 32,
        "bits_per_weight": 32.0,
        "entropy_bits": 1.75,
        "density": 0.5,
        "distinct_values": 4,
    }
    # 0.0 and -0.0 are two patterns and no weight
    assert (rows["0.bias"]["distinct_values"], rows["0.bias"]["density"]) == (2, 0.0)
    assert rows["0.bias"]["entropy_bits"] == 1.0
    assert rows["1.num_batches_tracked"] == {
        "name": "1.num_batches_tracked",
        "dtype": "int64",
        "shape": [],
        "codec": "dense",
        "size_bytes": 8,
        "bits_per_weight": 64.0,
        "entropy_bits": 0.0,
        "density": 0.0,
        "distinct_values": 1,
    }


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_entropy_lies_between_0_and_that_of_equal_shares(counts: list[int]) -> None:
    found = entropy_bits(torch.tensor(counts))
    assert 0 <= found <= math.log2(len(counts)) + 1e-9
    assert entropy_bits(torch.tensor(counts[::-1])) == pytest.approx(found)


def test_entropy_at_its_ends() -> None:
    assert entropy_bits(torch.tensor([], dtype=torch.int64)) == 0
    assert entropy_bits(torch.tensor([7])) == 0
    assert entropy_bits(torch.full((256,), 3)) == 8


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_patterns_of_every_width(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 1], [0, 1, 1]]).to(dtype)
    assert sorted(bit_patterns(tensor).tolist()) == [2, 4]
    assert bit_patterns(torch.zeros(0, dtype=dtype)).tolist() == []
