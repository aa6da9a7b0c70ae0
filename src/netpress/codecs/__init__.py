"""How one tensor becomes bytes: one codec a file, found by listing this folder.

A codec is a module of this package. Its file name is its public name, and it defines

- ``CODE``: its number in a file, 0 to 255, never reused;
- ``accepts(tensor) -> bool``: whether it can store this tensor at all;
- ``encode(tensor) -> bytes``: the payload;
- ``decode(payload, dtype, shape)``: a new tensor on the CPU; where ``dtype`` is one of `netpress.dtypes` and not torch's, a numpy
  array, for which no torch is needed. The payload is not trusted: anything but what ``encode`` could have written raises
  `FormatError`, before memory is taken for it.

A codec may also define

- ``open(payload, dtype, shape) -> Coded``: the payload made ready for products, without unpacking it;
- ``FAST = True``: products with its form are about as fast as dense ones; ``"fast"`` chooses among these and ``dense``;
- ``spares(tensor) -> tuple[str, ...]``: other codecs, slow ones, that would store this tensor in more bytes, so that ``"auto"``
  need not try them.

Every codec is lossless to the bit: NaN payloads and -0.0 come back as they were. Files whose name begins with an underscore are
shared by codecs and are none themselves.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from netpress.codecs._palette import remembering
from netpress.codecs._tensors import AnyType, Tensor
from netpress.errors import ConfigError, FormatError, UnknownNameError

__all__ = ["AUTO", "FAST", "Codec", "Coded", "codec_by_code", "codec_by_name", "codecs", "encode"]

AUTO = "auto"
"""Stands for the codec that gives the fewest bytes, tensor by tensor."""

FAST = "fast"
"""Stands for the codec that gives the fewest bytes among those that multiply fast; of vectors and single numbers, among all."""


class Coded(Protocol):
    """A float32 tensor in its coded form, seen as the matrix W (rows, columns): the first axis by all others together.

    Attributes:
        rows: Outputs of a linear layer, filters of a convolution.
        columns: Inputs, or channels times kernel places.
        memory_bytes: What the form keeps in memory, decoding tables and payload together.
    """

    @property
    def rows(self) -> int: ...

    @property
    def columns(self) -> int: ...

    @property
    def memory_bytes(self) -> int: ...

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x: (columns, N) float32, C-contiguous, to a new (rows, N), each product and sum in float32 or better.

        Raises:
            FormatError: the stream turns out not to be one that the codec writes.
        """


@dataclass(frozen=True, kw_only=True)
class Codec:
    """One way to store a tensor; the fields are described above.

    Raises:
        ConfigError: ``code`` does not fit one byte.
    """

    name: str
    code: int
    accepts: Callable[[Tensor], bool]
    encode: Callable[[Tensor], bytes]
    decode: Callable[[memoryview, AnyType, tuple[int, ...]], Any]
    open: Callable[[memoryview, AnyType, tuple[int, ...]], Coded] | None = None
    fast: bool = False
    spares: Callable[[Tensor], tuple[str, ...]] = lambda tensor: ()

    def __post_init__(self) -> None:
        if not 0 <= self.code <= 255:
            raise ConfigError(f"codec {self.name!r} has a CODE that is not one byte", got=self.code, allowed="0 to 255")


@cache
def codecs() -> tuple[Codec, ...]:
    """All codecs of this folder, in the order of their numbers.

    Raises:
        ConfigError: two codecs claim one number.
    """
    found: dict[int, Codec] = {}
    for entry in pkgutil.iter_modules(__path__):
        if entry.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{entry.name}")
        codec = Codec(
            name=entry.name,
            code=module.CODE,
            accepts=module.accepts,
            encode=module.encode,
            decode=module.decode,
            open=getattr(module, "open", None),
            fast=getattr(module, "FAST", False),
            spares=getattr(module, "spares", Codec.spares),
        )
        if codec.code in found:
            raise ConfigError(
                "two codecs claim one number",
                got=f"{found[codec.code].name!r} and {codec.name!r}, both {codec.code}",
                remedy="give the newer codec a CODE that no file has used",
            )
        found[codec.code] = codec
    return tuple(found[code] for code in sorted(found))


def codec_by_name(name: str) -> Codec:
    """The codec of that name.

    Raises:
        UnknownNameError: no codec is called so.
    """
    known = {codec.name: codec for codec in codecs()}
    if name not in known:
        raise UnknownNameError("codec", name, [AUTO, FAST, *known])
    return known[name]


def codec_by_code(code: int) -> Codec:
    """The codec that a file means by ``code``.

    Raises:
        FormatError: no codec has that number.
    """
    known = {codec.code: codec for codec in codecs()}
    if code not in known:
        raise FormatError("the file uses a codec that this netpress does not have", got=code, allowed=sorted(known))
    return known[code]


def encode(tensor: Tensor, codec: str = AUTO) -> tuple[Codec, bytes]:
    """Stores one tensor.

    Args:
        tensor: Any shape, any device.
        codec: A codec's name, or ``"auto"``: every codec that accepts the tensor is tried, but those that another one spares, and
            the one with the fewest actual bytes taken; of equals, the one with the lowest number. ``"fast"``: so among the codecs
            that multiply fast.

    Returns:
        The codec that was used and the payload.

    Raises:
        UnknownNameError: no codec is called so.
        ConfigError: the codec, or every codec, declines the tensor.
    """
    if codec == AUTO or (codec == FAST and tensor.ndim < 2):  # what is no matrix is never multiplied in coded form
        candidates = codecs()
    elif codec == FAST:
        candidates = tuple(candidate for candidate in codecs() if candidate.fast or candidate.name == "dense")
    else:
        candidates = (codec_by_name(codec),)
    with remembering():
        accepting = [candidate for candidate in candidates if candidate.accepts(tensor)]
        spared = {name for candidate in accepting for name in candidate.spares(tensor)} if len(accepting) > 1 else set()
        stored = [(candidate, candidate.encode(tensor)) for candidate in accepting if candidate.name not in spared]
    if not stored:
        raise ConfigError(
            f"no codec for this tensor: {codec!r} declines it",
            got=f"{tensor.dtype}, shape {tuple(tensor.shape)}, {tensor.layout}",
            remedy="store it as a dense tensor of one of the types of netpress.dtypes",
        )
    return min(stored, key=lambda pair: len(pair[1]))
