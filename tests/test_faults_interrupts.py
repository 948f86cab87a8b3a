"""Ctrl-C at any moment of a commit or of maintenance: nothing stays locked, and what has landed has landed whole."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from histories import create

import txstore
from txstore.errors import ConflictError, StorageError
from txstore.holder import NO_VERSION
from txstore.transaction import Transaction

PACKAGE = str(Path(txstore.__file__).parent)


class Late(Exception):
    """A time-out of the application: its handler of a signal raises it."""


def too_late(number: int, frame: FrameType | None) -> None:
    raise Late


def interrupted(at: int, work: Callable[[], None], number: int = signal.SIGINT) -> int:
    """Do it, and raise the signal at that call of a function or return from one; how many there were."""
    count = 0

    def look(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        if event in ("call", "c_return") and PACKAGE in frame.f_code.co_filename:
            count += 1
            if count == at:
                signal.raise_signal(number)

    sys.setprofile(look)
    try:
        work()
    except (KeyboardInterrupt, Late):
        pass
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.filterwarnings("ignore:.*was dropped without:ResourceWarning")
@pytest.mark.parametrize(
    ("what", "number"),
    [("commit", signal.SIGINT), ("maintenance", signal.SIGINT), ("commit", signal.SIGALRM)],
)
def test_an_interrupt_at_any_moment_leaves_nothing_locked(
    open_store: Any, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGALRM: too_late}
    before = signal.signal(signal.SIGALRM, too_late)
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)  # a signal may come in a finalizer
    store, other = open_store(lock_timeout_s=5), open_store(lock_timeout_s=5)
    create(store, "a", np.zeros(16, "i4"), chunks=(4,))
    lock = store._core.index.dialect.lock
    value = 0

    def work() -> None:
        if what == "commit":
            with store.transaction() as tx:
                tx["a"][...] = np.full(16, value)
        else:
            store.compact()
            store.expire(keep_last=2)
            store.vacuum()

    calls = interrupted(0, work)
    assert calls > 500
    for at in np.linspace(1, calls, 150 if what == "commit" else 40).astype(int).tolist():
        value += 1
        interrupted(at, work, number)
        assert not lock.held
        for one in (other, store):
            with one.transaction() as tx:
                tx["a"][0] = -value
        cells = other["a"][...]
        assert cells[0] == -value and len(set(cells[1:].tolist())) == 1
        assert {one: signal.getsignal(one) for one in handlers} == handlers
    signal.signal(signal.SIGALRM, before)


def test_an_interrupt_at_any_moment_of_a_read_leaves_no_connection_in_use(open_store: Any) -> None:
    """A forked child would be refused, for it might have inherited a read; a fork in another thread would wait."""
    store = open_store()
    create(store, "a", np.arange(16), chunks=(4,))
    index = store._core.index

    def work() -> None:
        store.snapshot(version=1)["a"][...]

    calls = interrupted(0, work)
    assert calls > 200
    for at in range(1, calls + 1):
        interrupted(at, work)
        assert not index._busy
    assert store["a"][...].tolist() == list(range(16))


@pytest.mark.filterwarnings("ignore:.*was dropped without:ResourceWarning")
@pytest.mark.parametrize("dropped", [False, True])
def test_an_interrupt_as_soon_as_a_commit_has_landed_leaves_its_file(open_store: Any, dropped: bool) -> None:
    """In the moment before the transaction lets go what it holds: to abort it must not delete anything."""
    store = open_store(inline_bytes=0)
    create(store, "a", np.zeros((64, 64)))
    noise = np.random.default_rng(1).random((64, 64))
    tx = store.transaction()
    tx["a"][...] = noise

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is Transaction._finish.__code__:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(look)
    try:
        with pytest.raises(KeyboardInterrupt):
            tx.commit()
    finally:
        sys.setprofile(None)
    assert tx.status == "committed"
    txid = tx.txid
    if not dropped:
        tx.abort()
        assert tx.status == "committed"
    del tx
    gc.collect()
    assert store._core.holder.minimum == NO_VERSION  # nothing is kept from expiring
    assert store.resolve(txid) is not None
    np.testing.assert_array_equal(open_store()["a"][...], noise)
    assert not store.verify().problems


@pytest.mark.filterwarnings("ignore:.*was dropped without:ResourceWarning")
def test_an_interrupt_at_any_moment_of_a_write_leaves_no_file_that_nobody_knows(
    open_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)  # a signal may come in a finalizer
    store = open_store(inline_bytes=0)
    create(store, "a", np.zeros(16, "i4"), chunks=(16,))

    def work() -> None:
        with store.transaction() as tx:
            tx["a"][...] = np.arange(16)
            raise Late

    calls = interrupted(0, work)
    assert calls > 100
    for at in range(1, calls + 1):
        interrupted(at, work)
    gc.collect()
    store.vacuum()
    assert store.verify().notices == ()
    assert not store.vacuum().intents


def test_the_status_is_true_wherever_an_interrupt_comes(open_store: Any) -> None:
    store = open_store()
    create(store, "a", np.zeros(4, "i4"), chunks=(4,))

    def attempt(at: int) -> int:
        tx = store.transaction()
        tx["a"].accumulate(0, 1)
        calls = interrupted(at, tx.commit)
        status = tx.status
        tx.abort()
        landed = store.resolve(tx.txid) is not None
        assert status in ({"committed", "unknown"} if landed else {"open", "aborted", "unknown"}), (at, calls, status)
        assert (tx.status == "committed") == (status == "committed")
        return calls

    calls = attempt(0)
    for at in (*range(1, calls - 80, 7), *range(calls - 80, calls)):
        attempt(at)


@pytest.mark.parametrize("inline_bytes", [0, 1 << 19])
def test_what_a_handler_raises_when_the_lock_is_given_back_is_no_failure_of_the_commit(
    open_store: Any, monkeypatch: pytest.MonkeyPatch, inline_bytes: int
) -> None:
    """It was put off until the commit had landed: a handler that itself commits, and meets a conflict."""
    store = open_store(inline_bytes=inline_bytes)
    create(store, "a", np.zeros((10, 10)), chunks=(5, 5))
    buffered = store.transaction()
    buffered["a"][0, 0] = 1.0

    def flush(number: int, frame: FrameType | None) -> None:
        buffered.commit()

    before = signal.signal(signal.SIGALRM, flush)
    dialect = store._core.index.dialect
    after = dialect.after_commit

    def now(connection: Any) -> None:
        after(connection)
        signal.raise_signal(signal.SIGALRM)

    tx = store.transaction()
    tx["a"][0, :3] = [5.0, 6.0, 7.0]
    block = tx["a"].append(np.ones((2, 10)))
    with monkeypatch.context() as patch:
        patch.setattr(dialect, "after_commit", now)
        with pytest.raises(ConflictError):
            tx.commit()
    signal.signal(signal.SIGALRM, before)
    assert tx.status == "committed" and buffered.status == "aborted"
    assert tx.commit_info.version == 2
    assert block.box.lo == (10, 0)
    assert open_store()["a"][0, :3].tolist() == [5, 6, 7]
    assert store.verify().ok


def test_a_handler_that_comes_while_its_thread_waits_for_another_can_not_have_the_lock(open_store: Any) -> None:
    """It waited behind its own thread until the time was over, and then let go what that one had."""
    store = open_store(inline_bytes=0)
    create(store, "a", np.zeros(16), chunks=(4,))
    refused: list[BaseException] = []

    def use(number: int, frame: FrameType | None) -> None:
        try:
            store.create_tag("late")
        except StorageError as error:
            refused.append(error)

    before = signal.signal(signal.SIGALRM, use)
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with store._core.index.dialect.exclusive():
            held.set()
            go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    mutex = store._core.index.dialect.lock._mutex

    def interrupt() -> None:
        while not mutex.awaited:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGALRM)
        while not refused:
            time.sleep(0.001)
        go.set()

    helper = threading.Thread(target=interrupt)
    helper.start()
    tx = store.transaction()
    tx["a"][0:5] = np.arange(5.0)
    tx.commit()
    helper.join()
    thread.join()
    signal.signal(signal.SIGALRM, before)
    assert "waits for the lock" in str(refused[0])
    assert tx.status == "committed"
    with open_store() as again:
        assert again["a"][0:5].tolist() == [0, 1, 2, 3, 4]
        assert again.verify().ok


def test_what_a_handler_raises_comes_out_as_it_is(open_store: Any) -> None:
    """Not as damage of what was being decoded."""
    store = open_store(cache_bytes=0, workers=1)
    create(store, "a", np.random.default_rng(0).integers(0, 9, (64, 64)), chunks=(16, 16))
    before = signal.signal(signal.SIGALRM, too_late)

    def work() -> None:
        store["a"][...]

    calls = interrupted(0, work)
    for at in range(1, calls + 1, 3):
        interrupted(at, work, signal.SIGALRM)
    signal.signal(signal.SIGALRM, before)
    assert calls > 100


def test_whoever_waits_for_the_lock_can_be_interrupted(open_store: Any) -> None:
    store, other = open_store(), open_store()
    create(store, "a", np.zeros(4, "i4"))
    tx = store.transaction()
    tx["a"][0] = 1
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with other._core.index.dialect.exclusive():
            held.set()
            go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            tx.commit()
    finally:
        go.set()
        thread.join()
        timer.join()
    assert store.resolve(tx.txid) is None
    with store.transaction() as tx:
        tx["a"][0] = 2
