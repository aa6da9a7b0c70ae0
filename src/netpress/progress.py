"""How long work says how far it is: a protocol, so that no part of the library knows about terminals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """One running piece of work."""

    def advance(self, amount: int = 1, **notes: float | str) -> None:
        """Moves on by ``amount`` units; ``notes`` (such as ``loss=.31``) may be shown beside the bar."""


class Progress(Protocol):
    """Where pieces of work are announced. ``cli`` draws them on stderr; the library's default is silent."""

    def step(self, label: str, total: int | None = None) -> AbstractContextManager[Step]:
        """Opens one piece of work of ``total`` units (None: unknown)."""
        ...

    def say(self, text: str) -> None:
        """One line about what happens now."""


class _SilentStep:
    def advance(self, amount: int = 1, **notes: float | str) -> None:
        pass


class SilentProgress:
    """Shows nothing."""

    @contextmanager
    def step(self, label: str, total: int | None = None) -> Iterator[Step]:
        yield _SilentStep()

    def say(self, text: str) -> None:
        pass
