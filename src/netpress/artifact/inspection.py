"""What is in a file and what each part of it costs."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from netpress.artifact import container
from netpress.artifact.contents import open_contents
from netpress.artifact.reading import build_shapes
from netpress.artifact.table import StoredTensor

_PATTERNS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bit_patterns(tensor: Tensor) -> Tensor:
    """How often each bit pattern occurs.

    Patterns, not values: that is what a lossless codec has to tell apart (0.0 from -0.0, one NaN from another).

    Args:
        tensor: Any shape and type.

    Returns:
        Counts, ``[distinct patterns]``, in no useful order.
    """
    patterns = tensor.detach().contiguous().reshape(-1).view(_PATTERNS[tensor.dtype.itemsize])  # [...] -> [numel]
    return torch.unique(patterns, return_counts=True)[1]  # [distinct]


def entropy_bits(counts: Tensor) -> float:
    """Shannon's zero-order entropy, bits a symbol: the least an entropy coder of single values can reach.

    Args:
        counts: How often each symbol occurs, ``[symbols]``, all positive. None: 0 bits.
    """
    if counts.numel() == 0:
        return 0.0
    shares = counts.double() / counts.sum()
    return max(0.0, float(-(shares * shares.log2()).sum()))


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Everything a file says, JSON-able.

    Returns:
        - ``format_version``, ``size_bytes``, ``sha256`` (of the whole file);
        - ``section_bytes``: ``structure``, ``tensors``, ``checksum``, ``overhead``, which add up to ``size_bytes``;
        - ``input_shape``, ``output_shape`` (without the batch dimension), ``preprocess``, ``task``, ``classes``,
          ``metadata``;
        - ``tensors``: a row each with ``name``, ``dtype``, ``shape``, ``codec``, ``size_bytes`` (its payload),
          ``bits_per_weight``, ``entropy_bits`` (zero-order, bits a weight), ``density`` (share of values that are not
          zero), ``distinct_values`` (by bit pattern). Of a tensor without values the shares are 0;
        - ``totals``: of all rows, ``values``, ``size_bytes`` (payloads; those of up to 16 bytes lie compressed inside the
          structure), ``bits_per_weight``, ``entropy_bits`` (the mean), ``density``; then ``float32_bytes``, what the values
          of floating point take as float32, and ``ratio``, how often the whole file goes into that.

    Raises:
        ArtifactError: as for `read`.
    """
    contents = open_contents(path)
    network = build_shapes(contents)
    rows = [_row(stored) for stored in contents.tensors]
    return {
        "format_version": container.VERSION,
        "size_bytes": contents.sizes["total"],
        "sha256": contents.sha256,
        "section_bytes": {name: size for name, size in contents.sizes.items() if name != "total"},
        "input_shape": list(network.input_shape),
        "output_shape": list(network.output_shape),
        "preprocess": contents.preprocess,
        "task": contents.task,
        "classes": list(contents.classes),
        "metadata": contents.metadata,
        "tensors": rows,
        "totals": _totals(contents.tensors, rows, contents.sizes["total"]),
    }


def _totals(tensors: list[StoredTensor], rows: list[dict[str, Any]], file_bytes: int) -> dict[str, Any]:
    values = sum(stored.elements for stored in tensors)
    payload_bytes = sum(row["size_bytes"] for row in rows)
    float32_bytes = sum(4 * stored.elements for stored in tensors if stored.dtype.is_floating_point)
    sums = {
        key: sum(stored.elements * row[key] for stored, row in zip(tensors, rows, strict=True))
        for key in ("entropy_bits", "density")
    }
    return {
        "values": values,
        "size_bytes": payload_bytes,
        "bits_per_weight": 8 * payload_bytes / max(1, values),
        **{key: total / max(1, values) for key, total in sums.items()},
        "float32_bytes": float32_bytes,
        "ratio": float32_bytes / file_bytes,
    }


def _row(stored: StoredTensor) -> dict[str, Any]:
    tensor = stored.decode()
    counts = bit_patterns(tensor)
    elements = max(1, stored.elements)
    return {
        "name": stored.name,
        "dtype": stored.dtype.name,
        "shape": list(stored.shape),
        "codec": stored.codec.name,
        "size_bytes": len(stored.payload),
        "bits_per_weight": 8 * len(stored.payload) / elements,
        "entropy_bits": entropy_bits(counts),
        "density": int(torch.count_nonzero(tensor)) / elements,
        "distinct_values": counts.numel(),
    }
