"""The wish that a daemon should end: from a signal, from another thread, and waited for."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

#: How long a sleep goes on after a signal at most, where it is not woken at once.
_NAP_S = 0.5


class Stopped(Exception):
    """Raised in the middle of work that is to end; never leaves the daemon."""


class Stop:
    """Whether, and why, to stop.

    Notes
    -----
    :meth:`ask` may be called from any thread and from a signal handler, be it one that has interrupted :meth:`wait`.
    So what wakes the sleeper is a bare lock. An Event or a Condition would wait for its own lock there. And
    ``SimpleQueue.get``, which is made for it, may sleep for ever (CPython 3.11 to 3.14 at least): it hands on what is
    left of its time without a look whether that is negative, which means no limit. It is where the system or a signal
    handler has kept the thread until the time was over.
    """

    def __init__(self) -> None:
        self._reason: str | None = None
        self._asked = threading.Lock()
        self._asked.acquire()  # until the end is asked for

    @property
    def reason(self) -> str | None:
        """Why; None while nobody has asked."""
        return self._reason

    def ask(self, reason: str) -> None:
        """Ask for the end; whoever waits wakes up at once."""
        if self._reason is None:
            self._reason = reason
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # somebody else has
            self._asked.release()

    def wait(self, seconds: float) -> bool:
        """Sleep; whether the end has been asked for, before or meanwhile."""
        until = time.monotonic() + seconds
        while self._reason is None and (left := until - time.monotonic()) > 0:
            # In parts: a signal that the system gave to another thread does not wake this one.
            if self._asked.acquire(timeout=min(left, _NAP_S)):
                self._wake()  # who else waits
        return self._reason is not None

    def check(self) -> None:
        """Raise Stopped if the end has been asked for."""
        if self._reason is not None:
            raise Stopped(self._reason)

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT ask, as long as the block runs; a second SIGINT interrupts at once.

        Outside of the main thread, where Python has no signals, nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            self.ask(signal.Signals(number).name)
            if number == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.default_int_handler)

        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                # None: it was set by other than Python, which can't set it again.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


__all__ = ["Stop", "Stopped"]
