"""Segments: the same bytes in memory and in a file, masks, and shards that zarr and TensorStore open."""

from __future__ import annotations

import json
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numcodecs.zstd import Zstd

from txstore.checksum import crc32c, octets
from txstore.errors import CorruptionError, StorageError
from txstore.segment import Kind, Place, SegmentWriter, decode_mask, encode_mask
from txstore.segmentheader import HEADER_SIZE, check_header, pack_header
from txstore.shardindex import pack_shard_index, shard_index_size, unpack_shard_index
from txstore.storage import LocalStorage, segment_key

SEGMENT = bytes(range(16))


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[LocalStorage]:
    (tmp_path / "store").mkdir()
    storage = LocalStorage(tmp_path / "store", sync=False)
    yield storage
    storage.close()


def files(storage: LocalStorage) -> list[str]:
    return [path.name for path in Path(storage.root).rglob("*") if path.is_file()]


# -- what never changes


def test_stored_numbers() -> None:
    assert {kind.name: int(kind) for kind in Kind} == {"SET": 0, "FILL": 1, "ADD": 2, "MIN": 3, "MAX": 4}
    header = bytes.fromhex("54585347 0100 0000 000102030405060708090a0b0c0d0e0f 00000000 f25071c3")
    assert pack_header(SEGMENT) == header and len(header) == HEADER_SIZE == 32
    # The check value of the CRC32C in every catalogue of checksums.
    assert crc32c(b"123456789") == 0xE3069283
    mask = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], bool)
    assert Zstd().decode(encode_mask(mask)) == bytes([0b00110001, 0b1])


# -- checksums


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abcdef")[::1],
        memoryview(bytearray(b"abc")),
        np.arange(6, dtype="<f4").reshape(2, 3),
        np.arange(6, dtype="<i2").reshape(2, 3).T,
        np.array(5, "<M8[ns]"),
        np.zeros(3, [("a", "<i4"), ("b", "<f8")]),
        np.zeros((0, 3)),
    ],
)
def test_checksums_of_all_that_holds_bytes(data: Any) -> None:
    whole = data.tobytes() if isinstance(data, np.ndarray | memoryview) else bytes(data)
    assert bytes(octets(data)) == whole
    assert crc32c(data) == google_crc32c.value(whole)


# -- headers


def test_headers_that_are_wrong() -> None:
    good = pack_header(SEGMENT)
    check_header(good + b"more", SEGMENT)
    newer = bytearray(good)
    newer[4] = 2
    newer[28:] = crc32c(bytes(newer[:28])).to_bytes(4, "little")
    wrong = {
        b"": "does not begin",
        good[:31]: "does not begin",
        b"PK\3\4" + good[4:]: "does not begin",
        good[:-1] + b"\0": "checksum",
        bytes(newer): "format 2.0, this is 1.0",
        pack_header(bytes(16)): "where segment 000102.* should lie is segment 0000",
    }
    for data, message in wrong.items():
        with pytest.raises(CorruptionError, match=message):
            check_header(data, SEGMENT)


def test_every_flipped_bit_of_a_header_is_seen() -> None:
    good = pack_header(SEGMENT)
    for bit in range(8 * HEADER_SIZE):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptionError):
            check_header(bytes(damaged), SEGMENT)


# -- writers


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=12), st.integers(0, 400))
def test_the_same_bytes_in_memory_and_in_a_file(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], limit: int
) -> None:
    storage = LocalStorage(tmp_path_factory.mktemp("store"), sync=False)
    whole = pack_header(SEGMENT) + b"".join(parts)
    writer = SegmentWriter(storage, limit, SEGMENT)
    assert writer.empty and writer.inline
    for part in parts:
        offset, length, crc = writer.append(part)
        assert whole[offset : offset + length] == part and crc == crc32c(part)
        assert writer.read(offset, length) == part
        assert writer.size == offset + length
    result = writer.finish()
    fits = len(whole) <= limit or not parts
    assert writer.inline == fits
    if not parts:
        assert result == b""
    elif fits:
        assert result == whole and files(storage) == []
    else:
        assert result == len(whole) and storage.read(segment_key(SEGMENT), 0, len(whole)) == whole
    assert writer.read(0, writer.size) == whole
    storage.close()


def test_a_file_is_announced_before_it_is_there(storage: LocalStorage) -> None:
    announced = []

    def announce(segment: bytes) -> None:
        assert files(storage) == []
        announced.append(segment)

    writer = SegmentWriter(storage, 100, announce=announce)
    writer.append(bytes(68))
    assert announced == [] and writer.inline
    writer.append(b"x")
    assert announced == [writer.segment] and not writer.inline
    assert files(storage) == [writer.segment.hex() + ".tmp"]
    writer.append(bytes(1000))
    writer.finish()
    assert announced == [writer.segment] and files(storage) == [writer.segment.hex()]
    assert SegmentWriter(storage, 100).segment != SegmentWriter(storage, 100).segment


def test_what_cannot_be_announced_is_not_written(storage: LocalStorage) -> None:
    def announce(segment: bytes) -> None:
        raise StorageError("no index")

    writer = SegmentWriter(storage, 0, announce=announce)
    with pytest.raises(StorageError, match="no index"):
        writer.append(b"x")
    # It may have been announced all the same.
    assert not writer.inline
    for call in (lambda: writer.append(b"x"), writer.finish):
        with pytest.raises(StorageError, match="is broken"):
            call()
    writer.abort()
    assert files(storage) == []


@pytest.mark.parametrize("limit", [0, 1000])
@pytest.mark.parametrize("finish", [False, True])
def test_abort_leaves_nothing(storage: LocalStorage, limit: int, finish: bool) -> None:
    writer = SegmentWriter(storage, limit)
    writer.append(b"abc")
    if finish:
        writer.finish()
    writer.abort()
    writer.abort()
    assert files(storage) == []
    calls: list[Callable[[], Any]] = [lambda: writer.append(b"x"), writer.finish, lambda: writer.read(32, 3)]
    for call in calls:
        with pytest.raises(StorageError, match="aborted"):
            call()


def test_abort_after_an_interrupt_that_came_when_the_file_had_its_name(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def interrupted(old: str, new: str) -> None:
        rename(old, new)
        raise KeyboardInterrupt

    writer = SegmentWriter(storage, 0)
    writer.append(b"abc")
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.finish()
    assert files(storage) == [writer.segment.hex()]
    writer.abort()
    assert files(storage) == []


@pytest.mark.parametrize("limit", [0, 1000])
def test_what_is_finished_stays_so(storage: LocalStorage, limit: int) -> None:
    writer = SegmentWriter(storage, limit)
    writer.append(b"abc")
    writer.finish()
    calls: list[Callable[[], Any]] = [lambda: writer.append(b"x"), writer.finish]
    for call in calls:
        with pytest.raises(StorageError, match="is finished"):
            call()
    for offset, length in ((33, 3), (-1, 2), (0, -1), (2**62, 2**62)):
        with pytest.raises(StorageError, match="has no"):
            writer.read(offset, length)
    assert writer.read(32, 3) == b"abc"


def test_a_failed_write_breaks_the_writer(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SegmentWriter(storage, 0)
    writer.append(b"abc")
    with monkeypatch.context() as patch:

        def fail(number: int, data: Any) -> int:
            raise OSError(28, "No space left on device")

        patch.setattr("os.write", fail)
        with pytest.raises(StorageError, match="No space left on device; what was there before is whole"):
            writer.append(b"def")
    with pytest.raises(StorageError):
        writer.finish()
    writer.abort()
    assert files(storage) == []


@pytest.mark.parametrize("limit", [2_000, 10**9])
def test_threads_append_side_by_side(storage: LocalStorage, limit: int) -> None:
    writer = SegmentWriter(storage, limit)
    places: dict[bytes, tuple[int, int, int]] = {}

    def append(number: int) -> None:
        for step in range(60):
            data = f"{number}-{step}-".encode() * (1 + step % 7)
            place = places[data] = writer.append(data)
            assert writer.read(place[0], place[1]) == data

    threads = [threading.Thread(target=append, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.finish()
    assert len(places) == 360
    for data, (offset, length, crc) in places.items():
        assert writer.read(offset, length) == data and crc == crc32c(data)
    assert writer.size == HEADER_SIZE + sum(map(len, places))


def test_a_place_is_a_plain_value() -> None:
    place = Place(SEGMENT, 32, 5, 7, True)
    assert place == (SEGMENT, 32, 5, 7, True) and hash(place)


# -- masks


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9)), st.booleans())
def test_masks(mask: Any, reverse: bool) -> None:
    mask = mask.T if reverse else mask
    decoded = decode_mask(encode_mask(mask), mask.shape)
    assert decoded.dtype == bool and decoded.shape == mask.shape and (decoded == mask).all()
    assert decoded.flags.writeable and decoded.flags.c_contiguous


def test_masks_of_runs_are_small() -> None:
    mask = np.zeros((512, 512), bool)
    mask[::2] = True
    assert len(encode_mask(mask)) < 512 * 512 / 8 / 100


def without_declared_size() -> bytes:
    # Magic, a descriptor that promises no size, a window of 1 KiB, one raw block of 2 bytes that is the last.
    return bytes.fromhex("28b52ffd 00 00 110000 ffff")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 20,
        Zstd().encode(bytes(1)),
        Zstd().encode(bytes(3)),
        Zstd().encode(bytes(256 * 2**20)),
        Zstd().encode(bytes(2))[:-1],
        Zstd().encode(bytes(2))[:5],
        bytes(Zstd().encode(bytes(2))) + Zstd().encode(bytes(2**20)),
        without_declared_size(),
        bytes.fromhex("28b52ffd e0 ffffffffffffffff"),
    ],
    ids=range(10),
)
def test_masks_that_are_none(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError, match="an encoded mask"):
            decode_mask(bytes(data), (3, 4))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@given(hnp.arrays(bool, (7, 11)), st.data())
def test_damaged_masks(mask: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode_mask(mask))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert decode_mask(bytes(encoded), mask.shape).shape == mask.shape
    except CorruptionError:
        pass


# -- the index of a shard


@given(st.lists(st.none() | st.tuples(st.integers(0, 900), st.integers(0, 100)), max_size=20))
def test_shard_index(chunks: list[tuple[int, int] | None]) -> None:
    packed = pack_shard_index(chunks)
    assert len(packed) == shard_index_size(len(chunks))
    assert unpack_shard_index(packed, len(chunks), 1000 + len(packed)) == chunks
    with pytest.raises(CorruptionError, match="bytes"):
        unpack_shard_index(packed, len(chunks) + 1, 10**9)
    with pytest.raises(CorruptionError, match="checksum"):
        unpack_shard_index(packed[:-1] + bytes([packed[-1] ^ 1]), len(chunks), 10**9)


def test_a_shard_index_that_points_outside() -> None:
    for chunk in ((990, 11), (2**63, 2**63), (2**64 - 1, 5)):
        packed = pack_shard_index([None, chunk])
        with pytest.raises(CorruptionError, match="not within its shard"):
            unpack_shard_index(packed, 2, 1000 + len(packed))


def shard_file(storage: LocalStorage, values: Any, chunks: tuple[int, int], seed: int, limit: int) -> bytes:
    """A shard as compaction makes it: header, chunks in any order, all-fill ones left out, index."""
    writer = SegmentWriter(storage, limit)
    counts = tuple(extent // chunk for extent, chunk in zip(values.shape, chunks, strict=True))
    places: list[tuple[int, int] | None] = [None] * int(np.prod(counts))
    for number in np.random.default_rng(seed).permutation(len(places)):
        row, column = np.unravel_index(number, counts)
        rows = slice(row * chunks[0], (row + 1) * chunks[0])
        columns = slice(column * chunks[1], (column + 1) * chunks[1])
        chunk = np.ascontiguousarray(values[rows, columns])
        if chunk.any():
            offset, length, _ = writer.append(Zstd(level=3).encode(chunk))
            places[number] = offset, length
    writer.append_shard_index(places)
    with pytest.raises(StorageError, match="is indexed"):
        writer.append(b"more")
    result = writer.finish()
    data = result if isinstance(result, bytes) else storage.read(segment_key(writer.segment), 0, result)
    check_header(data, writer.segment)
    assert unpack_shard_index(data[-shard_index_size(len(places)) :], len(places), len(data)) == places
    return data


@pytest.mark.parametrize("limit", [0, 10**9], ids=["file", "inline"])
def test_zarr_and_tensorstore_open_a_segment_as_a_shard(storage: LocalStorage, tmp_path: Path, limit: int) -> None:
    import tensorstore
    import zarr

    values = np.random.default_rng(1).integers(1, 1000, (24, 36)).astype("<i4")
    values[4:8, 9:12] = 0  # a chunk that is not stored
    values[12:, 18:] = 0  # a shard of which nothing is
    folder = tmp_path / "array.zarr"
    index_codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    codecs = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
    ]
    sharding = {"chunk_shape": [4, 3], "codecs": codecs, "index_codecs": index_codecs, "index_location": "end"}
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [24, 36],
        "data_type": "int32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [12, 18]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
    }
    folder.mkdir()
    (folder / "zarr.json").write_text(json.dumps(document))
    for row in range(2):
        for column in range(2):
            shard = values[row * 12 : row * 12 + 12, column * 18 : column * 18 + 18]
            path = folder / "c" / str(row) / str(column)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shard_file(storage, shard, (4, 3), 2 * row + column, limit))

    array = zarr.open_array(str(folder), mode="r")
    opened = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder)}}).result()
    for selection in (np.s_[:, :], np.s_[5:14, 7:20], np.s_[6, 10], np.s_[23:, 35:]):
        assert (np.asarray(array[selection]) == values[selection]).all()
        assert (np.asarray(opened[selection].read().result()) == values[selection]).all()
