"""netpress train"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netpress.cli import options
from netpress.cli.console import OUT, TerminalProgress, judged, print_json


def run(
    net: options.NET,
    data: options.DATA,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the weights go (.safetensors).")],
    weights: options.WEIGHTS = None,
    settings: options.SET = None,
    data_root: options.DATA_ROOT = None,
    device: options.DEVICE = "auto",
    seed: options.SEED = 0,
    quiet: options.QUIET = False,
    as_json: options.JSON = False,
) -> None:
    """Train a teacher, and write its weights. A run that is killed and started again goes on.

    Fields of the plan are set by `--set`: epochs, batch_size, optimizer, lr, momentum, weight_decay, schedule, augment.

    Example: `netpress train resnet20 --data cifar10 --set epochs=30 -o resnet20.safetensors`

    Affinities: `netpress train deepdta --data davis -s optimizer=adam -s lr=1e-3 -s schedule=cosine -s batch_size=256 -o w.safetensors`
    """
    from netpress.data import open_data
    from netpress.pipeline import open_network, plan_with, train_network

    progress = TerminalProgress(quiet=quiet)
    plan = plan_with(settings or [])
    source = open_data(data, root=data_root, seed=seed, progress=progress)
    opened = open_network(net, weights=weights, data=source, seed=seed)
    document = train_network(opened, source, plan, out=out, device=device, seed=seed, progress=progress)
    if as_json:
        print_json(document)
        return
    OUT.print(f"{opened.name}: test {judged(document['quality'])}, held out {judged(document['held_out'])}")
    OUT.print(f"written: {out}", markup=False, soft_wrap=True)
