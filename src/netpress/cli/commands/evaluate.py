"""netpress eval"""

from __future__ import annotations

import dataclasses
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
    execution: Annotated[
        Literal["dense", "coded"],
        typer.Option(help="coded: layers multiply with their weights as they are stored, on the CPU."),
    ] = "dense",
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
    from netpress.errors import ConfigError
    from netpress.measure import cost, time_one
    from netpress.pipeline import judge_file, pick_device

    progress = TerminalProgress(quiet=quiet)
    coded = execution == "coded"
    picked = pick_device("cpu" if coded and device == "auto" else device)
    if coded and picked.type != "cpu":
        raise ConfigError(
            "--execution coded runs on the CPU", got=f"--device {device}", allowed="cpu", remedy="--execution dense"
        )
    stored = artifact.read(file)
    source = open_data(data, root=data_root, progress=progress)
    # Counted on the plain layers: coded ones hide their weights, and the same network costs the same.
    measured = cost(stored.network, size_bytes=file.stat().st_size, latency=latency and not coded, device=picked)
    if coded:
        stored = artifact.read(file, execution="coded")
    stored.network.to(picked)
    judged_quality = judge_file(stored, source, split=split, device=picked, batch_size=batch, progress=progress)
    if coded and latency:
        timed = time_one(stored.network, stored.input_shape, device=picked, input_dtype=stored.network.input_dtype)
        measured = dataclasses.replace(measured, latency_ms=timed.as_dict())
    document = {"file": str(file), "data": source.name, "quality": judged_quality.as_dict(), "cost": measured.as_dict()}
    if as_json:
        print_json(document)
        return
    OUT.print(f"{file.name} on {source.name}: [bold]{judged(document['quality'])}[/]", highlight=False)  # type: ignore[arg-type]
    OUT.print(f"{measured.params:,} parameters, {measured.macs:,} MACs, {size(measured.size_bytes)} on disk")
    if measured.latency_ms:
        OUT.print(f"latency {measured.latency_ms['median']:.3g} ms median, {measured.latency_ms['p95']:.3g} ms p95")
