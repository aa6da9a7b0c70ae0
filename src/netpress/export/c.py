"""C99 for microcontrollers: coded weights as constant arrays, a runner without allocation, one static arena.

Weights stay coded in flash and are decoded while a layer multiplies, filter by filter; activations are float32, or bytes where the
network rounds them. See docs/export-c.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor

from netpress.artifact import Artifact
from netpress.data import Preprocess
from netpress.errors import ConfigError
from netpress.export import _c_source
from netpress.export._c_build import compiled, compiler_version, object_bytes
from netpress.export._c_fuse import fuse
from netpress.export._c_integers import as_bytes
from netpress.export._c_lower import lower
from netpress.export._c_plan import plan
from netpress.export._c_steps import Affine, Program
from netpress.export._c_weights import Coded, choose
from netpress.graph import GraphNetwork

RUNTIME = ("netpress_runtime.h", "netpress_runtime.c", "main.c", "Makefile", "README.md")
"""Files that are copied as they are."""

TABLE_BYTES = 2
FAST_SYMBOLS = 256


@dataclass(frozen=True)
class Layer:
    """One layer's weight in flash, without bias and scale."""

    name: str
    form: str
    size_bytes: int
    dense_bytes: int


@dataclass(frozen=True)
class Summary:
    """What was written and what it takes.

    Attributes:
        files: Their names.
        layers: Those with weights, in order.
        dense_bytes: All weights, biases and scales as float32, batch normalisations folded; counted.
        weight_bytes: The same as they lie in flash, decoding tables included; counted.
        code_bytes: The runner, the calls and the layers' structures, measured with the compiler of this machine; None without one, or
            where nobody asked.
        arena_bytes: Activations and scratch; counted.
        table_bytes: Decoding tables in memory; counted.
    """

    files: tuple[str, ...]
    layers: tuple[Layer, ...]
    dense_bytes: int
    weight_bytes: int
    code_bytes: int | None
    arena_bytes: int
    table_bytes: int

    @property
    def flash_bytes(self) -> int | None:
        return None if self.code_bytes is None else self.weight_bytes + self.code_bytes

    @property
    def ram_bytes(self) -> int:
        """Without the stack, of which the runner takes less than a kilobyte."""
        return self.arena_bytes + self.table_bytes

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "flash_bytes": self.flash_bytes, "ram_bytes": self.ram_bytes}


SUFFIX = ""
FOLDER = True
SUMMARY = "netpress_size.json"


def write(stored: Artifact, path: Path) -> None:
    summary = export(stored.network, stored, path)
    (path / SUMMARY).write_text(json.dumps(summary.as_dict(), indent=1) + "\n", encoding="utf-8")


def open(path: Path) -> Callable[[Tensor], Tensor]:
    return compiled(path)


def about(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key.endswith("_bytes")} | {
        "versions": {"cc": compiler_version()}
    }


def export(network: GraphNetwork, stored: Artifact, out: Path, *, measure: bool = True) -> Summary:
    """Writes a network as C99 into the folder ``out``, which is made where there is none.

    Args:
        network: In eval mode; left as it is.
        stored: The file that it comes from: its preprocessing is written with it.
        out: Files of the same names in it are replaced.
        measure: Whether to compile what was written, to know what the code takes.

    Raises:
        UnsupportedOperatorError: An operator that the runner does not have; nothing has been written.
        ConfigError: The preprocessing does not fit the input, or the folder cannot be written.
    """
    program = as_bytes(fuse(lower(network)))
    preprocess = Preprocess() if stored.preprocess is None else Preprocess.from_dict(stored.preprocess)
    pixels = _c_source.pixels_of(program.shapes[0], preprocess)
    weights = {at: choose(matrix, program.integers(program.steps[at])) for at, matrix in program.matrices.items()}
    places = plan(program)
    written = {
        "netpress_model.h": _c_source.header(program),
        "netpress_model.c": _c_source.model(program, places, weights, pixels),
    }
    runtime = files("netpress.export") / "c_runtime"
    written.update({name: (runtime / name).read_text(encoding="utf-8") for name in RUNTIME})
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "the folder cannot be written", got=f"{out}: {error}", remedy="name another folder"
        ) from error
    weight_bytes, dense_bytes = _bytes(program, weights)
    measured = object_bytes(out) if measure else None
    symbols = max((coded.table_symbols for coded in weights.values()), default=0)
    return Summary(
        files=tuple(sorted(written)),
        layers=tuple(
            Layer(matrix.name, weights[at].form, weights[at].size_bytes, 4 * matrix.folded.numel())
            for at, matrix in program.matrices.items()
        ),
        dense_bytes=dense_bytes,
        weight_bytes=weight_bytes,
        code_bytes=None if measured is None else measured - weight_bytes,
        arena_bytes=4 * (places.size + program.sums),
        table_bytes=TABLE_BYTES * (FAST_SYMBOLS + symbols) if symbols else 0,
    )


def _bytes(program: Program, weights: dict[int, Coded]) -> tuple[int, int]:
    """Bytes of all constants as they are written, and as dense float32."""
    written = dense = 8 * sum(len(step.work.scale) for step in program.steps if isinstance(step.work, Affine))
    for at, matrix in program.matrices.items():
        bias = 0 if matrix.bias is None else 4 * len(matrix.bias)
        written += weights[at].size_bytes + bias + weights[at].scale_bytes
        dense += 4 * matrix.folded.numel() + bias
    return written, dense
