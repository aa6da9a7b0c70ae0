"""Two libraries' cuts of one network, seed by seed: right answers, losses, and whether they differ by more than chance.

    python evidence/structure/pairs.py judge evidence/structure/resnet runs/structure_resnet
    python evidence/structure/pairs.py table evidence/structure/resnet     # from judged.jsonl, without the files

``judge`` runs every network of a comparison's folder on 5,000 of the images that it was trained on, without augmentation (the
training loss: cross entropy), on x_train[40000:] (images that no retraining saw, but the originals' own training did) and on the test
split. ``judged.jsonl`` keeps a digit an image for those two splits, so that networks can be compared image by image.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from netpress import artifact
from netpress.data import Preprocess, open_data
from netpress.measure import agreement, predictions

FITTED = "npz:{root}/cifar10.npz?train=train[:5000]"
BESIDE = "npz:{root}/cifar10.npz?train=train[40000:]"
OURS = "blockwise"

Row = dict[str, Any]


def judge(folder: Path, run: Path) -> None:
    """``judged.jsonl``: a row a network; those that it has are left."""
    root = os.environ["NETPRESS_DATA"]
    fitted, beside = (open_data(spec.format(root=root)) for spec in (FITTED, BESIDE))
    file = folder / "judged.jsonl"
    known = {row["file"] for row in _rows(file)} if file.exists() else set()
    with file.open("a", encoding="utf-8") as out:
        for row in _rows(folder / "ledger.jsonl"):
            name = Path(row["result"]["file"]).name if row["kind"] == "job" and row["status"] == "done" else None
            if name is None or name in known:
                continue
            found = artifact.read(run / "files" / name)
            assert found.preprocess is not None
            how = Preprocess.from_dict(dict(found.preprocess))
            outputs = predictions(found.network, fitted.train, how)
            loss = F.cross_entropy(outputs, torch.as_tensor(fitted.train.labels)).item()
            judged = {
                **{key: row[key] for key in ("network", "budget", "recipe", "seed")},
                "file": name,
                "cost": row["result"]["after"]["cost"],
                "training_loss": loss,
                "beside": _digits(found.network, beside.train, how),
                "test": _digits(found.network, beside.test, how),
            }
            out.write(json.dumps(judged) + "\n")
            out.flush()


def _rows(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _digits(network: torch.nn.Module, split: Any, how: Preprocess) -> str:
    return "".join(map(str, predictions(network, split, how).argmax(1).tolist()))


def table(rows: list[Row], truth: dict[str, torch.Tensor]) -> Iterator[str]:
    """The page's lines."""
    yield "# Channels cut by two libraries, then trained by one loop"
    yield ""
    yield "Means over seeds, the largest distance from them behind ±. Training loss: cross entropy on 5,000 training images without"
    yield "augmentation. x_train[40000:]: images that the retraining did not see, but the original's own training did."
    for network, budget in dict.fromkeys((row["network"], row["budget"]) for row in rows):
        here = [row for row in rows if (row["network"], row["budget"]) == (network, budget)]
        yield f"\n## {network}, {budget}\n"
        yield "| recipe | seeds | MACs | params | training loss | x_train[40000:] | test |"
        yield "|---|---:|---:|---:|---:|---:|---:|"
        for recipe in dict.fromkeys(row["recipe"] for row in here):
            of = [row for row in here if row["recipe"] == recipe]
            macs, params = (_same({row["cost"][key] for row in of}) for key in ("macs", "params"))
            loss = _spread([row["training_loss"] for row in of], "{:.4f}")
            beside, test = (
                _spread([100 * _right(row[key], truth[key]) / len(row[key]) for row in of], "{:.2f}") + " %"
                for key in ("beside", "test")
            )
            yield f"| {recipe} | {len(of)} | {macs} | {params} | {loss} | {beside} | {test} |"
        yield ""
        yield f"| seed | {OURS} against | training loss | right on x_train[40000:] | p | right on test | p |"
        yield "|---:|---|---:|---:|---:|---:|---:|"
        for ours in (row for row in here if row["recipe"] == OURS):
            for theirs in (row for row in here if row["recipe"] != OURS and row["seed"] == ours["seed"]):
                cells = [f"{ours['training_loss']:.4f} : {theirs['training_loss']:.4f}"]
                for key in ("beside", "test"):
                    right = [_right(row[key], truth[key]) for row in (ours, theirs)]
                    p = agreement(_answers(ours[key]), _answers(theirs[key]), truth[key].numpy()).p_value
                    cells += [f"{right[0]:,} : {right[1]:,}", f"{p:.2g}"]
                yield f"| {ours['seed']} | {theirs['recipe']} | " + " | ".join(cells) + " |"
    yield ""
    yield "p: exact McNemar test on the same images."


def _answers(digits: str) -> torch.Tensor:
    return torch.tensor([int(d) for d in digits])


def _right(digits: str, truth: torch.Tensor) -> int:
    return int((_answers(digits) == truth).sum())


def _same(values: set[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _spread(values: list[float], how: str) -> str:
    mean = statistics.fmean(values)
    return how.format(mean) + (" ± " + how.format(max(abs(v - mean) for v in values)) if len(values) > 1 else "")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("judge", "table"))
    parser.add_argument("folder", type=Path, help="of ledger.jsonl, judged.jsonl and pairs.md")
    parser.add_argument("run", type=Path, nargs="?", help="the comparison's own folder, with its files (judge)")
    given = parser.parse_args()
    if given.what == "judge":
        judge(given.folder, given.run)
    data = open_data(BESIDE.format(root=os.environ["NETPRESS_DATA"]))
    truth = {"beside": torch.as_tensor(data.train.labels), "test": torch.as_tensor(data.test.labels)}
    rows = _rows(given.folder / "judged.jsonl")
    (given.folder / "pairs.md").write_text("\n".join(table(rows, truth)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
