"""``choice/choice.md`` from ``choice/ledger.jsonl``: for each kind of layers the technique that made the smallest file within a limit.

    python evidence/values/choice_table.py

Needs the ledger and netpress, no data. ψ is what the layers of that kind take in the file over what they take as float32; layers of the
other kind are float32 in both files, so that the difference of the files is the layers' own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netpress import zoo
from netpress.pipeline.values import layers_of

FOLDER = Path(__file__).parent / "choice"
NETS = {"LeNet-5": "lenet5", "DeepDTA": "deepdta"}
KINDS = {"fc": "fully-connected", "conv": "convolutional"}
TECHNIQUES = ("Pr", "CWS", "PWS", "UQ", "ECSQ", "Pr-CWS", "Pr-PWS", "Pr-UQ", "Pr-ECSQ", "RDO")
#: Limit: points of accuracy, and the share of the squared error, that may be lost.
LIMITS = {"no loss": (0.0, 0.0), "≤ .5 point, ≤ 2 % of the error": (0.5, 0.02)}

Row = dict[str, Any]


def technique(recipe: str) -> str:
    """``conv Pr 0.3 CWS 32`` is ``Pr-CWS``."""
    return "-".join(word for word in recipe.split()[1:] if word.isalpha())


def retrained(row: Row) -> bool:
    """``fc Pr 0.1 UQ 32 +2``: with two epochs of retraining after every step of the chain."""
    return "+" in str(row["recipe"])


def lost(row: Row) -> tuple[float, float]:
    """Points of accuracy lost, and the share by which the squared error rose."""
    before, after = (row["result"][side]["quality"] for side in ("before", "after"))
    if before["metric"] == "accuracy":
        return 100 * (before["correct"] - after["correct"]) / before["count"], 0.0
    return 0.0, after["value"] / before["value"] - 1


def dense_bytes(network: str, kind: str) -> int:
    """Of the weights of that kind, as float32."""
    net = zoo.build(NETS[network])
    return sum(4 * net.get_parameter(layer.name).numel() for layer in layers_of(net, (kind,)))


def size(row: Row, side: str = "after") -> int:
    """Bytes of the whole file."""
    return int(row["result"][side]["cost"]["size_bytes"])


def psi(row: Row, kind: str, dense: int) -> float:
    """Coded over dense, of the layers of that kind."""
    return (size(row) - size(row, "before") + dense) / dense


def judged(row: Row, side: str) -> str:
    quality = row["result"][side]["quality"]
    if quality["metric"] == "accuracy":
        return f"{quality['correct']:,}/{quality['count']:,}"
    return f"{quality['value']:.4f}"


def table(rows: list[Row]) -> Iterator[str]:
    """The page's lines."""
    yield "# Which technique makes the smallest file"
    for trained, how in ((False, "without retraining"), (True, "with retraining")):
        mine = [row for row in rows if retrained(row) == trained]
        for name, limit in LIMITS.items():
            yield f"\n## {name}, {how}\n"
            yield from smallest(mine, *limit)
    yield "\n## All points\n"
    yield "| network | layers | technique | file | ψ | test | lost |"
    yield "|---|---|---|---:|---:|---:|---:|"
    for network in NETS:
        for kind, words in KINDS.items():
            dense = dense_bytes(network, kind)
            for row in rows:
                if row["network"] == network and row["recipe"].startswith(kind + " "):
                    points, share = lost(row)
                    metric = row["result"]["before"]["quality"]["metric"]
                    away = f"{points:+.2f} points" if metric == "accuracy" else f"{100 * share:+.2f} %"
                    yield (
                        f"| {network} | {words} | {row['recipe'].removeprefix(kind + ' ')} | {size(row):,} | "
                        f"{psi(row, kind, dense):.4f} | {judged(row, 'after')} | {away} |"
                    )


def smallest(rows: list[Row], points: float, share: float) -> Iterator[str]:
    """Of each network and kind of layers the technique with the smallest file within the limit, and who comes next."""
    yield "| network, test metric | layers | original | smallest by | ψ | test | second | ψ | best without RDO | ψ |"
    yield "|---|---|---:|---|---:|---:|---|---:|---|---:|"
    for network in NETS:
        for kind, words in KINDS.items():
            of = [r for r in rows if r["network"] == network and r["recipe"].startswith(kind + " ")]
            if not of:
                continue
            dense = dense_bytes(network, kind)
            good = sorted((r for r in of if lost(r)[0] <= points and lost(r)[1] <= share), key=size)
            best = {t: next((r for r in good if technique(r["recipe"]) == t), None) for t in TECHNIQUES}
            ranked = sorted((r for r in best.values() if r), key=size)
            classic = [r for r in ranked if technique(r["recipe"]) != "RDO"]

            def cell(row: Row | None, kind: str = kind, dense: int = dense) -> str:
                if row is None:
                    return "none | "
                return f"{row['recipe'].removeprefix(kind + ' ')} | {psi(row, kind, dense):.4f}"

            first, second, third = (next(iter(found), None) for found in (ranked, ranked[1:], classic))
            metric = of[0]["result"]["before"]["quality"]["metric"]
            yield (
                f"| {network}, {metric} | {words} | {judged(of[0], 'before')} | {cell(first)} | "
                f"{judged(first, 'after') if first else ''} | {cell(second)} | {cell(third)} |"
            )


def main() -> None:
    """Writes the page."""
    lines = (FOLDER / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "job" and row["status"] == "done"]
    (FOLDER / "choice.md").write_text("\n".join(table(rows)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
