"""What the exported files come to on a compiler of this machine, where there is one, and what they answer."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from netpress.errors import ArtifactError, ConfigError

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


def compiled(folder: Path) -> Callable[[Tensor], Tensor]:
    """The written network, compiled and run as a program of its own: (N, *input_shape) float32 to (N, outputs).

    Raises:
        ConfigError: There is no compiler.
        ArtifactError: What was written does not compile, or fails.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise ConfigError(
            "an export to C is compiled and compared before it is kept, and there is no compiler",
            got="no cc on the PATH",
            remedy="install one (gcc or clang); netpress.export.c.export writes without comparing",
        )
    scratch = tempfile.mkdtemp(prefix="netpress-")
    program = Path(scratch) / "demo"
    _done(
        [compiler, *FLAGS, *(str(folder / source) for source in ("main.c", *SOURCES)), "-lm", "-o", str(program)], b""
    )

    def run(x: Tensor) -> Tensor:
        lines = _done([str(program)], x.contiguous().numpy().tobytes()).decode("ascii").split("\n")[:-1]
        return torch.tensor([[float(number) for number in line.split()] for line in lines], dtype=torch.float32)

    weakref.finalize(run, shutil.rmtree, scratch, ignore_errors=True)  # the program lives as long as the function
    return run


def compiler_version() -> str:
    """The first line that the compiler says of itself; empty without one."""
    compiler = shutil.which("cc")
    return "" if compiler is None else _done([compiler, "--version"], b"").decode("utf-8", "replace").partition("\n")[0]


def _done(command: list[str], given: bytes) -> bytes:
    try:
        return subprocess.run(command, input=given, check=True, capture_output=True, timeout=MOST_SECONDS).stdout
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace")[:400]
        raise ArtifactError(
            "the exported C does not build or run", got=said or f"exit status {error.returncode}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArtifactError("the exported C does not build or run", got=str(error)[:400]) from error


def _flash_of(text: str) -> int | None:
    """text + data of every line of Berkeley ``size``."""
    rows = [line.split() for line in text.splitlines()[1:]]
    numbers = [int(row[0]) + int(row[1]) for row in rows if len(row) > 2 and row[0].isdigit() and row[1].isdigit()]
    return sum(numbers) if len(numbers) == len(SOURCES) else None
