"""All commands in one place; each lives in a file of ``commands/``."""

from __future__ import annotations

import typer

from netpress._version import __version__
from netpress.cli.commands import (
    bench,
    compare,
    compress,
    demo,
    evaluate,
    export,
    inspect,
    methods,
    profile,
    run,
    train,
)

app = typer.Typer(
    name="netpress",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Press a neural network until it fits, and know what it cost.

    Start with `netpress demo`, or `netpress profile resnet20`. NET is a name of the zoo (`vgg16_bn`, `resnet20`, ...),
    `torchvision:NAME`, `timm:NAME`, `file.py:callable` or a `.netpress` file. DATA is `digits`, `cifar10`, `cifar100`,
    `stl10`, `mnist`, `svhn`, `npz:FILE`, `folder:DIR` or `file.py:callable`; a selection may follow, as in
    `'npz:c.npz?train=train[:40000]&test=train[40000:]'`.
    """


app.command("methods")(methods.run)
app.command("profile")(profile.run)
app.command("train")(train.run)
app.command("compress")(compress.run)
app.command("eval")(evaluate.run)
app.command("inspect")(inspect.run)
app.command("run")(run.run)
app.command("export")(export.run)
app.command("compare")(compare.run)
app.command("bench")(bench.run)
app.command("demo")(demo.run)
