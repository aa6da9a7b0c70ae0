"""netpress inspect"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netpress.cli import options
from netpress.cli.console import OUT, amount, print_json, share, size, table

_PARTS = {
    "structure": "graph, table of the tensors, payloads up to 16 bytes, metadata; compressed",
    "tensors": "payloads",
    "checksum": "",
    "overhead": "header",
}


def run(file: Annotated[Path, typer.Argument(help="A .netpress file.")], as_json: options.JSON = False) -> None:
    """What a file holds, tensor by tensor, and where its bytes go.

    Example: `netpress inspect small.netpress`
    """
    from netpress import artifact

    document = artifact.inspect(file)
    if as_json:
        print_json(document)
        return
    totals, total = document["totals"], document["size_bytes"]
    rows = [
        (
            t["name"],
            t["dtype"].replace("float", "f").replace("int", "i"),
            "x".join(map(str, t["shape"])) or "-",
            t["codec"],
            amount(t["size_bytes"]),
            _number(t["bits_per_weight"]),
            _number(t["entropy_bits"]),
            _number(t["density"]),
            amount(t["distinct_values"]),
        )
        for t in document["tensors"]
    ]
    sums = (totals["bits_per_weight"], totals["entropy_bits"], totals["density"])
    last = (
        f"all {len(rows)}",
        "",
        amount(totals["values"]),
        "",
        amount(totals["size_bytes"]),
        *map(_number, sums),
        "",
    )
    table(
        f"{file.name}: bits and H0 (zero-order entropy) are a weight",
        ("tensor", "type", "shape", "codec", "bytes", "bits", "H0", "density", "values"),
        [*rows, last],
        right=(4, 5, 6, 7, 8),
    )
    OUT.print()
    table(
        "Where the bytes go",
        ("part", "bytes", "share", ""),
        [
            *(
                (name, amount(count), share(count, total), _PARTS[name])
                for name, count in document["section_bytes"].items()
            ),
            ("total", amount(total), "", ""),
        ],
        right=(1, 2),
    )
    OUT.print(
        f"\n{size(total)}, {totals['ratio']:.3g} x smaller than float32 ({size(totals['float32_bytes'])}); "
        f"format {document['format_version']}, sha256 {document['sha256']}",
        highlight=False,
        soft_wrap=True,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
