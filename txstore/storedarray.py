"""Which chunks of an array are stored at one version, and how: what compaction and export stand on."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Final

from txstore.boxes import Box, full
from txstore.fragment import Fragment
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

    def chunk(self, chunk: tuple[int, ...]) -> Place | ChunkState | None:
        """How a chunk is stored.

        Returns
        -------
        None, Place or DIRTY
            None: all fill, no bytes. A place: the bytes there are exactly the whole, padded Zarr chunk.
            DIRTY: it must be read and encoded.
        """
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
