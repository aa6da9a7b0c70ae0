from typing import Any

def pack(symbols: Any, width: int, out: Any, /) -> None: ...
def unpack(payload: Any, width: int, known: int, symbols: Any, /) -> None: ...
def product(
    payload: Any,
    width: int,
    values: Any,
    row: int,
    rows: int,
    all_rows: int,
    columns: int,
    batch: int,
    x: Any,
    y: Any,
    /,
) -> None: ...
