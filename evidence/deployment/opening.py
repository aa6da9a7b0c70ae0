"""How long a coded file takes to open and answer its first image, beside ONNX Runtime with the uncompressed model: ``opening.json``.

    NETPRESS_DATA=<folder of cifar10.npz> python evidence/deployment/opening.py ORIGINAL.netpress CODED.netpress

CODED is stored again by each of the codings (``netpress compress CODED --recipe finetune --set epochs=0 --codec ...``), and ORIGINAL is
exported to ONNX. Then each of them is opened and answers one image in a process of its own, imports included, in turns. ``wall``
and ``cpu`` are seconds of the whole process (medians), ``ratio`` medians over the rounds of the quotients.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from netpress import Recipe, compress
from netpress.artifact import read
from netpress.data import Preprocess, open_data
from netpress.export import export

CODINGS = ("fast", "gap_ans", "index_map", "auto")
PEER = "ONNX Runtime, uncompressed"
OPEN_ONNX = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(session.run(None, {session.get_inputs()[0].name: numpy.zeros((1, 3, 32, 32), numpy.float32)})[0].argmax())
"""
OPEN_FILE = """
import sys, numpy, netpress.runtime
print(netpress.runtime.load(sys.argv[1])(numpy.zeros((1, 3, 32, 32), numpy.float32)).argmax())
"""

Row = dict[str, Any]


def opened(code: str, file: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a process that opens a file and answers."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code, file], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(original: Path, coded: Path, rounds: int) -> Row:
    """The document that is written."""
    data = open_data(f"npz:{os.environ['NETPRESS_DATA']}/cifar10.npz?train=train[:1000]&test=test[:100]")
    with tempfile.TemporaryDirectory() as aside:
        cases = {PEER: (OPEN_ONNX, Path(aside) / "original.onnx")}
        export(original, "onnx", cases[PEER][1])
        stored = read(coded)
        unchanged = Recipe.read("finetune").with_settings(["epochs=0"])
        settings = {"preprocess": Preprocess.from_dict(dict(stored.preprocess or {})), "latency": False}
        for codec in CODINGS:
            cases[codec] = (OPEN_FILE, Path(aside) / f"{codec}.netpress")
            compress(stored.network, unchanged, data, codec=codec, out=cases[codec][1], **settings)
        for code, file in cases.values():
            opened(code, file)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, (code, file) in cases.items():
                times[name].append(opened(code, file))
        sizes = {name: file.stat().st_size for name, (_, file) in cases.items()}
    return {"rounds": rounds, "cores": os.cpu_count(), "rows": [_row(name, times, sizes) for name in times]}


def _row(name: str, times: dict[str, list[tuple[float, float]]], sizes: dict[str, int]) -> Row:
    row: Row = {"case": name, "size_bytes": sizes[name], "smaller": round(sizes[PEER] / sizes[name], 2)}
    for place, what in enumerate(("wall", "cpu")):
        own, peer = ([pair[place] for pair in times[case]] for case in (name, PEER))
        row[what] = round(statistics.median(own), 4)
        row[f"{what}_ratio"] = round(statistics.median(a / b for a, b in zip(own, peer, strict=True)), 3)
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path)
    parser.add_argument("coded", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    found = measure(given.original, given.coded, given.rounds)
    (Path(__file__).parent / "opening.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
