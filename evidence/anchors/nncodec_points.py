"""NNCodec 2.1.3 (ISO/IEC 15938-17) on networks of the zoo: bytes against right answers, without retraining.

Encodes each network under many settings, decodes the bitstream, runs the decoded network and appends a row to ``ledger.jsonl``;
a setting that the ledger has is not run again. `README.md` says how to make the environment and run it; `nncodec_table.py` makes
the table from the ledger alone.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nncodec_bench import Bench

LEDGER = Path(__file__).parent / "ledger.jsonl"
LIMITS = {"no loss": 0.0, "≤ .5 point": 0.005, "≤ 1 point": 0.01}
FINEST = {True: -64, False: -48}  # a step of 2 ** -8 for small networks, of 2 ** -6 for others
COARSEST, STRIDE = 16, 4  # in half octaves to a step of 4; then every qp beside a limit
WORST = 0.02  # a sweep stops where more than this share of the answers is lost

Row = dict[str, Any]


@dataclass(frozen=True)
class Network:
    """A pretrained network of the zoo, and the images that judge it."""

    name: str
    weights: str
    data: str
    held_out: str
    """Rows of the data set's training part; they decide nothing here."""
    small: bool
    """Whether a point takes about a second: then more settings are tried, and more of them judged on the held-out images."""


NETWORKS = (
    Network("LeNet-300-100", "mnist_lenet300100", "mnist", "train[50000:]", True),
    Network("LeNet-5", "mnist_lenet5", "mnist", "train[50000:]", True),
    Network("ResNet-20", "cifar10_resnet20_akamaster", "cifar10", "train[40000:]", False),
    Network("ResNet-32", "cifar10_resnet32_akamaster", "cifar10", "train[40000:]", False),
    Network("ResNet-20b", "cifar10_resnet20b_distiller", "cifar10", "train[40000:]", False),
)


@dataclass(frozen=True)
class Setting:
    """What the encoder is told; the names are NNCodec's. Everything else is its default, row skipping apart (on)."""

    qp: int
    """Quantization step of the weights, 2 ** (qp / 8) about: smaller is finer."""
    nonweight_qp: int = -150
    """The same for biases and batch norms; -150 here is NNCodec's default of -75 at its own density."""
    use_dq: bool = True
    """Dependent (trellis-coded) quantization."""
    lambda_scale: float = 0.0
    """Weight of the rate in the quantizer's choice; the default is 0."""
    opt_qp: bool = False
    """Lets NNCodec set each layer's step by the layer's size and deviation."""
    bnf: bool = False
    """Folds batch norms into a scale and a bias."""
    ioq: bool = False
    """Inference-optimised quantization: tries each tensor's step on training images."""
    qp_density: int = 3
    """2 ** 3 steps to an octave; NNCodec's default is 2 ** 2."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Search:
    """The points of one network."""

    def __init__(self, network: Network, bench: Bench) -> None:
        self.network, self.bench = network, bench
        self.rows = {_key(row): row for row in ledger() if row["network"] == network.name}
        self.original = self.run(None, held_out=True)

    def run(self, setting: Setting | None, *, held_out: bool = False) -> Row:
        """The setting's row, from the ledger where that has it."""
        key = _key({"network": self.network.name, "setting": setting and setting.as_dict()})
        row = self.rows.get(key)
        if row is None or (held_out and row["correct_held_out"] is None):
            row = self.rows[key] = self.bench.row(setting, held_out=held_out)
            with LEDGER.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(
                *(row[name] for name in ("network", "bytes", "correct_test", "correct_held_out", "setting")), flush=True
            )
        return row

    def search(self) -> None:
        """NNCodec's defaults, then with and without trellis by the weight of the rate, then around the best so far."""
        self.sweep(Setting(0), whole=True)
        bnf = self.bench.has_batch_norm
        for rate in (0.0, 0.05, 0.1, 0.2, 0.4) if self.network.small else (0.0, 0.1, 0.2):
            for trellis in (True, False):
                self.sweep(Setting(0, nonweight_qp=-72, use_dq=trellis, lambda_scale=rate, bnf=bnf))
        for best in self.best():
            self.sweep(replace(best, qp=0, opt_qp=True))
        for share in LIMITS.values():
            for setting in _neighbours(Setting(**self.smallest(share)["setting"])):
                self.improve(setting, share)

    def sweep(self, family: Setting, *, whole: bool = False) -> None:
        """From fine to coarse steps, then every step beside the coarsest that keeps a limit.

        Unless ``whole``, points that are no smaller than the smallest known at no loss are not judged.
        """
        seen: dict[int, int] = {}

        def judge(qp: int) -> bool:
            """Whether it is worth going on to a coarser step."""
            setting = replace(family, qp=qp)
            if whole or self.bench.size(setting) < self.smallest(0.0)["bytes"]:
                seen[qp] = self.run(setting)["correct_test"]
            return seen.get(qp, self.least(0.0)) >= self.least(WORST)

        for qp in range(FINEST[self.network.small], COARSEST + 1, STRIDE):
            if not judge(qp):
                break
        for share in LIMITS.values():
            kept = [qp for qp, correct in seen.items() if correct >= self.least(share)]
            edge = max(kept) if kept else min(seen, default=COARSEST) - STRIDE
            for qp in range(edge + 1, edge + 2 * STRIDE):
                if qp not in seen and seen:
                    judge(qp)

    def improve(self, setting: Setting, share: float) -> None:
        """Steps near the setting's, judged where they are smaller than the best within this limit."""
        for qp in range(setting.qp - STRIDE, setting.qp + STRIDE + 1):
            near = replace(setting, qp=qp)
            if self.bench.size(near) < self.smallest(share)["bytes"]:
                self.run(near)

    def optimise_by_inference(self) -> None:
        """NNCodec's own search of a step for each tensor, at its own density, from the best without it and coarser ones."""
        for best in [setting for setting in self.best() if not setting.ioq]:
            for coarser in range(0, 13, 2) if self.network.small else (0, 4):
                setting = replace(best, qp=(best.qp + coarser) // 2, nonweight_qp=best.nonweight_qp // 2, qp_density=2)
                self.run(replace(setting, ioq=True))

    def least(self, share: float) -> float:
        """Right test answers of a network that has lost this share of them."""
        return self.original["correct_test"] - share * self.original["count_test"]

    def smallest(self, share: float) -> Row:
        return smallest(self.rows.values(), self.original, share)

    def best(self) -> list[Setting]:
        """The settings that are smallest within a limit, each once."""
        rows = (self.smallest(share) for share in LIMITS.values())
        return list(dict.fromkeys(Setting(**row["setting"]) for row in rows))

    def judge_held_out(self) -> None:
        """The held-out images for what the table shows: of small networks the whole front, of others the best within each limit."""
        shown = (
            [row for row in front(self.rows.values()) if row["correct_test"] >= self.least(WORST)]
            if self.network.small
            else []
        )
        for row in (*shown, *(self.smallest(share) for share in LIMITS.values())):
            if row["setting"]:
                self.run(Setting(**row["setting"]), held_out=True)


def _neighbours(best: Setting) -> Iterator[Setting]:
    """One option changed at a time."""
    for coarser in (8, 16, 24):
        yield replace(best, nonweight_qp=best.nonweight_qp + coarser)
    for factor in (0.5, 0.7, 1.4, 2):
        yield replace(best, lambda_scale=round((best.lambda_scale or 0.02) * factor, 4))


def smallest(rows: Iterable[Row], original: Row, share: float, judged: str = "test") -> Row:
    """The smallest bitstream that loses at most this share of the images; the original where none does."""
    enough = original[f"correct_{judged}"] - share * original[f"count_{judged}"]
    kept = (row for row in rows if row[f"correct_{judged}"] is not None and row[f"correct_{judged}"] >= enough)
    return min(kept, key=lambda row: row["bytes"], default=original)


def front(rows: Iterable[Row]) -> list[Row]:
    """The rows that no other beats in both bytes and right test answers, from small to large."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["bytes"], -row["correct_test"])):
        if not found or row["correct_test"] > found[-1]["correct_test"]:
            found.append(row)
    return found


def ledger() -> list[Row]:
    """All rows; of two for one setting the later, which has more."""
    if not LEDGER.is_file():
        return []
    rows = [json.loads(line) for line in LEDGER.read_text(encoding="utf-8").splitlines()]
    return list({_key(row): row for row in rows}.values())


def _key(row: Row) -> str:
    return json.dumps([row["network"], row["setting"]], sort_keys=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "networks", nargs="*", choices=[[], *(network.name for network in NETWORKS)], help="default: all"
    )
    parser.add_argument(
        "--ioq", action="store_true", help="also NNCodec's search on training images; many minutes for ResNets"
    )
    chosen = parser.parse_args()
    from nncodec_bench import Bench  # its packages are in one environment only; the table needs none of them

    for network in NETWORKS:
        if chosen.networks and network.name not in chosen.networks:
            continue
        search = Search(network, Bench(network, os.environ["NETPRESS_DATA"]))
        search.search()
        if chosen.ioq:
            search.optimise_by_inference()
        search.judge_held_out()


if __name__ == "__main__":
    main()
