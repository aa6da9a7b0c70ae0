"""What a measurement ran on: no names, no paths."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netpress._version import __version__


def environment(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Versions, processor and threads, as JSON knows them.

    Args:
        device: What the measurement ran on; an accelerator is named.

    ``source`` tells states of the code apart that have one version: two rows with one digest were made by the same code.
    """
    device = torch.device(device)
    return {
        "netpress": __version__,
        "source": source_digest(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }


@cache
def source_digest(package: Path = Path(__file__).parents[1]) -> str:
    """Eight hexadecimal digits of SHA-256 over all Python and C files of the package, in order of their names."""
    digest = hashlib.sha256()
    for file in sorted(path for path in package.rglob("*") if path.suffix in (".py", ".c", ".h")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model, from ``cpuinfo`` on Linux; elsewhere what Python knows, which may be its family only."""
    try:
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # no such file outside Linux
    return platform.processor() or platform.machine()
