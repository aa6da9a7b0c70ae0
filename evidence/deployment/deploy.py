"""Files of a comparison, each quantized to int8, exported, and timed: what reaches the device.

    NETPRESS_DATA=... python evidence/deployment/deploy.py evidence/deployment/resnet runs/deployment_resnet
    python evidence/deployment/deploy.py evidence/deployment/resnet --only-table      # from deployed.jsonl, without the files

The folder's spec is the YAML file of its name. Every network of the run is quantized (as ``netpress compress FILE --recipe quantize``),
and both files are exported to each runtime and answer all test images there and in netpress (``netpress export --data``). Then all
files of one network are timed in turns in each runtime (``netpress bench latency``). ``deployed.jsonl`` has a row for each of
these, and is gone on with; ``deployed.md`` is made from it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from netpress import compress
from netpress.artifact import read
from netpress.bench.latency import compare_files
from netpress.data import Preprocess, open_data
from netpress.errors import NetpressError
from netpress.export import export

RUNTIMES = ("onnxruntime", "openvino", "executorch")
FORMS = {"onnxruntime": ("onnx", ".onnx"), "openvino": ("openvino", ".xml"), "executorch": ("executorch", ".pte")}
TIMED = RUNTIMES
INT8 = " + int8"

Row = dict[str, Any]


def tried(work: Callable[..., Row], *arguments: Any) -> Row:
    """What comes of it, or how it failed."""
    try:
        return work(*arguments)
    except NetpressError as error:
        return {"failed": str(error)}


def exported(file: Path, runtime: str, data: Any) -> Row:
    """What ``netpress export FILE --to FORM --data DATA`` says."""
    form, suffix = FORMS[runtime]
    with tempfile.TemporaryDirectory() as aside:
        found = export(file, form, f"{aside}/it{suffix}", data=data).as_dict()
    return {name: value for name, value in found.items() if name != "file"}


def quantized(file: Path, data: Any, out: Path) -> Row:
    """What ``netpress compress FILE --recipe quantize`` says, latencies left out."""
    stored = read(file)
    preprocess = Preprocess.from_dict(dict(stored.preprocess or {}))
    result = compress(stored.network, "quantize", data, preprocess=preprocess, latency=False, out=out)
    return {"after": {"cost": result.after.as_dict(), "quality": result.quality_after.as_dict()}}


class Deployment:
    """The rows of one comparison's files."""

    def __init__(self, folder: Path, run: Path) -> None:
        spec = yaml.safe_load(folder.with_suffix(".yaml").read_text(encoding="utf-8"))
        self.data = open_data(os.path.expandvars(spec["data"][0]["spec"]))
        self.run, self.file = run, folder / "deployed.jsonl"
        self.rows = list(_rows(self.file)) if self.file.exists() else []
        ledger = [row for row in _rows(folder / "ledger.jsonl") if row["kind"] == "job" and row["status"] == "done"]
        self.jobs = [(row["network"], row["recipe"], run / row["result"]["file"]) for row in ledger]

    def all(self) -> None:
        """What is not there yet."""
        for network, recipe, path in self.jobs:
            small = _int8(path)
            key = {"kind": "file", "network": network, "recipe": recipe + INT8}
            if not small.exists() or not self._has(key):
                self._keep(key, tried(quantized, path, self.data, small))
            for name, file in ((recipe, path), (recipe + INT8, small)):
                for runtime in RUNTIMES:
                    self._export(network, name, file, runtime)
        for network in dict.fromkeys(network for network, _, _ in self.jobs):
            self._time(network)

    def _export(self, network: str, recipe: str, file: Path, runtime: str) -> None:
        key = {"kind": "export", "network": network, "recipe": recipe, "runtime": runtime}
        if self._has(key) or not file.exists():
            return
        self._keep(key, tried(exported, file, runtime, self.data))

    def _time(self, network: str) -> None:
        key = {"kind": "latency", "network": network}
        if self._has(key):
            return
        named = [(r, p) for n, r, p in self.jobs if n == network]
        both = {p: r for recipe, path in named for r, p in ((recipe, path), (recipe + INT8, _int8(path)))}
        files = [file for file in both if file.exists()]
        found = tried(lambda: compare_files(files, runtimes=TIMED, memory=False))
        for part in ("files", "rows", "verdicts"):
            for row in found.get(part, []):
                row["recipe"] = both[Path(row.pop("file"))]
        self._keep(key, found)

    def _has(self, key: Row) -> bool:
        return any(key.items() <= row.items() and "failed" not in row["result"] for row in self.rows)

    def _keep(self, key: Row, result: Row) -> None:
        self.rows = [row for row in self.rows if not key.items() <= row.items()] + [{**key, "result": result}]
        self.file.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        print(*key.values(), "failed" if "failed" in result else "done", file=sys.stderr)


def _int8(file: Path) -> Path:
    return file.with_suffix(".int8.netpress")


def _rows(file: Path) -> Iterator[Row]:
    return (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of ledger.jsonl, and of what is written")
    parser.add_argument("run", type=Path, nargs="?", help="the comparison's folder, with its files")
    parser.add_argument("--only-table", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.only_table:
        if given.run is None:
            parser.error("the comparison's folder is needed; or --only-table")
        Deployment(given.folder, given.run).all()
    from deployed_table import write

    write(given.folder)


if __name__ == "__main__":
    main()
