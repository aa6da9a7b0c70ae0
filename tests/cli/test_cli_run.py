"""``netpress run`` and ``netpress export``: answers without torch, forms that were run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from netpress import artifact


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for k in range(3):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{k}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_folder_an_image_and_an_array_give_the_same(
    netpress: Callable[..., Any], pressed: Path, images: Path, tmp_path: Path
) -> None:
    of_folder = netpress("run", pressed, images, "--top", 2, "--json").document["answers"]
    assert [answer["input"] for answer in of_folder] == ["0.png", "1.png", "2.png"]
    assert netpress("run", pressed, images / "1.png", "--top", 2, "--json").document["answers"] == [
        {
            **of_folder[1],
            "top": [{**each, "share": pytest.approx(each["share"], rel=1e-5)} for each in of_folder[1]["top"]],
        }
    ]
    array = np.stack([np.asarray(Image.open(images / f"{k}.png")) for k in range(3)])
    np.save(tmp_path / "x.npy", array)
    of_array = netpress("run", pressed, tmp_path / "x.npy", "--top", 2, "--json").document["answers"]
    assert [answer["top"] for answer in of_array] == [answer["top"] for answer in of_folder]
    assert [answer["input"] for answer in of_array] == ["x.npy[0]", "x.npy[1]", "x.npy[2]"]


def test_shares_are_those_of_torch(netpress: Callable[..., Any], pressed: Path, images: Path) -> None:
    from netpress.data import Preprocess

    stored = artifact.read(pressed)
    preprocess = Preprocess.from_dict(stored.preprocess or {})
    image = np.asarray(Image.open(images / "0.png"))[None]
    with torch.no_grad():
        shares = stored.network(preprocess(image)).softmax(1)[0]
    [answer] = netpress("run", pressed, images / "0.png", "--json").document["answers"]
    assert len(answer["top"]) == 4
    for each in answer["top"]:
        assert each["share"] == pytest.approx(float(shares[each["index"]]), rel=1e-3, abs=1e-6)
        assert each["class"] == "abcd"[each["index"]]
    assert [each["share"] for each in answer["top"]] == sorted((each["share"] for each in answer["top"]), reverse=True)


def test_a_table_for_people(netpress: Callable[..., Any], pressed: Path, images: Path) -> None:
    shown = netpress("run", pressed, images, "--top", 1).out
    assert "3 answers" in shown
    assert shown.count(" %") == 3


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.png", "there is no such input"),
        ("empty", "the folder has no images"),
        ("odd.npy", "cannot be read"),
        ("text.png", "cannot decode"),
    ],
)
def test_inputs_that_are_none(
    name: str, said: str, netpress: Callable[..., Any], pressed: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd.npy").write_bytes(b"nothing")
    (tmp_path / "text.png").write_text("nothing")
    outcome = netpress("run", pressed, tmp_path / name)
    assert outcome.code == 1
    assert said in outcome.said


def test_run_needs_no_torch(pressed: Path, images: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from netpress.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "run", str(pressed), str(images), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(json.loads(ran.stdout)["answers"]) == 3


@pytest.mark.parametrize("target", ["onnx", "safetensors"])
def test_export(target: str, netpress: Callable[..., Any], pressed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    document = netpress("export", pressed, "--to", target, "-o", out, "-d", "npz:good.npz", "--json").document
    assert document["max_abs_difference"] < 1e-4
    assert document["size_bytes"] == out.stat().st_size
    assert document["quality"]["answered_differently"] == 0
    shown = netpress("export", pressed, "--to", target, "-o", out).out
    assert "written and run" in shown


def test_a_form_that_is_not_there(netpress: Callable[..., Any], pressed: Path, tmp_path: Path) -> None:
    outcome = netpress("export", pressed, "--to", "onx", "-o", tmp_path / "a")
    assert outcome.code == 2
    assert "did you mean 'onnx'" in outcome.said
