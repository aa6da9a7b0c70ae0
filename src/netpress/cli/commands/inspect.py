"""netpress inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netpress.cli import options
from netpress.cli.console import OUT, amount, print_json, size, table


def run(file: Annotated[Path, typer.Argument(help="A .netpress file.")], as_json: options.JSON = False) -> None:
    """What a file holds, tensor by tensor, and where its bytes go.

    Example: `netpress inspect small.netpress`
    """
    from netpress import artifact

    document = artifact.inspect(file)
    if as_json:
        print_json(document)
        return
    table(
        str(file.name),
        ("tensor", "dtype", "shape", "codec", "bytes", "bits a weight", "entropy", "density", "values"),
        [
            (
                t["name"],
                t["dtype"],
                "x".join(map(str, t["shape"])) or "scalar",
                t["codec"],
                amount(t["size_bytes"]),
                _number(t["bits_per_weight"]),
                _number(t["entropy_bits"]),
                _number(t["density"]),
                amount(t["distinct_values"]),
            )
            for t in document["tensors"]
        ],
        right=(4, 5, 6, 7, 8),
    )
    OUT.print()
    sections = document["size_bytes"]
    table("Bytes", ("section", "bytes"), [(k, amount(v)) for k, v in sections.items()], right=(1,))
    OUT.print(
        f"\n{size(sections.get('total'))}, format {document['format_version']}, sha256 {document['sha256'][:16]}…"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
