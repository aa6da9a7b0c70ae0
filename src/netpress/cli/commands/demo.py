"""netpress demo"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from netpress.cli import options
from netpress.cli.console import OUT, TerminalProgress, print_json


def run(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of everything the demo makes.")] = Path("demo-out"),
    device: options.DEVICE = "auto",
    quiet: options.QUIET = False,
    as_json: options.JSON = False,
) -> None:
    """The main job on real data that is already here: train, compress by every reduction layer, compare.

    A small CNN learns scikit-learn's handwritten digits; each reduction layer replaces its tail at one budget and is
    distilled from it. At the end: a table, an HTML report, and the best small network as one file.

    Example: `netpress demo -o demo-out`
    """
    from netpress.compare import best_of, compare_spec, terminal_tables
    from netpress.measure import threads_set

    progress = TerminalProgress(quiet=quiet)
    # of a network this small, threads wait for each other more than they work, on a busy machine ten times as long
    with resources.as_file(resources.files("netpress.compare") / "demo.yaml") as spec, threads_set(1):
        results = compare_spec(spec, out, device=device, progress=progress)
    best = best_of(results)
    file = out / "digits.netpress"
    shutil.copyfile(out / best["result"]["file"], file)
    if as_json:
        print_json({**results.as_dict(), "best": best["recipe"], "file": str(file)})
        return
    for drawn in terminal_tables(results.rows):
        OUT.print(drawn)
    OUT.print(f"\nbest by held-out accuracy: [bold]{best['recipe']}[/]")
    OUT.print(f"report   {out / 'report.html'}\nfile     {file}")
    OUT.print(f"\nnext:    netpress eval {file} --data digits\n         netpress inspect {file}")
