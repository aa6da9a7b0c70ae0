"""From a file to a network. Nothing in the file is trusted; nothing of it is executed or imported."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

import torch

from netpress.artifact import container, disk, document, table
from netpress.errors import ConfigError, FormatError, NetpressError
from netpress.graph import GraphNetwork, from_document

_FIELDS = {"graph": dict, "tensors": list, "task": str, "classes": list, "metadata": dict}


@dataclass(frozen=True)
class Contents:
    """A file whose form was checked and whose tensors were not yet decoded.

    Attributes:
        graph: The network's document.
        tensors: Where each tensor lies.
        sizes: Bytes by part: ``structure``, ``tensors`` (payloads), ``checksum``, ``overhead`` (header, section table
            and padding), and ``total``, their sum and the length of the file.
        sha256: Of the whole file, as ``sha256sum`` prints it.
    """

    graph: dict[str, Any]
    tensors: list[table.StoredTensor]
    preprocess: dict[str, Any] | None
    task: str
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    sizes: dict[str, int]
    sha256: str

    def network(self) -> GraphNetwork:
        """Builds the network, in eval mode, on the CPU.

        Raises:
            FormatError: a payload or the graph is not one of this format, or they do not fit each other.
        """
        tensors = {stored.name: stored.decode() for stored in self.tensors}
        try:
            network = from_document(self.graph, tensors)
        except FormatError:
            raise
        except NetpressError as error:
            raise FormatError(error.what, got=error.got, allowed=error.allowed, remedy=error.remedy) from error
        network.eval()
        return network


@dataclass(frozen=True)
class Artifact:
    """What a file holds.

    Attributes:
        network: The network, in eval mode, on the CPU.
        input_shape: The shape of one input, without the batch dimension.
        preprocess: How raw inputs become the network's (``Preprocess.from_dict`` reads it); None: they are fed as is.
        task: What the outputs mean.
        classes: The classes' names, in the order of the outputs.
        metadata: What `save` was given.
        sizes: As in `Contents`.
    """

    network: GraphNetwork = field(repr=False)
    input_shape: tuple[int, ...]
    preprocess: dict[str, Any] | None
    task: str
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    sizes: dict[str, int]


def open_contents(path: str | os.PathLike[str]) -> Contents:
    """Reads and checks a file up to, not including, its tensors' values and the graph.

    Raises:
        ArtifactError: a subclass that says what is wrong with the file.
    """
    data = disk.read_file(path)
    structure, payloads = container.unseal(data)
    found = document.unpack(structure)
    if found.keys() != {*_FIELDS, "preprocess"}:
        raise FormatError(
            "the structure has other fields", got=f"{sorted(found)!r:.200}", allowed=sorted({*_FIELDS, "preprocess"})
        )
    for name, kind in _FIELDS.items():
        if not isinstance(found[name], kind):
            raise FormatError(
                f"field {name!r} has the wrong type", got=type(found[name]).__name__, allowed=kind.__name__
            )
    preprocess, classes = found["preprocess"], found["classes"]
    if preprocess is not None and not isinstance(preprocess, dict):
        raise FormatError(
            "field 'preprocess' has the wrong type", got=type(preprocess).__name__, allowed="dict or null"
        )
    if not all(isinstance(name, str) for name in classes):
        raise FormatError("field 'classes' holds more than names", got=f"{classes!r:.80}")
    tensors = table.unpack(found["tensors"], payloads, len(data))
    tensor_bytes = sum(len(stored.payload) for stored in tensors if stored.shape)
    sizes = {"structure": len(structure), "tensors": tensor_bytes, "checksum": container.CHECKSUM_BYTES}
    sizes["overhead"] = len(data) - sum(sizes.values())
    return Contents(
        graph=found["graph"],
        tensors=tensors,
        preprocess=preprocess,
        task=found["task"],
        classes=tuple(classes),
        metadata=found["metadata"],
        sizes={**sizes, "total": len(data)},
        sha256=hashlib.sha256(data).hexdigest(),
    )


def read(path: str | os.PathLike[str]) -> Artifact:
    """Reads a file that `save` wrote; the code that made the network is not needed.

    Memory: about the file's length plus that of the tensors.

    Raises:
        NotAnArtifactError: it does not begin as a .netpress file.
        VersionError: a later netpress made it.
        TruncatedError: it ends too early.
        ChecksumError: it was altered after it was written.
        FormatError: its content breaks the format's rules.
        ArtifactError: it cannot be read at all.
    """
    contents = open_contents(path)
    network = contents.network()
    return Artifact(
        network=network,
        input_shape=tuple(network.input_shape),
        preprocess=contents.preprocess,
        task=contents.task,
        classes=contents.classes,
        metadata=contents.metadata,
        sizes=contents.sizes,
    )


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> GraphNetwork:
    """The network of a file, in eval mode, on ``device``.

    Raises:
        ConfigError: no such device here.
        ArtifactError: as for `read`.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch's word for "built without CUDA"
        raise ConfigError(
            "the device cannot be used", got=repr(str(device)), allowed="cpu, or one that this torch has"
        ) from error
    return read(path).network.to(device)
