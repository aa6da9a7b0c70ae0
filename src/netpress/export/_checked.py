"""Writing an export, running it, comparing it with the file's network, and only then calling it done."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netpress.artifact import Artifact, read
from netpress.artifact.disk import check_destination
from netpress.data import Data, Preprocess
from netpress.errors import ArtifactError, DataError
from netpress.export._targets import target_by_name
from netpress.graph import GraphNetwork
from netpress.measure import predictions
from netpress.progress import Progress

SAMPLES = 8
"""Random inputs that both answer, one alone among them."""

TOLERANCE = 1e-3
"""Of the largest difference, beside the largest output: sums in another order, nothing else."""

ROUNDED = 0.05
"""The same of networks that round to integers: a sum in another order can end on the other side of a step, here and there."""

SATURATED = "on an x86 processor without VNNI, where such sums saturate, quantize again with reduce_range=true; else "
"""What may be done first about integers that disagree."""

LEAST = 1e-5
"""What a difference may always be."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written and how it agrees.

    Attributes:
        path: The written file, the first of several, or the folder.
        target: Its form.
        size_bytes: Of all that was written.
        max_abs_difference: The largest difference between its outputs and those of the file's network.
        samples: How many random inputs, and images of the data, were compared.
        quality: With labelled data, right answers of both, and images that they answer differently; else None.
        about: What the target says besides, such as ``opset`` and ``versions``.
    """

    path: Path
    target: str
    size_bytes: int
    max_abs_difference: float
    samples: int
    quality: dict[str, Any] | None
    about: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "file": str(self.path),
            "to": self.target,
            "size_bytes": self.size_bytes,
            "max_abs_difference": self.max_abs_difference,
            "samples": self.samples,
            "quality": self.quality,
            **self.about,
        }


def export(
    file: str | os.PathLike[str],
    target: str,
    path: str | os.PathLike[str],
    *,
    data: Data | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Exported:
    """Writes a file's network in another form, and runs that form to see that it answers the same.

    Args:
        file: A ``.netpress`` file.
        target: One of `target_names`.
        path: Where to; an existing file is replaced, once the new one has been found to agree.
        data: Test images on which both are run, too.
        seed: Of the random inputs.
        progress: Told of the images.

    Raises:
        UnknownNameError: No such target.
        ArtifactError: The file cannot be read, the export cannot be written, or disagrees with the network: then it is removed.
        UnsupportedOperatorError: The target cannot say an operator of the network.
        MissingExtraError: A package that the target needs is absent.
        DataError: Data that do not fit the network.
    """
    chosen, stored = target_by_name(target), read(file)
    destination = _folder(path) if chosen.folder else check_destination(path)
    aside = destination.with_name(
        f".netpress-{secrets.token_hex(8)}"
    )  # in the same folder, so that files move in one step
    try:
        aside.mkdir()
        chosen.write(stored, aside / destination.name)
        compared = _Comparison(stored, chosen.open(aside / destination.name), target)
        compared.random(seed)
        quality = None if data is None else compared.on(data, progress)
        written = [entry for entry in sorted(aside.rglob("*")) if entry.is_file()]
        size_bytes = sum(entry.stat().st_size for entry in written)
        for entry in written:
            place = destination.parent / entry.relative_to(aside)
            place.parent.mkdir(exist_ok=True, parents=True)
            os.replace(entry, place)
    except OSError as error:
        raise ArtifactError("the export cannot be written", got=f"{destination}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Exported(
        path=destination,
        target=target,
        size_bytes=size_bytes,
        max_abs_difference=compared.largest,
        samples=compared.samples,
        quality=quality,
        about=chosen.about(destination),
    )


def apart(wanted: Tensor, given: Tensor) -> float:
    """The largest difference of two answers; infinite where shapes differ or one is no number."""
    if wanted.shape != given.shape:
        return float("inf")
    between = (wanted.double() - given.double()).abs()
    return float(between.nan_to_num(float("inf")).max()) if between.numel() else 0.0


def most_apart(network: GraphNetwork, wanted: Tensor) -> float:
    """How far from ``wanted``, what the network answers, another form of it may lie."""
    largest = float(wanted.double().abs().max()) if wanted.numel() else 0.0
    return max(LEAST, (ROUNDED if _rounds(network) else TOLERANCE) * largest)


def _rounds(network: GraphNetwork) -> bool:
    return any(node.op in ("fake_quantize", "dynamic_quantize") for node in network.nodes)


def _folder(path: str | os.PathLike[str]) -> Path:
    """Where the files of a target that writes several go; the folder may be there already."""
    folder = Path(os.path.realpath(path))
    if folder.exists() and not folder.is_dir():
        raise ArtifactError("this form is a folder", got=f"{folder}, a file", remedy="name another folder")
    if not folder.parent.is_dir():
        raise ArtifactError("the folder does not exist", got=folder.parent, remedy="create it first")
    return folder


class _Runs(nn.Module):
    """A function as a module, which is what the meters take."""

    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._call = (call,)  # in a tuple, torch does not take a module for a part of this one, whose modes it sets

    def forward(self, x: Tensor) -> Tensor:
        return self._call[0](x)


class _Comparison:
    """The file's network beside what was written of it."""

    def __init__(self, stored: Artifact, answers: Callable[[Tensor], Tensor], target: str) -> None:
        self.stored, self.target = stored, target
        self.exported = _Runs(answers).eval()
        self.largest, self.samples = 0.0, 0

    def random(self, seed: int) -> None:
        """Random inputs: several at once, and one alone."""
        shape, dtype = self.stored.input_shape, self.stored.network.input_dtype
        generator = torch.Generator().manual_seed(seed)
        if dtype.is_floating_point:
            x = torch.randn((SAMPLES, *shape), generator=generator).to(dtype)
        else:
            x = torch.randint(0, 2, (SAMPLES, *shape), generator=generator).to(dtype)  # 0 and 1 are rows of every table
        with torch.inference_mode():
            for some in (x, x[:1].clone()):
                self._see(self.stored.network(some), self.exported(some))

    def on(self, data: Data, progress: Progress | None) -> dict[str, Any] | None:
        """The test images of ``data``; right answers of both where there are labels and classes."""
        preprocess = data.preprocess if self.stored.preprocess is None else Preprocess.from_dict(self.stored.preprocess)
        if (found := tuple(preprocess(data.test.images[[0]]).shape[1:])) != self.stored.input_shape:
            raise DataError(
                f"the data {data.name!r} does not fit the file's network", got=found, allowed=self.stored.input_shape
            )
        wanted, given = (
            predictions(network, data.test, preprocess, progress=progress)
            for network in (self.stored.network, self.exported)
        )
        self._see(wanted, given)
        if data.test.labels is None or self.stored.task != "classification" or wanted.dim() != 2:
            return None
        truth = torch.as_tensor(data.test.labels[:])
        ours, theirs = wanted.argmax(1), given.argmax(1)
        return {
            "data": data.name,
            "count": len(truth),
            "correct": int((ours == truth).sum()),
            "correct_exported": int((theirs == truth).sum()),
            "answered_differently": int((ours != theirs).sum()),
        }

    def _see(self, wanted: Tensor, given: Tensor) -> None:
        """Takes note of the largest difference.

        Raises:
            ArtifactError: It is too large.
        """
        self.samples += len(wanted)
        difference, most = apart(wanted, given), most_apart(self.stored.network, wanted)
        self.largest = max(self.largest, difference)
        if not difference <= most:
            raise ArtifactError(
                f"the {self.target} export does not answer as the file does, and was not kept",
                got=f"outputs that differ by {difference:.3g}",
                allowed=f"at most {most:.3g}",
                remedy=(SATURATED if _rounds(self.stored.network) else "")
                + "report it; run the file itself meanwhile (netpress run)",
            )
