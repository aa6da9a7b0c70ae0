"""netpress eval"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from netpress.cli import options
from netpress.cli.console import OUT, TerminalProgress, judged, print_json, size


def run(
    file: Annotated[Path, typer.Argument(help="A .netpress file.")],
    data: options.DATA,
    split: Annotated[Literal["test", "train"], typer.Option(help="Which part of the data.")] = "test",
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 256,
    latency: Annotated[bool, typer.Option(help="Measure the latency, too.")] = False,
    data_root: options.DATA_ROOT = None,
    device: options.DEVICE = "auto",
    quiet: options.QUIET = False,
    as_json: options.JSON = False,
) -> None:
    """Quality from the file alone: nothing is needed of what made it.

    Example: `netpress eval small.netpress --data cifar10`
    """
    from netpress import artifact
    from netpress.data import open_data
    from netpress.measure import cost
    from netpress.pipeline import judge_file, pick_device

    progress = TerminalProgress(quiet=quiet)
    stored = artifact.read(file)
    source = open_data(data, root=data_root, progress=progress)
    picked = pick_device(device)
    judged_quality = judge_file(stored, source, split=split, device=picked, batch_size=batch, progress=progress)
    measured = cost(stored.network, size_bytes=file.stat().st_size, latency=latency, device=picked)
    document = {"file": str(file), "data": source.name, "quality": judged_quality.as_dict(), "cost": measured.as_dict()}
    if as_json:
        print_json(document)
        return
    OUT.print(f"{file.name} on {source.name}: [bold]{judged(document['quality'])}[/]", highlight=False)  # type: ignore[arg-type]
    OUT.print(f"{measured.params:,} parameters, {measured.macs:,} MACs, {size(measured.size_bytes)} on disk")
    if measured.latency_ms:
        OUT.print(f"latency {measured.latency_ms['median']:.3g} ms median, {measured.latency_ms['p95']:.3g} ms p95")
