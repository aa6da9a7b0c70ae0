"""netpress compare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netpress.cli import options
from netpress.cli.console import OUT, TerminalProgress, print_json


def run(
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC", help="A grid in YAML; or, with --only-table, a ledger.jsonl.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the ledger, teachers, files, table and report.")],
    only_table: Annotated[
        bool, typer.Option("--only-table", help="Run nothing: table and report of what is there.")
    ] = False,
    retry: Annotated[bool, typer.Option(help="Run failed jobs again.")] = True,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="LEDGER.jsonl", help="Take over what this ledger has as done; may be given more than once."
        ),
    ] = None,
    data_root: options.DATA_ROOT = None,
    device: options.DEVICE = "auto",
    quiet: options.QUIET = False,
    as_json: options.JSON = False,
) -> None:
    """Run a grid of networks, data, recipes, budgets and seeds; a table and a page at the end.

    Killed and started again it goes on: what is in the ledger is not run twice. The folder's `ledger.jsonl` holds every
    result; `netpress compare ledger.jsonl --only-table -o DIR` makes the same table and page from it.

    Example: `netpress compare evidence/reduction/spec.yaml -o runs/reduction`
    """
    from netpress.compare import compare_ledger, compare_spec, terminal_tables

    progress = TerminalProgress(quiet=quiet)
    if spec.suffix == ".jsonl":
        results = compare_ledger(spec, out)
    else:
        results = compare_spec(
            spec,
            out,
            data_root=data_root,
            device=device,
            progress=progress,
            only_table=only_table,
            retry=retry,
            reuse=reuse or (),
        )
    if as_json:
        print_json(results.as_dict())
        return
    for drawn in terminal_tables(results.rows):
        OUT.print(drawn)
    for choice in results.choices:
        OUT.print(choice, style="dim")
    OUT.print(f"\ntable: {out / 'table.md'}   report: {out / 'report.html'}   ledger: {out / 'ledger.jsonl'}")
    if results.failed:
        raise typer.Exit(1)
