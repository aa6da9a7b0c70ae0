"""Kernels side by side: threads of Python, since the kernels release the GIL while they work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="netpress-kernel")


def run_all(tasks: Sequence[Callable[[], T]], threads: int, sizes: Sequence[int] | None = None) -> list[T]:
    """The results of all tasks, in their order; the calling thread works, too.

    Args:
        tasks: Callables without arguments that are safe to run side by side, and do not call this themselves.
        threads: How many may run at once; 1 runs them here, one after the other.
        sizes: How long each will take, in any unit: the longest is begun first, as it alone may take as long as all others.

    Raises:
        Exception: the first error of a task, by the order in which they are begun, once all have ended.
    """
    if threads <= 1 or len(tasks) <= 1:
        return [task() for task in tasks]
    if sizes is not None:
        order = sorted(range(len(tasks)), key=lambda k: -sizes[k])
        results_by_task = dict(zip(order, run_all([tasks[k] for k in order], threads), strict=True))
        return [results_by_task[k] for k in range(len(tasks))]
    waiting = [_pool(threads - 1).submit(task) for task in tasks[1:]]
    error: BaseException | None = None
    results: list[T] = []
    try:
        results.append(tasks[0]())
    except Exception as raised:
        error = raised
    for future in waiting:
        try:
            results.append(future.result())
        except Exception as raised:
            error = error or raised
    if error is not None:
        raise error
    return results
