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
from txstore.codecs import TileCodec
from txstore.compaction import rewrite, rewriter
from txstore.compaction.progress import Progress
from txstore.compaction.rewrite import CompactionReport, compact_partition, tasks_of
from txstore.errors import CorruptionError, StorageError
from txstore.index.commit import commit
from txstore.segmentheader import HEADER_SIZE
from txstore.shardindex import shard_index_size, unpack_shard_index
from txstore.snapshot import Snapshot
from txstore.storage import segment_key
from txstore.storedarray import DIRTY


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


def three_partitions(store: Any) -> Any:
    """An array of three partitions with a base each, and something written over all of them."""
    data = noise((3 * 2048, 16), "u1")
    create(store, "a", data, chunks=(4, 16), shards=None, codecs=())
    assert store.compact().partitions == 3
    put(store, "a", np.s_[2046:4098, 3:9], 5)
    data[2046:4098, 3:9] = 5
    return data


def test_partitions_share_a_commit_and_a_file(store: Any, tmp_path: Path) -> None:
    data = three_partitions(store)
    before = segment_files(tmp_path), sql(tmp_path, "SELECT maintenance FROM store")[0][0]
    seen: list[Progress] = []
    report = store.compact(progress=seen.append)
    assert (report.partitions, report.chunks_merged, report.lost) == (3, 1 + 512 + 1, 0)
    assert report.chunks_kept == 3 * 512 - report.chunks_merged
    assert len(segment_files(tmp_path)) == len(before[0]) + 1
    # One to announce the file, one to publish the bases.
    assert sql(tmp_path, "SELECT maintenance FROM store")[0][0] - before[1] <= 2
    assert [(one.done, one.total) for one in seen] == [(0, 3), (0, 3), (0, 3), (3, 3)]
    same(store["a"][...], data)


def test_work_beyond_the_limit_is_a_commit_of_its_own(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = three_partitions(store)
    monkeypatch.setattr(rewriter, "_ENOUGH_BYTES", 2)
    before = len(segment_files(tmp_path))
    assert store.compact().partitions == 3
    assert len(segment_files(tmp_path)) == before + 3
    same(store["a"][...], data)


@pytest.mark.damaged
def test_damage_in_one_partition_keeps_no_other_from_being_compacted(store: Any, tmp_path: Path) -> None:
    three_partitions(store)
    (base,) = sql(tmp_path, "SELECT DISTINCT uuid FROM segments WHERE state = 'live'")
    with open(tmp_path / "store" / segment_key(base[0]), "r+b") as file:
        at = HEADER_SIZE + 4 * 16 * 600  # in a chunk of the second partition, of which some cells were written anew
        file.seek(at)
        octet = file.read(1)
        file.seek(at)
        file.write(bytes([octet[0] ^ 1]))
    with pytest.raises(CorruptionError):
        store.compact()
    assert sql(tmp_path, "SELECT count(*) FROM bases WHERE version > 1") == [(1,)]
    assert not sql(tmp_path, "SELECT * FROM segments WHERE state != 'live'")


def test_partitions_of_which_another_was_first_are_counted(store: Any, tmp_path: Path) -> None:
    data = three_partitions(store)
    other = txstore.open(tmp_path / "store", mode="r+")

    def overtaken(progress: Progress) -> None:
        if progress.label == "a" and not done:
            done.append(True)
            core = other._core
            with core.pinned(branch="main") as (state, timeline):
                view, task = tasks_of(Snapshot(core, state, timeline), "")[1]
                assert compact_partition(core, state, view, task, CompactionReport(state.commit)).partitions == 1

    done: list[bool] = []
    with other:
        report = store.compact(progress=overtaken)
    assert (report.partitions, report.lost) == (2, 1)
    same(store["a"][...], data)


@pytest.mark.parametrize("later", ["box", "points", "fill", "wide fill", "growth"])
def test_what_lies_over_a_base_is_seen_chunk_by_chunk(store: Any, later: str) -> None:
    """What is said of a chunk above a base is true of its bytes, also where the base alone would say otherwise."""
    data = noise((4 * 2048, 16), "u1")
    data[40:60] = 0
    create(store, "a", data, chunks=(4, 16), codecs=())
    store.compact()
    with store.transaction() as tx:
        array = tx["a"]
        if later == "box":
            array[4090:4099] = 3
        elif later == "points":
            array.vindex[[5, 50, 8000], [1, 2, 3]] = 9
        elif later == "fill":
            array[4:12] = 0
        elif later == "wide fill":
            array[...] = 4
        else:
            array.resize((3 * 4096 - 2, 16))
            array[8191:8193] = 6
    cells = store["a"][...]
    array = store["a"]
    view = array._tree.view(array._row, "a")
    stored = {}
    for partition in view.timeline.partitions(view.node, view.version):
        stored.update(view.chunks(partition))
    for number in range(-(-len(cells) // 4)):
        expected = np.zeros((4, 16), "u1")
        part = cells[4 * number : 4 * number + 4]
        expected[: len(part)] = part
        found = view.chunk((number, 0))
        assert stored.get((number, 0)) == found
        if found is None:
            assert not expected.any()
        elif found is not DIRTY:
            same(np.frombuffer(view.fetch(found), "u1").reshape(4, 16), expected)
    clean = sum(found is not DIRTY and found is not None for found in stored.values())
    assert clean == (0 if later == "wide fill" else pytest.approx(len(stored), abs=16))


def test_what_decodes_to_something_else_is_not_published(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise((64, 32))
    create(store, "a", data, chunks=(8, 8), codecs=())
    put(store, "a", np.s_[3:50, 2:30], 7)
    data[3:50, 2:30] = 7
    before = segment_files(tmp_path)
    encode = TileCodec.encode

    def faulty(codec: TileCodec, cells: Any) -> bytes:
        octets = bytearray(encode(codec, cells))
        octets[-1] ^= 1
        return bytes(octets)

    with monkeypatch.context() as patch:
        patch.setattr(TileCodec, "encode", faulty)
        with pytest.raises(CorruptionError, match="does not decode"):
            store.compact()
    assert segment_files(tmp_path) == before
    assert sql(tmp_path, "SELECT count(*) FROM bases") == [(0,)]
    same(store["a"][...], data)
