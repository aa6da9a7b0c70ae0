"""From what a file says (`netpress.artifact.contents`) to a network of torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from netpress.artifact.coded_layers import coded_layer, takes_coded_weight
from netpress.artifact.contents import Contents, open_contents
from netpress.codecs import Coded
from netpress.dtypes import FLOAT32
from netpress.errors import ConfigError, FormatError, NetpressError, UnknownNameError
from netpress.graph import GraphNetwork
from netpress.graph.document import Blueprint
from netpress.kernels.threads import run_all

Execution = Literal["dense", "coded"]
"""How a network that is read holds its weights: decoded, or as they are stored wherever a layer can multiply so."""

EXECUTIONS: tuple[Execution, ...] = ("dense", "coded")


@contextmanager
def _faults_of_the_file() -> Iterator[None]:
    """Whatever is wrong with a graph that comes from a file is wrong with the file."""
    try:
        yield
    except FormatError:
        raise
    except NetpressError as error:
        raise FormatError(error.what, got=error.got, allowed=error.allowed, remedy=error.remedy) from error


def build_network(contents: Contents, execution: Execution = "dense") -> GraphNetwork:
    """The network of a file, in eval mode, on the CPU.

    Raises:
        FormatError: a payload or the graph is not one of this format, or they do not fit each other.
    """
    with _faults_of_the_file():
        blueprint = Blueprint(contents.program)
    opened = _opened(contents, blueprint) if execution == "coded" else {}
    # no memory for a weight that stays coded: its shape is enough to build by
    tasks = [stored.meta if stored.name in opened else stored.decode for stored in contents.tensors]
    decoded = run_all(tasks, torch.get_num_threads(), [len(stored.payload) for stored in contents.tensors])
    tensors = {stored.name: tensor for stored, tensor in zip(contents.tensors, decoded, strict=True)}
    with _faults_of_the_file():
        network = blueprint.build(tensors)
        for name, coded in opened.items():
            path = name.rpartition(".")[0]
            network.set_submodule(path, coded_layer(network.get_submodule(path), coded))
    return network


def build_shapes(contents: Contents) -> GraphNetwork:
    """The network of a file with all tensors on the meta device: no payload is decoded.

    Raises:
        FormatError: the graph is not one of this format, or the tensors do not fit it.
    """
    with _faults_of_the_file():
        return Blueprint(contents.program).build({stored.name: stored.meta() for stored in contents.tensors})


def _opened(contents: Contents, blueprint: Blueprint) -> dict[str, Coded]:
    """Weights that stay coded, by name: their codec can multiply, and one layer that can take them is all that uses them."""
    opened = {}
    for stored in contents.tensors:
        module = blueprint.sole_owner(stored.name)
        fits = stored.name.endswith(".weight") and module is not None and takes_coded_weight(module)
        if fits and stored.elements and stored.dtype == FLOAT32 and (coded := stored.open()) is not None:
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
    network = build_network(contents, execution)
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
