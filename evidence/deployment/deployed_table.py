"""``deployed.md`` from ``ledger.jsonl`` and ``deployed.jsonl``; `deploy.py` makes the latter, and calls this."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INT8 = " + int8"
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "executorch": "ExecuTorch"}

Row = dict[str, Any]


def write(folder: Path) -> None:
    """The table of one comparison."""
    deployed = list(_rows(folder / "deployed.jsonl"))
    ledger = list(_rows(folder / "ledger.jsonl"))
    jobs = [row for row in ledger if row["kind"] == "job" and row["status"] == "done"]
    lines = [f"# {ledger[0]['title']}", ""]
    for network in dict.fromkeys(row["network"] for row in jobs):
        own = [row for row in deployed if row["network"] == network]
        lines += [f"## {network}", "", *_accuracy_and_time(jobs, own, network), "", *_agreement(own), ""]
    lines += [
        "Accuracy is that of the file in netpress, on the test images. Latency is the median over rounds of a network's time over",
        "the original's in the same runtime and round, batch 1, one thread, float32 originals: below 1 is faster. In the second table",
        "stands the largest difference of any output from the file's own, and of how many test images the answer is another one;",
        "networks of integers may round a value to the other side of a step.",
    ]
    (folder / "deployed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _accuracy_and_time(jobs: list[Row], own: list[Row], network: str) -> list[str]:
    files = {row["recipe"]: row["result"]["after"] for row in jobs if row["network"] == network}
    files |= {row["recipe"]: row["result"].get("after") for row in own if row["kind"] == "file"}
    times = {
        (row["recipe"], row["runtime"]): row["ratio"]
        for found in own
        if found["kind"] == "latency"
        for row in found["result"].get("rows", [])
    }
    runtimes = list(dict.fromkeys(runtime for _, runtime in times))
    head = ["network", "params", "file kB", "right", *(f"time in {RUNTIMES[name]}" for name in runtimes)]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    plain = [row["recipe"] for row in jobs if row["network"] == network]
    for recipe in [*plain, *(recipe + INT8 for recipe in plain)]:
        after = files.get(recipe)
        if after is None:
            lines.append(f"| {recipe} | failed {'|' * (len(head) - 1)}")
            continue
        cost, quality = after["cost"], after["quality"]
        ratios = [f"{times[recipe, name]:.2f}" if (recipe, name) in times else "" for name in runtimes]
        right = f"{quality['correct']:,} of {quality['count']:,}"
        lines.append(
            f"| {recipe} | {cost['params']:,} | {cost['size_bytes'] / 1e3:,.1f} | {right} | {' | '.join(ratios)} |"
        )
    return lines


def _agreement(own: list[Row]) -> list[str]:
    exports = {(row["recipe"], row["runtime"]): row["result"] for row in own if row["kind"] == "export"}
    runtimes = list(dict.fromkeys(runtime for _, runtime in exports))
    lines = [f"| exported | {' | '.join(RUNTIMES[name] for name in runtimes)} |", f"|---|{'---|' * len(runtimes)}"]
    for recipe in dict.fromkeys(recipe for recipe, _ in exports):
        cells = [_cell(exports.get((recipe, name))) for name in runtimes]
        lines.append(f"| {recipe} | {' | '.join(cells)} |")
    return lines


def _cell(result: Row | None) -> str:
    if result is None:
        return "not run"
    if "failed" in result:
        return "failed: " + " ".join(result["failed"].split())[:100].replace("|", "/")
    quality = result["quality"]
    return f"{result['max_abs_difference']:.1e}, {quality['answered_differently']} of {quality['count']:,}"


def _rows(file: Path) -> Iterator[Row]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
