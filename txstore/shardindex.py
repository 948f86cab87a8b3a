"""The index at the end of a Zarr v3 shard (``sharding_indexed``, ``index_location: end``, codecs bytes and crc32c)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from txstore.checksum import crc32c
from txstore.errors import CorruptionError

# The offset and the length of a chunk that the shard does not hold.
_ABSENT = 2**64 - 1
_CHECKSUM = struct.Struct("<I")


def shard_index_size(n_chunks: int) -> int:
    """How many bytes the index of a shard of so many chunks has."""
    return 16 * n_chunks + _CHECKSUM.size


def pack_shard_index(chunks: Sequence[tuple[int, int] | None]) -> bytes:
    """The trailer of a Zarr v3 shard: (offset, length) of each chunk as uint64, in C order, then their CRC32C."""
    values = [number for chunk in chunks for number in (chunk or (_ABSENT, _ABSENT))]
    index = struct.pack(f"<{len(values)}Q", *values)
    return index + _CHECKSUM.pack(crc32c(index))


def unpack_shard_index(data: bytes, n_chunks: int, size: int) -> list[tuple[int, int] | None]:
    """The inverse of :func:`pack_shard_index`.

    Parameters
    ----------
    data : bytes
        The last ``16 * n_chunks + 4`` bytes of the shard.
    n_chunks : int
        How many chunks a shard holds.
    size : int
        The size of the shard, in which the chunks must lie.

    Raises
    ------
    CorruptionError
        If it has another length, does not match its checksum, or points outside of the shard.
    """
    if len(data) != shard_index_size(n_chunks):
        raise CorruptionError(f"the index of a shard of {n_chunks} chunks has {len(data)} bytes")
    index = bytes(data[:-4])
    if _CHECKSUM.unpack_from(data, len(index))[0] != crc32c(index):
        raise CorruptionError("the index of a shard does not match its checksum")
    chunks: list[tuple[int, int] | None] = []
    for offset, length in struct.iter_unpack("<QQ", index):
        if offset == length == _ABSENT:
            chunks.append(None)
        elif offset + length <= size - len(data):
            chunks.append((offset, length))
        else:
            raise CorruptionError(f"a chunk of {length} bytes at {offset} is not within its shard of {size} bytes")
    return chunks


__all__ = ["pack_shard_index", "shard_index_size", "unpack_shard_index"]
