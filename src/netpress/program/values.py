"""What may stand as an argument of a node besides numbers, strings and None: tensors, and the size of the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ref:
    """The value at ``index``: 0 is the network's input, ``k + 1`` the result of node ``k``."""

    index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """An integer that follows the batch: ``factor · N``."""

    factor: int


def map_refs(value: Any, change: Callable[[Ref], Any]) -> Any:
    """``value`` with every `Ref` in it, at any depth of tuples, replaced by ``change(ref)``."""
    if isinstance(value, Ref):
        return change(value)
    if isinstance(value, tuple):
        return tuple(map_refs(item, change) for item in value)
    return value


def refs(value: Any) -> list[int]:
    """Indices of all values that ``value`` refers to, in order, repeats kept."""
    found: list[int] = []
    map_refs(value, lambda ref: found.append(ref.index))
    return found
