"""A model of OpenVINO: NAME.xml and, beside it, the weights in NAME.bin; float32, of integers and of convolutions on grids int8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netpress.artifact import Artifact
from netpress.errors import ConfigError, MissingExtraError
from netpress.export.onnx import pieces

SUFFIX = ".xml"


def write(stored: Artifact, path: Path) -> None:
    if path.suffix != SUFFIX:
        raise ConfigError(
            "a model of OpenVINO is two files, NAME.xml and NAME.bin",
            got=path.name,
            allowed="a name that ends in .xml",
            remedy=f"-o {path.with_suffix(SUFFIX).name}",
        )
    openvino = _openvino()
    model = openvino.Core().read_model(b"".join(pieces(stored, integers=True)))
    openvino.save_model(model, path, compress_to_fp16=False)


def open(path: Path) -> Callable[[Tensor], Tensor]:
    compiled = _openvino().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda x: torch.from_numpy(compiled(x.numpy())[0].copy())


def about(path: Path) -> dict[str, Any]:
    return {"versions": {"openvino": _openvino().__version__}}


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", "an export to OpenVINO") from error
    return openvino
