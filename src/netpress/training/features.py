"""Features of a frozen part, computed once and kept on disk: what small maps and reduction layers are fitted on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netpress.errors import ConfigError, DataError
from netpress.measure.layout import modes_kept
from netpress.progress import Progress, SilentProgress
from netpress.training.loop import Stream
from netpress.training.objectives import Targets

TARGETS = ("labels", "outputs", "both")


def stream_features(
    network: nn.Module, stream: Stream, *, epoch: int = 0, device: torch.device | str | None = None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """(features (N, ...), labels (N,) or None) of each batch of one pass; nothing is kept, so memory stays constant.

    The network runs in eval mode, without gradients, where it lies; its modes are put back when the pass ends.

    Args:
        epoch: Which pass of the stream; with augmentation each differs.
        device: Where batches are moved first; None leaves them where the stream puts them.
    """
    with modes_kept(network):
        for x, y in stream.batches(epoch, start=0):
            network.eval()  # each time: between two batches the caller may use the network as it likes
            with torch.no_grad():
                features = network(x if device is None else x.to(device))
            yield features, y


class FeatureStore:
    """Features, labels and a teacher's outputs of one pass over a stream, row by row in one order, in files.

    A context manager: its files are deleted when it is closed. Memory does not grow with the number of samples.

    Attributes:
        features: (N, ...) memory map, float32 or float16.
        outputs: (N, ...) float32 memory map of the teacher's outputs, or None.
        labels: (N, ...) in memory, or None.
    """

    def __init__(
        self,
        folder: Path,
        features: NDArray[np.floating],
        labels: NDArray[np.generic] | None,
        outputs: NDArray[np.float32] | None,
        device: torch.device,
    ) -> None:
        self._folder: Path | None = folder
        self.features, self.labels, self.outputs, self._device = features, labels, outputs, device

    @classmethod
    def collect(
        cls,
        network: nn.Module,
        stream: Stream,
        *,
        teacher: nn.Module | None = None,
        folder: Path | None = None,
        dtype: str = "float32",
        progress: Progress | None = None,
    ) -> FeatureStore:
        """Runs ``network`` once over the stream's first epoch and stores what comes out.

        Args:
            network: The frozen part; only its eval mode is used, and its modes are put back.
            teacher: What answers from the *features* (the rest of the original network); its outputs are stored too.
            folder: Where a folder of files is made, and deleted by ``close``; the system's temporary place by default.
            dtype: ``float32``, or ``float16`` for half the disk at three significant digits.

        Raises:
            DataError: An empty stream, or labels in some batches only.
            ConfigError: Another dtype.
        """
        if dtype not in ("float32", "float16"):
            raise ConfigError("unknown dtype of stored features", got=repr(dtype), allowed="float32, float16")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix="features-", dir=folder))
        features, outputs = _Rows(own / "features", np.dtype(dtype)), None
        if teacher is not None:
            outputs = _Rows(own / "outputs", np.dtype("float32"))
        labels: list[Tensor] = []
        device = torch.device("cpu")
        try:
            with (progress or SilentProgress()).step("features", total=len(stream)) as bar:
                for batches, (values, y) in enumerate(stream_features(network, stream), start=1):
                    device = values.device
                    features.append(values)
                    if teacher is not None and outputs is not None:
                        with modes_kept(teacher), torch.no_grad():
                            outputs.append(teacher.eval()(values))
                    if y is not None:
                        labels.append(y.cpu())
                    if labels and len(labels) != batches:
                        raise DataError("some batches have labels and others have none", got=f"batch {batches - 1}")
                    bar.advance(1)
            if features.count == 0:
                raise DataError("there is nothing to compute features of", got="a stream without batches")
            return cls(
                own,
                features.finish(),
                torch.cat(labels).numpy() if labels else None,
                outputs.finish() if outputs is not None else None,
                device,
            )
        except BaseException:  # whatever ended the pass, half a store must not stay on the disk
            features.close()
            if outputs is not None:
                outputs.close()
            shutil.rmtree(own)
            raise

    def __len__(self) -> int:
        """Rows."""
        return len(self.features)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row of features, such as (C, H, W)."""
        return tuple(self.features.shape[1:])

    def stream(
        self, *, batch_size: int, shuffle: bool = False, seed: int = 0, targets: str = "labels"
    ) -> FeatureStream:
        """Batches of the stored rows; see :class:`FeatureStream`."""
        return FeatureStream(self, batch_size=batch_size, shuffle=shuffle, seed=seed, targets=targets)

    def batch(self, rows: NDArray[np.int64] | slice, targets: str = "labels") -> tuple[Tensor, Targets]:
        """Rows as float32 features (B, ...) and their targets, on the device where they were computed."""
        x = _tensor(self.features[rows], self._device)
        labels = None if self.labels is None else torch.from_numpy(self.labels[rows]).to(self._device)
        if targets == "labels":
            return x, labels
        if self.outputs is None:
            raise DataError("the store has no teacher outputs", remedy="collect it with teacher=")
        outputs = _tensor(self.outputs[rows], self._device)
        return x, (outputs if targets == "outputs" else (labels, outputs))

    def mapped(self, network: nn.Module, *, batch_size: int = 256) -> FeatureStore:
        """A second store of ``network``'s outputs on these features, with the same labels and teacher outputs.

        For maps that are fitted behind a frozen layer: the layer then runs once, not once an epoch. Close it on its own.
        """
        if self._folder is None:
            raise DataError("the store is closed")
        stream = self.stream(batch_size=batch_size)
        second = FeatureStore.collect(network, stream, folder=self._folder.parent)
        second.labels, second.outputs = self.labels, self.outputs
        return second

    def close(self) -> None:
        """Deletes the files; the arrays are not to be used any more. Twice does no harm."""
        if self._folder is not None:
            self.features, self.outputs = np.empty((0, *self.shape), np.float32), None
            shutil.rmtree(self._folder)
            self._folder = None

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FeatureStream:
    """A stream of stored rows: the order is a pure function of (seed, epoch), every row comes once an epoch.

    A last batch of one row joins the batch before it: batch normalisation cannot train on one row.

    Args:
        targets: What ``y`` is: ``labels``, the teacher's ``outputs``, or ``both`` as (labels, outputs).
    """

    def __init__(
        self, store: FeatureStore, *, batch_size: int, shuffle: bool = False, seed: int = 0, targets: str = "labels"
    ) -> None:
        if batch_size < 1:
            raise ConfigError("batch_size is out of range", got=batch_size, allowed="1 or more")
        if targets not in TARGETS:
            raise ConfigError("unknown targets", got=repr(targets), allowed=", ".join(TARGETS))
        if targets != "labels" and store.outputs is None:
            raise DataError("the store has no teacher outputs", remedy="collect it with teacher=")
        self._store, self._batch_size, self._shuffle = store, batch_size, shuffle
        self._seed, self._targets = seed, targets
        starts = list(range(0, len(store), batch_size))
        if len(starts) > 1 and len(store) - starts[-1] == 1:
            starts.pop()
        self._bounds = [*starts, len(store)]

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._bounds) - 1

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Targets]]:
        """(features (B, ...), targets) of one epoch from batch number ``start`` on."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._store)) if self._shuffle else None
        for number in range(start, len(self)):
            low, high = self._bounds[number], self._bounds[number + 1]
            yield self._store.batch(slice(low, high) if order is None else order[low:high], self._targets)


def _tensor(values: NDArray[np.floating], device: torch.device) -> Tensor:
    # Picked rows are fresh already; a slice is a view of the read-only file and is copied.
    return torch.from_numpy(np.require(values, np.float32, ["C", "W"])).to(device)


class _Rows:
    """A file of rows that grows by batches, and is a memory map once it is finished."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._path, self._dtype = path, dtype
        self._file = path.open("wb")
        self._shape: tuple[int, ...] | None = None
        self.count = 0

    def append(self, values: Tensor) -> None:
        array = values.detach().float().cpu().contiguous().numpy().astype(self._dtype, copy=False)  # (B, ...)
        if self._shape is None:
            self._shape = array.shape[1:]
        if array.shape[1:] != self._shape:
            raise DataError("batches give features of different shapes", got=array.shape[1:], allowed=self._shape)
        self._file.write(np.ascontiguousarray(array).data)
        self.count += len(array)

    def finish(self) -> NDArray:
        self._file.close()
        shape = (self.count, *(self._shape or ()))
        # A plain view: numpy indexes it much faster than the memmap object, whose every result is wrapped anew.
        return np.asarray(np.memmap(self._path, dtype=self._dtype, mode="r", shape=shape))

    def close(self) -> None:
        self._file.close()
