"""Networks of files side by side: how long each takes in each runtime, in what memory, and a verdict.

A network is judged against the first file, at the smallest batch that was asked for, by its time over the first one's in the same
runtime and round:

- *faster*: in at least one runtime that is at most .95 in three rounds of four, with every number of threads; which runtimes is said.
  So is where the network is slower: at least 1.05 in three rounds of four, with every number of threads. By the median alone, a busy
  machine would call one network faster today and slower tomorrow.
- *smaller only*: faster in no runtime, but its file has at most .95 of the first one's bytes.
- *neither*: all others.
"""

from __future__ import annotations

import importlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from netpress.artifact import Artifact, read
from netpress.bench._runtimes import RUNTIMES, Call, command, installed_runtimes, runtime_by_name
from netpress.errors import ArtifactError, ConfigError
from netpress.export import apart, most_apart, target_by_name
from netpress.graph import count
from netpress.measure import LatencyResult, environment, example_input, peak_memory, take_turns, threads_set
from netpress.progress import Progress, SilentProgress

__all__ = ["RUNTIMES", "Verdict", "compare_files", "installed_runtimes", "judge"]

SUMMARY = "your own files side by side in several runtimes: median, p95, ratio, peak memory, a verdict for each"

MARGIN = 0.05
"""What differs by less counts as equal."""

QUIET_S = 0.02
"""With several threads the next run waits so long: after one, OpenMP's threads in torch spin for some 5 ms more, which would be the
time of whatever runs next."""

MOST_S = 60.0


@dataclass(frozen=True)
class Verdict:
    """What a network gained.

    Attributes:
        verdict: ``faster``, ``smaller only`` or ``neither``.
        faster_in: Runtimes in which it is faster.
        slower_in: Runtimes in which it is slower.
    """

    verdict: str
    faster_in: tuple[str, ...]
    slower_in: tuple[str, ...]


def judge(quartiles: Mapping[str, Sequence[tuple[float, float]]], size_ratio: float) -> Verdict:
    """The verdict on one network; the rule stands atop this module.

    Args:
        quartiles: By runtime those of its time over the first network's at the smallest batch, a pair for each number of threads.
        size_ratio: The bytes of its file over those of the first.
    """
    faster = tuple(name for name, found in quartiles.items() if max(high for _, high in found) <= 1 - MARGIN)
    slower = tuple(name for name, found in quartiles.items() if min(low for low, _ in found) >= 1 + MARGIN)
    verdict = "faster" if faster else "smaller only" if size_ratio <= 1 - MARGIN else "neither"
    return Verdict(verdict, faster, slower)


def compare_files(
    files: Sequence[str | os.PathLike[str]],
    *,
    runtimes: Sequence[str] = ("torch",),
    batches: Sequence[int] = (1,),
    threads: Sequence[int] = (1,),
    repeats: int = 30,
    memory: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Times the networks of several files, all of them in all runtimes in turns, and judges each beside the first.

    For each batch and number of threads there is one series of rounds, as `netpress.measure.take_turns` has it, in one process; one
    round goes over all networks in all runtimes. An untimed run goes before each timed one, so that caches and threads are its
    own. What a runtime answers is compared with the file's network before it is timed. On the CPU.

    Args:
        files: ``.netpress`` files of networks that take the same input.
        runtimes: Names in ``RUNTIMES``: torch, torch-compile, onnxruntime, openvino, executorch.
        batches: Samples a run, one series each.
        threads: Threads of a run, one series each.
        repeats: Rounds of a series, at least; fewer, but 5, where it would take longer than a minute.
        memory: Also measure memory, each network in each runtime in a process of its own.

    Returns:
        ``environment``; ``files``, a row each of ``file``, ``size_bytes``, ``params`` and ``macs``; ``rows`` and ``verdicts``.

        A row of ``rows`` has ``file``, ``runtime``, ``batch``, ``threads``, ``median_ms``, ``p95_ms`` and ``least_ms`` of the whole
        batch, ``ratio`` to the first file and ``ratio_quartiles`` (two: far apart where the machine was busy), ``rounds``,
        ``form_bytes`` (what the runtime opens, on disk), ``max_abs_difference`` to what the file's network answers, and, of a process
        that opens the network with the least number of threads and answers one batch, ``peak_memory_bytes`` and
        ``own_memory_bytes``: what that is above a process that only imports the runtime. The two are null without ``memory``.

        A row of ``verdicts``, one for each file but the first, has ``file``, ``size_ratio`` and the fields of `Verdict`.

    Raises:
        ConfigError: No file; a number below 1; an empty list; networks of different inputs.
        UnknownNameError: No such runtime, or nothing here writes its form.
        MissingExtraError: A runtime's package is absent.
        UnsupportedOperatorError: A runtime's form cannot say an operator.
        ArtifactError: A file that cannot be read, or a runtime that does not answer as the file's network does.
    """
    _check(files, runtimes, batches, threads, repeats)
    progress = progress or SilentProgress()
    stored = _same_input([(str(file), read(file)) for file in files])
    described = [_described(file, artifact) for file, artifact in zip(files, stored, strict=True)]
    rows = []
    with tempfile.TemporaryDirectory(prefix="netpress-") as folder:
        forms = {
            (name, place): _form(artifact, Path(files[place]), name, Path(folder) / f"{name}-{place}")
            for name in dict.fromkeys(runtimes)
            for place, artifact in enumerate(stored)
        }
        peaks = _peaks(forms, stored[0], batches, min(threads), progress) if memory else {}
        spreads: dict[int, dict[str, list[tuple[float, float]]]] = {place: {} for place in range(len(files))}
        for batch, number in itertools.product(dict.fromkeys(batches), dict.fromkeys(threads)):
            progress.say(f"batch {batch}, threads {number}: {len(forms)} networks in turns")
            timed = _series(forms, stored, batch, number, repeats)
            for (name, place), one in timed.items():
                spread = one.times.ratio_quartiles(timed[name, 0].times)
                own, whole = peaks.get((name, place, batch), (None, None))
                if batch == min(batches):
                    spreads[place].setdefault(name, []).append(spread)
                rows.append(
                    {
                        "file": str(files[place]),
                        "runtime": name,
                        "batch": batch,
                        "threads": number,
                        "median_ms": one.times.median,
                        "p95_ms": one.times.p95,
                        "least_ms": one.times.least,
                        "ratio": one.times.ratio(timed[name, 0].times),
                        "ratio_quartiles": list(spread),
                        "rounds": len(one.times.times_ms),
                        "form_bytes": forms[name, place].size_bytes,
                        "max_abs_difference": one.difference,
                        "own_memory_bytes": own,
                        "peak_memory_bytes": whole,
                    }
                )
    verdicts = []
    for place, other in enumerate(described[1:], 1):
        size_ratio = other["size_bytes"] / described[0]["size_bytes"]
        judged = judge(spreads[place], size_ratio)
        verdicts.append({"file": other["file"], "size_ratio": size_ratio, **asdict(judged)})
    made_on = {**environment(), **_versions(runtimes)}
    return {"environment": made_on, "files": described, "rows": rows, "verdicts": verdicts}


@dataclass(frozen=True)
class _Form:
    """What a runtime opens: the file itself, or an export of it."""

    file: Path
    path: Path
    size_bytes: int


@dataclass(frozen=True)
class _Timed:
    """A network's times in one runtime, and how far its answer is from that of the file's network."""

    times: LatencyResult
    difference: float


def _check(
    files: Sequence[object], runtimes: Sequence[str], batches: Sequence[int], threads: Sequence[int], repeats: int
) -> None:
    if not files:
        raise ConfigError(
            "there are no files to compare",
            got="none",
            allowed=".netpress files; the others are compared with the first",
            remedy="netpress bench latency original.netpress small.netpress",
        )
    for what, given in (("runtimes", runtimes), ("batch", batches), ("threads", threads)):
        if not given:
            raise ConfigError(f"{what} of a latency is empty", allowed="one or more")
    for what, number in [*(("batch", n) for n in batches), *(("threads", n) for n in threads), ("repeats", repeats)]:
        if number < 1:
            raise ConfigError(f"{what} of a latency is out of range", got=number, allowed="1 or more")
    for name in runtimes:
        if (form := runtime_by_name(name).form) is not None:
            target_by_name(form)


def _same_input(named: Sequence[tuple[str, Artifact]]) -> list[Artifact]:
    """The networks, if all take the same input, and one that numpy has numbers for."""
    (first_name, first), *others = named
    if first.network.input_dtype == torch.bfloat16:
        raise ConfigError("networks that take bfloat16 cannot be timed in other runtimes", got=first_name)
    for name, other in others:
        one, two = ((a.network.input_dtype, a.input_shape) for a in (first, other))
        if one != two:
            raise ConfigError(
                "networks that take different inputs cannot be compared",
                got=f"{name}: {two[0]} {two[1]}",
                allowed=f"{one[0]} {one[1]}, as {first_name}",
            )
    return [artifact for _, artifact in named]


def _form(stored: Artifact, file: Path, name: str, folder: Path) -> _Form:
    """Writes what the runtime opens into a folder of its own, where it does not open the file itself."""
    target = runtime_by_name(name).form
    if target is None:
        return _Form(file, file, stored.sizes["total"])
    chosen = target_by_name(target)
    folder.mkdir()
    path = folder / f"network{chosen.suffix}"
    chosen.write(stored, path)
    return _Form(file, path, sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file()))


def _series(
    forms: Mapping[tuple[str, int], _Form], stored: Sequence[Artifact], batch: int, threads: int, repeats: int
) -> dict[tuple[str, int], _Timed]:
    """One series of rounds over all networks in all runtimes, by runtime and file."""
    x = example_input((batch, *stored[0].input_shape), stored[0].network.input_dtype)
    with threads_set(threads):
        with torch.inference_mode():
            wanted = [artifact.network(x) for artifact in stored]
        calls: dict[tuple[str, int], Call] = {}
        differences = {}
        for (name, place), form in forms.items():
            calls[name, place] = call = RUNTIMES[name].start(form.path, x.numpy(), threads)
            differences[name, place] = _difference(stored[place], wanted[place], call(), f"{form.file} in {name}")

        def before(which: tuple[str, int]) -> None:
            if threads > 1:
                time.sleep(QUIET_S)
            calls[which]()

        times = take_turns(calls, repeats=repeats, most_s=MOST_S, before=before)
    return {
        which: _Timed(LatencyResult(tuple(taken), batch, threads, "cpu"), differences[which])
        for which, taken in times.items()
    }


def _difference(stored: Artifact, wanted: torch.Tensor, given: NDArray[Any], where: str) -> float:
    difference, most = apart(wanted, torch.from_numpy(given)), most_apart(stored.network, wanted)
    if not difference <= most:
        raise ArtifactError(
            "a network that answers otherwise than its file is not timed",
            got=f"{where}: outputs that differ by {difference:.3g}",
            allowed=f"at most {most:.3g}",
            remedy="leave that runtime out, and report it",
        )
    return difference


def _peaks(
    forms: Mapping[tuple[str, int], _Form],
    stored: Artifact,
    batches: Iterable[int],
    threads: int,
    progress: Progress,
) -> dict[tuple[str, int, int], tuple[int, int]]:
    """Memory above that of the imports, and all of it, by runtime, file and batch."""
    dtype = str(np.dtype(example_input((), stored.network.input_dtype).numpy().dtype))
    base = {name: peak_memory(command(name)) for name in dict.fromkeys(name for name, _ in forms)}
    work = [(name, place, batch) for name, place in forms for batch in dict.fromkeys(batches)]
    found = {}
    with progress.step("peak memory", total=len(work)) as bar:
        for name, place, batch in work:
            shape = (batch, *stored.input_shape)
            peak = peak_memory(command(name, forms[name, place].path, shape=shape, dtype=dtype, threads=threads))
            found[name, place, batch] = (max(0, peak - base[name]), peak)
            bar.advance()
    return found


def _described(file: str | os.PathLike[str], stored: Artifact) -> dict[str, Any]:
    counts = count(stored.network)
    return {"file": str(file), "size_bytes": stored.sizes["total"], "params": counts.params, "macs": counts.macs}


def _versions(runtimes: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in runtimes:
        package = RUNTIMES[name].package
        found[name] = getattr(importlib.import_module(package), "__version__", None) or metadata.version(package)
    return found
