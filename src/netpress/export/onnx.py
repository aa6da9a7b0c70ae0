"""An ONNX model, for ONNX Runtime, OpenVINO and others: batch normalisations folded, the batch left open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netpress import onnx, runtime
from netpress.artifact import Artifact
from netpress.graph import to_document
from netpress.program import Program

SUFFIX = ".onnx"


def write(stored: Artifact, path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(pieces(stored))


def pieces(stored: Artifact, *, integers: bool = False) -> Iterable[bytes | memoryview]:
    """The bytes of the model; task, classes and preprocessing go with it as its metadata.

    Args:
        integers: As in `netpress.onnx.write`.
    """
    document, tensors = to_document(stored.network)
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    said = {"task": stored.task, "classes": list(stored.classes), "preprocess": stored.preprocess}
    return onnx.write(
        Program(document),
        arrays,
        metadata={f"netpress.{key}": json.dumps(value) for key, value in said.items()},
        integers=integers,
    )


def open(path: Path) -> Callable[[Tensor], Tensor]:
    session = runtime.start(path.read_bytes())
    return lambda x: torch.from_numpy(runtime.run(session, x.numpy()))


def about(path: Path) -> dict[str, Any]:
    import onnxruntime

    return {"opset": onnx.OPSET, "ir_version": onnx.IR_VERSION, "versions": {"onnxruntime": onnxruntime.__version__}}


def _array(tensor: Tensor) -> Any:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view("uint16")
    return tensor.numpy()
