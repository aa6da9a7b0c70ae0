"""A program of ExecuTorch (.pte) for phones and boards: what XNNPACK has kernels for is handed to it, the rest to ExecuTorch's own.

Networks that `quantize` made hold their integers and run in XNNPACK's kernels for them. The batch is open up to `LARGEST_BATCH`, for
which memory is planned ahead.
"""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netpress.artifact import Artifact
from netpress.errors import MissingExtraError, NetpressError
from netpress.export._executorch_integers import FORM, in_its_words, with_integers
from netpress.export._torch_integers import exported
from netpress.export._torch_programs import exporting, first_refused
from netpress.graph import GraphNetwork, fold_norms

SUFFIX = ".pte"

LARGEST_BATCH = 16
"""Inputs at once, at most. ExecuTorch plans memory for this many; an application that has more runs them in parts, as `open` does."""

METHOD = "forward"


def write(stored: Artifact, path: Path) -> None:
    _installed()
    network = fold_norms(stored.network)
    try:
        _try(network, path)
    except (NetpressError, OSError, MemoryError):
        raise
    except Exception as error:  # torch.export, ExecuTorch's compiler and its runtime each raise what they like
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "part"
            raise first_refused(network, error, lambda some: _try(some, part), FORM) from error


def open(path: Path) -> Callable[[Tensor], Tensor]:
    _installed()
    with _quietly():
        from executorch.runtime import Runtime

        program = Runtime.get().load_program(path)
        method = program.load_method(METHOD)
    largest = method.metadata.input_tensor_meta(0).sizes()[0]

    def run(x: Tensor) -> Tensor:
        return torch.cat([method.execute([part.contiguous()])[0] for part in x.split(largest)])

    return run


def about(path: Path) -> dict[str, Any]:
    from executorch.exir._serialize._program import deserialize_pte_binary

    [plan] = deserialize_pte_binary(path.read_bytes()).program.execution_plan
    return {
        "xnnpack_parts": len(plan.delegates),
        "largest_batch": plan.values[plan.inputs[0]].val.sizes[0],
        "planned_bytes": sum(plan.non_const_buffer_sizes),
        "versions": {"executorch": version("executorch")},
    }


def _try(network: GraphNetwork, path: Path) -> None:
    """Writes the file and runs it once."""
    example = torch.zeros((2, *network.input_shape), dtype=network.input_dtype)
    with _quietly():
        path.write_bytes(_program(network, example))
        open(path)(example)


def _program(network: GraphNetwork, example: Tensor) -> bytes:
    """The bytes of the file."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    batch = torch.export.Dim("N", min=1, max=LARGEST_BATCH)
    program = exported(in_its_words(network), example, batch, with_integers)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    written: bytes = lowered.to_executorch().buffer
    return written


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch and ExecuTorch say of their own inner workings."""
    logged = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with exporting(), redirect_stderr(io.StringIO()):  # of C++, too, which ExecuTorch hands to Python
            yield
    finally:
        logging.disable(logged)


def _installed() -> None:
    try:
        with _quietly():
            import executorch.exir  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("executorch", "executorch", "an export to ExecuTorch") from error
