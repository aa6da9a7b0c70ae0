"""Static and dynamic int8 by netpress and by ONNX Runtime's own quantizer, judged by ONNX Runtime: ``peers.jsonl``, ``peers.md``.

    NETPRESS_WEIGHTS=<folder> NETPRESS_DATA=<folder of cifar10.npz> python evidence/deployment/peers.py
    python evidence/deployment/peers.py --only-table

Both calibrate with 512 of the first 10,000 training images. ONNX Runtime's quantizer (which needs the package onnx) gets the same float
model, QDQ, a scale a channel, int8 weights, uint8 values; each of its calibration methods is run. ResNets answer the 500 test
images at hand, VGG-16-BN 2,000 images that it was never trained on.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
NETWORKS = {
    "ResNet-20": ("cifar10_resnet20_akamaster", "test=test[:500]"),
    "ResNet-32": ("cifar10_resnet32_akamaster", "test=test[:500]"),
    "VGG-16-BN": ("cifar10_vgg16bn", "test=train[40000:42000]"),
}
SAMPLES, BATCH = 512, 64
ORIGINAL = "original, float32"

Row = dict[str, Any]


def judge(networks: list[str]) -> Iterator[Row]:
    """A row a network and quantizer."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

    from netpress import Recipe, compress, zoo
    from netpress.artifact import save
    from netpress.data import Preprocess, open_data
    from netpress.export import export

    for network in networks:
        weights, test = NETWORKS[network]
        data = open_data(f"npz:{os.environ['NETPRESS_DATA']}/cifar10.npz?train=train[:10000]&{test}")
        module, how = zoo.load_pretrained(weights, os.environ["NETPRESS_WEIGHTS"])
        preprocess = Preprocess.from_dict(dict(how))
        images, labels = preprocess(data.test.images[:]).numpy(), data.test.labels[:]
        rows = np.sort(np.random.default_rng(0).permutation(len(data.train))[:SAMPLES])
        calibration = preprocess(data.train.images[rows]).numpy()
        with tempfile.TemporaryDirectory() as aside:
            models = {ORIGINAL: Path(aside) / "original.onnx"}
            shape = zoo.entry(zoo.pretrained(weights).network).input_shape
            stored = Path(aside) / "original.netpress"
            save(stored, module, input_shape=shape, preprocess=dict(how))
            export(stored, "onnx", models[ORIGINAL])
            for scheme in ("static", "dynamic"):
                small = Path(aside) / f"{scheme}.netpress"
                recipe = Recipe.read("quantize").with_settings([f"scheme={scheme}"])
                compress(module, recipe, data, preprocess=preprocess, latency=False).save(small)
                models[f"netpress, {scheme}"] = small.with_suffix(".onnx")
                export(small, "onnx", small.with_suffix(".onnx"))
            for method in CalibrationMethod:
                models[f"ONNX Runtime, static, {method.name}"] = made = Path(aside) / f"{method.name}.onnx"
                quantize_static(
                    models[ORIGINAL],
                    made,
                    _Reader(calibration),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                    activation_type=QuantType.QUInt8,
                    calibrate_method=method,
                )
            models["ONNX Runtime, dynamic"] = made = Path(aside) / "dynamic_ort.onnx"
            quantize_dynamic(models[ORIGINAL], made, per_channel=True, weight_type=QuantType.QInt8)
            yield from _judged(network, models, images, labels)


class _Reader:
    """Calibration images, batch by batch, as ONNX Runtime asks for them."""

    def __init__(self, images: Any) -> None:
        self._left = iter(np.array_split(images, len(images) // BATCH))

    def get_next(self) -> Row | None:
        batch = next(self._left, None)
        return None if batch is None else {"input": batch}


def _judged(network: str, models: dict[str, Path], images: Any, labels: Any) -> Iterator[Row]:
    import onnxruntime

    from netpress.measure import LatencyResult, take_turns

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    sessions = {name: onnxruntime.InferenceSession(path, options) for name, path in models.items()}

    def call(name: str) -> Any:
        return lambda: sessions[name].run(None, {"input": images[:1]})

    times = take_turns({name: call(name) for name in sessions}, repeats=30)
    results = {name: LatencyResult(tuple(taken), 1, 1, "cpu") for name, taken in times.items()}
    original = None
    for name, session in sessions.items():
        answers = np.concatenate([session.run(None, {"input": part})[0] for part in np.array_split(images, 20)]).argmax(
            1
        )
        original = answers if original is None else original
        yield {
            "network": network,
            "quantizer": name,
            "size_bytes": models[name].stat().st_size,
            "count": len(labels),
            "correct": int((answers == labels).sum()),
            "answered_differently": int((answers != original).sum()),
            "time_ratio": results[name].ratio(results[ORIGINAL]),
            "onnxruntime": onnxruntime.__version__,
        }


def table() -> None:
    """``peers.md``."""
    rows = [json.loads(line) for line in (FOLDER / "peers.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [
        "# int8 by netpress and by ONNX Runtime's quantizer",
        "",
        "Right answers, and answers other than the float32 original's, in ONNX Runtime; its time for one image, one thread, over the",
        "original's in the same rounds; bytes of the ONNX model. Made by `peers.py`.",
        "",
        "| network | quantizer | model kB | right | other than the original's | time |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['network']} | {r['quantizer']} | {r['size_bytes'] / 1e3:,.1f} | {r['correct']:,} of {r['count']:,} "
        f"| {r['answered_differently']} | {r['time_ratio']:.2f} |"
        for r in rows
    ]
    (FOLDER / "peers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    given = parser.parse_args()
    if not given.only_table:
        with (FOLDER / "peers.jsonl").open("w", encoding="utf-8") as out:
            for row in judge(given.networks):
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(row["network"], row["quantizer"], row["correct"], f"{row['time_ratio']:.2f}", flush=True)
    table()
