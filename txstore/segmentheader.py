"""The first bytes of every segment, by which it is known."""

from __future__ import annotations

import struct

from txstore.checksum import crc32c
from txstore.errors import CorruptionError

#: Of the on-disk format below; never changes.
MAGIC = b"TXSG"
#: The number of the format of a segment that this code reads and writes.
FORMAT = 1

# magic, format, flags (0), uuid, reserved (0); CRC32C of these 28 bytes. Never changes.
_HEADER = struct.Struct("<4sHH16sI")
_CHECKSUM = struct.Struct("<I")
#: Bytes before the first tile; never changes.
HEADER_SIZE = _HEADER.size + _CHECKSUM.size
assert HEADER_SIZE == 32


def pack_header(segment: bytes) -> bytes:
    """The first :data:`HEADER_SIZE` bytes of a segment."""
    header = _HEADER.pack(MAGIC, FORMAT, 0, segment, 0)
    return header + _CHECKSUM.pack(crc32c(header))


def check_header(data: bytes, segment: bytes) -> None:
    """Check the first bytes of a segment.

    Raises
    ------
    CorruptionError
        Apart for each: no segment at all, damaged, of a newer format, or another segment than `segment`.
    """
    name = segment.hex()
    if len(data) < HEADER_SIZE or data[:4] != MAGIC:
        raise CorruptionError(f"segment {name} does not begin as a segment does", (segment, 0, HEADER_SIZE))
    header = bytes(data[: _HEADER.size])
    if _CHECKSUM.unpack_from(data, _HEADER.size)[0] != crc32c(header):
        raise CorruptionError(f"the header of segment {name} does not match its checksum", (segment, 0, HEADER_SIZE))
    _, number, flags, found, _ = _HEADER.unpack(header)
    if number != FORMAT or flags:
        raise CorruptionError(f"segment {name} has format {number}.{flags}, this is {FORMAT}.0", (segment, 0, 4))
    if found != segment:
        raise CorruptionError(f"where segment {name} should lie is segment {found.hex()}", (segment, 0, HEADER_SIZE))


__all__ = ["FORMAT", "HEADER_SIZE", "MAGIC", "check_header", "pack_header"]
