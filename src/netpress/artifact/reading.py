"""From a file to a network. Nothing in the file is trusted; nothing of it is executed or imported."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from netpress.artifact import container, disk, document, table
from netpress.artifact.coded_layers import coded_layer, takes_coded_weight
from netpress.codecs import Coded
from netpress.errors import ConfigError, FormatError, NetpressError, UnknownNameError
from netpress.graph import GraphNetwork
from netpress.graph.document import Blueprint

Execution = Literal["dense", "coded"]
"""How a network that is read holds its weights: decoded, or as they are stored wherever a layer can multiply so."""

EXECUTIONS: tuple[Execution, ...] = ("dense", "coded")

_FIELDS = {"graph": dict, "preprocess": dict, "task": str, "classes": list, "metadata": dict}


@contextmanager
def _faults_of_the_file() -> Iterator[None]:
    """Whatever is wrong with a graph that comes from a file is wrong with the file."""
    try:
        yield
    except FormatError:
        raise
    except NetpressError as error:
        raise FormatError(error.what, got=error.got, allowed=error.allowed, remedy=error.remedy) from error


@dataclass(frozen=True)
class Contents:
    """A file whose form was checked and whose tensors were not yet decoded.

    Attributes:
        blueprint: The network without its tensors.
        tensors: How each tensor is stored.
        sizes: Bytes by part: ``structure`` (the graph, the tensor table, payloads of up to 16 bytes, and the fields below, all
            under one compression), ``tensors`` (all other payloads), ``checksum``, ``overhead`` (the header), and ``total``,
            their sum and the length of the file.
        sha256: Of the whole file, as ``sha256sum`` prints it.
    """

    blueprint: Blueprint
    tensors: list[table.StoredTensor]
    preprocess: dict[str, Any] | None
    task: str
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    sizes: dict[str, int]
    sha256: str

    def network(self, execution: Execution = "dense") -> GraphNetwork:
        """Builds the network, in eval mode, on the CPU; to be called once.

        Raises:
            FormatError: a payload or the graph is not one of this format, or they do not fit each other.
        """
        opened = self._opened() if execution == "coded" else {}
        tensors: dict[str, Tensor] = {}
        for stored in self.tensors:
            # no memory for a weight that stays coded: its shape is enough to build by
            tensors[stored.name] = stored.meta() if stored.name in opened else stored.decode()
        with _faults_of_the_file():
            network = self.blueprint.build(tensors)
            for name, coded in opened.items():
                path = name.rpartition(".")[0]
                network.set_submodule(path, coded_layer(network.get_submodule(path), coded))
        return network

    def shapes(self) -> GraphNetwork:
        """The network with all tensors on the meta device: no payload is decoded; instead of `network`, and once.

        Raises:
            FormatError: the graph is not one of this format, or the tensors do not fit it.
        """
        with _faults_of_the_file():
            return self.blueprint.build({stored.name: stored.meta() for stored in self.tensors})

    def _opened(self) -> dict[str, Coded]:
        """Weights that stay coded, by name: their codec can multiply, and one layer that can take them is all that uses them."""
        opened = {}
        for stored in self.tensors:
            module = self.blueprint.sole_owner(stored.name)
            fits = stored.name.endswith(".weight") and module is not None and takes_coded_weight(module)
            if fits and stored.elements and stored.dtype == torch.float32 and (coded := stored.open()) is not None:
                opened[stored.name] = coded
        return opened


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
    """Reads and checks a file up to, not including, its tensors' values.

    Raises:
        ArtifactError: a subclass that says what is wrong with the file.
    """
    data = disk.read_file(path)
    structure, payloads = container.unseal(data)
    found, rows = document.unpack(structure)
    if "graph" not in found or not found.keys() <= _FIELDS.keys():
        raise FormatError("the structure has other fields", got=f"{sorted(found)!r:.200}", allowed=sorted(_FIELDS))
    for name, value in found.items():
        if not isinstance(value, _FIELDS[name]):
            raise FormatError(
                f"field {name!r} has the wrong type", got=type(value).__name__, allowed=_FIELDS[name].__name__
            )
    classes = found.get("classes", [])
    if not all(isinstance(name, str) for name in classes):
        raise FormatError("field 'classes' holds more than names", got=f"{classes!r:.80}")
    with _faults_of_the_file():
        blueprint = Blueprint(found["graph"])
    sizes = {"structure": len(structure), "tensors": len(payloads), "checksum": container.CHECKSUM_BYTES}
    sizes["overhead"] = len(data) - sum(sizes.values())
    return Contents(
        blueprint=blueprint,
        tensors=table.unpack(rows, blueprint.expected, payloads, len(data)),
        preprocess=found.get("preprocess"),
        task=found.get("task", document.DEFAULT_TASK),
        classes=tuple(classes),
        metadata=found.get("metadata", {}),
        sizes={**sizes, "total": len(data)},
        sha256=hashlib.sha256(data).hexdigest(),
    )


def read(path: str | os.PathLike[str], execution: Execution = "dense") -> Artifact:
    """Reads a file that `save` wrote; the code that made the network is not needed.

    Memory: about the file's length plus that of the tensors; what stays coded counts as it is stored.

    Args:
        path: The file.
        execution: ``"dense"`` decodes every tensor. ``"coded"`` leaves float32 weights of linear layers and convolutions as
            they are stored, wherever their codec can multiply and no other layer uses them: such a network takes little more
            memory than its file, answers the same within rounding, runs on the CPU only and cannot be trained or saved.

    Raises:
        UnknownNameError: another execution.
        NotAnArtifactError: it does not begin as a .netpress file.
        VersionError: a later netpress made it.
        TruncatedError: it ends too early.
        ChecksumError: it was altered after it was written.
        FormatError: its content breaks the format's rules.
        ArtifactError: it cannot be read at all.
    """
    if execution not in EXECUTIONS:
        raise UnknownNameError("execution", str(execution), EXECUTIONS)
    contents = open_contents(path)
    network = contents.network(execution)
    return Artifact(
        network=network,
        input_shape=tuple(network.input_shape),
        preprocess=contents.preprocess,
        task=contents.task,
        classes=contents.classes,
        metadata=contents.metadata,
        sizes=contents.sizes,
    )


def load(
    path: str | os.PathLike[str], device: str | torch.device = "cpu", *, execution: Execution = "dense"
) -> GraphNetwork:
    """The network of a file, in eval mode, on ``device``.

    Args:
        path: The file.
        device: ``"cpu"`` where ``execution`` is ``"coded"``.
        execution: As for `read`.

    Raises:
        ConfigError: no such device here, or one that coded layers do not run on.
        ArtifactError: as for `read`.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch's word for "built without CUDA"
        raise ConfigError(
            "the device cannot be used", got=repr(str(device)), allowed="cpu, or one that this torch has"
        ) from error
    if execution == "coded" and torch.device(device).type != "cpu":
        raise ConfigError(
            "a network in coded form runs on the CPU", got=repr(str(device)), allowed="cpu", remedy="execution='dense'"
        )
    return read(path, execution).network.to(device)
