"""Waiting for a lock in the order of arrival, and giving up in time: among threads, and for another process."""

from __future__ import annotations

import fcntl
import queue
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


class Attempt:
    """One attempt to lock a file, made in the kernel by another thread.

    Parameters
    ----------
    queue : Descriptor or None
        A file to lock before it, and to unlock as soon as the lock is had.
    lock : Descriptor
        The file to lock.

    Notes
    -----
    The lock comes, or the caller gives up, and whoever is second knows of the first:
    (1) the lock comes first: it is the caller's, who may still give it up;
    (2) the caller gives up first: the descriptors are the thread's, which closes them, and with them drops the lock,
    whenever it comes.
    """

    __slots__ = ("_answered", "_came", "_decide", "_given_up", "error", "lock", "queue")

    def __init__(self, queue: Descriptor | None, lock: Descriptor) -> None:
        self.queue = queue
        self.lock = lock
        self.error: OSError | None = None
        self._came = False
        self._given_up = False
        self._decide = threading.Lock()
        # A bare lock, because it wakes its waiter sooner than an event does.
        self._answered = threading.Lock()
        self._answered.acquire()

    def make(self) -> None:
        """Wait in the kernel: for the other thread."""
        try:
            if self.queue is not None:
                fcntl.flock(self.queue.number, fcntl.LOCK_EX)
            # Whoever has given up must not keep the others waiting until the lock comes.
            if not self._given_up:
                fcntl.flock(self.lock.number, fcntl.LOCK_EX)
        except OSError as error:
            self.error = error
        if self.queue is not None:
            self.queue.unlock()
        with self._decide:
            self._came = True
            if self._given_up:
                self._close()
        self._answered.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the answer; False when the time is over, and the attempt is then given up.

        Raises
        ------
        OSError
            If a file can't be locked.
        """
        if not self._answered.acquire(timeout=_bounded(timeout_s)) and self.give_up(unless_it_came=True):
            return False
        if self.error is not None:
            raise self.error
        return True

    def give_up(self, *, unless_it_came: bool = False) -> bool:
        """Leave the descriptors to be closed; False: it came, and was not to be given up then."""
        with self._decide:
            if self._came and unless_it_came:
                return False
            self._given_up = True
            if self._came:
                self._close()
        return True

    def _close(self) -> None:
        self.lock.close()
        if self.queue is not None:
            self.queue.close()


class KernelWaiter(threading.Thread):
    """A thread that makes attempts, one after the other, and ends by itself when nobody has asked for a while.

    To start a thread for each attempt costs more than a small commit does. A signal or a polling loop would need no
    thread; but signals reach the main thread only, and whoever polls loses against those who wait in the kernel.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=f"txstore-lock-{name}", daemon=True)
        self._asked: queue.SimpleQueue[Attempt] = queue.SimpleQueue()
        self._decide = threading.Lock()
        self._over = False
        self.start()

    def ask(self, attempt: Attempt) -> bool:
        """Have an attempt made; False: this thread has ended, ask another one."""
        with self._decide:
            if not self._over:
                self._asked.put(attempt)
            return not self._over

    def run(self) -> None:
        """Wait for callers, and for them."""
        while not self._over:
            try:
                self._asked.get(timeout=_IDLE_S).make()
            except queue.Empty:
                with self._decide:
                    # Somebody may have asked in the very moment of giving up.
                    self._over = self._asked.empty()


def _bounded(timeout_s: float) -> float:
    return min(max(timeout_s, 0.0), threading.TIMEOUT_MAX)


__all__ = ["Attempt", "FairMutex", "KernelWaiter"]
