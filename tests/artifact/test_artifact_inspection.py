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
from netpress.artifact.table import StoredTensor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    network = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 2.0, 3.0]]))
        network[0].bias.copy_(torch.tensor([0.0, -0.0]))
    path = tmp_path / "a.netpress"
    fields = {"preprocess": {"scale": 2.0}, "classes": ("x", "y"), "metadata": {"accuracy": 0.75}}
    save(path, network, input_shape=(4,), codec="dense", **fields)
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
        "totals",
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
    # the weight; bias and the four vectors of the batch norm, 8 bytes each, and the counter stand in the structure
    assert found["section_bytes"]["tensors"] == 32
    assert found["section_bytes"]["checksum"] == 16
    assert found["section_bytes"]["overhead"] == 6 + 1 + 1 + 1  # magic, version, two lengths below 128


def test_totals_by_hand(path: Path) -> None:
    found = inspect(path)
    totals = found["totals"]
    assert totals["values"] == 8 + 5 * 2 + 1
    assert totals["size_bytes"] == 32 + 5 * 8 + 8
    assert totals["bits_per_weight"] == pytest.approx(8 * 80 / 19)
    # four of the weights, gamma and the running variance are not zero: (4 + 2 + 2) of 19
    assert totals["density"] == pytest.approx(8 / 19)
    assert totals["entropy_bits"] == pytest.approx((8 * 1.75 + 2 * 1.0) / 19)  # of the vectors only the bias has two
    assert totals["float32_bytes"] == 4 * 18  # the counter is no number of floating point
    assert totals["ratio"] == pytest.approx(72 / found["size_bytes"])


def test_each_tensor_is_decoded_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    plain = StoredTensor.decode
    monkeypatch.setattr(StoredTensor, "decode", lambda self: decoded.append(self.name) or plain(self))
    rows = inspect(path)["tensors"]
    assert [row["name"] for row in rows] == decoded  # each once


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
