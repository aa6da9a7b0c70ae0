"""What the exported files come to on a compiler of this machine, where there is one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = ("netpress_model.c", "netpress_runtime.c")
FLAGS = ("-std=c99", "-O2")
MOST_SECONDS = 120


def object_bytes(folder: Path) -> int | None:
    """Code and constants of the exported model and runner, by ``size`` of their object files at -O2; None without a compiler.

    Unused functions of the runner count, the example program and the C library do not.
    """
    compiler, size = shutil.which("cc"), shutil.which("size")
    if compiler is None or size is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        objects = [str(Path(scratch) / f"{Path(source).stem}.o") for source in SOURCES]
        try:
            for source, made in zip(SOURCES, objects, strict=True):
                command = [compiler, *FLAGS, "-c", str(folder / source), "-o", made]
                subprocess.run(command, check=True, capture_output=True, timeout=MOST_SECONDS)
            listed = subprocess.run([size, *objects], check=True, capture_output=True, text=True, timeout=MOST_SECONDS)
        except (OSError, subprocess.SubprocessError):
            return None
    return _flash_of(listed.stdout)


def _flash_of(text: str) -> int | None:
    """text + data of every line of Berkeley ``size``."""
    rows = [line.split() for line in text.splitlines()[1:]]
    numbers = [int(row[0]) + int(row[1]) for row in rows if len(row) > 2 and row[0].isdigit() and row[1].isdigit()]
    return sum(numbers) if len(numbers) == len(SOURCES) else None
