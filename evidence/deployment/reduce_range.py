"""int8 on processors without VNNI, weights of 8 and of 7 bits: ``reduce_range.jsonl``, ``reduce_range.md``.

    NETPRESS_WEIGHTS=<folder> NETPRESS_DATA=<folder of cifar10.npz> python evidence/deployment/reduce_range.py
    python evidence/deployment/reduce_range.py --only-table

oneDNN, which computes for OpenVINO and for torch.compile, is told which instructions it may use (ONEDNN_MAX_CPU_ISA), on one machine
that has all of them. Needs a C++ compiler. ResNets answer the 500 test images at hand, VGG-16-BN 2,000 that it was never trained on.
What was run before is replaced.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netpress import Recipe, compress, zoo
from netpress.artifact import read
from netpress.data import Preprocess, open_data
from netpress.export import export
from netpress.measure import predictions

FOLDER = Path(__file__).parent
NETWORKS = {
    "ResNet-20": ("cifar10_resnet20_akamaster", "test=test[:500]"),
    "ResNet-32": ("cifar10_resnet32_akamaster", "test=test[:500]"),
    "VGG-16-BN": ("cifar10_vgg16bn", "test=train[40000:42000]"),
}
INSTRUCTIONS = {"AVX512_CORE_VNNI": "AVX-512 with VNNI", "AVX512_CORE": "AVX-512 without VNNI", "AVX2": "AVX2"}
RUNTIMES = {"openvino": ".xml", "torch-export": ".pt2"}
BATCH = 50

Row = dict[str, Any]


def spec(test: str) -> str:
    return f"npz:{os.environ['NETPRESS_DATA']}/cifar10.npz?train=train[:10000]&{test}"


def rows_of(network: str, reduce_range: bool, aside: Path) -> list[Row]:
    """A row a runtime and kind of processor; each is run in a process of its own, as oneDNN asks for its limit once."""
    weights, test = NETWORKS[network]
    module, how = zoo.load_pretrained(weights, os.environ["NETPRESS_WEIGHTS"])
    file = aside / "small.netpress"
    recipe = Recipe.read("quantize").with_settings([f"reduce_range={str(reduce_range).lower()}"])
    result = compress(
        module, recipe, open_data(spec(test)), preprocess=Preprocess.from_dict(dict(how)), latency=False, out=file
    )
    for form, suffix in RUNTIMES.items():
        export(file, form, file.with_suffix(suffix))
    rows = []
    for limit in INSTRUCTIONS:
        found = subprocess.run(
            [sys.executable, __file__, "--answer", str(file), test],
            env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit},
            check=True,
            capture_output=True,
            text=True,
        )
        for row in json.loads(found.stdout.splitlines()[-1]):
            rows.append({"network": network, "reduce_range": reduce_range, "instructions": limit, **row})
            rows[-1]["size_bytes"] = result.after.size_bytes
    return rows


def answered(file: Path, test: str) -> list[Row]:
    """How both forms of a file answer, beside the file's own network, which rounds in float."""
    import openvino
    from torch._inductor import config

    stored = read(file)
    data = open_data(spec(test))
    preprocess = Preprocess.from_dict(stored.preprocess or {})
    wanted = predictions(stored.network, data.test, preprocess)
    truth = torch.as_tensor(np.asarray(data.test.labels[:]))
    x = preprocess(data.test.images[:])
    config.freezing = True
    compiled: Any = openvino.Core().compile_model(file.with_suffix(".xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    importlib.import_module("torch.ao.quantization.fx._decomposed")  # the words of the integers
    module: Any = torch.compile(torch.export.load(file.with_suffix(".pt2")).module())
    ways = {"openvino": lambda p: torch.from_numpy(np.asarray(compiled(p.numpy())[0])), "torch-compile": module}
    rows = []
    with torch.inference_mode():
        for runtime, way in ways.items():
            given = torch.cat([way(part) for part in x.split(BATCH)])
            rows.append(
                {
                    "runtime": runtime,
                    "count": len(truth),
                    "correct": int((given.argmax(1) == truth).sum()),
                    "correct_in_float": int((wanted.argmax(1) == truth).sum()),
                    "answered_differently": int((given.argmax(1) != wanted.argmax(1)).sum()),
                    "max_abs_difference": float((given - wanted).abs().max()),
                    "largest_output": float(wanted.abs().max()),
                    "versions": {name: version(name) for name in ("torch", "openvino")},
                }
            )
    return rows


def table() -> None:
    """``reduce_range.md``."""
    lines = [
        "# int8 without VNNI",
        "",
        "Integers of `quantize` with weights of 8 bits and of 7 (`reduce_range=true`), computed by oneDNN with the instructions it is",
        "allowed. Right answers; answers other than those of the same integers computed in float; largest difference of an output.",
        "Made by `reduce_range.py`.",
        "",
        "| network | weights | file kB | instructions | runtime | right | in float | answered otherwise | largest difference |",
        "|---|---:|---:|---|---|---:|---:|---:|---:|",
    ]
    for line in (FOLDER / "reduce_range.jsonl").read_text(encoding="utf-8").splitlines():
        r = json.loads(line)
        lines.append(
            f"| {r['network']} | {7 if r['reduce_range'] else 8} bits | {r['size_bytes'] / 1e3:,.1f} "
            f"| {INSTRUCTIONS[r['instructions']]} | {r['runtime']} | {r['correct']:,} of {r['count']:,} "
            f"| {r['correct_in_float']:,} | {r['answered_differently']} "
            f"| {r['max_abs_difference']:.2f} of {r['largest_output']:.1f} |"
        )
    (FOLDER / "reduce_range.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--answer", nargs=2, metavar=("FILE", "IMAGES"), help="of one file, in this process")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.answer:
        print(json.dumps(answered(Path(given.answer[0]), given.answer[1])))
        return
    if not given.only_table:
        with (FOLDER / "reduce_range.jsonl").open("w", encoding="utf-8") as out:
            for network in NETWORKS:
                for reduce_range in (False, True):
                    with tempfile.TemporaryDirectory() as aside:
                        for row in rows_of(network, reduce_range, Path(aside)):
                            out.write(json.dumps(row) + "\n")
                            out.flush()
                            print(
                                network, reduce_range, row["instructions"], row["runtime"], row["correct"], flush=True
                            )
    table()


if __name__ == "__main__":
    main()
