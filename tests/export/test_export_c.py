"""Networks as C: every operator against torch, under sanitizers; what the runner lacks is named; what is said to be taken is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from c_building import CC, STRICT, Exported, close, exported, lively, needs_compiler, on_a_grid, on_rows, run, stored
from c_networks import NETWORKS, SHAPE
from torch import nn

from netpress.data import Preprocess
from netpress.errors import ConfigError, UnsupportedOperatorError
from netpress.export.c import RUNTIME, export
from netpress.zoo import build

LIBRARY = {"memcpy", "memset", "expf"}
"""All that the exported files may take from the C library."""


ZOO = {"lenet5": (1, 28, 28), "resnet8_tiny": (3, 32, 32), "resnet20": (3, 32, 32)}
PIXELS = Preprocess(scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Every network here, in one program."""
    torch.manual_seed(0)
    artifacts = {f"{name}-plain": stored(lively(make()), SHAPE) for name, make in NETWORKS.items()}
    artifacts |= {f"{name}-coded": stored(on_a_grid(make()), SHAPE) for name, make in NETWORKS.items()}
    artifacts |= {name: stored(on_a_grid(build(name, classes=10, seed=0)), shape) for name, shape in ZOO.items()}
    artifacts |= {f"{name}-whole": stored(on_rows(NETWORKS[name]()), SHAPE) for name in NETWORKS if "rounded" in name}
    artifacts["pixels"] = stored(nn.Conv2d(3, 4, 3), SHAPE, PIXELS.as_dict())
    return exported(artifacts, tmp_path_factory.mktemp("c"))


@needs_compiler
@pytest.mark.parametrize("coded", ["plain", "coded"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_operator_answers_as_torch_does(made: dict[str, Exported], name: str, coded: str) -> None:
    found, expected = made[f"{name}-{coded}"].answers(torch.randn(3, *SHAPE))
    assert close(found, expected)


@needs_compiler
@pytest.mark.parametrize("name", [name for name in NETWORKS if "rounded" in name])
def test_integers_multiply_integers_and_answer_as_torch_does(made: dict[str, Exported], name: str) -> None:
    case = made[f"{name}-whole"]
    source = (case.program.parent / f"case_{case.number}" / "netpress_model.c").read_text()
    assert "sums[" in source
    assert len(re.findall(r"static const np_grid", source)) >= 4
    found, expected = case.answers(torch.randn(20, *SHAPE))
    # float32 sums end on the other side of a step here and there
    assert np.median(np.abs(found - expected).max(1)) <= 1e-5 * np.abs(expected).max()
    assert np.abs(found - expected).max() <= 0.1 * np.abs(expected).max()


@needs_compiler
def test_halves_go_to_even_levels_and_what_is_no_number_to_the_least(made: dict[str, Exported]) -> None:
    values = torch.linspace(-2, 3, 216).div(0.25).round().mul(0.25)  # every other one lies between two levels
    values[:5] = torch.tensor([float("inf"), -float("inf"), 3e38, -3e38, float("nan")])
    found, expected = made["grid-plain"].answers(values.reshape(1, *SHAPE))
    np.testing.assert_array_equal(found[:, :4], expected[:, :4])
    np.testing.assert_array_equal(found[:, 5:], expected[:, 5:])
    assert found[0, 4] == -0.5
    assert sorted(set(found[0].tolist())) == [-0.5, 0.0, 0.5, 1.0, 1.5]


@needs_compiler
@pytest.mark.parametrize("name", ZOO)
def test_a_network_on_a_grid_is_small_and_answers_the_same(made: dict[str, Exported], name: str) -> None:
    found, expected = made[name].answers(torch.rand(2, *ZOO[name]))
    assert close(found, expected)
    summary = made[name].summary
    assert {layer.form for layer in summary.layers} == {"gaps"}
    assert summary.weight_bytes < summary.dense_bytes / 8


@needs_compiler
def test_bytes_are_preprocessed_as_the_file_says(made: dict[str, Exported]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), np.uint8)
    with torch.no_grad():
        expected = made["pixels"].network(PIXELS(images)).reshape(2, -1).numpy()
    assert close(made["pixels"].answers_to_bytes(images), expected)


@needs_compiler
@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm")
def test_nothing_is_allocated_and_nothing_else_is_called(tmp_path: Path) -> None:
    artifact = stored(NETWORKS["softmax"](), SHAPE)
    export(artifact.network, artifact, tmp_path, measure=False)
    for source in ("netpress_model", "netpress_runtime"):
        command = [str(CC), *STRICT, "-O2", "-c", f"{source}.c", "-o", f"{source}.o"]
        subprocess.run(command, cwd=tmp_path, check=True)
    listed = subprocess.run(
        ["nm", "-u", "netpress_model.o", "netpress_runtime.o"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    names = {
        name for name in re.findall(r"\bU (\w+)", listed) if not name.startswith(("np_run_", "_GLOBAL_", "__stack"))
    }
    assert "expf" in names
    assert names <= LIBRARY


@needs_compiler
def test_the_makefile_builds_what_runs(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    artifact = stored(NETWORKS["max_pool"](), SHAPE)
    summary = export(artifact.network, artifact, tmp_path, measure=False)
    assert {file.name for file in tmp_path.iterdir()} == set(summary.files)
    subprocess.run(["make", "-s"], cwd=tmp_path, check=True, env={"PATH": "/usr/bin:/bin"})
    inputs = torch.randn(2, *SHAPE)
    with torch.no_grad():
        assert close(run(tmp_path / "demo", inputs.numpy().tobytes()), artifact.network(inputs).numpy())
    short = subprocess.run([str(tmp_path / "demo")], input=bytes(4 * 216 + 7), capture_output=True)
    assert (short.returncode, short.stderr) == (1, b"the last input is cut short: 7 bytes\n")


def test_the_same_network_gives_the_same_files(tmp_path: Path) -> None:
    artifact = stored(on_a_grid(NETWORKS["residual"]()), SHAPE)
    first, second = (export(artifact.network, artifact, tmp_path / name) for name in "ab")
    assert first == second
    for name in first.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert {"netpress_model.c", "netpress_model.h", *RUNTIME} == set(first.files)


def test_the_network_is_not_changed(tmp_path: Path) -> None:
    artifact = stored(lively(NETWORKS["residual"]()), SHAPE)
    before = {name: tensor.clone() for name, tensor in artifact.network.state_dict().items()}
    export(artifact.network, artifact, tmp_path, measure=False)
    after = artifact.network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_what_is_taken_is_counted(tmp_path: Path) -> None:
    artifact = stored(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)), SHAPE)
    summary = export(artifact.network, artifact, tmp_path)
    assert [layer.name for layer in summary.layers] == ["0", "3"]
    assert summary.dense_bytes == 4 * (4 * 27 + 4 + 36 * 5 + 5)
    assert summary.weight_bytes == summary.dense_bytes  # all distinct: nothing is shorter
    # the image, one plane of 7 x 6 before its pool, and 4 planes of 3 x 3 behind it
    assert summary.arena_bytes == 4 * (216 + 36 + 42)
    assert summary.ram_bytes == summary.arena_bytes + summary.table_bytes
    assert summary.table_bytes == 0
    if CC is not None and shutil.which("size"):
        assert 1000 < summary.code_bytes < 30_000
        assert summary.as_dict()["flash_bytes"] == summary.weight_bytes + summary.code_bytes


class _Sums(nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x)


@pytest.mark.parametrize(
    ("network", "what"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()), "the operator 'GELU' of module '1'"),
        (nn.Sequential(nn.ReflectionPad2d(1)), "the operator 'ReflectionPad2d' of module '0'"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")), "'Conv2d' of module '0' in this form"),
        (nn.Sequential(nn.Linear(8, 2)), "'Linear' of module '0' in this form; got: an input of shape (3, 9, 8)"),
        (nn.Sequential(nn.Softmax(1)), "'Softmax' of module '0' in this form"),
        (_Sums(lambda x: x + 1), "the operator 'add' of module '' in this form"),
        (_Sums(lambda x: x + x[:, :1]), "a sum of shapes (3, 9, 8) and (1, 9, 8)"),
        (_Sums(lambda x: x * x), "the operator 'mul'"),
        (_Sums(lambda x: x.mean(1)), "a mean over (1,) of shape (3, 9, 8)|a mean over 1 of shape (3, 9, 8)"),
        (_Sums(lambda x: nn.functional.pad(x, (-1, 0))), "pads with one value, outwards"),
        (_Sums(lambda x: x[:, 0]), "the runner takes slices of every axis but the batch"),
        (_Sums(lambda x: x.permute(0, 2, 3, 1)), "the operator 'permute'"),
    ],
)
def test_what_the_runner_lacks_is_named_and_nothing_is_written(network: nn.Module, what: str, tmp_path: Path) -> None:
    artifact = stored(network, SHAPE)
    with pytest.raises(UnsupportedOperatorError) as caught:
        export(artifact.network, artifact, tmp_path / "out", measure=False)
    assert any(part in str(caught.value) for part in what.split("|"))
    assert not (tmp_path / "out").exists()


def test_preprocessing_must_fit_the_channels(tmp_path: Path) -> None:
    artifact = stored(nn.Conv2d(3, 4, 3), SHAPE, {"scale": 1.0, "mean": [0.1, 0.2], "std": []})
    with pytest.raises(ConfigError, match="preprocessing does not fit the input; got: 2 numbers; allowed: 1 or 3"):
        export(artifact.network, artifact, tmp_path / "out", measure=False)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    artifact = stored(nn.Conv2d(3, 4, 3), SHAPE)
    with pytest.raises(ConfigError, match="the folder cannot be written"):
        export(artifact.network, artifact, tmp_path / "file", measure=False)
