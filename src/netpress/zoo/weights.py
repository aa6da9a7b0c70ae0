"""Weights from safetensors files: found by name, checked as a whole, then loaded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from netpress.errors import ConfigError, UnknownNameError, WeightsError

ENVIRONMENT = "NETPRESS_WEIGHTS"
"""Names the folder of weights where the caller gives none."""

SUFFIX = ".safetensors"
_PICKLED = frozenset({".pt", ".pth", ".th", ".bin", ".ckpt", ".pkl", ".pickle", ".tar"})
_LISTED = 10


def load_weights(network: nn.Module, path: str | Path, *, strict: bool = True) -> None:
    """Loads a safetensors file into a network, in place; after an error the network is as it was.

    A batch norm's ``num_batches_tracked`` may be absent and keeps its value: it plays no part in inference.

    Args:
        network: Takes the weights, each cast to the dtype and device that the network has.
        path: A ``.safetensors`` file.
        strict: Whether file and network must have the same tensors. Otherwise those that both have are loaded, and a
            UserWarning lists the others.

    Raises:
        ConfigError: ``path`` is no file, or not of this format.
        WeightsError: the file cannot be read; tensors are missing, unexpected, or of another shape or kind of number;
            or a value is not finite.
    """
    path = Path(path)
    tensors = _read(path)
    own = network.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in own]
    differing = [
        f"{name} {_form(tensors[name])} where the network has {_form(own[name])}"
        for name in own
        if name in tensors and _form(tensors[name]) != _form(own[name])
    ]
    missing_text = _listed(missing, own)
    unexpected_text = _listed(unexpected, tensors)
    if differing or (strict and (missing or unexpected)):
        found = [f"{len(missing)} missing: {missing_text}"] if missing else []
        found += [f"{len(unexpected)} unexpected: {unexpected_text}"] if unexpected else []
        found += [f"{len(differing)} of another form: {_first(differing)}"] if differing else []
        raise WeightsError(
            f"the weights in {path.name} do not fit the network",
            got=". ".join(found),
            allowed=f"the network's {len(own)} tensors, by name and shape",
            remedy="build the network that the file was made from (architecture, number of classes)",
        )
    not_finite = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if not_finite:
        raise WeightsError(
            f"the weights in {path.name} are not all finite",
            got=f"NaN or infinity in {_first(not_finite)}",
            allowed="finite numbers",
            remedy="take the weights from before the training diverged",
        )
    if missing or unexpected:
        warnings.warn(
            f"{path.name} loaded in part: {len(missing)} of the network's tensors keep their values "
            f"({missing_text or 'none'}), {len(unexpected)} of the file's are left out ({unexpected_text or 'none'})",
            UserWarning,
            stacklevel=2,
        )
    network.load_state_dict({name: tensors.get(name, value) for name, value in own.items()})


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Writes a network's parameters and buffers as a safetensors file, completely or not at all.

    Raises:
        ConfigError: the folder does not exist, or the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    try:
        part.write_bytes(save(tensors))
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise ConfigError("the weights cannot be written", got=f"{path}: {error}", remedy="check the folder") from error
    finally:
        part.unlink(missing_ok=True)


def find_weights(name: str | Path, root: str | Path | None = None) -> Path:
    """The file that a name of weights stands for.

    Args:
        name: A path to a file, or the name of a ``.safetensors`` file in ``root``, without the suffix.
        root: The folder of weights; None takes the environment variable NETPRESS_WEIGHTS.

    Raises:
        ConfigError: a path to no file, or a name without a folder to look in.
        UnknownNameError: the folder has no such file; the text names the nearest.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix or len(path.parts) != 1:
        raise ConfigError("no such file of weights", got=repr(str(name)), allowed=f"a {SUFFIX} file")
    folder = root if root is not None else os.environ.get(ENVIRONMENT)
    if not folder:
        raise ConfigError(
            "weights are named, but no folder of weights is",
            got=repr(str(name)),
            remedy=f"give the path of the file, or set {ENVIRONMENT} to the folder that holds {name}{SUFFIX}",
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError("the folder of weights does not exist", got=repr(str(folder)), allowed="a folder")
    found = folder / f"{name}{SUFFIX}"
    if not found.is_file():
        raise UnknownNameError(f"weights in {folder}", str(name), (file.stem for file in folder.glob(f"*{SUFFIX}")))
    return found


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix != SUFFIX:
        pickled = path.suffix in _PICKLED
        raise ConfigError(
            "weights are read from safetensors files only" + (": a pickle can run code" if pickled else ""),
            got=repr(path.name),
            allowed=SUFFIX,
            remedy="convert with safetensors: "
            f"safetensors.torch.save_file(torch.load('{path.name}', weights_only=True), '{path.stem}{SUFFIX}')",
        )
    if not path.is_file():
        raise ConfigError("no such file of weights", got=repr(str(path)), allowed=f"a {SUFFIX} file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise WeightsError(
            f"{path.name} cannot be read as safetensors", got=str(error), remedy="fetch or write the file again"
        ) from error


def _form(tensor: Tensor) -> str:
    """Shape, and the kind of number where it is not real."""
    kind = "" if tensor.is_floating_point() else f" {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{kind}"


def _listed(names: list[str], tensors: Mapping[str, Tensor]) -> str:
    return _first([f"{name} {_form(tensors[name])}" for name in names])


def _first(texts: list[str]) -> str:
    """The first texts, and how many more there are."""
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")
