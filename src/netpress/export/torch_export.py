"""A program of torch.export (.pt2), which PyTorch loads without netpress and other tools of PyTorch read.

Rounding to integers is said in sums, products and bounds, which PyTorch has whatever is imported beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netpress.artifact import Artifact
from netpress.export._torch_programs import first_refused, with_substitutes
from netpress.graph import GraphNetwork

SUFFIX = ".pt2"
FORM = "torch.export"


def write(stored: Artifact, path: Path) -> None:
    with _quietly():
        try:
            exported = _exported(stored.network)
        except MemoryError:
            raise
        except Exception as error:  # torch.export raises what it likes
            raise first_refused(stored.network, error, _exported, FORM) from error
        torch.export.save(exported, path)


def open(path: Path) -> Callable[[Tensor], Tensor]:
    with _quietly():
        module: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return module


def about(path: Path) -> dict[str, Any]:
    return {"versions": {"torch": torch.__version__}}


class _Rounded(nn.Module):
    """``fake_quantize``, which torch.export has no rule for."""

    def __init__(self, step: float, zero: int = 0, low: int = 0, high: int = 255) -> None:
        super().__init__()
        self.inverse, self.step = float(1 / torch.tensor(step)), float(torch.tensor(step))  # float32, as torch has them
        self.zero, self.low, self.high = zero, low, high

    def forward(self, x: Tensor) -> Tensor:
        levels = ((x * self.inverse).round() + self.zero).clamp(self.low, self.high)
        return (levels - self.zero) * self.step


def _exported(network: GraphNetwork) -> torch.export.ExportedProgram:
    """The program, any batch."""
    example = torch.zeros((2, *network.input_shape), dtype=network.input_dtype)
    sayable = with_substitutes(network, lambda node: _Rounded(*node.args[1:]) if node.op == "fake_quantize" else None)
    return torch.export.export(sayable, (example,), dynamic_shapes={"x": {0: torch.export.Dim("N", min=1)}})


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch says of its own inner workings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
