"""Which chunks of an array are stored at one version, and how: what compaction and export stand on."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from operator import mod
from typing import Final

from txstore.boxes import Box, full
from txstore.directory import Directory
from txstore.fragment import Fragment
from txstore.grid import TileGrid
from txstore.layers import LayeredArray
from txstore.segment import Kind, Place


class ChunkState(enum.Enum):
    """A chunk whose stored bytes are not simply those of a Zarr chunk."""

    DIRTY = "dirty"


DIRTY: Final = ChunkState.DIRTY


class StoredArray(LayeredArray):
    """One array at one version, by its chunks; no cell is read.

    Notes
    -----
    Safe for threads.
    """

    #: The partition that was asked for last, and what :meth:`_find_settled` said of it.
    _last_settled: tuple[bytes, tuple[TileGrid, Directory] | None] | None = None

    def chunk(self, chunk: tuple[int, ...]) -> Place | ChunkState | None:
        """How a chunk is stored.

        Returns
        -------
        None, Place or DIRTY
            None: all fill, no bytes. A place: the bytes there are exactly the whole, padded Zarr chunk.
            DIRTY: it must be read and encoded.
        """
        settled = self._settled(self.grid.partition_of(chunk))
        if settled is not None:
            tiles, directory = settled
            inside = all(
                0 <= at - first < count for at, first, count in zip(chunk, tiles.first, tiles.counts, strict=True)
            )
            return directory.place(tiles.flat_index(chunk)) if inside else None
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

    def _settled(self, partition: bytes) -> tuple[TileGrid, Directory] | None:
        """The base of a partition that it is all there is of it; its tiles are then the chunks."""
        known = self._last_settled
        if known is None or known[0] != partition:
            known = self._last_settled = partition, self._find_settled(partition)
        return known[1]

    def _find_settled(self, partition: bytes) -> tuple[TileGrid, Directory] | None:
        table, whole = self._tables(partition)
        if table is None or table.base is None or table.upto_version(self.version) or whole is None or len(whole):
            return None
        base, chunks = table.base, self.grid.chunks
        tiles = base.tiles(chunks)
        plain = not (self.overlay is not None or self._limits is not None or any(base.shift) or any(tiles.phase))
        if not plain or any(map(mod, (*tiles.frame.lo, *tiles.frame.hi), (*chunks, *chunks))):
            return None
        inside = self.grid.partition_box(partition).intersect(full(self.shape))
        return (tiles, base.directory(chunks)) if base.clip == inside else None

    def fills_since(self, partition: bytes) -> int:
        """How many fills of the whole array lie above the base of a partition."""
        table, whole = self._tables(partition)
        if table is None or whole is None:
            return 0
        return sum(one.version > table.after for one in whole.fragments(self.version))

    def stored_chunks(self) -> Iterator[tuple[int, ...]]:
        """Chunks within the shape that may hold anything but fill, partition by partition in C order."""
        inside = full(self.shape)
        if inside.empty:
            return
        for partition in self._partitions():
            box = self.grid.partition_box(partition).intersect(inside)
            if box is None:
                continue
            yield from self.stored_in(partition, box)

    def _partitions(self) -> Iterable[bytes]:
        known = set(self.timeline.partitions(self.node, self.version))
        for box in self.spread():
            known.update(key for key, _ in self.grid.partitions_in(box))
        return sorted(known, key=lambda key: self.grid.partition_box(key).lo)

    def stored_in(self, partition: bytes, box: Box) -> list[tuple[int, ...]]:
        """Chunks of one partition that touch `box` and may hold anything but fill, in C order."""
        settled = self._settled(partition)
        if settled is not None and self.grid.partition_box(partition).intersect(full(self.shape)) == box:
            tiles, directory = settled
            return [tiles.coords(number) for number in directory.stored()]
        table, _ = self._tables(partition)
        assert table is not None
        chunks, wide = table.touched_chunks(table.upto_version(self.version))
        if table.base is not None:
            chunks |= set(self._of_base(table.base))
        for one in [*wide, *self.spread()]:
            part = one.intersect(box)
            if part is not None:
                chunks |= {chunk for chunk, _ in self.grid.chunks_in(part)}
        return sorted(chunk for chunk in chunks if self.grid.chunk_box(chunk).intersect(box) is not None)

    def _of_base(self, base: Fragment) -> Iterator[tuple[int, ...]]:
        tiles = base.tiles(self.grid.chunks)
        directory = base.directory(self.grid.chunks)
        for index, tile in tiles.tiles_touching(base.clip):
            if directory.place(index) is not None:
                yield self.grid.chunk_index(tile.lo)


__all__ = ["DIRTY", "ChunkState", "StoredArray"]
