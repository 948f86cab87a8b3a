"""Waiting for a lock in the order of arrival, and giving up in time: among threads, and for another process."""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections import deque

from txstore.descriptors import Descriptor

#: A thread that nobody has asked for so long ends.
_IDLE_S = 1.0


class FairMutex:
    """A thread lock that is handed over in the order of arrival and knows its owner.

    ``threading.Lock`` lets the thread that has just released it take it again before those that wait.

    Attributes
    ----------
    owner : int or None
        The identifier of the thread that holds it.

    Notes
    -----
    Thread safety: this is what it is for. A fork copies it as it is: a child must make a new one.
    """

    __slots__ = ("__weakref__", "_guard", "_waiting", "owner")

    def __init__(self) -> None:
        self.owner: int | None = None
        # Re-entrant, because a signal handler or a finalizer may come here in the midst of it.
        self._guard = threading.RLock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()

    def acquire(self, timeout_s: float) -> bool:
        """Take it; False after `timeout_s` seconds. Must not be called by its owner."""
        me = threading.get_ident()
        with self._guard:
            if self.owner is None:
                self.owner = me
                return True
            turn = threading.Lock()
            turn.acquire()
            entry = (me, turn)
            self._waiting.append(entry)
        try:
            turn.acquire(timeout=_bounded(timeout_s))
        except BaseException:
            if not self._leave(entry):
                self.release()
            raise
        # Not in the queue any more: it was handed over, be it in the very moment of giving up.
        return not self._leave(entry)

    def _leave(self, entry: tuple[int, threading.Lock]) -> bool:
        with self._guard:
            if entry in self._waiting:
                self._waiting.remove(entry)
                return True
            return False

    def release(self) -> None:
        """Hand it to the thread that has waited longest. Must be called by its owner."""
        with self._guard:
            if self._waiting:
                self.owner, turn = self._waiting.popleft()
                turn.release()
            else:
                self.owner = None


class KernelWaiter(threading.Thread):
    """A thread that waits in the kernel for a ``flock``, so that its caller can give up.

    It serves one acquisition after another and ends by itself when nobody has asked for a while: to start a thread
    for each costs more than a small commit does.

    Notes
    -----
    For one caller at a time. The lock comes, or the caller gives up, and whoever is second knows of the first:
    (1) the lock comes first: the caller has it, also if it was just giving up;
    (2) the caller gives up first: the descriptors are this thread's, which drops the lock whenever it comes, and ends.

    A signal or a polling loop would need no thread; but signals reach the main thread only, and whoever polls
    loses against those who wait in the kernel.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=f"txstore-lock-{name}", daemon=True)
        self._wanted: tuple[Descriptor | None, Descriptor] | None = None
        self._error: OSError | None = None
        self._came = False
        self._over = False
        self._decide = threading.Lock()
        # Bare locks, because they wake their waiter sooner than events do.
        self._asked = threading.Lock()
        self._answered = threading.Lock()
        self._asked.acquire()
        self._answered.acquire()
        self.start()

    def run(self) -> None:
        """Wait for callers, and for them."""
        while self._called():
            assert self._wanted is not None
            queue, lock = self._wanted
            error = None
            try:
                if queue is not None:
                    fcntl.flock(queue.number, fcntl.LOCK_EX)
                # Whoever has given up must not keep the others waiting until the lock comes.
                if not self._over:
                    fcntl.flock(lock.number, fcntl.LOCK_EX)
            except OSError as failed:
                error = failed
            if queue is not None:
                with contextlib.suppress(OSError):
                    queue.unlock()
            with self._decide:
                self._error = error
                self._came = True
                if self._over:
                    lock.close()
                    if queue is not None:
                        queue.close()
                    return
            del queue, lock  # they are the caller's, who may drop them
            self._answered.release()

    @property
    def over(self) -> bool:
        """Whether it has ended, or will without serving anybody again."""
        return self._over

    def _called(self) -> bool:
        if self._asked.acquire(timeout=_IDLE_S):
            return True
        with self._decide:
            # Somebody may have called in the very moment of giving up.
            if self._wanted is None:
                self._over = True
        return not self._over and self._asked.acquire()

    def acquire(self, queue: Descriptor | None, lock: Descriptor, timeout_s: float) -> bool | None:
        """Wait for a lock.

        Parameters
        ----------
        queue : Descriptor or None
            A file to lock before it, and to unlock as soon as the lock is had.
        lock : Descriptor
            The file to lock.
        timeout_s : float
            How long to wait, in seconds.

        Returns
        -------
        bool or None
            False when the time is over: the descriptors are then not the caller's any more, and this object is of no
            more use. None: this thread had ended before; ask another one.

        Raises
        ------
        OSError
            If a file can't be locked.
        """
        with self._decide:
            if self._over:
                return None
            self._wanted, self._came = (queue, lock), False
        self._asked.release()
        answered = False
        try:
            answered = self._answered.acquire(timeout=_bounded(timeout_s))
        finally:
            if not answered:
                with self._decide:
                    came = self._came
                    self._over = not came
                if came:
                    answered = self._answered.acquire()
            self._wanted = None
        if answered and self._error is not None:
            raise self._error
        return answered


def _bounded(timeout_s: float) -> float:
    return min(max(timeout_s, 0.0), threading.TIMEOUT_MAX)


__all__ = ["FairMutex", "KernelWaiter"]
