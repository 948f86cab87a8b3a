"""Promise 1: a commit is atomic over arrays, attributes and hierarchy, and durable when it returns."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, failing_io, files, index_of, io_error, noise, put, resize, sql, watched_sql, wrapped_calls

import txstore
from txstore.errors import (
    CommitUnknownError,
    ConflictError,
    DTypeError,
    NotFoundError,
    StorageError,
    TransactionClosedError,
)

CELLS = 1 << 19  # 2 MiB of int32 that no codec makes smaller: more than the index takes in


def create_big(store: Any) -> None:
    """An array whose whole content goes to a file, in chunks of 512 KiB, and a first file for it."""
    create(store, "big", noise(CELLS, seed=1), chunks=(CELLS // 4,), codecs=())


def change_everything(tx: Any, data: Any) -> None:
    """One edit of every kind."""
    tx["big"][...] = data
    tx["big"].attrs["state"] = "new"
    tx["small"].resize((12,))
    tx["small"][8:12] = 7
    tx["small"].append([8])
    tx["count"].accumulate(np.s_[0:4], 1)
    tx.create_array("fresh/array", shape=(3,), dtype="u1", chunks=(3,))
    tx.move("old", "moved")
    del tx["doomed"]
    tx.attrs["state"] = "new"


def everything(store: Any) -> dict[str, Any]:
    """All that a reader can see."""
    snap = store.snapshot()
    found: dict[str, Any] = {"": dict(snap.attrs)}
    for path, node in snap.members(max_depth=None):
        found[path] = dict(node.attrs)
        if hasattr(node, "shape"):
            found[path]["/cells"] = (node.shape, node[...].tobytes())
    return found


@pytest.fixture
def full(store: Any) -> Any:
    """A store with something of every kind in it."""
    create_big(store)
    create(store, "small", np.arange(10, dtype="i4"))
    create(store, "count", shape=(10,), dtype="i8")
    create(store, "old", np.arange(3))
    create(store, "doomed", np.arange(3))
    return store


# -- all of it or nothing -------------------------------------------------------------------------


def test_everything_shows_at_once(full: Any) -> None:
    before = everything(full)
    early = full.snapshot()
    data = noise(CELLS, seed=2)
    with full.transaction() as tx:
        change_everything(tx, data)
        assert everything(full) == before
    after = everything(full)
    assert after["big"] == {"state": "new", "/cells": ((CELLS,), data.tobytes())}
    assert after["small"]["/cells"][0] == (13,)
    assert full["small"][8:].tolist() == [7, 7, 7, 7, 8]
    assert full["count"][...].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert after[""] == {"state": "new"}
    assert set(after) == {"", "big", "small", "count", "fresh", "fresh/array", "moved"}
    assert early["small"].shape == (10,)
    assert "old" in early and "moved" not in early


def test_one_conflict_refuses_the_whole_transaction(full: Any, tmp_path: Path) -> None:
    left = files(tmp_path)
    with full.transaction() as late:
        change_everything(late, noise(CELLS, seed=2))
        put(full, "count", 3, 5)
        before = everything(full)
        with pytest.raises(ConflictError):
            late.commit()
        assert late.status == "aborted"
        assert late.commit_info is None
    assert everything(full) == before
    assert files(tmp_path) == left
    assert full.resolve(late.txid) is None


class Sabotage(Exception):
    pass


@pytest.mark.parametrize("error", [Sabotage, KeyboardInterrupt, SystemExit])
def test_an_exception_inside_with_aborts_and_passes_on(full: Any, tmp_path: Path, error: type[BaseException]) -> None:
    before, left = everything(full), files(tmp_path)
    with pytest.raises(error) as caught, full.transaction() as tx:
        change_everything(tx, noise(CELLS, seed=2))
        raise error("mine")
    assert type(caught.value) is error
    assert tx.status == "aborted"
    assert everything(full) == before
    assert files(tmp_path) == left
    assert full.resolve(tx.txid) is None


def test_abort_leaves_nothing_and_makes_the_exit_a_no_op(full: Any, tmp_path: Path) -> None:
    before, left = everything(full), files(tmp_path)
    with full.transaction() as tx:
        change_everything(tx, noise(CELLS, seed=2))
        tx.abort()
    assert tx.status == "aborted"
    assert everything(full) == before
    assert files(tmp_path) == left


def test_a_refused_value_in_the_middle_aborts_what_came_before(full: Any, tmp_path: Path) -> None:
    before, left = everything(full), files(tmp_path)
    with pytest.raises(DTypeError), full.transaction() as tx:
        change_everything(tx, noise(CELLS, seed=2))
        tx["small"][0] = "not a number"
    assert everything(full) == before
    assert files(tmp_path) == left


def test_a_refused_write_stages_nothing_when_the_transaction_goes_on(full: Any) -> None:
    with full.transaction() as tx:
        tx["small"][0] = -1
        with pytest.raises(DTypeError):
            tx["small"][0:4] = [1, 2, 3, 2**40]
        with pytest.raises(ValueError):
            tx["small"][0:4] = [1, 2, 3]
        assert tx["small"][0:4].tolist() == [-1, 1, 2, 3]
    assert full["small"][0:4].tolist() == [-1, 1, 2, 3]


def test_a_dropped_open_transaction_warns_and_aborts(full: Any, tmp_path: Path) -> None:
    before, left = everything(full), files(tmp_path)
    tx = full.transaction()
    txid = tx.txid
    change_everything(tx, noise(CELLS, seed=2))
    with pytest.warns(ResourceWarning, match="Transaction"):
        del tx
        gc.collect()
    assert everything(full) == before
    assert files(tmp_path) == left
    assert full.resolve(txid) is None


@pytest.mark.filterwarnings("ignore:.*was dropped without:ResourceWarning")
@pytest.mark.parametrize("then", ["commit", "close"])
def test_a_dropped_transaction_waits_for_no_lock(tmp_path: Path, then: str) -> None:
    def announced() -> int:
        return len(sql(tmp_path, "SELECT uuid FROM segments WHERE state = 'intent'"))

    with txstore.open(tmp_path / "own", inline_bytes=0, lock_timeout_s=60) as store:
        create(store, "a", np.arange(8))
        left = files(tmp_path)
        tx = store.transaction()
        tx["a"][...] = np.ones(8, "i8")
        assert announced() == 1
        held, go = threading.Event(), threading.Event()

        def hold() -> None:
            with store._core.index.dialect.exclusive():
                held.set()
                go.wait(30)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        del tx
        gc.collect()
        assert thread.is_alive()  # which has the lock
        assert files(tmp_path) == left and announced() == 1
        go.set()
        thread.join()
        if then == "commit":
            put(store, "a", 0, 7)
            assert announced() == 0
    assert announced() == 0


def test_a_closed_transaction_that_is_dropped_does_not_warn(full: Any) -> None:
    for finish in ("commit", "abort"):
        tx = full.transaction()
        tx["small"][0] = 1
        getattr(tx, finish)()
        del tx
        gc.collect()  # warnings are errors here


def test_closing_the_store_aborts_what_is_open(tmp_path: Path) -> None:
    store = txstore.open(tmp_path / "own")
    create(store, "a", np.arange(4))
    tx = store.transaction()
    tx["a"][0] = 9
    store.close()
    store.close()
    assert tx.status == "aborted"
    with txstore.open(tmp_path / "own") as again:
        assert again["a"][...].tolist() == [0, 1, 2, 3]


def test_a_closed_transaction_is_told_so(full: Any) -> None:
    with full.transaction() as tx:
        handle = tx["small"]
        handle[0] = 4
        tx.commit()
    aborted = full.transaction()
    other = aborted["small"]
    aborted.abort()
    for closed, array in ((tx, handle), (aborted, other)):
        with pytest.raises(TransactionClosedError):
            array[1] = 1
        with pytest.raises(TransactionClosedError):
            array.resize((3,))
        with pytest.raises(TransactionClosedError):
            array.attrs["x"] = 1
        with pytest.raises(TransactionClosedError):
            closed.create_group("late")
        with pytest.raises(TransactionClosedError):
            closed.commit()
    assert full["small"][0:2].tolist() == [4, 1]


def test_status_follows_the_transaction(full: Any) -> None:
    tx = full.transaction()
    assert tx.status == "open"
    tx["small"][0] = 1
    tx.commit()
    assert tx.status == "committed"
    tx = full.transaction()
    tx.abort()
    assert tx.status == "aborted"


# -- faults at every step -------------------------------------------------------------------------


def test_a_failing_call_anywhere_leaves_nothing_behind(full: Any, tmp_path: Path) -> None:
    data = noise(CELLS, seed=2)
    before, left = everything(full), files(tmp_path)
    problems = []
    for at in range(1, 500):
        tx = full.transaction()
        failed = True
        with failing_io(at) as calls:
            try:
                change_everything(tx, data)
                tx.commit()
                failed = False
            except StorageError:
                pass
            finally:
                tx.abort()
        if len(calls) < at:
            break  # it ran clean
        told = {"failed": failed, "resolved": full.resolve(tx.txid), "shown": everything(full) != before}
        if not failed and told["resolved"] is not None and told["shown"]:
            break  # the call failed after the commit had landed: nobody may be told otherwise
        if told != {"failed": True, "resolved": None, "shown": False} or files(tmp_path) != left:
            problems.append(f"call {at} ({calls[at - 1]}): {told}, files {files(tmp_path) ^ left}")
            break
    assert not problems
    assert {"fsync", "fdatasync"} & set(calls), "no sync was seen: nothing is durable, or the seam has moved"
    assert full["big"].attrs["state"] == "new"
    assert files(tmp_path) > left


def test_a_failing_statement_anywhere_is_all_or_nothing_and_known(full: Any, tmp_path: Path) -> None:
    data = noise(CELLS, seed=2)
    problems = []
    for at in range(1, 500):
        left = files(tmp_path)
        sent: list[str] = []

        def fail(statement: str, connection: Any, sent: list[str] = sent, at: int = at) -> None:
            sent.append(statement)
            if len(sent) == at:
                raise io_error()

        tx = full.transaction(message=f"attempt {at}")
        outcome: Any = None
        with watched_sql(fail):
            try:
                tx["big"][...] = data + at
                tx["big"].attrs["state"] = at
                tx.create_array(f"fresh{at}", shape=(1,), dtype="i4", chunks=(1,))
                outcome = tx.commit()
            except (StorageError, CommitUnknownError) as error:
                outcome = error
                tx.abort()
        known = full.resolve(tx.txid)
        shown = (int(full["big"][0]) == int(data[0]) + at, full["big"].attrs.get("state") == at, f"fresh{at}" in full)
        if len(sent) < at:
            break
        where = f"statement {at} ({sent[at - 1].split(maxsplit=2)[:2]}): {outcome}"
        if shown != (known is not None,) * 3 or (known is None) == (not isinstance(outcome, Exception)):
            problems.append(f"{where}, but resolved as {known}, and shown: {shown}")
        if isinstance(outcome, CommitUnknownError):
            problems.append(f"{where}, though the index could be reached again")
        if known is None and files(tmp_path) != left:
            problems.append(f"{where} left {files(tmp_path) - left}")
    assert not problems, "\n".join(problems)
    assert outcome == known and shown == (True,) * 3 and at > 3


DYING_WRITER = """
import os, sys

real = os.fsync, os.fdatasync

def die_once_synced(which):
    def call(fd):
        real[which](fd)
        if os.fstat(fd).st_size > 1 << 20 and "sqlite" not in os.readlink(f"/proc/self/fd/{fd}"):
            os._exit(9)
    return call

os.fsync, os.fdatasync = die_once_synced(0), die_once_synced(1)

import numpy as np
import txstore

store = txstore.open(sys.argv[1])
with store.transaction() as tx:
    tx["big"][...] = np.random.default_rng(5).integers(-2**31, 2**31, size=tx["big"].shape, dtype="i4")
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks a descriptor's file up in /proc")
def test_what_a_dead_process_left_is_taken_by_the_next_vacuum(full: Any, tmp_path: Path) -> None:
    before, left = everything(full), files(tmp_path)
    root = index_of(tmp_path).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", DYING_WRITER, str(root)], env=environment, timeout=120)
    assert done.returncode == 9, "the writer did not die while its file was being published"
    assert files(tmp_path) > left
    assert everything(full) == before
    full.vacuum()
    assert files(tmp_path) == left
    assert everything(full) == before
    put(full, "big", np.s_[0:3], 1)


# -- durable --------------------------------------------------------------------------------------


def test_files_and_their_directories_are_synced_before_the_head_moves(full: Any, tmp_path: Path) -> None:
    left = files(tmp_path)
    synced: dict[int, int] = {}  # inode -> the head when it was last synced

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(fd: int) -> None:
            real(fd)
            synced[os.fstat(fd).st_ino] = sql(tmp_path, "SELECT head FROM store")[0][0]

        return call

    head = sql(tmp_path, "SELECT head FROM store")[0][0]
    with wrapped_calls(noted, "fsync", "fdatasync"):
        put(full, "big", ..., noise(CELLS, seed=2))
    written = files(tmp_path) - left
    assert written
    for path in written:
        assert synced.get(path.stat().st_ino) == head, f"{path} was not synced before the commit"
        assert synced.get(path.parent.stat().st_ino) == head, f"the entry of {path} was not synced before the commit"


@pytest.mark.parametrize("durability", ["full", "os"])
def test_a_commit_is_seen_by_another_opening_of_the_store(tmp_path: Path, durability: str) -> None:
    # The design names "os"; "full" is taken for the name of the default.
    with txstore.open(tmp_path / "own", durability=durability) as store:
        create(store, "a", np.arange(10))
        create_big(store)
        with txstore.open(tmp_path / "own", mode="r") as other:
            assert other["a"][...].tolist() == list(range(10))
            assert other["big"][...].tobytes() == noise(CELLS, seed=1).tobytes()
            put(store, "a", 3, 33)
            assert other["a"][3] == 33
    with txstore.open(tmp_path / "own") as again:
        assert again["a"][3] == 33
        assert again.verify().ok


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError)):
        txstore.open(tmp_path / "own", durability="hope")


# -- what a commit says ---------------------------------------------------------------------------


def test_commit_info_says_what_was_done(store: Any) -> None:
    first = create(store, "g/a", np.arange(10, dtype="i4"))
    txid = uuid.uuid4()
    with store.transaction(
        txid=txid, message="a message", author="somebody", properties={"run": 7, "tags": ["x"]}
    ) as tx:
        assert tx.txid == txid
        unfinished = tx.commit_info
        tx["g/a"][0:4] = 1
        tx["g"].attrs["k"] = 1
        tx.create_array("b", shape=(2,), dtype="i4", chunks=(2,))
    assert unfinished is None
    info = tx.commit_info
    assert info.version > first.version
    assert info.txid == txid
    assert info.committed_at > first.committed_at
    assert info.committed_at.utcoffset() is not None
    assert info.branch == "main"
    assert tuple(info.parents) == (first.version,)
    assert (info.author, info.message) == ("somebody", "a message")
    assert info.properties["run"] == 7
    assert {"g/a", "g", "b"} <= set(info.paths)
    assert not info.appended
    assert info.bytes_written >= 0
    (logged, *_) = store.log(limit=1)
    assert logged == info
    with pytest.raises(AttributeError):
        info.version = 1


def test_commit_info_tells_of_appended_blocks_and_bytes(store: Any) -> None:
    create(store, "a", np.arange(10, dtype="i4"), codecs=())
    with store.transaction() as tx:
        appended = tx["a"].append(np.arange(3, dtype="i4") + 7)
    assert tx.commit_info.appended
    assert tx.commit_info.bytes_written >= 12
    assert (tuple(appended.box.lo), tuple(appended.box.hi)) == ((10,), (13,))


def test_an_empty_transaction_makes_no_version(store: Any) -> None:
    create(store, "a", np.arange(10))
    before = [commit.version for commit in store.log()]
    with store.transaction(message="nothing") as tx:
        assert tx["a"][0] == 0
    assert tx.commit_info is None
    assert tx.status != "open"
    assert store.transaction().commit() is None
    assert [commit.version for commit in store.log()] == before
    assert store.resolve(tx.txid) is None


def test_an_empty_transaction_commits_where_allowed(store: Any) -> None:
    with store.transaction(message="nothing", allow_empty=True) as tx:
        pass
    assert tx.commit_info.message == "nothing"
    assert tx.status == "committed"
    assert next(iter(store.log())) == tx.commit_info
    assert store.resolve(tx.txid) == tx.commit_info


def test_writing_no_cells_is_an_empty_transaction(store: Any) -> None:
    create(store, "a", np.arange(10))
    with store.transaction() as tx:
        tx["a"][4:4] = 1
        tx["a"][np.zeros(10, dtype=bool)] = 1
        tx["a"].append(np.empty(0, dtype="i8"))
    assert tx.commit_info is None
    assert store["a"][...].tolist() == list(range(10))


def test_the_old_shape_and_node_stay_after_a_refused_structure_change(store: Any) -> None:
    create(store, "a", np.arange(10))
    with store.transaction() as tx:
        with pytest.raises(NotFoundError):
            del tx["missing"]
        with pytest.raises(ValueError):
            tx["a"].resize((3, 3))
        with pytest.raises(ValueError):
            tx["a"].append(np.zeros((2, 2)))
        assert tx["a"].shape == (10,)
    resize(store, "a", (11,))
    assert store["a"].shape == (11,)
