"""Sizes that nobody chose: chunks, shards and partitions for an array of some shape.

All three are the same question, asked of cells, chunks and shards: a block of at most so many units, about as
long along each axis, no longer than the array. An axis of length zero is there to be appended to: what is left
of the budget goes to it, after the axes whose length is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from operator import mul

#: Bytes of a chunk before encoding. Many tiles share a segment, so that small chunks cost little.
CHUNK_BYTES = 256 * 1024

#: Bytes of a shard before encoding, which exports as one object.
SHARD_BYTES = 64 * 1024 * 1024

#: Chunks of a partition. Index rows, look-ups and compaction tasks go by partition.
PARTITION_CHUNKS = 512

# An array of fewer chunks exports as so few objects that shards would only be in the way.
_CHUNKS_WORTH_SHARDS = 64


def auto_chunks(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Chunks of about :data:`CHUNK_BYTES` for an array of this shape.

    Parameters
    ----------
    shape : sequence of int
        In cells; zero for an axis that is to be appended to.
    itemsize : int
        Bytes of a cell.

    Examples
    --------
    >>> auto_chunks((0, 721, 1440), 4)
    (1, 256, 256)
    >>> auto_chunks((0, 3), 8)
    (8192, 3)
    """
    return tuple(_block(shape, CHUNK_BYTES // max(itemsize, 1)))


def auto_shards(shape: Sequence[int], chunks: Sequence[int], itemsize: int) -> tuple[int, ...] | None:
    """Shards of at most :data:`SHARD_BYTES`, or ``None`` where the array has too few chunks, or too large ones.

    An array with an axis of length zero is taken to grow, and so never to have too few.

    Examples
    --------
    >>> auto_shards((0, 721, 1440), (1, 256, 256), 4)
    (8, 768, 1536)
    """
    counts = _counts(shape, chunks)
    if not counts or (all(counts) and prod(counts) < _CHUNKS_WORTH_SHARDS):
        return None
    budget = min(SHARD_BYTES // (prod(chunks) * max(itemsize, 1)), PARTITION_CHUNKS)
    if budget < 2:
        return None
    return tuple(map(mul, chunks, _block(counts, budget)))


def auto_partition(shape: Sequence[int], chunks: Sequence[int], shards: Sequence[int] | None = None) -> tuple[int, ...]:
    """Partitions of whole shards, of at most :data:`PARTITION_CHUNKS` chunks, or of one shard that has more.

    A partition may reach far beyond the shape: it is kept for the array's whole life, and an array that starts
    with a single chunk must not end with a partition for each.

    Examples
    --------
    >>> auto_partition((0, 721, 1440), (1, 256, 256), (8, 768, 1536))
    (16, 768, 1536)
    """
    unit = chunks if shards is None else shards
    budget = PARTITION_CHUNKS * prod(chunks) // prod(unit)
    sides = _block(_counts(shape, unit), budget)
    _widen(sides, range(len(sides)), None, budget)
    return tuple(map(mul, unit, sides))


def _counts(shape: Sequence[int], unit: Sequence[int]) -> list[int]:
    return [-(-cells // size) for cells, size in zip(shape, unit, strict=True)]


def _block(extent: Sequence[int], budget: int) -> list[int]:
    sides = [1] * len(extent)
    # The last axes come first: along them the cells of an array in C order are neighbours.
    known = [axis for axis in reversed(range(len(extent))) if extent[axis]]
    _widen(sides, known, extent, budget)
    _widen(sides, [axis for axis in range(len(extent)) if not extent[axis]], None, budget)
    return sides


def _widen(sides: list[int], axes: Iterable[int], limits: Sequence[int] | None, budget: int) -> None:
    """Double ``sides`` along one axis after the other for as long as their product stays within ``budget``."""
    size = prod(sides)
    widened = True
    while widened:
        widened = False
        for axis in axes:
            side = sides[axis]
            wider, slack = 2 * side, 1.0
            if limits is not None and limits[axis] <= wider:
                # A little more than the budget is better than a sliver at the end of the axis.
                wider, slack = limits[axis], 1.5
            if wider > side and size // side * wider <= slack * budget:
                sides[axis], size = wider, size // side * wider
                widened = True


__all__ = ["CHUNK_BYTES", "PARTITION_CHUNKS", "SHARD_BYTES", "auto_chunks", "auto_partition", "auto_shards"]
