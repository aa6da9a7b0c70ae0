"""Batch normalisations folded into the layers before them: fewer passes over the values, the same answers within rounding.

In eval mode a normalisation is a scale s = γ / sqrt(σ² + ε) and a shift β - μ·s of each channel, and so is what a convolution or a
linear layer does to its rows: W ← s·W, b ← s·b + β - μ·s (Jacob et al., arXiv 1712.05877, section 3.2).
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from netpress.graph.network import GraphNetwork
from netpress.graph.shapes import infer_values
from netpress.program.folding import adjacent

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_norms(network: GraphNetwork, *, keep: Collection[int] = ()) -> GraphNetwork:
    """A copy in eval mode in which each batch normalisation that alone reads a convolution or linear layer is part of it.

    Nodes keep their numbers: where a normalisation was there is an ``nn.Identity``, which costs nothing. All
    values are the same within rounding, but those between a folded layer and its normalisation, which are now what comes behind it.
    The copy is for inference: training would see no statistics of batches.

    Args:
        network: Left as it is.
        keep: Numbers of nodes whose values somebody looks at; layers among them are not folded.
    """
    network = copy.deepcopy(network).eval()
    values: list[Any] = []
    for before, k in adjacent(network.nodes, keep):
        layer, node = network.nodes[before], network.nodes[k]
        norm: Any = network.get_submodule(node.name)
        matrix: Any = network.get_submodule(layer.name)
        if type(norm) not in NORMS or type(matrix) not in MATRICES or not norm.track_running_stats:
            continue
        if isinstance(matrix, nn.Linear):  # its rows are the last axis; a norm's channels are the second
            values = values or infer_values(network)
            if values[before + 1].dim() != 2:
                continue
        if norm.num_features == len(matrix.weight):
            network.set_submodule(layer.name, _folded(matrix, norm))
            network.set_submodule(node.name, nn.Identity())
    return network.eval()


def _folded(matrix: Any, norm: Any) -> nn.Module:
    """A new layer that does what both do; computed in float64."""
    scale = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    weight, bias = matrix.weight, matrix.bias
    # a shallow copy of the layer, and of the tables that hold its tensors: nothing that shares them changes
    both = copy.copy(matrix)
    both._parameters = dict(matrix._parameters)
    with torch.no_grad():
        rows = scale.reshape(-1, *[1] * (weight.dim() - 1))
        both.weight = nn.Parameter((weight.double() * rows).to(weight), requires_grad=weight.requires_grad)
        moved = shift if bias is None else shift + bias.double() * scale
        both.bias = nn.Parameter(moved.to(weight), requires_grad=weight.requires_grad)
    return both
