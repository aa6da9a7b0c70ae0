"""The command line as a user meets it: arguments in, exit code, stdout and stderr out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from netpress import zoo
from netpress.cli import main

NETWORKS = '''
"""Networks of a user's own."""
import torch
from torch import nn


def network():
    """(6, 4, 4) flows before module 4."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4),
    )


network.input_shape = (1, 8, 8)


def broken():
    """A network whose weights are not finite."""
    net = network()
    with torch.no_grad():
        net[4].weight[0, 0] = float("nan")
    return net


broken.input_shape = (1, 8, 8)
'''
QUICK = ["--set", "training.epochs=1", "--set", "map_epochs=1", "--set", "batch_size=16", "--set", "augment=none"]


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Stdout as the one JSON document that it must be."""
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """Stderr in one line, however it was wrapped and whatever frame was drawn round it."""
        return " ".join(self.err.translate(str.maketrans("│╭╮╰╯─", "      ")).split())


@pytest.fixture
def netpress(
    capsys: pytest.CaptureFixture[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Runs one command in the folder of the test data."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("COLUMNS", "200")  # tables are not folded

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        code = end.value.code
        return Outcome(0 if code is None else int(code), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and networks, right and wrong ones."""
    folder = tmp_path_factory.mktemp("workspace")
    rng = np.random.default_rng(5)

    def images(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    labels, tens, classes = np.arange(60) % 4, np.arange(30) % 10, np.array(list("abcd"))
    x, y = images(60, 8, 8), rng.permutation(labels)
    x[np.arange(60), y, y] = 255

    def save(name: str, **arrays: np.ndarray) -> None:
        np.savez(folder / f"{name}.npz", **arrays)

    good = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:], "classes": classes}
    save("good", **good)
    save("unlabelled", x_train=x[:40], x_test=x[40:])
    save("single", **good | {"y_train": np.zeros(40, int)})
    save("beyond", **good | {"classes": np.array(["a", "b"])})
    save("negative", **good | {"y_train": y[:40] - 1})
    save("empty", **good | {"x_train": x[:0], "y_train": y[:0]})
    save("short", **good | {"y_train": y[:39]})
    blurred = x.astype(np.float32)
    blurred[7, 3, 3] = np.nan
    save("nan", **good | {"x_train": blurred[:40], "x_test": blurred[40:]})
    save("grey28", x_train=images(40, 28, 28, 1), y_train=labels[:40], x_test=images(20, 28, 28, 1), y_test=labels[40:])
    save("rgb32", x_train=images(30, 32, 32, 3), y_train=tens, x_test=images(30, 32, 32, 3), y_test=tens)
    save("rgb28", x_train=images(30, 28, 28, 3), y_train=tens, x_test=images(30, 28, 28, 3), y_test=tens)
    (folder / "networks.py").write_text(NETWORKS, encoding="utf-8")
    (folder / "text.txt").write_text("no data", encoding="utf-8")
    state = zoo.build("digits_cnn", classes=4, seed=0).state_dict()
    save_file(state, folder / "whole.safetensors")
    save_file({k: v for k, v in state.items() if not k.startswith("classifier")}, folder / "missing.safetensors")
    save_file(state | {"head.weight": torch.ones(2)}, folder / "unexpected.safetensors")
    save_file(state | {"classifier.weight": torch.ones(7, 256)}, folder / "shapes.safetensors")
    save_file(state | {"classifier.bias": torch.tensor([0.0, 1.0, float("nan"), 1.0])}, folder / "nan.safetensors")
    return folder


@pytest.fixture(scope="session")
def pressed(workspace: Path) -> Path:
    """A file that ``netpress compress`` made."""
    file = workspace / "pressed.netpress"
    arguments = [
        "compress",
        f"{workspace / 'networks.py'}:network",
        "-d",
        f"npz:{workspace / 'good.npz'}",
        "-r",
        "ahosvd",
    ]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--at", "4", "-o", str(file), "--json", *QUICK])
    assert not end.value.code
    return file


@pytest.fixture
def quick() -> list[str]:
    """Settings with which a compression takes a quarter of a second."""
    return list(QUICK)
