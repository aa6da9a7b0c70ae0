"""netpress profile"""

from __future__ import annotations

from typing import Annotated

import typer

from netpress.cli import options
from netpress.cli.console import OUT, amount, print_json, share, size, table


def run(
    net: options.NET,
    weights: options.WEIGHTS = None,
    shape: options.INPUT = None,
    batch: Annotated[int, typer.Option(help="Batch size of the latency.")] = 1,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the latency. Default: torch's.")] = None,
    latency: Annotated[bool, typer.Option(help="Measure the latency (a second or two).")] = True,
    device: options.DEVICE = "cpu",
    seed: options.SEED = 0,
    as_json: options.JSON = False,
) -> None:
    """What a network costs: parameters, MACs, bytes, latency, layer by layer, and where it can be cut.

    Example: `netpress profile resnet20`
    """
    from netpress import artifact
    from netpress.graph import count, legal_cuts, trace
    from netpress.measure import cost
    from netpress.pipeline import open_network, pick_device

    opened = open_network(net, weights=weights, input_shape=options.input_shape(shape), seed=seed)
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
