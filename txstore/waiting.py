"""Waiting for a lock, mostly in the order of arrival, and giving up in time: among threads, and for another process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from txstore.descriptors import Descriptor

#: How long a waiter sleeps at most, should nobody ring; and where there is no bell.
_SLICE_S = 0.02
_POLL_S = 0.002
#: How long a thread sleeps at most before it looks whether it is to give up.
_NAP_S = 0.1

_WORD_BYTES = 4
_WAIT, _WAKE_OP = 0, 5  # of futex(2)
#: To add 1 before it wakes; and to wake one more if the word was -2048, for it must be asked to compare something.
_ADD_ONE = 1 << 28 | 1 << 12 | 0x800
#: Its number, on machines whose longs have 64 bits.
_FUTEX = (
    {"x86_64": 202, "aarch64": 98, "riscv64": 98}.get(os.uname().machine)
    if sys.platform == "linux" and sys.maxsize > 1 << 32
    else None
)
_NUMBER = ctypes.c_long(_FUTEX or 0)
_SYSCALL: Any = None if _FUTEX is None else ctypes.CDLL(None, use_errno=True).syscall


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64))


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
        # Re-entrant, so that a signal handler or a finalizer that comes here in the midst of it can be refused.
        self._guard = threading.RLock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()

    @property
    def awaited(self) -> bool:
        """Whether a thread waits for it."""
        return bool(self._waiting)

    @property
    def entered(self) -> bool:
        """Whether this thread is in the midst of it, interrupted by what asks: it can't be waited for here."""
        owned: bool = self._guard._is_owned()  # type: ignore[attr-defined]
        return owned

    @property
    def queued(self) -> bool:
        """Whether this thread waits for it, interrupted by what asks: it can't wait twice."""
        me = threading.get_ident()
        with self._guard:
            return any(thread == me for thread, _ in self._waiting)

    def acquire(self, timeout_s: float, check: Callable[[], None] = lambda: None) -> bool:
        """Take it; False after `timeout_s` seconds. Must not be called by its owner, nor where it is :attr:`entered`
        or :attr:`queued`.

        Where it has to wait, it calls `check`: at once, now and then, and when its turn has come. That may raise.
        """
        me = threading.get_ident()
        with self._guard:
            if self.owner is None:
                self.owner = me
                return True
            turn = threading.Lock()
            turn.acquire()
            entry = (me, turn)
            self._waiting.append(entry)
        deadline = time.monotonic() + timeout_s
        try:
            check()
            while not turn.acquire(timeout=max(min(deadline - time.monotonic(), _NAP_S), 0.0)):
                check()
                if time.monotonic() >= deadline:
                    break
            # Not in the queue any more: it was handed over, be it in the very moment of giving up.
            mine = not self._leave(entry)
            if mine:
                check()
            return mine
        except BaseException:
            if not self._leave(entry):
                self.release()
            raise

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


class Bell:
    """A word of memory by which whoever gives a lock away wakes one of the processes that wait for it: a futex.

    The lock itself is another matter: it goes with its process, whatever becomes of a bell. A blocking ``flock`` would
    need no bell, but can't be given up in time, unless by a thread that waits in one's stead and costs two changes of
    threads each time.

    Parameters
    ----------
    path : str
        A file of four bytes, made when it is not there, whose page in memory all processes share.

    Notes
    -----
    Any number of processes, one thread of each at a time. Where there is no such thing, and where the one who should
    have rung has died, waiters look again after a while. Those who have looked are the last of whom it wakes.
    """

    __slots__ = ("_file", "_word")

    def __init__(self, path: str) -> None:
        self._file: Descriptor | None = None
        self._word: ctypes.c_uint32 | None = None
        if _FUTEX is None:
            return
        with contextlib.suppress(OSError, ValueError):
            file = Descriptor(path, os.O_RDWR | os.O_CREAT)
            if os.fstat(file.number).st_size < _WORD_BYTES:
                os.pwrite(file.number, bytes(_WORD_BYTES), 0)
            self._word = ctypes.c_uint32.from_buffer(mmap.mmap(file.number, _WORD_BYTES))
            self._file = file

    # Only the kernel looks at the memory, by its address: where the file has been cut, or there is no room for its
    # page, it says so, while we would be killed.

    def _count(self) -> int:
        data = b""
        with contextlib.suppress(OSError):  # then they look again after a while
            if self._file is not None:
                data = os.pread(self._file.number, _WORD_BYTES, 0)
        return int.from_bytes(data, sys.byteorder)

    def ring(self, waiters: int = 1) -> None:
        """Wake so many of those that have waited longest. After what they are to see has happened. Never raises."""
        file, word = self._file, self._word
        if file is None or word is None or not file.usable:
            return
        # One call of the system counts and wakes: each commit ends with it, and most have nobody to wake.
        woken = _futex(word, _WAKE_OP, waiters, None, word, _ADD_ONE)
        if woken < 0:
            with contextlib.suppress(OSError):  # the file has been cut, or there is no room for its page
                os.pwrite(file.number, bytes(_WORD_BYTES), 0)
                woken = _futex(word, _WAKE_OP, waiters, None, word, _ADD_ONE)
        if woken == 1:
            # Else it may have to wait until this process sleeps, on the same processor, though another is idle.
            os.sched_yield()

    def wait(self, attempt: Callable[[], bool], deadline: float, check: Callable[[], None]) -> bool:
        """Make attempts, the first at once and then each time it rings, until one succeeds.

        Parameters
        ----------
        attempt : callable
            Tries to take the lock; whether it has.
        deadline : float
            On the clock ``time.monotonic``.
        check : callable
            Called before each attempt; may raise.

        Returns
        -------
        bool
            False when the time is over.
        """
        word = self._word
        while True:
            # Read before the attempt: if it rings in between, the kernel sees another count and does not wait.
            count = self._count()
            check()
            if attempt():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                self.ring()  # it may have been rung for this one
                return False
            if word is None:
                time.sleep(min(left, _POLL_S))
            elif _futex(word, _WAIT, count, _Timespec(0, int(min(left, _SLICE_S) * 1e9))) < 0:
                # That it has rung, or nobody has for so long. Else it can't be heard: the file has been cut, say.
                if ctypes.get_errno() not in (errno.ETIMEDOUT, errno.EINTR) and self._count() == count:
                    time.sleep(min(left, _POLL_S))


def _futex(
    word: ctypes.c_uint32,
    operation: int,
    value: int,
    timeout: _Timespec | None = None,
    other: ctypes.c_uint32 | None = None,
    change: int = 0,
) -> int:
    # Of waking: how many. Of waiting: 0 when it was woken. Else -1, and the reason in ctypes.get_errno().
    result: int = _SYSCALL(
        _NUMBER,
        ctypes.byref(word),
        ctypes.c_int(operation),
        ctypes.c_uint32(value),
        None if timeout is None else ctypes.byref(timeout),
        None if other is None else ctypes.byref(other),
        ctypes.c_uint32(change),
    )
    return result


__all__ = ["Bell", "FairMutex"]
