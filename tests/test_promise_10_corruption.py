"""Promise 10: bytes that do not match their checksum are never returned, and what has expired is never fill."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, files, noise, put, same, sql

import txstore
from txstore.errors import CorruptionError, FormatError, SnapshotExpiredError, StorageError

CELLS = 1 << 19


def build(root: Path, fill: Callable[[Any], object]) -> Path:
    """A store, closed again, and what it wrote beside the index (the largest file)."""
    with txstore.open(root) as store:
        create(store, "seed", np.arange(3))
        fill(store)
    found = [path for path in files(root) if path.stat().st_size > 1 << 20]
    return max(found, key=lambda path: path.stat().st_size) if found else root


def big(store: Any) -> None:
    create(store, "a", noise(CELLS), chunks=(CELLS // 4,), codecs=())


def flip(path: Path, offset: int) -> None:
    """Change one bit."""
    with open(path, "r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.02, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("codecs", [(), "auto", ("zstd",), ("gzip",)], ids=str)
def test_a_flipped_bit_in_a_file_is_never_returned(tmp_path: Path, part: float, codecs: Any) -> None:
    data = noise(CELLS)
    segment = build(tmp_path, lambda store: create(store, "a", data, chunks=(CELLS // 4,), codecs=codecs))
    flip(segment, int(part * segment.stat().st_size))
    with txstore.open(tmp_path) as store:
        with pytest.raises(CorruptionError) as caught:
            store["a"][...]
        assert caught.value.place is not None
        assert "\n" not in str(caught.value)
        with pytest.raises(CorruptionError):  # nor the second time, from a cache
            store["a"][...]
        assert store["seed"][...].tolist() == [0, 1, 2]


def test_only_what_is_damaged_is_refused(tmp_path: Path) -> None:
    data = noise(CELLS)
    segment = build(tmp_path, big)
    flip(segment, segment.stat().st_size // 2 + (1 << 18))
    quarter, refused = CELLS // 4, 0
    with txstore.open(tmp_path) as store:
        for part in range(4):
            cells = np.s_[part * quarter : (part + 1) * quarter]
            try:
                same(store["a"][cells], data[cells])
            except CorruptionError:
                refused += 1
        assert refused == 1
        put(store, "a", ..., 5)  # overwriting heals what is read from now on
        assert (store["a"][...] == 5).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * path.stat().st_size),
        lambda path: path.write_bytes(path.read_bytes()[1:] + b"x"),
    ],
    ids=["truncated", "empty", "zeroed", "moved by a byte"],
)
def test_a_damaged_file_is_never_returned(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    damage(build(tmp_path, big))
    with txstore.open(tmp_path) as store:
        with pytest.raises(CorruptionError) as caught:
            store["a"][...]
        assert caught.value.place is not None


def test_a_missing_file_is_no_fill(tmp_path: Path) -> None:
    build(tmp_path, big).unlink()
    with txstore.open(tmp_path) as store:
        for _ in range(2):
            with pytest.raises((CorruptionError, SnapshotExpiredError)) as caught:
                store["a"][...]
            assert "\n" not in str(caught.value)
        assert not store.verify().ok


def test_a_file_of_another_array_is_not_taken_for_this_one(tmp_path: Path) -> None:
    def two(store: Any) -> None:
        big(store)
        create(store, "b", noise(CELLS, seed=1), chunks=(CELLS // 4,), codecs=())

    build(tmp_path, two)
    one, other = sorted(path for path in files(tmp_path) if path.stat().st_size > 1 << 20)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with txstore.open(tmp_path) as store:
        for path in ("a", "b"):
            with pytest.raises(CorruptionError):
                store[path][...]


def test_what_compaction_wrote_is_checked_as_well(tmp_path: Path) -> None:
    def compacted(store: Any) -> None:
        create(store, "a", noise(CELLS), chunks=(CELLS // 4,), shards=(CELLS,), codecs=())
        put(store, "a", np.s_[5 : CELLS - 5 : 2], 1)
        put(store, "a", np.s_[100:200], 2)
        store.compact()

    build(tmp_path / "one", compacted)
    with txstore.open(tmp_path / "one") as store:
        whole = store["a"][...]
    refused = 0
    for path in sorted(files(tmp_path / "one")):
        if path.stat().st_size <= 1 << 20:
            continue
        content = path.read_bytes()
        flip(path, len(content) // 2)
        with txstore.open(tmp_path / "one") as store:
            try:
                same(store["a"][...], whole)
            except CorruptionError:
                refused += 1
        path.write_bytes(content)
    assert refused, "no file was read after the compaction"


def test_compaction_does_not_copy_damage(tmp_path: Path) -> None:
    def dirty(store: Any) -> None:
        big(store)
        put(store, "a", np.s_[::1000], 1)

    segment = build(tmp_path, dirty)
    flip(segment, segment.stat().st_size // 2)
    with txstore.open(tmp_path) as store:
        try:
            store.compact()
        except CorruptionError:
            pass  # telling is as good as leaving it alone
        with pytest.raises(CorruptionError):
            store["a"][...]


def test_verify_tells_what_is_wrong_and_where(tmp_path: Path) -> None:
    segment = build(tmp_path, big)
    with txstore.open(tmp_path) as store:
        assert store.verify().ok
        assert not store.verify().problems
    flip(segment, segment.stat().st_size // 2)
    with txstore.open(tmp_path) as store:
        report = store.verify()
        assert not report.ok
        assert segment.stem.split(".")[0] in " ".join(map(str, report.problems))


# -- the index ------------------------------------------------------------------------------------


def small(store: Any) -> None:
    """Boxes, masks and accumulations in the index itself."""
    create(store, "a", noise((6, 5)), chunks=(4, 4), codecs=())
    put(store, "a", np.arange(30).reshape(6, 5) % 3 == 1, noise(10, seed=3))
    with store.transaction() as tx:
        tx["a"].accumulate(np.s_[1:4, 1:4], noise((3, 3), seed=4) // 2)


def test_a_flipped_bit_in_the_index_is_never_returned(tmp_path: Path) -> None:
    build(tmp_path, small)
    with txstore.open(tmp_path) as store:
        expected = store["a"][...]
    refused, tried = 0, 0
    for key, data in sql(tmp_path, "SELECT uuid, data FROM blobs ORDER BY uuid"):
        for offset in range(0, len(data), max(1, len(data) // 25)):
            changed = bytearray(data)
            changed[offset] ^= 1 << offset % 8
            sql(tmp_path, "UPDATE blobs SET data = ? WHERE uuid = ?", bytes(changed), key)
            tried += 1
            with txstore.open(tmp_path) as store:
                try:
                    same(store["a"][...], expected)
                    same(store["seed"][...], np.arange(3))
                except CorruptionError as error:
                    refused += 1
                    assert error.place is not None
        sql(tmp_path, "UPDATE blobs SET data = ? WHERE uuid = ?", data, key)
    assert refused > tried // 2, "hardly any flip was seen: are the cells where this test looks for them?"


@pytest.mark.parametrize("statement", ["DELETE FROM blobs", "UPDATE blobs SET data = x''"], ids=["missing", "empty"])
def test_bytes_that_the_index_has_lost_are_no_fill(tmp_path: Path, statement: str) -> None:
    build(tmp_path, small)
    sql(tmp_path, statement)
    with txstore.open(tmp_path) as store:
        with pytest.raises((CorruptionError, SnapshotExpiredError)):
            store["a"][...]
        assert not store.verify().ok


def test_a_checksum_changed_in_the_index_is_noticed(tmp_path: Path) -> None:
    build(tmp_path, lambda store: create(store, "a", noise(6), chunks=(6,), codecs=()))
    with txstore.open(tmp_path) as store:
        expected = store["a"][...]
    query = "SELECT node, version, directory FROM fragments ORDER BY version DESC LIMIT 1"
    ((node, version, directory),) = sql(tmp_path, query)
    outcomes = set()
    for offset in range(len(directory)):
        changed = bytearray(directory)
        changed[offset] ^= 0xFF
        update = "UPDATE fragments SET directory = ? WHERE node = ? AND version = ?"
        sql(tmp_path, update, bytes(changed), node, version)
        with txstore.open(tmp_path) as store:
            try:
                found = store["a"][...]
                outcomes.add("read")
                same(found, expected)
            except (CorruptionError, FormatError, SnapshotExpiredError, StorageError):
                outcomes.add("refused")
    assert "refused" in outcomes


# -- expired --------------------------------------------------------------------------------------


def test_a_handle_below_the_horizon_says_so(store: Any) -> None:
    version = create(store, "a", noise(CELLS), chunks=(CELLS // 4,)).version
    expected = store["a"][0:100]
    put(store, "a", ..., 0)
    address = pickle.dumps(store.snapshot(version=version)["a"])
    store.compact()
    store.expire(keep_last=1)
    for _ in range(2):
        store.vacuum()
        with pytest.raises(SnapshotExpiredError) as caught:
            store.snapshot(version=version)["a"][0:100]
        assert "\n" not in str(caught.value)
        try:
            again = pickle.loads(address)
            found = again[0:100]
        except SnapshotExpiredError:
            continue
        same(found, expected)


def test_another_process_view_that_expired_says_so(tmp_path: Path) -> None:
    with txstore.open(tmp_path) as store:
        version = create(store, "a", noise(CELLS), chunks=(CELLS // 4,)).version
        put(store, "a", ..., 0)
        with txstore.open(tmp_path, mode="r") as reader:
            array = reader.snapshot(version=version)["a"]
            expected = array[0:10]
            store.compact()
            store.expire(keep_last=1)
            store.vacuum()
            store.vacuum()
            try:
                same(array[...], noise(CELLS))
            except SnapshotExpiredError:
                pass
            same(expected, noise(CELLS)[0:10])


# -- the error ------------------------------------------------------------------------------------


def test_the_error_travels_with_its_place() -> None:
    error = CorruptionError("bad bytes", place=("segment", 3, 4))
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is CorruptionError
        assert (twin.place, str(twin)) == (error.place, str(error))


@pytest.mark.parametrize("inline_bytes", [0, 1 << 19])
def test_what_vacuum_deletes_while_verify_reads_is_no_damage(open_store: Any, inline_bytes: int) -> None:
    store, other = open_store(inline_bytes=inline_bytes), open_store()
    create(store, "a", noise((64, 64)), chunks=(16, 16))
    put(store, "a", np.s_[1:40, 3:9], noise((39, 6), seed=1))
    deleted = 0

    def sweep(_: Any) -> None:
        """Only the rows have been read by now."""
        nonlocal deleted
        other.compact()
        other.expire(keep_last=1)
        report = other.vacuum()
        deleted += report.segments + report.inline

    report = store.verify(progress=sweep)
    assert deleted
    assert report.ok, report.problems
