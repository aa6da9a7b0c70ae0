from __future__ import annotations

import sys

import pytest

from netpress.errors import ConfigError, NetpressError
from netpress.measure import peak_memory


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_memory_that_was_freed_counts_and_that_of_others_does_not() -> None:
    base = peak_memory(python("pass"))
    assert 2e6 < base < 2e8
    large = peak_memory(python("x = bytearray(150_000_000); x[:] = b'a' * 0; x = bytearray(b'1') * 150_000_000; del x"))
    assert large - base > 140e6
    assert peak_memory(python("pass")) == pytest.approx(base, rel=0.2)  # not the largest child so far


def test_failures_say_why() -> None:
    with pytest.raises(NetpressError, match=r"(?s)exit status 1;.*ZeroDivisionError.*remedy"):
        peak_memory(python("1 / 0"))
    with pytest.raises(NetpressError, match="exit status -9"):
        peak_memory(python("import time; time.sleep(60)"), timeout_s=0.3)
    with pytest.raises(ConfigError, match="cannot be started"):
        peak_memory(["/no/such/program"])
    with pytest.raises(ConfigError, match="no command"):
        peak_memory([])
