"""What is shown to people: help that teaches, tables that say what was found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from netpress._version import __version__
from netpress.cli.app import app
from netpress.export import target_names

COMMANDS = sorted(command.name for command in app.registered_commands)
NET, GOOD = "networks.py:network", "npz:good.npz"


def test_help_names_every_command_and_where_to_start(netpress) -> None:
    outcome = netpress("--help")
    assert outcome.code == 0
    assert COMMANDS == [
        "bench", "compare", "compress", "demo", "eval", "export", "inspect", "methods", "profile", "run", "train",
    ]  # fmt: skip
    shown = " ".join(outcome.out.split())
    for command in COMMANDS:
        assert f"│ {command} " in shown
    for text in ("Start with netpress demo", "npz:FILE", ".netpress file"):
        assert text in shown


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_command_teaches_by_an_example(command: str, flag: str, netpress) -> None:
    outcome = netpress(command, flag)
    assert outcome.code == 0
    shown = " ".join(outcome.out.split())
    assert f"Example: netpress {command} " in shown
    assert "--json" in shown
    assert outcome.err == ""


def test_the_help_of_export_names_every_form(netpress) -> None:
    text = netpress("export", "--help").out
    assert all(name in text for name in target_names())


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom netpress.cli import main\n"
        "try:\n    main(['compress', '--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


def test_without_a_command_help_is_shown(netpress) -> None:
    outcome = netpress()
    assert outcome.code == 2
    assert "compress" in outcome.out + outcome.err


def test_version(netpress) -> None:
    assert netpress("--version").out == f"{__version__}\n"


def test_compress_and_the_commands_on_its_file(netpress, quick, tmp_path: Path) -> None:
    out = tmp_path / "small.netpress"
    shown = netpress("compress", NET, "-d", GOOD, "-r", "pod", "--at", "4", "-o", out, "-q", *quick).out
    for text in (
        "pod, seed 0",
        "before",
        "after",
        "parameters",
        "1,044",
        "MACs",
        "10,880",
        "latency, median",
        "of 20)",
    ):
        assert text in shown
    assert f"written: {out} (" in shown
    assert f"{out.name} on good.npz: " in netpress("eval", out, "-d", GOOD, "-q").out
    held = netpress("inspect", out).out
    for text in ("reduction.projection.weight", "dense", "structure", "checksum", "total", "sha256"):
        assert text in held
    assert f"{out.stat().st_size:,}" in held


def test_profile_shows_layers_cuts_and_cost(netpress) -> None:
    shown = netpress("profile", NET, "--no-latency").out
    for text in ("Conv2d", "BatchNorm2d", "Legal cuts", "6x4x4", "1,044 parameters", "10,880 MACs", "on disk"):
        assert text in shown
    assert "latency" not in shown


def test_methods_show_a_table_and_cards(netpress) -> None:
    assert "ahosvd" in netpress("methods").out
    card = " ".join(netpress("methods", "mixer").out.split())
    for text in ("Idea:", "Fails:", "map_epochs", "20", "Passes over the stored features"):
        assert text in card


def test_bench_lists_its_topics(netpress) -> None:
    shown = netpress("bench").out
    assert "reduction" in shown
    assert "latency" in shown


def test_bench_latency_shows_times_and_a_verdict(netpress, pressed: Path) -> None:
    other = pressed.with_name("copy.netpress")
    other.write_bytes(pressed.read_bytes())
    shown = netpress(
        "bench", "latency", pressed, other, "--runtimes", "torch", "--repeats", "1", "--no-memory", "-q"
    ).out
    for text in (
        "Milliseconds: batch 1, threads 1",
        "p95",
        "ratio",
        "quartiles",
        "pressed",
        "copy",
        "Verdicts",
        "faster in",
        "slower in",
        "torch ",
    ):
        assert text in shown


def test_train_says_how_good_and_where(netpress, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    shown = netpress("train", NET, "-d", GOOD, "-o", out, "-q", "-s", "epochs=1", "-s", "augment=none").out
    assert "test " in shown
    assert "of 20), held out " in shown
    assert f"written: {out}" in shown


def test_a_name_in_brackets_is_shown_as_it_is(netpress, quick, tmp_path: Path) -> None:
    out = tmp_path / "[bold]small.netpress"
    assert f"written: {out} (" in netpress("compress", NET, "-d", GOOD, "-r", "pod", "-o", out, "-q", *quick).out
