"""The form of the codecs topic, on tiny matrices. Nothing here looks at how fast anything was."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from typing import Any

import numpy as np
import pytest
import torch

from netpress import bench
from netpress.bench import codecs as topic
from netpress.bench import run_bench
from netpress.bench.codecs import CSC, DENSE, Case, entropy_bytes, matrix, measured_codecs
from netpress.codecs import codec_by_name

TINY = {"T": Case(48, 40, 0.8, 5, 9.0, {1: 1e9, 8: 1e9}, 1e9)}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small matrix, two turns, and the codecs that the claims are about."""
    monkeypatch.setattr(topic, "CASES", TINY)
    monkeypatch.setattr(topic, "REPEATS", 2)
    monkeypatch.setattr(topic, "CODING_REPEATS", 1)
    ours = [codec_by_name("gap_huffman"), codec_by_name("gap_ans")]
    monkeypatch.setattr(topic, "measured_codecs", lambda tensor: ours)


def check_rows(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert set(row) == {"case", "metric", "value", "unit", "target", "ok"}
        assert math.isfinite(row["value"])
        assert row["value"] >= 0
        assert (row["ok"] is None) == (row["target"] is None)
    by_key = {(row["case"].split(", ")[-1], row["metric"]): row for row in rows}
    assert len(by_key) == len(rows)
    products = {
        f"product, batch {batch}, threads {threads}, {clock}"
        for batch in (1, 8, 64)
        for threads, clock in ((1, "CPU"), (2, "wall"))
    }
    for codec in ("gap_huffman", "gap_ans"):
        metrics = {metric for case, metric in by_key if case == codec}
        assert metrics >= {"bytes", "bytes over entropy", "encode", "decode", "open", "memory when opened", *products}
        ratio = by_key[codec, "bytes"]["value"] / by_key["5 values", "zero-order entropy"]["value"]
        assert by_key[codec, "bytes over entropy"]["value"] == pytest.approx(ratio)
    contenders = {"gap_huffman", "gap_ans", DENSE} | ({CSC} if importlib.util.find_spec("scipy") else set())
    assert {case for case, metric in by_key if metric in products} == contenders
    for threads in (1, 2):
        for contender in contenders:
            row = by_key[contender, f"largest error over |W| |x|, threads {threads}"]
            assert row["target"] == "<= 1e-05"
            assert row["ok"] is True
    claims = {(row["metric"], row["target"]) for row in rows if "judged (" in row["case"]}
    assert claims == {
        ("bytes over entropy", "<= 9"),
        ("encode", "<= 1e+09"),
        *((f"product, batch {batch}, threads {t}, over dense", "<= 1e+09") for batch in (1, 8) for t in (1, 2)),
    }


@pytest.mark.usefixtures("tiny")
def test_the_rows_of_the_codecs_topic() -> None:
    threads = torch.get_num_threads()
    document = run_bench("codecs", threads=2)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert torch.get_num_threads() == threads
    check_rows(document["rows"])


@pytest.mark.usefixtures("tiny")
def test_without_threadpoolctl_the_products_are_timed_in_a_process_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "threadpoolctl" else find_spec(name))
    started = []

    class Ended:
        returncode, stderr = 0, ""

        def __init__(self, stdout: str) -> None:
            self.stdout = stdout

    def run(command: list[str], env: dict[str, str], **others: object) -> Ended:
        started.append(command)
        assert command[:3] == [sys.executable, "-m", "netpress.bench.codecs"]
        assert {env[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {command[-1]}
        assert env["PATH"] == os.environ["PATH"]
        return Ended(json.dumps(list(topic._own_process(command[3], int(command[4])))))

    monkeypatch.setattr(topic.subprocess, "run", run)
    check_rows(run_bench("codecs", threads=2)["rows"])
    assert [command[3:] for command in started] == [["T", "1"], ["T", "2"]]


@pytest.mark.usefixtures("tiny")
def test_slow_codecs_are_timed_once_and_at_the_smallest_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic, "SLOW_S", -1.0)
    rows = run_bench("codecs", threads=1)["rows"]
    timed = {row["metric"] for row in rows if row["case"].endswith(", gap_ans") and row["unit"] == "ms"}
    assert timed == {"product, batch 1, threads 1, CPU"}
    judged = {row["metric"] for row in rows if "judged (" in row["case"] and row["metric"].startswith("product")}
    assert judged == {"product, batch 1, threads 1, over dense"}
    dense = {row["metric"] for row in rows if row["case"].endswith(DENSE) and row["unit"] == "ms"}
    assert dense == {f"product, batch {batch}, threads 1, CPU" for batch in (1, 8, 64)}


def test_every_codec_that_multiplies_is_measured() -> None:
    names = {codec.name for codec in measured_codecs(torch.from_numpy(matrix(TINY["T"])))}
    assert names >= {"gap_huffman", "gap_ans"}
    assert all(codec_by_name(name).open is not None for name in names)


def test_the_matrices_are_as_the_page_describes_them() -> None:
    case = Case(200, 300, 0.9, 16, 1, {})
    weights = matrix(case)
    np.testing.assert_array_equal(weights, matrix(case))
    assert (weights == 0).mean() == pytest.approx(0.9, abs=1e-4)
    assert len(np.unique(weights)) == 17


def test_entropy_by_hand() -> None:
    # A quarter ones in 32 entries: 8 * 2 + 24 * log2(4/3) bits.
    weights = np.array([1, 0, 0, 0] * 8, np.float32)
    assert entropy_bytes(weights) == pytest.approx((8 * 2 + 24 * math.log2(4 / 3)) / 8)


def test_the_topic_is_listed() -> None:
    assert ("codecs", topic.SUMMARY) in bench.topics()
