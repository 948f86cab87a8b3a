"""Segments: immutable bytes that hold tiles back to back. docs/segment-format.md describes them for other readers.

A segment is the same bytes whether it is a file or a row of ``blobs``: a header, then whatever was appended. One
that holds a whole shard ends with the index of Zarr's ``sharding_indexed`` and *is* a Zarr v3 shard.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from txstore import zstdframe
from txstore.checksum import crc32c, octets
from txstore.errors import CorruptionError, StorageError
from txstore.identity import fresh_segment
from txstore.segmentheader import HEADER_SIZE, pack_header
from txstore.shardindex import pack_shard_index
from txstore.sink import Sink
from txstore.storage import LocalStorage, segment_key

# Masks are mostly runs: the lowest level is as good as any. The codec and the order of the bits never change.
_MASK_CODEC = Zstd(level=1)


class Kind(IntEnum):
    """What a fragment does to the cells below it. The numbers are stored and never change."""

    SET = 0
    FILL = 1
    ADD = 2
    MIN = 3
    MAX = 4


class Place(NamedTuple):
    """Where encoded bytes lie.

    Attributes
    ----------
    segment : bytes
        The 16 bytes that name the segment.
    offset : int
        From the start of the segment, header included.
    length : int
        In bytes, at least 1.
    crc : int
        CRC32C of the bytes.
    inline : bool
        Whether the segment is a row of ``blobs`` instead of a file.
    """

    segment: bytes
    offset: int
    length: int
    crc: int
    inline: bool


class SegmentWriter:
    """Collects tiles, in memory at first and in a file once they are many.

    Parameters
    ----------
    storage : LocalStorage
        Where the file goes.
    inline_limit : int
        Up to how many bytes, header included, a segment stays in memory.
    segment : bytes, optional
        The 16 bytes that name it; a fresh UUID by default.
    announce : callable, optional
        Called with the segment's name before a file is made, so that nobody takes it for garbage. May raise;
        :attr:`inline` is false from then on, whether there is a file or not.

    Attributes
    ----------
    segment : bytes
        Its name.

    Notes
    -----
    Thread safety: safe. Process safety: stays with the process that made it. Crash safety: before :meth:`finish` has
    returned there is no segment; what a dead process leaves is an unfinished file, which
    :meth:`LocalStorage.delete <txstore.storage.LocalStorage.delete>` removes under the segment's key.
    """

    def __init__(
        self,
        storage: LocalStorage,
        inline_limit: int,
        segment: bytes | None = None,
        announce: Callable[[bytes], None] | None = None,
    ) -> None:
        self.segment = fresh_segment() if segment is None else segment
        self._storage = storage
        self._limit = inline_limit
        self._announce = announce
        self._lock = threading.RLock()
        self._memory = bytearray(pack_header(self.segment))
        self._size = HEADER_SIZE
        self._sink: Sink | None = None
        self._announced = False
        self._state = "open"

    @property
    def inline(self) -> bool:
        """Whether the segment is (still) in memory and was never announced; final after :meth:`finish`."""
        return not self._announced

    @property
    def size(self) -> int:
        """Bytes so far, header included."""
        return self._size

    @property
    def empty(self) -> bool:
        """Whether nothing has been appended."""
        return self.size == HEADER_SIZE

    def append(self, data: Any) -> tuple[int, int, int]:
        """Add bytes; ``(offset, length, CRC32C)``, of which the offset stays true when the segment becomes a file.

        Parameters
        ----------
        data : bytes-like
            Contiguous; copied or written before this returns.

        Raises
        ------
        StorageError
            If they can't be written, or the segment is finished. Nothing but :meth:`abort` works afterwards.
        """
        view = octets(data)
        length, checksum = len(view), crc32c(view)
        contents = view if isinstance(view, bytes) else view.data
        with self._lock:
            self._check()
            offset = self._size
            if self._sink is None and offset + length > self._limit:
                self._spill()
            if self._sink is None:
                self._memory += contents
            else:
                self._sink.write(contents)
            self._size = offset + length
            return offset, length, checksum

    def _spill(self) -> None:
        self._state = "broken"
        self._announced = True
        if self._announce is not None:
            self._announce(self.segment)
        self._sink = self._storage.create(segment_key(self.segment))
        self._sink.write(self._memory)
        self._memory = bytearray()
        self._state = "open"

    def append_shard_index(self, chunks: Sequence[tuple[int, int] | None]) -> None:
        """Add the index that makes the segment a Zarr v3 shard; nothing may be appended after it.

        Parameters
        ----------
        chunks : sequence of (offset, length) or None
            Where each chunk of the shard lies in this segment, in C order; None for one that is all fill.

        Raises
        ------
        StorageError
            As :meth:`append`.
        """
        with self._lock:
            self.append(pack_shard_index(chunks))
            self._state = "indexed"

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that were appended, published or not yet.

        Raises
        ------
        StorageError
            If they were never appended, can't be read, or the segment has been aborted.
        """
        with self._lock:
            if self._state == "aborted":
                raise StorageError(f"segment {self.segment.hex()} has been aborted")
            if offset < 0 or length < 0 or offset + length > self._size:
                raise StorageError(f"segment {self.segment.hex()} has no {length} bytes at {offset} yet")
            if self._sink is None:
                return bytes(self._memory[offset : offset + length])
            if self._state == "finished":
                return self._storage.read(segment_key(self.segment), offset, length)
            return self._sink.read_back(offset, length)

    def finish(self) -> bytes | int:
        """Complete the segment: its bytes when it is to be a row of ``blobs``, the size of the file otherwise.

        A file is durable when this returns. Nothing was appended: ``b""``, there is no segment.

        Raises
        ------
        StorageError
            If it can't be made durable, or is finished already.
        """
        with self._lock:
            self._check(also="indexed")
            if self._sink is None:
                self._state = "finished"
                return b"" if self.empty else bytes(self._memory)
            self._state = "broken"
            size = self._sink.commit()
            self._state = "finished"
            return size

    def abort(self) -> None:
        """Remove what has been written, the finished file too; idempotent.

        Not to be called once the commit that names the segment may have landed.

        Raises
        ------
        StorageError
            If a file can't be removed.
        """
        with self._lock:
            # An interrupt may have come after the file had got its name, before it was noted.
            named, self._state = self._state in ("finished", "broken"), "aborted"
            self._memory = bytearray()
            if self._sink is not None:
                self._sink.abort()
                if named:
                    self._storage.delete(segment_key(self.segment))

    def _check(self, also: str = "open") -> None:
        if self._state not in ("open", also):
            raise StorageError(f"segment {self.segment.hex()} is {self._state}: nothing can be added to it")


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """The encoded form of a mask: one bit a cell in C order, lowest bit first, then Zstandard."""
    return bytes(_MASK_CODEC.encode(np.packbits(mask, axis=None, bitorder="little")))


def decode_mask(data: bytes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The inverse of :func:`encode_mask`; a fresh array of `shape`.

    Raises
    ------
    CorruptionError
        If it is not the mask of that many cells; found out before memory for it is taken.
    """
    size = math.prod(shape)
    n_bytes = (size + 7) // 8
    try:
        declared = zstdframe.content_size(data)
    except CorruptionError as error:
        raise CorruptionError(f"an encoded mask of shape {shape} can't be decoded: {error}") from None
    if declared != n_bytes:
        raise CorruptionError(f"an encoded mask of shape {shape} does not declare {n_bytes} bytes")
    if not size:
        return np.zeros(shape, np.bool_)  # the codec can't decode into nothing
    bits = np.empty(n_bytes, np.uint8)
    try:
        decoded = _MASK_CODEC.decode(data, bits)
    except (RuntimeError, ValueError) as error:
        raise CorruptionError(f"an encoded mask of shape {shape} can't be decoded: {error}") from error
    assert decoded is bits
    return np.unpackbits(bits, count=size, bitorder="little").view(np.bool_).reshape(shape)


__all__ = [
    "Kind",
    "Place",
    "SegmentWriter",
    "decode_mask",
    "encode_mask",
]
