"""Threads that give way to whoever else wants the processor."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

#: As of ``nice``: a thread of an ordinary process counts ten times as much where both want the same core.
NICENESS = 10


def background_pool(workers: int) -> ThreadPoolExecutor:
    """A pool for work that nobody waits for.

    Notes
    -----
    Its threads alone give way: whoever holds the store's lock is in the caller's, which does not. Only Linux knows a
    priority for each thread; elsewhere the pool is an ordinary one.
    """
    return ThreadPoolExecutor(workers, thread_name_prefix="txstore-background", initializer=_give_way)


def _give_way() -> None:
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, thread) < NICENESS:
            os.setpriority(os.PRIO_PROCESS, thread, NICENESS)


__all__ = ["NICENESS", "background_pool"]
