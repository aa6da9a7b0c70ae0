"""From a network to a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from netpress.artifact import container, disk, document, table
from netpress.artifact.document import DEFAULT_TASK
from netpress.codecs import AUTO
from netpress.dtypes import type_of
from netpress.errors import ConfigError, WeightsError
from netpress.graph import GraphNetwork, to_document, trace
from netpress.program import Program


def save(
    path: str | os.PathLike[str],
    network: nn.Module,
    *,
    input_shape: Sequence[int],
    preprocess: Mapping[str, Any] | None,
    task: str = DEFAULT_TASK,
    classes: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    codec: str = AUTO,
    allow_nonfinite: bool = False,
) -> int:
    """Writes a network and all that is needed to run it into one file.

    The same network with the same metadata gives the same bytes: the file holds no time and no path. The file appears
    complete or not at all; a file that was there stays until then.

    Args:
        path: Where to; an existing file is replaced.
        network: Any module that `netpress.graph.trace` can trace, or an already traced one, which it must
            be if its inputs are integers. Not changed.
        input_shape: The shape of one input, without the batch dimension, such as ``(3, 32, 32)``.
        preprocess: How raw inputs become the network's, as ``Preprocess.as_dict`` gives it; None: they are fed as is.
        task: What the outputs mean.
        classes: The classes' names, in the order of the outputs.
        metadata: Anything JSON can hold: accuracy, recipe, licence. Keys are stored sorted, tuples as lists.
        codec: How tensors are stored; ``"auto"`` takes for each tensor the codec with the fewest bytes, ``"fast"`` among
            those that multiply fast (`netpress.codecs`).
        allow_nonfinite: Whether NaN and infinite weights are stored (to the bit) instead of refused.

    Returns:
        The file's length in bytes.

    Raises:
        ConfigError: a field that JSON cannot hold, an input shape that is none or not the traced network's, an unknown
            codec.
        WeightsError: a parameter or buffer that is not finite, or of a type the format does not have.
        GraphError: the network cannot be traced.
        ArtifactError: the file cannot be written.
    """
    disk.check_destination(path)
    described = _description(preprocess, task, classes, {} if metadata is None else metadata)
    traced = _traced(network, _shape(input_shape))
    return disk.write_file(path, _sealed(traced, described, codec, allow_nonfinite))


def size(network: GraphNetwork) -> int:
    """Bytes that the file of a traced network would have, without preprocessing, classes and metadata.

    Raises:
        WeightsError: as for `save`.
    """
    return sum(len(piece) for piece in _sealed(network, _description(None, DEFAULT_TASK, (), {}), AUTO, False))


def _sealed(network: GraphNetwork, described: Mapping[str, Any], codec: str, allow_nonfinite: bool) -> Iterator[bytes]:
    graph, tensors = to_document(network)
    _check_tensors(tensors, allow_nonfinite)
    rows, payloads = table.pack(tensors, Program(graph).expected, codec, torch.get_num_threads())
    document.check_json(graph, "graph")
    return container.seal(document.pack({"graph": graph, **described}, rows), payloads)


def _description(
    preprocess: Mapping[str, Any] | None, task: str, classes: Sequence[str], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    for name, value in (("preprocess", preprocess), ("metadata", metadata)):
        if value is not None and not isinstance(value, dict):
            raise ConfigError(f"{name} is not a dict", got=type(value).__name__)
    if not isinstance(task, str) or not task:
        raise ConfigError("task is not a name", got=repr(task), allowed="text such as 'classification'")
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise ConfigError("classes are not names", got=f"{classes!r:.80}", allowed="a list of texts")
    described: dict[str, Any] = {}
    # In the order of the dictionary's text; what is left out has the value that a reader takes for it.
    if preprocess is not None:
        described["preprocess"] = document.check_json(preprocess, "preprocess")
    if task != DEFAULT_TASK:
        described["task"] = str(task)
    if classes:
        described["classes"] = [str(name) for name in classes]
    if metadata:
        described["metadata"] = document.check_json(metadata, "metadata")
    return described


def _shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(input_shape)
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ConfigError(
            "input_shape is not the shape of one input",
            got=shape,
            allowed="positive sizes without the batch, such as (3, 32, 32)",
        )
    return shape


def _traced(network: nn.Module, input_shape: tuple[int, ...]) -> GraphNetwork:
    if isinstance(network, GraphNetwork):
        if tuple(network.input_shape) != input_shape:
            raise ConfigError(
                "input_shape is not that of the network", got=input_shape, allowed=tuple(network.input_shape)
            )
        return network
    # Random, not zeros: zeros go through many wrong graphs unnoticed. A generator of its own leaves the global seed.
    example = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))  # [2, *input_shape]
    first = next(network.parameters(), example)
    return trace(network, example.to(first.device, first.dtype if first.is_floating_point() else example.dtype))


def _check_tensors(tensors: Mapping[str, Tensor], allow_nonfinite: bool) -> None:
    unknown = [name for name, tensor in tensors.items() if type_of(tensor.dtype) is None]
    if unknown:
        raise WeightsError(
            f"the format has no such type: {', '.join(unknown)}",
            got=sorted({str(tensors[name].dtype) for name in unknown}),
            allowed=", ".join(table.DTYPES),
        )
    if allow_nonfinite:
        return
    broken = [
        f"{name} ({count} of {tensor.numel()})"
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and (count := tensor.numel() - int(torch.isfinite(tensor).sum()))
    ]
    if broken:
        raise WeightsError(
            f"weights are not finite: {', '.join(broken)}",
            got="NaN or infinity",
            allowed="finite numbers",
            remedy="train again with a lower learning rate; or store them as they are with allow_nonfinite=True",
        )
