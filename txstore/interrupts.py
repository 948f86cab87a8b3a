"""Ctrl-C and other signals, put off until something that must not be left half done has been done."""

from __future__ import annotations

# What the module signal is made of. That makes members of enumerations of numbers and handlers: 2 µs each time.
import _signal  # type: ignore[import-not-found]
import functools
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = tuple(sorted(map(int, signal.valid_signals())))


class Deferred:
    """While the block runs, signals are noted; their handlers are called, and KeyboardInterrupt comes, at its end.

    Python calls handlers between any two instructions, thus also between taking a lock and the code that gives it back;
    and they may raise: Ctrl-C, a time-out by SIGALRM. In the main thread, all that are functions of Python are put off;
    elsewhere, where none is ever called, nothing is changed.

    Notes
    -----
    For short blocks. Whoever waits in one calls :meth:`check` where there is nothing to be undone. Blocks may be
    nested: what came is told at the end of the outermost. A signal that comes several times is told once, in the order
    in which they came; each to the handler that it had when the block began.

    A handler that is set meanwhile stays. Where there is none of Python, nothing is touched; what C code has installed
    over one of Python (``faulthandler.register``, some libraries), and ``signal.siginterrupt``, is undone.

    In a child that another thread forks meanwhile, there is nobody who would end the block: there it is over.
    """

    __slots__ = ("_before", "_noted", "_over", "_thread")

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._noted: dict[int, FrameType | None] = {}
        self._over = False
        self._thread = threading.get_ident()

    def __enter__(self) -> Deferred:
        if self._thread == threading.main_thread().ident:
            try:
                for number in _SIGNALS:
                    handler = _signal.getsignal(number)
                    if callable(handler) and type(handler) is not Deferred:
                        self._before[number] = handler
                        _signal.signal(number, self)
            except BaseException as error:
                self.__exit__(None, None, None)
                # Where Python was not started in what "threading" takes for the main thread, it has no signals: it is
                # the call itself that fails then, and not a handler that has not been put off yet.
                if not isinstance(error, ValueError) or error.__traceback__ is None or error.__traceback__.tb_next:
                    raise
        return self

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, in the place of what is put off."""
        if self._over:
            # It was to be put back, but a handler that was back already has raised.
            self._put_back()
            self._before[number](number, frame)
        else:
            self._noted.setdefault(number, frame)

    def check(self) -> None:
        """Tell the handlers what has come until now. They may raise."""
        if self._noted:
            number = next(iter(self._noted))
            frame = self._noted.pop(number)
            try:
                self._before[number](number, frame)
            finally:
                self.check()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before:
            try:
                self._put_back()
            finally:
                self._over = True
                self.check()

    def renew(self) -> None:
        """In a forked child: put back what a thread has replaced that is not in this process."""
        if self._thread != threading.get_ident():
            self._over = True
            self._noted.clear()
            self._put_back()

    def _put_back(self) -> None:
        try:
            for number, handler in self._before.items():
                if _signal.getsignal(number) is self:
                    _signal.signal(number, handler)
        except BaseException:
            self._put_back()  # a handler that is back already has raised
            raise


def let_through(error: BaseException) -> None:
    """Raise what the handler of a signal has raised, where an error is that, or was raised because of it.

    For whoever is about to raise another error in the place of any exception of a library: a time-out of the
    application says nothing about the data.
    """
    handlers = {code for number in _SIGNALS if (code := _code(number)) is not None}
    cause: BaseException | None = error
    while cause is not None:
        traceback = cause.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code in handlers:
                raise cause
            traceback = traceback.tb_next
        cause = cause.__cause__


def _code(number: int) -> Any:
    """What runs when the signal comes, if it is Python."""
    handler = _signal.getsignal(number)
    if type(handler) is Deferred:
        handler = handler._before.get(number)
    while isinstance(handler, functools.partial):
        handler = handler.func
    for found in (getattr(handler, "__func__", handler), type(handler).__call__):
        code = getattr(found, "__code__", None)
        if code is not None:
            return code
    return None


def _after_fork_in_child() -> None:
    for number in _SIGNALS:
        handler = _signal.getsignal(number)
        if type(handler) is Deferred:
            handler.renew()


os.register_at_fork(after_in_child=_after_fork_in_child)


__all__ = ["Deferred", "let_through"]
