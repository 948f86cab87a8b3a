"""The store's lock: one writer at a time over all threads and processes, mostly in the order of arrival.

It stands on ``flock``, which the kernel drops with the last descriptor of a process, so that nothing is ever judged
by age.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType

from txstore.descriptors import Descriptor, generation, guard
from txstore.errors import StorageError
from txstore.failures import storage_error
from txstore.interrupts import Deferred
from txstore.waiting import Bell, FairMutex

_TRY = fcntl.LOCK_EX | fcntl.LOCK_NB
_STAND_IN_LINE = fcntl.LOCK_SH | fcntl.LOCK_NB

#: Whoever has had the lock so short a time ago lets those go first who wait for it,
_RECENT_S = 0.001
#: and gives them so long to wake up.
_COURTESY_S = 0.0002

_EVERYBODY = 2**31 - 1

# By generation, too: a forked child must not wait for threads that it does not have.
_mutexes: weakref.WeakValueDictionary[tuple[int, str], FairMutex] = weakref.WeakValueDictionary()


class NotNeeded(Exception):
    """Who holds the lock has done what one waits for, and will :meth:`call everybody <FileLock.call_everybody>`."""


class FileLock:
    """A fair lock between threads and processes, on a file that is made when it is not there.

    Parameters
    ----------
    path : str or path
        The file. Beside it lie ``path + ".queue"``, which all that wait have locked together, and ``path + ".bell"``,
        by which they are woken.
    timeout_s : float
        How long :meth:`acquire` waits, in seconds.

    Notes
    -----
    Thread safety: any number of threads, and of objects with the same path. The threads of one process are served in
    the order of arrival. Not re-entrant.

    Process safety: those that wait are woken in the order in which they came, as long as nobody waits for more than
    20 ms: who has looks whether it has been forgotten, and stands at the end of the line again. So where the lock is
    held for longer, the order is that of their last looks. While one of them wakes up, another process may take the
    lock, but not the one that has just released it: it looks whether somebody waits, and stands behind.

    Crash safety: the kernel drops the lock with the process. Forked children do not inherit it: they do not hold what
    their parent holds, and releasing it there does nothing.
    """

    def __init__(self, path: str | os.PathLike[str], timeout_s: float = 60.0) -> None:
        # The real path, so that all objects for one file meet in one thread mutex.
        self.path = os.path.realpath(path)
        self.timeout_s = timeout_s
        self._lock: Descriptor | None = None
        self._queue: Descriptor | None = None
        self._bell: Bell | None = None
        self._released_at = 0.0
        self._wake = 1  # how many, at the release
        self._deferred: Deferred | None = None  # of the owner
        self._mutex = FairMutex()
        self._mine = False  # held through this object; changed by the mutex's owner only
        self._generation = -1
        self._renew()

    def __repr__(self) -> str:
        return f"FileLock({self.path!r}, timeout_s={self.timeout_s})"

    def _renew(self) -> None:
        """Take part in this process's life: at first, and in a forked child."""
        with guard():
            if self._generation != generation():
                self._mutex = _mutexes.setdefault((generation(), self.path), FairMutex())
                self._lock = self._queue = self._bell = None
                self._mine = False
                self._generation = generation()

    @property
    def held(self) -> bool:
        """Whether this thread holds it, through this object or another one with the same path."""
        return self._generation == generation() and self._mutex.owner == threading.get_ident()

    def acquire(self, check: Callable[[], None] = lambda: None) -> None:
        """Wait for the lock and take it.

        Parameters
        ----------
        check : callable
            Called now and then while it waits; may raise, and nothing is locked then: :class:`NotNeeded` where who
            holds the lock has done what it was for.

        Raises
        ------
        StorageError
            If it can't be had in time, if this thread holds it already or is just about to, or if the file can't be
            opened or locked.
        """
        if self._generation != generation():
            self._renew()
        mutex = self._mutex
        me = threading.get_ident()
        if mutex.owner == me:
            raise StorageError(f"this thread holds the lock {self.path} already")
        if mutex.entered or mutex.queued:
            raise StorageError(
                f"this thread waits for the lock {self.path}, or is about to take it or to give it back: what comes "
                "then, a finalizer or the handler of a signal, can't have it"
            )
        deadline = time.monotonic() + self.timeout_s
        try:
            if not mutex.acquire(self.timeout_s, check):
                raise StorageError(
                    f"waited {self.timeout_s:g} s for the lock {self.path}, which other threads of this process hold, "
                    "and nothing was done; end what they do, or raise the time-out"
                )
            self._acquire(deadline, check)
            self._mine = True
        except BaseException as error:
            # Interrupts included: they may come after the lock has.
            if mutex.owner == me:
                self._mine = False
                try:
                    for descriptor in (self._lock, self._queue):
                        if descriptor is not None:
                            descriptor.unlock()
                    # It may have been rung for this one.
                    if self._bell is not None and not isinstance(error, NotNeeded):
                        self._bell.ring()
                finally:
                    mutex.release()
            if isinstance(error, OSError) and not isinstance(error, StorageError):
                raise storage_error(f"lock {self.path}", error) from error
            raise

    def _acquire(self, deadline: float, check: Callable[[], None]) -> None:
        queue, lock = self._queue, self._lock
        if queue is None or not queue.usable:
            queue = self._queue = Descriptor(self.path + ".queue", os.O_RDWR | os.O_CREAT)
        if lock is None or not lock.usable:
            lock = self._lock = Descriptor(self.path, os.O_RDWR | os.O_CREAT)
        if self._bell is None:
            self._bell = Bell(self.path + ".bell")
        if time.monotonic() - self._released_at < _RECENT_S:
            if _locked(queue, _TRY):
                queue.unlock()
            else:
                time.sleep(_COURTESY_S)
        if _locked(lock, _TRY):
            return

        def attempt() -> bool:
            # Who is looking whether somebody waits keeps us out of the line, for a moment.
            _locked(queue, _STAND_IN_LINE)
            return _locked(lock, _TRY)

        try:
            if not self._bell.wait(attempt, deadline, check):
                raise StorageError(
                    f"waited {self.timeout_s:g} s for the lock {self.path}{_held_by(self.path)}, and nothing was done; "
                    "if it hangs, end it: the lock goes with it. To delete it would let two processes write at once"
                )
        finally:
            queue.unlock()

    def release(self) -> None:
        """Give the lock to who waits. What was done under it is done: no failure of the system comes out of here.

        Raises
        ------
        StorageError
            If this thread does not hold it.
        """
        if self._generation != generation():
            return  # what is held is the parent's
        mutex = self._mutex
        if mutex.owner != threading.get_ident() or not self._mine or self._lock is None:
            raise StorageError(f"this thread does not hold the lock {self.path}")
        self._mine = False
        try:
            self._lock.unlock()
            if self._bell is not None:
                self._bell.ring(self._wake)
            self._wake = 1
            self._released_at = time.monotonic()
        finally:
            mutex.release()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for it, be it in this process or in another one. For who holds it."""
        if self._mutex.awaited:
            return True
        queue = self._queue
        with contextlib.suppress(OSError):
            if queue is not None and queue.usable and _locked(queue, _TRY):
                queue.unlock()
                return False
        return True  # or it can't be said

    def call_everybody(self) -> None:
        """When it is released, all that wait look whether they still have to, not only the first. For who holds it."""
        self._wake = _EVERYBODY

    @contextlib.contextmanager
    def taken(self, wait: Callable[[], None]) -> Iterator[None]:
        """As the lock itself in a ``with`` statement, with what :meth:`acquire` calls while it waits."""
        self._enter(wait)
        try:
            yield
        finally:
            self.__exit__(None, None, None)

    def __enter__(self) -> FileLock:
        """Take it, and put KeyboardInterrupt off until it has been given back; while it waits it can be interrupted."""
        return self._enter(lambda: None)

    def _enter(self, wait: Callable[[], None]) -> FileLock:
        deferred = Deferred()
        deferred.__enter__()

        def look() -> None:
            deferred.check()
            wait()

        try:
            self.acquire(look)
        except BaseException as error:
            deferred.__exit__(type(error), error, error.__traceback__)
            raise
        self._deferred = deferred
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        deferred, self._deferred = self._deferred, None
        try:
            self.release()
        finally:
            if deferred is not None:
                deferred.__exit__(kind, value, traceback)

    def close(self) -> None:
        """Give the descriptors back as soon as no thread holds the lock; idempotent. A later acquire opens them again.

        Raises
        ------
        StorageError
            If this thread holds the lock, or another one for longer than the time-out.
        """
        if self._generation != generation():
            return
        mutex = self._mutex
        with Deferred() as deferred:
            if self.held or mutex.entered or mutex.queued or not mutex.acquire(self.timeout_s, deferred.check):
                raise StorageError(f"the lock {self.path} is held and can't be closed")
            try:
                for descriptor in (self._lock, self._queue):
                    if descriptor is not None:
                        descriptor.close()
                self._lock = self._queue = self._bell = None
            finally:
                mutex.release()


def _locked(file: Descriptor, how: int) -> bool:
    try:
        fcntl.flock(file.number, how)
    except BlockingIOError:
        return False
    return True


def _held_by(path: str) -> str:
    """Who holds the lock on a file, as Linux tells it; empty where it does not."""
    try:
        inode = f":{os.stat(path).st_ino}"
        with open("/proc/locks", encoding="ascii", errors="replace") as locks:
            rows = [line.split() for line in locks]
    except OSError:
        return ""
    # "1: FLOCK ADVISORY WRITE 4711 fe:00:1234 0 EOF"; those that wait have "->" after the number.
    pids = sorted({row[4] for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5].endswith(inode)})
    return f", held by process {' or '.join(pids)}" if pids else ""


__all__ = ["FileLock", "NotNeeded"]
