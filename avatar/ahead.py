"""Work on the items of a stream that goes on in a thread of its own while the next items are made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import TypeVar

import torch

from avatar.backbone.threads import work_alone

Item = TypeVar("Item")
Result = TypeVar("Result")


def beside(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    depth: int,
    prepare: Callable[[], object] | None = None,
) -> Iterator[Result]:
    """Results of `work` for each item, in order; errors of either come where their result would.

    Args:
        work: is called in one thread, for one item at a time.
        items: made in the caller's thread.
        depth: how many items may wait for their results.
        prepare: makes what heavy work needs, in its thread, while the first item is made; an error of it is
            left to the work, which has not got it then. Kernels of the items leave a core to heavy work.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
    try:
        waiting: deque[Future[Result]] = deque()
        with nullcontext() if prepare is None else _cores.one_for(pool):
            if prepare is not None:
                pool.submit(prepare)
            for item in items:
                waiting.append(pool.submit(work, item))
                while waiting and (waiting[0].done() or len(waiting) > depth):
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Cores:
    """The threads that kernels may use, less those given away; what ends first need not have begun last."""

    def __init__(self) -> None:
        self.lock, self.given, self.all = Lock(), 0, 1

    @contextmanager
    def one_for(self, pool: Executor) -> Iterator[None]:
        """Kernels take one thread in the only thread of a pool, and one less in the caller's: where both ask
        for all cores, they wait for each other most of the time."""
        with self.lock:
            if self.given == 0:
                self.all = torch.get_num_threads()
            pool.submit(work_alone).result()
            self._give(1)
        try:
            yield
        finally:
            with self.lock:
                self._give(-1)

    def _give(self, count: int) -> None:
        self.given += count
        torch.set_num_threads(max(1, self.all - self.given))


_cores = _Cores()
