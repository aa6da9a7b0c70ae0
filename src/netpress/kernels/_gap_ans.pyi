from typing import Any

def frequencies(value_levels: Any, gap_levels: Any, precision: int, out: Any, /) -> None: ...
def table(
    frequencies: Any,
    values: int,
    gaps: int,
    precision: int,
    raw: int,
    payloads: Any,
    wide: bool,
    out: Any,
    advances: Any,
    /,
) -> None: ...
def encode(
    gaps_of: Any,
    values_of: Any,
    counts: Any,
    frequencies: Any,
    values: int,
    gaps: int,
    precision: int,
    raw: int,
    lanes: int,
    sizes: Any,
    out: Any,
    /,
) -> int: ...
def check(*coded: Any) -> None: ...
def place(*coded_and_out: Any) -> None: ...
def multiply(*coded_and_rest: Any) -> None: ...
def vectors(most: int, /) -> int: ...
