"""Work in a pool, a bounded number of items at a time: the order of the results, and what runs when."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from txstore.compaction.window import items_ahead, items_at_once, ordered


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("ahead", [1, 4])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_results_are_in_order_and_items_are_taken_as_they_are_needed(
    at_once: int, ahead: int, workers: int, count: int
) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(count):
            taken.append(item)
            yield item

    found = []
    with (
        ThreadPoolExecutor(workers) as pool,
        ordered(pool, lambda item: item * item, items(), ahead, at_once) as results,
    ):
        for number, result in enumerate(results):
            found.append(result)
            # What is ahead, and the batch that waits for its turn.
            assert len(taken) <= (number // at_once + ahead + 1) * at_once
    assert found == [item * item for item in range(count)]


@pytest.mark.parametrize("at_once", [1, 5])
def test_nothing_runs_any_more_when_the_block_is_left(at_once: int) -> None:
    done: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(item: int) -> None:
        if item >= at_once:
            begun.set()
            go_on.wait()
        done.append(item)

    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(KeyboardInterrupt), ordered(pool, work, range(50), 4, at_once) as results:
            next(results)
            begun.wait()
            threading.Timer(0.01, go_on.set).start()
            raise KeyboardInterrupt
        left = len(done)
        assert at_once < left < 50  # what had begun is done, and nothing else
        pool.shutdown()
        assert len(done) == left


def test_an_error_of_the_work_is_raised() -> None:
    def work(item: int) -> int:
        if item == 7:
            raise ValueError("seven")
        return item

    with ThreadPoolExecutor(2) as pool, ordered(pool, work, range(20), 2, 4) as results:
        assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(ValueError, match="seven"):
            next(results)


def test_large_items_are_done_one_by_one() -> None:
    assert items_at_once(1) > 1
    assert items_at_once(1 << 40) == items_ahead(1 << 40, 64) == 1
