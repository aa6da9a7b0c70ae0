"""Training checkpoints: one file, no pickle, replaced in one step, so that a kill at any moment leaves a whole one.

The file is a safetensors file. Its tensors are ``model/NAME``, ``optimizer/PARAMETER/KEY`` and, when the best epoch is
kept, ``best/NAME``; its metadata carries the run's key and the loop's counters as JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from netpress.errors import TrainingError
from netpress.training.plan import TrainingPlan

FORMAT = "netpress training checkpoint 1"


def run_key(network: nn.Module, plan: TrainingPlan, objective: object, seed: int, batches: int, first: Any) -> str:
    """What makes a run the same run: plan, seed, objective, the stream's length and first batch, the first weights.

    The teacher's weights and what hooks do are not looked at. Runs on other hardware, or with another number of
    threads, may start from weights that differ in their last bits: they count as other runs, and would not end in the
    same bytes either.
    """
    digest = hashlib.blake2b(digest_size=16)
    # An address in a repr would make every process another run.
    settings = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(objective))
    digest.update(json.dumps([plan.as_dict(), settings, seed, batches], sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        _update(digest, tensor)
    for item in first:
        for tensor in item if isinstance(item, tuple) else (item,):
            if tensor is not None:
                _update(digest, tensor)
    return digest.hexdigest()


def write_checkpoint(
    path: Path,
    key: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    counters: Mapping[str, Any],
    best: Mapping[str, Tensor] | None,
) -> None:
    """Writes the whole state of a run beside ``path`` and then puts it in its place.

    Raises:
        TrainingError: The file cannot be written.
    """
    tensors = {f"model/{name}": t for name, t in network.state_dict().items()}
    tensors |= {f"best/{name}": t for name, t in (best or {}).items()}
    for name, parameter in network.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"optimizer/{name}/{slot}"] = value
    part = path.with_name(path.name + ".part")
    # The clone parts tied parameters, which safetensors refuses to store twice.
    flat = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    metadata = {"format": FORMAT, "key": key, "counters": json.dumps(dict(counters))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(flat, part, metadata=metadata)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except (OSError, safetensors.SafetensorError) as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise TrainingError(
            "the training checkpoint cannot be written",
            got=f"{path}: {error}",
            remedy="make room or give another place; the training can go on from the checkpoint before",
        ) from error


def read_checkpoint(
    path: Path, key: str, network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Puts a stored state into network and optimizer; gives the counters and the best weights.

    Raises:
        TrainingError: The file is damaged, or belongs to another run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise TrainingError(
                    "the file is no training checkpoint of this version",
                    got=f"{path}: {metadata.get('format')}",
                    allowed=FORMAT,
                    remedy="delete it, or give another place for the checkpoint",
                )
            if metadata.get("key") != key:
                raise TrainingError(
                    "the training checkpoint belongs to another run",
                    got=str(path),
                    allowed="the same network, plan, objective, seed, data and number of threads",
                    remedy="delete it to start anew, or give another place for the checkpoint",
                )
            counters = json.loads(metadata["counters"])
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise TrainingError(
            "the training checkpoint cannot be read", got=f"{path}: {error}", remedy="delete it to start anew"
        ) from error
    load_state(network, {n.removeprefix("model/"): t for n, t in stored.items() if n.startswith("model/")})
    parameters = dict(network.named_parameters())
    for name, value in stored.items():
        if name.startswith("optimizer/"):
            owner, _, slot = name.removeprefix("optimizer/").rpartition("/")
            parameter = parameters[owner]
            if value.shape == parameter.shape and value.dim() > 0:
                # Fused optimizers walk state and parameter side by side in memory: both need one layout.
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            optimizer.state[parameter][slot] = value.to(parameter.device)
    best = {n.removeprefix("best/"): t for n, t in stored.items() if n.startswith("best/")}
    return counters, best or None


def load_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies values into a network's parameters and buffers, in place and without changing device or layout."""
    with torch.no_grad():
        for name, tensor in network.state_dict(keep_vars=True).items():
            tensor.copy_(state[name])


def _update(digest: Any, tensor: Tensor) -> None:
    digest.update(repr((str(tensor.dtype), tuple(tensor.shape))).encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
