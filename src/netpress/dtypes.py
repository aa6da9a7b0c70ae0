"""The ten types of number that a tensor may hold, known by name: what torch, numpy and a file call by words of their own.

Nothing here needs torch; `torch_type` imports it when it is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from netpress.errors import ConfigError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Type:
    """One type of number.

    Attributes:
        name: What documents, torch and (but for bfloat16) numpy call it.
        itemsize: Bytes of one number.
        is_floating_point: Whether it is one of floating point.
        is_signed: Whether it has numbers below zero.
    """

    name: str
    itemsize: int
    is_floating_point: bool
    is_signed: bool

    @property
    def numpy(self) -> np.dtype[Any]:
        """What an array of it holds: bfloat16, which numpy lacks, as its bits in uint16."""
        return np.dtype("uint16" if self.name == "bfloat16" else self.name)

    def __str__(self) -> str:
        return self.name


TYPES: dict[str, Type] = {
    name: Type(name, itemsize, "float" in name, name not in ("uint8", "bool"))
    for name, itemsize in {
        "float32": 4, "float16": 2, "bfloat16": 2, "float64": 8,
        "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
    }.items()
}  # fmt: skip
FLOAT32, INT64, BOOL = TYPES["float32"], TYPES["int64"], TYPES["bool"]

AnyType: TypeAlias = "Type | torch.dtype"


def type_of(dtype: object) -> Type | None:
    """The type that ``dtype``, torch's, numpy's or one of ours, stands for; None where it is none of the ten."""
    return dtype if isinstance(dtype, Type) else TYPES.get(str(dtype).removeprefix("torch."))


def known_type(dtype: object) -> Type:
    """As `type_of`.

    Raises:
        ConfigError: it is none of the ten.
    """
    found = type_of(dtype)
    if found is None:
        raise ConfigError("not a type that tensors are stored in", got=dtype, allowed=", ".join(TYPES))
    return found


def torch_type(dtype: Type) -> torch.dtype:
    """What torch calls it."""
    import torch

    found: torch.dtype = getattr(torch, dtype.name)
    return found
