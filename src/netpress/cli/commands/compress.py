"""netpress compress"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netpress.cli import options
from netpress.cli.console import ERR, OUT, TerminalProgress, amount, judged, print_json, share, size, table


def run(
    net: options.NET,
    data: options.DATA,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="A method's name (see `netpress methods`) or a recipe in YAML.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where the .netpress file goes; needed unless nothing is written."),
    ] = None,
    weights: options.WEIGHTS = None,
    at: Annotated[str | None, typer.Option(help="Cut before this module (see the cuts in `netpress profile`).")] = None,
    settings: options.SET = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget", "-b", help="params=30%, macs=50M, bytes=500kB or latency_ms=2; repeatable, all must hold."
        ),
    ] = None,
    codec: Annotated[
        str,
        typer.Option(
            help="How tensors are stored: auto (fewest bytes), fast (of those that multiply fast in coded form) or a codec."
        ),
    ] = "auto",
    data_root: options.DATA_ROOT = None,
    work_dir: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints. Default: OUT.work beside OUT; gone when done.")
    ] = None,
    print_recipe: Annotated[
        bool, typer.Option("--print-recipe", help="Print the whole recipe (YAML; with --json JSON) and stop.")
    ] = False,
    plan_only: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Show in seconds the widths, counts and latency that the budget will lead to; nothing is trained.",
        ),
    ] = False,
    device: options.DEVICE = "auto",
    seed: options.SEED = 0,
    quiet: options.QUIET = False,
    as_json: options.JSON = False,
) -> None:
    """Make a network smaller, and write one file that is.

    Without labels the recipe must not need them. A run that is killed and started again goes on.

    Example: `netpress compress vgg16_bn -w cifar10_vgg16bn -d cifar10 -r ahosvd --at features.24 -b params=13% -o small.netpress`
    """
    from netpress import codecs
    from netpress.data import open_data
    from netpress.errors import ConfigError
    from netpress.pipeline import Budget, Recipe, compress, open_network, plan

    chosen = Recipe.read(recipe).with_settings(settings or [])
    if print_recipe and as_json:
        print_json(chosen.as_dict())
        return
    if print_recipe:
        typer.echo(chosen.to_yaml(), nl=False)  # as it is: wrapped YAML may be another YAML
        return
    progress = TerminalProgress(quiet=quiet)
    limits = Budget.parse(budget)
    if codec not in (codecs.AUTO, codecs.FAST):
        codecs.codec_by_name(codec)  # a wrong name is told before the work
    if out is None and not plan_only:
        raise ConfigError(
            "there is no place for the file", allowed="-o FILE", remedy="-o small.netpress, or --plan to see first"
        )
    if out is not None and out.is_dir():
        raise ConfigError(
            "--out is a folder", got=str(out), allowed="the file to write", remedy=f"-o {out / 'small.netpress'}"
        )
    source = open_data(data, root=data_root, seed=seed, progress=progress)
    opened = open_network(net, weights=weights, data=source, seed=seed)
    if weights is None and not net.endswith(".netpress"):
        ERR.print("[yellow]note[/]  no --weights: the network starts from its own initial values", highlight=False)
    if plan_only or out is None:
        planned = plan(
            opened.network,
            chosen,
            source,
            limits,
            preprocess=opened.preprocess,
            seed=seed,
            device=device,
            progress=progress,
        ).as_dict()
        if as_json:
            print_json(planned)
        else:
            _show_plan(planned)
        return
    result = compress(
        opened.network,
        chosen,
        source,
        limits,
        at=at,
        preprocess=opened.preprocess,
        seed=seed,
        device=device,
        progress=progress,
        work_dir=work_dir or out.with_name(out.name + ".work"),
        out=out,
        codec=codec,
    )
    document = result.as_dict()
    if as_json:
        print_json(document)
    else:
        _show(document, out)


def _show(document: dict[str, Any], out: Path) -> None:
    before, after = document["before"], document["after"]
    costs = before["cost"], after["cost"]
    rows = _cost_rows(*costs)
    rows.append(("test", judged(before["quality"]), judged(after["quality"]), ""))
    rows.append(("held out", "", judged(document["held_out"]), ""))
    table(
        f"{document['recipe']['name']}, seed {document['seed']}",
        ("", "before", "after", "share"),
        rows,
        right=(1, 2, 3),
    )
    for warning in document["warnings"]:
        OUT.print(f"[yellow]note[/]  {warning}")
    OUT.print(f"written: {out} ({document['minutes']:.1f} min)", markup=False, soft_wrap=True)


def _cost_rows(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [
        (name, form(before[key]), form(after[key]), share(after[key], before[key]))
        for name, key, form in (
            ("parameters", "params", amount),
            ("MACs", "macs", amount),
            ("file", "size_bytes", size),
        )
    ]
    if before["latency_ms"] and after["latency_ms"]:
        medians = [cost["latency_ms"]["median"] for cost in (before, after)]
        rows.append(("latency, median", f"{medians[0]:.3g} ms", f"{medians[1]:.3g} ms", share(medians[1], medians[0])))
    return rows


def _show_plan(document: dict[str, Any]) -> None:
    widths = [
        (row["group"], len(row["modules"]), row["channels"], row["kept"], share(row["kept"], row["channels"]))
        for row in document["widths"]
    ]
    table("channels", ("made by", "modules", "before", "after", "share"), widths, right=(1, 2, 3, 4))
    rows = _cost_rows(document["before"]["cost"], document["after"]["cost"])
    table(
        f"plan of {document['recipe']['name']}, nothing trained",
        ("", "before", "after", "share"),
        rows,
        right=(1, 2, 3),
    )
    for warning in document["warnings"]:
        OUT.print(f"[yellow]note[/]  {warning}")
