from typing import Any

def ham(
    payload: Any,
    lengths: Any,
    values: Any,
    rows: Any,
    bytes: Any,
    columns: int,
    batch: int,
    zero: int,
    x: Any,
    y: Any,
    /,
) -> None: ...
def sham(
    payload: Any,
    lengths: Any,
    values: Any,
    rows: Any,
    bytes: Any,
    counts: Any,
    starts: Any,
    indices: Any,
    index_size: int,
    columns: int,
    batch: int,
    x: Any,
    y: Any,
    /,
) -> None: ...
