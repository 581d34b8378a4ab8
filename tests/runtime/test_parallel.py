from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pipcook_provider.runtime.parallel import ordered_map


def slow(number: int) -> tuple[int, str]:
    """Take as long as decoding a large image, outside of Python."""
    time.sleep(0.004)
    return number * 2, threading.current_thread().name


def test_long_work_goes_to_threads_and_keeps_its_order() -> None:
    """Work that takes long is spread over threads; its results come in the order of the items."""
    results = list(ordered_map(slow, range(300), 300, workers=3))
    assert [value for value, _ in results] == [number * 2 for number in range(300)]
    assert len({name for _, name in results}) > 1


def test_short_work_stays_in_the_callers_thread() -> None:
    """Work that is soon done is not worth a thread."""
    results = list(ordered_map(slow, range(20), 20, workers=3))
    assert {name for _, name in results} == {threading.current_thread().name}


def test_exception_comes_at_its_items_turn() -> None:
    """What came before a failing item is given out first."""

    def fail_late(number: int) -> int:
        if number == 200:
            raise KeyError(number)
        return slow(number)[0]

    results: list[int] = []
    with pytest.raises(KeyError):
        results.extend(ordered_map(fail_late, range(300), 300, workers=2))
    assert results == [number * 2 for number in range(200)]


def test_few_items_are_taken_ahead() -> None:
    """Items are taken as results are, so that memory stays bounded."""
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(2000):
            taken = number
            yield number

    results = ordered_map(slow, items(), 2000, workers=2)
    for _ in range(100):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert taken < 300
