"""What a compaction leaves behind, and what it does when others are faster or the commit ends in an exception."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, noise, put, same, sql

import txstore
from txstore.compaction import rewrite
from txstore.compaction.rewrite import CompactionReport, compact_partition, tasks_of
from txstore.errors import CorruptionError, StorageError
from txstore.index.commit import commit
from txstore.shardindex import shard_index_size, unpack_shard_index
from txstore.snapshot import Snapshot


def segment_files(root: Path) -> list[Path]:
    return sorted(path for path in (root / "store" / "segments").rglob("*") if path.is_file())


def compact_one(store: Any, throttle: Callable[[int], None] | None = None) -> CompactionReport:
    """The only partition there is."""
    core = store._core
    with core.pinned(branch="main") as (state, timeline):
        ((view, task),) = tasks_of(Snapshot(core, state, timeline), "")
        return compact_partition(core, state, view, task, CompactionReport(state.commit), throttle=throttle)


class Enough(BaseException):
    """As an interrupt."""


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_an_abort_anywhere_leaves_no_file_and_no_row(store: Any, tmp_path: Path, after: int) -> None:
    data = noise((64, 32))
    create(store, "a", data, chunks=(8, 8), shards=(16, 16), codecs=())
    put(store, "a", np.s_[3:50, 2:30], 7)
    before = segment_files(tmp_path), sql(tmp_path, "SELECT * FROM segments")
    calls = 0

    def throttle(count: int) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Enough

    with pytest.raises(Enough):
        compact_one(store, throttle)
    assert (segment_files(tmp_path), sql(tmp_path, "SELECT * FROM segments")) == before
    assert sql(tmp_path, "SELECT count(*) FROM bases") == [(0,)]
    data[3:50, 2:30] = 7
    same(store["a"][...], data)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt("just now"), StorageError("the reply was lost")], ids=["INT", "IO"]
)
@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_that_ends_in_an_exception_may_have_landed(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, landed: bool
) -> None:
    data = noise((64, 32))
    create(store, "a", data, chunks=(8, 8), shards=(16, 16), codecs=())
    put(store, "a", np.s_[3:50, 2:30], 7)
    data[3:50, 2:30] = 7
    before = segment_files(tmp_path)

    def publish(*arguments: Any) -> Any:
        if landed:
            commit(*arguments)
        raise error

    monkeypatch.setattr(rewrite, "commit", publish)
    with pytest.raises(type(error)):
        compact_one(store)
    assert sql(tmp_path, "SELECT count(*) FROM bases") == [(1 if landed else 0,)]
    assert (segment_files(tmp_path) == before) is not landed
    assert not sql(tmp_path, "SELECT * FROM segments WHERE state != 'live'")
    store._core.forget()
    same(store["a"][...], data)


def test_more_shards_than_files_may_be_open(store: Any) -> None:
    data = noise((256, 64), "u1")
    create(store, "a", data, chunks=(4, 4), shards=(4, 8), codecs=())
    put(store, "a", np.s_[1:255, 1:63], 7)
    data[1:255, 1:63] = 7
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert (256 // 4) * (64 // 8) // 2 == 256  # in each of two partitions
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 200, hard))
    try:
        assert store.compact().partitions == 2
        same(store["a"][...], data)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_every_shard_that_has_bytes_becomes_a_shard_file(store: Any, tmp_path: Path) -> None:
    # One commit of one shard: its chunks lie alone in a file, which is no shard all the same.
    data = np.zeros((64, 64), "i4")
    create(store, "a", shape=(64, 64), chunks=(8, 8), shards=(32, 32), codecs=())
    core = store._core
    core.inline_bytes = 0
    data[:32, :32] = noise((32, 32))
    put(store, "a", np.s_[:32, :32], data[:32, :32])
    before = segment_files(tmp_path)
    assert len(before) == 1
    report = store.compact()
    assert (report.chunks_copied, report.chunks_kept) == (16, 0)
    (shard,) = set(segment_files(tmp_path)) - set(before)
    content = shard.read_bytes()
    index = unpack_shard_index(content[-shard_index_size(16) :], 16, len(content))
    for number, entry in enumerate(index):
        assert entry is not None
        row, column = divmod(number, 4)
        chunk = np.frombuffer(content[entry[0] : entry[0] + entry[1]], "<i4").reshape(8, 8)
        same(chunk, data[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8])
    # One that is a shard is left alone while little of it is garbage.
    put(store, "a", np.s_[:4, :4], 1)
    report = store.compact()
    assert (report.chunks_kept, report.chunks_merged) == (15, 1)
    data[:4, :4] = 1
    same(store["a"][...], data)


@pytest.mark.parametrize("open_files", [True, False])
def test_one_that_is_overtaken_loses_and_does_not_fail(store: Any, tmp_path: Path, open_files: bool) -> None:
    """Another compacts, lets the old versions expire and vacuums, in the midst of it: what was to be copied is gone."""
    data = noise((16384, 16))
    create(store, "a", data, chunks=(256, 16), shards=(8192, 16), codecs=())
    put(store, "a", np.s_[:10], 1)
    data[:10] = 1
    other = txstore.open(tmp_path / "store", mode="r+")
    done = False

    def throttle(count: int) -> None:
        nonlocal done
        if count and not done:
            done = True
            other.compact()
            other.expire(keep_last=1)
            assert other.vacuum().segments
            if not open_files:
                store._core.storage._files.clear()

    with other:
        report = compact_one(store, throttle)
    assert (report.lost, report.partitions) == (1, 0)
    assert len(segment_files(tmp_path)) == 2, "two shards of the other's"
    same(store["a"][...], data)


@pytest.mark.damaged
def test_one_whose_bytes_are_lost_fails(store: Any, tmp_path: Path) -> None:
    create(store, "a", noise((16384, 16)), chunks=(256, 16), shards=(8192, 16), codecs=())
    (file,) = segment_files(tmp_path)
    file.unlink()
    store._core.storage.close()
    with txstore.open(tmp_path / "store", mode="r+") as again, pytest.raises(CorruptionError):
        compact_one(again)
    assert segment_files(tmp_path) == []


def test_a_fill_of_an_endless_array_is_no_endless_task(store: Any) -> None:
    create(store, "a", shape=(2**30, 2**30), chunks=(64, 64))
    put(store, "a", ..., 3)
    put(store, "a", np.s_[7:9, 7:9], 4)
    report = store.compact()
    assert report.partitions == 1
    same(store["a"][6:9, 8], np.array([3, 4, 4], "i4"))
    assert store["a"][2**29, 2**20] == 3
