"""The threads that do one piece of work together: the caller's own, and those of a pool that are free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from itertools import chain, islice
from typing import TypeVar

_Part = TypeVar("_Part")

#: So few parts of a read the caller does alone: to wake a thread takes as long as to do one.
ALONE = 3


class Crew:
    """The caller's thread, and those of a pool that have nothing else to do.

    Parameters
    ----------
    pool : callable, optional
        Gives the pool when it is needed; without one the caller works alone.
    size : int
        How many threads work together, the caller's among them.

    Notes
    -----
    Safe for threads and forks. The caller does what nobody else comes to do: it never waits for a pool that is busy,
    not even from within it.
    """

    def __init__(self, pool: Callable[[], Executor] | None = None, size: int = 1) -> None:
        self._pool = pool
        self._helpers = 0 if pool is None else size - 1

    def share(self, parts: Iterator[_Part], work: Callable[[_Part], None], *, alone: int = ALONE) -> None:
        """Do some work on every part, in any order.

        Parameters
        ----------
        parts : iterator
            Asked for the next one by whoever is free, one thread at a time.
        work : callable
            Is given a part; of several threads at once.
        alone : int
            So few parts the caller does without the others.

        Raises
        ------
        Exception
            What the work or the iterator raised first. Nobody is at work any more then, and parts may be left undone.
        """
        some = list(islice(parts, max(alone, self._helpers) + 1))
        if len(some) <= alone or not self._helpers:
            for part in chain(some, parts) if len(some) > alone else some:
                work(part)
            return
        rest = chain(some, parts)
        taking = threading.Lock()  # an iterator is for one thread at a time
        over = False

        def run() -> None:
            nonlocal over
            try:
                while not over:
                    with taking:
                        part = next(rest, None)
                    if part is None:
                        break
                    work(part)
            finally:
                over = True

        def help_out(helper: Future[None]) -> None:
            if helper.set_running_or_notify_cancel():
                try:
                    run()
                except BaseException as error:
                    helper.set_exception(error)
                else:
                    helper.set_result(None)

        assert self._pool is not None
        # Futures of our own: a pool that can't begin a thread keeps what it was given, but gives nothing for it.
        helpers: list[Future[None]] = [Future() for _ in range(min(self._helpers, len(some) - 1))]
        try:
            pool = self._pool()
            # Where no thread can be begun, as the interpreter ends or the system gives none, the caller works alone.
            with suppress(RuntimeError):
                for helper in helpers:
                    pool.submit(help_out, helper)
            run()
        finally:
            over = True
            # Who has not begun is not needed any more; the others are at their last part.
            begun = [helper for helper in helpers if not helper.cancel()]
            wait(begun)
        for helper in begun:
            helper.result()


__all__ = ["ALONE", "Crew"]
