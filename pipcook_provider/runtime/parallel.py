"""Calling one function for many items, in order, over the cores where that helps.

The first items run where they are, which tells how long one takes. When little is left, so do all others; else chunks
of items go to threads: those are best for work that leaves Python (decoding, resizing, numpy), and need neither a
second copy of the script nor of what it holds.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

TRIAL_SECONDS = 0.1  # how long items run inline before anything else is thought of
WORTHWHILE_SECONDS = 0.3  # below that much work left, threads gain nothing
CHUNK_SECONDS = 0.02
CHUNKS_PER_WORKER = 3  # handed out ahead of the one that is waited for


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], count: int, *, workers: int | None = None
) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order; an exception is raised at its item's turn.

    Few items beyond the one that is asked for are taken from ``items``, so that memory stays bounded.

    :param count: how many items there are.
    :param workers: number of threads; the cores that this process may use by default.
    """
    remaining = iter(items)
    workers = workers or _cores()
    seconds, done = 0.0, 0
    for item in remaining:
        start = perf_counter()
        result = function(item)
        seconds += perf_counter() - start
        done += 1
        yield result
        if workers > 1 and seconds > TRIAL_SECONDS:
            break
    if (count - done) * seconds > WORTHWHILE_SECONDS * done:
        yield from _threaded(function, remaining, max(1, int(CHUNK_SECONDS * done / seconds)), workers)
    else:
        yield from map(function, remaining)


def _threaded(function: Callable[[T], R], items: Iterator[T], size: int, workers: int) -> Iterator[R]:
    pending: deque[Future[tuple[list[R], Exception | None]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pipcook-transform")
    try:
        while True:
            while len(pending) < workers * CHUNKS_PER_WORKER and (chunk := list(islice(items, size))):
                pending.append(pool.submit(_run_chunk, function, chunk))
            if not pending:
                return
            results, failure = pending.popleft().result()
            yield from results
            if failure:
                raise failure
    finally:
        pool.shutdown(cancel_futures=True)


def _run_chunk(function: Callable[[T], R], chunk: list[T]) -> tuple[list[R], Exception | None]:
    results: list[R] = []
    try:
        results.extend(map(function, chunk))
    except Exception as exc:  # raised again at its item's turn
        return results, exc
    return results, None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
