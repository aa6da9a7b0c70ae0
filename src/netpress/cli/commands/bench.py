"""netpress bench"""

from __future__ import annotations

from typing import Annotated

import typer

from netpress.cli import options
from netpress.cli.console import OUT, TerminalProgress, print_json, table


def run(
    name: Annotated[str | None, typer.Argument(help="The topic; without it the topics are listed.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    device: options.DEVICE = "cpu",
    quiet: options.QUIET = False,
    as_json: options.JSON = False,
) -> None:
    """Measure the speed and memory that netpress claims, each beside its target.

    Ratios are medians of interleaved runs within this one process; `ok` says whether a target holds.

    Example: `netpress bench reduction`
    """
    from netpress.bench import run_bench, topics

    if name is None and as_json:
        print_json({"topics": [{"name": topic, "summary": summary} for topic, summary in topics()]})
        return
    if name is None:
        table("Benchmarks", ("topic", "what is measured"), topics())
        return
    document = run_bench(name, threads=threads, device=device, progress=TerminalProgress(quiet=quiet))
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
    machine = document["environment"]
    OUT.print("\n" + ", ".join(f"{k} {v}" for k, v in machine.items()), style="dim", highlight=False)
