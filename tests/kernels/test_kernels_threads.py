"""Kernels side by side, and a clear word where they were not compiled."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from netpress import kernels
from netpress.kernels import _distinct
from netpress.kernels.threads import run_all


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_results_come_in_the_order_of_the_tasks(threads: int) -> None:
    assert run_all([lambda n=n: n * n for n in range(20)], threads) == [n * n for n in range(20)]
    assert run_all([], threads) == []
    assert run_all([lambda n=n: n * n for n in range(20)], threads, [n % 7 for n in range(20)]) == [
        n * n for n in range(20)
    ]


def test_the_longest_is_begun_first() -> None:
    begun: list[int] = []
    held = threading.Event()

    def task(size: int) -> int:
        begun.append(size)
        if size == 9:
            assert held.wait(30)  # here, so that the other thread does all others, in turn
        if size == 1:
            held.set()
        return size

    assert run_all([lambda size=size: task(size) for size in (3, 9, 1, 5)], 2, [3, 9, 1, 5]) == [3, 9, 1, 5]
    assert sorted(begun[:2]) == [5, 9]
    assert begun[2:] == [3, 1]


def test_two_tasks_really_run_at_once() -> None:
    meeting = threading.Barrier(2, timeout=30)
    assert sorted(run_all([meeting.wait, meeting.wait], 2)) == [0, 1]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_is_raised_once_all_have_ended(threads: int) -> None:
    done = []

    def fails(word: str) -> None:
        raise ValueError(word)

    tasks = [lambda: done.append(1), lambda: fails("first"), lambda: fails("second"), lambda: done.append(2)]
    with pytest.raises(ValueError, match="first"):
        run_all(tasks, threads)
    assert sorted(done) == ([1] if threads == 1 else [1, 2])  # alone, nothing follows the error


def test_a_kernel_that_was_not_compiled_says_what_to_do() -> None:
    with pytest.raises(ImportError, match="needs a C compiler"):
        kernels._no_such_kernel  # noqa: B018
    with pytest.raises(AttributeError):
        kernels.no_such_name  # noqa: B018


def test_distinct_numbers_patterns_by_first_sight() -> None:
    bits = np.array([7, 7, 0, 9, 0, 7], np.uint32)
    values, numbers = np.zeros(3, np.uint32), np.zeros(6, np.uint16)
    assert _distinct.distinct(bits, values, numbers) == 3
    assert values.tolist() == [7, 0, 9]
    assert numbers.tolist() == [0, 0, 1, 2, 1, 0]
    assert _distinct.distinct(bits, np.zeros(2, np.uint32), numbers) == -1


def test_distinct_agrees_with_numpy_on_many_values() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)[
        np.random.default_rng(1).integers(0, 65_536, 200_000)
    ]
    values, numbers = np.zeros(65_536, np.uint32), np.zeros(len(bits), np.uint16)
    found = _distinct.distinct(bits, values, numbers)
    assert sorted(values[:found].tolist()) == np.unique(bits).tolist()
    assert np.array_equal(values[numbers], bits)


@pytest.mark.parametrize(
    ("bits", "values", "numbers"),
    [
        (np.zeros(3, np.uint8), np.zeros(1, np.uint32), np.zeros(1, np.uint16)),
        (np.zeros(3, np.uint32), np.zeros(1, np.uint32), np.zeros(2, np.uint16)),
        (np.zeros(3, np.uint32), np.zeros(0, np.uint32), np.zeros(3, np.uint16)),
        (np.zeros(3, np.uint32), np.zeros(70_000, np.uint32), np.zeros(3, np.uint16)),
    ],
)
def test_distinct_refuses_buffers_that_do_not_fit(bits, values, numbers) -> None:
    with pytest.raises(ValueError, match=r"bits|numbers"):
        _distinct.distinct(bits, values, numbers)
