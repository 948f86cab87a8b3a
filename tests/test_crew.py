"""Threads that share a piece of work: all of it is done once, by whoever is free, and nobody is left behind."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from txstore.crew import Crew


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_every_part_is_done_once_and_by_several(pool: ThreadPoolExecutor) -> None:
    both = threading.Barrier(2, timeout=30)
    done: Counter[int] = Counter()
    threads = set()

    def work(part: int) -> None:
        if part < 2:
            both.wait()  # passed only when two threads are at work at the same time
        threads.add(threading.get_ident())
        done[part] += 1

    Crew(lambda: pool, 2).share(iter(range(1000)), work)
    assert done == Counter(range(1000))
    assert threading.get_ident() in threads and len(threads) == 2


@pytest.mark.parametrize(("size", "parts"), [(1, 1000), (2, 3), (2, 0)])
def test_the_caller_alone(size: int, parts: int) -> None:
    def nobody() -> ThreadPoolExecutor:
        raise AssertionError("no pool is needed")

    done: list[int] = []
    Crew(nobody, size).share(iter(range(parts)), done.append)
    assert done == list(range(parts))


def test_a_busy_pool_is_not_waited_for() -> None:
    done: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        # Its only thread is the one that asks for help.
        pool.submit(Crew(lambda: pool, 2).share, iter(range(100)), done.append).result(timeout=30)
    assert sorted(done) == list(range(100))


def test_where_no_thread_can_be_begun_the_caller_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[int] = []
    with ThreadPoolExecutor(2) as full:
        Crew(lambda: full, 2).share(iter(range(9)), done.append, alone=1)
    ended = ThreadPoolExecutor(2)
    ended.shutdown()
    Crew(lambda: ended, 2).share(iter(range(9)), done.append, alone=1)
    assert done == [*range(9)] * 2


def test_a_pool_that_can_not_begin_a_thread_may_still_help(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what it was given, and raises: one of its threads may come to it later."""
    free, begun, go = threading.Event(), threading.Event(), threading.Event()
    busy = pool.submit(free.wait)
    done: list[int] = []
    caller = threading.get_ident()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def work(part: int) -> None:
        if threading.get_ident() != caller:
            begun.set()
            assert go.wait(10)
            raise LookupError("of the helper")
        if not begun.is_set():
            free.set()
            assert begun.wait(10)
            monkeypatch.undo()
            threading.Timer(0.1, go.set).start()
        done.append(part)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(LookupError, match="of the helper"):
        Crew(lambda: pool, 2).share(iter(range(9)), work, alone=1)
    assert go.is_set() and busy.done()


@pytest.mark.parametrize("by_helper", [False, True])
def test_a_failure_ends_the_work_of_all(pool: ThreadPoolExecutor, by_helper: bool) -> None:
    both = threading.Barrier(2, timeout=30)
    caller = threading.get_ident()
    at_work = 0
    done: list[int] = []

    def work(part: int) -> None:
        nonlocal at_work
        at_work += 1
        if part < 2:
            both.wait()
            if (threading.get_ident() != caller) == by_helper:
                at_work -= 1
                raise KeyError(part)
        done.append(part)
        at_work -= 1

    with pytest.raises(KeyError):
        Crew(lambda: pool, 2).share(iter(range(100_000)), work)
    assert at_work == 0
    assert len(done) < 100_000


def test_a_failure_of_the_iterator(pool: ThreadPoolExecutor) -> None:
    def parts() -> Iterator[int]:
        yield from range(100)
        raise KeyError("no more")

    with pytest.raises(KeyError):
        Crew(lambda: pool, 2).share(parts(), lambda part: None)
