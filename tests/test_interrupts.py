"""Signals that are put off: which, until when, in which order; and that what was there before comes back."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from scripts import run

from txstore.interrupts import Deferred, let_through

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)


class Raised(Exception):
    """By a handler."""


class Handlers:
    """A handler that notes what comes, and raises for some."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.raising: set[int] = set()

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.seen.append(number)
        if number in self.raising:
            raise Raised(number)


@pytest.fixture
def handlers() -> Iterator[Handlers]:
    made = Handlers()
    before = {number: signal.signal(number, made.handle) for number in NUMBERS}
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def current() -> list[Any]:
    return [signal.getsignal(number) for number in sorted(signal.valid_signals())]


def test_every_handler_is_told_once_in_the_order_of_the_signals(handlers: Handlers) -> None:
    before = current()
    with Deferred():
        for number in (signal.SIGUSR2, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
            signal.raise_signal(number)
        assert not handlers.seen
    assert handlers.seen == [signal.SIGUSR2, signal.SIGINT, signal.SIGUSR1]
    assert current() == before


def test_what_is_no_handler_of_python_is_left_alone() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN), signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    with Deferred():
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
        assert isinstance(signal.getsignal(signal.SIGINT), Deferred)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGUSR1, before[0])
    signal.signal(signal.SIGUSR2, before[1])


def test_handlers_that_raise_keep_nobody_from_being_told(handlers: Handlers) -> None:
    before = current()
    handlers.raising = {signal.SIGTERM, signal.SIGALRM}
    with pytest.raises(Raised) as raised, Deferred():
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGUSR2):
            signal.raise_signal(number)
    assert handlers.seen == [signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGUSR2]
    assert raised.value.args == (signal.SIGALRM,) and str(raised.value.__context__) == str(int(signal.SIGTERM))
    assert current() == before


def test_whoever_waits_can_be_told_before_the_end(handlers: Handlers) -> None:
    handlers.raising = {signal.SIGALRM}
    with Deferred() as deferred:
        deferred.check()
        signal.raise_signal(signal.SIGALRM)
        with pytest.raises(Raised):
            deferred.check()
        deferred.check()
    assert handlers.seen == [signal.SIGALRM]


def test_nested_blocks_tell_at_the_end_of_the_outermost(handlers: Handlers) -> None:
    with Deferred():
        with Deferred() as inner:
            signal.raise_signal(signal.SIGTERM)
            inner.check()
        assert not handlers.seen
    assert handlers.seen == [signal.SIGTERM]


def test_a_handler_that_is_set_meanwhile_stays(handlers: Handlers) -> None:
    with Deferred():
        signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert handlers.seen == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_handler_that_raises_while_they_are_put_off_or_put_back(handlers: Handlers) -> None:
    """Such a signal comes between the first that is replaced and the last."""
    before = current()
    handlers.raising = set(NUMBERS)
    for event in ("on the way in", "on the way out"):
        for first, then in ((signal.SIGUSR2, signal.SIGINT), (signal.SIGINT, signal.SIGUSR2)):
            deferred = Deferred()
            with pytest.raises(Raised):
                if event == "on the way in":
                    deferred._before = Late(deferred._before, first, then)
                deferred.__enter__()
                deferred._before = Late(deferred._before, first, then)
                deferred.__exit__(None, None, None)
            assert current() == before
    assert set(handlers.seen) == {signal.SIGINT, signal.SIGUSR2}


class Late(dict[int, Any]):
    """Signals come while it is filled, and while it is gone through: after the one is noted, before the next."""

    def __init__(self, items: dict[int, Any], *numbers: int) -> None:
        super().__init__(items)
        self.numbers = list(numbers)

    def __setitem__(self, number: int, handler: Any) -> None:
        super().__setitem__(number, handler)
        if number == signal.SIGUSR1:
            self.come()

    def items(self) -> Any:
        for number, handler in list(super().items()):
            yield number, handler
            if number == signal.SIGUSR1:
                self.come()

    def come(self) -> None:
        while self.numbers:
            signal.raise_signal(self.numbers.pop())


def test_other_threads_change_nothing() -> None:
    before = current()
    seen: list[Any] = []

    def look() -> None:
        with Deferred():
            seen.append(current())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


ELSEWHERE = """
import _thread, sys, time
assert "threading" not in sys.modules
done = []

def work():
    try:
        from txstore.interrupts import Deferred
        with Deferred():
            done.append("good")
    except BaseException as error:
        done.append(repr(error))

_thread.start_new_thread(work, ())
while not done:
    time.sleep(0.01)
print(done[0])
"""


def test_where_threading_takes_another_thread_for_the_main_one() -> None:
    assert run(ELSEWHERE) == "good\n"


FORK = """
import os, signal, sys, threading
from txstore.interrupts import Deferred

signal.signal(signal.SIGUSR1, lambda number, frame: None)
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGUSR1)

statuses = []

def fork(put_off):
    child = os.fork()
    if child:
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return
    status = 1
    try:
        found = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGUSR1)
        assert (found != before) == put_off, found
        signal.raise_signal(signal.SIGINT)
        status = 0 if put_off else 2
    except KeyboardInterrupt:
        status = 3 if put_off else 0
    finally:
        os._exit(status)

with Deferred() as deferred:
    thread = threading.Thread(target=fork, args=(False,))
    thread.start()
    thread.join()
    fork(True)  # by the thread that is in the block, in the child too
    assert signal.getsignal(signal.SIGINT) is deferred
assert statuses == [0, 0], statuses
print("good")
"""


def test_a_child_of_another_thread_hears_signals() -> None:
    assert run(FORK) == "good\n"


class Ways:
    """Each way to have one."""

    def method(self, number: int, frame: Any) -> None:
        raise TimeoutError

    def __call__(self, number: int, frame: Any) -> None:
        raise TimeoutError


@pytest.mark.parametrize("handler", [Ways().method, Ways(), functools.partial(Ways().method), lambda *_: Ways()(*_)])
def test_an_error_is_let_through_only_where_a_handler_has_raised_it(handler: Any) -> None:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        try:
            try:
                signal.raise_signal(signal.SIGALRM)
            except TimeoutError as late:
                raise RuntimeError("a library's") from late
        except RuntimeError as error:
            with pytest.raises(TimeoutError):
                let_through(error)
            try:
                raise ValueError("damage that was found after a time-out is damage")
            except ValueError as other:
                let_through(other)
    finally:
        signal.signal(signal.SIGALRM, before)
