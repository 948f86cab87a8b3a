"""Which fragments make up an array at one version: the read rule.

The newest base at or below the version, then the fragments since, in order of (version, rank), each inside the
smallest shape that the array has had since it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box, full
from txstore.codecs import TileCodec
from txstore.errors import CorruptionError
from txstore.fragment import Fragment
from txstore.grid import WHOLE, Grid
from txstore.index.lookup import NodeRow
from txstore.index.rows import partition_extent
from txstore.index.timeline import Timeline
from txstore.metadata import ArrayMetadata
from txstore.segment import Kind
from txstore.shapelog import ShapeRow, Shapes
from txstore.tables import PartitionTable

#: A fragment and the part of a region (array coordinates) in which it shows.
Layer = tuple[Fragment, Box]


class Overlay:
    """What a transaction has staged on one array: newer than everything stored.

    Parameters
    ----------
    table : PartitionTable
        The staged fragments of the whole array.
    shapes : list of ShapeRow
        The staged steps of the shape, with the version of staged rows.
    """

    __slots__ = ("shapes", "table")

    def __init__(self, table: PartitionTable, shapes: list[ShapeRow]) -> None:
        self.table = table
        self.shapes = shapes


class LayeredArray:
    """One array at one version; immutable but for what is loaded when it is first needed.

    Parameters
    ----------
    timeline : Timeline
        The branch that is read.
    version : int
        The version that is read.
    row : NodeRow
        The array's node.
    path : str
        Where it hangs, for messages.
    overlay : Overlay, optional
        What the reading transaction has staged itself.

    Notes
    -----
    Safe for threads.
    """

    def __init__(
        self,
        timeline: Timeline,
        version: int,
        row: NodeRow,
        path: str,
        overlay: Overlay | None = None,
    ) -> None:
        assert row.metadata is not None
        self.timeline = timeline
        self.version = version
        self.row = row
        self.node = row.id
        self.path = path
        self.meta, self.grid, self.codec = _form(row.metadata, row.partition)
        self.overlay = overlay
        shapes = timeline.shapes(row.id, version) if row.id >= 0 else Shapes(None, ())
        if overlay is not None:
            shapes = shapes.then(overlay.shapes)
        cut_to = [row.shape for row in shapes.cuts]
        if shapes.shape is None or any(len(one) != self.grid.ndim for one in (shapes.shape, *cut_to)):
            raise CorruptionError(
                f"array {path!r} has no shape of {self.grid.ndim} axes in the index; run txstore verify"
            )
        self.shape: tuple[int, ...] = shapes.shape
        self._limits = shapes.limits()

    @property
    def attributes(self) -> Mapping[str, str]:
        """The attributes as JSON texts."""
        return self.timeline.attributes(self.node, self.version)

    # --- planning -------------------------------------------------------------------------------

    def _tables(self, partition: bytes) -> tuple[PartitionTable | None, PartitionTable | None]:
        if self.node < 0:
            return None, None
        itemsize = self.meta.dtype.itemsize
        # WHOLE first: what vacuum takes from it in between lies below the base that is found afterwards.
        whole = self.timeline.table(self.node, WHOLE, self.grid, itemsize, self.version)
        table = self.timeline.table(self.node, partition, self.grid, itemsize, self.version)
        return table, whole

    def layers(self, chunk: tuple[int, ...], region: Box) -> tuple[list[Layer], bool]:
        """What makes up a region of one chunk.

        Parameters
        ----------
        chunk : tuple of int, shape (ndim,)
            The chunk's grid coordinates.
        region : Box
            A part of it, within the array's shape.

        Returns
        -------
        layers : list of (Fragment, Box)
            Oldest first, each with the part of the region in which it shows; nothing below what covers
            the region.
        covered : bool
            Whether the first layer covers the region; if not, fill lies below.
        """
        found: list[Fragment] = []
        base: Fragment | None = None
        table, whole = self._tables(self.grid.partition_of(chunk))
        if table is not None:
            found = table.of_chunk(chunk, table.upto_version(self.version), region)
            base = table.base
            if whole is not None and len(whole):
                wide = whole.of_chunk(chunk, whole.upto_version(self.version), region)
                wide = [fragment for fragment in wide if fragment.version > table.after]
                if wide:
                    found = sorted([*found, *wide], key=lambda fragment: fragment.order)
        if self.overlay is not None:
            staged = self.overlay.table
            found = [*found, *staged.of_chunk(chunk, len(staged), region)]
        layers: list[Layer] = []
        for fragment in reversed(found):
            box = self._shown(fragment, region)
            if box is None:
                continue
            layers.append((fragment, box))
            if fragment.kind <= Kind.FILL and not fragment.masked and box == region:
                layers.reverse()
                return layers, True
        covered = False
        if base is not None:
            box = self._shown(base, region)
            if box is not None:
                layers.append((base, box))
                covered = box == region
        layers.reverse()
        return layers, covered

    def _shown(self, fragment: Fragment, region: Box) -> Box | None:
        box = fragment.clip.intersect(region)
        if box is None or self._limits is None:
            return box
        limit = self._limits.since(fragment.order)
        return box if limit is None else box.intersect(limit)

    def value(self, fragment: Fragment) -> NDArray[Any]:
        """The value of a fill, 0-d."""
        data = fragment.directory(self.grid.chunks).value
        if data is None:
            return self.meta.fill_value
        return np.frombuffer(data, self.meta.dtype.newbyteorder("<")).astype(self.meta.dtype).reshape(())

    def spread(self) -> list[Box]:
        """Where one value was written over many partitions at once, unless it is the fill value; within the shape."""
        if self.node < 0:
            return []
        whole = self.timeline.table(self.node, WHOLE, self.grid, self.meta.dtype.itemsize, self.version)
        fill = self.meta.fill_value.tobytes()
        # What has been vacuumed lies below the base of every partition.
        fills = [one for one in whole.fragments(self.version) if not one.stripped]
        written = [one for one in fills if self.value(one).tobytes() != fill]
        boxes = [self._shown(one, full(self.shape)) for one in written]
        return [box for box in boxes if box is not None]

    def prepare(self, box: Box) -> None:
        """Load the index rows of all partitions that a box touches."""
        for partition, _ in self.grid.partitions_in(box):
            self._tables(partition)


@lru_cache(maxsize=1024)
def _form(metadata: str, partition: str | None) -> tuple[ArrayMetadata, Grid, TileCodec]:
    """What follows from the documents of an array alone; a transaction asks for it anew with each array."""
    meta = ArrayMetadata.from_stored(metadata)
    return meta, Grid(meta.chunks, meta.shards, partition_extent(partition)), TileCodec.of(meta)


__all__ = ["Layer", "LayeredArray", "Overlay"]
