"""Ctrl-C at any moment of a commit or of maintenance: nothing stays locked, and what has landed has landed whole."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from histories import create

import txstore

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
    """In the moment before the transaction has noted that it is committed: to abort it must not delete anything."""
    store = open_store(inline_bytes=0)
    create(store, "a", np.zeros((64, 64)))
    noise = np.random.default_rng(1).random((64, 64))
    tx = store.transaction()
    tx["a"][...] = noise

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is tx._finish.__func__.__code__:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(look)
    try:
        with pytest.raises(KeyboardInterrupt):
            tx.commit()
    finally:
        sys.setprofile(None)
    assert tx.status == "open"
    txid = tx.txid
    if dropped:
        del tx, look
        gc.collect()
    else:
        tx.abort()
    assert store.resolve(txid) is not None
    np.testing.assert_array_equal(open_store()["a"][...], noise)
    assert not store.verify().problems


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
