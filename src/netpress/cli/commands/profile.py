"""netpress profile"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpress.cli import options
from netpress.cli.console import OUT, amount, print_json, share, size, table

if TYPE_CHECKING:
    import torch

    from netpress.data import Data, Preprocess
    from netpress.graph import GraphNetwork

BARS, WIDTH, DEPTH = "▁▂▃▄▅▆▇█", 24, 4.0  # of a line of spectra: a character a share of the directions, log scale
ENERGIES = (0.9, 0.99, 0.999)


def run(
    net: options.NET,
    weights: options.WEIGHTS = None,
    shape: options.INPUT = None,
    batch: Annotated[int, typer.Option(help="Batch size of the latency.")] = 1,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the latency. Default: torch's.")] = None,
    latency: Annotated[bool, typer.Option(help="Measure the latency (a second or two).")] = True,
    spectrum: Annotated[
        bool, typer.Option("--spectrum", help="How many dimensions each layer's features really use; needs --data.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", metavar="DATA", help="For --spectrum: training images; labels are not needed."),
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="Images for --spectrum.")] = 4096,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg", help="Where to draw the spectra, for --spectrum.")
    ] = None,
    data_root: options.DATA_ROOT = None,
    device: options.DEVICE = "cpu",
    seed: options.SEED = 0,
    as_json: options.JSON = False,
) -> None:
    """What a network costs: parameters, MACs, bytes, latency, layer by layer, and where it can be cut.

    With --spectrum also how many principal directions hold the energy of the features that layers read: what a layer does not use,
    `netpress compress -r subspace` can take away.

    Example: `netpress profile resnet20`

    Example: `netpress profile resnet20 -w FILE -d cifar10 --spectrum --plot spectra.svg`
    """
    from netpress import artifact
    from netpress.compare.spectrum import spectrum_svg
    from netpress.data import open_data
    from netpress.errors import ConfigError
    from netpress.graph import count, legal_cuts, trace
    from netpress.measure import cost
    from netpress.pipeline import open_network, pick_device

    if spectrum != (data is not None) or (plot is not None and not spectrum):
        raise ConfigError(
            "--spectrum, --data and --plot belong together",
            got=" ".join(n for n, given in (("--spectrum", spectrum), ("--data", data), ("--plot", plot)) if given),
            allowed="--spectrum --data DATA [--plot FILE.svg]",
        )
    source = None if data is None else open_data(data, root=data_root, seed=seed)
    opened = open_network(net, weights=weights, data=source, input_shape=options.input_shape(shape), seed=seed)
    traced = trace(opened.network, opened.example()).eval()
    counts = count(traced)
    whole = cost(
        traced,
        size_bytes=artifact.size(traced),
        latency=latency,
        batch=batch,
        threads=threads,
        device=pick_device(device),
    ).as_dict()
    cuts = legal_cuts(traced)
    found = [] if source is None else _spectra(traced, source, opened.preprocess, samples, pick_device(device))
    if plot is not None:
        shown = {row["group"]: row["energies"] for row in found}
        plot.write_text(spectrum_svg(shown, f"{opened.name} on {data}"), encoding="utf-8")
    if as_json:
        print_json(
            {
                "network": opened.name,
                "input_shape": list(traced.input_shape),
                "output_shape": list(traced.output_shape),
                "cost": whole,
                "layers": [
                    {
                        "name": x.name,
                        "kind": x.kind,
                        "output_shape": list(x.output_shape),
                        "params": x.params,
                        "macs": x.macs,
                    }
                    for x in counts.layers
                ],
                "cuts": [
                    {
                        "name": c.name,
                        "shape": list(c.shape),
                        "params_before": c.params_before,
                        "params_after": c.params_after,
                        "macs_before": c.macs_before,
                        "macs_after": c.macs_after,
                    }
                    for c in cuts
                ],
                **({} if source is None else {"spectrum": found}),
            }
        )
        return
    table(
        f"{opened.name}, input {tuple(traced.input_shape)}",
        ("layer", "kind", "output", "params", "MACs", "share of MACs"),
        [
            (
                x.name,
                x.kind,
                "x".join(map(str, x.output_shape)),
                amount(x.params),
                amount(x.macs),
                share(x.macs, counts.macs),
            )
            for x in counts.layers
            if x.params or x.macs
        ],
        right=(3, 4, 5),
    )
    OUT.print()
    table(
        "Legal cuts: what stays before it (--at NAME)",
        ("before", "features", "params kept", "", "MACs kept", ""),
        [
            (
                c.name,
                "x".join(map(str, c.shape)),
                amount(c.params_before),
                share(c.params_before, counts.params),
                amount(c.macs_before),
                share(c.macs_before, counts.macs),
            )
            for c in cuts
        ],
        right=(2, 3, 4, 5),
    )
    if found:
        OUT.print()
        table(
            f"Features: directions that hold so much of the energy ({found[0]['samples']:,} images)",
            ("channels of", "channels", "90 %", "99 %", "99.9 %", "energy left, falling to 0.01 %"),
            [(r["group"], r["channels"], *r["dimensions"].values(), sparkline(r["energies"])) for r in found],
            right=(1, 2, 3, 4),
        )
        if plot is not None:
            OUT.print(f"plot: {plot}", markup=False)
    timed = whole["latency_ms"]
    OUT.print(
        f"\n[bold]{amount(counts.params)}[/] parameters ({amount(counts.nonzeros)} not zero), [bold]{amount(counts.macs)}[/] MACs, "
        f"[bold]{size(whole['size_bytes'])}[/] on disk"
    )
    if timed:
        OUT.print(
            f"latency {timed['median']:.3g} ms median, {timed['p95']:.3g} ms p95 (batch {timed['batch']}, {timed['threads']} "
            f"threads, {timed['device']})"
        )


def _spectra(
    network: GraphNetwork, data: Data, preprocess: Preprocess | None, samples: int, device: torch.device
) -> list[dict[str, Any]]:
    """A row a group of channels, in order of execution."""
    from netpress.cli.console import TerminalProgress
    from netpress.data import ImageStream
    from netpress.pipeline.spectra import spectra
    from netpress.structure import Channels

    stream = ImageStream(
        data.train, preprocess or data.preprocess, batch_size=128, shuffle=samples < len(data.train), device=device
    )
    found = spectra(Channels(network.to(device)), stream, samples=samples, progress=TerminalProgress())
    return [
        {
            "group": spectrum.group,
            "channels": spectrum.size,
            "samples": spectrum.samples,
            "dimensions": {f"{100 * energy:g} %": spectrum.dimensions(energy) for energy in ENERGIES},
            "energies": [round(value, 9) for value in spectrum.energies().tolist()],
        }
        for spectrum in found.values()
    ]


def sparkline(energies: Sequence[float]) -> str:
    """The energy that is left behind each share of the directions, as a line of bars."""
    left, bars = [1.0], []
    for energy in energies:
        left.append(left[-1] - energy)
    for place in range(WIDTH):
        rest = left[min(len(energies), round(place * len(energies) / WIDTH))]
        height = 0.0 if rest <= 0 else max(0.0, 1 + math.log10(rest) / DEPTH)
        bars.append(BARS[round(height * (len(BARS) - 1))] if height > 0 else " ")
    return "".join(bars)
