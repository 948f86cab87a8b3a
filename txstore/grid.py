"""The grid of an array: how its cells fall into chunks, shards and partitions, and how partitions are keyed.

Pure arithmetic on Python integers; the sizes that nobody chose come from :mod:`txstore.chunking`, the tiles of
one stored frame from :mod:`txstore.tilegrid`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from operator import floordiv, mod

from txstore.boxes import Box
from txstore.chunking import auto_chunks, auto_partition, auto_shards
from txstore.errors import CorruptionError, InvalidInputError
from txstore.spans import cell_box, cells_in
from txstore.tilegrid import TileGrid, tiles_in

#: The partition key of what covers a whole array. No varint ends with its high bit set, so it is nobody else's.
#: A format: this never changes.
WHOLE = b"\xff"

#: The largest extent of an axis.
MAX_EXTENT = 2**62 - 1

_COORD_LIMIT = 1 << 63


def partition_key(coords: Sequence[int]) -> bytes:
    """The key of a partition: its grid coordinates as LEB128 varints, back to back. This never changes.

    Parameters
    ----------
    coords : sequence of int
        Not negative; none for an array of zero dimensions, whose only key is ``b""``.
    """
    if not coords or max(coords) < 0x80:
        return bytes(coords)
    key = bytearray()
    for coord in coords:
        while coord >= 0x80:
            key.append(coord & 0x7F | 0x80)
            coord >>= 7
        key.append(coord)
    return bytes(key)


def partition_coords(key: bytes, ndim: int) -> tuple[int, ...]:
    """The grid coordinates that :func:`partition_key` packed.

    Raises
    ------
    CorruptionError
        When the key does not hold ``ndim`` varints below 2**63, each as short as it can be.
    """
    coords = []
    coord = shift = 0
    for byte in key:
        coord |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift > 63:
                raise CorruptionError(f"the partition key {key.hex()} holds a number past 2**63")
            continue
        if (byte == 0 and shift) or coord >= _COORD_LIMIT:
            raise CorruptionError(f"the partition key {key.hex()} holds a malformed number")
        coords.append(coord)
        coord = shift = 0
    if shift or len(coords) != ndim:
        raise CorruptionError(f"the partition key {key.hex()} does not hold {ndim} whole numbers")
    return tuple(coords)


@dataclass(frozen=True, slots=True)
class Grid:
    """How an array is cut: every grid starts at cell zero and goes on for ever, whatever the shape.

    Parameters
    ----------
    chunks : tuple of int
        Extent of a chunk in cells, at least 1 along each axis.
    shards : tuple of int or None
        Extent of a shard in cells, a multiple of ``chunks``; ``None`` where chunks export one by one.
    partition : tuple of int
        Extent of a partition in cells, a multiple of ``shards``, or of ``chunks`` without them.

    Raises
    ------
    InvalidInputError
        When an extent is below 1, is no multiple, or the three differ in their number of axes.
    """

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    partition: tuple[int, ...]

    def __post_init__(self) -> None:
        whole = self.chunks if self.shards is None else self.shards
        for name, extent, part in (
            ("chunks", self.chunks, (1,) * len(self.chunks)),
            ("shards", whole, self.chunks),
            ("partition", self.partition, whole),
        ):
            if len(extent) != len(part):
                raise InvalidInputError(f"{name} {extent} must have {len(part)} axes, as the chunks {self.chunks} have")
            if min(extent, default=1) < 1:
                raise InvalidInputError(f"{name} {extent} must be at least 1 along each axis")
            if any(map(mod, extent, part)):
                raise InvalidInputError(f"{name} {extent} must be a multiple of {part} along each axis")

    @property
    def ndim(self) -> int:
        """How many axes the grid has."""
        return len(self.chunks)

    def chunk_box(self, index: Sequence[int]) -> Box:
        """The cells of a chunk, not cut by any shape."""
        return cell_box(index, self.chunks)

    def chunk_index(self, cell: Sequence[int]) -> tuple[int, ...]:
        """Which chunk holds this cell."""
        return tuple(map(floordiv, cell, self.chunks))

    def chunks_in(self, box: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
        """Every chunk that ``box`` touches, in C order, with box ∩ chunk."""
        return cells_in(box, self.chunks)

    def shard_box(self, index: Sequence[int]) -> Box:
        """The cells of a shard, not cut by any shape; without shards a chunk is one."""
        return cell_box(index, self.chunks if self.shards is None else self.shards)

    def shards_in(self, box: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
        """Every shard that ``box`` touches, in C order, with box ∩ shard; without shards a chunk is one."""
        return cells_in(box, self.chunks if self.shards is None else self.shards)

    def partition_box(self, key: bytes) -> Box:
        """The cells of a partition, not cut by any shape.

        Raises
        ------
        CorruptionError
            When the key is malformed. :data:`WHOLE` is no partition of a grid and is refused, too.
        """
        return cell_box(partition_coords(key, len(self.chunks)), self.partition)

    def partition_of(self, chunk_index: Sequence[int]) -> bytes:
        """The key of the partition that holds this chunk."""
        return partition_key(
            [
                index * chunk // cells
                for index, chunk, cells in zip(chunk_index, self.chunks, self.partition, strict=True)
            ]
        )

    def partitions_in(self, box: Box) -> Iterator[tuple[bytes, Box]]:
        """Every partition that ``box`` touches, in C order of their places, as key and box ∩ partition."""
        for coords, part in cells_in(box, self.partition):
            yield partition_key(coords), part

    def count_partitions(self, box: Box) -> int:
        """How many partitions :meth:`partitions_in` gives."""
        if box.empty:
            return 0
        extents = zip(box.lo, box.hi, self.partition, strict=True)
        return prod([(high - 1) // cells - low // cells + 1 for low, high, cells in extents])


__all__ = [
    "MAX_EXTENT",
    "WHOLE",
    "Grid",
    "TileGrid",
    "auto_chunks",
    "auto_partition",
    "auto_shards",
    "partition_coords",
    "partition_key",
    "tiles_in",
]
