"""Peak memory, of a process of its own: within a process, memory that was freed and kept would count for nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from netpress.errors import ConfigError, NetpressError

# A small process between us and the measured one. Linux starts the high-water mark of a new program at the size of the
# process that spawned it: spawned from here, nothing could measure less than we hold ourselves.
_LAUNCHER = """
import os, sys
try:
    pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ,
                          file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
except OSError as error:
    print("unstartable", error.strerror)
else:
    _, status, usage = os.wait4(pid, 0)
    print("ended", os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""

_MEASURE_NETWORK = """
import resource, sys, torch
from netpress import artifact
path, batch, device = sys.argv[1], int(sys.argv[2]), torch.device(sys.argv[3])
stored = artifact.read(path)
network = stored.network.eval().to(device)
with torch.inference_mode():
    network(torch.zeros((batch, *network.input_shape), dtype=network.input_dtype, device=device))
if device.type == "cuda":
    torch.cuda.synchronize()
    print(torch.cuda.max_memory_allocated(device))
"""


def peak_memory(argv: Sequence[str], *, timeout_s: float | None = None) -> int:
    """Runs a command in a fresh process and gives its largest resident set, in bytes, as the system counted it.

    Everything counts: the interpreter and torch take some 250 MB before any work is done. Children of the command do not
    count; less than about 10 MB cannot be told apart. On Linux and macOS only.

    Args:
        argv: The program and its arguments, such as ``[sys.executable, "work.py"]``.
        timeout_s: After this many seconds the process is ended.

    Raises:
        ConfigError: An empty command, or one that cannot be started.
        NetpressError: The command failed or took too long; the text has the end of its stderr.
    """
    if not argv:
        raise ConfigError("there is no command to measure", got="an empty list")
    launcher = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that launcher and command can be ended together
    )
    try:
        said, errors = launcher.communicate(timeout=timeout_s)
    except BaseException as error:  # an interrupt, too, must not leave the command running
        os.killpg(launcher.pid, signal.SIGKILL)
        launcher.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise NetpressError("the process to measure took too long", got=f"more than {timeout_s} s") from error
        raise
    outcome, *numbers = said.decode().split(maxsplit=1) or ["no word"]
    if outcome == "unstartable":
        raise ConfigError("the command to measure cannot be started", got=f"{argv[0]!r}: {numbers[0].strip()}")
    code, peak = (int(n) for n in numbers[0].split()) if outcome == "ended" else (launcher.returncode, 0)
    if code != 0:
        raise NetpressError(
            "the process to measure failed",
            got=f"exit status {code}; {errors[-500:].decode(errors='replace').strip()}",
            remedy="run the command by itself to see more",
        )
    return peak * (1 if sys.platform == "darwin" else 1024)


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
