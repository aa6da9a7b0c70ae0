"""``table.md`` from ``ledger.jsonl``: NNCodec's smallest bitstreams within a limit of loss, and its curves.

Needs the ledger alone: neither data nor NNCodec.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nncodec_points import LIMITS, NETWORKS, Row, Setting, front, ledger, smallest

TABLE = Path(__file__).parent / "table.md"
POINTS_SHOWN = 0.05  # the curves end where more than this share of the test images is lost

_DEFAULTS = Setting(0).as_dict()


def table(rows: list[Row]) -> Iterator[str]:
    """The page's lines."""
    versions = sorted({row["versions"]["nncodec"] for row in rows})
    yield f"# NNCodec {', '.join(versions)} without retraining: whole bitstreams in bytes"
    yield ""
    yield "Smallest of all settings that were tried, the test images themselves choosing (which favours NNCodec)."
    yield ""
    yield "| network | float32 | limit | bytes | smaller | test | held out | settings judged | setting |"
    yield "|---|---:|---|---:|---:|---:|---:|---:|---|"
    networks = [each.name for each in NETWORKS if any(row["network"] == each.name for row in rows)]
    of = {name: [row for row in rows if row["network"] == name] for name in networks}
    originals = {name: next(row for row in of[name] if row["setting"] is None) for name in networks}
    for name in networks:
        original, tried = originals[name], [row for row in of[name] if row["setting"]]
        for limit, share in LIMITS.items():
            defaults = [row for row in tried if _is_default(row)]
            for label, among in ((limit, tried), (f"{limit}, default options", defaults)):
                yield _line(name, label, smallest(among, original, share), original, len(among))
    yield ""
    yield "## The curves"
    for name in networks:
        original = originals[name]
        yield from (
            "",
            f"### {name}",
            "",
            "| bytes | smaller | test | held out | setting |",
            "|---:|---:|---:|---:|---|",
        )
        least = original["correct_test"] - POINTS_SHOWN * original["count_test"]
        for row in front(of[name]):
            if row["correct_test"] >= least:
                cells = (
                    f"{row['bytes']:,}",
                    _times(row, original),
                    _right(row, "test"),
                    _right(row, "held_out"),
                    _said(row),
                )
                yield f"| {' | '.join(cells)} |"


def _line(name: str, limit: str, row: Row, original: Row, tried: int) -> str:
    cells = (
        name,
        f"{original['bytes']:,}; {_right(original, 'test')}",
        limit,
        f"{row['bytes']:,}",
        _times(row, original),
    )
    return f"| {' | '.join((*cells, _right(row, 'test'), _right(row, 'held_out'), str(tried), _said(row)))} |"


def _times(row: Row, original: Row) -> str:
    return f"{original['bytes'] / row['bytes']:.1f}×"


def _right(row: Row, judged: str) -> str:
    correct = row[f"correct_{judged}"]
    return "" if correct is None else f"{correct:,}/{row[f'count_{judged}']:,}"


def _is_default(row: Row) -> bool:
    return all(value == _DEFAULTS[name] for name, value in row["setting"].items() if name != "qp")


def _said(row: Row) -> str:
    """The qp, and what differs from NNCodec's defaults."""
    if row["setting"] is None:
        return "as it came"
    return ", ".join(
        f"{name} {value}" for name, value in row["setting"].items() if name == "qp" or value != _DEFAULTS[name]
    )


if __name__ == "__main__":
    TABLE.write_text("\n".join(table(ledger())) + "\n", encoding="utf-8")
