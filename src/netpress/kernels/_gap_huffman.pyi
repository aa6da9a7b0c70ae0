from typing import Any

def lengths(value_levels: Any, gap_levels: Any, limit: int, out: Any, /) -> None: ...
def table(
    lengths: Any, values: int, gaps: int, limit: int, skip: bool, raw: int, payloads: Any, out: Any, /
) -> None: ...
def encode(
    gaps_of: Any,
    values_of: Any,
    counts: Any,
    lengths: Any,
    values: int,
    gaps: int,
    limit: int,
    skip: bool,
    raw: int,
    lanes: int,
    numbers: Any,
    sizes: Any,
    out: Any,
    /,
) -> int: ...
def check(*coded: Any) -> None: ...
def place(*coded_and_out: Any) -> None: ...
def multiply(*coded_and_rest: Any) -> None: ...
