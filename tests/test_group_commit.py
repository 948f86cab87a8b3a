"""Commits that who holds the store's lock makes for those that wait: as if each had had the lock. Real processes."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from histories import create
from hypothesis import given
from hypothesis import strategies as st
from scripts import eventually, process, says, tell

from txstore.boxes import Box
from txstore.directory import Directory
from txstore.errors import AlreadyExistsError, CommitUnknownError, ConflictError, CorruptionError, StorageError
from txstore.fragment import Fragment, Frame
from txstore.grid import Grid
from txstore.index import editcodec
from txstore.index.connection import Connection
from txstore.index.edits import (
    MAIN,
    ArrayEdit,
    AttributeEdit,
    Edit,
    LeaseCheck,
    NodeDelete,
    Reads,
    SegmentEdit,
    StagedFragment,
)
from txstore.segment import Kind, Place

HOLD = """
import sys
from txstore.locks import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""

WAIT = """
import sys
import txstore
store = txstore.open(sys.argv[1])
tx = store.transaction()
tx["a"][:] = 1
print("ready", flush=True)
sys.stdin.readline()
try:
    tx.commit()
except KeyboardInterrupt:
    print("interrupted", tx.status, flush=True)
sys.stdin.readline()
print(store.resolve(tx.txid), flush=True)
"""


def requests_of(store: Any) -> list[Path]:
    directory = Path(store._core.address.root) / "locks" / "commit.requests"
    return list(directory.iterdir()) if directory.exists() else []


def asked(store: Any) -> int:
    """How many requests stand there."""
    found = 0
    for path in requests_of(store):
        with contextlib.suppress(FileNotFoundError):
            found += any(path.read_bytes()[:8])
    return found


def transactions(core: Any) -> int:
    """How many transactions of the database this store has committed."""
    return int(core.index.dialect._commits)


@contextlib.contextmanager
def together(
    open_store: Any, works: list[Callable[[Any], Any]], one_by_one: int = 0, **config: Any
) -> Iterator[list[Any]]:
    """What each work has begun on a store of its own is committed, while all of them wait for the lock at once.

    Gives the transactions and, instead of those that failed, the errors. `one_by_one`: how many transactions of the
    database it takes more than one.
    """
    holder = open_store()
    results = [work(open_store(**config)) for work in works]

    def run(number: int) -> None:
        try:
            results[number].commit()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    before = [transactions(tx._tree.core) for tx in results]
    cores = [tx._tree.core for tx in results]
    with holder._core.index.dialect.exclusive():
        for thread in threads:
            thread.start()
        eventually(lambda: asked(holder) == len(works))
    for thread in threads:
        thread.join()
    assert asked(holder) == 0
    assert sum(map(transactions, cores)) - sum(before) == 1 + one_by_one
    yield results


def writing(path: str, sel: Any, value: Any) -> Callable[[Any], Any]:
    def work(store: Any) -> Any:
        tx = store.transaction(message=f"{value}", author="somebody", properties={"value": value})
        tx[path][sel] = value
        return tx

    return work


def test_those_that_wait_are_committed_in_one_transaction(open_store: Any) -> None:
    store = open_store()
    create(store, "a", np.zeros((8, 4), "i4"))
    with together(open_store, [writing("a", np.s_[row], row + 1) for row in range(8)]) as transactions:
        commits = [tx.commit_info for tx in transactions]
        versions = sorted(commit.version for commit in commits)
        assert versions == list(range(2, 10))
        log = {commit.version: commit for commit in store.log()}
        for row, (tx, commit) in enumerate(zip(transactions, commits, strict=True)):
            # What is told to who has waited is what stands in the log.
            assert log[commit.version] == commit and tx.status == "committed"
            assert commit.message == str(row + 1) and commit.author == "somebody" and commit.txid == tx.txid
            assert commit.properties == {"value": row + 1} and commit.parents == (commit.version - 1,)
            rows = store.snapshot(version=commit.version)["a"][:, 0]
            assert sorted(rows[rows > 0]) == sorted(
                other + 1 for other in range(8) if commits[other].version <= commit.version
            )
            assert store.resolve(tx.txid) == commit
            # And so is what who has waited sees from now on.
            with tx._tree.core.pinned() as (state, _):
                assert state.version == 9
        np.testing.assert_array_equal(store["a"][...], np.repeat(np.arange(1, 9), 4).reshape(8, 4))


def test_the_first_of_those_that_write_the_same_cells_wins(open_store: Any) -> None:
    store = open_store()
    create(store, "a", np.zeros(16, "i4"))
    works = [writing("a", np.s_[0:4], value) for value in (1, 2, 3)] + [writing("a", np.s_[8:12], 4)]
    with together(open_store, works) as results:
        failed = [result for result in results if isinstance(result, ConflictError)]
        assert len(failed) == 2
        (winner,) = [number for number in range(3) if results[number] not in failed]
        np.testing.assert_array_equal(store["a"][:12], [winner + 1] * 4 + [0] * 4 + [4] * 4)
        assert {error.conflicts[0].commit for error in failed} == {results[winner].commit_info.version}


def test_appends_land_one_behind_the_other(open_store: Any) -> None:
    store = open_store()
    create(store, "a", shape=(0, 4), dtype="i4", chunks=(4, 4))
    appended: dict[int, Any] = {}

    def appending(value: int) -> Callable[[Any], Any]:
        def work(one: Any) -> Any:
            tx = one.transaction()
            appended[value] = tx["a"].append(np.full((3, 4), value, "i4"))
            return tx

        return work

    with together(open_store, [appending(value) for value in range(1, 7)]) as transactions:
        assert sorted(each.box.lo[0] for each in appended.values()) == [0, 3, 6, 9, 12, 15]
        for value, tx in enumerate(transactions, 1):
            each = appended[value]
            assert each.final and tx.commit_info.appended == (("a", each.box),)
            np.testing.assert_array_equal(store["a"][each.box.slices()], np.full((3, 4), value))
        assert store["a"].shape == (18, 4)


def test_accumulations_fills_attributes_and_files(open_store: Any) -> None:
    store = open_store()
    create(store, "sum", np.zeros(4, "i4"))
    create(store, "filled", np.zeros(8, "u1"))
    create(store, "big", np.zeros((64, 64), "f8"), chunks=(32, 32))
    noise = np.random.default_rng(1).random((64, 64))

    def adding(one: Any) -> Any:
        tx = one.transaction()
        tx["sum"].accumulate(..., np.arange(4, dtype="i4"), op="add")
        return tx

    def filling(one: Any) -> Any:
        tx = one.transaction()
        tx["filled"][2:5] = 7
        tx["filled"].attrs["unit"] = "m"
        return tx

    def writing_big(one: Any) -> Any:
        tx = one.transaction()
        tx["big"][...] = noise
        return tx

    with together(open_store, [adding, adding, adding, filling, writing_big], inline_bytes=1000):
        np.testing.assert_array_equal(store["sum"][...], 3 * np.arange(4))
        np.testing.assert_array_equal(store["filled"][...], [0, 0, 7, 7, 7, 0, 0, 0])
        assert dict(store["filled"].attrs) == {"unit": "m"}
        np.testing.assert_array_equal(store["big"][...], noise)


def test_structure_masks_and_serializable_transactions_are_left_to_their_own(open_store: Any) -> None:
    store = open_store()
    create(store, "a", np.zeros(16, "i4"))

    def making(one: Any) -> None:
        with one.transaction() as tx:
            tx.create_array("b", shape=(4,), dtype="i4")

    def masking(one: Any) -> None:
        with one.transaction() as tx:
            tx["a"].vindex[[1, 5]] = np.array([1, 2], "i4")

    def serializing(one: Any) -> None:
        with one.transaction(isolation="serializable") as tx:
            tx["a"][8:12] = tx["a"][12:16] + 1

    holder = open_store()
    errors: list[BaseException] = []

    def run(work: Callable[[Any], None]) -> None:
        try:
            work(open_store())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in (making, masking, serializing)]
    with holder._core.index.dialect.exclusive():
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        assert asked(holder) == 0
    for thread in threads:
        thread.join()
    assert errors == []
    np.testing.assert_array_equal(store["a"][...], [0, 1, 0, 0, 0, 2, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    assert "b" in store


def test_who_gives_up_waiting_is_not_committed_later(open_store: Any) -> None:
    store, other = open_store(), open_store(lock_timeout_s=0.3)
    create(store, "a", np.zeros(4, "i4"))
    tx = writing("a", np.s_[:], 1)(other)
    with process(HOLD, store._core.index.dialect.lock.path) as holder:
        assert says(holder) == "held"
        with pytest.raises(StorageError, match=r"waited 0\.3 s"):
            tx.commit()
        assert asked(store) == 0 and tx.status == "aborted"
        tell(holder)
        assert says(holder) == "released"
    writing("a", np.s_[0:1], 5)(store).commit()
    np.testing.assert_array_equal(store["a"][...], [5, 0, 0, 0])
    assert store.resolve(tx.txid) is None


def test_who_is_interrupted_while_waiting_is_not_committed_later(open_store: Any) -> None:
    store = open_store()
    create(store, "a", np.zeros(4, "i4"))
    with process(WAIT, store._core.address.root) as waiter:
        assert says(waiter) == "ready"
        with store._core.index.dialect.exclusive():
            tell(waiter)
            eventually(lambda: asked(store) == 1)
            waiter.send_signal(signal.SIGINT)
            assert says(waiter) == "interrupted unknown"
        writing("a", np.s_[0:1], 5)(store).commit()
        tell(waiter)
        assert says(waiter) == "None"
    np.testing.assert_array_equal(store["a"][...], [5, 0, 0, 0])


def test_syncing_left_to_the_system_is_not_shared(open_store: Any) -> None:
    """Who does not sync must not commit for who has been promised that it is."""
    store = open_store()
    create(store, "a", np.zeros((2, 4), "i4"))
    careless = open_store(durability="os")
    assert careless._core.index.dialect.requests is None
    careful = open_store()
    thread = threading.Thread(target=writing("a", np.s_[0], 1)(careful).commit)
    with careless._core.index.dialect.exclusive():
        thread.start()
        eventually(lambda: asked(store) == 1)
    thread.join()
    assert transactions(careful._core) == 1
    writing("a", np.s_[1], 2)(careless).commit()
    np.testing.assert_array_equal(store["a"][...], [[1] * 4, [2] * 4])


def test_what_is_for_another_store_or_makes_no_sense_is_left(open_store: Any) -> None:
    store, other = open_store("one"), open_store("two")
    create(store, "a", np.zeros(4, "i4"))
    create(other, "a", np.zeros(4, "i4"))
    requests = store._core.index.dialect.requests
    mine, others = store._core.index.identity, other._core.index.identity
    edit = Edit(uuid.uuid4().bytes, MAIN, base=1, parent=1, arrays=(ArrayEdit(7, "a", Grid((4,), None, (4,)), (4,)),))
    nameless = editcodec.pack(replace(edit, txid=b""))
    bodies = [
        b"",
        b"nonsense",
        mine,
        mine + b"\x00",
        mine + b"\x97\x01",
        others + editcodec.pack(edit),
        mine + nameless,
    ]
    waiting = [requests.ask(body) for body in bodies]
    writer = threading.Thread(target=writing("a", np.s_[1:2], 2)(store).commit)
    with open_store("one")._core.index.dialect.exclusive():
        writer.start()
        eventually(lambda: asked(store) == len(bodies) + 1)
    waiter = threading.Thread(target=writing("a", np.s_[2:3], 3)(open_store("one")).commit)
    waiter.start()
    writer.join()
    waiter.join()
    for request in waiting:
        assert request.answer is None
        requests.end(request)
    np.testing.assert_array_equal(store["a"][...], [0, 2, 3, 0])
    np.testing.assert_array_equal(other["a"][...], [0, 0, 0, 0])


# --- in the midst of it ---------------------------------------------------------------------------

LEADER = """
import os, signal, sys
import txstore
from txstore.index import commit as commits
from txstore.index.connection import Connection
root, when = sys.argv[1:]
store = txstore.open(root)
tx = store.transaction()
tx["a"][0] = 1
apply_others, commit = commits._apply_others, Connection.commit
def hold(*args):
    print("holds", flush=True)
    sys.stdin.readline()
    return apply_others(*args)
def stop(self):
    if when == "slow":
        print("slow", flush=True)
        sys.stdin.readline()
    if when != "before":
        commit(self)
    if when == "landed":
        print("landed", flush=True)
        sys.stdin.readline()
    if when != "slow":
        os.kill(os.getpid(), signal.SIGKILL)
commits._apply_others, Connection.commit = hold, stop
tx.commit()
print("done", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def led(
    open_store: Any, when: str, works: list[Callable[[Any], Any]], **config: Any
) -> Iterator[tuple[Any, list[Any]]]:
    """Commit while another process, which has the lock, is about to commit for all of them."""
    holder = open_store()
    results = [work(open_store(**config)) for work in works]

    def run(number: int) -> None:
        try:
            results[number].commit()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    with process(LEADER, holder._core.address.root, when) as leader:
        # It has the lock before anybody waits: nobody can come before it and commit what it has begun.
        assert says(leader) == "holds"
        for thread in threads:
            thread.start()
        eventually(lambda: asked(holder) == len(works))
        tell(leader)
        yield leader, results
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_commits_for_others_is_killed(open_store: Any, when: str) -> None:
    store = open_store()
    create(store, "a", np.zeros((5, 4), "i4"), chunks=(1, 4))
    with led(open_store, when, [writing("a", np.s_[row], row + 1) for row in range(1, 5)]) as (leader, results):
        leader.wait()
    expected = np.repeat(np.arange(1, 6), 4).reshape(5, 4)
    expected[0] = when == "after"
    np.testing.assert_array_equal(store["a"][...], expected)
    # Each is there once, whoever has committed it, and knows its version.
    log = [commit.version for commit in store.log() if commit.author is not None]
    assert sorted(log) == sorted(tx.commit_info.version for tx in results)


def test_who_commits_for_others_takes_longer_than_they_wait(open_store: Any) -> None:
    store = open_store()
    create(store, "a", np.zeros((2, 4), "i4"), chunks=(1, 4))
    stages: list[Any] = []

    def staging(one: Any) -> Any:
        stages.append(writing("a", np.s_[1], 2)(one))
        return stages[0]

    with led(open_store, "slow", [staging], lock_timeout_s=2) as (leader, results):
        assert says(leader) == "slow"
        eventually(lambda: isinstance(results[0], BaseException))
        assert isinstance(results[0], CommitUnknownError) and stages[0].status == "unknown"
        tell(leader)
        assert says(leader) == "done"
    assert store.resolve(stages[0].txid) is not None
    np.testing.assert_array_equal(store["a"][...], [[1] * 4, [2] * 4])


@pytest.mark.parametrize("undone", [False, True])
def test_the_database_fails_with_what_others_ask_for(
    open_store: Any, monkeypatch: pytest.MonkeyPatch, undone: bool
) -> None:
    """A full disk: SQLite may undo the statement, or all of the transaction."""
    store = open_store()
    create(store, "a", np.zeros((3, 4), "i4"), chunks=(1, 4))
    send_many, count = Connection._send_many, 0

    def fail(self: Connection, text: str, rows: Any) -> None:
        nonlocal count
        count += "fragments" in text
        if count == 2 and "fragments" in text:
            if undone:
                self.rollback()
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        send_many(self, text, rows)

    works = [writing("a", np.s_[row], row + 1) for row in range(3)]
    monkeypatch.setattr(Connection, "_send_many", fail)
    with together(open_store, works, one_by_one=1) as results:
        failed = [row for row, result in enumerate(results) if isinstance(result, BaseException)]
        assert len(failed) == undone
        assert all(isinstance(results[row], StorageError) and results[row].errno == errno.ENOSPC for row in failed)
        for row in range(3):
            np.testing.assert_array_equal(store["a"][row], 0 if row in failed else row + 1)


def test_what_can_not_be_undone_is_not_committed(open_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another's edit fails half way, and so does undoing it: nothing of the transaction may land."""
    store = open_store()
    create(store, "a", np.zeros((3, 4), "i4"), chunks=(1, 4))
    send, count = Connection._send, 0

    def fail(self: Connection, text: str, *values: Any) -> Any:
        nonlocal count
        count += "INTO commits" in text
        if "ROLLBACK TO" in text or ("INTO commits" in text and count == 2):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return send(self, text, *values)

    works = [writing("a", np.s_[row], row + 1) for row in range(3)]
    monkeypatch.setattr(Connection, "_send", fail)
    with together(open_store, works, one_by_one=1) as results:
        monkeypatch.undo()
        (failed,) = [row for row, result in enumerate(results) if isinstance(result, BaseException)]
        assert isinstance(results[failed], StorageError)
        for row in range(3):
            np.testing.assert_array_equal(store["a"][row], 0 if row == failed else row + 1)


def test_of_two_with_one_id_the_second_is_refused(open_store: Any) -> None:
    """And not told that the other's commit is its own."""
    store = open_store()
    create(store, "a", np.zeros((3, 4), "i4"), chunks=(1, 4))
    txid = uuid.uuid4()

    def named(row: int) -> Callable[[Any], Any]:
        def work(one: Any) -> Any:
            tx = one.transaction(txid=txid)
            tx["a"][row] = row
            return tx

        return work

    with together(open_store, [writing("a", np.s_[0], 5), named(1), named(2)]) as results:
        (failed,) = [row for row, result in enumerate(results) if isinstance(result, BaseException)]
        assert isinstance(results[failed], AlreadyExistsError) and failed
        np.testing.assert_array_equal(store["a"][:, 0], [5, 1, 0] if failed == 2 else [5, 0, 2])


def test_a_request_whose_file_was_cut_is_done_by_its_maker(open_store: Any) -> None:
    store = open_store()
    create(store, "a", np.zeros((2, 4), "i4"), chunks=(1, 4))
    tx = writing("a", np.s_[1], 2)(open_store())
    thread = threading.Thread(target=tx.commit)
    with store._core.index.dialect.exclusive():
        thread.start()
        eventually(lambda: asked(store) == 1)
        for path in requests_of(store):
            os.truncate(path, 10)
    thread.join()
    assert tx.status == "committed"
    np.testing.assert_array_equal(store["a"][1], 2)


def test_it_has_landed_and_that_can_not_be_found_out(open_store: Any) -> None:
    """Who has asked gets the lock, but not the index: nothing that belongs to the commit may be deleted."""
    store = open_store()
    create(store, "a", np.zeros((5, 4), "i4"), chunks=(1, 4))
    create(store, "big", np.zeros((64, 64), "f8"))
    noise = np.random.default_rng(1).random((64, 64))
    stages: list[Any] = []

    def staging(one: Any) -> Any:
        tx = one.transaction()
        tx["big"][...] = noise
        stages.append(tx)
        return tx

    with led(open_store, "landed", [staging], lock_timeout_s=1, inline_bytes=0) as (leader, results):
        assert says(leader) == "landed"
        other = sqlite3.connect(store._core.index.dialect.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # some other program
        leader.kill()
        eventually(lambda: isinstance(results[0], BaseException))
        other.execute("ROLLBACK")
        other.close()
    assert isinstance(results[0], CommitUnknownError) and stages[0].status == "unknown"
    assert store.resolve(stages[0].txid) is not None
    np.testing.assert_array_equal(store["big"][...], noise)


COUNT = """
import sys
import txstore
store = txstore.open(sys.argv[1])
row = int(sys.argv[2])
count = int(store["a"][row, 0])
while True:
    count += 1
    with store.transaction() as tx:
        tx["a"][row] = count
    print(count, flush=True)
"""


def test_writers_are_killed_while_they_commit_for_each_other(open_store: Any) -> None:
    """What has been said to be committed is; of the rest at most the one commit that was on its way."""
    store = open_store()
    create(store, "a", np.zeros((5, 4), "i4"), chunks=(1, 4))
    chance = random.Random(7)
    with contextlib.ExitStack() as stack:
        writers: dict[int, Any] = {}
        said: dict[int, int] = {}

        def start(row: int) -> None:
            writers[row] = stack.enter_context(process(COUNT, store._core.address.root, row))
            said[row] = int(says(writers[row]))

        for row in range(5):
            start(row)
        for _ in range(12):
            row = chance.randrange(5)
            time.sleep(chance.random() * 0.02)
            writers[row].kill()
            rest, _ = writers[row].communicate()
            last = int(rest.split()[-1]) if rest else said[row]
            cells = store["a"][row].tolist()
            assert len(set(cells)) == 1 and last <= cells[0] <= last + 1
            start(row)
    assert len(list((Path(store._core.address.root) / "locks" / "commit.requests").iterdir())) <= 17
    create(store, "b", np.zeros(4, "i4"))  # nothing is locked, and nobody's edit comes late
    np.testing.assert_array_equal(store["a"][...], open_store()["a"][...])


# --- an edit on its way ---------------------------------------------------------------------------


def test_an_edit_comes_out_as_it_went_in() -> None:
    grid = Grid((4, 4), (8, 8), (16, 16))
    place = Place(bytes(range(16)), 16, 100, 7, True)
    frame = Frame(Box((0, 0), (4, 8)), (0, 0), (3, -4))
    plain = Fragment(5, 1, Kind.SET, False, Box((3, 0), (7, 4)), frame, Directory.tiles([place, None]), 4)
    fill = Fragment(5, 2, Kind.FILL, False, Box((0, 0), (1, 1)), None, Directory.fill(b"abcd"), 4)
    array = ArrayEdit(
        3,
        "group/a",
        grid,
        (3, 4),
        ((1, (7, 4)),),
        (4, 0),
        (Box((3, 0), (7, 4)),),
        frozenset({1}),
        False,
        (StagedFragment(plain, True), StagedFragment(fill)),
    )
    edit = Edit(
        bytes(16),
        2,
        "branch",
        9,
        8,
        "author",
        None,
        '{"a": 1}',
        True,
        attributes=(AttributeEdit(3, "group/a", "k", None), AttributeEdit(3, "group/a", "l", "[1]")),
        arrays=(array, ArrayEdit(4, "b", Grid((), None, ()), ())),
        blob=(bytes(range(16)), b"blob"),
        segments=(SegmentEdit(bytes(16), 100),),
        bytes_written=12,
    )
    assert editcodec.portable(edit)
    back = editcodec.unpack(editcodec.pack(edit))
    assert back.arrays[0].fragments[0].fragment.directory((4, 4)).encode() == plain.directory((4, 4)).encode()
    assert [_values(staged) for staged in back.arrays[0].fragments] == [_values(staged) for staged in array.fragments]
    for one in (edit, back):
        object.__setattr__(one.arrays[0], "fragments", ())
    assert back == edit


def _values(staged: StagedFragment) -> tuple[Any, ...]:
    fragment = staged.fragment
    clip, frame = fragment.clip, fragment.frame
    return (
        fragment.order,
        fragment.kind,
        fragment.masked,
        clip,
        frame,
        fragment.directory((4, 4)).encode(),
        staged.floating,
    )


@pytest.mark.parametrize(
    "edit",
    [
        Edit(),
        Edit(branch=MAIN, lease=LeaseCheck("compact", 1)),
        Edit(branch=MAIN, reads=Reads()),
        Edit(branch=MAIN, nodes=(NodeDelete(1, "a"),)),
    ],
)
def test_what_takes_long_or_looks_at_more_is_not_handed_over(edit: Edit) -> None:
    assert not editcodec.portable(edit)


@given(
    st.binary(max_size=64)
    | st.recursive(st.none() | st.integers(0, 9) | st.binary(max_size=9), st.lists).map(msgpack.packb)
)
def test_bytes_that_are_no_edit_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptionError):
        editcodec.unpack(data)
