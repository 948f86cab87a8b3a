"""Which chunks of an array are stored at one version, and how: what compaction and export stand on."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator
from operator import mod
from typing import Final, NamedTuple

from txstore.boxes import Box, full
from txstore.directory import Directory
from txstore.fragment import Fragment
from txstore.grid import TileGrid
from txstore.layers import LayeredArray
from txstore.segment import Kind, Place
from txstore.spans import cell_box, cells_in
from txstore.tables import PartitionTable


class ChunkState(enum.Enum):
    """A chunk whose stored bytes are not simply those of a Zarr chunk."""

    DIRTY = "dirty"


DIRTY: Final = ChunkState.DIRTY


class Settled(NamedTuple):
    """A partition whose base has the chunks for its tiles.

    Attributes
    ----------
    tiles : TileGrid
        Those of the base.
    directory : Directory
        Where they lie.
    over : set of chunk index
        Chunks over which something lies that was written since.
    wide : list of Box
        Likewise, boxes of many chunks.
    """

    tiles: TileGrid
    directory: Directory
    over: set[tuple[int, ...]]
    wide: list[Box]

    def hides(self, chunk: tuple[int, ...]) -> bool:
        """Whether something may lie over a chunk."""
        if chunk in self.over:
            return True
        whole = cell_box(chunk, self.tiles.chunks) if self.wide else None
        return whole is not None and any(box.intersect(whole) is not None for box in self.wide)

    def place(self, chunk: tuple[int, ...]) -> Place | None:
        """Where a chunk lies in the base; None when it is all fill there, or outside."""
        tiles = self.tiles
        number = 0
        for at, first, count in zip(chunk, tiles.first, tiles.counts, strict=True):
            if not 0 <= at - first < count:
                return None
            number = number * count + at - first
        return self.directory.place(number)

    def hidden(self) -> list[tuple[int, ...]]:
        """The chunks of the base over which something may lie, in C order."""
        frame, chunks = self.tiles.frame, self.tiles.chunks
        parts = [box.intersect(frame) for box in (*self.wide, *(cell_box(chunk, chunks) for chunk in self.over))]
        return sorted({chunk for part in parts if part is not None for chunk, _ in cells_in(part, chunks)})


class StoredArray(LayeredArray):
    """One array at one version, by its chunks; no cell is read.

    Notes
    -----
    Safe for threads.
    """

    #: The rows of the partition that was asked for last, and what :meth:`_find_settled` said of them.
    _last_settled: tuple[PartitionTable, PartitionTable, Settled | None] | None = None

    def chunk(self, chunk: tuple[int, ...]) -> Place | ChunkState | None:
        """How a chunk is stored.

        Returns
        -------
        None, Place or DIRTY
            None: all fill, no bytes. A place: the bytes there are exactly the whole, padded Zarr chunk.
            DIRTY: it must be read and encoded.
        """
        return self._state(chunk, self.settled(self.grid.partition_of(chunk)))

    def chunks(self, partition: bytes) -> Iterator[tuple[tuple[int, ...], Place | ChunkState | None]]:
        """The chunks of :meth:`stored_in`, each with what :meth:`chunk` says of it."""
        settled = self.settled(partition)
        for chunk in self.stored_in(partition):
            yield chunk, self._state(chunk, settled)

    def _state(self, chunk: tuple[int, ...], settled: Settled | None) -> Place | ChunkState | None:
        if settled is not None and not settled.hides(chunk):
            return settled.place(chunk)
        whole = self.grid.chunk_box(chunk)
        region = whole.intersect(full(self.shape))
        if region is None:
            return None
        layers, covered = self.layers(chunk, region)
        if not layers:
            return None
        if len(layers) > 1 or not covered:
            return DIRTY
        fragment, _ = layers[0]
        if fragment.kind == Kind.FILL:
            same = self.value(fragment).tobytes() == self.meta.fill_value.tobytes()
            return None if same else DIRTY
        if fragment.kind != Kind.SET or fragment.masked:
            return DIRTY
        shift = fragment.shift
        for index, tile in fragment.tiles(self.grid.chunks).tiles_touching(whole.shift([-step for step in shift])):
            place = fragment.directory(self.grid.chunks).place(index)
            # At an edge the tile must be padded, and what lies beyond the clip must be padding: cells that a
            # shrink has cut off may not come back.
            if tile.shift(shift) == whole and (region == whole or fragment.clip.intersect(whole) == region):
                return place
        return DIRTY

    def settled(self, partition: bytes) -> Settled | None:
        """What is known of a partition whose base has the chunks for its tiles; None where there is no such base."""
        table, whole = self._tables(partition)
        if table is None or whole is None:
            return None
        known = self._last_settled
        if known is None or known[0] is not table or known[1] is not whole:
            known = self._last_settled = table, whole, self._find_settled(partition, table, whole)
        return known[2]

    def _find_settled(self, partition: bytes, table: PartitionTable, whole: PartitionTable) -> Settled | None:
        if table.base is None:
            return None
        base, chunks = table.base, self.grid.chunks
        tiles = base.tiles(chunks)
        plain = not (self.overlay is not None or self._limits is not None or any(base.shift) or any(tiles.phase))
        if not plain or any(map(mod, (*tiles.frame.lo, *tiles.frame.hi), (*chunks, *chunks))):
            return None
        if base.clip != self.grid.partition_box(partition).intersect(full(self.shape)):
            return None
        over, wide = table.touched_chunks(table.upto_version(self.version))
        wide += [one.clip for one in whole.fragments(self.version) if one.version > table.after]
        return Settled(tiles, base.directory(chunks), over, wide)

    @property
    def chunk_bytes(self) -> int:
        """What a decoded chunk takes."""
        return math.prod(self.grid.chunks) * self.meta.dtype.itemsize

    def fills_since(self, partition: bytes) -> int:
        """How many fills of the whole array lie above the base of a partition."""
        table, whole = self._tables(partition)
        if table is None or whole is None:
            return 0
        return sum(one.version > table.after for one in whole.fragments(self.version))

    def stored_chunks(self) -> Iterator[tuple[int, ...]]:
        """Chunks within the shape that may hold anything but fill, partition by partition in C order."""
        for partition, _ in self.stored_partitions():
            yield from self.stored_in(partition)

    def stored_partitions(self) -> Iterator[tuple[bytes, Box]]:
        """Partitions that may hold anything but fill, each with its cells within the shape, in C order."""
        inside = full(self.shape)
        if inside.empty:
            return
        for partition in self._partitions():
            box = self.grid.partition_box(partition).intersect(inside)
            if box is not None:
                yield partition, box

    def _partitions(self) -> Iterable[bytes]:
        known = set(self.timeline.partitions(self.node, self.version))
        for box in self.spread():
            known.update(key for key, _ in self.grid.partitions_in(box))
        return sorted(known, key=lambda key: self.grid.partition_box(key).lo)

    def stored_in(self, partition: bytes) -> list[tuple[int, ...]]:
        """Chunks of one partition that lie within the shape and may hold anything but fill, in C order."""
        box = self.grid.partition_box(partition).intersect(full(self.shape))
        if box is None:
            return []
        table, _ = self._tables(partition)
        assert table is not None
        chunks, wide = table.touched_chunks(table.upto_version(self.version))
        for one in [*wide, *self.spread()]:
            part = one.intersect(box)
            if part is not None:
                chunks |= {chunk for chunk, _ in self.grid.chunks_in(part)}
        settled = self.settled(partition)
        if settled is not None:
            stored = [settled.tiles.coords(number) for number in settled.directory.stored()]
            return sorted(chunks.union(stored)) if chunks else stored
        if table.base is not None:
            chunks |= set(self._of_base(table.base))
        return sorted(chunk for chunk in chunks if self.grid.chunk_box(chunk).intersect(box) is not None)

    def _of_base(self, base: Fragment) -> Iterator[tuple[int, ...]]:
        tiles = base.tiles(self.grid.chunks)
        directory = base.directory(self.grid.chunks)
        for index, tile in tiles.tiles_touching(base.clip):
            if directory.place(index) is not None:
                yield self.grid.chunk_index(tile.lo)


__all__ = ["DIRTY", "ChunkState", "Settled", "StoredArray"]
