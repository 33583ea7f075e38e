"""Work on the items of a stream that goes on in a thread of its own while the next items are made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def beside(work: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Iterator[Result]:
    """Results of `work` for each item, in order; errors of either come where their result would.

    Args:
        work: is called in one thread, for one item at a time.
        items: made in the caller's thread.
        depth: how many items may wait for their results.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
    try:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            while waiting and (waiting[0].done() or len(waiting) > depth):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
