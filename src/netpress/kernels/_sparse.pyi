from typing import Any

def count(symbols: Any, counts: Any, /) -> None: ...
def split(
    items: Any, item_size: int, zero: int, columns: int, counts: Any, indices: Any, index_size: int, kept: Any, /
) -> None: ...
def merge(counts: Any, indices: Any, index_size: int, kept: Any, item_size: int, columns: int, out: Any, /) -> None: ...
def product(
    counts: Any,
    start: int,
    indices: Any,
    index_size: int,
    values: Any,
    number_size: int,
    palette: Any,
    columns: int,
    batch: int,
    x: Any,
    y: Any,
    /,
) -> None: ...
