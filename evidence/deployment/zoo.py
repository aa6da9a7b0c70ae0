"""Every network of the zoo, exported and compared: ``zoo/exported.jsonl`` and ``zoo/exported.md``.

    NETPRESS_WEIGHTS=<folder> NETPRESS_DATA=<folder of cifar10.npz and mnist.npz> python evidence/deployment/zoo.py
    python evidence/deployment/zoo.py --only-table

Pretrained networks answer 500 test images in netpress and in the runtime; all others have random weights, scaled so that every layer
gives values of about one, and random inputs alone are compared. Branches of three convolutions (ResNet-50 and deeper) are added to
their shortcut at a quarter of that, as a hundred sums of equals amplify the rounding of float32 beyond the tolerance, in netpress as
in any runtime: a difference of exports could not be told from it. Goyal et al., arXiv 1706.02677, let such branches begin at 0.
Networks of more parameters than --most are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from deploy import FORMS, exported, tried
from torch import Tensor, nn

from netpress import zoo
from netpress.artifact import save
from netpress.data import open_data
from netpress.graph import trace

FOLDER = Path(__file__).parent / "zoo"
DATA = {
    "cifar10": "npz:{root}/cifar10.npz?train=train[:100]",
    "mnist": "npz:{root}/mnist.npz?train=train[:100]&test=test[:500]",
}
TOLERANCE = 1e-4
BRANCH = 0.25  # of a branch's last normalisation

Row = dict[str, Any]


def export_all(most: int) -> None:
    """What is not in ``exported.jsonl`` yet."""
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "exported.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    known = {
        (row["weights"] or row["network"], row["runtime"], row.get("branch"))
        for row in rows
        if "failed" not in row["result"]
    }
    trained = {known.network for known in zoo.PRETRAINED.values()}
    for name in (*zoo.PRETRAINED, *(name for name in zoo.names() if name not in trained)):
        weights = name if name in zoo.PRETRAINED else None
        if weights:
            network, preprocess = zoo.load_pretrained(weights, os.environ["NETPRESS_WEIGHTS"])
            entry = zoo.entry(zoo.pretrained(weights).network)
        else:
            entry = zoo.entry(name)
            network, preprocess = zoo.build(name, seed=0), entry.preprocess
        if sum(p.numel() for p in network.parameters()) > most:
            continue
        branch = None if weights else _weigh_branches(network)
        with tempfile.TemporaryDirectory() as aside:
            stored = Path(aside) / "it.netpress"
            if not all((name, runtime, branch) in known for runtime in FORMS):
                if not weights:
                    _of_order_one(network, entry.input_shape, bool(preprocess.get("indices")))
                if preprocess.get("indices"):
                    network = _of_indices(network, entry.input_shape)
                save(stored, network, input_shape=entry.input_shape, preprocess=dict(preprocess), codec="dense")
            for runtime in FORMS:
                if (name, runtime, branch) in known:
                    continue
                spec = DATA[weights.split("_")[0]].format(root=os.environ["NETPRESS_DATA"]) if weights else None
                found = tried(exported, stored, runtime, None if spec is None else open_data(spec))
                row = {"network": entry.name, "weights": weights, "runtime": runtime, "branch": branch, "result": found}
                rows.append(row)
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")
                print(name, runtime, "failed" if "failed" in row["result"] else "done", flush=True)


def _weigh_branches(network: nn.Module) -> float | None:
    """Sets the last normalisation of branches of three convolutions; None where there are none."""
    last = [norm for name, norm in network.named_modules() if name.endswith(".bn3")]
    for norm in last:
        nn.init.constant_(norm.weight, BRANCH)
    return BRANCH if last else None


def _of_order_one(network: nn.Module, shape: tuple[int, ...], indices: bool) -> None:
    """Scales each layer's weights, and sets each normalisation's statistics, by what random inputs give; then evaluation mode.

    Where values die away or explode from layer to layer, differences of outputs would say nothing.
    """

    def scaled(layer: nn.Module, given: Any, output: Tensor) -> Tensor:
        spread = output.std().clamp_min(1e-6)
        for parameter in layer.parameters():
            parameter.div_(spread)
        return output / spread

    layers = [m for m in network.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(scaled) for layer in layers]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    generator = torch.Generator().manual_seed(0)
    size = (16, *shape)
    x = torch.randint(0, 20, size, generator=generator) if indices else torch.randn(size, generator=generator)
    with torch.no_grad():
        network.train()(x)
    for hook in hooks:
        hook.remove()
    network.eval()


def _of_indices(network: Any, shape: tuple[int, ...]) -> Any:
    return trace(network, torch.zeros((2, *shape), dtype=torch.int64))


def table() -> None:
    """``exported.md``."""
    latest = {}
    for line in (FOLDER / "exported.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        latest[row["network"], row["weights"], row["runtime"]] = row["result"]
    lines = [
        "# The zoo's networks, exported",
        "",
        "Largest difference of any output from the file's own, over random inputs and test images; of pretrained networks the images",
        "(of 500) that are right in the runtime and in netpress, and how many are answered differently. Random weights are scaled",
        "so that every layer gives values of about one, branches of three convolutions a quarter of it. Made by `zoo.py`.",
        "",
        f"| network | weights | {' | '.join(FORMS)} |",
        f"|---|---|{'---|' * len(FORMS)}",
    ]
    for network, weights in dict.fromkeys((n, w) for n, w, _ in latest):
        cells = [_cell(latest.get((network, weights, runtime))) for runtime in FORMS]
        lines.append(f"| {network} | {weights or 'random'} | {' | '.join(cells)} |")
    (FOLDER / "exported.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cell(result: Row | None) -> str:
    if result is None:
        return "not run"
    if "failed" in result:
        return "failed: " + " ".join(result["failed"].split())[:80].replace("|", "/")
    text = f"{result['max_abs_difference']:.1e}" + (" **" if result["max_abs_difference"] > TOLERANCE else "")
    if quality := result["quality"]:
        text += f", {quality['correct_exported']} and {quality['correct']}, {quality['answered_differently']} differ"
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=30_000_000, help="parameters of the largest network")
    parser.add_argument("--only-table", action="store_true")
    given = parser.parse_args()
    if not given.only_table:
        export_all(given.most)
    table()
