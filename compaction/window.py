"""Work on many items by a pool of threads, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Bytes that the items under work may take in memory, all together.
_BUDGET_BYTES = 48 << 20
_MOST_AHEAD = 64
#: It takes items of so many bytes together, or so many of them, to be worth waking a thread.
_BATCH_BYTES = 2 << 20
_MOST_IN_BATCH = 16


def items_at_once(item_bytes: int) -> int:
    """How many items a thread had better do one after the other, when each handles so many bytes."""
    return max(1, min(_MOST_IN_BATCH, _BATCH_BYTES // max(item_bytes, 1)))


def items_ahead(item_bytes: int, workers: int) -> int:
    """How many items may be under work at once, when each takes so many bytes."""
    return max(1, min(4 * workers, _MOST_AHEAD, _BUDGET_BYTES // max(item_bytes, 1)))


@contextmanager
def ordered(
    pool: Executor, work: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int, at_once: int = 1
) -> Iterator[Iterator[_Result]]:
    """The results of `work` on each item, in order; at most `ahead` batches begun and not yet handed out.

    Parameters
    ----------
    pool : Executor
        Runs the work; it must not itself wait for this pool.
    items : iterable
        Taken as they are needed, on the caller's thread.
    at_once : int
        Items of a batch, which one thread does one after the other.

    Notes
    -----
    When the block is left, by an exception too, nothing is running any more: what had not begun is dropped and
    what had is waited for.
    """
    waiting: deque[Future[list[_Result]]] = deque()
    left = iter(items)

    def results() -> Iterator[_Result]:
        while batch := list(islice(left, at_once)):
            if len(batch) < at_once and not waiting:
                yield from _each(work, batch)  # these are all: nobody else need be woken for them
                return
            if len(waiting) >= ahead:
                yield from first()
            waiting.append(pool.submit(_each, work, batch))
        while waiting:
            yield from first()

    def first() -> list[_Result]:
        found = waiting[0].result()  # stays in the queue, and is waited for, when this is interrupted
        waiting.popleft()
        return found

    try:
        yield results()
    finally:
        wait([future for future in waiting if not future.cancel()])


def _each(work: Callable[[_Item], _Result], items: list[_Item]) -> list[_Result]:
    return [work(item) for item in items]


__all__ = ["items_ahead", "items_at_once", "ordered"]
