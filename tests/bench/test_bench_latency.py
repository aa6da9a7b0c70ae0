"""Networks of files side by side: the form, the rule, the guard. Nothing here looks at how fast anything was."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import netpress
from netpress.bench import _runtimes, latency, run_bench
from netpress.bench.latency import RUNTIMES, Verdict, compare_files, installed_runtimes, judge
from netpress.data import Data, Preprocess, Split
from netpress.errors import ArtifactError, ConfigError, NetpressError, UnknownNameError

ROW = {
    "file", "runtime", "batch", "threads", "median_ms", "p95_ms", "least_ms", "ratio", "ratio_quartiles", "rounds", "form_bytes",
    "max_abs_difference", "own_memory_bytes", "peak_memory_bytes",
}  # fmt: skip


COMPILED = [pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")]


def saved(path: Path, width: int, inputs: tuple[int, ...] = (1, 8, 8)) -> Path:
    torch.manual_seed(width)
    network = nn.Sequential(
        nn.Conv2d(inputs[0], width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 3),
    ).eval()  # fmt: skip
    netpress.save(path, network, input_shape=inputs, preprocess=None)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("latency")
    return [saved(folder / "wide.netpress", 64), saved(folder / "narrow.netpress", 8)]


@pytest.mark.parametrize("name", ["torch", pytest.param("torch-compile", marks=COMPILED), "onnxruntime", "openvino"])
def test_a_runtime_answers_as_the_file_does(name: str, files: list[Path], tmp_path: Path) -> None:
    stored = latency.read(files[0])
    form = latency._form(stored, files[0], name, tmp_path / "form")
    x = torch.randn(3, 1, 8, 8)
    before = torch.get_num_threads()
    try:
        given = RUNTIMES[name].start(form.path, x.numpy(), 1)()
    finally:
        torch.set_num_threads(before)
    with torch.no_grad():
        np.testing.assert_allclose(given, stored.network(x).numpy(), atol=1e-5)
    opened = [path for path in (tmp_path / "form").rglob("*") if path.is_file()] or [files[0]]
    assert form.size_bytes == sum(path.stat().st_size for path in opened)
    assert RUNTIMES[name].package in sys.modules


def test_the_form_of_the_document(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def peak(command: list[str]) -> int:
        commands.append(command)
        job = json.loads(command[-1])
        return 100 if job["form"] is None else 90 if "narrow" in job["form"] else 1000 * job["shape"][0]

    monkeypatch.setattr(latency, "peak_memory", peak)
    threads = torch.get_num_threads()
    document = compare_files(files, runtimes=["onnxruntime", "torch"], batches=[2, 4], threads=[2, 1], repeats=1)
    assert torch.get_num_threads() == threads
    assert json.loads(json.dumps(document, allow_nan=False))["rows"] == document["rows"]
    assert set(document) == {"environment", "files", "rows", "verdicts"}
    assert document["environment"]["onnxruntime"]
    rows = document["rows"]
    assert [(r["batch"], r["threads"], r["runtime"], r["file"]) for r in rows] == [
        (batch, threads, name, str(file))
        for batch in (2, 4)
        for threads in (2, 1)
        for name in ("onnxruntime", "torch")
        for file in files
    ]
    for row in rows:
        assert set(row) == ROW
        assert 0 < row["least_ms"] <= row["median_ms"] <= row["p95_ms"]
        low, high = row["ratio_quartiles"]
        assert low <= row["ratio"] <= high
        assert row["rounds"] >= 1
        assert row["max_abs_difference"] < 1e-4
        assert (row["ratio"] == 1) == (row["file"] == str(files[0]))
        wide = row["file"] == str(files[0])
        if row["runtime"] == "torch":
            assert row["form_bytes"] == Path(row["file"]).stat().st_size
            assert row["peak_memory_bytes"] == (1000 * row["batch"] if wide else 90)
            assert row["own_memory_bytes"] == (1000 * row["batch"] - 100 if wide else 0)
    assert [f["file"] for f in document["files"]] == [str(file) for file in files]
    assert document["files"][1]["params"] == 8 * 9 + 8 + 16 + 8 * 3 + 3
    assert document["files"][1]["size_bytes"] == files[1].stat().st_size
    [verdict] = document["verdicts"]
    assert verdict["file"] == str(files[1])
    assert verdict["size_ratio"] == files[1].stat().st_size / files[0].stat().st_size
    quartiles = {
        name: [r["ratio_quartiles"] for r in rows if (r["runtime"], r["batch"], r["file"]) == (name, 2, str(files[1]))]
        for name in ("onnxruntime", "torch")
    }
    judged = judge(quartiles, verdict["size_ratio"])
    assert (verdict["verdict"], verdict["faster_in"], verdict["slower_in"]) == (
        judged.verdict, judged.faster_in, judged.slower_in,
    )  # fmt: skip
    assert len(commands) == 2 + 2 * 2 * 2
    assert {json.loads(command[-1])["threads"] for command in commands} == {1}


def test_one_round_goes_over_all_networks_in_all_runtimes(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def saying(name: str, start: Any) -> Any:
        def started(form: Path, x: np.ndarray, threads: int) -> Any:
            call, said = start(form, x, threads), f"{name}{'wn'['narrow' in str(form)]}"

            def run() -> np.ndarray:
                order.append(said)
                return call()

            return run

        return started

    for name in ("a", "b"):
        monkeypatch.setitem(RUNTIMES, name, replace(RUNTIMES["torch"], start=saying(name, RUNTIMES["torch"].start)))
    document = compare_files(files, runtimes=["a", "b"], repeats=2, memory=False)
    there = ["aw", "aw", "an", "an", "bw", "bw", "bn", "bn"]  # untimed and timed
    rounds = document["rows"][0]["rounds"]
    timed = order[-8 * rounds :]
    assert timed[:16] == [*there, *there[::-1]]
    assert timed.count("bn") == 2 * rounds
    assert all(row["peak_memory_bytes"] is None for row in document["rows"])


@pytest.mark.parametrize(
    ("quartiles", "size", "wanted"),
    [
        ({"torch": [(0.5, 0.95)]}, 2.0, Verdict("faster", ("torch",), ())),
        ({"torch": [(0.5, 0.96)]}, 0.95, Verdict("smaller only", (), ())),
        ({"torch": [(0.5, 0.96)]}, 0.96, Verdict("neither", (), ())),
        ({"torch": [(0.3, 5.8)]}, 0.96, Verdict("neither", (), ())),
        ({"torch": [(0.5, 0.5), (0.9, 0.96)]}, 0.96, Verdict("neither", (), ())),
        (
            {"torch": [(1.05, 2)], "openvino": [(0.5, 0.6), (0.7, 0.8)]},
            0.3,
            Verdict("faster", ("openvino",), ("torch",)),
        ),
        ({"torch": [(1.05, 2), (1.04, 2)], "openvino": [(3, 4), (2, 2)]}, 1, Verdict("neither", (), ("openvino",))),
    ],
)
def test_the_rule(quartiles: dict[str, list[tuple[float, float]]], size: float, wanted: Verdict) -> None:
    assert judge(quartiles, size) == wanted


def test_what_answers_otherwise_is_not_timed(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    right = RUNTIMES["torch"].start
    timed: list[object] = []
    monkeypatch.setattr(latency, "take_turns", lambda calls, **_: timed.append(calls))
    for wrong in (lambda y: y + 0.01, lambda y: y[:1], lambda y: y * np.nan):
        off = replace(
            RUNTIMES["torch"], start=lambda form, x, threads, wrong=wrong: lambda: wrong(right(form, x, threads)())
        )
        monkeypatch.setitem(RUNTIMES, "off", off)
        with pytest.raises(ArtifactError, match=r"is not timed; got: .*wide.netpress in off: outputs that differ by"):
            compare_files(files, runtimes=["off"], batches=[2], memory=False)
    assert timed == []


def test_networks_of_other_inputs(files: list[Path], tmp_path: Path) -> None:
    other = saved(tmp_path / "other.netpress", 8, (2, 8, 8))
    with pytest.raises(
        ConfigError, match=r"different inputs .*other.netpress: torch.float32 \(2, 8, 8\); allowed: .*\(1, 8, 8\), as"
    ):
        compare_files([*files, other])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batches": [1, 0]}, "batch of a latency is out of range; got: 0"),
        ({"threads": [0]}, "threads of a latency is out of range; got: 0"),
        ({"repeats": 0}, "repeats of a latency is out of range; got: 0"),
        ({"runtimes": []}, "runtimes of a latency is empty; allowed: one or more"),
        ({"runtimes": ["onxruntime"]}, "unknown runtime; got: 'onxruntime'.*did you mean 'onnxruntime'"),
        ({"files": []}, "no files to compare; got: none; .*remedy: netpress bench latency original.netpress"),
    ],
)
def test_what_is_checked_first(given: dict[str, Any], said: str, files: list[Path]) -> None:
    with pytest.raises(ConfigError, match=said):
        compare_files(**{"files": files, **given})


def test_a_runtime_whose_form_nothing_writes(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "torch", replace(RUNTIMES["torch"], form="tflite"))
    with pytest.raises(UnknownNameError, match="unknown export target; got: 'tflite'"):
        compare_files(files, runtimes=["torch"])
    assert "torch" not in installed_runtimes()


def test_installed_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"torch", "onnxruntime", "openvino"} <= set(installed_runtimes()) <= set(RUNTIMES) - {"torch-compile"}
    monkeypatch.setitem(RUNTIMES, "onnxruntime", replace(RUNTIMES["onnxruntime"], package="no_such_package"))
    assert "onnxruntime" not in installed_runtimes()


@pytest.mark.parametrize("name", [pytest.param("torch-compile", marks=COMPILED), "onnxruntime"])
def test_integers_are_answered_in_integers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 5)
    )
    rng = np.random.default_rng(1)
    split = Split(rng.integers(0, 256, (64, 8, 8, 3), dtype=np.uint8), rng.integers(0, 5, 64))
    data = Data("noise", split, split, tuple("abcde"), preprocess=Preprocess(1 / 255, (0.5,) * 3, (0.25,) * 3))
    small = tmp_path / "small.netpress"
    netpress.compress(network.eval(), "quantize", data, latency=False, out=small)
    [row] = compare_files([small], runtimes=[name], repeats=5, memory=False)["rows"]
    weights = sum(layer.weight.numel() for layer in network if hasattr(layer, "weight"))
    assert row["form_bytes"] < 2 * weights + 30_000
    stored = latency.read(small).network
    answer = stored(torch.zeros(1, 3, 8, 8))
    assert row["max_abs_difference"] < 0.05 * float(answer.detach().abs().max())


def test_what_torch_cannot_compile(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(x: torch.Tensor) -> None:
        raise torch._dynamo.exc.BackendCompilerFailed("inductor", RuntimeError("no compiler found\nin any path"), None)

    monkeypatch.setattr(torch, "compile", lambda program: fails)
    with pytest.raises(ConfigError, match=r"torch\.compile failed.*no compiler found; .*leave torch-compile out"):
        compare_files(files, runtimes=["torch-compile"], memory=False)


def test_the_topic_needs_files() -> None:
    with pytest.raises(ConfigError, match=r"'latency' needs files; got: none; remedy: .*compare_files"):
        run_bench("latency")


def test_memory_is_that_of_a_process_which_answers(files: list[Path]) -> None:
    """What the process does is seen by its failing: it imports, opens and answers."""
    _runtimes.main({"runtime": "torch", "form": None})
    threads = torch.get_num_threads()
    job = {"runtime": "torch", "form": str(files[0]), "dtype": "float32", "threads": threads}
    _runtimes.main({**job, "shape": [2, 1, 8, 8]})
    with pytest.raises(RuntimeError):
        _runtimes.main({**job, "shape": [2, 5, 8, 8]})


def test_a_process_of_a_runtime_has_no_torch(files: list[Path], tmp_path: Path) -> None:
    form = latency._form(latency.read(files[0]), files[0], "onnxruntime", tmp_path / "form")
    command = _runtimes.command("onnxruntime", form.path, shape=(2, 1, 8, 8))
    bare = _runtimes.command("onnxruntime")
    assert 1e7 < latency.peak_memory(bare) < latency.peak_memory(command) < 2.5e8  # torch alone is more
    with pytest.raises(NetpressError, match="process to measure failed"):
        latency.peak_memory(_runtimes.command("onnxruntime", form.path, shape=(2, 5, 8, 8)))
