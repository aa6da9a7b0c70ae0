"""Requests to stop, held back until a training step is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequests:
    """A context in which a first SIGINT or SIGTERM is only noted; a second acts as it would have without us.

    Outside the main thread, where Python lets no one set handlers, and when not ``wanted``, it does nothing.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted and threading.current_thread() is threading.main_thread()
        self._previous: dict[int, Any] = {}
        self.noted: int | None = None

    def __enter__(self) -> StopRequests:
        for number in (signal.SIGINT, signal.SIGTERM) if self._wanted else ():
            handler = signal.getsignal(number)
            if handler is not None:  # None: set by C code, and could not be put back
                self._previous[number] = handler
                signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put_back()
        if kind is None:
            self.deliver()

    def deliver(self) -> None:
        """Lets a noted signal act now: KeyboardInterrupt for SIGINT, the end of the process for SIGTERM, by default."""
        number, self.noted = self.noted, None
        if number is not None:
            signal.raise_signal(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.noted = number
        self._put_back()

    def _put_back(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
