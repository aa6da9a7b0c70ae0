"""What the runtimes compute with integers, so that a network is rounded where its runtime gains by it and nowhere else."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import nn

from netpress.graph import GraphNetwork
from netpress.graph.shapes import infer_values


@dataclass(frozen=True)
class Backend:
    """A runtime on a CPU.

    Attributes:
        saturates: Whether its kernels for x86 without VNNI add two products of 8 bits in 16, which is one bit too few.
        conv_outputs: Whether a convolution is one of integers only where what it gives is rounded as well.
        dynamic: Whether it has kernels for linear layers whose input's range is measured at each run.
        wide_linear: Whether linear layers over several axes, (N, ..., features), are computed with integers.
    """

    saturates: bool = False
    conv_outputs: bool = False
    dynamic: bool = True
    wide_linear: bool = True


BACKENDS: dict[str, Backend] = {
    "any": Backend(saturates=True),
    "onnxruntime": Backend(saturates=True, conv_outputs=True),
    "openvino": Backend(saturates=True, dynamic=False),
    "torch-compile": Backend(saturates=True),
    "executorch": Backend(wide_linear=False),
}
"""By the names that `bench latency` has for them; ``any`` is what all of them take.

What each flag is worth was measured, see docs/quantize.md; that sums saturate is said by ONNX Runtime ("Quantize ONNX models"), NNCF
(overflow_fix) and PyTorch (reduce_range) of their kernels. XNNPACK's widen products to 32 bits.
"""


def lacks_vnni() -> bool:
    """Whether this machine's processor is an x86 without instructions that add four products of 8 bits in 32."""
    found = torch.cpu.get_capabilities()
    x86 = str(found.get("architecture", "")).lower() in ("x86_64", "amd64", "x86", "i386", "i686")
    return x86 and not any(found.get(name, False) for name in ("avx512_vnni", "avx_vnni"))


def wide_linear_layers(network: GraphNetwork, layers: Collection[str]) -> set[str]:
    """Those of the layers that are linear and read (N, ..., features)."""
    values = infer_values(network)
    linear = {name for name in layers if isinstance(network.get_submodule(name), nn.Linear)}
    return {n.name for n in network.nodes if n.is_module and n.name in linear and values[n.inputs[0]].dim() > 2}
