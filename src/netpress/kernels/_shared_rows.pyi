from typing import Any

def group(
    symbols: Any, columns: int, known: int, implicit: int, groups: Any, numbers: Any, sizes: Any, indices: Any, /
) -> int: ...
def ungroup(
    groups: Any,
    numbers: Any,
    number_size: int,
    sizes: Any,
    count_size: int,
    indices: Any,
    index_size: int,
    columns: int,
    known: int,
    implicit: int,
    symbols: Any,
    /,
) -> None: ...
def product(
    groups: Any,
    first_group: int,
    first_index: int,
    numbers: Any,
    number_size: int,
    sizes: Any,
    count_size: int,
    indices: Any,
    index_size: int,
    values: Any,
    implicit: int,
    columns: int,
    batch: int,
    totals: Any,
    x: Any,
    y: Any,
    /,
) -> None: ...
