"""The tensors alone, under their names, as a .safetensors file; the program stands in its metadata."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from netpress.artifact import Artifact
from netpress.graph import from_document, to_document

SUFFIX = ".safetensors"
_PROGRAM = "netpress.program"


def write(stored: Artifact, path: Path) -> None:
    document, tensors = to_document(stored.network)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, path, {"format": "pt", _PROGRAM: json.dumps(document, separators=(",", ":"))})


def open(path: Path) -> Callable[[Tensor], Tensor]:
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        document = json.loads(file.metadata()[_PROGRAM])
    return from_document(document, tensors)


def about(path: Path) -> dict[str, Any]:
    return {"versions": {"safetensors": safetensors.__version__}}
