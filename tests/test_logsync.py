"""A commit is on the disk when it returns, and so is what is read; and nobody syncs for what somebody has synced."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, put, wrapped_calls
from scripts import process, says, tell

import txstore
from txstore.errors import CommitUnknownError, StorageError
from txstore.index.logsync import LogSync


@contextmanager
def log_syncs(root: Path) -> Iterator[list[int]]:
    """How long the log was each time that this process has synced it."""
    found: list[int] = []

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(number: int) -> None:
            real(number)
            if os.readlink(f"/proc/self/fd/{number}").endswith("index.sqlite-wal"):
                found.append(os.fstat(number).st_size)

        return call

    with wrapped_calls(wrap, "fsync", "fdatasync"):
        yield found


WRITER = """
import sys
import numpy as np
import txstore
store = txstore.open(sys.argv[1], mode="r+", durability=sys.argv[2])
for value in range(1, 100):
    print("ready", flush=True)
    if not sys.stdin.readline():
        break
    with store.transaction() as tx:
        tx["a"][...] = np.full(8, value)
    print("done", flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with txstore.open(tmp_path / "store") as store:
        create(store, "a", np.zeros(8, "i4"))
    return tmp_path / "store"


def test_each_commit_is_synced_after_it_is_in_the_log(root: Path) -> None:
    with txstore.open(root) as store, log_syncs(root) as syncs:
        for value in range(1, 4):
            put(store, "a", 0, value)
            # All of the log: a sync from before the commit would have found it shorter.
            assert syncs[-1] == os.stat(root / "index.sqlite-wal").st_size
        assert len(syncs) == 3
        with pytest.raises(txstore.ConflictError):
            with store.transaction() as one, store.transaction() as other:
                one["a"][0] = other["a"][0] = 1
        assert len(syncs) == 4


def test_a_reader_syncs_what_nobody_has(root: Path) -> None:
    with process(WRITER, root, "os") as writer, txstore.open(root, mode="r") as store, log_syncs(root) as syncs:
        for value in range(1, 4):
            assert says(writer) == "ready"
            tell(writer)
            assert says(writer) == "done"
            before = len(syncs)
            with txstore.open(root, mode="r+") as beside, beside.transaction() as tx:
                assert tx["a"][0] == value
                assert len(syncs) == before  # it only builds on it
                tx.abort()
            assert store["a"][0] == value
            assert len(syncs) == before + 1
            for _ in range(3):
                assert store["a"][0] == value
            assert [commit.version for commit in store.log(limit=1)] == [value + 1]
            assert len(syncs) == before + 1


def test_a_reader_need_not_sync_what_its_writer_has(root: Path) -> None:
    with process(WRITER, root, "full") as writer, txstore.open(root, mode="r") as store, log_syncs(root) as syncs:
        for value in range(1, 4):
            assert says(writer) == "ready"
            tell(writer)
            assert says(writer) == "done"
            assert store["a"][0] == value
        assert not syncs


def test_a_writer_leaves_it_to_one_who_came_later(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with txstore.open(root) as store, txstore.open(root) as other, log_syncs(root) as syncs:
        mine, committed = store._core.index.log, LogSync.committed

        def late(self: LogSync, version: int | None = None, told: int = 0) -> None:
            if self is mine:
                put(other, "a", 1, 5)
                assert len(syncs) == 1
            committed(self, version, told)

        monkeypatch.setattr(LogSync, "committed", late)
        put(store, "a", 0, 4)
        assert len(syncs) == 1


@pytest.mark.parametrize("mark", [b"", b"\x01", b"\xff" * 8, (10**6).to_bytes(8, "little")])
def test_a_mark_that_is_wrong_makes_no_commit_less_durable(root: Path, mark: bytes) -> None:
    (root / "locks" / "synced").write_bytes(mark)
    with txstore.open(root) as store, log_syncs(root) as syncs:
        for value in range(1, 4):
            put(store, "a", 0, value)
            assert len(syncs) == value
        assert store["a"][0] == 3


def test_without_a_mark_everybody_syncs(root: Path) -> None:
    (root / "locks" / "synced").unlink()
    (root / "locks" / "synced").mkdir()
    with txstore.open(root) as store, log_syncs(root) as syncs:
        put(store, "a", 0, 1)
        assert len(syncs) == 1
        assert store["a"][0] == 1
    (root / "locks" / "synced").rmdir()


def test_a_log_that_cannot_be_synced(root: Path) -> None:
    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(number: int) -> None:
            raise OSError(5, os.strerror(5))

        return call

    with txstore.open(root) as store:
        tx = store.transaction()
        tx["a"][...] = np.arange(8)
        with wrapped_calls(wrap, "fdatasync"):
            with pytest.raises(CommitUnknownError):
                tx.commit()
            assert tx.status == "unknown"
            with pytest.raises(StorageError, match="can't be synced: Input/output error"):
                store.snapshot()
        assert store["a"][:].tolist() == list(range(8))
        # The next sync succeeds, but may have been told so of pages that are lost.
        with txstore.open(root) as other:
            for one in (store, other):
                with pytest.raises(StorageError, match="close the store in all processes"):
                    put(one, "a", 0, 7)
                assert one["a"][:].tolist() == list(range(8))
        with pytest.raises(StorageError, match="close the store in all processes"):
            store.resolve(tx.txid)
    with txstore.open(root) as store:
        commit = store.resolve(tx.txid)
        assert commit is not None and commit.version == store.snapshot().version
        put(store, "a", 0, 7)
        assert store["a"][:].tolist() == [7, *range(1, 8)]


def test_a_transaction_that_only_reads_leaves_nothing_that_a_crash_takes_back(root: Path) -> None:
    with process(WRITER, root, "os") as writer, txstore.open(root) as store, log_syncs(root) as syncs:
        assert says(writer) == "ready"
        tell(writer)
        assert says(writer) == "done"
        assert store.run(lambda tx: int(tx["a"][0])) == 1
        assert len(syncs) == 1
