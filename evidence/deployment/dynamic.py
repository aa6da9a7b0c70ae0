"""Linear layers of dynamic ranges, timed in the runtimes that have kernels for them: ``dynamic.json``.

    NETPRESS_DATA=<folder of cifar10.npz> python evidence/deployment/dynamic.py

Three layers of 21 million random weights; what they answer is beside the point here. Needs ExecuTorch and a C++ compiler.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch
from torch import nn

from netpress import Recipe, compress
from netpress.artifact import save
from netpress.bench.latency import compare_files
from netpress.data import open_data

SHAPE = (3, 32, 32)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 4096), nn.ReLU(), nn.Linear(4096, 2048), nn.ReLU(), nn.Linear(2048, 10)
    ).eval()
    data = open_data(f"npz:{os.environ['NETPRESS_DATA']}/cifar10.npz?train=train[:1000]&test=test[:100]")
    with tempfile.TemporaryDirectory() as aside:
        files = [Path(aside) / f"{name}.netpress" for name in ("original", "dynamic", "static")]
        save(files[0], network, input_shape=SHAPE, preprocess=data.preprocess.as_dict(), codec="dense")
        for file in files[1:]:
            recipe = Recipe.read("quantize").with_settings([f"scheme={file.stem}"])
            compress(network, recipe, data, latency=False, codec="dense", out=file)
        found = compare_files(files, runtimes=("onnxruntime", "torch-compile", "executorch"), batches=(1, 16))
    for entry in (*found["files"], *found["rows"], *found["verdicts"]):
        entry["file"] = Path(entry["file"]).name
    (Path(__file__).parent / "dynamic.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
