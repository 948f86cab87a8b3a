"""Bringing an earlier export up to date: which of its chunks are still true.

What has changed since then is told by the rows of the index - fragments and shapes after that version - and never
by looking at bytes. Both versions may lie on different branches: what counts is what came on either side since they
parted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from operator import eq, floordiv
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box, full
from txstore.compaction.marker import ADVICE, Marker
from txstore.core import Core
from txstore.errors import AlreadyExistsError, InvalidInputError, SnapshotExpiredError
from txstore.index import branches, commitlog, lookup, shaperows
from txstore.index.branches import Lineage
from txstore.index.edits import Change, Touched
from txstore.index.engine import Head, read_head


class Changes:
    """Which objects of one array - chunks, or shards - may differ between two versions.

    Parameters
    ----------
    extent : tuple of int
        Cells of an object along each axis.
    cells : iterable of Box
        What came in between: cells that were written, or cut off, whatever became of them later.
    objects : iterable of Box
        What else may differ, in objects.

    Notes
    -----
    Kept as the corners of boxes of objects, in columns. Objects are asked for row by row: those of a row differ along
    the last axis only. Not safe for threads: it remembers the way to the row that was asked for last.
    """

    def __init__(self, extent: tuple[int, ...], cells: Iterable[Box] = (), objects: Iterable[Box] = ()) -> None:
        self._extent = extent
        boxes = {*(self._objects(box) for box in cells if not box.empty), *objects}
        # An object without axes is a row of one.
        ndim = max(len(extent), 1)
        corners = [((*lo, 0)[:ndim], (*hi, 1)[:ndim]) for lo, hi in boxes]
        found = np.array(corners, np.int64).reshape(-1, 2, ndim)
        self._row: tuple[int, ...] = ()
        #: The boxes that reach the row asked for last: all of them, and then for one axis more at a time.
        self._near = [found]

    def _objects(self, cells: Box) -> Box:
        """The objects that a box of cells touches."""
        return Box(tuple(map(floordiv, cells.lo, self._extent)), self.counts(cells.hi))

    def counts(self, cells: tuple[int, ...]) -> tuple[int, ...]:
        """How many objects so many cells take along each axis."""
        return tuple(-(-count // step) for count, step in zip(cells, self._extent, strict=True))

    @property
    def none(self) -> bool:
        """Whether nothing differs."""
        return not len(self._near[0])

    def meet(self, cells: Box) -> bool:
        """Whether anything in a box of cells may differ."""
        lo, hi = self._objects(cells)
        found = self._near[0][..., : len(lo)]
        return bool(((found[:, 0] < hi) & (found[:, 1] > lo)).all(axis=1).any())

    def touched(self, row: tuple[int, ...], places: Sequence[int]) -> Sequence[bool]:
        """Which objects of a row, given their places along the last axis, may differ."""
        spans = self._reaching(row)
        if not len(spans):
            return [False] * len(places)
        spans = spans[np.argsort(spans[:, 0])]
        # Of the spans that begin at a place or before it, how far does any go?
        ends = np.concatenate(([0], np.maximum.accumulate(spans[:, 1])))
        found: list[bool] = (ends[np.searchsorted(spans[:, 0], places, side="right")] > places).tolist()
        return found

    def _reaching(self, row: tuple[int, ...]) -> NDArray[np.int64]:
        """From where to where the boxes go along a row, shape ``(n, 2)``."""
        known = sum(1 for _ in takewhile(bool, map(eq, row, self._row)))
        del self._near[known + 1 :]
        for axis in range(known, len(row)):
            near = self._near[-1]
            if len(near):
                near = near[(near[:, 0, axis] <= row[axis]) & (row[axis] < near[:, 1, axis])]
            self._near.append(near)
        self._row = row
        return self._near[-1][..., -1]


class Since:
    """What has come between the version of an earlier export and the one that is exported now.

    Parameters
    ----------
    core : Core
        The store.
    old : Marker
        The earlier export.
    seen : Lineage
        The version that is exported now.
    options : mapping
        How.

    Raises
    ------
    AlreadyExistsError
        If the earlier export is of another store, of a later state of this one than there is, or of one that a copy of
        it has made.
    InvalidInputError
        If it was made with other options.
    SnapshotExpiredError
        If the rows that tell the changes are gone, because the versions parted below the conflict horizon.
    """

    def __init__(self, core: Core, old: Marker, seen: Lineage, options: Mapping[str, Any], root: str) -> None:
        self._core = core
        self._root = root
        with core.index.read() as connection:
            head = read_head(connection)
            if old.arrays and (old.store != head.uuid.hex() or old.epoch != head.epoch or old.made.version > head.head):
                raise AlreadyExistsError(f"{root} is no export of this store; {ADVICE}")
            if old.arrays and old.made != commitlog.identity(connection, old.made.version):
                raise AlreadyExistsError(
                    f"{root} holds another version {old.made.version} than this store has, which is a copy or was "
                    f"restored from one; {ADVICE}"
                )
            if old.arrays and dict(old.options) != dict(options):
                differ = ", ".join(sorted(key for key in options if old.options.get(key) != options[key]))
                raise InvalidInputError(f"{root} was exported with another {differ}; use the same, or {ADVICE}")
            before = branches.lineage(connection, old.made.branch, old.made.version)
            self._parted = parted(before, seen)
            if old.arrays:
                self._require_rows(head)
            self._sides = [before, seen]
            self._linear = self._parted == old.made.version
            self._touched: dict[int, int] = {}
            for side in self._sides:
                for _, data, _ in commitlog.touched_since(connection, side, self._parted):
                    for node, change in Touched.decode(data).nodes.items():
                        self._touched[node] = self._touched.get(node, 0) | change
        self.arrays = {one.node: one for one in old.arrays}

    def _require_rows(self, head: Head) -> None:
        if self._parted < head.conflict_horizon:
            raise SnapshotExpiredError(
                f"what has changed since version {self._parted} is known no longer, only since "
                f"{head.conflict_horizon}: {self._root} can't be brought up to date; {ADVICE}"
            )

    def changes(
        self, node: int, extent: tuple[int, ...], old: tuple[int, ...], new: tuple[int, ...], *, dense: bool
    ) -> Changes:
        """Which objects of an array may differ, given their extent, and its shapes at both versions.

        Where an array is dense, those come in addition by which it has grown.
        """
        touched = self._touched.get(node, 0)
        if not touched & (Change.CELLS | Change.SHAPE):
            return Changes(extent)
        with self._core.index.read() as connection:
            # Again, and in the snapshot of the rows that are read here: vacuum may have come by.
            self._require_rows(read_head(connection))
            smallest = tuple(map(min, old, new))
            cells: list[Box] = []
            for side in self._sides:
                for row in shaperows.since(connection, side, node, self._parted):
                    smallest = tuple(map(min, smallest, row.shape))
                for _, fragment in lookup.fragments_since(connection, side, [node], self._parted):
                    cells.append(Box.from_bytes(fragment.clip, len(extent)))
        cells += full(old).subtract(full(smallest))
        if not self._linear:
            # The newer state may hold cells from before they parted that the older one had cut off.
            cells += full(new).subtract(full(smallest))
        plain = Changes(extent)
        grown = full(plain.counts(new)).subtract(full(plain.counts(old))) if dense else []
        return Changes(extent, cells, grown)


def parted(one: Lineage, other: Lineage) -> int:
    """The newest version that two lineages have in common."""
    upto = dict(other.parts)
    for branch, version in one.parts:
        if branch in upto:
            return min(version, upto[branch])
    return 0


__all__ = ["Changes", "Since", "parted"]
