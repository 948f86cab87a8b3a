"""Work on many items by a pool of threads, a bounded number at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Bytes that the items under work may take in memory, all together.
_BUDGET_BYTES = 48 << 20
_MOST_AHEAD = 64


def items_ahead(item_bytes: int, workers: int) -> int:
    """How many items may be under work at once, when each takes so many bytes."""
    return max(1, min(4 * workers, _MOST_AHEAD, _BUDGET_BYTES // max(item_bytes, 1)))


@contextmanager
def ordered(
    pool: Executor, work: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int
) -> Iterator[Iterator[_Result]]:
    """The results of `work` on each item, in order; at most `ahead` of them begun and not yet handed out.

    Parameters
    ----------
    pool : Executor
        Runs the work; it must not itself wait for this pool.
    items : iterable
        Taken one at a time, on the caller's thread.

    Notes
    -----
    When the block is left, by an exception too, nothing is running any more: what had not begun is dropped and
    what had is waited for.
    """
    waiting: deque[Future[_Result]] = deque()

    def results() -> Iterator[_Result]:
        for item in items:
            if len(waiting) >= ahead:
                yield first()
            waiting.append(pool.submit(work, item))
        while waiting:
            yield first()

    def first() -> _Result:
        result = waiting[0].result()  # stays in the queue, and is waited for, when this is interrupted
        waiting.popleft()
        return result

    try:
        yield results()
    finally:
        wait([future for future in waiting if not future.cancel()])


__all__ = ["items_ahead", "ordered"]
