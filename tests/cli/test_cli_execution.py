"""Networks that run from the coded form, and the choice of codecs, as a user meets them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from netpress import codecs
from netpress.artifact import read, save

GOOD = "npz:good.npz"


@pytest.fixture(scope="module")
def coded_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of a few values, most of them zero, in codes that multiply."""
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 4)
    )
    with torch.no_grad():
        for weight in (network[0].weight, network[5].weight):
            weight.copy_((torch.randn(weight.shape) * 3).round() / 8 * (torch.rand(weight.shape) < 0.4) + 0.0)
    path = tmp_path_factory.mktemp("coded") / "coded.netpress"
    fields: dict[str, Any] = {"preprocess": {"scale": 1 / 255}, "classes": tuple("abcd")}
    save(path, network.eval(), input_shape=(1, 8, 8), codec="csc", **fields)
    return path


def test_both_executions_judge_alike(netpress: Callable[..., Any], coded_file: Path) -> None:
    dense = netpress("eval", coded_file, "-d", GOOD, "--json")
    coded = netpress("eval", coded_file, "-d", GOOD, "--execution", "coded", "--batch", "7", "--json")
    assert (dense.code, coded.code) == (0, 0)
    assert coded.document == dense.document
    x = torch.rand(20, 1, 8, 8)
    with torch.no_grad():
        outputs = [read(coded_file, execution).network(x) for execution in ("dense", "coded")]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-4)


def test_the_coded_form_is_what_is_timed_and_shown(netpress: Callable[..., Any], coded_file: Path) -> None:
    timed = netpress("eval", coded_file, "-d", GOOD, "--execution", "coded", "--latency", "--json").document
    assert timed["cost"]["latency_ms"]["median"] > 0
    assert timed["cost"]["macs"] == 8 * 9 * 64 + 128 * 4
    shown = netpress("eval", coded_file, "-d", GOOD, "--execution", "coded", "-q")
    assert "coded.netpress on good.npz" in shown.out


def test_executions_that_are_refused(netpress: Callable[..., Any], coded_file: Path) -> None:
    unknown = netpress("eval", coded_file, "-d", GOOD, "--execution", "code")
    assert unknown.code == 2
    assert "'dense', 'coded'" in unknown.said
    elsewhere = netpress("eval", coded_file, "-d", GOOD, "--execution", "coded", "--device", "cuda")
    assert elsewhere.code != 0
    assert "--execution coded runs on the CPU" in elsewhere.said or "there is no such device here" in elsewhere.said


@pytest.mark.parametrize("codec", ["csc", "fast", "dense"])
def test_compress_stores_as_it_is_told(netpress: Callable[..., Any], codec: str, tmp_path: Path) -> None:
    out = tmp_path / "small.netpress"
    made = netpress(
        "compress", "networks.py:network", "-d", GOOD, "-r", "finetune", "-s", "epochs=0", "-o", out,
        "--codec", codec, "--json",
    )  # fmt: skip
    assert made.code == 0, made.err
    held = netpress("inspect", out, "--json").document
    matrices = [t["codec"] for t in held["tensors"] if len(t["shape"]) > 1]
    allowed = {c.name for c in codecs.codecs() if c.fast or c.name == "dense"} if codec == "fast" else {codec}
    assert matrices
    assert set(matrices) <= allowed


def test_a_codec_that_there_is_not_is_told_before_the_work(netpress: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "small.netpress"
    outcome = netpress("compress", "networks.py:network", "-d", GOOD, "-r", "finetune", "-o", out, "--codec", "cscc")
    assert outcome.code != 0
    assert "unknown codec" in outcome.said
    assert "did you mean 'csc'" in outcome.said
    assert not out.exists()


def test_inspect_adds_up(netpress: Callable[..., Any], coded_file: Path) -> None:
    document = netpress("inspect", coded_file, "--json").document
    totals = document["totals"]
    assert totals["size_bytes"] == sum(t["size_bytes"] for t in document["tensors"])
    # conv 8 x 9 and its bias, four vectors of 8 and a counter, linear 4 x 128 and its bias
    assert totals["float32_bytes"] == 4 * (72 + 8 + 32 + 512 + 4)
    shown = netpress("inspect", coded_file)
    lines = shown.out.splitlines()
    first = next(line for line in lines if line.startswith("0.weight"))
    assert "csc" in first
    assert "8x1x3x3" in first
    whole = next(line for line in lines if line.startswith("all 9"))
    assert f"{totals['size_bytes']:,}" in whole
    assert f"{totals['ratio']:.3g} x smaller than float32" in shown.out
    assert "graph, table of the tensors" in shown.out
