"""Peak memory, of a process of its own: within a process, memory that was freed and kept would count for nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from netpress.errors import ConfigError, NetpressError

#: What the child says last on stderr, when it measures its accelerator itself (``network_peak_memory``).
_MEASURE_NETWORK = """
import resource, sys, torch
from netpress import artifact
path, batch, device = sys.argv[1], int(sys.argv[2]), torch.device(sys.argv[3])
stored = artifact.read(path)
network = stored.network.eval().to(device)
with torch.inference_mode():
    network(torch.zeros((batch, *network.input_shape), device=device))
if device.type == "cuda":
    torch.cuda.synchronize()
    print(torch.cuda.max_memory_allocated(device))
"""


def peak_memory(argv: Sequence[str], *, timeout_s: float | None = None) -> int:
    """Runs a command in a fresh process and gives its largest resident set, in bytes, as the system counted it.

    Everything counts: the interpreter and torch take some 250 MB before any work is done. Children of the command do not
    count. On Linux and macOS only.

    Args:
        argv: The program and its arguments, such as ``[sys.executable, "work.py"]``.
        timeout_s: After this many seconds the process is ended.

    Raises:
        ConfigError: An empty command, or one that cannot be started.
        NetpressError: The command failed or took too long; the text has the end of its stderr.
    """
    if not argv:
        raise ConfigError("there is no command to measure", got="an empty list")
    with TemporaryFile() as errors:
        try:
            process = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        except OSError as error:
            raise ConfigError("the command to measure cannot be started", got=f"{argv[0]!r}: {error}") from error
        timer = threading.Timer(timeout_s or 0, process.kill)
        if timeout_s is not None:
            timer.start()
        # wait4 gives the usage of this one child; getrusage(RUSAGE_CHILDREN) would give the largest child there ever was.
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise NetpressError(
                "the process to measure failed",
                got=f"exit status {process.returncode}; {errors.read()[-500:].decode(errors='replace').strip()}",
                remedy="run the command by itself to see more",
            )
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def network_peak_memory(path: Path, *, batch: int = 1, device: str = "cpu") -> int:
    """Peak memory, in bytes, of a fresh process that loads a ``.netpress`` file and runs one batch.

    On the CPU the whole process (interpreter and torch too); on CUDA what torch allocated on the device.

    Raises:
        NetpressError: The process failed; the text has the end of its stderr.
    """
    command = [sys.executable, "-c", _MEASURE_NETWORK, str(path), str(batch), device]
    if not device.startswith("cuda"):
        return peak_memory(command)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetpressError(
            "the process to measure failed", got=f"exit status {done.returncode}; {done.stderr[-500:].strip()}"
        )
    return int(done.stdout)
