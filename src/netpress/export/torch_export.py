"""A program of torch.export (.pt2), which PyTorch loads without netpress and other tools of PyTorch read.

Networks that `quantize` made hold their integers, in the words of PyTorch's quantizers (PT2E, torchao): torch.compile with
``torch._inductor.config.freezing`` has kernels for them. PyTorch knows these words once torchao, or the module of torch that `about`
names, is imported.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netpress.artifact import Artifact
from netpress.errors import NetpressError
from netpress.export._torch_integers import (
    OPERATORS_OF_INTEGERS,
    UINT8,
    Measured,
    exported,
    known_operators,
    rounded,
    with_integers,
)
from netpress.export._torch_programs import exporting, first_refused, with_substitutes
from netpress.graph import GraphNetwork, Node

SUFFIX = ".pt2"
FORM = "torch.export"


def write(stored: Artifact, path: Path) -> None:
    with exporting():
        try:
            program = _exported(stored.network)
        except (NetpressError, MemoryError):
            raise
        except Exception as error:  # torch.export raises what it likes
            raise first_refused(stored.network, error, _exported, FORM) from error
        torch.export.save(program, path)


def open(path: Path) -> Callable[[Tensor], Tensor]:
    known_operators()
    with exporting():
        module: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return module


def about(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as file:
        integers = any(b"quantized_decomposed" in file.read(n) for n in file.namelist() if n.endswith("model.json"))
    first = {"import_first": OPERATORS_OF_INTEGERS} if integers else {}
    return {**first, "versions": {"torch": torch.__version__}}


def _exported(network: GraphNetwork) -> torch.export.ExportedProgram:
    """The program, any batch."""
    example = torch.zeros((2, *network.input_shape), dtype=network.input_dtype)
    return exported(
        with_substitutes(network, _instead_of),
        example,
        torch.export.Dim("N", min=1),
        partial(with_integers, kind=UINT8, before_sums=_takes),
    )


def _instead_of(node: Node) -> nn.Module | None:
    if node.op == "fake_quantize":
        return rounded(node, UINT8, FORM)
    return Measured(UINT8) if node.op == "dynamic_quantize" else None


def _takes(graph: Any, layer: Any) -> bool:
    """Any layer may read integers and give float."""
    return True
