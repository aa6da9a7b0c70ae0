"""``--json``: one document on stdout, with the same objects everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import netpress as library
from netpress.pipeline import Recipe, find_method, method_names

NET, GOOD = "networks.py:network", "npz:good.npz"
COST = {"params", "nonzeros", "macs", "size_bytes", "latency_ms", "peak_memory_bytes"}
LATENCY = {"median", "p95", "batch", "threads", "device"}
QUALITY = {"metric", "value", "correct", "count", "split", "concordance"}


def assert_cost(cost: dict[str, Any], *, timed: bool) -> None:
    assert set(cost) == COST
    assert all(isinstance(cost[k], int) and cost[k] > 0 for k in ("params", "nonzeros", "macs", "size_bytes"))
    assert cost["nonzeros"] <= cost["params"]
    assert cost["peak_memory_bytes"] is None
    if not timed:
        assert cost["latency_ms"] is None
        return
    assert set(cost["latency_ms"]) == LATENCY
    assert 0 < cost["latency_ms"]["median"] <= cost["latency_ms"]["p95"]
    assert cost["latency_ms"]["batch"] == 1
    assert cost["latency_ms"]["device"] == "cpu"


def assert_quality(quality: dict[str, Any], split: str, count: int) -> None:
    assert set(quality) == QUALITY
    assert (quality["metric"], quality["split"], quality["count"]) == ("accuracy", split, count)
    assert quality["value"] == quality["correct"] / count


def test_compress_and_all_that_can_be_asked_of_its_file(netpress, quick, tmp_path: Path, workspace: Path) -> None:
    out = tmp_path / "small.netpress"
    made = netpress(
        "compress", NET, "-d", GOOD, "-r", "ahosvd", "--at", "4", "-b", "params=50%", "-o", out, "--json", *quick
    )
    assert made.code == 0
    document = made.document
    assert set(document) == {
        "before", "after", "held_out", "recipe", "budget", "seed", "training", "minutes", "warnings", "file",
    }  # fmt: skip
    for side in ("before", "after"):
        assert set(document[side]) == {"cost", "quality"}
        assert_cost(document[side]["cost"], timed=True)
        assert_quality(document[side]["quality"], "test", 20)
    assert_quality(document["held_out"], "held_out", 2)
    assert document["after"]["cost"]["params"] <= document["before"]["cost"]["params"] / 2
    assert document["after"]["cost"]["size_bytes"] == out.stat().st_size
    assert Recipe.read(document["recipe"]).methods == (find_method("ahosvd")(map_epochs=1),)
    assert (document["budget"], document["seed"], document["file"]) == ("params=50%", 0, str(out))
    assert document["training"]["epochs"] == 1
    assert "no --weights" in made.said
    assert not list(tmp_path.glob("*.work"))

    judged = netpress("eval", out, "-d", GOOD, "--json").document
    assert set(judged) == {"file", "data", "quality", "cost"}
    assert judged["quality"] == document["after"]["quality"]
    assert_cost(judged["cost"], timed=False)
    assert judged["cost"] == {**document["after"]["cost"], "latency_ms": None}
    assert_cost(netpress("eval", out, "-d", GOOD, "--json", "--latency").document["cost"], timed=True)
    assert_quality(netpress("eval", out, "-d", GOOD, "--split", "train", "--json").document["quality"], "train", 40)

    held = netpress("inspect", out, "--json").document
    assert held["size_bytes"] == out.stat().st_size == sum(held["section_bytes"].values())
    assert {t["name"] for t in held["tensors"]} == set(library.load(out).state_dict())
    assert held["metadata"] == {"recipe": "ahosvd", "seed": 0, "budget": "params=50%"}

    profiled = netpress("profile", out, "--json").document
    assert profiled["cost"]["params"] == document["after"]["cost"]["params"]
    assert profiled["cost"]["macs"] == document["after"]["cost"]["macs"]

    again = netpress(
        "compress", out, "-d", GOOD, "-r", "finetune", "-o", tmp_path / "again.netpress", "--json", "-s", "epochs=1"
    )
    assert again.document["before"]["quality"] == document["after"]["quality"]
    assert "no --weights" not in again.said

    code = "from netpress.cli import main; main()"
    fresh = subprocess.run(
        [sys.executable, "-c", code, "eval", out, "-d", f"npz:{workspace / 'good.npz'}", "--json"],
        capture_output=True, text=True, timeout=300, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(fresh.stdout)["quality"] == document["after"]["quality"]


def test_train_writes_weights_that_load(netpress, tmp_path: Path) -> None:
    out = tmp_path / "new" / "teacher.safetensors"
    plan = ["-s", "epochs=2", "-s", "augment=none", "-s", "lr=1e-2"]
    document = netpress("train", "digits_cnn", "-d", GOOD, "-o", out, "--json", *plan).document
    assert set(document) == {"network", "data", "seed", "quality", "held_out", "training", "minutes", "file"}
    assert_quality(document["quality"], "test", 20)
    assert_quality(document["held_out"], "held_out", 2)
    assert (document["network"], document["data"], document["training"]["epochs"]) == ("digits_cnn", "good.npz", 2)
    assert sorted(p.name for p in out.parent.iterdir()) == ["teacher.safetensors"]
    assert load_file(out)["classifier.weight"].shape == (4, 256)
    small = tmp_path / "same.netpress"
    kept = netpress(
        "compress", "digits_cnn", "-w", out, "-d", GOOD, "-r", "finetune", "-s", "epochs=0", "-o", small, "--json"
    )
    assert kept.document["before"]["quality"] == kept.document["after"]["quality"] == document["quality"]
    assert kept.document["training"] is None
    assert "the file did not get smaller" in kept.document["warnings"]
    again = tmp_path / "again.safetensors"
    netpress("train", "digits_cnn", "-d", GOOD, "-o", again, "--json", *plan)
    assert again.read_bytes() == out.read_bytes()


def test_profile(netpress) -> None:
    document = netpress("profile", NET, "--json").document
    assert set(document) == {"network", "input_shape", "output_shape", "cost", "layers", "cuts"}
    assert_cost(document["cost"], timed=True)
    assert document["cost"]["params"] == 1044 == sum(layer["params"] for layer in document["layers"])
    assert document["cost"]["macs"] == 10_880 == sum(layer["macs"] for layer in document["layers"])
    assert (document["input_shape"], document["output_shape"]) == ([1, 8, 8], [4])
    assert [c["name"] for c in document["cuts"]] == list("12345678")
    for cut in document["cuts"]:
        assert cut["params_before"] + cut["params_after"] == 1044
        assert cut["macs_before"] + cut["macs_after"] == 10_880
    assert netpress("profile", NET, "--json", "--no-latency").document["cost"]["latency_ms"] is None


def test_spectrum(netpress, tmp_path: Path) -> None:
    plot = tmp_path / "spectra.svg"
    document = netpress("profile", NET, "-d", GOOD, "--spectrum", "--plot", plot, "--json", "--no-latency").document
    assert [row["group"] for row in document["spectrum"]]
    for row in document["spectrum"]:
        assert len(row["energies"]) == row["channels"]
        assert sum(row["energies"]) == pytest.approx(1, abs=1e-6)
        assert list(row["dimensions"]) == ["90 %", "99 %", "99.9 %"]
        assert 1 <= row["dimensions"]["90 %"] <= row["dimensions"]["99 %"] <= row["channels"]
    assert plot.read_text(encoding="utf-8").count("<polyline") == len(document["spectrum"])
    shown = netpress("profile", NET, "-d", GOOD, "--spectrum", "--no-latency").out
    assert "99.9 %" in shown
    assert "█" in shown
    refused = netpress("profile", NET, "--spectrum")
    assert refused.code != 0
    assert "belong together" in refused.err


def test_methods(netpress) -> None:
    document = netpress("methods", "--json").document
    assert [card["name"] for card in document["methods"]] == list(method_names())
    for card in document["methods"]:
        assert set(card) == {"name", "stage", "summary", "card", "fields"}
        assert card["card"].startswith(card["summary"])
        for field in card["fields"]:
            assert set(field) == {"name", "type", "default", "meaning"}
            assert field["meaning"]
    one = netpress("methods", "ahosvd", "--json").document
    assert one["methods"] == [card for card in document["methods"] if card["name"] == "ahosvd"]


def test_topics_and_recipes(netpress) -> None:
    topics = netpress("bench", "--json").document["topics"]
    assert [t["name"] for t in topics] == ["codecs", "latency", "reduction", "structure", "subspace"]
    printed = netpress("compress", NET, "-d", GOOD, "-r", "pod", "-o", "x.netpress", "--print-recipe", "-s", "rank=3")
    as_json = netpress(
        "compress", NET, "-d", GOOD, "-r", "pod", "-o", "x.netpress", "--print-recipe", "-s", "rank=3", "--json"
    )
    recipe = Recipe.read("pod").with_settings(["rank=3"])
    assert Recipe.read(as_json.document) == recipe
    assert printed.out == recipe.to_yaml()


def test_bench_latency(netpress, pressed: Path) -> None:
    arguments = ("bench", "latency", pressed, pressed, "--runtimes", "torch", "--batch", "1,2", "--repeats", "1")
    document = netpress(*arguments, "--no-memory", "--json").document
    assert [(row["batch"], row["threads"], row["file"]) for row in document["rows"]] == [
        (batch, 1, str(pressed)) for batch in (1, 1, 2, 2)
    ]
    assert [verdict["size_ratio"] for verdict in document["verdicts"]] == [1]


def test_the_published_parameter_count(netpress, tmp_path: Path) -> None:
    """1,751,002 parameters: Meneghetti et al. 2026, VGG-16 before its 8th convolution, ranks (35, 3, 3), 20 neurons."""
    settings = ["ranks=35,3,3", "hidden=20", "map_epochs=0", "training.epochs=0"]
    outcome = netpress(
        "compress", "vgg16", "-d", "npz:rgb32.npz", "-r", "ahosvd", "--at", "features.17", "-o", tmp_path / "v.netpress",
        "--json", "-q", *(piece for setting in settings for piece in ("--set", setting)),
    )  # fmt: skip
    assert outcome.document["after"]["cost"]["params"] == 1_751_002
    assert outcome.document["training"] is None


GRID = """
title: A tiny grid
networks: [{name: cnn, net: digits_cnn, train: {epochs: 1, augment: none, batch_size: 16}}]
data: [{name: toy, spec: "npz:DATA"}]
recipes:
  - {name: original, recipe: finetune, budgets: [null], reference: true}
  - {name: tucker, recipe: ahosvd, set: {map_epochs: 1}}
budgets: ["params=40%"]
seeds: [0]
train: {epochs: 1, batch_size: 16, augment: none}
"""


def test_compare_twice(netpress, workspace: Path, tmp_path: Path) -> None:
    spec, out = tmp_path / "grid.yaml", tmp_path / "out"
    spec.write_text(GRID.replace("DATA", str(workspace / "good.npz")), encoding="utf-8")
    first = netpress("compare", spec, "-o", out, "--json")
    assert first.code == 0
    document = first.document
    assert set(document) >= {"title", "choices", "rows"}
    assert document["title"] == "A tiny grid"
    assert [row["status"] for row in document["rows"]] == ["done", "done"]
    for row in document["rows"]:
        for side in ("before", "after"):
            assert_cost(row["result"][side]["cost"], timed=True)
            assert_quality(row["result"][side]["quality"], "test", 20)
        assert_quality(row["result"]["held_out"], "held_out", 2)
    assert "cnn on toy" in first.said
    assert "tucker on cnn, toy, params=40%, seed 0" in first.said
    files = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (out / "files").iterdir()}
    assert len(files) == 2

    second = netpress("compare", spec, "-o", out, "--json")
    assert second.document == document
    assert "cnn on toy" not in second.said  # no teacher was trained
    assert "on cnn, toy" not in second.said  # no job was run
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (out / "files").iterdir()} == files

    redrawn = netpress("compare", out / "ledger.jsonl", "--only-table", "-o", tmp_path / "table", "--json")
    assert redrawn.document["rows"] == document["rows"]
    assert (tmp_path / "table" / "table.md").read_text("utf-8") == (out / "table.md").read_text("utf-8")


@pytest.mark.slow
def test_demo(netpress, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "demo"
    outcome = netpress("demo", "-o", out, "--json", "-q")
    document = outcome.document
    assert set(document) >= {"title", "rows", "best", "file"}
    assert {row["status"] for row in document["rows"]} == {"done"}
    best = max((r for r in document["rows"] if not r["reference"]), key=lambda r: r["result"]["held_out"]["value"])
    assert document["best"] == best["recipe"]
    judged = netpress("eval", document["file"], "-d", "digits", "--json").document
    assert judged["quality"]["correct"] == best["result"]["after"]["quality"]["correct"]
    assert (out / "report.html").is_file()


def test_a_plan_shows_widths_and_trains_nothing(netpress, workspace: Path) -> None:
    before = sorted(workspace.rglob("*"))
    document = netpress("compress", NET, "-d", GOOD, "-r", "blockwise", "-b", "macs=50%", "--plan", "--json").document
    assert set(document) == {"recipe", "budget", "widths", "before", "after", "speedup", "warnings"}
    assert document["after"]["cost"]["macs"] <= document["before"]["cost"]["macs"] / 2
    assert [row["group"] for row in document["widths"]] == ["0", "4"]
    assert all(1 <= row["kept"] <= row["channels"] for row in document["widths"])
    assert_cost(document["after"]["cost"], timed=True)
    assert sorted(workspace.rglob("*")) == before


def test_a_plan_of_a_method_without_widths_is_refused(netpress) -> None:
    made = netpress("compress", NET, "-d", GOOD, "-r", "ahosvd", "-b", "params=50%", "--plan")
    assert made.code != 0
    assert "does not take channels away" in made.err


def test_without_a_place_for_the_file_nothing_is_done(netpress) -> None:
    made = netpress("compress", NET, "-d", GOOD, "-r", "width", "-b", "macs=50%")
    assert made.code != 0
    assert "there is no place for the file" in made.err
