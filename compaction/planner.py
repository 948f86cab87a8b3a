"""What to compact: pure decisions from what the index says, no I/O.

A plan is a list of tasks, one a partition. A task says which chunks are clean (their tile is taken over where it
lies), which are dirty (read, merged, encoded), and which shards are rewritten as one file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from txstore.boxes import Box
from txstore.grid import Grid
from txstore.segment import Place

#: A shard is written anew as one file when more than this part of its bytes would otherwise lie elsewhere.
SHARD_GARBAGE = 0.2


@dataclass(frozen=True, slots=True)
class Task:
    """The compaction of one partition of one array.

    Attributes
    ----------
    node : int
        The array.
    path : str
        For messages.
    partition : bytes
        The partition.
    fragments : int
        How many fragments it replaces for new readers.
    """

    node: int
    path: str
    partition: bytes
    fragments: int


class ShardPlan(NamedTuple):
    """What becomes of the chunks of one shard (of the whole partition, where there are no shards).

    Attributes
    ----------
    kept : dict of chunk index to Place
        Tiles taken over where they lie.
    copied : dict of chunk index to Place
        Tiles whose bytes are copied into the new segment, undecoded.
    merged : list of chunk index
        Chunks that are read and encoded.
    whole : bool
        Whether the new segment is a whole shard, with its index at the end.
    """

    kept: dict[tuple[int, ...], Place]
    copied: dict[tuple[int, ...], Place]
    merged: list[tuple[int, ...]]
    whole: bool


def plan_shard(
    clean: Mapping[tuple[int, ...], Place],
    dirty: Sequence[tuple[int, ...]],
    chunk_bytes: int,
    *,
    sharded: bool,
    is_shard: bool,
) -> ShardPlan:
    """Decide what is kept, copied and merged.

    Parameters
    ----------
    clean : mapping of chunk index to Place
        Chunks whose stored bytes are a whole Zarr chunk.
    dirty : sequence of chunk index
        Chunks that must be merged.
    chunk_bytes : int
        What one merged chunk is guessed to take, encoded.
    sharded : bool
        Whether the array has shards.
    is_shard : bool
        Whether the clean chunks lie in one file that is the shard already.

    Notes
    -----
    Bytes in the index are always copied out, so that a base never points into ``blobs``. A shard is rewritten
    whole when it is no shard file yet, or when too much of one would be garbage; else only what is dirty is written
    and the rest stays where it is.
    """
    inline = {chunk: place for chunk, place in clean.items() if place.inline}
    lying = {chunk: place for chunk, place in clean.items() if not place.inline}
    if not sharded:
        return ShardPlan(lying, inline, list(dirty), False)
    kept_bytes = sum(place.length for place in lying.values())
    new_bytes = sum(place.length for place in inline.values()) + len(dirty) * chunk_bytes
    if is_shard and not inline and not dirty:
        return ShardPlan(lying, {}, [], False)
    if is_shard and new_bytes <= SHARD_GARBAGE * (kept_bytes + new_bytes):
        return ShardPlan(lying, inline, list(dirty), False)
    return ShardPlan({}, dict(clean), list(dirty), True)


def frame_of(grid: Grid, partition: bytes, shape: tuple[int, ...]) -> tuple[Box, Box] | None:
    """(clip, frame) of the base of a partition: its cells within the shape, and the same padded to whole chunks.

    None where the partition lies outside the shape.
    """
    clip = grid.partition_box(partition).intersect(Box((0,) * len(shape), shape))
    if clip is None:
        return None
    hi = tuple(-(-high // chunk) * chunk for high, chunk in zip(clip.hi, grid.chunks, strict=True))
    return clip, Box(clip.lo, hi)
