"""Options that several commands share: one wording each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NET = Annotated[
    str,
    typer.Argument(metavar="NET", help="Zoo name, torchvision:NAME, timm:NAME, file.py:callable or a .netpress file."),
]
DATA = Annotated[
    str,
    typer.Option(
        "--data", "-d", metavar="DATA", help="digits, cifar10, ..., npz:FILE, folder:DIR or file.py:callable."
    ),
]
DATA_ROOT = Annotated[
    Path | None,
    typer.Option(
        "--data-root", help="Folder of the official data files. Default: NETPRESS_DATA, else ~/.cache/netpress/data."
    ),
]
WEIGHTS = Annotated[
    str | None, typer.Option("--weights", "-w", help="A .safetensors file, or the name of a pretrained network.")
]
INPUT = Annotated[
    str | None, typer.Option("--input", metavar="C,H,W", help="Input shape, for networks that do not say theirs.")
]
SEED = Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")]
DEVICE = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
JSON = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; everything else goes to stderr.")]
QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
SET = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="FIELD=VALUE",
        help="Set a field of a method, or training.FIELD, distill.FIELD. Repeatable.",
    ),
]


def input_shape(text: str | None) -> tuple[int, ...] | None:
    """``"3,224,224"`` as (3, 224, 224).

    Raises:
        ConfigError: Anything but positive integers.
    """
    return None if text is None else counts(text, "--input", "3,224,224")


def counts(text: str, option: str, example: str) -> tuple[int, ...]:
    """``"1,32"`` of an option as (1, 32).

    Raises:
        ConfigError: Anything but positive integers.
    """
    from netpress.errors import ConfigError

    try:
        found = tuple(int(piece) for piece in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise ConfigError(f"{option} cannot be read", got=repr(text), allowed=f"positive integers, such as {example}")
    return found
