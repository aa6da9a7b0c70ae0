"""Bytes and products of the coded forms, on two pruned and shared matrices, beside dense BLAS and scipy's sparse columns."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from netpress.bench import Row, at_most
from netpress.codecs import Codec, Coded, codecs
from netpress.errors import NetpressError
from netpress.progress import Progress

SUMMARY = "bytes over entropy, encode and decode, products from the coded form beside dense and scipy CSC"

OWN = ("gap_ans",)  # one format has to meet all targets at once; `adaptive` is smaller and slow, as its own rows say
BATCHES = (1, 8, 64)
REPEATS, LEAST_S, PATIENCE_S, SLOW_S = 9, 0.01, 1.0, 3.0
CODING_REPEATS = 3
DENSE, CSC = "numpy dense float32", "scipy CSC"


@dataclass(frozen=True)
class Case:
    """A matrix and what is claimed of it.

    Attributes:
        rows, columns: Its shape.
        pruned: Share of zeros.
        values: Distinct values but zero.
        most_over_entropy: Bytes over zero-order entropy that the judged format may take.
        most_over_dense: By batch: the time of a product over that of the dense one that the judged format may take.
        most_encode_s: Seconds in which the judged format encodes it; None where nothing is claimed.
    """

    rows: int
    columns: int
    pruned: float
    values: int
    most_over_entropy: float
    most_over_dense: dict[int, float]
    most_encode_s: float | None = None


CASES = {
    "A": Case(4096, 4096, 0.9, 32, 1.01, {1: 1.0, 8: 1.0}, 0.5),
    "B": Case(1024, 1024, 0.6, 256, 1.005, {1: 8.0, 8: 4.0}),
}


def matrix(case: Case, seed: int = 0, iterations: int = 61) -> NDArray[np.float32]:
    """(rows, columns) Gaussian weights, the smallest set to zero, the others shared: Lloyd's iterations from quantiles."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((case.rows, case.columns), dtype=np.float32)
    zeros = round(weights.size * case.pruned)
    weights[np.abs(weights) < np.partition(np.abs(weights).reshape(-1), zeros)[zeros]] = 0
    places = np.flatnonzero(weights)
    kept = weights.reshape(-1)[places]
    ordered = np.sort(kept).astype(np.float64)
    sums = np.concatenate([[0], np.cumsum(ordered)])
    centres = np.quantile(ordered, (np.arange(case.values) + 0.5) / case.values)
    for _ in range(iterations):
        cuts = np.concatenate([[0], np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2), [len(ordered)]])
        counts = np.diff(cuts)
        centres = np.where(counts > 0, np.diff(sums[cuts]) / np.maximum(counts, 1), centres)
    nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, kept)
    weights.reshape(-1)[places] = centres.astype(np.float32)[nearest]
    return weights


def entropy_bytes(weights: NDArray[np.float32]) -> float:
    """Zero-order entropy of all entries, in bytes; the codebook itself is not part of it."""
    counts = np.unique(weights, return_counts=True)[1]
    share = counts / weights.size
    return float(-(counts * np.log2(share)).sum()) / 8


@dataclass(frozen=True)
class Timing:
    """A product's time: the median, its median over the dense one of the same turn, and the largest relative error."""

    ms: float
    over_dense: float
    error: float


def rows(*, threads: int, device: str, progress: Progress) -> list[Row]:
    """All rows of the topic. Products are on the CPU; with one thread their CPU time is taken, with more the wall time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [row for name in CASES for row in _case_rows(name, sorted({1, threads}), progress)]
    finally:
        torch.set_num_threads(before)


def _case_rows(name: str, thread_counts: list[int], progress: Progress) -> list[Row]:
    case = CASES[name]
    progress.say(f"matrix {name}")
    weights = matrix(case)
    h0 = entropy_bytes(weights)
    title = f"{name} {case.rows}x{case.columns}, {case.pruned:.0%} pruned, {case.values} values"
    out = [
        Row(case=title, metric="zero-order entropy", value=h0, unit="bytes"),
        Row(case=title, metric="dense float32", value=weights.nbytes, unit="bytes"),
    ]
    ratios: dict[str, float] = {}
    encode_s: dict[str, float] = {}
    opened: dict[str, Coded] = {}
    for codec in measured_codecs(torch.from_numpy(weights)):
        coding, opened[codec.name] = _coding_rows(f"{title}, {codec.name}", codec, weights, h0, progress)
        out += coding
        by_metric = {row.metric: row.value for row in coding}
        ratios[codec.name], encode_s[codec.name] = by_metric["bytes over entropy"], by_metric["encode"]
    own = [codec for codec in opened if codec in OWN]
    if own:
        best = min(own, key=lambda codec: ratios[codec])
        out.append(
            at_most(f"{title}, judged ({best})", "bytes over entropy", ratios[best], "x", case.most_over_entropy)
        )
        if case.most_encode_s is not None:
            out.append(at_most(f"{title}, judged ({best})", "encode", encode_s[best], "s", case.most_encode_s))
    for count in thread_counts:
        timings = _timings(name, weights, opened, count, progress)
        out += _product_rows(title, case, count, timings, own)
    return out


def measured_codecs(tensor: Tensor) -> list[Codec]:
    """The codecs that store this tensor and multiply with what they stored."""
    return [codec for codec in codecs() if codec.open is not None and codec.accepts(tensor)]


def _coding_rows(
    title: str, codec: Codec, weights: NDArray[np.float32], h0: float, progress: Progress
) -> tuple[list[Row], Coded]:
    """Bytes, seconds and memory of one codec; the tensor that comes back must be the same to the bit."""
    progress.say(f"encode and decode: {title}")
    tensor, shape = torch.from_numpy(weights), tuple(weights.shape)
    encode_s, payload = _median_time(lambda: codec.encode(tensor))
    decode_s, back = _median_time(lambda: codec.decode(memoryview(payload), torch.float32, shape))
    if not torch.equal(back.view(torch.int32), tensor.view(torch.int32)):
        raise NetpressError(f"the codec {codec.name!r} is not lossless", got=title)
    if codec.open is None:
        raise NetpressError(f"the codec {codec.name!r} has no products", got=title)
    coded_open = codec.open
    open_s, coded = _median_time(lambda: coded_open(memoryview(payload), torch.float32, shape))
    return [
        Row(case=title, metric="bytes", value=len(payload), unit="bytes"),
        Row(case=title, metric="bytes over entropy", value=len(payload) / h0, unit="x"),
        Row(case=title, metric="encode", value=encode_s, unit="s"),
        Row(case=title, metric="decode", value=decode_s, unit="s"),
        Row(case=title, metric="open", value=open_s, unit="s"),
        Row(case=title, metric="memory when opened", value=coded.memory_bytes, unit="bytes"),
    ], coded


def _median_time(work: Callable[[], Any]) -> tuple[float, Any]:
    """Median CPU seconds; once is enough for what takes long."""
    times: list[float] = []
    while len(times) < CODING_REPEATS and (not times or sum(times) < 2 * PATIENCE_S):
        began = time.process_time()
        result = work()
        times.append(time.process_time() - began)
    return statistics.median(times), result


def _product_rows(
    title: str, case: Case, threads: int, timings: dict[tuple[int, str], Timing], own: list[str]
) -> list[Row]:
    clock = "CPU" if threads == 1 else "wall"
    out = []
    for (batch, codec), timing in timings.items():
        metric = f"product, batch {batch}, threads {threads}"
        out.append(Row(case=f"{title}, {codec}", metric=f"{metric}, {clock}", value=timing.ms, unit="ms"))
        if codec != DENSE:
            out.append(Row(case=f"{title}, {codec}", metric=f"{metric}, over dense", value=timing.over_dense, unit="x"))
    for batch, bound in case.most_over_dense.items() if own else ():
        timed = [codec for codec in own if (batch, codec) in timings]
        if not timed:
            continue
        best = min(timed, key=lambda codec: timings[batch, codec].over_dense)
        metric = f"product, batch {batch}, threads {threads}, over dense"
        out.append(at_most(f"{title}, judged ({best})", metric, timings[batch, best].over_dense, "x", bound))
    for codec in dict.fromkeys(codec for _, codec in timings):
        error = max(timing.error for (_, name), timing in timings.items() if name == codec)
        metric = f"largest error over |W| |x|, threads {threads}"
        out.append(at_most(f"{title}, {codec}", metric, error, "1", 1e-5))
    return out


def _timings(
    name: str, weights: NDArray[np.float32], opened: dict[str, Coded], threads: int, progress: Progress
) -> dict[tuple[int, str], Timing]:
    """Timings with numpy's BLAS on that many threads: set here where that can be, else in a process that starts with them."""
    if importlib.util.find_spec("threadpoolctl") is not None:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(threads):
            return measure(weights, opened, threads, progress)
    progress.say(f"matrix {name} in a process of its own, threads {threads}")
    limits = {variable: str(threads) for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", "netpress.bench.codecs", name, str(threads)]
    ended = subprocess.run(command, env={**os.environ, **limits}, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise NetpressError("the process that times products failed", got=ended.stderr[-500:])
    return {(batch, codec): Timing(*timing) for batch, codec, *timing in json.loads(ended.stdout)}


def measure(
    weights: NDArray[np.float32], opened: dict[str, Coded], threads: int, progress: Progress
) -> dict[tuple[int, str], Timing]:
    """Times all products turn by turn, so that what else the machine does falls on all of them, and checks each of them.

    A turn repeats short products until they take about ``LEAST_S``. A codec whose turns of a batch took ``PATIENCE_S`` together is
    left out of the others; one with a product of over ``SLOW_S`` is timed once, by the product that checks it, and not at larger
    batches.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    wide = weights.astype(np.float64)
    timings = {}
    slow: set[str] = set()
    checking: dict[str, float] = {}
    with progress.step(f"products, threads {threads}", total=len(BATCHES) * REPEATS) as bar:
        for batch in BATCHES:
            x = np.random.default_rng(batch).standard_normal((weights.shape[1], batch), dtype=np.float32)
            exact = wide @ x.astype(np.float64)  # (rows, N)
            scale = np.abs(weights) @ np.abs(x) + np.finfo(np.float32).tiny
            works = _works(weights, {name: coded for name, coded in opened.items() if name not in slow}, x, threads)
            errors = {}
            for codec, work in works.items():
                began = clock()
                y = work()
                checking[codec] = clock() - began
                errors[codec] = float((np.abs(y - exact) / scale).max())
            slow |= {codec for codec in opened if checking[codec] > SLOW_S}
            times: dict[str, list[float]] = {codec: [] for codec in works}
            for turn in range(REPEATS):
                for codec, work in works.items():
                    if codec in slow or (codec != DENSE and turn and sum(times[codec]) > PATIENCE_S):
                        continue
                    often = max(1, min(20, int(LEAST_S / max(checking[codec], 1e-6))))
                    began = clock()
                    for _ in range(often):
                        work()
                    times[codec].append((clock() - began) / often)
                bar.advance()
            for codec in works:
                spent = times[codec] or [checking[codec]]
                ratio = statistics.median(a / max(b, 1e-9) for a, b in zip(spent, times[DENSE], strict=False))
                timings[batch, codec] = Timing(1000 * statistics.median(spent), ratio, errors[codec])
    return timings


def _works(
    weights: NDArray[np.float32], opened: dict[str, Coded], x: NDArray[np.float32], threads: int
) -> dict[str, Callable[[], NDArray[np.float32]]]:
    """What is timed, by name: the dense product first."""
    works: dict[str, Callable[[], NDArray[np.float32]]] = {DENSE: lambda: weights @ x}
    if importlib.util.find_spec("scipy") is not None:
        from scipy.sparse import csc_matrix

        columns = csc_matrix(weights)
        works[CSC] = lambda: columns @ x

    def product(coded: Coded) -> Callable[[], NDArray[np.float32]]:
        return lambda: coded.multiply(x, threads)

    return {**works, **{codec: product(coded) for codec, coded in opened.items()}}


def _own_process(name: str, threads: int) -> Iterable[tuple[Any, ...]]:
    from netpress.progress import SilentProgress

    weights = matrix(CASES[name])
    tensor = torch.from_numpy(weights)
    opened = {
        codec.name: codec.open(memoryview(codec.encode(tensor)), torch.float32, tuple(weights.shape))
        for codec in measured_codecs(tensor)
        if codec.open is not None
    }
    for (batch, codec_name), timing in measure(weights, opened, threads, SilentProgress()).items():
        yield batch, codec_name, timing.ms, timing.over_dense, timing.error


if __name__ == "__main__":  # the process of its own where threadpoolctl is not installed
    sys.stdout.write(json.dumps(list(_own_process(sys.argv[1], int(sys.argv[2])))))
