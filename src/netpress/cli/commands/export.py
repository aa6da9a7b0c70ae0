"""netpress export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netpress.cli import options
from netpress.cli.console import OUT, TerminalProgress, print_json, size


def run(
    file: Annotated[Path, typer.Argument(help="A .netpress file.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORM",
            help="c (a folder), executorch, onnx, openvino (NAME.xml), safetensors or torch-export.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file or folder to write.")],
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", metavar="DATA", help="Test images that both answer; compared one by one."),
    ] = None,
    data_root: options.DATA_ROOT = None,
    seed: options.SEED = 0,
    quiet: options.QUIET = False,
    as_json: options.JSON = False,
) -> None:
    """A file's network in a form that others run; what is written is run, and kept only where it answers the same.

    Example: `netpress export small.netpress --to onnx -o small.onnx --data cifar10`
    """
    from netpress.data import open_data
    from netpress.export import export, target_by_name

    progress = TerminalProgress(quiet=quiet)
    target_by_name(to)  # a misspelt name is said before data are read
    source = None if data is None else open_data(data, root=data_root, progress=progress)
    done = export(file, to, output, data=source, seed=seed, progress=progress)
    if as_json:
        print_json(done.as_dict())
        return
    OUT.print(f"{done.path.name}: {size(done.size_bytes)} ({to}), written and run", highlight=False)
    OUT.print(f"largest difference {done.max_abs_difference:.3g} over {done.samples:,} inputs", highlight=False)
    if done.quality:
        q = done.quality
        OUT.print(
            f"on {q['data']}: {q['correct']:,} of {q['count']:,} right, exported {q['correct_exported']:,}; "
            f"{q['answered_differently']} answered differently",
            highlight=False,
        )
    said = {key: value for key, value in done.about.items() if key != "versions"} | done.about.get("versions", {})
    OUT.print(", ".join(f"{key} {value}" for key, value in said.items()), highlight=False)
