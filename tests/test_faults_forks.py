"""Forks at any moment, while threads read, commit and compact: no child waits for ever, and no commit is lost."""

from __future__ import annotations

from pathlib import Path

from scripts import run

START = """
import os, signal, sys, threading, traceback
import numpy as np
import txstore
from txstore.errors import StorageError, TransactionClosedError
from txstore.index import engine

root = sys.argv[1]
store = txstore.open(root, inline_bytes=4096)
with store.transaction() as tx:
    tx.create_array("a", data=np.zeros(4000, "i4"), chunks=(1000,), codecs=())
    tx.create_array("n", data=np.zeros(2, "i8"))


def add(place, count=1):
    def change(tx):
        tx["n"][place] = tx["n"][place] + count
    store.run(change)


def forked(work, leave=os._exit):
    # In a child, which is ended where it hangs; the process id.
    child = os.fork()
    if child:
        return child
    signal.alarm(60)
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    leave(status)


def done(child):
    status = os.waitpid(child, 0)[1]
    assert status == 0, status


def refused():
    try:
        store["n"][0]
    except StorageError as error:
        assert "forked" in str(error) and "spawn" in str(error), error
    else:
        raise AssertionError("read with the locks of another process")
"""

STORM = (
    START
    + """
stop = threading.Event()
failures = []


def over_and_over(work):
    def loop():
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            failures.append(error)
            stop.set()
    return threading.Thread(target=loop)


def read():
    assert store["a"].shape == (4000,)
    values = store["a"][...]
    assert (values == values[0]).all()
    list(store.snapshot().members())


def write():
    def change(tx):
        tx["a"][...] = np.full(4000, int(tx["n"][0]))
    store.run(change)


def maintain():
    store.compact()
    store.vacuum()


def transaction():
    tx = store.transaction()
    tx["a"][0] = 1
    tx.abort()
    with store.transaction() as tx:
        tx["n"]
    store.compact()


threads = [over_and_over(work) for work in (read, read, write, lambda: add(0), maintain)]
for thread in threads:
    thread.start()
works = [(lambda: add(1), os._exit), (read, sys.exit), (store.close, os._exit), (transaction, os._exit)]
rounds = int(sys.argv[2])
for number in range(rounds):
    for work, leave in works:
        done(forked(work, leave))
    if stop.is_set():
        break
stop.set()
for thread in threads:
    thread.join()
assert not failures, failures
assert store["n"][1] == rounds, "a commit of a child is lost"
assert store.verify().ok
print("good")
"""
)


def test_a_fork_at_any_moment(tmp_path: Path) -> None:
    assert run(STORM, tmp_path / "store", 12) == "good\n"


SURVIVES = (
    START
    + """
ours, theirs = os.pipe(), os.pipe()


def work():
    add(0)
    os.write(ours[1], b"x")
    os.read(theirs[0], 1)
    for _ in range(20):
        add(0)
    os.write(ours[1], b"x")
    os.read(theirs[0], 1)


child = forked(work)
os.read(ours[0], 1)
store.close()
os.write(theirs[1], b"x")
os.read(ours[0], 1)
with txstore.open(root, mode="r") as again:
    assert again["n"][0] == 21, again["n"][0]
os.write(theirs[1], b"x")
done(child)
with txstore.open(root, mode="r") as again:
    assert again["n"][0] == 21 and again.verify().ok
print("good")
"""
)


def test_commits_of_a_child_outlive_its_parent_s_closing(tmp_path: Path) -> None:
    """SQLite keeps locks by process: a child that took over its parent's would write a log that nobody has."""
    assert run(SURVIVES, tmp_path / "store") == "good\n"


BUSY = (
    START
    + """
engine._FORK_PATIENCE_S = 0.05
reading, go = threading.Event(), threading.Event()


def read():
    with store._core.index.read() as connection:
        engine.read_head(connection)
        reading.set()
        go.wait()
        engine.read_head(connection)


thread = threading.Thread(target=read)
thread.start()
reading.wait()
done(forked(refused))
# A store that is opened anew is the same file to SQLite.
def anew():
    try:
        txstore.open(root)
    except StorageError as error:
        assert "forked" in str(error)
    else:
        raise AssertionError("opened")
done(forked(anew))
done(forked(lambda: txstore.open(root + "-other").close()))
add(0)
go.set()
thread.join()
done(forked(lambda: add(0)))
with store._core.index.read() as connection:
    engine.read_head(connection)
    child = forked(refused)
    engine.read_head(connection)
done(child)
done(forked(lambda: add(0)))
assert store["n"][0] == 3 and store.verify().ok
print("good")
"""
)


def test_a_child_that_can_not_be_right_is_refused(tmp_path: Path) -> None:
    """Forked in the midst of a read that does not end: it would have the locks of its parent, and no others."""
    assert run(BUSY, tmp_path / "store") == "good\n"


PARENTS = (
    START
    + """
tx = store.transaction()
tx["n"][0] = 5
locked, go = threading.Event(), threading.Event()


def hold():
    # What a thread holds in the midst of a write, and its parent's child would wait for.
    with tx._tree.lock, store._core._lock, store._core._timelines[0]._lock:
        locked.set()
        go.wait()


thread = threading.Thread(target=hold)
thread.start()
locked.wait()


def child():
    for call in (lambda: tx["n"], tx.commit):
        try:
            call()
        except TransactionClosedError as error:
            assert "forked" in str(error)
        else:
            raise AssertionError("a transaction in two processes")
    tx.abort()
    assert store["n"][0] == 0
    add(1)
    store.close()


done(forked(child))
go.set()
thread.join()
assert tx.status == "open"
tx.commit()
print(store["n"][...].tolist())
"""
)


def test_a_transaction_stays_with_the_process_that_began_it(tmp_path: Path) -> None:
    assert run(PARENTS, tmp_path / "store") == "[5, 1]\n"


SHAPES = (
    START
    + """
for length in (4001, 4002):
    with store.transaction() as tx:
        tx["a"].resize((length,))
    assert store["a"].shape == (length,)
snapshot = store.snapshot()
log = snapshot._tree.timeline._shapes[1]
# As a thread leaves it that has come so far: see ShapeLog.extend.
log._versions.append(log.upto)


def child():
    assert snapshot["a"].shape == (4002,)
    assert store.snapshot(version=2)["a"].shape == (4001,)


done(forked(child))
print("good")
"""
)


def test_a_child_does_not_go_by_a_log_of_shapes_that_was_being_extended(tmp_path: Path) -> None:
    assert run(SHAPES, tmp_path / "store") == "good\n"
