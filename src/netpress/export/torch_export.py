"""A program of torch.export (.pt2), which PyTorch loads without netpress and other tools of PyTorch read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netpress.artifact import Artifact

SUFFIX = ".pt2"


def write(stored: Artifact, path: Path) -> None:
    example = torch.zeros((2, *stored.input_shape), dtype=stored.network.input_dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own inner workings
        dynamic = {"x": {0: torch.export.Dim("N", min=1)}}
        exported = torch.export.export(stored.network, (example,), dynamic_shapes=dynamic)
        torch.export.save(exported, path)


def open(path: Path) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return module


def about(path: Path) -> dict[str, Any]:
    return {"versions": {"torch": torch.__version__}}
