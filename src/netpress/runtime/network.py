"""A file's network as an ONNX model in memory, and ONNX Runtime that runs it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netpress import onnx
from netpress.artifact import Contents, open_contents
from netpress.data.preprocess import Preprocess
from netpress.errors import ConfigError, DataError, FormatError, MissingExtraError
from netpress.kernels.threads import run_all

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@dataclass(frozen=True)
class Network:
    """A network ready to answer; made by `load`.

    Attributes:
        session: ONNX Runtime's.
        weights: Tensors that the session uses where they lie, kept as long as it is.
        input_shape: The shape of one input, without the batch dimension.
        output_shape: The shape of one output, without the batch dimension.
        input_dtype: Of the network's input.
        preprocess: How stored inputs become the network's; None: they are fed as they are.
        task: What the outputs mean.
        classes: The classes' names, in the order of the outputs.
        metadata: What the file was given.
    """

    session: InferenceSession = field(repr=False)
    weights: Mapping[str, NDArray[Any]] = field(repr=False)
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input_dtype: np.dtype[Any]
    preprocess: Preprocess | None
    task: str
    classes: tuple[str, ...]
    metadata: dict[str, Any]

    def __call__(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """The outputs (N, \\*output_shape) of a batch.

        Args:
            inputs: uint8 are inputs as they are stored, such as images (N, H, W, C) or (N, C, H, W), and are preprocessed as the file
                says; all others are the network's own, (N, \\*input_shape).

        Raises:
            DataError: Inputs of another shape or kind.
        """
        given = np.asarray(inputs)
        if self.preprocess is not None and (given.dtype == np.uint8 or self.preprocess.indices):
            given = self.preprocess.array(given)
        if given.dtype.kind not in "iufb" or given.shape[1:] != self.input_shape or not given.ndim:
            raise DataError(
                "the inputs do not fit the network",
                got=f"{given.dtype} of shape {given.shape}",
                allowed=f"numbers of shape (N, {', '.join(map(str, self.input_shape))})",
            )
        if not len(given):
            return np.empty((0, *self.output_shape), np.float32)
        fed = np.ascontiguousarray(given, self.input_dtype)
        return run(self.session, fed)


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Network:
    """Reads a file and makes its network ready; weights are decoded here, several at a time.

    Args:
        path: A ``.netpress`` file.
        threads: How many threads decode and compute; None: as many as there are processors.

    Raises:
        ArtifactError: As for `netpress.load`; FormatError also where the network cannot be run.
        UnsupportedOperatorError: The network has an operator that cannot be said in ONNX.
        MissingExtraError: ONNX Runtime is absent.
    """
    contents = open_contents(path)
    weights: dict[str, NDArray[Any]] = {}
    model = onnx.write(contents.program, decoded(contents, threads), apart=weights)
    session = start(model, threads, weights)
    return Network(
        session=session,
        weights=weights,
        input_shape=contents.program.input_shape,
        output_shape=tuple(session.get_outputs()[0].shape[1:]),
        input_dtype=contents.program.input_dtype.numpy,
        preprocess=_preprocess(contents.preprocess),
        task=contents.task,
        classes=contents.classes,
        metadata=contents.metadata,
    )


def decoded(contents: Contents, threads: int | None = None) -> dict[str, NDArray[Any]]:
    """The tensors of a file by name.

    Raises:
        FormatError: a payload is not one of its codec.
    """
    tasks, sizes = [stored.array for stored in contents.tensors], [len(stored.payload) for stored in contents.tensors]
    arrays = run_all(tasks, threads or os.cpu_count() or 1, sizes)
    return {stored.name: array for stored, array in zip(contents.tensors, arrays, strict=True)}


def start(
    model: list[Any] | bytes | Path,
    threads: int | None = None,
    weights: Mapping[str, NDArray[Any]] | None = None,
    *,
    spinning: bool = True,
) -> InferenceSession:
    """ONNX Runtime with a model, on the CPU.

    Args:
        model: The bytes of an ONNX model, its pieces, or its file.
        threads: How many it computes with; None: as many as it likes.
        weights: Initializers that the model leaves to be given (``apart`` of `netpress.onnx.write`); not copied, so that they must
            live as long as the session.
        spinning: Whether threads that wait for work burn a core meanwhile, as ONNX Runtime has it: quickest where it runs alone.

    Raises:
        MissingExtraError: ONNX Runtime is absent.
        FormatError: It refuses the model.
    """
    try:
        import onnxruntime  # optional, and not needed before a network is loaded
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "runtime", "running a network without PyTorch") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # what it warns of, nobody here can change
    if threads:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        if weights:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
            options.add_external_initializers(list(weights), values)
        whole = str(model) if isinstance(model, Path) else model if isinstance(model, bytes) else b"".join(model)
        return onnxruntime.InferenceSession(whole, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise FormatError("ONNX Runtime refuses the network", got=str(error)[:400]) from error


def run(session: InferenceSession, inputs: NDArray[Any]) -> NDArray[Any]:
    """The outputs of a batch.

    Raises:
        DataError: ONNX Runtime cannot compute them.
    """
    try:
        outputs: NDArray[Any] = session.run([onnx.OUTPUT], {onnx.INPUT: inputs})[0]
    except Exception as error:  # its errors have no class in common
        raise DataError("ONNX Runtime cannot run the network on these inputs", got=str(error)[:400]) from error
    return outputs


def _preprocess(stored: Mapping[str, Any] | None) -> Preprocess | None:
    try:
        return None if stored is None else Preprocess.from_dict(stored)
    except ConfigError as error:
        raise FormatError(error.what, got=error.got, allowed=error.allowed) from error
