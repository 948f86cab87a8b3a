"""Ctrl-C, put off until something that must not be left half done has been done."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Deferred:
    """While the block runs, SIGINT is noted; KeyboardInterrupt comes at its end.

    Python raises it between any two instructions, thus also between taking a lock and the code that gives it back. In
    the main thread, and where nobody has taken the signal over, it is put off; elsewhere nothing is changed.

    Notes
    -----
    For short blocks. Whoever waits in one calls :meth:`check` where there is nothing to be undone. Blocks may be
    nested: it comes at the end of the outermost.
    """

    __slots__ = ("_mine", "_noted")

    def __init__(self) -> None:
        self._mine = False
        self._noted = False

    def __enter__(self) -> Deferred:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._mine = True
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = True

    def check(self) -> None:
        """Raise KeyboardInterrupt now, if there was one."""
        if self._noted:
            self._noted = False
            raise KeyboardInterrupt

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.check()


__all__ = ["Deferred"]
