"""Signatures of operators: names, kinds and defaults of their arguments, written as one line each.

``"input weight bias:tensor?=null stride:window=1"`` reads: two tensors, an optional tensor, a window of 1 unless said.
A kind that is left out is ``tensor``; a default is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netpress.program.kinds import KINDS, Kind


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED = _Required()


@dataclass(frozen=True)
class Argument:
    """One argument: ``default`` is `REQUIRED` or a canonical value."""

    name: str
    kind: Kind
    default: Any = REQUIRED


@dataclass(frozen=True)
class Signature:
    """The arguments of one operator, in order."""

    arguments: tuple[Argument, ...]

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Reads the one-line form above."""
        arguments = []
        for word in text.split():
            head, _, default = word.partition("=")
            name, _, kind_name = head.partition(":")
            kind = KINDS[kind_name or "tensor"]
            arguments.append(Argument(name, kind, kind.check(json.loads(default)) if default else REQUIRED))
        return cls(tuple(arguments))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(argument.name for argument in self.arguments)

    def normalise(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Canonical positional arguments, trailing defaults dropped.

        Args:
            values: Argument values by name; what is absent takes its default.

        Raises:
            ValueError: A value of the wrong kind, a missing or an unknown argument.
        """
        if unknown := set(values) - set(self.names):
            raise ValueError(f"no argument {', '.join(sorted(unknown))}")
        checked = []
        for argument in self.arguments:
            if argument.name not in values:
                if argument.default is REQUIRED:
                    raise ValueError(f"argument {argument.name!r} is missing")
                checked.append(argument.default)
                continue
            try:
                checked.append(argument.kind.check(values[argument.name]))
            except ValueError as error:
                raise ValueError(f"argument {argument.name!r} must be {error}, not {values[argument.name]!r}") from None
        while checked and _equal(checked[-1], self.arguments[len(checked) - 1].default):
            checked.pop()
        return tuple(checked)

    def encode(self, args: Sequence[Any], base: int) -> list[Any]:
        """JSON of canonical positional ``args`` of the node whose value index is ``base``."""
        return [argument.kind.encode(value, base) for argument, value in zip(self.arguments, args, strict=False)]

    def decode(self, items: Any, base: int) -> tuple[Any, ...]:
        """Inverse of `encode`; ``ValueError`` on anything that `encode` would not have written."""
        if not isinstance(items, list):
            raise ValueError("arguments must be a list")
        if len(items) > len(self.arguments):
            raise ValueError(f"at most {len(self.arguments)} arguments ({', '.join(self.names)}), not {len(items)}")
        values = {}
        for argument, item in zip(self.arguments, items, strict=False):
            try:
                values[argument.name] = argument.kind.decode(item, base)
            except ValueError as error:
                raise ValueError(f"argument {argument.name!r} must be {error}, not {item!r}") from None
        return self.normalise(values)

    def bind(self, args: Sequence[Any]) -> dict[str, Any]:
        """Canonical positional ``args`` by name, defaults filled in."""
        bound = {argument.name: argument.default for argument in self.arguments}
        bound.update(zip(self.names, args, strict=False))
        return bound


def _equal(value: Any, default: Any) -> bool:
    return default is not REQUIRED and type(value) is type(default) and value == default
