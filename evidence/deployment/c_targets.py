"""Networks as C99 for microcontrollers, in three forms: ``c_targets.jsonl``, ``c_targets.md``.

    NETPRESS_WEIGHTS=<folder> NETPRESS_DATA=<folder of cifar10.npz and mnist.npz> python evidence/deployment/c_targets.py
    python evidence/deployment/c_targets.py --only-table

Each pretrained network as it is, with 32 values a layer (``share``, without retraining), and as int8 (``quantize``); then
``netpress export FILE --to c --data DATA``, which compiles what it writes, lets it answer 100 test images, and compares them with the
file's network.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from deploy import tried

from netpress import Recipe, compress, zoo
from netpress.data import Preprocess, open_data
from netpress.export import export

FOLDER = Path(__file__).parent
NETWORKS = ("mnist_lenet300100", "mnist_lenet5", "cifar10_resnet8_mlperftiny", "cifar10_resnet20_akamaster")
FORMS = {"as it is": "finetune", "32 values a layer": "share", "int8": "quantize"}
DATA = {"cifar10": "npz:{root}/cifar10.npz?train=train[:2000]", "mnist": "npz:{root}/mnist.npz?train=train[:2000]"}

Row = dict[str, Any]


def judge() -> Iterator[Row]:
    """A row a network and form."""
    for weights in NETWORKS:
        data = open_data(DATA[weights.split("_")[0]].format(root=os.environ["NETPRESS_DATA"]) + "&test=test[:100]")
        network, known = zoo.load_pretrained(weights, os.environ["NETPRESS_WEIGHTS"])
        preprocess = Preprocess.from_dict(dict(known))
        for form, method in FORMS.items():
            recipe = Recipe.read(method).with_settings([f"{method}.epochs=0" if method != "finetune" else "epochs=0"])
            with tempfile.TemporaryDirectory() as aside:
                file = Path(aside) / "it.netpress"
                compress(network, recipe, data, preprocess=preprocess, latency=False, out=file)
                found = tried(_exported, file, Path(aside) / "c", data)
                yield {"network": weights, "form": form, "file_bytes": file.stat().st_size, "result": found}


def _exported(file: Path, folder: Path, data: Any) -> Row:
    found = export(file, "c", folder, data=data).as_dict()
    return {name: value for name, value in found.items() if name != "file"}


def table() -> None:
    """``c_targets.md``."""
    rows = [json.loads(line) for line in (FOLDER / "c_targets.jsonl").read_text(encoding="utf-8").splitlines()]
    facts = [name for name in rows[0]["result"] if name.endswith("_bytes") and name != "size_bytes"]
    lines = [
        "# Networks as C99",
        "",
        "Bytes as `netpress export --to c` counts them. Right answers of the compiled program and of netpress on 100 test images,",
        "and the largest difference of an output. Made by `c_targets.py`.",
        "",
        f"| network | form | .netpress file | {' | '.join(name.replace('_', ' ') for name in facts)} | right | largest difference |",
        f"|---|---|{'---:|' * (len(facts) + 3)}",
    ]
    for row in rows:
        result = row["result"]
        if "failed" in result:
            lines.append(f"| {row['network']} | {row['form']} | {row['file_bytes']:,} | {result['failed'][:100]} |")
            continue
        quality = result["quality"]
        counts = " | ".join(f"{result[name]:,}" for name in facts)
        lines.append(
            f"| {row['network']} | {row['form']} | {row['file_bytes']:,} | {counts} | {quality['correct_exported']} and "
            f"{quality['correct']}, {quality['answered_differently']} differ | {result['max_abs_difference']:.1e} |"
        )
    (FOLDER / "c_targets.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-table", action="store_true")
    torch.set_num_threads(1)
    if not parser.parse_args().only_table:
        with (FOLDER / "c_targets.jsonl").open("w", encoding="utf-8") as out:
            for row in judge():
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(row["network"], row["form"], "failed" if "failed" in row["result"] else "done", flush=True)
    table()
