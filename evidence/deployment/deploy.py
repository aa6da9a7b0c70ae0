"""Files of a comparison, each quantized to int8, exported, and timed: what reaches the device.

    NETPRESS_DATA=... python evidence/deployment/deploy.py evidence/deployment/resnet runs/deployment_resnet
    python evidence/deployment/deploy.py evidence/deployment/resnet --only-table      # from deployed.jsonl, without the files

The folder's spec is the YAML file of its name. Every network of the run is quantized (``netpress compress FILE --recipe quantize``),
and both files are exported to each runtime and answer all test images there and in netpress (``netpress export --data``). Then all
files of one network are timed in turns in each runtime (``netpress bench latency``). ``deployed.jsonl`` has a row for each of
these, and is gone on with; ``deployed.md`` is made from it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

RUNTIMES = ("onnxruntime", "openvino", "executorch")
FORMS = {"onnxruntime": ("onnx", ".onnx"), "openvino": ("openvino", ".xml"), "executorch": ("executorch", ".pte")}
TIMED = ("onnxruntime", "openvino")
INT8 = " + int8"

Row = dict[str, Any]


def netpress(*arguments: object) -> Row:
    """One command and its JSON; of one that fails what it says."""
    command = [sys.executable, "-c", "from netpress.cli import main; main()", *map(str, arguments), "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr[-1000:] or f"exit status {done.returncode}"}
    answer: Row = json.loads(done.stdout)
    return answer


class Deployment:
    """The rows of one comparison's files."""

    def __init__(self, folder: Path, run: Path) -> None:
        spec = yaml.safe_load(folder.with_suffix(".yaml").read_text(encoding="utf-8"))
        self.data = os.path.expandvars(spec["data"][0]["spec"])
        self.run, self.file = run, folder / "deployed.jsonl"
        self.rows = list(_rows(self.file)) if self.file.exists() else []
        ledger = [row for row in _rows(folder / "ledger.jsonl") if row["kind"] == "job" and row["status"] == "done"]
        self.jobs = [(row["network"], row["recipe"], run / row["result"]["file"]) for row in ledger]

    def all(self) -> None:
        """What is not there yet."""
        for network, recipe, path in self.jobs:
            small = path.with_suffix(".int8.netpress")
            key = {"kind": "file", "network": network, "recipe": recipe + INT8}
            if not small.exists() or not self._has(key):
                command = ("compress", path, "--data", self.data, "--recipe", "quantize", "--out", small)
                self._keep(key, netpress(*command))
            for name, file in ((recipe, path), (recipe + INT8, small)):
                for runtime in RUNTIMES:
                    self._export(network, name, file, runtime)
        for network in dict.fromkeys(network for network, _, _ in self.jobs):
            self._time(network)

    def _export(self, network: str, recipe: str, file: Path, runtime: str) -> None:
        key = {"kind": "export", "network": network, "recipe": recipe, "runtime": runtime}
        if self._has(key):
            return
        form, suffix = FORMS[runtime]
        with tempfile.TemporaryDirectory() as aside:
            self._keep(key, netpress("export", file, "--to", form, "-o", f"{aside}/it{suffix}", "--data", self.data))

    def _time(self, network: str) -> None:
        key = {"kind": "latency", "network": network}
        if self._has(key):
            return
        named = [(r, p) for n, r, p in self.jobs if n == network]
        files = [file for recipe, path in named for file in (path, path.with_suffix(".int8.netpress")) if file.exists()]
        command = ("bench", "latency", *files, "--runtimes", ",".join(TIMED), "--batch", 1, "--threads", 1)
        found = netpress(*command)
        for row in found.get("rows", []):
            stem = Path(row["file"]).name
            recipe = next(r for r, p in named if stem.startswith(p.stem))
            row["recipe"] = recipe + (INT8 if ".int8." in stem else "")
        self._keep(key, found)

    def _has(self, key: Row) -> bool:
        return any(key.items() <= row.items() and "failed" not in row["result"] for row in self.rows)

    def _keep(self, key: Row, result: Row) -> None:
        self.rows = [row for row in self.rows if not key.items() <= row.items()] + [{**key, "result": result}]
        self.file.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        print(*key.values(), "failed" if "failed" in result else "done", file=sys.stderr)


def _rows(file: Path) -> Iterator[Row]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of ledger.jsonl, and of what is written")
    parser.add_argument("run", type=Path, nargs="?", help="the comparison's folder, with its files")
    parser.add_argument("--only-table", action="store_true")
    given = parser.parse_args()
    if not given.only_table:
        if given.run is None:
            parser.error("the comparison's folder is needed; or --only-table")
        Deployment(given.folder, given.run).all()
    from deployed_table import write

    write(given.folder)


if __name__ == "__main__":
    main()
