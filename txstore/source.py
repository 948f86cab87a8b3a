"""Encoded tiles, by place: fetched, checked, and kept for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from txstore.checksum import crc32c
from txstore.codecs import TileCodec
from txstore.descriptors import renew_in_children
from txstore.errors import CorruptionError
from txstore.index import lookup
from txstore.index.engine import Index
from txstore.scratch import MOST_BYTES, Scratch
from txstore.segment import Place, decode_mask
from txstore.storage import LocalStorage, MissingFileError, segment_key

_Value = TypeVar("_Value")

#: Encoded bytes of inline segments that are kept in memory.
_BLOB_CACHE_BYTES = 32 << 20
#: How many of them are asked for in one query.
_BLOBS_AT_ONCE = 64


#: A tile: where it lies, its shape, and the part of it that is wanted (None: all of it).
Wanted: TypeAlias = tuple[Place, tuple[int, ...], tuple[slice, ...] | None]

_ENCODED = Scratch()
_DECODED = Scratch()


class BoundedCache(Generic[_Value]):
    """The most recently used values, as many as fit into a number of bytes.

    Notes
    -----
    Safe for threads. A value larger than an eighth of the limit is not kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin with nothing: at first, and in a forked child."""
        self._values: OrderedDict[Any, tuple[_Value, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def takes(self, size_bytes: int) -> bool:
        """Whether a value of that size is kept at all."""
        return size_bytes * 8 <= self.limit_bytes

    def get(self, key: Any) -> _Value | None:
        """The value, or None."""
        with self._lock:
            entry = self._values.get(key)
            if entry is None:
                return None
            self._values.move_to_end(key)
            return entry[0]

    def put(self, key: Any, value: _Value, size_bytes: int) -> None:
        """Keep a value."""
        if not self.takes(size_bytes):
            return
        with self._lock:
            old = self._values.pop(key, None)
            self._bytes += size_bytes - (0 if old is None else old[1])
            self._values[key] = value, size_bytes
            while self._bytes > self.limit_bytes:
                _, (_, freed) = self._values.popitem(last=False)
                self._bytes -= freed

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self._bytes = 0


class TileSource:
    """Where tiles come from: segment files and inline segments.

    Parameters
    ----------
    index : Index
        Holds the inline segments.
    storage : LocalStorage
        Holds the files.
    cache_bytes : int
        How many bytes of decoded tiles to keep. Tiles never change, so a cache keyed by place is always true.
    staged : callable, optional
        Reads ``(place)`` of segments that a transaction has not published yet; None when it is not its own.

    Notes
    -----
    Safe for threads.
    """

    def __init__(
        self,
        index: Index,
        storage: LocalStorage,
        cache_bytes: int,
        staged: Callable[[Place], bytes | None] | None = None,
        parent: TileSource | None = None,
    ) -> None:
        self._index = index
        self._storage = storage
        self._staged = staged
        self._blobs: BoundedCache[bytes] = BoundedCache(_BLOB_CACHE_BYTES) if parent is None else parent._blobs
        self._decoded: BoundedCache[NDArray[Any]] = BoundedCache(cache_bytes) if parent is None else parent._decoded

    def with_staged(self, staged: Callable[[Place], bytes | None]) -> TileSource:
        """The same source, sharing its caches, that also knows what a transaction has staged."""
        return TileSource(self._index, self._storage, 0, staged, self)

    def fetch(self, place: Place) -> bytes:
        """The encoded bytes at a place.

        Raises
        ------
        CorruptionError
            If they do not match their checksum or the segment is too short.
        MissingFileError
            If the segment is gone: vacuumed, or lost.
        """
        data = self._at_hand(place)
        if data is None:
            data = self._storage.read(segment_key(place.segment), place.offset, place.length)
        _check(data, place)
        return bytes(data)

    def _fetch_briefly(self, place: Place) -> Any:
        """As :meth:`fetch`, into memory that the thread's next call overwrites."""
        if place.length > MOST_BYTES:
            return self.fetch(place)  # takes no memory before it has looked whether there are so many bytes
        data: Any = self._at_hand(place)
        if data is None:
            data = _ENCODED.take(place.length)
            self._storage.read_into(segment_key(place.segment), place.offset, data.data)
        _check(data, place)
        return data

    def _fetch_all(self, places: Sequence[Place], out: memoryview) -> None:
        """As :meth:`fetch`, of several places back to back; what lies so in a file, too, is read by one call."""
        end = 0
        run: list[Place] = []
        for place in places:
            data = self._at_hand(place)
            if run and not (data is None and place[:2] == (run[-1].segment, run[-1].offset + run[-1].length)):
                self._read_run(run, out[:end])
                run = []
            if data is None:
                run.append(place)
            else:
                _check(data, place)
                out[end : end + place.length] = data
            end += place.length
        if run:
            self._read_run(run, out[:end])

    def _read_run(self, run: list[Place], out: memoryview) -> None:
        """Fill the end of `out` with places that lie back to back in one file."""
        first = run[0]
        start = len(out) - (run[-1].offset + run[-1].length - first.offset)
        self._storage.read_into(segment_key(first.segment), first.offset, out[start:])
        for place in run:
            _check(out[start : start + place.length], place)
            start += place.length

    def _at_hand(self, place: Place) -> bytes | memoryview | None:
        data = self._staged(place) if self._staged is not None else None
        return self._inline(place) if data is None and place.inline else data

    def _inline(self, place: Place) -> memoryview:
        blob = self._blobs.get(place.segment)
        if blob is None:
            blob = self.prefetch([place.segment]).get(place.segment)
            if blob is None:
                raise MissingFileError(f"inline segment {place.segment.hex()} is not in the index")
        data = memoryview(blob)[place.offset : place.offset + place.length]
        if len(data) != place.length:
            raise CorruptionError(f"inline segment {place.segment.hex()} is cut short", place)
        return data

    def prefetch(self, segments: Iterable[bytes]) -> dict[bytes, bytes]:
        """Bring inline segments into the cache, as many as it holds; those that were not there yet are returned."""
        missing = [segment for segment in segments if self._blobs.get(segment) is None]
        found: dict[bytes, bytes] = {}
        room = _BLOB_CACHE_BYTES
        for start in range(0, len(missing), _BLOBS_AT_ONCE):
            if room <= 0:
                break  # more would drive out what has just come
            with self._index.read() as connection:
                fresh = lookup.blobs(connection, missing[start : start + _BLOBS_AT_ONCE])
            for segment, data in fresh.items():
                self._blobs.put(segment, data, len(data))
                room -= len(data)
            found.update(fresh)
        return found

    def decode(self, place: Place, codec: TileCodec, out: NDArray[Any], stop: int | None = None) -> None:
        """Decode a tile into an array of its shape and dtype, C-contiguous; or no more of it than `stop` cells."""
        if codec.raw and not place.inline and self._staged is None:
            octets = out.reshape(-1).view(np.uint8)
            if octets.size == place.length:
                self._storage.read_into(segment_key(place.segment), place.offset, octets.data)
                _check(octets, place)
                return
        codec.decode(self._fetch_briefly(place), out.shape, out, stop)

    def decoded(self, tiles: Sequence[Wanted], codec: TileCodec) -> Sequence[NDArray[Any]]:
        """Tiles, decoded; not to be written to.

        Parameters
        ----------
        tiles : sequence of (Place, tuple of int, tuple of slice or None)
            Where each lies, its shape, and which part of it is wanted, of at least one cell; None: the whole tile.
            Where it is a part, other cells may be anything. What is read whole does not go into the cache: it would
            only drive out what is read in parts.
        codec : TileCodec
            The array's.

        Returns
        -------
        list of ndarray
            In the same order; good until the same thread asks for the next ones.
        """
        if not self._decoded.limit_bytes:
            return self._decoded_briefly(tiles, codec)
        found: list[NDArray[Any] | None] = []
        missing = []
        for one in tiles:
            place, shape, inner = one
            key = place.segment, place.offset
            tile = self._decoded.get(key)
            if tile is None:
                size = prod(shape) * codec.dtype.itemsize
                if inner is not None and self._decoded.takes(size):
                    tile = codec.decode(self._fetch_briefly(place), shape)
                    tile.flags.writeable = False
                    self._decoded.put(key, tile, size)
                else:
                    missing.append(one)
            found.append(tile)
        brief = iter(self._decoded_briefly(missing, codec) if missing else ())
        return [next(brief) if tile is None else tile for tile in found]

    def _decoded_briefly(self, tiles: Sequence[Wanted], codec: TileCodec) -> list[NDArray[Any]]:
        """As :meth:`decoded`, in memory that the thread's next call overwrites."""
        counts = [prod(shape) for _, shape, _ in tiles]
        cells = _DECODED.take(sum(counts) * codec.dtype.itemsize).view(codec.dtype)
        out = []
        end = 0
        for (_, shape, _), count in zip(tiles, counts, strict=True):
            out.append(cells[end : end + count].reshape(shape))
            end += count
        places = [place for place, _, _ in tiles]
        lengths = [place.length for place in places]
        if len(tiles) == 1 or sum(lengths) > MOST_BYTES:
            for (place, shape, inner), tile in zip(tiles, out, strict=True):
                self.decode(place, codec, tile, None if inner is None else _end(inner, shape))
        elif codec.raw and lengths == [count * codec.dtype.itemsize for count in counts]:
            self._fetch_all(places, cells.view(np.uint8).data)
        else:
            encoded = _ENCODED.take(sum(lengths))
            self._fetch_all(places, encoded.data)
            codec.decode_all(encoded, lengths, out, cells)
        return out

    def mask(self, place: Place, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """The mask of a tile."""
        return decode_mask(self.fetch(place), shape)

    def clear(self) -> None:
        """Forget every cached byte."""
        self._blobs.clear()
        self._decoded.clear()


def _end(inner: tuple[slice, ...], shape: tuple[int, ...]) -> int:
    """How many cells of a tile there are in C order up to the last one of a part."""
    last = 0
    for part, length in zip(inner, shape, strict=True):
        last = last * length + part.stop - 1
    return last + 1


def _check(data: Any, place: Place) -> None:
    if crc32c(data) != place.crc:
        raise CorruptionError(
            f"segment {place.segment.hex()}: the {place.length} bytes at {place.offset} do not match their "
            "checksum; run txstore verify",
            place,
        )
