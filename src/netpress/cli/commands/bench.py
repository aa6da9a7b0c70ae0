"""netpress bench"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from netpress.cli import options
from netpress.cli.console import OUT, TerminalProgress, amount, print_json, size, table


def run(
    name: Annotated[str | None, typer.Argument(help="The topic; without it the topics are listed.")] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="latency: .netpress files; the others are compared with the first."),
    ] = None,
    runtimes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="latency: of torch, onnxruntime, openvino, executorch. Default: what is installed."
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="N,...", help="latency: samples a run, one series each. Default: 1.")
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="CPU threads; latency takes several. Default: 2, of latency 1."),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="latency: rounds of a series. Default: 30.")
    ] = None,
    memory: Annotated[
        bool | None, typer.Option("--memory/--no-memory", help="latency: peak memory, too. Default: yes.")
    ] = None,
    device: options.DEVICE = "cpu",
    quiet: options.QUIET = False,
    as_json: options.JSON = False,
) -> None:
    """Measure the speed and memory that netpress claims, each beside its target; or, with latency, that of your own files.

    Ratios are medians of interleaved runs within this one process; `ok` says whether a target holds.

    `latency` times the networks of files in turns, in one runtime and the others, and judges each beside the first, at the smallest
    batch: *faster* where in one runtime or more, which are named, its time is at most .95 of the first one's in three rounds of
    four with every number of threads; *smaller only* where its file has at most .95 of the bytes, but no runtime is faster;
    *neither* otherwise.

    Example: `netpress bench latency original.netpress small.netpress --runtimes torch,onnxruntime --batch 1,32`
    """
    from netpress.bench import run_bench, takes_files, topics

    if name is not None and takes_files(name):
        from netpress.bench.latency import compare_files, installed_runtimes

        _check_device(device)
        document = compare_files(
            files or [],
            runtimes=installed_runtimes() if runtimes is None else [piece.strip() for piece in runtimes.split(",")],
            batches=options.counts("1" if batch is None else batch, "--batch", "1,32"),
            threads=options.counts("1" if threads is None else threads, "--threads", "1,2"),
            repeats=30 if repeats is None else repeats,
            memory=memory is not False,
            progress=TerminalProgress(quiet=quiet),
        )
        if as_json:
            print_json(document)
        else:
            _show_latency(document)
        return
    given = {"--runtimes": runtimes, "--batch": batch, "--repeats": repeats, "--memory": memory}
    _check_plain(name, files, given)
    if name is None and as_json:
        print_json({"topics": [{"name": topic, "summary": summary} for topic, summary in topics()]})
        return
    if name is None:
        table("Benchmarks", ("topic", "what is measured"), topics())
        return
    document = run_bench(name, threads=_one(threads), device=device, progress=TerminalProgress(quiet=quiet))
    if as_json:
        print_json(document)
        return
    rows = [
        (
            r["case"],
            r["metric"],
            f"{r['value']:.4g}",
            r["unit"],
            r["target"] or "",
            {True: "ok", False: "MISSED", None: ""}[r["ok"]],
        )
        for r in document["rows"]
    ]
    table(f"bench {name}", ("case", "metric", "value", "unit", "target", ""), rows, right=(2,))
    _machine(document)


def _check_device(device: str) -> None:
    from netpress.errors import ConfigError

    if device != "cpu":
        raise ConfigError("bench latency times on the CPU", got=f"--device {device}", allowed="cpu")


def _check_plain(name: str | None, files: list[Path] | None, given: Mapping[str, object]) -> None:
    """What a topic of fixed rows does not take is an error, not ignored."""
    from netpress.errors import ConfigError

    if files:
        raise ConfigError(
            f"the benchmark {name!r} takes no files", got=files[0], remedy=f"netpress bench latency {files[0]} ..."
        )
    for option, value in given.items():
        if value is not None:
            raise ConfigError(
                f"{option} belongs to bench latency",
                got=f"bench {name or ''}".strip(),
                remedy="leave it out, or netpress bench latency FILE ...",
            )


def _one(threads: str | None) -> int:
    from netpress.errors import ConfigError

    numbers = options.counts("2" if threads is None else threads, "--threads", "2")
    if len(numbers) > 1:
        raise ConfigError("one number of threads at a time", got=threads, remedy="only bench latency takes several")
    return numbers[0]


def _machine(document: Mapping[str, Any]) -> None:
    OUT.print("\n" + ", ".join(f"{k} {v}" for k, v in document["environment"].items()), style="dim", highlight=False)


def _show_latency(document: Mapping[str, Any]) -> None:
    files, verdicts = document["files"], document["verdicts"]
    stems = {f["file"]: Path(f["file"]).stem for f in files}
    names = stems if len(set(stems.values())) == len(stems) else {file: file for file in stems}
    columns = ("runtime", "network", "median", "p95", "ratio", "quartiles", "memory", "opened")
    for batch, threads in dict.fromkeys((r["batch"], r["threads"]) for r in document["rows"]):
        rows = [
            (
                r["runtime"],
                names[r["file"]],
                f"{r['median_ms']:.3g}",
                f"{r['p95_ms']:.3g}",
                f"{r['ratio']:.2f}",
                "-".join(f"{bound:.2f}" for bound in r["ratio_quartiles"]),
                size(r["own_memory_bytes"]),
                size(r["form_bytes"]),
            )
            for r in document["rows"]
            if (r["batch"], r["threads"]) == (batch, threads)
        ]
        table(
            f"Milliseconds: batch {batch}, threads {threads}",
            columns,
            rows,
            right=tuple(range(2, len(columns))),
            whole=(0,),
        )
        OUT.print()
    judged = [("", "", "")] + [
        (v["verdict"], ", ".join(v["faster_in"]), ", ".join(v["slower_in"])) for v in verdicts
    ]  # the first file has no verdict
    verdict_rows = [
        (names[f["file"]], size(f["size_bytes"]), amount(f["params"]), amount(f["macs"]), *said)
        for f, said in zip(files, judged, strict=True)
    ]
    table(
        "Verdicts",
        ("network", "file", "parameters", "MACs", "", "faster in", "slower in"),
        verdict_rows,
        right=(1, 2, 3),
    )
    _machine(document)
