"""Waiting for a lock in the order of arrival, and giving up in time: among threads, and for another process."""

from __future__ import annotations

import fcntl
import os
import threading
from collections import deque

from txstore.descriptors import Descriptor


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


class BlockingLock(threading.Thread):
    """A blocking ``flock`` that its caller can give up on; it has descriptors of its own.

    Parameters
    ----------
    path : str
        The file to lock, made when it is not there.
    queue : str, optional
        A file to lock before it, and to unlock as soon as `path` is locked.

    Notes
    -----
    The lock comes, or the caller gives up, and whoever is second knows of the first:
    (1) the lock comes first: the descriptor goes to the caller, or is closed if the caller is just giving up;
    (2) the caller gives up first: the lock, whenever it comes, is dropped by this thread.

    A signal or a polling loop would need no thread; but signals reach the main thread only, and whoever polls
    loses against those who wait in the kernel.
    """

    def __init__(self, path: str, queue: str | None = None) -> None:
        super().__init__(name=f"txstore-lock-{os.path.basename(path)}", daemon=True)
        self._path = path
        self._queue = queue
        self._locked: Descriptor | None = None
        self._error: OSError | None = None
        self._abandoned = False
        self._decide = threading.Lock()
        # A bare lock, because it wakes its waiter sooner than an event does.
        self._running = threading.Lock()
        self._running.acquire()

    def run(self) -> None:
        """Wait in the kernel."""
        locked: Descriptor | None = None
        try:
            if self._queue is None:
                locked = _locked(self._path)
            else:
                queue = _locked(self._queue)
                try:
                    # Whoever has given up must not keep the others waiting until the lock comes.
                    if not self._abandoned:
                        locked = _locked(self._path)
                finally:
                    queue.close()
        except OSError as error:
            self._error = error
        with self._decide:
            self._locked = locked
            self._running.release()
            if self._abandoned:
                self._drop()

    def acquire(self, timeout_s: float) -> Descriptor | None:
        """Wait; the descriptor, locked, or None when the time is over. To be called once.

        Raises
        ------
        OSError
            If a file can't be opened or locked.
        """
        locked: Descriptor | None = None
        self.start()
        try:
            self._running.acquire(timeout=_bounded(timeout_s))
            with self._decide:
                locked, self._locked = self._locked, None
        finally:
            if locked is None:
                with self._decide:
                    self._abandoned = True
                    self._drop()
        if self._error is not None:
            raise self._error
        return locked

    def _drop(self) -> None:
        if self._locked is not None:
            self._locked.close()


def _locked(path: str) -> Descriptor:
    descriptor = Descriptor(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor.number, fcntl.LOCK_EX)
    return descriptor


def _bounded(timeout_s: float) -> float:
    return min(max(timeout_s, 0.0), threading.TIMEOUT_MAX)


__all__ = ["BlockingLock", "FairMutex"]
