"""Killed in the middle and started again: the same bytes at the end, and nothing done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# The command line with a checkpoint after every step. It says when it takes a checkpoint up, and stops dead where it is
# told to (``STOP_AT=N``: after checkpoint N of a whole network's training), so that the kill always finds it there.
DRIVER = """
import os, sys, time
import netpress.training.loop as loop
from netpress.cli import main

written = 0
write, read, defaults = loop.write_checkpoint, loop.read_checkpoint, loop.Trainer.__init__.__defaults__
loop.Trainer.__init__.__defaults__ = (*defaults[:-1], 0.0)

def writing(path, *arguments):
    global written
    write(path, *arguments)
    written += path.name in ("training.checkpoint", os.environ.get("STOP_IN", ""))
    if written == int(os.environ.get("STOP_AT", "-1")):
        print("STOPPED", flush=True)
        time.sleep(600)

def reading(path, *arguments):
    counters, best = read(path, *arguments)
    print("RESUMED", path.name, counters["step"], file=sys.stderr, flush=True)
    return counters, best

loop.write_checkpoint, loop.read_checkpoint = writing, reading
main()
"""
SECONDS = 300  # generous: the machine may be busy


def run(arguments: list[str], folder: Path, *, stop_at: int = -1) -> str:
    """Runs a command to its end, or kills it where it stops; its stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STOP_AT": str(stop_at)}
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        if stop_at >= 0:
            assert process.stdout is not None
            assert process.stdout.readline() == "STOPPED\n"
            process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == (-signal.SIGKILL if stop_at >= 0 else 0), err
    if stop_at < 0:
        json.loads(out)
    return err


@pytest.mark.parametrize("recipe", ["autoencoder"])
def test_a_killed_compression_goes_on_to_the_same_bytes(recipe: str, workspace: Path, tmp_path: Path, quick) -> None:
    arguments = [
        "compress",
        str(workspace / "networks.py") + ":network",
        "-d",
        f"npz:{workspace / 'good.npz'}",
        "--json",
    ]
    arguments += ["-r", recipe, "--at", "4", *quick, "-s", "training.epochs=3", "-o", "small.netpress"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    run(arguments, tmp_path / "whole")
    expected = (tmp_path / "whole" / "small.netpress").read_bytes()
    run(arguments, tmp_path / "killed", stop_at=5)
    work = tmp_path / "killed" / "small.netpress.work"
    assert list(work.rglob("training.checkpoint"))
    assert not (tmp_path / "killed" / "small.netpress").exists()
    err = run(arguments, tmp_path / "killed")
    assert "RESUMED reconstruction.checkpoint" in err  # what was done before is taken from its checkpoint
    assert "RESUMED map.checkpoint" in err
    assert "RESUMED training.checkpoint 5" in err  # of 9 steps
    assert (tmp_path / "killed" / "small.netpress").read_bytes() == expected
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["small.netpress"]


GRID = """
networks: [{name: cnn, net: digits_cnn, train: {epochs: 1, augment: none, batch_size: 16}}]
data: [{name: toy, spec: "npz:DATA"}]
recipes:
  - {name: first, recipe: finetune, budgets: [null]}
  - {name: second, recipe: ahosvd, set: {map_epochs: 1}}
  - {name: third, recipe: pod, set: {map_epochs: 1, rank: 3}}
budgets: ["params=40%"]
seeds: [0]
train: {epochs: 2, batch_size: 16, augment: none}
"""


def test_a_killed_comparison_does_not_run_twice_what_is_done(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID.replace("DATA", str(workspace / "good.npz")), encoding="utf-8")
    arguments = ["compare", "grid.yaml", "-o", "grid", "--json"]
    # Six steps and one checkpoint more at the end of a training: the ninth is the second of the second job.
    err = run(arguments, tmp_path, stop_at=9)
    assert "first on cnn" in err
    assert "second on cnn" in err
    assert "third on cnn" not in err
    done = {p.name: p.read_bytes() for p in (tmp_path / "grid" / "files").iterdir()}
    assert len(done) == 1
    stamps = {p: p.stat().st_mtime_ns for f in ("files", "teachers") for p in (tmp_path / "grid" / f).iterdir()}

    err = run(arguments, tmp_path)
    assert "cnn on toy" not in err  # the teacher
    assert "first on cnn" not in err
    assert "second on cnn" in err
    assert "third on cnn" in err
    assert "RESUMED training.checkpoint 2" in err
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    rows = [json.loads(line) for line in (tmp_path / "grid" / "ledger.jsonl").read_text("utf-8").splitlines()]
    jobs = [(row["recipe"], row["status"]) for row in rows if row["kind"] == "job"]
    assert jobs == [("first", "done"), ("second", "done"), ("third", "done")]
    assert len(list((tmp_path / "grid" / "files").iterdir())) == 3
