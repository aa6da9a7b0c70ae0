"""From stored images to network input: one affine map a channel, as float32 NCHW.

Torch is imported where tensors are asked for; `Preprocess.array` does without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netpress.dtypes import TYPES, AnyType, type_of
from netpress.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Preprocess:
    """``(stored * scale - mean) / std``, a channel at a time.

    ==================================  ==========================================================================
    stored                              result
    ==================================  ==========================================================================
    (N, H, W)                           (N, 1, H, W)
    (N, H, W, C) or (N, C, H, W)        (N, C, H, W); which is which: :func:`is_channels_last`
    (N, F), or five dimensions or more  unchanged shape; dimension 1 counts as the channels
    ==================================  ==========================================================================

    The result is float32, except with ``indices``: then the inputs are row numbers of embedding tables (drugs,
    proteins, words) and come through as int64.

    Attributes:
        scale: What stored values are multiplied by; 1/255 brings uint8 to [0, 1].
        mean: Subtracted after scaling: one number a channel, one for all, or none.
        std: Divided by: one number a channel, one for all, or none.
        indices: Inputs are whole numbers to look up, not measurements.

    Raises:
        ConfigError: A value that is not finite, a scale or std that is not above 0.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    indices: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        for name, values in (("scale", (self.scale,)), ("std", self.std)):
            if not all(math.isfinite(v) and v > 0 for v in values):
                raise ConfigError(f"preprocess: {name} is out of range", got=values, allowed="finite, above 0")
        if not all(math.isfinite(v) for v in self.mean):
            raise ConfigError("preprocess: mean is out of range", got=self.mean, allowed="finite numbers")
        if len({len(v) for v in (self.mean, self.std) if len(v) > 1}) > 1:
            raise ConfigError(
                "preprocess: mean and std disagree on the channels", got=f"{len(self.mean)} and {len(self.std)}"
            )
        if self.indices and (self.scale != 1 or self.mean or self.std):
            raise ConfigError("preprocess: indices cannot be scaled", allowed="scale 1, no mean, no std")

    def __call__(self, images: NDArray[Any] | Tensor, device: torch.device | str | None = None) -> Tensor:
        """Stored images to network input.

        Args:
            images: (N, ...) as stored.
            device: Where the result lies; None leaves a tensor where it is.

        Raises:
            DataError: The channels are not as many as ``mean`` or ``std`` has numbers, or there is no channel axis.
        """
        return self.normalise(channels_first(as_tensor(images).to(device=device)))

    def array(self, images: NDArray[Any]) -> NDArray[Any]:
        """As a call, to the bit, from array to array.

        Raises:
            DataError: As for a call.
        """
        stored = np.asarray(images)
        if stored.dtype.kind not in "iufb":
            raise DataError(
                "these are not inputs", got=f"dtype {stored.dtype}", allowed="whole or floating point numbers"
            )
        if stored.ndim < 2:
            raise DataError("these are not inputs", got=f"shape {stored.shape}", allowed="(N, ...), two or more")
        if stored.ndim == 3:
            stored = stored[:, None]  # (N, H, W) -> (N, 1, H, W)
        elif is_channels_last(stored.shape, stored.dtype):
            stored = stored.transpose(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
        if self.indices:
            return np.ascontiguousarray(stored, np.int64)
        scale, shift = self._affine(stored.shape)
        out = np.array(stored, np.float32, order="C")
        if scale is not None:
            out *= np.float32(scale) if isinstance(scale, float) else scale
        return out if shift is None else np.add(out, shift, out=out)

    def normalise(self, stored: Tensor) -> Tensor:
        """The numbers alone, for images that are (N, C, H, W) already; what is stored is not changed."""
        import torch

        if self.indices:
            return stored.to(torch.int64)
        factor, shift = (
            torch.from_numpy(part).to(stored.device) if isinstance(part, np.ndarray) else part
            for part in self._affine(tuple(stored.shape))
        )
        # Copied into plain NCHW: a permuted view would stay channels-last, and .view(N, -1) would fail on it.
        out = stored.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        if factor is not None:
            out.mul_(factor)
        return out if shift is None else out.add_(shift)

    def _affine(self, shape: tuple[int, ...]) -> tuple[NDArray[np.float32] | float | None, NDArray[np.float32] | None]:
        """``scale / std`` and ``-mean / std`` for images of that shape, each None where it would change nothing."""
        if not self.mean and not self.std:
            return (None if self.scale == 1 else self.scale), None
        channels = shape[1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) > 1 and len(values) != channels:
                raise DataError(
                    f"preprocess: {name} has {len(values)} numbers, the images have {channels} channels",
                    got=f"shape {shape} as (N, C, ...)",
                    allowed=f"1 or {channels} numbers",
                    remedy="uint8 is (N, H, W, C) when the last dimension is 1, 3 or 4, and (N, C, H, W) otherwise",
                )
        spread = (1, -1) + (1,) * (len(shape) - 2)
        std = np.array(self.std or (1.0,), np.float64)
        mean = np.array(self.mean or (0.0,), np.float64)
        scale = (self.scale / std).astype(np.float32).reshape(spread)  # (1, C, 1, 1)
        return scale, (-mean / std).astype(np.float32).reshape(spread)  # (1, C, 1, 1)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; ``indices`` only where it is set."""
        document: dict[str, Any] = {"scale": self.scale, "mean": list(self.mean), "std": list(self.std)}
        return {**document, "indices": True} if self.indices else document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Preprocess:
        """The inverse of :meth:`as_dict`; fields that are left out have their defaults.

        Raises:
            ConfigError: An unknown field, or a value of the wrong type or out of range.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(document) - set(known)):
            raise ConfigError("preprocess: unknown field", got=", ".join(unknown), allowed=", ".join(known))
        for name, value in document.items():
            listed = name in ("mean", "std")
            items = value if listed else [value]
            kind: type = bool if name == "indices" else float
            if not isinstance(items, list | tuple) or not all(_is(kind, item) for item in items):
                wanted = "a list of numbers" if listed else "true or false" if kind is bool else "a number"
                raise ConfigError(f"preprocess: {name} has the wrong type", got=repr(value), allowed=wanted)
        return cls(**document)


def is_channels_last(shape: tuple[int, ...], dtype: AnyType | np.dtype[Any]) -> bool:
    """Whether four-dimensional images are (N, H, W, C).

    uint8 (files, pixels): exactly when the last dimension is 1, 3 or 4. Anything else (floating point may be feature
    maps, such as (N, 256, 4, 4)): only when, besides, the two dimensions before it are equal and above 4.
    """
    if len(shape) != 4 or shape[3] not in (1, 3, 4):
        return False
    return type_of(dtype) == TYPES["uint8"] or (shape[1] == shape[2] > 4)


def channels_first(stored: Tensor) -> Tensor:
    """Stored images as (N, C, H, W): a view, nothing is copied. Inputs without a channel axis pass through."""
    if stored.ndim < 2:
        raise DataError("these are not inputs", got=f"shape {tuple(stored.shape)}", allowed="(N, ...), two or more")
    if stored.ndim == 3:
        return stored.unsqueeze(1)  # (N, H, W) -> (N, 1, H, W)
    if is_channels_last(tuple(stored.shape), stored.dtype):
        return stored.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
    return stored


def as_tensor(images: NDArray[Any] | Tensor) -> Tensor:
    """A tensor of the same numbers; shares memory where torch can use it safely."""
    import torch
    from torch import Tensor

    if isinstance(images, Tensor):
        return images
    images = np.asarray(images)
    if images.dtype.kind not in "iufb":
        raise DataError("these are not inputs", got=f"dtype {images.dtype}", allowed="whole or floating point numbers")
    if images.dtype.kind == "u" and images.dtype.itemsize > 1:
        images = images.astype(np.float32)  # torch has no arithmetic for wider unsigned integers
    if not (images.flags.writeable and images.dtype.isnative) or any(stride < 0 for stride in images.strides):
        images = images.astype(images.dtype.newbyteorder("="), order="C")  # torch takes neither as it is
    return torch.from_numpy(images)


def _is(kind: type, value: object) -> bool:
    if kind is bool:
        return isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool)
