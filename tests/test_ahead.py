"""Work beside the making of its items."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from avatar.ahead import beside


def test_results_are_in_order_and_work_goes_on_while_items_are_made() -> None:
    """The second item is made only once the first one's work is done: alone in one thread, it would wait
    for ever."""
    worked = threading.Event()
    threads = set()

    def items() -> Iterator[int]:
        yield 0
        assert worked.wait(20)
        yield from range(1, 9)

    def work(item: int) -> int:
        threads.add(threading.get_ident())
        worked.set()
        return item * item

    assert list(beside(work, items(), 3)) == [item * item for item in range(9)]
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_no_more_items_wait_than_told() -> None:
    made: list[int] = []
    release = threading.Event()

    def items() -> Iterator[int]:
        for item in range(20):
            made.append(item)
            if item == 4:
                release.set()
            yield item

    def work(item: int) -> int:
        assert release.wait(20)
        return item

    results = beside(work, items(), 4)
    assert next(results) == 0 and len(made) == 5
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("broken", ["items", "work"])
def test_errors_come_where_their_result_would(broken: str) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        if broken == "items":
            raise ValueError(3)
        yield 3

    def work(item: int) -> int:
        if item == 3:
            raise ValueError(3)
        return item

    results = beside(work, items(), 2)
    with pytest.raises(ValueError, match="3"):
        list(results)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_heavy_work_finds_what_it_needs_and_has_a_core_of_its_own(three_threads: None) -> None:
    made: list[int] = []

    def work(item: int) -> tuple[int, int, int]:
        return item, torch.get_num_threads(), made[0]

    items = (torch.get_num_threads() for _ in range(3))
    assert list(beside(work, items, 2, prepare=lambda: made.append(7))) == 3 * [(2, 1, 7)]
    assert torch.get_num_threads() == 3


def test_cores_come_back_whichever_ends_first(three_threads: None) -> None:
    def threads() -> Iterator[int]:
        while True:
            yield torch.get_num_threads()

    first, second = (beside(int, threads(), 0, prepare=list) for _ in range(2))
    assert next(first) == 2 and next(second) == 1
    for results in (first, second):
        results.close()  # type: ignore[attr-defined]
    assert torch.get_num_threads() == 3
