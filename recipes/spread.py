"""The same work on many items: in this process, in several, or on many machines by Ray Data, in one order.

What the work writes, it writes beside its place and renames, so that nothing is half there wherever it ended.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from avatar.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int = 1,
    ray: str | None = None,
    *,
    threads: bool = False,
) -> Iterator[Result]:
    """Results in the order of the items.

    Args:
        work: a function of one item that can be pickled.
        items: what to work on.
        jobs: how many are worked on at the same time.
        ray: address of a cluster whose machines see the same files, or "local"; `jobs` does not count then.
        threads: do with threads, where the work is waiting for other programs.

    Raises:
        UserError: the package `ray` is missing, or a process was ended from outside.
    """
    if ray is not None:
        yield from _by_ray(work, items, ray)
    elif jobs == 1 or len(items) < 2:
        yield from map(work, items)
    elif threads:
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(work, items)
    else:
        yield from _by_processes(work, items, min(jobs, len(items)))


def _by_processes(work: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    # Spawned: threads of the nets' libraries do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            yield from pool.map(work, items)
        except BrokenProcessPool as error:
            raise UserError("a process was ended from outside; the same command goes on") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def give_back() -> None:
    """Return free memory to the system: glibc keeps what closed nets leave, more after every item."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _by_ray(work: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterator[Result]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(f"--ray needs Ray Data: `pip install avatar-toolkit[ray]` ({error})") from error
    if not ray.is_initialized():
        try:
            ray.init(
                None if address == "local" else address, log_to_driver=False, logging_level=logging.ERROR
            )
        except ConnectionError as error:
            raise UserError(f"--ray {address}: no cluster answers there ({error})") from error
    if not items:
        return
    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]

    def one(row: dict[str, Any]) -> dict[str, Any]:
        return {"number": row["number"], "result": pickle.dumps(work(pickle.loads(row["item"])))}

    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(one).take_all()
    for row in sorted(done, key=lambda row: row["number"]):
        yield pickle.loads(row["result"])
