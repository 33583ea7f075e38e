"""Many small pieces of work shared out among threads, where one piece is too little for a kernel to share.

PyTorch's CPU kernels share out each operation and wait for its last thread. Where other programs keep a core
busy, or pieces are small, most of the time goes into waiting. Here a thread takes a whole piece, one kernel
after the other, and there is one wait at the end.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")


def share(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Call `work`, which is without gradients, for each item, on as many threads as kernels may use."""
    count = torch.get_num_threads()
    if count == 1:
        for item in items:
            work(item)
        return
    mode = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad

    def run(item: Item) -> None:
        with mode():  # each thread has its own
            work(item)

    for _ in _pool(count, os.getpid()).map(run, items):
        pass


def work_alone() -> None:
    """Kernels called in this thread use no other; set the number of the caller's thread anew afterwards."""
    torch.set_num_threads(1)
    torch.get_num_threads()  # the first use in a thread takes the number that was set last, anywhere


@cache
def _pool(count: int, process: int) -> ThreadPoolExecutor:
    """Threads of a process in which kernels use one thread."""
    started = threading.Barrier(count + 1)

    def start() -> None:
        work_alone()
        started.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="kernels")
    for _ in range(count):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(count)
    return pool
