from typing import Any

def feedback(
    weights: Any,
    factor: Any,
    importance: Any,
    rates: Any,
    fixed: Any,
    levels: Any,
    rows: int,
    columns: int,
    places: int,
    step: float,
    tradeoff: float,
    /,
) -> None: ...
def sweep(
    errors: Any,
    hessian: Any,
    importance: Any,
    rates: Any,
    fixed: Any,
    levels: Any,
    rows: int,
    columns: int,
    places: int,
    step: float,
    tradeoff: float,
    coupled: bool,
    /,
) -> int: ...
def price(levels: Any, rows: int, columns: int, places: int, rates: Any, /) -> float: ...
def contexts(levels: Any, rows: int, columns: int, places: int, contexts: Any, /) -> None: ...
