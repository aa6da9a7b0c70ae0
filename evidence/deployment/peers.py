"""int8 by netpress and by the quantizers of three runtimes, judged in these: ``peers.jsonl``, ``peers.md``.

    NETPRESS_WEIGHTS=<folder> NETPRESS_DATA=<folder of cifar10.npz> python evidence/deployment/peers.py onnxruntime openvino torch
    python evidence/deployment/peers.py --only-table

onnxruntime needs the package onnx, openvino nncf, torch torchao and a C++ compiler. All calibrate with 512 of the
first 10,000 training images, a scale a channel, int8 weights, 8 bits for values, and start from the same float network. ResNets answer
the 500 test images at hand, VGG-16-BN 2,000 images that it was never trained on, one image at a time. What was run for a network and
runtime before is replaced.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from netpress import Recipe, compress, zoo
from netpress.artifact import save
from netpress.data import Data, Preprocess, open_data
from netpress.export import export, target_by_name
from netpress.measure import LatencyResult, take_turns

FOLDER = Path(__file__).parent
NETWORKS = {
    "ResNet-20": ("cifar10_resnet20_akamaster", "test=test[:500]"),
    "ResNet-32": ("cifar10_resnet32_akamaster", "test=test[:500]"),
    "VGG-16-BN": ("cifar10_vgg16bn", "test=train[40000:42000]"),
}
SAMPLES, BATCH = 512, 64
ORIGINAL = "original, float32"

Row = dict[str, Any]
Answers = Callable[[Any], Any]
"""(1, 3, 32, 32) float32 to (1, 10), numpy both."""


@dataclass(frozen=True)
class Subject:
    """A network, its images, and a folder for what is made of it."""

    weights: str
    test: str
    aside: Path

    @cached_property
    def loaded(self) -> tuple[nn.Module, dict[str, Any]]:
        module, how = zoo.load_pretrained(self.weights, os.environ["NETPRESS_WEIGHTS"])
        return module.eval(), dict(how)

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess.from_dict(self.loaded[1])

    @cached_property
    def data(self) -> Data:
        return open_data(f"npz:{os.environ['NETPRESS_DATA']}/cifar10.npz?train=train[:10000]&{self.test}")

    @cached_property
    def calibration(self) -> list[Any]:
        """Batches of preprocessed images."""
        rows = np.sort(np.random.default_rng(0).permutation(len(self.data.train))[:SAMPLES])
        return np.array_split(self.preprocess(self.data.train.images[rows]).numpy(), SAMPLES // BATCH)

    def ours(self, form: str, *schemes: str) -> dict[str, Path]:
        """The original and netpress's networks of integers as files of a form."""
        files = {ORIGINAL: self.aside / "original.netpress"}
        shape = zoo.entry(zoo.pretrained(self.weights).network).input_shape
        save(files[ORIGINAL], self.loaded[0], input_shape=shape, preprocess=self.loaded[1])
        for scheme in schemes:
            files[f"netpress, {scheme}"] = small = self.aside / f"{scheme}.netpress"
            recipe = Recipe.read("quantize").with_settings([f"scheme={scheme}"])
            compress(self.loaded[0], recipe, self.data, preprocess=self.preprocess, latency=False).save(small)
        made = {name: file.with_suffix(target_by_name(form).suffix) for name, file in files.items()}
        for name, file in files.items():
            export(file, form, made[name])
        return made


def in_onnxruntime(subject: Subject) -> Iterator[tuple[str, int, Answers]]:
    """Quantizer, bytes of the model, and its answers."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

    models = subject.ours("onnx", "static", "dynamic")
    for method in CalibrationMethod:
        models[f"ONNX Runtime, static, {method.name}"] = made = subject.aside / f"{method.name}.onnx"
        quantize_static(
            models[ORIGINAL],
            made,
            _Reader(subject.calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=method,
        )
    models["ONNX Runtime, dynamic"] = made = subject.aside / "dynamic_ort.onnx"
    quantize_dynamic(models[ORIGINAL], made, per_channel=True, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    for name, path in models.items():
        session = onnxruntime.InferenceSession(path, options)
        yield name, path.stat().st_size, lambda x, session=session: session.run(None, {"input": x})[0]


def in_openvino(subject: Subject) -> Iterator[tuple[str, int, Answers]]:
    """The same with NNCF, whose default corrects biases fast; without its fast way it takes each layer's own."""
    import nncf
    import openvino

    models = subject.ours("openvino", "static", "dynamic")
    core = openvino.Core()
    for name, fast in (("fast bias correction", True), ("bias correction", False)):
        models[f"NNCF, static, {name}"] = made = subject.aside / f"nncf_{fast}.xml"
        quantized = nncf.quantize(
            core.read_model(models[ORIGINAL]),
            nncf.Dataset(list(np.concatenate(subject.calibration)[:, None])),
            subset_size=SAMPLES,
            fast_bias_correction=fast,
        )
        openvino.save_model(quantized, made, compress_to_fp16=False)
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    for name, path in models.items():
        model = core.read_model(path)
        model.reshape([1, 3, 32, 32])
        compiled = core.compile_model(model, "CPU", settings)
        size = sum(part.stat().st_size for part in (path, path.with_suffix(".bin")))
        yield name, size, lambda x, compiled=compiled: np.asarray(compiled(x)[0])


def in_torch(subject: Subject) -> Iterator[tuple[str, int, Answers]]:
    """The same with torchao's quantizer for x86 (PT2E), all compiled by Inductor with frozen weights."""
    from torch._inductor import config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    paths = subject.ours("torch-export", "static")
    example = (torch.from_numpy(subject.calibration[0][:2]),)
    batch = ({0: torch.export.Dim("N", min=1)},)
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        prepared = prepare_pt2e(
            torch.export.export(subject.loaded[0], example, dynamic_shapes=batch).module(), quantizer
        )
        for part in subject.calibration:
            prepared(torch.from_numpy(part))
        converted = torch.export.export(convert_pt2e(prepared), example, dynamic_shapes=batch)
    paths["torchao, static (PT2E)"] = made = subject.aside / "torchao.pt2"
    torch.export.save(converted, made)
    config.freezing = True  # for good: what is compiled anew, at another kind of input, is to be frozen, too
    for name, path in paths.items():
        compiled = torch.compile(torch.export.load(path).module())
        yield name, path.stat().st_size, lambda x, compiled=compiled: _compiled(compiled, x)


def _compiled(module: Any, x: Any) -> Any:
    with torch.inference_mode():
        return module(torch.from_numpy(x)).numpy()


RUNTIMES: dict[str, tuple[str, tuple[str, ...], Callable[[Subject], Iterator[tuple[str, int, Answers]]]]] = {
    "onnxruntime": ("ONNX Runtime", ("onnxruntime",), in_onnxruntime),
    "openvino": ("OpenVINO", ("openvino", "nncf"), in_openvino),
    "torch": ("torch.compile", ("torch", "torchao"), in_torch),
}


class _Reader:
    """Calibration images, batch by batch, as ONNX Runtime asks for them."""

    def __init__(self, batches: list[Any]) -> None:
        self._left = iter(batches)

    def get_next(self) -> Row | None:
        batch = next(self._left, None)
        return None if batch is None else {"input": batch}


def judged(network: str, runtime: str) -> Iterator[Row]:
    """A row a quantizer."""
    weights, test = NETWORKS[network]
    _, packages, candidates = RUNTIMES[runtime]
    with tempfile.TemporaryDirectory() as aside:
        subject = Subject(weights, test, Path(aside))
        found = {name: (size, answers) for name, size, answers in candidates(subject)}
        images = subject.preprocess(subject.data.test.images[:]).numpy()[:, None]
        labels = subject.data.test.labels[:]
        turns = {name: lambda answers=answers: answers(images[0]) for name, (_, answers) in found.items()}
        times = take_turns(turns, repeats=200, before=lambda name: turns[name]())
        results = {name: LatencyResult(tuple(taken), 1, 1, "cpu") for name, taken in times.items()}
        given = {name: np.concatenate([answers(x) for x in images]).argmax(1) for name, (_, answers) in found.items()}
        for name, (size, _) in found.items():
            yield {
                "network": network,
                "runtime": runtime,
                "quantizer": name,
                "size_bytes": size,
                "count": len(labels),
                "correct": int((given[name] == labels).sum()),
                "answered_differently": int((given[name] != given[ORIGINAL]).sum()),
                "time_ratio": results[name].ratio(results[ORIGINAL]),
                "versions": {package: version(package) for package in packages},
            }


def rows() -> list[Row]:
    file = FOLDER / "peers.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def table() -> None:
    """``peers.md``."""
    lines = [
        "# int8 by netpress and by the runtimes' quantizers",
        "",
        "Right answers, and answers other than the float32 original's, in the runtime; its time for one image, one thread, over the",
        "original's in the same rounds; bytes of the model. Made by `peers.py`.",
    ]
    every = rows()
    for runtime, (title, _, _) in RUNTIMES.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| network | quantizer | model kB | right | other than the original's | time |",
            "|---|---|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {r['network']} | {r['quantizer']} | {r['size_bytes'] / 1e3:,.1f} | {r['correct']:,} of {r['count']:,} "
            f"| {r['answered_differently']} | {r['time_ratio']:.2f} |"
            for r in every
            if r["runtime"] == runtime
        ]
    (FOLDER / "peers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runtimes", nargs="*", help=", ".join(RUNTIMES))
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--only-table", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the peers' inner workings
    for runtime in () if given.only_table else given.runtimes:
        for network in given.networks:
            new = list(judged(network, runtime))
            kept = [row for row in rows() if (row["network"], row["runtime"]) != (network, runtime)] + new
            order = sorted(
                kept, key=lambda row: (list(RUNTIMES).index(row["runtime"]), list(NETWORKS).index(row["network"]))
            )
            (FOLDER / "peers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in order), encoding="utf-8")
            for row in new:
                print(network, runtime, row["quantizer"], row["correct"], f"{row['time_ratio']:.2f}", flush=True)
    table()


if __name__ == "__main__":
    main()
