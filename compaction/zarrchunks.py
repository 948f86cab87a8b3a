"""The chunks of an array that is imported, one by one, as the store will hold them."""

from __future__ import annotations

import threading
from array import array as numbers
from collections import OrderedDict
from collections.abc import Iterator
from math import prod
from operator import floordiv, mod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import full
from txstore.checksum import crc32c
from txstore.codecs import TileCodec
from txstore.compaction.importmeta import ChunkLayout, ImportedArray
from txstore.compaction.zarrfiles import ZarrFiles, read_whole
from txstore.errors import CorruptionError, InvalidInputError
from txstore.grid import Grid, partition_key
from txstore.interrupts import let_through
from txstore.shardindex import shard_index_size
from txstore.staging import is_fill

_ABSENT = 2**64 - 1
#: Bytes of the indexes of shards that are kept.
_INDEX_BYTES = 8 << 20


class SourceChunk(NamedTuple):
    """One chunk.

    Attributes
    ----------
    data : bytes or None
        Encoded for the store; None where it holds nothing but fill.
    copied : bool
        Whether these are the bytes of the source.
    read : int
        Encoded bytes that were read.
    """

    data: bytes | None
    copied: bool
    read: int


class ZarrChunks:
    """Reads and encodes the chunks of one array.

    Parameters
    ----------
    path : str
        The array's key in `files`; ``""`` for the root.
    imported : ImportedArray
        What it is to become.
    grid : Grid
        Of the array in the store.
    array : zarr.Array
        For chunks that only zarr-python can read.
    files : ZarrFiles or None
        Where its objects lie, if they can be read directly.

    Notes
    -----
    :meth:`encoded` is safe for threads. Every chunk is decoded before it is taken, by codecs that refuse what declares
    another size than the chunk's: bytes that don't mean anything don't get into a store, and 8 KB that stand for
    gigabytes take no memory.
    """

    def __init__(self, path: str, imported: ImportedArray, grid: Grid, array: Any, files: ZarrFiles | None) -> None:
        self._prefix = f"{path}/" if path else ""
        self._path = path
        self._imported = imported
        self._grid = grid
        self._array = array
        self._files = files if imported.layout is not None else None
        meta = imported.meta
        self._target = TileCodec.of(meta)
        self._source = TileCodec(meta.dtype, imported.layout.codecs if imported.layout is not None else ())
        self._shape = full(imported.shape)
        self._ratio = tuple(map(floordiv, meta.shards, meta.chunks)) if meta.shards is not None else None
        self._bytes = prod(meta.chunks) * meta.dtype.itemsize
        self._indexes = _ShardIndexes()

    @property
    def chunk_bytes(self) -> int:
        """What one chunk takes in memory while it is under work, about."""
        return 3 * self._bytes

    # --- which there are ------------------------------------------------------------------------

    def by_partition(self) -> Iterator[tuple[bytes, list[tuple[int, ...]]]]:
        """The chunks that may hold anything but fill, in C order, by the partition that they lie in."""
        if self._shape.empty:
            return
        if self._files is None or not self._shape.lo:
            for key, part in self._grid.partitions_in(self._shape):
                yield key, [chunk for chunk, _ in self._grid.chunks_in(part)]
            return
        objects = self._listed()
        unit = self._grid.shards or self._grid.chunks
        owners = objects * np.array(unit, np.int64) // np.array(self._grid.partition, np.int64)
        columns = [*objects.T[::-1], *owners.T[::-1]]
        order = np.lexsort(columns)
        objects, owners = objects[order], owners[order]
        starts = np.flatnonzero(np.any(owners[1:] != owners[:-1], axis=1)) + 1
        for some in np.split(np.arange(len(objects)), starts) if len(objects) else ():
            inside = [tuple(index) for index in objects[some].tolist()]
            yield partition_key(owners[some[0]].tolist()), self._chunks_of(inside)

    def _chunks_of(self, objects: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        if self._ratio is None:
            return objects
        chunks = []
        for shard in objects:
            part = self._grid.shard_box(shard).intersect(self._shape)
            if part is not None:
                chunks += [chunk for chunk, _ in self._grid.chunks_in(part)]
        return sorted(chunks)

    def _listed(self) -> NDArray[np.int64]:
        """The coordinates of the chunks or shards that are there, within the shape, in any order, each once."""
        layout, files = self._layout, self._files
        assert files is not None
        ndim = len(self._imported.shape)
        unit = self._grid.shards or self._grid.chunks
        counts = [-(-extent // cells) for extent, cells in zip(self._imported.shape, unit, strict=True)]
        found = numbers("q")
        for key in files.below(self._path):
            index = layout.index(key, ndim)
            if index is not None and all(place < count for place, count in zip(index, counts, strict=True)):
                found.extend(index)
        listed = np.frombuffer(found, np.int64).reshape(-1, ndim) if found else np.empty((0, ndim), np.int64)
        return np.unique(listed, axis=0)

    def count(self) -> int:
        """How many chunks :meth:`by_partition` gives."""
        if self._files is None or not self._shape.lo:
            pairs = zip(self._imported.shape, self._grid.chunks, strict=True)
            return prod(-(-extent // cells) for extent, cells in pairs)
        return sum(len(chunks) for _, chunks in self.by_partition())

    # --- one of them ----------------------------------------------------------------------------

    def encoded(self, chunk: tuple[int, ...]) -> SourceChunk:
        """A chunk, encoded as the store will hold it.

        Raises
        ------
        CorruptionError
            If it can't be decoded, or is not of the size that it should be.
        StorageError
            If it can't be read.
        """
        if self._files is None:
            return self._by_zarr(chunk)
        data = self._read(chunk)
        if data is None:
            return SourceChunk(None, False, 0)
        layout, meta = self._layout, self._imported.meta
        try:
            cells = self._source.decode(data, meta.chunks)
        except CorruptionError as error:
            raise CorruptionError(f"array {self._path or '/'!r}, chunk {chunk}: {error}") from None
        except MemoryError:
            raise InvalidInputError(
                f"array {self._path or '/'!r}: a chunk of {self._bytes} bytes does not fit into memory"
            ) from None
        if layout.swapped:
            cells = cells.byteswap()
        region = self._grid.chunk_box(chunk).intersect(self._shape)
        copied = not layout.swapped
        if region is not None and region != self._grid.chunk_box(chunk):
            # What lies beyond the shape must be fill: it would come back when somebody makes the array larger.
            inner = region.slices(self._grid.chunk_box(chunk).lo)
            padded = self._blank()
            padded[inner] = cells[inner]
            copied = copied and padded.tobytes() == cells.tobytes()
            cells = padded
        if is_fill(cells, meta.fill_value):
            return SourceChunk(None, False, len(data))
        return SourceChunk(data if copied else self._target.encode(cells), copied, len(data))

    def _by_zarr(self, chunk: tuple[int, ...]) -> SourceChunk:
        whole = self._grid.chunk_box(chunk)
        region = whole.intersect(self._shape)
        if region is None:
            return SourceChunk(None, False, 0)
        try:
            values = np.asarray(self._array[region.slices()] if region.lo else self._array[()])
        except Exception as error:  # each codec has errors of its own, and none of them is the caller's
            let_through(error)
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise CorruptionError(f"array {self._path or '/'!r}, chunk {chunk}: {reason}") from error
        cells = self._blank()
        cells[region.slices(whole.lo)] = values.reshape(region.shape)
        if is_fill(cells, self._imported.meta.fill_value):
            return SourceChunk(None, False, values.nbytes)
        return SourceChunk(self._target.encode(cells), False, values.nbytes)

    def _blank(self) -> NDArray[Any]:
        meta = self._imported.meta
        return np.full(meta.chunks, meta.fill_value, meta.dtype)

    @property
    def _layout(self) -> ChunkLayout:
        assert self._imported.layout is not None
        return self._imported.layout

    def _read(self, chunk: tuple[int, ...]) -> bytes | None:
        assert self._files is not None
        most = 2 * self._bytes + (1 << 20)
        if self._ratio is None:
            return read_whole(self._files, self._prefix + self._layout.key(chunk), most)
        shard = tuple(map(floordiv, chunk, self._ratio))
        key = self._prefix + self._layout.key(shard)
        index = self._indexes.get(self._files, key, prod(self._ratio))
        if index is None:
            return None
        flat = 0
        for place, count in zip(map(mod, chunk, self._ratio), self._ratio, strict=True):
            flat = flat * count + place
        offset, length = (int(value) for value in index.places[flat])
        if offset == length == _ABSENT:
            return None
        if length > most or offset + length > index.end:
            raise CorruptionError(f"{key} of {index.end} bytes is said to hold a chunk of {length} bytes at {offset}")
        return self._files.read(key, offset, length)


class _ShardIndex(NamedTuple):
    """The index of a shard.

    Attributes
    ----------
    places : ndarray, shape (n_chunks, 2)
        Offset and length of each chunk.
    end : int
        Where the chunks end.
    """

    places: NDArray[np.uint64]
    end: int


class _ShardIndexes:
    """The indexes of the shards that were read last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _ShardIndex | None] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, files: ZarrFiles, key: str, n_chunks: int) -> _ShardIndex | None:
        """The index; None where there is no shard."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            index = self._kept[key] = self._load(files, key, n_chunks)
            while len(self._kept) * 16 * n_chunks > _INDEX_BYTES and len(self._kept) > 1:
                self._kept.popitem(last=False)
            return index

    @staticmethod
    def _load(files: ZarrFiles, key: str, n_chunks: int) -> _ShardIndex | None:
        size, length = files.size(key), shard_index_size(n_chunks)
        if size is None:
            return None
        if size < length:
            raise CorruptionError(f"{key} has {size} bytes, which is less than the index of its {n_chunks} chunks")
        data = files.read(key, size - length, length)
        if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise CorruptionError(f"the index of the shard {key} does not match its checksum")
        return _ShardIndex(np.frombuffer(data[:-4], "<u8").reshape(n_chunks, 2), size - length)


__all__ = ["SourceChunk", "ZarrChunks"]
